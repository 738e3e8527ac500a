package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agentbox/internal/event"
)

// live is a run that goes on while the test looks at it.
type live struct {
	b      *box
	cmd    *exec.Cmd
	pipe   io.ReadCloser
	input  io.WriteCloser // nil is none
	out    *bufio.Reader
	errors strings.Builder
}

// start starts a script inside, which says "ready" when it is.
func (b *box) start(script string, flags ...string) *live {
	b.t.Helper()
	l := b.launch(append(append([]string{"run", "shell"}, flags...), "--", "sh", "-c", script)...)
	l.line("ready")
	return l
}

// launch starts agentbox and does not wait.
func (b *box) launch(args ...string) *live {
	b.t.Helper()
	return b.launchCommand(b.command(args...))
}

func (b *box) launchCommand(cmd *exec.Cmd) *live {
	b.t.Helper()
	return (&live{b: b, cmd: cmd}).launch()
}

// launchWithInput leaves its standard input open.
func (b *box) launchWithInput(args ...string) *live {
	b.t.Helper()
	l := &live{b: b, cmd: b.command(args...)}
	var err error
	l.input, err = l.cmd.StdinPipe()
	must(b.t, err)
	return l.launch()
}

func (l *live) launch() *live {
	b := l.b
	b.t.Helper()
	var err error
	l.pipe, err = l.cmd.StdoutPipe()
	must(b.t, err)
	l.out = bufio.NewReader(l.pipe)
	l.cmd.Stderr = &l.errors
	must(b.t, l.cmd.Start())
	b.t.Cleanup(func() { _ = l.cmd.Process.Kill() }) // it has ended, unless the test failed
	return l
}

// line reads the next line of its output.
func (l *live) line(want string) {
	l.b.t.Helper()
	got, err := l.out.ReadString('\n')
	if err != nil || got != want+"\n" {
		_ = l.cmd.Process.Kill()
		_ = l.cmd.Wait()
		l.b.t.Fatalf("got %q, want %q (%v)\n%s", got, want, err, l.errors.String())
	}
}

func (l *live) signal(sig syscall.Signal) {
	l.b.t.Helper()
	must(l.b.t, l.cmd.Process.Signal(sig))
}

// end reads the rest and waits.
func (l *live) end() result {
	l.b.t.Helper()
	rest, err := io.ReadAll(l.out)
	must(l.b.t, err)
	werr := l.cmd.Wait()
	if exit := (*exec.ExitError)(nil); werr != nil && !errors.As(werr, &exit) {
		l.b.t.Fatal(werr)
	}
	return result{l.b.t, l.cmd.ProcessState.ExitCode(), string(rest), l.errors.String()}
}

// stubborn is an agent that answers to no signal but SIGKILL.
const stubborn = `trap 'echo heard' INT TERM HUP; echo ready; while :; do read x </proc/uptime; done`

func TestTheFirstInterruptIsTheAgentsTheSecondEndsTheRun(t *testing.T) {
	b := newBox(t)
	l := b.start(stubborn)
	l.signal(syscall.SIGINT)
	l.line("heard")
	l.signal(syscall.SIGINT)
	l.end().exits(130).says("agentbox got signal 2")

	polite := b.start(`trap 'echo bye; exit 3' INT; echo ready; while :; do read x </proc/uptime; done`)
	polite.signal(syscall.SIGINT)
	polite.end().exits(3).prints("bye\n")
}

func TestSignalsEndARun(t *testing.T) {
	b := newBox(t)
	for sig, code := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGHUP: 129, syscall.SIGQUIT: 131} {
		l := b.start(`echo ready; while :; do read x </proc/uptime; done`)
		l.signal(sig)
		l.end().exits(code).says(fmt.Sprintf("agentbox got signal %d", sig))
		b.nothingLeft()
	}
}

// An agent that does not end when it is asked to is ended, and so is what it started and stopped.
func TestAnAgentThatWillNotEndIsEnded(t *testing.T) {
	b := newBox(t)
	l := b.start(`(trap '' TERM HUP INT; setsid sh -c 'while :; do read x </proc/uptime; done') & ` + stubborn)
	began := time.Now()
	l.signal(syscall.SIGTERM)
	l.line("heard")
	l.end().exits(143)
	t.Logf("it took %v", time.Since(began))
	b.nothingLeft()

	stopped := b.start(`echo ready; kill -STOP $$; echo no`)
	stopped.signal(syscall.SIGTERM)
	stopped.end().exits(143)
}

func TestATimeLimitEndsARun(t *testing.T) {
	b := newBox(t)
	b.agentbox("run", "shell", "--timeout", "1s", "--", "sh", "-c", "while :; do read x </proc/uptime; done").exits(124).says("the time budget of 1s is spent")
	b.profile("short", "version = 1\n[agent]\ncommand = [\"sh\"]\n[budget]\ntime = \"1s\"\n")
	b.agentbox("run", "short", "--", "-c", "while :; do read x </proc/uptime; done").exits(124).says("the time budget of 1s is spent")
	b.agentbox("run", "short", "--timeout", "0", "--", "-c", "exit 4").exits(4)
}

