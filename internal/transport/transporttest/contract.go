//go:build linux

package transporttest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"agentbox/internal/shimwire"
	"agentbox/internal/transport"
)

// Run is the contract. It opens the transport anew for each part.
func Run(t *testing.T, tr transport.Transport) {
	for _, part := range []struct {
		name string
		test func(*testing.T, transport.Transport)
	}{
		{"TCP", testTCP}, {"UDP", testUDP}, {"HalfClose", testHalfClose}, {"Parallel", testParallel},
		{"ManyListeners", testManyListeners}, {"NoListeners", testNoListeners},
		{"ExitCodes", testExitCodes}, {"NotStarted", testNotStarted}, {"Agent", testAgent}, {"Orphans", testOrphans},
		{"PID1", testPID1}, {"Signals", testSignals}, {"Files", testFiles}, {"SelfTest", testSelfTest},
		{"Canary", testCanary}, {"Once", testOnce}, {"HostDies", testHostDies}, {"HostIsKilled", testHostIsKilled},
		{"ShimDies", testShimDies}, {"Order", testOrder}, {"Terminal", testTerminal}, {"JobControl", testJobControl}, {"Cancel", testCancel},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, tr) })
	}
}

// Session is a container with its link, up to the point that the test asked for.
type Session struct {
	t        testing.TB
	Dir      string
	Link     *transport.Link
	Cmd      *exec.Cmd
	Out, Err bytes.Buffer
	exited   chan struct{}
}

// Context is bounded by patience.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// Open starts a container and accepts its shim. prepare, if any, changes the command before it is started.
func Open(t testing.TB, tr transport.Transport, cfg shimwire.Config, prepare func(*exec.Cmd)) *Session {
	t.Helper()
	s := &Session{t: t, Dir: RunDir(t)}
	endpoint, err := tr.Listen(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = endpoint.Close() })
	s.Cmd = Container(s.Dir, "")
	s.Cmd.Stdout, s.Cmd.Stderr = &s.Out, &s.Err
	if prepare != nil {
		prepare(s.Cmd)
	}
	if err := s.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.exited = make(chan struct{})
	ctx, cancel := context.WithCancelCause(Context(t))
	go func() {
		defer close(s.exited)
		_ = s.Cmd.Wait() // the state says it all
		cancel(errors.New("the container ends: " + s.Cmd.ProcessState.String()))
	}()
	t.Cleanup(s.stop)
	if s.Link, err = endpoint.Accept(ctx, cfg); err != nil {
		t.Fatalf("%v; the container says %q", err, &s.Err)
	}
	return s
}

func (s *Session) stop() {
	if s.Link != nil {
		if err := s.Link.Close(); err != nil {
			s.t.Errorf("closing the link: %v", err)
		}
	}
	_ = s.Cmd.Process.Kill() // it has ended, if the link is worth anything
	<-s.exited
	if s.t.Failed() {
		s.t.Logf("out %q, err %q", &s.Out, &s.Err)
	}
}

// Start takes the conversation from the listeners to the running agent.
func (s *Session) Start() {
	s.t.Helper()
	result, err := s.Link.Ready(Context(s.t))
	if err != nil {
		s.t.Fatalf("%v; the container says %q", err, &s.Err)
	}
	for _, c := range result.Checks {
		if !c.OK {
			s.t.Errorf("self-test: %s: %s", c.Name, c.Detail)
		}
	}
	if err := s.Link.Start(); err != nil {
		s.t.Fatal(err)
	}
	if m := s.Next(); m.Started == nil {
		s.t.Fatalf("got %+v, not started", m)
	}
}

// Next is the next message.
func (s *Session) Next() shimwire.Message {
	s.t.Helper()
	select {
	case m, ok := <-s.Link.Messages():
		if !ok {
			s.t.Fatalf("the shim is gone: %v; the container says %q", s.Link.Err(), &s.Err)
		}
		return m
	case <-time.After(patience):
		s.t.Fatal("the shim is silent")
		return shimwire.Message{}
	}
}

