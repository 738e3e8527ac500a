package podman

import (
	"encoding/json"
	"runtime"
	"slices"

	"go.podman.io/common/pkg/seccomp"
	"golang.org/x/sys/unix"
)

// seccompProfile is Podman's default profile, made tighter: what a coding agent's tools never need, or need only to
// leave a boundary, is taken out of what is allowed. What is not allowed fails with ENOSYS, as Podman has it, unless
// a program is known to take EPERM better.
//
// It is for the machine's own system calls alone. Those of a 32-bit program end that program: they are a second,
// less looked-after way into the kernel, and translating the filter for them takes longer than all else about it.
func seccompProfile() ([]byte, error) {
	p := seccomp.DefaultProfile()
	if native, ok := map[string]seccomp.Arch{"amd64": seccomp.ArchX86_64, "arm64": seccomp.ArchAARCH64}[runtime.GOARCH]; ok {
		p.ArchMap, p.Architectures = nil, []seccomp.Arch{native}
	}
	for _, s := range p.Syscalls {
		s.Names = slices.DeleteFunc(s.Names, func(n string) bool { return denied[n] || narrowed[n] })
	}
	p.Syscalls = slices.DeleteFunc(p.Syscalls, func(s *seccomp.Syscall) bool { return len(s.Names) == 0 })
	p.Syscalls = append(p.Syscalls, narrowRules()...)
	return json.Marshal(p)
}

// denied are taken out whole. clone3 must be ENOSYS, so that libc falls back to clone, whose flags a filter can see.
var denied = set(
	"clone3", "setns",
	"mount", "umount", "umount2", "pivot_root", "chroot", "mount_setattr", "open_tree", "move_mount",
	"fsopen", "fsconfig", "fsmount", "fspick", "statmount", "listmount",
	"add_key", "keyctl", "request_key",
	"bpf", "perf_event_open", "userfaultfd", "fanotify_init",
	"io_uring_setup", "io_uring_enter", "io_uring_register",
	"pidfd_getfd", "process_vm_readv", "process_vm_writev", "kcmp", "process_madvise", "name_to_handle_at", "open_by_handle_at",
	"vmsplice", "quotactl", "quotactl_fd", "swapon", "swapoff", "reboot", "kexec_load", "kexec_file_load",
	"init_module", "finit_module", "delete_module", "acct", "settimeofday", "clock_settime", "adjtimex",
	"iopl", "ioperm", "lookup_dcookie", "syslog",
)

// narrowed are allowed for some arguments only, by narrowRules.
var narrowed = set("clone", "unshare", "ioctl", "socket", "ptrace")

// newNamespaces are the flags of clone(2) and unshare(2) that make a namespace.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

func narrowRules() []*seccomp.Syscall {
	noNamespace := []*seccomp.Arg{{Index: 0, Value: newNamespaces, ValueTwo: 0, Op: seccomp.OpMaskedEqual}}
	rules := []*seccomp.Syscall{
		{Names: []string{"clone", "unshare"}, Action: seccomp.ActAllow, Args: noNamespace},
	}
	// The kernel looks at the lower 32 bits of these arguments only, so the filter must too: a comparison of all 64
	// is passed by setting a high bit.
	for _, family := range []uint64{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6} {
		rules = append(rules, allow("socket", equal32(0, family)))
	}
	// Not for safety, as the auditing of the host asks for capabilities: so that programs see that there is none. EINVAL is
	// what tells them; after any other error groupadd and useradd give up, and with them half of Debian's packages in a build.
	einval := uint(unix.EINVAL)
	audit := func(op seccomp.Operator) []*seccomp.Arg {
		return []*seccomp.Arg{equal32(0, unix.AF_NETLINK), {Index: 2, Value: unix.NETLINK_AUDIT, Op: op}}
	}
	rules = append(rules, allow("socket", audit(seccomp.OpNotEqual)...), &seccomp.Syscall{Names: []string{"socket"},
		Action: seccomp.ActErrno, Errno: "EINVAL", ErrnoRet: &einval, Args: audit(seccomp.OpEqualTo)})
	for _, m := range except32(unix.TIOCSTI, unix.TIOCLINUX) {
		rules = append(rules, allow("ioctl", m.arg(1)))
	}
	for _, m := range except32(1) { // PID 1 is the shim
		rules = append(rules, allow("ptrace", m.arg(1)))
	}
	return append(rules, refusals()...)
}

// refusals answer EPERM where Podman's ENOSYS would make a program believe that the kernel is too old.
func refusals() []*seccomp.Syscall {
	eperm := uint(unix.EPERM)
	names := []string{"mount", "umount2", "pivot_root", "chroot", "setns", "keyctl", "add_key", "request_key", "bpf",
		"perf_event_open", "pidfd_getfd", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"}
	rules := []*seccomp.Syscall{{Names: names, Action: seccomp.ActErrno, Errno: "EPERM", ErrnoRet: &eperm}}
	for bit := uint64(1); bit <= newNamespaces; bit <<= 1 {
		if bit&newNamespaces != 0 {
			arg := &seccomp.Arg{Index: 0, Value: bit, ValueTwo: bit, Op: seccomp.OpMaskedEqual}
			rules = append(rules, &seccomp.Syscall{Names: []string{"clone", "unshare"}, Action: seccomp.ActErrno,
				Errno: "EPERM", ErrnoRet: &eperm, Args: []*seccomp.Arg{arg}})
		}
	}
	return rules
}

func allow(name string, args ...*seccomp.Arg) *seccomp.Syscall {
	return &seccomp.Syscall{Names: []string{name}, Action: seccomp.ActAllow, Args: args}
}

func equal32(index uint, value uint64) *seccomp.Arg {
	return prefix32{mask: 0xffffffff, value: value}.arg(index)
}

// prefix32 matches the 32-bit values whose bits under mask are value.
type prefix32 struct{ mask, value uint64 }

func (p prefix32) arg(index uint) *seccomp.Arg {
	return &seccomp.Arg{Index: index, Value: p.mask, ValueTwo: p.value, Op: seccomp.OpMaskedEqual}
}

// except32 covers every 32-bit value but those given, by disjoint prefixes: libseccomp has no "not equal under a
// mask", and joins the rules of a system call by "or".
func except32(values ...uint64) []prefix32 {
	var out []prefix32
	var split func(mask, value uint64, inside []uint64)
	split = func(mask, value uint64, inside []uint64) {
		if len(inside) == 0 {
			out = append(out, prefix32{mask, value})
			return
		}
		if mask == 0xffffffff {
			return
		}
		bit := (mask >> 1) | 0x80000000
		bit &^= mask // the next bit below the mask
		for _, half := range []uint64{0, bit} {
			var in []uint64
			for _, v := range inside {
				if v&bit == half {
					in = append(in, v)
				}
			}
			split(mask|bit, value|half, in)
		}
	}
	split(0, 0, values)
	return out
}

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}
