//go:build linux

// Package transporttest is the contract of a transport.Transport, carried out with the real shim in namespaces
// like those of a container: user, process, mount and network, and no capability left.
//
// A test binary that uses it calls Main from its TestMain: the same binary plays the parts of the container's
// runtime, of agents, and of a host that is killed.
package transporttest

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"agentbox/internal/shimwire"
)

const (
	// ProbePath is where the program that started a Container is, inside it.
	ProbePath = "/run/probe"

	containerAs = "test-container" // argv[0] of the parts the test binary plays
	hostAs      = "test-host"
	shimEnv     = "AGENTBOX_TEST_SHIM" // a built shim, so that parts need not build another
)

// Main plays the part that the command line asks for, or builds the shim and runs the tests.
func Main(m *testing.M) {
	switch os.Args[0] {
	case ProbePath:
		os.Exit(probe(os.Args[1:]))
	case containerAs:
		os.Exit(Play())
	case liarAs:
		if err := becomeLiar(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "liar:", err)
			os.Exit(1)
		}
		os.Exit(0)
	case hostAs:
		fmt.Fprintln(os.Stderr, "host:", becomeHost(os.Args[1], os.Args[2]))
		os.Exit(1)
	}
	os.Exit(runTests(m))
}

// PlaysContainer reports whether this process was started as a Container: its main function then calls Play.
func PlaysContainer() bool { return os.Args[0] == containerAs }

// Play becomes a Container's PID 1. What it returns is the exit code of one that could not.
func Play() int {
	fmt.Fprintln(os.Stderr, "container:", becomeContainer(os.Args[1], os.Args[2]))
	return 1
}

func runTests(m *testing.M) int {
	if os.Getenv(shimEnv) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "shim")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	shim := filepath.Join(dir, "shim")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", shim, "agentbox/cmd/agentbox-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the shim: %v\n%s", err, out)
		return 1
	}
	if err := os.Setenv(shimEnv, shim); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// RunDir makes a directory as a run has one: short, private, with the shim in it.
func RunDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "run")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program, err := os.ReadFile(os.Getenv(shimEnv))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(shimwire.ShimPath)), program, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Container gives a command that runs the shim as PID 1 of new namespaces with dir at shimwire.Dir.
// A flaw, if any, is what to leave out of the boundary.
func Container(dir, flaw string) *exec.Cmd {
	self, err := os.Executable() // by its path, so that it belongs to the new mount namespace
	cmd := exec.Command(self)
	cmd.Err = errors.Join(cmd.Err, err)
	cmd.Args = []string{containerAs, dir, flaw}
	cmd.Env = []string{"AS_PID1=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SETPCAP},
	}
	return cmd
}

// Expect is what the self-test finds in a Container.
func Expect() shimwire.Expect {
	return shimwire.Expect{
		Seccomp: true, NoNewPrivs: true, UID: os.Getuid(), GID: os.Getgid(), AnyGroups: true,
		Absent:     []string{"/run/user", "/run/podman/podman.sock"},
		Empty:      []string{"/tmp", "/run/empty"},
		Unreadable: []string{"/run/nothing"},
		ReadOnly:   []string{"/", shimwire.Dir, shimwire.ShimPath},
	}
}

// becomeContainer makes the namespaces that it was started in like a container's and becomes the shim.
func becomeContainer(dir, flaw string) error {
	runtime.LockOSThread()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for i, step := range []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV, "") },
		func() error { return unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755") },
		func() error { return os.Mkdir(shimwire.Dir, 0o755) },
		func() error { return os.WriteFile("/run/empty", nil, 0o644) },
		func() error { return os.WriteFile("/run/text", []byte("#!/no/such/interpreter\n"), 0o755) },
		func() error { return os.WriteFile(ProbePath, nil, 0o755) },
		func() error { return unix.Mount(self, ProbePath, "", unix.MS_BIND, "") },
		func() error { return bindReadOnly(dir, shimwire.Dir) },
		func() error { return unix.Mount("tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777") },
		func() error { return remountReadOnly("/") },
		loopbackUp,
		func() error {
			return os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
		},
		func() error { return os.Chdir("/") },
		func() error { return dropRights(flaw) },
		func() error { return unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) },
		func() error { return leak(flaw) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return unix.Exec(shimwire.ShimPath, []string{shimwire.ShimPath}, []string{"AS_PID1=1"})
}

// leak leaves a directory of the host open for the container, as runc once did.
func leak(flaw string) error {
	if flaw != "leak" {
		return nil
	}
	_, err := unix.Open("/", unix.O_RDONLY, 0)
	return err
}

func bindReadOnly(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding %s: %w", from, err)
	}
	return remountReadOnly(to)
}

// remountReadOnly keeps the other flags: a user namespace may not clear those it was born with.
func remountReadOnly(at string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return err
	}
	keep := uintptr(st.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME)
	if st.Flags&unix.ST_RELATIME != 0 {
		keep |= unix.MS_RELATIME
	}
	if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|keep, ""); err != nil {
		return fmt.Errorf("making %s read-only: %w", at, err)
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	return nil
}

// dropRights leaves nothing of what the namespaces gave.
func dropRights(flaw string) error {
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && err != unix.EINVAL {
			return fmt.Errorf("dropping capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	if flaw != "new-privileges" {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&head, &none[0]); err != nil {
		return fmt.Errorf("dropping capabilities: %w", err)
	}
	if flaw == "no-seccomp" || flaw == "new-privileges" { // a filter needs no_new_privs
		return nil
	}
	allow := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
	prog := unix.SockFprog{Len: 1, Filter: &allow[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
}

// Agent runs argv in a Container with a plain environment.
func Agent(argv ...string) shimwire.Agent {
	return shimwire.Agent{Argv: argv, Env: []string{"PATH=/usr/bin:/bin", "HOME=/tmp"}, Dir: "/"}
}

// Probe is an agent that this package plays.
func Probe(args ...string) shimwire.Agent { return Agent(append([]string{ProbePath}, args...)...) }

// Shell runs a script.
func Shell(script string) shimwire.Agent { return Agent("sh", "-c", script) }