// Ended waits for the agent's end and checks that the container ends the same way.
func (s *Session) Ended(want shimwire.Exit) {
	s.t.Helper()
	if m := s.Next(); m.Exit == nil || *m.Exit != want {
		s.t.Errorf("got %s, want exit %+v", show(m), want)
	}
	if m, ok := <-s.Link.Messages(); ok {
		s.t.Errorf("after the exit: %s", show(m))
	}
	if err := s.Link.Err(); err != nil {
		s.t.Errorf("a clean end gives %v", err)
	}
	code := want.Code
	if want.Signal != 0 {
		code = 128 + want.Signal
	}
	s.Exited(code)
}

// Exited waits for the container and checks its exit code.
func (s *Session) Exited(code int) {
	s.t.Helper()
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Fatal("the container does not end")
	}
	if got := s.Cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("the container exits with %d, want %d; it says %q", got, code, &s.Err)
	}
}

func show(m shimwire.Message) string {
	line, err := shimwire.Encode(m)
	return fmt.Sprint(strings.TrimSpace(string(line)), err)
}

func config(a shimwire.Agent, listen ...shimwire.Listen) shimwire.Config {
	return shimwire.Config{Listen: listen, Agent: a, SelfTest: Expect()}
}

func tcp(addr string) shimwire.Listen { return shimwire.Listen{Network: "tcp4", Addr: addr} }
func udp(addr string) shimwire.Listen { return shimwire.Listen{Network: "udp4", Addr: addr} }

// serve answers every connection of every TCP listener with f until the link ends.
func serve(s *Session, f func(net.Conn) error) {
	var wg sync.WaitGroup
	for _, b := range s.Link.Listeners() {
		if b.TCP == nil {
			continue
		}
		wg.Go(func() {
			for {
				c, err := b.TCP.Accept()
				if err != nil {
					return
				}
				wg.Go(func() {
					if err := errors.Join(f(c), c.Close()); err != nil {
						s.t.Errorf("serving %v: %v", c.LocalAddr(), err)
					}
				})
			}
		})
	}
	s.t.Cleanup(func() {
		for _, b := range s.Link.Listeners() {
			if b.TCP != nil {
				_ = b.TCP.Close()
			}
		}
		wg.Wait()
	})
}

func testTCP(t *testing.T, tr transport.Transport) {
	s := Open(t, tr, config(Probe("dial", "127.0.0.1:3128", "127.0.0.1:80", "127.9.8.7:443", "127.0.0.5:443"),
		tcp("127.0.0.1:3128"), tcp("0.0.0.0:80"), tcp("0.0.0.0:443")), nil)
	for i, b := range s.Link.Listeners() {
		if b.TCP == nil || b.TCP.Addr().String() != b.Listen.Addr {
			t.Errorf("listener %d: %+v", i, b)
		}
	}
	serve(s, func(c net.Conn) error {
		if !strings.HasPrefix(c.RemoteAddr().String(), "127.") {
			t.Errorf("remote address %v", c.RemoteAddr())
		}
		_, err := fmt.Fprint(c, c.LocalAddr())
		return err
	})
	s.Start()
	s.Ended(shimwire.Exit{})
	want := "127.0.0.1:3128\n127.0.0.1:80\n127.9.8.7:443\n127.0.0.5:443\n"
	if s.Out.String() != want {
		t.Errorf("the agent saw %q, want %q", &s.Out, want)
	}
}

func testUDP(t *testing.T, tr transport.Transport) {
	s := Open(t, tr, config(Probe("udp", "127.0.0.1:53"), udp("127.0.0.1:53"), tcp("127.0.0.1:53")), nil)
	conn := s.Link.Listeners()[0].UDP
	if conn == nil || conn.LocalAddr().String() != "127.0.0.1:53" {
		t.Fatalf("%+v", s.Link.Listeners()[0])
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1000)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if _, err := conn.WriteTo(append([]byte("answer to "), buf[:n]...), from); err != nil {
				t.Errorf("answering: %v", err)
			}
		}
	}()
	s.Start()
	s.Ended(shimwire.Exit{})
	if err := conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Error(err)
	}
	<-done
	var want strings.Builder
	for i := range 6 {
		fmt.Fprintf(&want, "answer to question %d.%d\n", i/2, i%2)
	}
	if s.Out.String() != want.String() {
		t.Errorf("the agent saw %q", &s.Out)
	}
}

