package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"agentbox/internal/sys"
)

// line is a person's terminal, byte by byte: what is typed into it and what comes out of it.
type line struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	slave  *os.File // kept open, so that the terminal outlives the program
	before unix.Termios

	mu   sync.Mutex
	out  []byte
	seen int // bytes of out that expect has passed
	more chan struct{}
}

// onTerminal runs cmd on a terminal of 30 rows and 100 columns.
func onTerminal(t *testing.T, cmd *exec.Cmd) *line {
	t.Helper()
	return onTerminalBut(t, cmd, nil)
}

// onTerminalBut is onTerminal for a program whose standard output leads elsewhere, if elsewhere is not nil.
func onTerminalBut(t *testing.T, cmd *exec.Cmd, elsewhere io.Reader) *line {
	t.Helper()
	l := &line{t: t, cmd: cmd, more: make(chan struct{}, 1)}
	var err error
	l.master, l.slave, err = pty.Open()
	must(t, err)
	l.resize(30, 100)
	l.before = l.modes()
	cmd.Stdin, cmd.Stderr = l.slave, l.slave
	if elsewhere == nil {
		cmd.Stdout = l.slave
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must(t, cmd.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		l.read()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended, unless the test failed
		_ = l.slave.Close()
		_ = l.master.Close()
		<-read
	})
	return l
}