// insiders lists the host's processes whose arguments hold mark: an agent's, which a container's PID namespace does
// not hide from the host.
func insiders(t *testing.T, mark string) (pids []string) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	for _, dir := range dirs {
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err == nil && strings.Contains(string(cmdline), mark) && !strings.Contains(string(cmdline), "agentbox\x00run") {
			pids = append(pids, filepath.Base(dir))
		}
	}
	return pids
}

// Killed with no chance to say anything, agentbox takes its agent with it.
func TestKillingAgentboxEndsTheAgent(t *testing.T) {
	b := newBox(t)
	mark := "abx-mark-" + strconv.Itoa(os.Getpid())
	l := b.start(`trap '' TERM HUP INT; (setsid sh -c 'while :; do read x </proc/uptime; done' ` + mark + ` &); echo ready; while :; do read x </proc/uptime; done; : ` + mark)
	for deadline := time.Now().Add(10 * time.Second); len(insiders(t, mark)) < 2; pause() { // the second may still be starting
		if time.Now().After(deadline) {
			t.Fatalf("the agent is not seen from outside: %v", insiders(t, mark))
		}
	}
	began := time.Now()
	l.signal(syscall.SIGKILL)
	for len(insiders(t, mark)) > 0 {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("the agent still runs: %v", insiders(t, mark))
		}
		pause()
	}
	t.Logf("the agent was gone after %v", time.Since(began))
	_, _ = io.Copy(io.Discard, l.out)
	_ = l.cmd.Wait()
	b.nothingLeft()
	b.agentbox("ps").exits(0).prints("")
	b.agentbox("run", "shell", "-q", "--", "true").exits(0)
	if out := b.agentbox("ps", "--all", "--json").exits(0).out; !strings.Contains(out, "supervisor died") {
		t.Errorf("ps does not say how it ended:\n%s", out)
	}
}

// Wherever in its start it is killed, what is left is tidied by whatever is done next, once the Podman service that it had
// started has given up: that may still be making the container.
func TestKillingAgentboxWhileItStarts(t *testing.T) {
	b := newBox(t)
	for _, wait := range []time.Duration{5, 20, 40, 60, 80, 100, 130, 160, 200, 250, 300, 400} {
		l := b.launch("run", "shell", "-q", "--", "sh", "-c", "while :; do read x </proc/uptime; done")
		timer := time.NewTimer(wait * time.Millisecond) // when it strikes is the attack
		<-timer.C
		l.signal(syscall.SIGKILL)
		_, _ = io.Copy(io.Discard, l.out)
		_ = l.cmd.Wait()
	}
	b.agentbox("run", "shell", "-q", "--", "true").exits(0)
	for deadline := time.Now().Add(30 * time.Second); b.leftovers() != "" && time.Now().Before(deadline); pause() {
		b.agentbox("ps").exits(0)
	}
	b.nothingLeft()
	b.agentbox("ps").exits(0).prints("")
}

// What is ended from outside ends the run with a reason.
func TestAContainerThatIsTakenAway(t *testing.T) {
	b := newBox(t)
	for _, verb := range [][]string{{"kill"}, {"rm", "-f", "-t", "0"}, {"stop", "-t", "0"}} {
		l := b.start(stubborn)
		id := strings.TrimSpace(b.podman("ps", "-q", "--filter", "label=agentbox.run"))
		b.podman(append(verb, id)...)
		r := l.end()
		t.Logf("podman %v: %d", verb, r.code)
		r.exits(125).says("the container ended without a word")
		b.nothingLeft()
	}
}

// liveRun is the id of the one run that goes on.
func (b *box) liveRun() string {
	b.t.Helper()
	lines := strings.Split(strings.TrimSpace(b.agentbox("ps").exits(0).out), "\n")
	if len(lines) != 2 {
		b.t.Fatalf("not one run goes on: %q", lines)
	}
	id, _, _ := strings.Cut(lines[1], " ")
	return id
}

func TestStopFromAnotherTerminal(t *testing.T) {
	b := newBox(t)
	polite := b.start(`trap 'echo bye; exit 0' TERM; echo ready; while :; do read x </proc/uptime; done`)
	id := b.liveRun()
	b.agentbox("stop", id, "--reason", "enough of it").exits(0).says("run " + id + " has ended")
	b.nothingLeft() // when stop returns
	polite.end().exits(137).prints("bye\n").says("stopped by agentbox stop: enough of it")

	l := b.start(stubborn)
	_, short, _ := strings.Cut(strings.TrimPrefix(b.liveRun(), "20"), "-")
	_, short, _ = strings.Cut(short, "-")
	began := time.Now()
	b.agentbox("stop", "--force", short).exits(0)
	t.Logf("stop --force took %v", time.Since(began))
	l.end().exits(137).prints("")
}