func testHalfClose(t *testing.T, tr transport.Transport) {
	s := Open(t, tr, config(Probe("half", "127.0.0.1:1001", "127.0.0.1:1002"), tcp("127.0.0.1:1001"), tcp("127.0.0.1:1002")), nil)
	heard := make(chan string, 2)
	serve(s, func(c net.Conn) error {
		if strings.HasSuffix(c.LocalAddr().String(), ":1002") {
			if err := errors.Join(write(c, "first word"), c.(interface{ CloseWrite() error }).CloseWrite()); err != nil {
				return err
			}
			text, err := io.ReadAll(c)
			heard <- string(text)
			return err
		}
		text, err := io.ReadAll(c) // ends with the agent's direction only
		return errors.Join(err, write(c, "answer to "+string(text)))
	})
	s.Start()
	s.Ended(shimwire.Exit{})
	if got := <-heard; got != "after first word" {
		t.Errorf("the host heard %q", got)
	}
	if s.Out.String() != "answer to question\n" {
		t.Errorf("the agent saw %q", &s.Out)
	}
}

func write(c net.Conn, text string) error {
	_, err := io.WriteString(c, text)
	return err
}

func testParallel(t *testing.T, tr transport.Transport) {
	s := Open(t, tr, config(Probe("flood", "127.0.0.1:3128", "200"), tcp("127.0.0.1:3128")), nil)
	serve(s, func(c net.Conn) error {
		_, err := io.Copy(c, c)
		return errors.Join(err, c.(interface{ CloseWrite() error }).CloseWrite())
	})
	s.Start()
	s.Ended(shimwire.Exit{})
}

// testManyListeners needs more descriptors than go beside one message.
func testManyListeners(t *testing.T, tr transport.Transport) {
	var listen []shimwire.Listen
	for i := range 300 {
		listen = append(listen, tcp(fmt.Sprintf("127.0.0.1:%d", 2000+i)))
	}
	s := Open(t, tr, config(Probe("dial", "127.0.0.1:2000", "127.0.0.1:2252", "127.0.0.1:2253", "127.0.0.1:2299"), listen...), nil)
	serve(s, func(c net.Conn) error { return write(c, c.LocalAddr().String()) })
	s.Start()
	s.Ended(shimwire.Exit{})
	if want := "127.0.0.1:2000\n127.0.0.1:2252\n127.0.0.1:2253\n127.0.0.1:2299\n"; s.Out.String() != want {
		t.Errorf("the agent saw %q", &s.Out)
	}
}

func testNoListeners(t *testing.T, tr transport.Transport) {
	s := Open(t, tr, config(Shell("exit 3")), nil)
	if n := len(s.Link.Listeners()); n != 0 {
		t.Errorf("%d listeners", n)
	}
	s.Start()
	s.Ended(shimwire.Exit{Code: 3})
}

func testExitCodes(t *testing.T, tr transport.Transport) {
	for script, want := range map[string]shimwire.Exit{
		"exit 0": {}, "exit 7": {Code: 7}, "exit 255": {Code: 255}, "kill -9 $$": {Signal: 9}, "kill -TERM $$": {Signal: 15},
		"sleep 1000 & exit 4": {Code: 4}, // what it leaves behind ends with it
	} {
		t.Run(script, func(t *testing.T) {
			s := Open(t, tr, config(Shell(script)), nil)
			s.Start()
			s.Ended(want)
		})
	}
}

