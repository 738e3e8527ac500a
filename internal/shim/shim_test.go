//go:build linux

package shim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"agentbox/internal/shimwire"
)

// TestMain lets the test binary be the janitor: a real process that reads a real pipe.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == janitorRole {
		os.Exit(Main(os.Args))
	}
	os.Exit(m.Run())
}

// TestDependencies: the shim is small, and starts in a millisecond, because of what it does not import.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "agentbox/cmd/agentbox-shim").Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{"golang.org/x/sys/", "agentbox/internal/shim", "agentbox/internal/shimwire", "agentbox/cmd/agentbox-shim"}
	for _, pkg := range strings.Fields(string(out)) {
		fine := false
		for _, a := range allowed {
			fine = fine || pkg == a || strings.HasSuffix(a, "/") && strings.HasPrefix(pkg, a)
		}
		if !fine {
			t.Errorf("it imports %s: PID 1 of the container stays free of anything but std and x/sys", pkg)
		}
	}
	std, err := exec.Command("go", "list", "-deps", "agentbox/cmd/agentbox-shim").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(string(std)) {
		if pkg == "net" || pkg == "os/exec" || pkg == "crypto/tls" {
			t.Errorf("it imports %s, which doubles its size and start", pkg)
		}
	}
}

const goodStatus = "Name:\tshim\nUid:\t1000\t1000\t1000\t1000\nGid:\t100\t100\t100\t100\nGroups:\t100 \nNoNewPrivs:\t1\nSeccomp:\t2\n" +
	"CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\n"

func TestStatus(t *testing.T) {
	e := shimwire.Expect{UID: 1000, GID: 100}
	judge := func(text string) error {
		s := parseStatus(text)
		return errors.Join(s.capabilities(), s.identity(e), s.is("Seccomp", "2"))
	}
	if err := judge(goodStatus); err != nil {
		t.Errorf("a good status: %v", err)
	}
	for _, c := range [][2]string{
		{"CapEff:\t0000000000000000", "CapEff:\t0000000000000400"}, {"CapBnd:\t0000000000000000", "CapBnd:\t8000000000000000"},
		{"CapPrm:\t0000000000000000\n", ""}, {"CapInh:\t0", "CapInh:\tx"}, {"CapAmb:\t0000000000000000", "CapAmb:\t1"},
		{"Uid:\t1000\t1000\t1000\t1000", "Uid:\t1000\t1000\t0\t1000"}, {"Uid:\t1000\t1000\t1000\t1000\n", ""},
		{"Gid:\t100\t100\t100\t100", "Gid:\t0\t0\t0\t0"}, {"Groups:\t100 ", "Groups:\t27 100 "},
		{"Seccomp:\t2", "Seccomp:\t0"}, {"Seccomp:\t2\n", ""},
	} {
		text := strings.Replace(goodStatus, c[0], c[1], 1)
		if text == goodStatus || judge(text) == nil {
			t.Errorf("%q in place of %q passes", c[1], c[0])
		}
	}
	if parseStatus(goodStatus).identity(shimwire.Expect{UID: 1000, GID: 100, AnyGroups: true}) != nil {
		t.Error("any groups are refused")
	}
}

