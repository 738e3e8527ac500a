package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agentbox/internal/event"
)

// waiting is a question as `agentbox approvals --json` prints it.
type waiting struct {
	ID, Run, Host, Method, Path, Rule string
	Waiters                           int
}

// newAskingSite is a site with a profile "ask" that allows to read secureHost and asks about the rest of it, and one,
// "unlisted", that asks about everything. A question waits for limit.
func newAskingSite(t *testing.T, limit string) *site {
	t.Helper()
	s := newSite(t)
	config, err := os.ReadFile(filepath.Join(s.conf, "agentbox", "config.toml"))
	must(t, err)
	s.config("[approvals]\ntimeout = \"" + limit + "\"\n" + string(config))
	s.profile("ask", "version = 1\nextends = \"shell\"\n[[network.rule]]\naction = \"allow\"\nhost = \""+secureHost+"\"\nmethods = [\"GET\"]\n"+
		"[[network.rule]]\naction = \"ask\"\nhost = \""+secureHost+"\"\nmethods = [\"POST\", \"PUT\"]\n")
	s.profile("unlisted", "version = 1\nextends = \"shell\"\n[network]\ndefault = \"ask\"\n")
	return s
}

func (b *box) questions() []waiting {
	b.t.Helper()
	return decodeJSON[[]waiting](b.agentbox("approvals", "--json").exits(0))
}

// waits waits until so many questions wait, and gives them.
func (b *box) waits(n int) []waiting {
	b.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		all := b.questions()
		if len(all) == n {
			return all
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%d questions wait, want %d: %+v", len(all), n, all)
		}
		pause()
	}
}

// post is a command inside that posts to a path and prints the answer.
func post(path string) string { return "curl -sS -m 100 -d x 'https://" + secureHost + path + "'" }