func testNotStarted(t *testing.T, tr transport.Transport) {
	wrongDir := Shell("exit 0")
	wrongDir.Dir = "/no/such/directory"
	terminal := Shell("exit 0")
	terminal.Terminal = true
	for name, c := range map[string]struct {
		agent shimwire.Agent
		kind  string
		code  int
	}{
		"no such name":        {Agent("no-such-program"), shimwire.ErrNotFound, 127},
		"no such path":        {Agent("/no/such/program"), shimwire.ErrNotFound, 127},
		"empty name":          {Agent(""), shimwire.ErrNotFound, 127},
		"not executable":      {Agent("/etc/passwd"), shimwire.ErrNotExecutable, 127},
		"a directory":         {Agent("/usr"), shimwire.ErrNotExecutable, 127},
		"no such interpreter": {Agent("/run/text"), shimwire.ErrNotExecutable, 127},
		"no command":          {Agent(), shimwire.ErrInternal, 125},
		"no such directory":   {wrongDir, shimwire.ErrInternal, 125},
		"no terminal":         {terminal, shimwire.ErrInternal, 125},
	} {
		t.Run(name, func(t *testing.T) {
			s := Open(t, tr, config(c.agent), nil)
			if _, err := s.Link.Ready(Context(t)); err != nil {
				t.Fatal(err)
			}
			if err := s.Link.Start(); err != nil {
				t.Fatal(err)
			}
			if m := s.Next(); m.Error == nil || m.Error.Kind != c.kind || m.Error.Text == "" {
				t.Errorf("got %s, want error %s", show(m), c.kind)
			}
			if m, ok := <-s.Link.Messages(); ok {
				t.Errorf("then %s", show(m))
			}
			s.Exited(c.code)
		})
	}
}

// testAgent looks at what the agent is born with.
func testAgent(t *testing.T, tr transport.Transport) {
	a := Shell(`i=3; while [ $i -lt 300 ]; do [ -e /proc/self/fd/$i ] && echo open $i; i=$((i+1)); done
		ulimit -c; ulimit -n; ulimit -u 2>/dev/null || ulimit -p; pwd; umask
		while read name value; do case $name in SigBlk:|SigIgn:|CapEff:|CapBnd:|NoNewPrivs:) echo $name $value;; esac; done </proc/self/status
		exec env`)
	a.Dir, a.Nproc, a.Nofile = "/usr", 4000, 512
	a.Env = []string{"PATH=/nowhere:relative:/usr/bin:/bin", "GODEBUG=x=1", "A=b=c", "EMPTY="}
	s := Open(t, tr, config(a, tcp("127.0.0.1:3128")), func(c *exec.Cmd) { c.Env = append(c.Env, "SECRET=1") })
	s.Start()
	s.Ended(shimwire.Exit{})
	lines := strings.Split(strings.TrimSpace(s.Out.String()), "\n")
	want := []string{"0", "512", "4000", "/usr", "0022", "SigBlk: 0000000000000000", "SigIgn: 0000000000000000",
		"CapBnd: 0000000000000000", "CapEff: 0000000000000000", "NoNewPrivs: 1",
		"PATH=/nowhere:relative:/usr/bin:/bin", "GODEBUG=x=1", "A=b=c", "EMPTY=", "PWD=/usr"}
	for _, w := range want {
		if !contains(lines, w) {
			t.Errorf("the agent lacks %q", w)
		}
	}
	if len(lines) != len(want) {
		t.Errorf("the agent has %q, want %q", lines, want)
	}
}

func contains(lines []string, line string) bool {
	for _, l := range lines {
		if l == line {
			return true
		}
	}
	return false
}

func testOrphans(t *testing.T, tr transport.Transport) {
	s := Open(t, tr, config(Probe("orphans")), nil)
	s.Start()
	s.Ended(shimwire.Exit{})
}

func testPID1(t *testing.T, tr transport.Transport) {
	s := Open(t, tr, config(Probe("pid1"), tcp("127.0.0.1:3128")), nil)
	s.Start()
	s.Ended(shimwire.Exit{})
	if s.Out.Len() > 0 {
		t.Errorf("the agent gets at PID 1: %q", &s.Out)
	}
}

