//go:build linux

package podman

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"agentbox/internal/run"
)

// TestMain lets the test binary be the program that attacks from inside.
func TestMain(m *testing.M) {
	switch os.Getenv("AGENTBOX_PROBE") {
	case "":
	case "int80":
		call32()
		return
	default:
		probe()
		return
	}
	os.Exit(m.Run())
}

// TestSystemCalls carries out, inside, what the seccomp profile takes away.
func TestSystemCalls(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	s := maker(t)(t, "agentbox-test-"+filepath.Base(socketDir(t)), "AGENTBOX_PROBE=1 exec /work/probe")
	must(t, os.WriteFile(filepath.Join(s.Rootfs, "work", "probe"), nil, 0o755))
	s.Mounts = append(s.Mounts, run.Mount{Type: "bind", Source: self, Target: "/work/probe", ReadOnly: true})
	got := insideOf(t, engine(t), s)
	for _, line := range strings.Split(strings.TrimSpace(got), "\n") {
		if !strings.HasPrefix(line, "ok ") {
			t.Errorf("%s", line)
		}
	}
	if !strings.HasSuffix(got, "ok end\n") {
		t.Errorf("the probe ended early:\n%s", got)
	}
}

// TestThirtyTwoBitCallsEndTheirThread: the kernel kills the thread, which a Go program does not survive in good shape,
// so that the shell ends it.
func TestThirtyTwoBitCallsEndTheirThread(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		return // no other machine that agentbox runs on can make them from a 64-bit program
	}
	self, err := os.Executable()
	must(t, err)
	s := maker(t)(t, "agentbox-test-"+filepath.Base(socketDir(t)), "AGENTBOX_PROBE=int80 timeout -s KILL 3 /work/probe; echo end")
	must(t, os.WriteFile(filepath.Join(s.Rootfs, "work", "probe"), nil, 0o755))
	s.Mounts = append(s.Mounts, run.Mount{Type: "bind", Source: self, Target: "/work/probe", ReadOnly: true})
	got := insideOf(t, engine(t), s)
	if !strings.Contains(got, "calling\n") || strings.Contains(got, "it worked") || !strings.Contains(got, "end\n") {
		t.Errorf("a 32-bit system call: %q", got)
	}
}

// attempt is a system call and the error that it must fail with; 0 means that it must work.
type attempt struct {
	name string
	nr   uintptr
	args [6]uintptr
	want unix.Errno
}

// high is set in the half of an argument that the kernel ignores and a careless filter compares.
const high = 1 << 40