// A request that has to be asked about waits; others pass; an answer from any terminal lets it go on, once.
func TestAHeldRequestIsApprovedFromAnotherTerminal(t *testing.T) {
	s := newAskingSite(t, "5m")
	l := s.terminal("run", "ask", "--", "sh", "-c", post("/held")+" && echo first-$((1+1)) & sleep 0.3; curl -sS https://"+secureHost+"/x >/dev/null && echo passed-$((1+1)); wait; "+post("/held")+"; echo over-$((1+1))")
	l.expect("agentbox approvals").expect("passed-2")
	q := s.waits(1)[0]
	if q.Method != "POST" || q.Host != secureHost || q.Path != "/held" || q.Waiters != 1 || !strings.Contains(q.Rule, "ask.toml:7") {
		t.Errorf("the question is %+v", q)
	}
	table := s.agentbox("approvals", q.Run[len(q.Run)-4:]).exits(0).out
	if lines := strings.Split(table, "\n"); len(lines) != 3 || !strings.HasPrefix(lines[1], q.ID) || !strings.HasSuffix(lines[1], "POST "+secureHost+"/held") {
		t.Errorf("the table is\n%s", table)
	}
	if fields := strings.Fields(strings.Split(s.agentbox("ps").exits(0).out, "\n")[1]); fields[6] != "1" {
		t.Errorf("ps says %q", fields)
	}
	s.agentbox("approve", q.ID[:4]).exits(0).says("allowed once: POST " + secureHost + "/held")
	l.expect("first-2")
	s.agentbox("approve", q.ID).exits(1).says("allowed once from another terminal")
	s.agentbox("deny", q.ID).exits(1).says("allowed once from another terminal")
	s.agentbox("approve", "nonsense").exits(1).says(`no question "nonsense"`, "agentbox approvals")
	s.agentbox("approve", q.ID, "--run", "--once").exits(2)

	// allowed once is asked about again
	again := s.waits(1)[0]
	if again.ID == q.ID {
		t.Error("it is the same question")
	}
	s.agentbox("deny", again.ID, "--reason", "use the \x1b[31mmirror").exits(0).says("denied: POST " + secureHost + "/held (use the \\u001b[31mmirror)")
	l.expect("a person was asked and denied it: use the").expect("over-2")
	l.ends(0)
	events := s.events()
	if n := len(ofKind(events, event.ApprovalAsked)); n != 2 {
		t.Errorf("%d questions are recorded", n)
	}
	answers := ofKind(events, event.ApprovalAnswered)
	if len(answers) != 2 || answers[0].Decision != event.Allow || answers[0].Detail["by"] != "socket" || answers[0].Detail["id"] != q.ID ||
		answers[1].Decision != event.Deny || answers[1].Detail["answer"] != "deny" {
		t.Errorf("answers %+v", answers)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.Contains(string(l.out), "[o]nce") {
		t.Errorf("the terminal that the agent has was written to: %q", l.out)
	}
}

// What is allowed for the run is not asked about again in it; what is allowed always is a rule for exactly that, which
// the next run has.
func TestAnswersThatLast(t *testing.T) {
	for _, profile := range []string{"unlisted", "ask"} {
		t.Run(profile, func(t *testing.T) {
			s := newAskingSite(t, "5m")
			l := s.terminal("run", profile, "-q", "--", "sh", "-c", post("/r")+"; "+post("/r")+"; echo twice-$((1+1)); "+post("/a*b")+"; "+post("/a*b")+"; echo four-$((2+2))")
			s.agentbox("approve", s.waits(1)[0].ID, "--run").exits(0)
			l.expect("twice-2")
			r := s.agentbox("approve", s.waits(1)[0].ID, "--always").exits(0)
			for _, want := range []string{"config/agentbox/repos/", "[[network.rule]]\naction = \"allow\"\nhost = \"" + secureHost + "\"\nports = [443]\nmethods = [\"POST\"]\npaths = [\"/a%2Ab\"]\nscheme = \"https\"\nwebsocket = false\n"} {
				if !strings.Contains(r.out, want) {
					t.Errorf("it does not show %q:\n%s", want, r.out)
				}
			}
			l.expect("four-4")
			l.ends(0)
			next := s.alone("run", profile, "-q", "--", "sh", "-c", post("/a*b")+"; "+post("/axb")).exits(0)
			if !strings.HasPrefix(next.out, "hello") || !strings.Contains(next.out, "nobody can be asked") || strings.Count(next.out, "denied by agentbox") != 1 {
				t.Errorf("the next run got %q", next.out)
			}
		})
	}
}

func TestNoAnswerIsANo(t *testing.T) {
	s := newAskingSite(t, "1s")
	l := s.terminal("run", "ask", "-q", "--", "sh", "-c", post("/held"))
	l.expect("nobody answered within 1s")
	l.ends(0)
	if a := ofKind(s.events(), event.ApprovalAnswered); len(a) != 1 || a[0].Detail["by"] != "timeout" || a[0].Decision != event.Deny {
		t.Errorf("events %+v", a)
	}
}

// Without a terminal there is nobody to ask: denied at once, and said so.
func TestWithoutATerminalNobodyIsAsked(t *testing.T) {
	s := newAskingSite(t, "24h")
	r := s.alone("run", "ask", "--", "sh", "-c", post("/held")+"; curl -sS https://"+secureHost+"/x").exits(0).says("there is no terminal to ask at")
	if !strings.Contains(r.out, "nobody can be asked") || !strings.Contains(r.out, "agentbox approvals --watch") || !strings.HasSuffix(r.out, "hello /x\n") {
		t.Errorf("the agent got %q", r.out)
	}
	if n := len(ofKind(s.events(), event.ApprovalAsked)); n != 0 {
		t.Errorf("%d questions", n)
	}
}

// Who watches can be asked, and hears of each question and answer.
func TestWhoWatchesCanBeAsked(t *testing.T) {
	s := newAskingSite(t, "5m")
	s.mode = "direct" // for the agent to see the file that it waits for
	cmd := s.command("run", "ask", "-q", "--", "sh", "-c", "echo ready; until [ -e go ]; do sleep 0.05; done; "+post("/held"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	run := (&live{b: s.box, cmd: cmd}).launch()
	run.line("ready")
	watch := s.command("approvals", "--watch")
	said, err := watch.StderrPipe()
	must(t, err)
	heard, err := watch.StdoutPipe()
	must(t, err)
	must(t, watch.Start())
	t.Cleanup(func() { _ = watch.Process.Kill(); _ = watch.Wait() })
	out := bufio.NewReader(heard)
	line := func(r *bufio.Reader, want string) string {
		t.Helper()
		got, err := r.ReadString('\n')
		if err != nil || !strings.Contains(got, want) {
			t.Fatalf("heard %q (%v), want %q", got, err, want)
		}
		return got
	}
	line(bufio.NewReader(said), "watching run")
	s.write("go", "")
	id := strings.Fields(line(out, "asks: POST "+secureHost+"/held"))[1]
	line(out, "agentbox approve "+id)
	s.agentbox("approve", id).exits(0)
	line(out, "allowed once from another terminal")
	run.end().exits(0).prints("hello /held\n")
}

// onTTY is a command line of the person's shell on a terminal, in which agentbox is "$AGENTBOX".
func (b *box) onTTY(script string) *line {
	b.t.Helper()
	cmd := b.command()
	b.setenv("AGENTBOX", cmd.Path)
	cmd.Args, cmd.Path, cmd.Env = []string{"sh", "-c", script}, "/bin/sh", b.env
	return onTerminal(b.t, cmd)
}

// Where the agent leaves the terminal free the question stands there, and what was typed before it is no answer.
func TestTheQuestionAtTheTerminal(t *testing.T) {
	s := newAskingSite(t, "5m")
	l := s.onTTY(`"$AGENTBOX" run ask -q --workspace direct -- sh -c 'read x </proc/uptime; until [ -e go ]; do sleep 0.05; done; ` +
		strings.ReplaceAll(post("/one")+"; "+post("/one")+"; "+post("/two")+"; "+post("/two")+"; "+post("/three")+"; "+post("/four"), "'", `"`) + `' </dev/null | cat; echo end-$((1+1))`)
	l.send("o\ro\r")
	s.write("go", "")
	question := func(path string) *line {
		return l.expect("agentbox asks: POST " + secureHost + path + "\r\n  allow it [o]nce, for this [r]un, [a]lways, or [N]ot? (")
	}
	question("/one")
	if open := s.waits(1); open[0].Path != "/one" {
		t.Errorf("what was typed ahead answered: %+v", open)
	}
	l.send("o\r").expect("hello")
	question("/one").send("\r").expect("a person was asked and denied it")
	question("/two").send("r\r").expect("hello /two\r\nhello /two")
	question("/three").send("a\r").expect("agentbox grants revoke").expect(`paths = ["/three"]`)
	question("/four")
	s.agentbox("deny", s.waits(1)[0].ID, "--reason", "elsewhere").exits(0)
	l.expect("denied from another terminal: elsewhere").expect("end-2")
	l.ends(0)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !strings.Contains(string(l.out), "hello /three") { // the answer may come before the rule is shown
		t.Errorf("the request did not go on: %q", l.out)
	}
	var by []string
	for _, e := range ofKind(s.events(), event.ApprovalAnswered) {
		by = append(by, e.Detail["by"]+" "+e.Detail["answer"])
	}
	if want := []string{"terminal once", "terminal deny", "terminal run", "terminal always", "socket deny"}; !slices.Equal(by, want) {
		t.Errorf("answers by %v, want %v", by, want)
	}
}

// The agent chooses what is asked about, not what the question looks like: control characters are shown escaped, and
// while the question stands nothing of the agent's is printed and nothing that is typed goes to the agent.
func TestTheAgentCannotRedrawTheQuestion(t *testing.T) {
	s := newAskingSite(t, "5m")
	s.write("agent.sh", `printf '\033[8mmid line' >&2
( while [ ! -e stop ]; do printf '\r\033[2Kagentbox asks: GET good.example.com FAKE ' >&2; sleep 0.02; done ) &
`+post("/\xe2\x80\xaegp.\xc2\x9b2J?secret=1")+` >answer; touch stop; wait; read line; echo "agent-read-$line-$((1+1))" >&2
`)
	l := s.onTTY(`"$AGENTBOX" run ask -q --workspace direct -- sh agent.sh >/dev/null; echo end-$((1+1))`)
	l.expect("\x1b[!p\x1b[0m").expect("\r\x1b[J").expect(`agentbox asks: POST ` + secureHost + `/`).expect(`[o]nce, for this [r]un, [a]lways, or [N]ot? (`)
	s.waits(1)
	pause()
	l.mu.Lock()
	after := string(l.out[l.seen:])
	shown := string(l.out[:l.seen])
	l.mu.Unlock()
	if strings.Contains(after, "FAKE") {
		t.Errorf("the agent printed over the question: %q", after)
	}
	shown = shown[strings.LastIndex(shown, "agentbox asks: POST"):]
	if strings.ContainsAny(shown, "\u202e\u009b") || strings.Contains(shown, "secret") {
		t.Errorf("the question is %q", shown)
	}
	l.send("once\r").expect("FAKE")
	l.send("for-the-agent\r").expect("agent-read-for-the-agent-2").expect("end-2")
	l.ends(0)
	if !strings.HasPrefix(s.read("answer"), "hello /") {
		t.Errorf("the answer is %q", s.read("answer"))
	}
}

// A flood is no way to wear a person down: what is alike is one question, what is not is bounded.
func TestAFloodOfQuestions(t *testing.T) {
	s := newAskingSite(t, "5m")
	s.mode = "direct" // for the test to see what the agent counts
	flood := func(path string) string {
		return "curl -sS -Z --parallel-max 250 -m 200 -o /dev/null -w '%{http_code}\\n' -d x 'https://" + secureHost + path + "' >codes; "
	}
	l := s.terminal("run", "ask", "-q", "--", "sh", "-c", flood("/alike?[1-500]")+"echo alike-$((1+1)); read x; "+flood("/[1-500]")+"echo each-$((1+1))")
	deadline := time.Now().Add(time.Minute)
	q := s.waits(1)[0]
	for q.Waiters < 200 && time.Now().Before(deadline) {
		pause()
		q = s.waits(1)[0]
	}
	s.agentbox("approve", q.ID, "--run").exits(0)
	l.expect("alike-2")
	if codes := s.read("codes"); strings.Count(codes, "200\n") != 500 {
		t.Errorf("%d of 500 passed", strings.Count(codes, "200\n"))
	}
	l.send("\r")
	deadline = time.Now().Add(5 * time.Minute)
	for q := s.waits(64); !l.find("each-2"); q = s.questions() { // there may be none for a moment while more are on their way
		if time.Now().After(deadline) {
			t.Fatalf("the flood does not end; %d questions wait", len(q))
		}
		var all sync.WaitGroup
		for _, one := range q[:min(len(q), 8)] {
			all.Go(func() { s.agentbox("deny", one.ID) })
		}
		all.Wait()
	}
	l.ends(0)
	if codes := s.read("codes"); strings.Count(codes, "403\n") != 500 {
		t.Errorf("%d of 500 were denied", strings.Count(codes, "403\n"))
	}
}

// A program that gives up takes its question with it.
func TestAProgramThatGivesUpWithdrawsItsQuestion(t *testing.T) {
	s := newAskingSite(t, "5m")
	l := s.terminal("run", "unlisted", "-q", "--", "sh", "-c", "curl -sS -m 2 https://"+secureHost+"/get; echo gone-$((1+1)); curl -sS -m 2 -d x https://"+secureHost+"/post; echo gone-$((2+2)); read x")
	get := s.waits(1)[0]
	l.expect("gone-2")
	for q := s.questions(); len(q) > 0 && q[0].ID == get.ID; q = s.questions() {
		pause()
	}
	s.agentbox("approve", get.ID).exits(1).says("withdrawn, because nothing waited for it any more")
	l.expect("gone-4")
	s.waits(0)
	l.send("\r")
	l.ends(0)
}

// Two who answer at once: one is heard, and the other is told so.
func TestTwoAnswersAtOnce(t *testing.T) {
	s := newAskingSite(t, "5m")
	l := s.terminal("run", "ask", "-q", "--", "sh", "-c", post("/held")+" | grep -c hello; echo end-$((1+1))")
	q := s.waits(1)[0]
	codes := make([]int, 8)
	var all sync.WaitGroup
	for i := range codes {
		verb := []string{"approve", "deny"}[i%2]
		all.Go(func() { codes[i] = s.agentbox(verb, q.ID).code })
	}
	all.Wait()
	winner := slices.Index(codes, 0)
	slices.Sort(codes)
	if !slices.Equal(codes, []int{0, 1, 1, 1, 1, 1, 1, 1}) {
		t.Errorf("exit codes %v", codes)
	}
	l.expect(fmt.Sprint(1 - winner%2)).expect("end-2")
	l.ends(0)
}
