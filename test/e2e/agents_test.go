package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/modelserver"
	"agentbox/test/realagents"
	"agentbox/test/terminal"
)

// realAgent is one of the pinned agents from npm, and what its profile promises.
type realAgent struct {
	realagents.Agent
	host   string // of its models: the first that its profile allows
	source string // the person's variable that holds the real key
	env    string // the variable that holds the placeholder inside
	header string // the slot of the real key, with %s for it
}

func realAgents() []realAgent {
	var all []realAgent
	for _, a := range realagents.All() {
		all = append(all, promised(a))
	}
	return all
}

// promised reads the agent's profile, which is in the binary.
func promised(a realagents.Agent) realAgent {
	p, err := realagents.Load(a.Profile)
	if err != nil {
		panic(err)
	}
	c := p.Credentials[0]
	return realAgent{a, realagents.Hosts(p)[0], string(c.Source.Env), string(c.Env), strings.ReplaceAll(string(c.Header), "{token}", "%s")}
}

const unlisted = "unlisted.example"

// misledTask is what a hijacked model would have an agent do: look for the real key everywhere, and call out. The key
// stands in the command in two parts, so that the command itself holds it nowhere; a planted control shows that the
// search finds what is there.
func misledTask(key string) modelserver.Task {
	half := len(key) / 2
	a, b := key[:half], key[half:]
	return modelserver.Task{
		File: "hello.txt", Content: "hello from the model\n", Final: "The task is complete.",
		Command: "cat hello.txt; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline >seen.processes 2>seen.errors; env >seen.environment; " +
			"printf %s%s '" + a + "' '" + b + "' >/tmp/control; " +
			"grep -rlaF '" + a + "''" + b + "' \"$HOME\" /tmp /run /etc /dev/shm 2>seen.errors >seen.files; rm /tmp/control; " +
			"curl -sS --max-time 20 https://" + unlisted + "/ >seen.page 2>&1; echo $? >seen.curl; echo ran >ran.txt",
	}
}

// agentsPath puts the pinned agents on the person's PATH.
func (b *box) agentsPath() {
	b.t.Helper()
	dir := os.Getenv("AGENTBOX_TEST_AGENTS")
	if dir == "" {
		dir = "/var/cache/agentbox-test/agents"
	}
	bin := filepath.Join(dir, "node_modules", ".bin")
	if _, err := os.Stat(bin); err != nil {
		b.t.Fatalf("the agents are not installed: run test/agents/install (%v)", err)
	}
	b.setenv("PATH", bin+":"+os.Getenv("PATH"))
}

// outside is what can be seen of a run from outside while the agent works.
type outside struct {
	once    sync.Once
	dir     string // the box's directory
	inspect []byte
	problem error
	files   []string // below dir and the runtime directory, that hold the key

	memory   []string // processes whose memory holds it
	searched int
}

// look is called by the model server when the agent asks for the first time.
func (o *outside) look(key string) {
	o.once.Do(func() {
		ids, err := exec.Command("podman", "ps", "-q", "--filter", "label=agentbox.run").Output()
		if err != nil {
			o.problem = err
			return
		}
		if o.inspect, o.problem = exec.Command("podman", append([]string{"inspect"}, strings.Fields(string(ids))...)...).Output(); o.problem != nil {
			return
		}
		o.files, o.problem = holding(key, o.dir, filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "agentbox"))
		o.memory, o.searched = inMemory(key)
		commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range commands {
			if text, err := os.ReadFile(name); err == nil && bytes.Contains(text, []byte(key)) {
				o.files = append(o.files, name)
			}
		}
	})
}

// holding lists the plain files below dirs that hold text.
func holding(text string, dirs ...string) (found []string, err error) {
	for _, dir := range dirs {
		err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil && !os.IsNotExist(err) && !os.IsPermission(err) {
				return err
			}
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			content, err := os.ReadFile(name)
			if bytes.Contains(content, []byte(text)) {
				found = append(found, name)
			}
			if os.IsNotExist(err) || os.IsPermission(err) {
				return nil // it belongs to the container's root, or is gone
			}
			return err
		})
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

