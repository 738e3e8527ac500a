package plan

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"agentbox/internal/policy"
)

// networked is a profile with rules of every kind.
func networked(t *testing.T) Grants {
	t.Helper()
	in := inputs(t, `version = 1
[agent]
command = ["x"]
[[network.rule]]
action = "allow"
host = "chat.test"
websocket = true
[[network.rule]]
action = "allow"
host = "db.internal.test"
ports = [5432]
protocol = "tcp"
private = ["10.0.0.0/8"]
[[network.rule]]
action = "allow"
host = "api.test"
max_request = "10MB"
max_sent = "50MB"
[[git]]
remote = "github.com/acme/billing"
push = ["refs/heads/agentbox/*"]
`)
	return resolve(t, in).Grants
}

func TestWhyKnowsEveryKindOfRequest(t *testing.T) {
	g := networked(t)
	for _, c := range []struct{ url, want, change string }{
		{"wss://chat.test/socket", "allow", ""},
		{"https://chat.test/socket", "deny", "agentbox grants add chat.test"},
		{"wss://other.test/socket", "deny", "websocket = true"},
		{"tcp://db.internal.test:5432", "allow", ""},
		{"tcp://db.internal.test:5433", "deny", "--port 5433 --tcp"},
		{"https://db.internal.test:5432/", "deny", ""},
		{"http://api.test/", "deny", "scheme = \"http\""},
		{"https://api.test/", "allow", ""},
		{"https://github.com/acme/billing.git/info/refs?service=git-upload-pack", "allow", ""},
		{"https://github.com/acme/other.git/info/refs?service=git-upload-pack", "deny", ""},
		{"https://github.com/acme/other.git/info/refs?service=git-receive-pack", "deny", "[[git]]\nremote = \"github.com/acme/other\"\npush = [\"refs/heads/agentbox/*\"]"},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		if e := g.WhyURL("GET", u); e.Decision != c.want || !strings.Contains(e.Change, c.change) {
			t.Errorf("%s: %+v", c.url, e)
		}
	}
	for _, c := range []struct {
		repo, ref     string
		kind          policy.RefKind
		want, reason  string
		change, never string
	}{
		{"acme/billing", "refs/heads/agentbox/x", policy.RefUpdated, "allow", "allows pushing to github.com/acme/billing", "[[git]] rule at", ""},
		{"acme/billing.git", "refs/heads/main", policy.RefUpdated, "deny", "refs/heads/main is not among refs/heads/agentbox/*", `push = ["refs/heads/agentbox/*", "refs/heads/main"]`, "force"},
		{"acme/billing", "refs/heads/agentbox/x", policy.RefForce, "deny", "no fast-forward", "force = true", "delete"},
		{"acme/billing", "refs/heads/agentbox/x", policy.RefDelete, "deny", "would be deleted", "delete = true", "force"},
		{"evil/billing", "refs/heads/agentbox/x", policy.RefUpdated, "deny", "none names this repository", `remote = "github.com/evil/billing"`, "main"},
	} {
		r, err := PushOf(&url.URL{Scheme: "https", Host: "github.com", Path: "/" + c.repo}, policy.RefUpdate{Name: c.ref, Kind: c.kind})
		if err != nil {
			t.Fatal(err)
		}
		if e := g.Why(r); e.Decision != c.want || !strings.Contains(e.Reason, c.reason) || !strings.Contains(e.Change, c.change) || c.never != "" && strings.Contains(e.Change, c.never) {
			t.Errorf("%s %s %s: %+v", c.kind, c.ref, c.repo, e)
		}
	}
	r := policy.Request{Host: host(t, "api.test"), Port: 443, Scheme: "https", Method: "POST", Path: "/", Size: 11e6}
	if e := g.Why(r); e.Decision != "deny" || !strings.Contains(e.Reason, "11000000") || !strings.Contains(e.Change, "max_request") {
		t.Errorf("a large body: %+v", e)
	}
}

// What a rule for one request says allows that request, and no other host, port, method, scheme or ref.
func TestRuleForIsTight(t *testing.T) {
	for _, c := range []struct {
		r          policy.Request
		rule, args string
	}{
		{policy.Request{Host: host(t, "a.test"), Port: 443, Scheme: "https", Method: "POST", Path: "/x"}, "[[network.rule]]\naction = \"allow\"\nhost = \"a.test\"\nmethods = [\"POST\"]\npaths = [\"/x\"]\n", "a.test --method POST --path '/x'"},
		{policy.Request{Host: host(t, "a.test"), Port: 80, Scheme: "http", Method: "GET", Path: "/"}, "[[network.rule]]\naction = \"allow\"\nhost = \"a.test\"\nports = [80]\nscheme = \"http\"\nmethods = [\"GET\"]\npaths = [\"/\"]\n", "a.test --port 80 --method GET --path '/' --scheme http"},
		{policy.Request{Host: host(t, "a.test"), Port: 443, Scheme: "https", WebSocket: true, Method: "GET", Path: "/s"}, "[[network.rule]]\naction = \"allow\"\nhost = \"a.test\"\nwebsocket = true\npaths = [\"/s\"]\n", "a.test --path '/s' --websocket"},
		{policy.Request{Host: host(t, "a.test"), Port: 5432, Scheme: policy.TCP}, "[[network.rule]]\naction = \"allow\"\nhost = \"a.test\"\nports = [5432]\nprotocol = \"tcp\"\n", "a.test --port 5432 --tcp"},
		{policy.Request{Host: host(t, "a.test"), Port: 443, Scheme: "https", Method: "POST", Path: "/b/c.git/git-receive-pack",
			Git: &policy.GitRequest{Repo: "b/c", Op: policy.GitPush, Refs: []policy.RefUpdate{{Name: "refs/heads/x", Kind: policy.RefCreate}}}}, "[[git]]\nremote = \"a.test/b/c\"\npush = [\"refs/heads/x\"]\n", ""},
	} {
		text := RuleFor(c.r, policy.Allow)
		if text != c.rule || GrantArgs(c.r) != c.args {
			t.Errorf("%+v:\n%s%s", c.r, text, GrantArgs(c.r))
		}
		in := inputs(t, "version = 1\n[agent]\ncommand = [\"x\"]\n"+text)
		if d := resolve(t, in).Network().Decide(c.r); !d.Allowed() {
			t.Errorf("%s does not allow it: %s", text, d.Reason())
		}
		if denied := RuleFor(c.r, policy.Deny); strings.Contains(denied, "protocol") || strings.Contains(denied, "[[git]]") {
			t.Errorf("denying: %s", denied)
		}
	}
}

