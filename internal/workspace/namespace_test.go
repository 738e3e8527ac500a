//go:build linux

package workspace

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// mountsEnv holds the mounts for a process of this test program that stands in a mount namespace of its own.
const mountsEnv = "WORKSPACE_TEST_MOUNTS"

func TestMain(m *testing.M) {
	if text := os.Getenv(mountsEnv); text != "" {
		fmt.Fprintln(os.Stderr, inside(text))
		os.Exit(125)
	}
	os.Exit(m.Run())
}

// inside makes the mounts, gives up every privilege and becomes the shell script of the last argument.
func inside(text string) error {
	var mounts []Mount
	if err := json.Unmarshal([]byte(text), &mounts); err != nil {
		return err
	}
	for i, m := range mounts {
		if m.Upper == "" {
			continue
		}
		fd, err := unix.Open(m.Source, unix.O_PATH, 0) // as it is before anything lies over it
		if err != nil {
			return err
		}
		mounts[i].Source = fmt.Sprintf("/proc/self/fd/%d", fd)
	}
	for _, m := range mounts {
		if err := bind(m); err != nil {
			return fmt.Errorf("mounting %s on %s: %w", m.Source, m.Target, err)
		}
	}
	if err := dropPrivileges(); err != nil {
		return err
	}
	if err := os.Unsetenv(mountsEnv); err != nil {
		return err
	}
	// The directory is entered anew, or the shell would stand below the mounts.
	if err := os.Chdir(mounts[0].Target); err != nil {
		return err
	}
	return syscall.Exec("/bin/sh", []string{"sh", "-c", os.Args[len(os.Args)-1]}, os.Environ())
}

func bind(m Mount) error {
	if m.Upper != "" {
		return unix.Mount("overlay", m.Target, "overlay", 0, "lowerdir="+m.Source+",upperdir="+m.Upper+",workdir="+m.Work+",userxattr")
	}
	if err := unix.Mount(m.Source, m.Target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(m.Target, &st); err != nil {
		return err
	}
	keep := uintptr(st.Flags) & (unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC | unix.ST_NOATIME | unix.ST_NODIRATIME | unix.ST_RELATIME)
	flags := keep&(unix.ST_NOSUID|unix.ST_NODEV|unix.ST_NOEXEC|unix.ST_NOATIME|unix.ST_NODIRATIME) | unix.MS_REMOUNT | unix.MS_BIND
	if m.ReadOnly { // else explicitly not: here a source is reached through the mounts before it, in a container it is not
		flags |= unix.MS_RDONLY
	}
	if keep&unix.ST_RELATIME != 0 {
		flags |= unix.MS_RELATIME
	}
	return unix.Mount("", m.Target, "", flags, "")
}

func dropPrivileges() error {
	if os.Getuid() == 0 {
		const noRoot = 1<<0 | 1<<1
		if err := unix.Prctl(unix.PR_SET_SECUREBITS, noRoot, 0, 0, 0); err != nil {
			return err
		}
	}
	return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
}

// enter runs script in the repository as the container shows it and gives its output and whether it succeeded.
func enter(t *testing.T, mounts []Mount, script string) (string, error) {
	t.Helper()
	text, err := json.Marshal(mounts)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", script)
	cmd.Env = append(gitEnv(t), mountsEnv+"="+string(text))
	cmd.Dir = mounts[0].Target
	attr := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
	}
	if os.Getuid() != 0 {
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_CHOWN} // an overlay keeps those of who mounts it
	}
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() == 125) {
		t.Fatalf("entering the namespace: %v: %s", err, out)
	}
	return string(out), err
}

// gitEnv is an environment in which git sees nothing of the person who runs the tests.
func gitEnv(t *testing.T) []string {
	t.Helper()
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		"GIT_EDITOR=true", "LC_ALL=C",
	}
}

// git runs the host's git in dir and gives its output.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = gitEnv(t)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// tryGit is git whose failure does not matter.
func tryGit(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = gitEnv(t)
	out, err := cmd.CombinedOutput()
	t.Logf("host: git %s: %v: %s", strings.Join(args, " "), err, out)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// newRepo makes a repository with one commit and gives it as Find does.
func newRepo(t *testing.T) Repo {
	t.Helper()
	root := filepath.Join(realTemp(t), "re po")
	write(t, filepath.Join(root, "a"), "a\n")
	git(t, root, "init", "-q", "-b", "main")
	git(t, root, "add", ".")
	git(t, root, "commit", "-qm", "first")
	return find(t, root)
}

func find(t *testing.T, dir string) Repo {
	t.Helper()
	repo, err := Find(dir, Person{UID: os.Getuid(), Home: "/nonexistent"})
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func realTemp(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// show gives the mounts of a repository.
func show(t *testing.T, repo Repo, mode Mode, hide ...string) []Mount {
	t.Helper()
	s, err := Look(repo, hide)
	if err != nil {
		t.Fatal(err)
	}
	mounts, _, err := Mounts(repo, mode, s, nil, realTemp(t))
	if err != nil {
		t.Fatal(err)
	}
	return mounts
}