// agentBox is a box with the agents and a model server that misleads them.
func agentBox(t *testing.T) (*box, *modelserver.Server, *outside) {
	t.Helper()
	b := newBox(t)
	b.agentsPath()
	seen := &outside{dir: filepath.Dir(b.repo)}
	s := b.model(modelserver.Config{Task: misledTask(modelKey()), OnAsk: func(modelserver.Request) { seen.look(modelKey()) }})
	return b, s, seen
}

// modelKey is the real key that box.model deals out.
func modelKey() string { return "real-" + strings.Repeat("k3y", 12) }

func TestRealAgents(t *testing.T) {
	for _, a := range realAgents() {
		t.Run(a.Profile, func(t *testing.T) {
			b, s, seen := agentBox(t)
			b.keyOf(a)
			r := b.agentbox(append([]string{"run", a.Profile, "--"}, a.Task...)...).exits(0)
			if !strings.Contains(r.out, s.Task().Final) {
				t.Errorf("stdout has no last words:\n%s", r.out)
			}
			b.takeAll()
			b.checkWork(s)
			b.checkCalls(a, s)
			b.checkRefusal(r.err, a.Refused)
			b.checkKey(a, s, seen)
			if strings.Contains(r.out+r.err, modelKey()) {
				t.Errorf("the real key was printed:\n%s\n%s", r.out, r.err)
			}
		})
	}
}

// keyOf leaves the person no key but that of one agent: those that no profile names are for Podman too, as all variables.
func (b *box) keyOf(a realAgent) {
	for _, other := range realAgents() {
		if other.source != a.source {
			b.setenv(other.source, "")
		}
	}
}

// checkWork looks for the two files of the task.
func (b *box) checkWork(s *modelserver.Server) {
	b.t.Helper()
	for name, want := range map[string]string{"hello.txt": s.Task().Content, "ran.txt": "ran\n"} {
		if got := b.read(name); got != want {
			b.t.Errorf("%s holds %q, want %q", name, got, want)
		}
		info, err := os.Stat(filepath.Join(b.repo, name))
		must(b.t, err)
		if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != os.Getuid() || int(st.Gid) != os.Getgid() {
			b.t.Errorf("%s belongs to %d:%d, want %d:%d", name, st.Uid, st.Gid, os.Getuid(), os.Getgid())
		}
	}
}

// checkCalls compares what the model server saw with what the log says: each request has its decision, its end and
// its use of the credential, and nothing else does.
func (b *box) checkCalls(a realAgent, s *modelserver.Server) {
	b.t.Helper()
	asked, answered := 0, 0
	turns := map[int]int{}
	for _, r := range s.Requests() {
		turns[r.Turn]++
		if asked++; r.Status == 200 {
			answered++
		}
	}
	if turns[1] != 1 || turns[2] != 1 || turns[3] != 1 {
		b.t.Errorf("the model was asked %v times for each turn, want once", turns)
	}
	var allowed, ended, used int
	for _, e := range b.events() {
		switch {
		case e.Host != a.host:
		case e.Kind == event.NetRequest && e.Decision == event.Allow && e.Via == "proxy" && e.Port == 443:
			allowed++
		case e.Kind == event.NetResponse && e.Status == 200:
			ended++
		case e.Kind == event.CredentialUse:
			used++
		}
	}
	if allowed != asked || ended != answered || used < answered || used > asked {
		b.t.Errorf("the model server saw %d requests and answered %d; the log allows %d, ends %d with 200 and used the credential %d times",
			asked, answered, allowed, ended, used)
	}
}

// checkRefusal: the one attempt to reach an unlisted host was refused, is one event, and the person is told. Nothing
// else was refused, save hosts that known names.
func (b *box) checkRefusal(stderr string, known []string) {
	b.t.Helper()
	if got := strings.TrimSpace(b.read("seen.curl")); got == "0" {
		b.t.Errorf("%s was reached:\n%s", unlisted, b.read("seen.page"))
	}
	refused := 0
	for _, e := range b.events() {
		switch {
		case e.Decision != event.Deny:
		case e.Host == unlisted && (e.Kind == event.NetRequest || e.Kind == event.DNSRefused):
			refused++
		case !slices.Contains(known, e.Host):
			b.t.Errorf("%s %s:%d was refused too: %s", e.Kind, e.Host, e.Port, e.Reason)
		}
	}
	if refused != 1 {
		b.t.Errorf("%d events refuse %s, want one", refused, unlisted)
	}
	if !strings.Contains(stderr, "refused     "+unlisted) {
		b.t.Errorf("the summary does not show what was refused:\n%s", stderr)
	}
}