func TestFiftyRunsLeaveNothing(t *testing.T) {
	b := newBox(t)
	for i := range 50 {
		b.agentbox("run", "shell", "-q", "--", "sh", "-c", fmt.Sprintf("exit %d", i)).exits(i)
	}
	b.nothingLeft()
	if rows := strings.Count(b.agentbox("ps", "--all").exits(0).out, "\n"); rows != 51 {
		t.Errorf("ps --all has %d lines, want 51", rows)
	}
}

func TestTenRunsAtOnce(t *testing.T) {
	b := newBox(t)
	results := make([]result, 10)
	var all sync.WaitGroup
	for i := range results {
		all.Go(func() {
			cmd := b.command("run", "shell", "-q", "--", "sh", "-c", fmt.Sprintf("echo %d; git status --short; exit %d", i, i))
			var out, errs strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &errs
			_ = cmd.Run() // its code is looked at below
			results[i] = result{t, cmd.ProcessState.ExitCode(), out.String(), errs.String()}
		})
	}
	all.Wait()
	for i, r := range results {
		r.exits(i).prints(fmt.Sprintf("%d\n", i))
	}
	b.nothingLeft()
}

// A log that cannot be written ends the run: nothing goes on unlogged. The limit on the size of files is a full disk
// that needs no root.
func TestAFullDiskEndsTheRun(t *testing.T) {
	b := newBox(t)
	cmd := b.command("run", "shell", "--", "sh", "-c", "echo ready; i=0; while :; do i=$((i+1)); curl -s -o /dev/null https://evil$i.test/; done")
	cmd.Args = append([]string{"prlimit", "--fsize=40000000:", cmd.Path}, cmd.Args[1:]...)
	path, err := exec.LookPath("prlimit")
	must(t, err)
	cmd.Path = path
	var out, errs strings.Builder
	pipe, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = &errs
	must(t, cmd.Start())
	r := bufio.NewReader(pipe)
	first, err := r.ReadString('\n')
	must(t, err)
	out.WriteString(first)
	// The run goes on; from here on no file may grow beyond what the log has now.
	pid := cmd.Process.Pid
	limited := exec.Command("prlimit", "--pid", strconv.Itoa(pid), "--fsize=4096")
	text, err := limited.CombinedOutput()
	if err != nil {
		t.Fatalf("prlimit: %v\n%s", err, text)
	}
	rest, err := io.ReadAll(r)
	must(t, err)
	out.Write(rest)
	_ = cmd.Wait() // its code is looked at below
	got := result{t, cmd.ProcessState.ExitCode(), out.String(), errs.String()}
	got.exits(125).prints("ready\n").says("event log", "file too large")
	b.nothingLeft()
}

// A disk that is full from the start is said before anything runs.
func TestADiskThatIsFullFromTheStart(t *testing.T) {
	b := newBox(t)
	path, err := exec.LookPath("prlimit")
	must(t, err)
	b.agentbox("run", "shell", "-q", "--", "true").exits(0) // the shim is in the cache from now on
	cmd := b.command("run", "shell", "--", "touch", "ran")
	cmd.Args = append([]string{"prlimit", "--fsize=0", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = path
	var errs strings.Builder
	cmd.Stderr = &errs
	_ = cmd.Run() // its code is looked at below
	result{t, cmd.ProcessState.ExitCode(), "", errs.String()}.exits(125).says("file too large")
	if _, err := os.Stat(filepath.Join(b.repo, "ran")); err == nil {
		t.Error("the agent ran")
	}
	if list := b.agentbox("ps", "--all").exits(0).out; strings.Count(list, "\n") != 2 {
		t.Errorf("a session is left:\n%s", list)
	}
}

// A reader that goes away does not hang the run.
func TestOutputThatNobodyReads(t *testing.T) {
	b := newBox(t)
	l := b.launch("run", "shell", "-q", "--", "sh", "-c", "while echo y; do :; done; echo closed >&2")
	first, err := l.out.ReadString('\n')
	must(t, err)
	if first != "y\n" {
		t.Errorf("got %q", first)
	}
	must(t, l.pipe.Close())
	_ = l.cmd.Wait() // whatever its code, it has ended
	b.nothingLeft()
}

// TestNobodyReadsTheOutput: agentbox died of the closed pipe, without a word in the log, and its session looked as if
// somebody had killed it.
func TestNobodyReadsTheOutput(t *testing.T) {
	b := newBox(t)
	cmd := b.command("run", "shell", "--", "yes")
	pipe, err := cmd.StdoutPipe()
	must(t, err)
	var errs strings.Builder
	cmd.Stderr = &errs
	must(t, cmd.Start())
	if _, err := bufio.NewReader(pipe).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	must(t, pipe.Close())
	_ = cmd.Wait() // its code is looked at below
	result{t, cmd.ProcessState.ExitCode(), "", errs.String()}.exits(141).says("nobody reads the agent's output")
	events := b.events()
	if last := events[len(events)-1]; last.Kind != event.RunEnd {
		t.Errorf("the log ends with %+v", last)
	}
}