// testSignals sends one by the conversation and one to PID 1 itself.
func testSignals(t *testing.T, tr transport.Transport) {
	const script = `trap 'exit 41' TERM; trap 'exit 42' USR1; echo trapped >&2; while :; do read x || exit 9; done`
	for name, c := range map[string]struct {
		send func(*Session) error
		code int
	}{
		"message":  {func(s *Session) error { return s.Link.Signal(int(unix.SIGUSR1)) }, 42},
		"to PID 1": {func(s *Session) error { return s.Cmd.Process.Signal(unix.SIGTERM) }, 41},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := pipe(t)
			in, _ := pipe(t)
			s := Open(t, tr, config(Shell(script)), func(cmd *exec.Cmd) { cmd.Stderr, cmd.Stdin = w, in })
			_ = w.Close()
			s.Start()
			if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || line != "trapped\n" {
				t.Fatalf("%q %v", line, err)
			}
			if err := c.send(s); err != nil {
				t.Fatal(err)
			}
			s.Ended(shimwire.Exit{Code: c.code})
		})
	}
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

func testFiles(t *testing.T, tr transport.Transport) {
	cfg := config(Shell(`cat /tmp/a/b/c /tmp/d; stat -c '%n %a' /tmp/a /tmp/a/b /tmp/a/b/c /tmp/d`))
	cfg.SelfTest.Empty = nil
	cfg.Files = []shimwire.File{{Path: "/tmp/a/b/c", Mode: 0o600, Content: []byte("one ")}, {Path: "/tmp/d", Mode: 0o755, Content: []byte("two\n")}}
	s := Open(t, tr, cfg, nil)
	s.Start()
	s.Ended(shimwire.Exit{})
	if want := "one two\n/tmp/a 700\n/tmp/a/b 700\n/tmp/a/b/c 600\n/tmp/d 755\n"; s.Out.String() != want {
		t.Errorf("the agent saw %q, want %q", &s.Out, want)
	}
}

// testSelfTest breaks one promise at a time; the check of that name alone must fail, and the agent never starts.
func testSelfTest(t *testing.T, tr transport.Transport) {
	for name, spoil := range map[string]func(*shimwire.Config){
		"read-only":  func(c *shimwire.Config) { c.SelfTest.ReadOnly = []string{"/", "/tmp"} },
		"absent":     func(c *shimwire.Config) { c.SelfTest.Absent = []string{"/run/empty"} },
		"hidden":     func(c *shimwire.Config) { c.SelfTest.Empty = []string{"/usr"} },
		"unreadable": func(c *shimwire.Config) { c.SelfTest.Unreadable = []string{"/run/empty"} },
		"identity":   func(c *shimwire.Config) { c.SelfTest.UID++ },
		"canary":     func(c *shimwire.Config) { c.SelfTest.Proxy, c.SelfTest.Canary = "127.0.0.1:9", "canary.invalid:443" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(Shell("echo it runs"))
			spoil(&cfg)
			s := Open(t, tr, cfg, nil)
			result, err := s.Link.Ready(Context(t))
			if err != nil {
				t.Fatal(err)
			}
			onlyFails(t, result, name)
			if err := s.Link.Start(); err != nil {
				t.Fatal(err)
			}
			for m := range s.Link.Messages() {
				t.Errorf("got %s", show(m))
			}
			s.Exited(126)
			if s.Out.Len() > 0 {
				t.Errorf("the agent ran: %q", &s.Out)
			}
		})
	}
	for flaw, name := range map[string]string{"no-seccomp": "seccomp", "leak": "descriptors", "new-privileges": "no new privileges"} {
		t.Run(flaw, func(t *testing.T) {
			cfg := config(Shell("echo it runs"))
			cfg.SelfTest.Seccomp = flaw != "new-privileges" // one comes with the other
			s := Open(t, tr, cfg, func(c *exec.Cmd) { c.Args[2] = flaw })
			result, err := s.Link.Ready(Context(t))
			if err != nil {
				t.Fatal(err)
			}
			onlyFails(t, result, name)
		})
	}
}

