package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"agentbox/internal/event"
	"agentbox/internal/modelserver"
)

// recipe gives the TOML of a section of docs/RECIPES.md, in its order.
func recipe(t *testing.T, heading string) (blocks []string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/RECIPES.md")
	must(t, err)
	_, section, _ := strings.Cut(string(page), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, m := range regexp.MustCompile("(?ms)^```toml\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// localModel is a person who followed the recipe; their server listens wherever there was a free port.
func localModel(t *testing.T, task modelserver.Task) (*box, *modelserver.Server) {
	t.Helper()
	blocks := recipe(t, "A local model")
	if len(blocks) != 2 || strings.Count(blocks[0], `"127.0.0.1:11434"`) != 1 {
		t.Fatalf("the recipe is not what this test knows:\n%s", strings.Join(blocks, "\n"))
	}
	s, err := modelserver.Start(modelserver.Config{Plain: true, Task: task})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	b := newBox(t)
	b.agentsPath()
	b.config(strings.Replace(blocks[0], "127.0.0.1:11434", s.Addr(), 1))
	b.profile("local", blocks[1])
	return b, s
}

// TestALocalModel follows the recipe: an agent works with a model server that speaks plain HTTP on this machine, and reaches
// neither the rest of that server nor another one, whichever way it tries.
func TestALocalModel(t *testing.T) {
	var strayed atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayed.Add(1) }))
	t.Cleanup(other.Close)
	_, port, _ := strings.Cut(other.Listener.Addr().String(), ":")
	task := modelserver.DefaultTask()
	task.Command = tries([]string{
		"-X POST http://ollama.internal:11434/api/pull", // would fetch a model from anywhere
		"http://ollama.internal:11434/v1/models",
		"http://ollama.internal:" + port + "/",
		"http://127.0.0.1:" + port + "/",
		"-x http://127.0.0.1:3128 --noproxy '' http://127.0.0.1:" + port + "/",
		"https://" + unlisted + "/",
	})
	b, s := localModel(t, task)

	plan := b.agentbox("run", "local", "--dry-run").exits(0).out
	for _, want := range []string{"allow ollama.internal:11434 POST /v1/chat/completions · http only", "ollama.internal is dialled at " + s.Addr(), "credentials none"} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plan does not say %q:\n%s", want, plan)
		}
	}
	r := b.agentbox("run", "local", "--", "-p", "do the task").exits(0).says("reached     ollama.internal:11434  3 requests", "refused     "+unlisted)
	if !strings.Contains(r.out, task.Final) {
		t.Errorf("stdout has no last words:\n%s", r.out)
	}
	b.takeAll()
	b.checkWork(s)
	if answers := b.read("answers.txt"); strings.Contains(answers, "200") || strings.Count(answers, "\n") != 12 {
		t.Errorf("something answered the agent's tries:\n%s", answers)
	}
	b.onlyTheModelWasAsked(s)
	if n := strayed.Load(); n > 0 {
		t.Errorf("another server of this machine was asked %d times", n)
	}
}

// tries is a script that asks for each of the addresses twice, with the variables of the proxy and without, and keeps the
// statuses; the last two lines do what every task does.
func tries(addresses []string) string {
	var b strings.Builder
	for _, way := range []string{"", "--noproxy '*' "} {
		for _, a := range addresses {
			fmt.Fprintf(&b, "curl -s -o /dev/null -w '%%{http_code}\\n' --max-time 20 %s%s >>answers.txt; ", way, a)
		}
	}
	return b.String() + "cat hello.txt; echo ran >ran.txt"
}

// onlyTheModelWasAsked: the server saw the three turns and nothing else, each with its line in the log.
func (b *box) onlyTheModelWasAsked(s *modelserver.Server) {
	b.t.Helper()
	for i, r := range s.Requests() {
		if r.Turn != i+1 || r.Path != "/v1/chat/completions" || r.Host != "ollama.internal" || r.Key() != "none" {
			b.t.Errorf("request %d: %s %s%s of turn %d with the key %q", i, r.Method, r.Host, r.Path, r.Turn, r.Key())
		}
	}
	allowed := 0
	for _, e := range b.events() {
		if e.Kind == event.NetRequest && e.Decision == event.Allow {
			allowed++
		}
	}
	if n := len(s.Requests()); n != 3 || allowed != n {
		b.t.Errorf("the model server was asked %d times, want 3; the log allows %d", n, allowed)
	}
}

// TestALocalModelIsThePersonsAlone: a repository can neither name the server of the person's own nor lead a name to it.
func TestALocalModelIsThePersonsAlone(t *testing.T) {
	b, s := localModel(t, modelserver.DefaultTask())
	rule := "version = 1\n[[network.rule]]\naction = \"allow\"\nhost = \"ollama.internal\"\nports = [11434]\nscheme = \"http\"\n"
	b.write(".agentbox/theirs.toml", strings.Replace(rule, "version = 1\n", "version = 1\nextends = \"shell\"\n", 1))
	b.alone("run", "theirs", "--", "true").exits(126).says("ollama.internal")
	must(t, os.RemoveAll(b.repo+"/.agentbox"))
	b.write("agentbox.toml", rule)
	b.alone("run", "shell", "--", "true").exits(126).says("ollama.internal")
	b.write("agentbox.toml", "version = 1\n[upstream.hosts]\n\"their.internal\" = \""+s.Addr()+"\"\n")
	b.alone("run", "shell", "--", "true").exits(126).says("upstream")
	must(t, os.Remove(b.repo+"/agentbox.toml"))
	r := b.shell("curl -sS --max-time 20 http://ollama.internal:11434/v1/models") // routed, and still no rule allows it
	if r.code != 0 || !strings.Contains(r.out, "denied by agentbox") {
		t.Errorf("exit code %d, %s%s", r.code, r.out, r.err)
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("the server was asked %d times", n)
	}
}