func TestNetworkFiles(t *testing.T) {
	const head = "Inter-|   Receive\n face |bytes\n"
	names, err := interfaceNames(head + "    lo:  0 0\n  eth0: 1 2\n")
	if err != nil || strings.Join(names, ",") != "lo,eth0" {
		t.Errorf("%q, %v", names, err)
	}
	for _, bad := range []string{"", head, head + "nonsense\n"} {
		if _, err := interfaceNames(bad); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
	const head4 = "Iface\tDestination\tGateway\n"
	for text, ok := range map[string]bool{"": true, head4: true, head4 + "lo\t0000007F\t0\n": true, head4 + "eth0\t00000000\t0102A8C0\n": false, head4 + "lo\t0\t0\ntap0\t0\t0\n": false} {
		if (routes4(text) == nil) != ok {
			t.Errorf("routes %q: %v", text, routes4(text))
		}
	}
	for text, ok := range map[string]bool{"": true, "0001 01 80 10 80       lo\n": true, "fe80 02 40 20 80     eth0\n": false, "0 lo\n0 tap0\n": false} {
		if (onlyLoopback(text) == nil) != ok {
			t.Errorf("ipv6 %q: %v", text, onlyLoopback(text))
		}
	}
}

func TestOpenDescriptors(t *testing.T) {
	good := map[int]string{0: "/dev/pts/0", 1: "pipe:[1]", 2: "/x", 3: "socket:[5]", 4: "anon_inode:[eventpoll]", 5: "anon_inode:[eventfd]"}
	if err := onlyOwn(good, map[int]bool{3: true}); err != nil {
		t.Error(err)
	}
	for _, target := range []string{"/", "socket:[7]", "pipe:[1]", "/dev/null", "anon_inode:[pidfd]"} {
		if onlyOwn(map[int]string{0: "/", 9: target}, map[int]bool{3: true}) == nil {
			t.Errorf("a descriptor on %s passes", target)
		}
	}
}

func TestRefusal(t *testing.T) {
	for answer, ok := range map[string]bool{"HTTP/1.1 403 ": true, "HTTP/1.0 403\r": true, "HTTP/1.1 200 ": false, "HTTP/1.1 4030": false, "SSH-2.0 403 x": false, "": false} {
		if (refusal(answer) == nil) != ok {
			t.Errorf("%q: %v", answer, refusal(answer))
		}
	}
}

func TestPathChecks(t *testing.T) {
	dir := t.TempDir()
	file, blank, link, loop := filepath.Join(dir, "file"), filepath.Join(dir, "blank"), filepath.Join(dir, "link"), filepath.Join(dir, "loop")
	must(t, os.WriteFile(file, []byte("x"), 0o600), os.WriteFile(blank, nil, 0o600), os.Symlink(file, link), os.Symlink("loop", loop), os.Mkdir(filepath.Join(dir, "d"), 0o700))
	for _, c := range []struct {
		name  string
		check func(string) error
		path  string
		ok    bool
	}{
		{"absent", absent, filepath.Join(dir, "none"), true}, {"absent", absent, filepath.Join(file, "below"), true},
		{"absent", absent, file, false}, {"absent", absent, loop, false},
		{"empty", empty, filepath.Join(dir, "none"), true}, {"empty", empty, blank, true}, {"empty", empty, filepath.Join(dir, "d"), true},
		{"empty", empty, "/dev/null", true}, {"empty", empty, file, false}, {"empty", empty, dir, false}, {"empty", empty, link, false}, {"empty", empty, "/dev/zero", false},
		{"unreadable", unreadable, filepath.Join(dir, "none"), true}, {"unreadable", unreadable, file, false}, {"unreadable", unreadable, dir, false},
		{"read-only", readOnly, dir, false}, {"read-only", readOnly, file, false}, {"read-only", readOnly, filepath.Join(dir, "none"), false},
	} {
		if err := c.check(c.path); (err == nil) != c.ok {
			t.Errorf("%s %s: %v", c.name, c.path, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".agentbox-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := each([]string{"1", "2", "3", "4", "5", "6", "7"}, func(string) error { return errors.New("bad") }); err == nil || !strings.HasSuffix(err.Error(), "and 2 more") {
		t.Errorf("%v", err)
	}
}

func TestLookPath(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(a, "tool"), nil, 0o600), os.WriteFile(filepath.Join(b, "tool"), nil, 0o700),
		os.WriteFile(filepath.Join(a, "plain"), nil, 0o000), os.Mkdir(filepath.Join(a, "dir"), 0o700))
	for _, c := range []struct{ name, path, want, kind string }{
		{"tool", a + ":" + b, filepath.Join(b, "tool"), ""}, {"tool", "", "", shimwire.ErrNotFound}, {"tool", ":.:relative", "", shimwire.ErrNotFound},
		{"plain", a + ":" + b, "", shimwire.ErrNotExecutable}, {"dir", a, "", shimwire.ErrNotExecutable}, {"", a, "", shimwire.ErrNotFound},
		{"./tool", "", filepath.Join(b, "tool"), ""}, {filepath.Join(b, "none"), "", "", shimwire.ErrNotFound},
	} {
		got, err := lookPath(c.name, []string{"PATH=/first", "PATH=" + c.path}, b)
		e := new(startError)
		if c.kind == "" && (err != nil || got != c.want) || c.kind != "" && (!errors.As(err, &e) || e.kind != c.kind) {
			t.Errorf("%q on %q: %q, %v", c.name, c.path, got, err)
		}
	}
}

// TestFilesFollowNoLink needs a tmpfs, which /dev/shm is everywhere.
func TestFilesFollowNoLink(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "files")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	outside := t.TempDir()
	must(t, os.Symlink(outside, filepath.Join(dir, "link")), os.Symlink(filepath.Join(outside, "x"), filepath.Join(dir, "dangling")), os.WriteFile(filepath.Join(dir, "there"), []byte("old"), 0o600))
	write := func(path string) error {
		return writeFiles([]shimwire.File{{Path: path, Mode: 0o640, Content: []byte("new")}})
	}
	for _, bad := range []string{dir + "/link/x", dir + "/dangling", dir + "/there", dir + "/a/../b", dir + "/there/x", "relative", "/", "", dir + "/", "/proc/x"} {
		if write(bad) == nil {
			t.Errorf("%q is written", bad)
		}
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("outside: %v, %v", left, err)
	}
	if old, err := os.ReadFile(dir + "/there"); err != nil || string(old) != "old" {
		t.Errorf("%q, %v", old, err)
	}
	must(t, write(dir+"/deep/er/file"))
	st, err := os.Stat(dir + "/deep/er/file")
	if err != nil || st.Mode() != 0o640 {
		t.Errorf("%v, %v", st, err)
	}
}