func onlyFails(t *testing.T, result shimwire.SelfTest, name string) {
	t.Helper()
	for _, c := range result.Checks {
		if c.OK == (c.Name == name) {
			t.Errorf("%s: %v %s", c.Name, c.OK, c.Detail)
		}
	}
}

func testCanary(t *testing.T, tr transport.Transport) {
	for status, want := range map[string]bool{"403 Forbidden": true, "200 OK": false, "502 Bad Gateway": false, "4030": false, "": false} {
		t.Run(status, func(t *testing.T) {
			cfg := config(Shell("exit 0"), tcp("127.0.0.1:3128"))
			cfg.SelfTest.Proxy, cfg.SelfTest.Canary = "127.0.0.1:3128", "canary.invalid:443"
			s := Open(t, tr, cfg, nil)
			serve(s, func(c net.Conn) error {
				line, err := bufio.NewReader(c).ReadString('\n')
				if line != "CONNECT canary.invalid:443 HTTP/1.1\r\n" {
					t.Errorf("the canary asks %q", line)
				}
				if status == "" {
					return err
				}
				return errors.Join(err, write(c, "HTTP/1.1 "+status+"\r\n\r\n"))
			})
			result, err := s.Link.Ready(Context(t))
			if err != nil {
				t.Fatal(err)
			}
			last := result.Checks[len(result.Checks)-1]
			if last.Name != "canary" || last.OK != want {
				t.Errorf("%+v", last)
			}
		})
	}
}

// testOnce: nobody can connect after the shim, neither outside nor inside.
func testOnce(t *testing.T, tr transport.Transport) {
	s := Open(t, tr, config(Shell("test -e /run/agentbox/host.sock && echo it is there")), nil)
	if _, err := net.Dial("unix", filepath.Join(s.Dir, "host.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a second connection: %v", err)
	}
	s.Start()
	s.Ended(shimwire.Exit{Code: 1})
	if s.Out.Len() > 0 {
		t.Errorf("inside: %q", &s.Out)
	}
}

// tree is an agent that fills the container with processes that ignore every signal, all holding its output.
const tree = `trap '' HUP INT TERM QUIT; for i in 1 2 3; do (trap '' HUP INT TERM; setsid sleep 1000) & done; echo up; sleep 1000`

func testHostDies(t *testing.T, tr transport.Transport) {
	r, w := pipe(t)
	s := Open(t, tr, config(Shell(tree)), func(c *exec.Cmd) { c.Stdout = w })
	_ = w.Close()
	s.Start()
	waitUp(t, r)
	if err := s.Link.Close(); err != nil {
		t.Error(err)
	}
	allGone(t, r)
	s.Exited(137)
}

// testHostIsKilled kills the process that holds the link; nobody is left to say goodbye.
func testHostIsKilled(t *testing.T, tr transport.Transport) {
	r, w := pipe(t)
	host := exec.Command("/proc/self/exe")
	host.Args = []string{hostAs, RunDir(t), string(tr.Mode())}
	host.Stdout, host.Stderr = w, os.Stderr
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	waitUp(t, r)
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait()
	allGone(t, r)
}

func waitUp(t *testing.T, r *os.File) {
	t.Helper()
	line, err := bufio.NewReaderSize(r, 16).ReadString('\n')
	if err != nil || line != "up\n" {
		t.Fatalf("the agent says %q, %v", line, err)
	}
}

// allGone waits until nobody holds the other end of r.
func allGone(t *testing.T, r *os.File) {
	t.Helper()
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil {
		t.Errorf("something lives on: %q, %v", rest, err)
	}
}

// becomeHost runs tree in a container until it is killed.
func becomeHost(dir, mode string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	endpoint, err := transport.New(shimwire.Mode(mode)).Listen(dir)
	if err != nil {
		return err
	}
	cmd := Container(dir, "")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	link, err := endpoint.Accept(ctx, config(Shell(tree), tcp("127.0.0.1:3128")))
	if err != nil {
		return err
	}
	if _, err := link.Ready(ctx); err != nil {
		return err
	}
	if err := link.Start(); err != nil {
		return err
	}
	for m := range link.Messages() {
		if m.Started == nil {
			return errors.New(show(m))
		}
	}
	return link.Err()
}