func (l *line) read() {
	buf := make([]byte, 32<<10)
	for {
		n, err := l.master.Read(buf)
		l.mu.Lock()
		l.out = append(l.out, buf[:n]...)
		l.mu.Unlock()
		select {
		case l.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// expect waits until text appears after what earlier calls have found.
func (l *line) expect(text string) *line {
	l.t.Helper()
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	for !l.find(text) {
		select {
		case <-l.more:
		case <-patience.C:
			l.mu.Lock()
			defer l.mu.Unlock()
			l.t.Fatalf("waiting for %q; the terminal shows %q", text, l.out[l.seen:])
		}
	}
	return l
}

func (l *line) find(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := bytes.Index(l.out[l.seen:], []byte(text))
	if at >= 0 {
		l.seen += at + len(text)
	}
	return at >= 0
}

// all is what it has shown so far.
func (l *line) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.out)
}

func (l *line) send(text string) *line {
	l.t.Helper()
	_, err := l.master.WriteString(text)
	must(l.t, err)
	return l
}

func (l *line) resize(rows, cols uint16) {
	l.t.Helper()
	must(l.t, pty.Setsize(l.master, &pty.Winsize{Rows: rows, Cols: cols}))
}

func (l *line) modes() unix.Termios {
	l.t.Helper()
	modes, err := unix.IoctlGetTermios(int(l.slave.Fd()), sys.GetTermios)
	must(l.t, err)
	return *modes
}

// ends waits for the program's end with this exit code, and for a terminal that is what it was.
func (l *line) ends(code int) {
	l.t.Helper()
	_ = l.cmd.Wait() // the code says it
	if got := l.cmd.ProcessState.ExitCode(); got != code {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.t.Fatalf("exit code %d, want %d; the terminal shows %q", got, code, l.out)
	}
	if now := l.modes(); now != l.before {
		l.t.Errorf("the terminal's modes are %+v, want %+v", now, l.before)
	}
}

// terminal runs agentbox on a terminal.
func (b *box) terminal(args ...string) *line {
	b.t.Helper()
	return onTerminal(b.t, b.command(args...))
}

func TestInteractiveShell(t *testing.T) {
	b := newBox(t)
	b.setenv("SHELL", "/bin/bash")
	l := b.terminal("run", "shell")
	l.expect("$ ").send("echo is-$((40+2)) tty-$(tty)\r").expect("is-42 tty-/dev/")
	l.send("stty size\r").expect("30 100")

	// a resize reaches the program in the foreground
	l.send(`sh -c 'trap "stty size; exit" WINCH; echo wait-$((1+1)); sleep 1000 & wait'` + "\r").expect("wait-2")
	l.resize(41, 133)
	l.expect("41 133")

	// Ctrl-C ends the inner command only
	l.send("sh -c 'echo long-$((1+2)); exec sleep 1000'\r").expect("long-3").send("\x03").send("echo then-$?\r").expect("then-130")

	// job control is the inner shell's
	l.send("echo up-$((2+2)); sed -u s/x/yz/\r").expect("up-4").send("axb\r").expect("ayzb").send("\x1a").expect("Stopped")
	l.send("echo alive-$((5+5))\r").expect("alive-10").send("fg\r").expect("fg").expect("sed -u s/x/yz/")
	l.send("cxd\r").expect("cyzd").send("\x04")

	// Ctrl-D ends the shell, with the last exit code
	l.send("echo over-$((6+6)); (exit 9)\r").expect("over-12").expect("$ ").send("\x04")
	l.ends(9)
	l.expect("the agent ended with exit code 9").expect("log ")
}

// outerShell is the person's own interactive shell on a terminal, from which agentbox is run.
func (b *box) outerShell() *line {
	b.t.Helper()
	cmd := b.command()
	b.setenv("AGENTBOX", cmd.Path)
	cmd = exec.CommandContext(b.t.Context(), "bash", "--norc", "--noprofile", "-i")
	cmd.Dir, cmd.Env = b.repo, append(b.env, "PS1=outer> ", "TERM=dumb")
	return onTerminal(b.t, cmd).expect("outer> ")
}

func TestSuspendOfAnAgent(t *testing.T) {
	b := newBox(t)
	l := b.outerShell()
	l.send("stty -g >../before; \"$AGENTBOX\" run shell -q -- sh -c 'echo up-$((1+1)); exec sed -u s/x/yz/'\r").expect("up-2")
	l.send("axb\r").expect("ayzb")
	for i := range 3 {
		l.send("\x1a").expect("Stopped").expect("outer> ")
		l.send("stty -g >../stopped; jobs; echo meanwhile-$((1+1))\r").expect("Stopped").expect("meanwhile-2").expect("outer> ")
		if before, stopped := b.read("../before"), b.read("../stopped"); before != stopped || len(before) < 50 {
			t.Errorf("the terminal was\n%s\nand while agentbox is stopped it is\n%s", before, stopped)
		}
		l.resize(uint16(31+i), 90)
		l.send("fg\r").expect("fg").expect("run shell")
		l.send(fmt.Sprintf("c%dxd\r", i)).expect(fmt.Sprintf("c%dyzd", i))
	}
	l.send("\x04").expect("outer> ").send("echo code-$?\r").expect("code-0").expect("outer> ")
	l.send("stty -g >../after; exit 5\r")
	l.ends(5)
	if before, after := b.read("../before"), b.read("../after"); before != after {
		t.Errorf("the terminal was\n%s\nand is\n%s", before, after)
	}
}

func TestSizeIsFollowedWhileSuspended(t *testing.T) {
	b := newBox(t)
	l := b.outerShell()
	l.send("\"$AGENTBOX\" run shell -q -- sh -c 'echo up-$((1+1)); read a; stty size; exit 4'\r").expect("up-2")
	l.send("\x1a").expect("Stopped").expect("outer> ")
	l.resize(17, 71)
	l.send("fg\r").expect("run shell").send("\r").expect("17 71").expect("outer> ").send("exit\r")
	l.ends(4)
}

// An interrupt before the agent has the terminal ends agentbox itself, one after it goes to the agent.
func TestInterruptsGoToTheAgent(t *testing.T) {
	b := newBox(t)
	l := b.terminal("run", "shell", "--", "sh", "-c", `trap 'echo caught-$((1+1))' INT; echo up-$((1+1)); read a; read a; exit 6`)
	l.expect("up-2").send("\x03").expect("caught-2").send("\x03").expect("caught-2").send("\r\r\r")
	l.ends(6)
}

func TestStopRestoresTheTerminal(t *testing.T) {
	b := newBox(t)
	for _, force := range []bool{false, true} {
		l := b.terminal("run", "shell", "--", "sh", "-c", "stty raw -echo; echo up-$((1+1)); exec sleep 1000")
		l.expect("up-2")
		args := []string{"stop", b.onlyRun()}
		if force {
			args = append(args, "--force")
		}
		b.agentbox(args...).exits(0)
		l.ends(137)
		l.expect("stopped by agentbox stop")
	}
}

// onlyRun is the id of the one run that is live.
func (b *box) onlyRun() string {
	b.t.Helper()
	var rows []struct {
		ID string `json:"id"`
	}
	out := b.agentbox("ps", "--json").exits(0).out
	if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != 1 {
		b.t.Fatalf("agentbox ps --json says %q (%v), want one run", out, err)
	}
	return rows[0].ID
}

// Every byte reaches a program that reads the terminal raw: Ctrl-P and Ctrl-Q, which Podman takes for "detach", Ctrl-C
// and Ctrl-Z, zero, and what is no UTF-8. So does a large paste, whole and in order.
func TestEveryByteReachesTheAgent(t *testing.T) {
	b := directBox(t)
	var all []byte
	for len(all) < 100_000 {
		for c := range 256 {
			all = append(all, byte(c), byte(len(all)>>8))
		}
		all = append(all, "\x10\x11 \x10\x10\x11 ünïcödé 日本語 🦊\x1b[200~"...)
	}
	script := fmt.Sprintf("stty raw -echo; echo up-$((1+1)); head -c %d >got; echo done-$((1+1))", len(all))
	l := b.terminal("run", "shell", "--", "sh", "-c", script).expect("up-2")
	l.send(string(all)).expect("done-2")
	l.ends(0)
	if got := b.read("got"); got != string(all) {
		t.Errorf("%d bytes arrived otherwise than sent (%d)", len(got), len(all))
	}
}

// A paste into a program that reads line by line is paced by the terminal; its echo comes back whole.
func TestALargePasteOfLines(t *testing.T) {
	b := directBox(t)
	var text strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&text, "%05d ünïcödé 日本語 lines of a paste that is large\n", i)
	}
	l := b.terminal("run", "shell", "--", "sh", "-c", "stty -echo; echo up-$((1+1)); cat | tee got; exit 3").expect("up-2")
	l.send(text.String()).expect("01999 ünïcödé 日本語 lines of a paste that is large\r\n").send("\x04")
	l.ends(3)
	if got := b.read("got"); got != text.String() {
		t.Errorf("%d bytes arrived otherwise than sent (%d)", len(got), text.Len())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if echo := strings.ReplaceAll(text.String(), "\n", "\r\n"); !strings.Contains(string(l.out), echo) {
		t.Error("what the agent printed did not come out whole")
	}
}
