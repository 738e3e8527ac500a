package e2e

import (
	"strings"
	"testing"

	"agentbox/internal/event"
)

// A rule's methods and paths hold for every request that leaves a container, by whatever way it comes.
func TestMethodsAndPathsHold(t *testing.T) {
	s := newSite(t)
	s.profile("narrow", `version = 1
extends = "shell"
[[network.rule]]
action = "allow"
host = "`+secureHost+`"
methods = ["GET"]
paths = ["/pub/*"]
`)
	for _, way := range []string{"", "--noproxy '*' "} {
		script := `ask() { printf '%s ' "$(curl -s -o /dev/null -w '%{http_code}' --path-as-is ` + way + `"$@")"; }
u=https://` + secureHost + `
ask $u/pub/a; ask -X POST -d x $u/pub/a; ask -X get $u/pub/a; ask $u/pub/a/b; ask $u/private
ask $u/pub/../private; ask $u/pub/..%2fprivate; ask $u//pub/a; ask -H 'X-HTTP-Method-Override: DELETE' $u/pub/a; ask $u/pub/a -o /dev/null $u/private`
		r := s.agentbox("run", "narrow", "-q", "--", "sh", "-c", script).exits(0)
		if want := "200 403 403 403 403 403 403 403 403 200403 "; r.out != want {
			t.Errorf("%q: got %q, want %q", way, r.out, want)
		}
	}
	if r := s.agentbox("why", "narrow", "https://"+secureHost+"/pub/a", "--method", "POST").exits(1); !strings.Contains(r.out, "narrow.toml:3") && !strings.Contains(r.out, "only GET") {
		t.Errorf("why does not say which methods are allowed:\n%s", r.out)
	}
}

// What a rule says of sizes and kinds of requests holds from inside, and what was sent before the limit is all that arrives.
func TestSizesAndKindsHold(t *testing.T) {
	s := newSite(t)
	s.profile("small", `version = 1
extends = "shell"
[[network.rule]]
action = "allow"
host = "`+secureHost+`"
websocket = false
max_request = "100KB"
max_sent = "1MB"
`)
	script := `head -c 90000 /dev/zero >some; head -c 200000 /dev/zero >much
ask() { curl -s -o answer -w '%{http_code} ' "$@"; }
u=https://` + secureHost + `/up
ask --data-binary @much $u; ask -T - -H 'Content-Type: x' $u <much
ask --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==' https://` + secureHost + `/echo
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do ask --data-binary @some $u; done; cat answer >&2`
	r := s.agentbox("run", "small", "-q", "--", "sh", "-c", script).exits(0).says("max_sent")
	codes := strings.Fields(r.out)
	if len(codes) != 17 || codes[0] != "403" && codes[0] != "413" || codes[1] != "413" && codes[1] != "000" || codes[2] != "403" || codes[3] != "200" || codes[16] != "403" {
		t.Fatalf("got %q\n%s", r.out, r.err)
	}
	var up int64
	for _, e := range ofKind(s.events(), event.NetResponse) {
		up += e.BytesUp
	}
	if passed := strings.Count(r.out, "200"); up > 1_000_000 || passed < 8 || passed > 11 {
		t.Errorf("%d requests passed with %d bytes: %s", passed, up, r.out)
	}
}

// "origin" is this repository's own remote, to fetch from: a push goes nowhere, nor does another repository's fetch.
func TestOriginIsFetchedFromAndNotPushedTo(t *testing.T) {
	s := newSite(t)
	s.git("remote", "add", "origin", "https://"+secureHost+"/git/repo")
	s.git("config", "http.receivepack", "true")
	s.git("branch", "topic")
	s.profile("work", "version = 1\nextends = \"shell\"\n[network]\nuse = [\"origin\"]\n")
	r := s.agentbox("run", "work", "-q", "--", "sh", "-c", `git fetch -q origin && git rev-parse --verify -q refs/remotes/origin/topic >/dev/null && echo fetched
git push -q origin HEAD:refs/heads/planted 2>/dev/null || echo refused
git ls-remote https://`+secureHost+`/git/other 2>/dev/null || echo no other`).exits(0)
	r.prints("fetched\nrefused\nno other\n")
	if branches := s.git("branch", "--list", "planted"); branches != "" {
		t.Errorf("the push went through: %s", branches)
	}
	// the same push by a profile that allows the whole host: without the rule it would have gone through
	s.agentbox("run", "net", "-q", "--", "git", "push", "-q", "origin", "HEAD:refs/heads/planted").exits(0)
	if branches := s.git("branch", "--list", "planted"); !strings.Contains(branches, "planted") {
		t.Error("the push that is allowed did not go through, so the test above shows nothing")
	}
}

// What this version can't carry out refuses the run by name; the plan is shown all the same.
func TestAProfileThatNeedsMoreIsRefusedByName(t *testing.T) {
	b := newBox(t)
	for name, c := range map[string]struct{ text, says string }{
		"money":     {"[budget]\nusd = 5.00\n", "budget.usd"},
		"tier":      {"tier = \"high\"\n", `tier = "low" works today`},
		"mcp":       {"[[mcp]]\nname = \"files\"\ncommand = [\"true\"]\nallow = [\"*\"]\n", "files"},
		"telemetry": {"[telemetry]\notlp = \"http://127.0.0.1:4318\"\n", "telemetry"},
		"memory":    {"[memory]\nscope = \"repo\"\n", "memory.scope"},
		"image":     {"[agent]\nimage = \"example.com/tools@sha256:" + strings.Repeat("0", 64) + "\"\n[budget]\nusd = 5.00\n", "budget.usd"},
	} {
		b.profile("more", "version = 1\nextends = \"shell\"\n"+c.text)
		if r := b.agentbox("run", "more", "--", "true").exits(126).says(c.says).prints(""); strings.Contains(r.err, "pulling") {
			t.Errorf("%s: an image was fetched for it:\n%s", name, r.err)
		}
		if r := b.agentbox("run", "more", "--dry-run").exits(126).says(c.says); !strings.Contains(r.out, "not yet") {
			t.Errorf("%s: the plan is not shown:\n%s", name, r.out)
		}
	}
	b.profile("more", "version = 1\nextends = \"shell\"\ntier = \"medium\"\n[workspace]\nmode = \"readonly\"\n")
	b.agentbox("run", "more", "-q", "--", "sh", "-c", "echo x >new || echo medium works").exits(0).prints("medium works\n")
}