func testShimDies(t *testing.T, tr transport.Transport) {
	s := Open(t, tr, config(Shell("sleep 1000"), tcp("127.0.0.1:3128")), nil)
	s.Start()
	if err := s.Cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for m := range s.Link.Messages() {
		t.Errorf("got %s", show(m))
	}
	if s.Link.Err() == nil {
		t.Error("it looks like a clean end")
	}
	if err := s.Link.Signal(15); err == nil {
		t.Error("a signal goes to nobody")
	}
}

// testOrder: the host's own calls out of their turn are errors and change nothing.
func testOrder(t *testing.T, tr transport.Transport) {
	s := Open(t, tr, config(Shell("exit 5")), nil)
	for name, f := range map[string]func() error{
		"start": s.Link.Start, "continue": s.Link.Continue,
		"signal": func() error { return s.Link.Signal(1) }, "resize": func() error { return s.Link.Resize(1, 1) },
	} {
		if err := f(); err == nil {
			t.Errorf("%s is possible before the self-test", name)
		}
	}
	s.Start()
	if err := s.Link.Start(); err == nil {
		t.Error("starting twice is possible")
	}
	s.Ended(shimwire.Exit{Code: 5})
}

func testCancel(t *testing.T, tr transport.Transport) {
	dir := RunDir(t)
	endpoint, err := tr.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := endpoint.Accept(ctx, config(Shell("exit 0"))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.sock"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// terminal runs script in a container with a terminal; held says whether it is the session's already, as a
// container runtime leaves it, or the shim has to take it.
func terminal(t *testing.T, tr transport.Transport, script string, held bool) (*Session, *os.File, *bufio.Reader) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	a := Shell(script)
	a.Terminal, a.Size = true, shimwire.Size{Rows: 31, Cols: 97}
	s := Open(t, tr, config(a), func(c *exec.Cmd) {
		c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
		c.SysProcAttr.Setsid, c.SysProcAttr.Setctty = held, held
	})
	t.Cleanup(func() { _ = master.Close() })
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	s.Start()
	if err := master.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return s, master, bufio.NewReader(master)
}

// sees reads up to a line.
func sees(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if strings.TrimSpace(line) == want {
			return
		}
		if err != nil {
			t.Fatalf("the terminal never shows %q: %q, %v", want, line, err)
		}
	}
}

func testTerminal(t *testing.T, tr transport.Transport) {
	for _, held := range []bool{true, false} {
		t.Run(fmt.Sprint("held ", held), func(t *testing.T) {
			s, _, r := terminal(t, tr, `stty size; trap 'stty size; exit 6' WINCH; sleep 1000 & echo ready; wait`, held)
			sees(t, r, "31 97")
			sees(t, r, "ready")
			if err := s.Link.Resize(33, 101); err != nil {
				t.Fatal(err)
			}
			sees(t, r, "33 101")
			s.Ended(shimwire.Exit{Code: 6})
		})
	}
}

// testJobControl types the suspend character, and the interrupt character after the agent went on.
func testJobControl(t *testing.T, tr transport.Transport) {
	s, master, r := terminal(t, tr, `echo ready; while read x; do echo "got $x"; done`, true)
	sees(t, r, "ready")
	for _, word := range []string{"one", "two"} {
		if _, err := master.Write([]byte{0x1a}); err != nil {
			t.Fatal(err)
		}
		if m := s.Next(); m.Stopped == nil || m.Stopped.Signal != int(unix.SIGTSTP) {
			t.Fatalf("got %s", show(m))
		}
		if err := s.Link.Continue(); err != nil {
			t.Fatal(err)
		}
		if _, err := master.WriteString(word + "\n"); err != nil {
			t.Fatal(err)
		}
		sees(t, r, "got "+word)
	}
	if _, err := master.Write([]byte{0x03}); err != nil {
		t.Fatal(err)
	}
	s.Ended(shimwire.Exit{Signal: int(unix.SIGINT)})
}
