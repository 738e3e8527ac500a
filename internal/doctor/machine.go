package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"agentbox/internal/profiles"
)

// Machine is what the checks look at. Its functions may be called in any order and have no side effects.
type Machine struct {
	OS       string // as in runtime.GOOS
	Root     string // files are read below it: "/"
	UID      int
	User     string
	StateDir string // where agentbox keeps runs; need not exist yet

	Getenv   func(name string) string
	LookPath func(program string) (string, error)
	// Output runs a program and returns what it printed; an error holds what it said on stderr.
	Output func(ctx context.Context, name string, args ...string) ([]byte, error)
	// Dial connects to a unix socket and closes the connection again.
	Dial func(ctx context.Context, path string) error
	// Free returns how many bytes this person can still write in a directory that exists.
	Free func(dir string) (uint64, error)
	// Shim says why this build has no program for PID 1 of containers. Nil: it is not looked for.
	Shim func() error
	// Keyring says whether the keyring answers. Nil: the Secret Service is asked over the session bus.
	Keyring func(ctx context.Context) (locked bool, err error)
	// Upstream reads the person's own way out. Nil: it is not looked at.
	Upstream func() (profiles.Upstream, error)
}

// Here is this machine. Shim, Keyring and Upstream are the caller's to fill in.
func Here(stateDir string) Machine {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return Machine{
		OS: runtime.GOOS, Root: "/", UID: os.Getuid(), User: name, StateDir: stateDir,
		Getenv: os.Getenv, LookPath: exec.LookPath, Output: output, Dial: dial, Free: free,
	}
}

func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = &stderr
	cmd.WaitDelay = patience // a grandchild may hold the pipes open
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s gave no answer in time", name)
	}
	if said := strings.TrimSpace(stderr.String()); said != "" {
		return nil, errors.New(said)
	}
	return nil, fmt.Errorf("running %s: %w", name, err)
}

func dial(ctx context.Context, path string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	return c.Close()
}

func free(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("asking for free space in %q: %w", dir, err)
	}
	return s.Bavail * uint64(s.Bsize), nil
}

// read returns the trimmed content of a file below the root, or "" when it cannot be read.
func (m Machine) read(path string) string {
	data, err := os.ReadFile(filepath.Join(m.Root, path))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// ask runs a program with bounded patience.
func (m Machine) ask(ctx context.Context, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return m.Output(ctx, name, args...)
}

// git is asked for: an agent works in a repository, and what it changed is compared with git.
func (m Machine) git() Finding {
	f := Finding{ID: "git", Title: "git", Status: OK}
	path, err := m.LookPath("git")
	if err != nil {
		f.Status, f.Detail, f.Fix = Fail, "it is not installed", m.install("git", "git", "git")
		return f
	}
	f.Detail = path
	return f
}

// install returns the command that installs a package with this system's package manager.
func (m Machine) install(debian, fedora, arch string) string {
	if m.OS == "darwin" {
		return "brew install " + fedora
	}
	release := m.read("etc/os-release")
	is := func(ids ...string) bool {
		for _, id := range ids {
			for line := range strings.Lines(release) {
				key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
				if (key == "ID" || key == "ID_LIKE") && strings.Contains(" "+strings.Trim(value, `"`)+" ", " "+id+" ") {
					return true
				}
			}
		}
		return false
	}
	switch {
	case is("fedora", "rhel", "centos"):
		return "sudo dnf install " + fedora
	case is("arch"):
		return "sudo pacman -S " + arch
	case is("suse", "opensuse"):
		return "sudo zypper install " + fedora
	}
	return "sudo apt install " + debian
}