func TestOpenListenersRefuses(t *testing.T) {
	for _, l := range []shimwire.Listen{{Network: "tcp6", Addr: "[::1]:0"}, {Network: "tcp4", Addr: "[::1]:0"}, {Network: "tcp4", Addr: "localhost:80"}, {Network: "unix", Addr: "127.0.0.1:0"}, {}} {
		if fds, err := openListeners([]shimwire.Listen{{Network: "tcp4", Addr: "127.0.0.1:0"}, l}); err == nil {
			t.Errorf("%+v gives %v", l, fds)
		}
	}
}

func TestJanitorWaitsForTheEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	must(t, os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, Marker), nil, 0o600), os.WriteFile(filepath.Join(dir, "host.sock"), nil, 0o600))
	j := exec.Command("/proc/self/exe", janitorRole, dir)
	var talk bytes.Buffer
	j.Stderr = &talk
	end, err := j.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	must(t, j.Start())
	for _, n := range []unix.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT} {
		ignored(t, j.Process.Pid, n)
		must(t, j.Process.Signal(n))
	}
	if _, err := io.WriteString(end, "still here"); err != nil {
		t.Errorf("it ended early: %v", err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("it tidies early: %v", err)
	}
	must(t, end.Close())
	if err := j.Wait(); err != nil {
		t.Errorf("%v: %s", err, &talk)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// TestTheProcessBearsTheShimsName: now and then another thread than the main one took the name, and ps showed a process
// called after its file.
func TestTheProcessBearsTheShimsName(t *testing.T) {
	dir := t.TempDir()
	shim := filepath.Join(dir, "shim")
	build := exec.Command("go", "build", "-o", shim, "agentbox/cmd/agentbox-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	must(t, os.WriteFile(filepath.Join(dir, Marker), nil, 0o600))
	for range 100 {
		j := exec.Command(shim, janitorRole, dir)
		end, err := j.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		must(t, j.Start())
		ignored(t, j.Process.Pid, unix.SIGTERM)
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", j.Process.Pid))
		if err != nil || string(name) != "agentbox-shim\n" {
			t.Errorf("it is called %q, %v", name, err)
		}
		must(t, j.Process.Kill(), end.Close())
		_ = j.Wait() // it was killed
	}
}

// ignored waits until process pid ignores n.
func ignored(t *testing.T, pid int, n unix.Signal) {
	t.Helper()
	for t.Context().Err() == nil {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		mask, err := strconv.ParseUint(parseStatus(string(text))["SigIgn"], 16, 64)
		if err == nil && mask>>(n-1)&1 == 1 {
			return
		}
	}
}

func TestJanitorRefusesWhatIsNoRun(t *testing.T) {
	base := t.TempDir()
	plain, link, run := filepath.Join(base, "plain"), filepath.Join(base, "link"), filepath.Join(base, "run")
	linked := filepath.Join(base, "linked")
	must(t, os.Mkdir(plain, 0o700), os.Mkdir(run, 0o700), os.WriteFile(filepath.Join(run, Marker), nil, 0o600), os.Symlink(run, link),
		os.Mkdir(linked, 0o700), os.Symlink("/dev/null", filepath.Join(linked, Marker)))
	for _, dir := range []string{plain, link, linked, "run", "", filepath.Join(base, "none"), filepath.Join(run, Marker)} {
		j := exec.Command("/proc/self/exe", janitorRole, dir)
		j.Dir = base
		if err := j.Run(); err == nil {
			t.Errorf("it takes %q", dir)
		}
	}
	for _, dir := range []string{plain, run, linked} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestShimIsPID1OrNothing(t *testing.T) {
	if code := runPID1(); code != exitInternal {
		t.Errorf("exit code %d", code)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