func TestPlanTellsOfWhatNobodySees(t *testing.T) {
	p := resolve(t, inputs(t, `version = 1
[agent]
command = ["x"]
[[network.rule]]
action = "allow"
host = "db.internal.test"
ports = [5432]
protocol = "tcp"
private = ["10.0.0.0/8"]
[[network.rule]]
action = "allow"
host = "api.test"
scheme = "https"
websocket = false
max_request = "10MB"
max_sent = "50MB"
[[git]]
remote = "github.com/acme/billing"
push = ["refs/heads/agentbox/*"]
force = true
`))
	var b strings.Builder
	if err := WriteText(&b, p); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(strings.ReplaceAll(b.String(), "\n!", "\n")), " ")
	for _, want := range []string{"tcp: nothing of what is sent is seen, checked or counted beyond bytes", "may lead into your own network: 10.0.0.0/8",
		"no WebSockets · https only · at most 10MB a request · at most 50MB sent in one run", "git github.com/acme/billing · fetch, push to refs/heads/agentbox/*, also by force", "git pushes to anything else are denied"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, &b)
		}
	}
	for _, line := range strings.Split(b.String(), "\n") {
		if loud := strings.HasPrefix(line, "!"); !loud && (strings.Contains(line, "5432") || strings.Contains(line, "by force")) {
			t.Errorf("not loud: %s", line)
		}
	}
	if b := p.Binding; !has(b.ListenTCP, 5432) || !has(b.KnownHosts, host(t, "github.com")) || !has(b.KnownHosts, host(t, "db.internal.test")) {
		t.Errorf("%+v", b)
	}
	if set := p.Network(); len(set.Git) != 1 || set.Git[0].Repo != "acme/billing" || !set.Git[0].Force || !policy.Permits(set.Private(host(t, "db.internal.test")), netip.MustParseAddr("10.1.1.1")) {
		t.Errorf("%+v", set)
	}
}

func has[T comparable](list []T, v T) bool {
	for _, have := range list {
		if have == v {
			return true
		}
	}
	return false
}

// Removing the last [[git]] rule lets pushes through that it forbade: that is wider, and said.
func TestDiffTellsOfPushesThatNoRuleJudgesAnyMore(t *testing.T) {
	grants := func(git string) Grants {
		return resolve(t, inputs(t, "version = 1\n[agent]\ncommand = [\"x\"]\n[[network.rule]]\naction = \"allow\"\nhost = \"github.com\"\n"+git)).Grants
	}
	with, without := grants("[[git]]\nremote = \"github.com/acme/billing\"\n"), grants("")
	found := false
	for _, c := range Diff(with, without) {
		found = found || c.Kind == Wider && strings.Contains(c.Text, "pushing")
	}
	if !found {
		t.Errorf("%+v", Diff(with, without))
	}
}

// What a push goes to is not always known; a rule that names no repository would be none.
func TestNoRuleNamesNoRepository(t *testing.T) {
	for _, repo := range []string{"", "..", "a\nb", "x"} {
		r := policy.Request{Host: host(t, "github.com"), Port: 443, Scheme: "https", Method: "POST", Path: "/x", Git: &policy.GitRequest{Repo: repo, Op: policy.GitPush}}
		text := RuleFor(r, policy.Allow)
		if text == "" {
			continue
		}
		in := inputs(t, "version = 1\n[agent]\ncommand = [\"x\"]\n"+text)
		if d := resolve(t, in).Network().Decide(r); !d.Allowed() {
			t.Errorf("%q: %s does not allow it", repo, text)
		}
		if repo == "" {
			t.Errorf("%s names no repository", text)
		}
	}
}

// What a rule asks about the person can answer for good: why says how, and what it says does it.
func TestWhyTellsHowAQuestionIsAnsweredForGood(t *testing.T) {
	p := resolve(t, inputs(t, "version = 1\n[agent]\ncommand = [\"x\"]\n[[network.rule]]\naction = \"ask\"\nhost = \"a.test\"\nmethods = [\"POST\"]\n"))
	e := p.Grants.Why(policy.Request{Host: host(t, "a.test"), Port: 443, Scheme: "https", Method: "POST", Path: "/x"})
	if e.Decision != "ask" || !strings.Contains(e.Change, "agentbox grants add a.test --method POST --path '/x'\n") || strings.Contains(e.Change, "before allow") {
		t.Errorf("%+v", e)
	}
}
