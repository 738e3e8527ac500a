package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// What a run was refused is learned, and the next run has it, and no more than that; judged again, neither run would be
// answered otherwise by what is then allowed.
func TestWhatARunWasRefusedIsLearned(t *testing.T) {
	s := newSite(t)
	s.profile("narrow", `version = 1
extends = "shell"
[[network.rule]]
action = "allow"
host = "`+secureHost+`"
methods = ["GET"]
paths = ["/pub/*"]
`)
	script := `ask() { printf '%s ' "$(curl -s -o /dev/null -w '%{http_code}' "$@")"; }
ask https://` + secureHost + `/pub/a; ask https://` + secureHost + `/private; ask http://` + plainHost + `/x`
	first := s.agentbox("run", "narrow", "--", "sh", "-c", script).exits(0)
	first.prints("200 403 403 ")
	id := runOf(t, first)
	first.says("agentbox learn " + id + "  shows what would allow this")

	s.agentbox("replay", id).exits(0).says("nothing changes")
	if r := s.alone("learn", id).exits(1).says("nothing is written"); !strings.Contains(r.out, `+paths = ["/private"]`) || !strings.Contains(r.out, "+ports = [80]") {
		t.Errorf("the diff is\n%s", r.out)
	}
	if second := s.agentbox("run", "narrow", "-q", "--", "sh", "-c", script).exits(0); second.out != "200 403 403 " {
		t.Fatalf("something was allowed before it was accepted: %q", second.out)
	}

	s.agentbox("learn", id, "--accept").exits(0).says("and nothing else of it changes")
	more := script + `; ask -X POST -d x https://` + secureHost + `/private; ask https://` + secureHost + `/other; ask http://` + plainHost + `/y`
	third := s.agentbox("run", "narrow", "--", "sh", "-c", more).exits(0)
	third.prints("200 200 200 403 403 403 ")
	s.agentbox("replay", runOf(t, third)).exits(0).says("nothing changes")
	if r := s.agentbox("replay", id).exits(1); strings.Count(r.out, "deny (default) → allow (") != 2 {
		t.Errorf("two answers to the first run should change:\n%s", r.out)
	}
	s.agentbox("learn", id).exits(0).says("there is nothing to learn")
}

// A single refusal is told with the command that would allow it, which does.
func TestASingleRefusalIsToldWithItsGrant(t *testing.T) {
	s := newSite(t)
	script := `curl -s -o /dev/null -w '%{http_code}' http://` + plainHost + `/x`
	r := s.shell(script).exits(0)
	r.prints("403")
	command := regexp.MustCompile(`agentbox (grants add \S+ --port 80 --method GET --method HEAD --scheme http)  would allow it`).FindStringSubmatch(r.err)
	if command == nil {
		t.Fatalf("there is no command in\n%s", r.err)
	}
	s.agentbox(strings.Fields(command[1])...).exits(0)
	s.shell(script).exits(0).prints("200")
}

// runOf is the last part of the id of a run, as its summary has it.
func runOf(t *testing.T, r result) string {
	t.Helper()
	id := regexp.MustCompile(`run [0-9]{8}-[0-9]{6}-([a-z0-9]{4})`).FindStringSubmatch(r.err)
	if id == nil {
		t.Fatalf("there is no run in\n%s", r.err)
	}
	return id[1]
}