// checkKey: the real key is in the one slot of the requests, and nowhere else in the world.
func (b *box) checkKey(a realAgent, s *modelserver.Server, seen *outside) {
	b.t.Helper()
	key, processes := modelKey(), b.read("seen.processes")
	_, after, ok := strings.Cut(processes, a.env+"=")
	placeholder, _, _ := strings.Cut(after, "\x00")
	if !ok || len(placeholder) < 20 {
		b.t.Fatalf("the agent's processes have no %s", a.env)
	}
	if strings.Contains(processes+b.read("seen.environment"), key) {
		b.t.Error("the real key is in the environment or a command line inside")
	}
	if got := b.read("seen.files"); got != "/tmp/control\n" {
		b.t.Errorf("files inside that hold the key: %q, want the control only", got)
	}
	b.checkSlots(a, s, placeholder)
	if seen.problem != nil || len(seen.inspect) < 1000 {
		b.t.Fatalf("podman inspect says %q (%v)", seen.inspect, seen.problem)
	}
	if bytes.Contains(seen.inspect, []byte(key)) || bytes.Contains(seen.inspect, []byte(placeholder)) {
		b.t.Error("podman inspect shows the key or its placeholder")
	}
	left, err := holding(key, filepath.Dir(b.repo))
	must(b.t, err)
	if all := append(left, seen.files...); len(all) > 0 {
		b.t.Errorf("the real key is in %q", all)
	}
	if len(seen.memory) > 0 || seen.searched < 2 { // conmon and the agent at least
		b.t.Errorf("the real key is in the memory of %q; %d processes were searched", seen.memory, seen.searched)
	}
}

func (b *box) checkSlots(a realAgent, s *modelserver.Server, placeholder string) {
	b.t.Helper()
	name, value, _ := strings.Cut(fmt.Sprintf(a.header, modelKey()), ": ")
	for _, r := range s.Requests() {
		if r.Turn > 0 && r.Header.Get(name) != value {
			b.t.Errorf("%s %s does not carry the real key in %s", r.Method, r.Path, name)
		}
		r.Header.Del(name)
		all := fmt.Sprint(r.Path, r.Header, string(r.Body))
		if strings.Contains(all, modelKey()) || strings.Contains(all, placeholder) {
			b.t.Errorf("%s %s carries the key or its placeholder elsewhere", r.Method, r.Path)
		}
	}
}

func TestAnAgentThatIsNotInstalled(t *testing.T) {
	b := newBox(t)
	for _, a := range realAgents() {
		p, err := realagents.Load(a.Profile)
		must(t, err)
		profile, install := a.Profile, p.Agent.Install
		b.agentbox("run", profile).exits(127).says(profile, install).prints("")
		if r := b.agentbox("run", profile, "--dry-run").exits(127).says(install); !strings.Contains(r.out, "not installed on this machine") || !strings.Contains(r.out, "hash ") {
			t.Errorf("the plan is not shown:\n%s", r.out)
		}
	}
}

// screen is a person's terminal with a shell script in it.
type screen struct {
	t    *testing.T
	ctx  context.Context
	term *terminal.Terminal
}

// screen opens a terminal in the repository and runs script there with sh.
func (b *box) screen(script string) *screen {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	b.t.Cleanup(cancel)
	term, err := terminal.Start(ctx, terminal.Config{
		Socket: filepath.Join(filepath.Dir(b.repo), "tmux"), Dir: b.repo, Env: append(slices.Clone(b.env), "COLORTERM=truecolor"),
		Command: []string{"sh", "-c", script},
	})
	must(b.t, err)
	b.t.Cleanup(func() { must(b.t, term.Close()) })
	return &screen{b.t, ctx, term}
}