func probe() {
	tty := openTTY()
	path := uintptr(unsafe.Pointer(&[]byte("/tmp\x00")[0]))
	var rlim [2]uint64
	attempts := []attempt{
		{"getpid", unix.SYS_GETPID, [6]uintptr{}, 0},
		{"unshare user namespace", unix.SYS_UNSHARE, [6]uintptr{unix.CLONE_NEWUSER}, unix.EPERM},
		{"unshare user namespace, high bit", unix.SYS_UNSHARE, [6]uintptr{unix.CLONE_NEWUSER | high}, unix.EPERM},
		{"unshare network and user namespace", unix.SYS_UNSHARE, [6]uintptr{unix.CLONE_NEWUSER | unix.CLONE_NEWNET}, unix.EPERM},
		{"unshare mount namespace", unix.SYS_UNSHARE, [6]uintptr{unix.CLONE_NEWNS}, unix.EPERM},
		{"unshare files", unix.SYS_UNSHARE, [6]uintptr{unix.CLONE_FILES}, 0},
		{"clone user namespace", unix.SYS_CLONE, [6]uintptr{unix.CLONE_NEWUSER | uintptr(unix.SIGCHLD)}, unix.EPERM},
		{"clone3", unix.SYS_CLONE3, [6]uintptr{0, 0}, unix.ENOSYS},
		{"setns", unix.SYS_SETNS, [6]uintptr{0, 0}, unix.EPERM},
		{"mount", unix.SYS_MOUNT, [6]uintptr{path, path, 0, unix.MS_BIND}, unix.EPERM},
		{"umount", unix.SYS_UMOUNT2, [6]uintptr{path, 0}, unix.EPERM},
		{"pivot_root", unix.SYS_PIVOT_ROOT, [6]uintptr{path, path}, unix.EPERM},
		{"chroot", unix.SYS_CHROOT, [6]uintptr{path}, unix.EPERM},
		{"fsopen", unix.SYS_FSOPEN, [6]uintptr{path}, unix.ENOSYS},
		{"open_tree", unix.SYS_OPEN_TREE, [6]uintptr{0, path, 0}, unix.ENOSYS},
		{"keyctl", unix.SYS_KEYCTL, [6]uintptr{0, ^uintptr(2)}, unix.EPERM},
		{"add_key", unix.SYS_ADD_KEY, [6]uintptr{}, unix.EPERM},
		{"bpf", unix.SYS_BPF, [6]uintptr{}, unix.EPERM},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [6]uintptr{}, unix.EPERM},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, [6]uintptr{1, 0}, unix.EPERM},
		{"userfaultfd", unix.SYS_USERFAULTFD, [6]uintptr{}, unix.EPERM},
		{"pidfd_getfd", unix.SYS_PIDFD_GETFD, [6]uintptr{0, 0, 0}, unix.EPERM},
		{"ptrace of PID 1", unix.SYS_PTRACE, [6]uintptr{unix.PTRACE_ATTACH, 1}, unix.ENOSYS},
		{"ptrace of PID 1, high bit", unix.SYS_PTRACE, [6]uintptr{unix.PTRACE_ATTACH, 1 | high}, unix.ENOSYS},
		{"process_vm_readv of PID 1", unix.SYS_PROCESS_VM_READV, [6]uintptr{1, 0, 0, 0, 0, 0}, unix.ENOSYS},
		{"ptrace of nobody", unix.SYS_PTRACE, [6]uintptr{unix.PTRACE_ATTACH, 0x3ffffff}, unix.ESRCH},
		{"AF_VSOCK", unix.SYS_SOCKET, [6]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM, 0}, unix.ENOSYS},
		{"AF_VSOCK, high bit", unix.SYS_SOCKET, [6]uintptr{unix.AF_VSOCK | high, unix.SOCK_STREAM, 0}, unix.ENOSYS},
		{"AF_PACKET", unix.SYS_SOCKET, [6]uintptr{unix.AF_PACKET, unix.SOCK_RAW, 0}, unix.ENOSYS},
		{"AF_ALG", unix.SYS_SOCKET, [6]uintptr{unix.AF_ALG, unix.SOCK_SEQPACKET, 0}, unix.ENOSYS},
		{"raw socket", unix.SYS_SOCKET, [6]uintptr{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, unix.EPERM},
		{"netlink audit", unix.SYS_SOCKET, [6]uintptr{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}, unix.EINVAL}, // else groupadd gives up
		{"netlink route", unix.SYS_SOCKET, [6]uintptr{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, 0},
		{"unix socket", unix.SYS_SOCKET, [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM, 0}, 0},
		{"inet socket", unix.SYS_SOCKET, [6]uintptr{unix.AF_INET, unix.SOCK_STREAM, 0}, 0},
		{"TIOCSTI", unix.SYS_IOCTL, [6]uintptr{tty, unix.TIOCSTI, path}, unix.ENOSYS},
		{"TIOCSTI, high bit", unix.SYS_IOCTL, [6]uintptr{tty, unix.TIOCSTI | high, path}, unix.ENOSYS},
		{"TIOCLINUX", unix.SYS_IOCTL, [6]uintptr{tty, unix.TIOCLINUX, path}, unix.ENOSYS},
		{"TIOCGWINSZ", unix.SYS_IOCTL, [6]uintptr{tty, unix.TIOCGWINSZ, uintptr(unsafe.Pointer(&rlim))}, 0},
		{"mknod of a device", unix.SYS_MKNODAT, [6]uintptr{^uintptr(99), uintptr(unsafe.Pointer(&[]byte("/tmp/sda\x00")[0])), unix.S_IFBLK | 0o600, 0xfe00}, unix.EPERM},
	}
	for _, a := range attempts {
		report(a)
	}
	symbolic()
	fmt.Println("ok end")
}

func report(a attempt) {
	_, _, errno := syscall.RawSyscall6(a.nr, a.args[0], a.args[1], a.args[2], a.args[3], a.args[4], a.args[5])
	if errno == a.want {
		fmt.Println("ok", a.name)
		return
	}
	fmt.Printf("%s: %v, want %v\n", a.name, errno, a.want)
}

func openTTY() uintptr {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		fmt.Println("opening /dev/ptmx:", err)
	}
	return uintptr(fd)
}

// call32 makes a 32-bit system call (getpid) from a 64-bit program, past any filter that knows 64-bit ones alone.
func call32() {
	code := []byte{0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3} // mov eax, 20; int 0x80; ret
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		fmt.Println("no page for the 32-bit call:", err)
		return
	}
	copy(page, code)
	entry := &page[0]
	call := &entry
	fmt.Println("calling")
	(*(*func())(unsafe.Pointer(&call)))()
	fmt.Println("it worked")
}

// symbolic tries what a shell would try.
func symbolic() {
	for _, path := range []string{"/x", "/usr/x", "/etc/x", "/usr/local/go/x"} {
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			continue
		}
		if err := os.WriteFile(path, nil, 0o600); !errors.Is(err, unix.EROFS) {
			fmt.Printf("writing %s: %v, want a read-only file system\n", path, err)
		}
	}
}