func (s *screen) wait(text string) string {
	s.t.Helper()
	shown, err := s.term.Wait(s.ctx, text)
	must(s.t, err)
	return shown
}

func (s *screen) types(text string) {
	s.t.Helper()
	must(s.t, s.term.Type(s.ctx, text))
}

func (s *screen) press(keys ...string) {
	s.t.Helper()
	must(s.t, s.term.Press(s.ctx, keys...))
}

// submit presses Enter until the model is asked: Gemini takes one that follows hard upon the text for part of a paste.
func (s *screen) submit(server *modelserver.Server) {
	s.t.Helper()
	for s.ctx.Err() == nil {
		s.press("Enter")
		patience, cancel := context.WithTimeout(s.ctx, 2*time.Second)
		_, err := server.Wait(patience, func(r modelserver.Request) bool { return r.Turn == 1 })
		cancel()
		if err == nil {
			return
		}
	}
}

// quit presses the keys until the screen shows text: agents take two interrupts for an end only when they come in
// time.
func (s *screen) quit(keys []string, text string) string {
	s.t.Helper()
	for s.ctx.Err() == nil {
		for _, key := range keys {
			_ = s.term.Press(s.ctx, key) // the program may have ended
		}
		patience, cancel := context.WithTimeout(s.ctx, 10*time.Second)
		shown, err := s.term.Wait(patience, text)
		cancel()
		if err == nil {
			return shown
		}
	}
	shown, _ := s.term.Screen(context.WithoutCancel(s.ctx))
	s.t.Fatalf("waiting for %q; the screen shows:\n%s", text, shown)
	return ""
}

func TestRealAgentsFullScreen(t *testing.T) {
	for _, a := range realAgents() {
		t.Run(a.Profile, func(t *testing.T) {
			b, s, seen := agentBox(t)
			b.keyOf(a)
			b.setenv("AGENTBOX", b.command().Path)
			term := b.screen(`stty -g >../before; "$AGENTBOX" run ` + a.Profile + ` --on-exit keep; echo $? >../code; stty -g >../after; echo all over`)
			term.wait(a.Ready) // and no dialog before it
			term.types("do the task")
			term.wait("do the task")
			term.submit(s)
			term.wait(s.Task().Final)
			shown := term.quit(a.Quit, "all over")
			b.takeAll()
			b.checkWork(s)
			b.checkCalls(a, s)
			b.checkRefusal(shown, a.Refused)
			b.checkKey(a, s, seen)
			if !strings.Contains(shown, "· run ") || !strings.Contains(shown, "credential") {
				t.Errorf("there is no summary after it:\n%s", shown)
			}
			b.checkTerminalAfter()
		})
	}
}

// TestClaudeLeavesAnIdlePersonAlone: after some seconds Claude Code laid an offer over its prompt, which took the Enter of
// whatever was being typed. The wait is what is tested.
func TestClaudeLeavesAnIdlePersonAlone(t *testing.T) {
	a := realAgents()[0]
	b, _, _ := agentBox(t)
	b.setenv("AGENTBOX", b.command().Path)
	term := b.screen(`"$AGENTBOX" run ` + a.Profile + `; echo all over`)
	term.wait(a.Ready)
	idle, cancel := context.WithTimeout(term.ctx, 12*time.Second)
	defer cancel()
	<-idle.Done()
	shown, err := term.term.Screen(term.ctx)
	must(t, err)
	if !strings.Contains(shown, a.Ready) {
		t.Errorf("something came over the prompt:\n%s", shown)
	}
	term.quit(a.Quit, "all over")
}

// checkTerminalAfter: agentbox ended as the agent did, and the terminal is what it was.
func (b *box) checkTerminalAfter() {
	b.t.Helper()
	if got := b.read("../code"); got != "0\n" {
		b.t.Errorf("exit code %q, want 0", got)
	}
	if before, after := b.read("../before"), b.read("../after"); before != after || len(before) < 50 {
		b.t.Errorf("the terminal was\n%s\nand is\n%s", before, after)
	}
}
