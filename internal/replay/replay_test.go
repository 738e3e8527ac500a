package replay

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"agentbox/internal/event"
	"agentbox/internal/gate"
	"agentbox/internal/policy"
)

func host(t testing.TB, s string) policy.Host {
	t.Helper()
	h, err := policy.ParseHost(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func rule(t testing.TB, action policy.Action, h string, methods ...string) policy.Rule {
	t.Helper()
	p, err := policy.ParsePattern(h)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Rule{Action: action, Host: p, Ports: []uint16{443}, Methods: methods, Inspect: true, Origin: "p:1"}
}

// memory is a log of lines, as the file is one.
type memory struct{ lines [][]byte }

func (m *memory) Emit(e event.Event) error {
	line, err := json.Marshal(e)
	m.lines = append(m.lines, line)
	return err
}

// What the gate judges can be judged again from the log alone: all that a request is made of is in its event.
func TestTheLogHoldsAllThatWasJudged(t *testing.T) {
	h := host(t, "a.test")
	for _, r := range []policy.Request{
		{Host: h, Port: 443, Scheme: "https", Method: "GET", Path: "/x%20y", Via: "proxy"},
		{Host: h, Port: 80, Scheme: "http", Method: "POST", Path: "/", Via: "direct", Size: -1},
		{Host: h, Port: 8443, Scheme: "https", Method: "PUT", Path: "/a", Size: 12345, MethodBy: "X-HTTP-Method-Override", PathBy: "X-Original-URL"},
		{Host: h, Port: 443, Scheme: "https", Method: "GET", Path: "/socket", WebSocket: true},
		{Host: h, Port: 443, Method: "CONNECT", Via: "proxy"},
		{Host: h, Port: 443, Scheme: "https", Via: "direct"},
		{Host: h, Port: 5432, Scheme: policy.TCP, Via: "proxy"},
		{Host: h, Port: 443, Scheme: "https", Method: "POST", Path: "/acme/billing.git/git-receive-pack", Git: &policy.GitRequest{
			Repo: "acme/billing", Op: policy.GitPush, Refs: []policy.RefUpdate{{Name: "refs/heads/x y", Kind: policy.RefForce}, {Name: "refs/tags/v1", Kind: policy.RefDelete}}}},
	} {
		log := &memory{}
		if _, err := gate.New(policy.Set{Default: policy.Deny}, log).Check(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		var e event.Event
		if err := json.Unmarshal(log.lines[0], &e); err != nil {
			t.Fatal(err)
		}
		again, err := Request(e)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("got  %+v, %v\nwant %+v", again, err, r)
		}
		// A field that is added to requests has to come into the log too.
		if n := reflect.TypeFor[policy.Request]().NumField(); n != 11 {
			t.Errorf("a request has %d fields: is the new one in its event, and is it read back?", n)
		}
	}
}

// What was cut is unknown, however it would be judged: the beginning of a path says nothing about its end.
func TestWhatIsCutIsNotGuessed(t *testing.T) {
	h := host(t, "a.test")
	long := strings.Repeat("a", 5000)
	var refs []policy.RefUpdate
	for i := range 100 {
		refs = append(refs, policy.RefUpdate{Name: fmt.Sprintf("refs/heads/%d", i), Kind: policy.RefCreate})
	}
	for name, r := range map[string]policy.Request{
		"path":   {Host: h, Port: 443, Scheme: "https", Method: "GET", Path: "/" + long},
		"method": {Host: h, Port: 443, Scheme: "https", Method: long, Path: "/"},
		"repo":   {Host: h, Port: 443, Scheme: "https", Method: "GET", Path: "/", Git: &policy.GitRequest{Repo: long, Op: policy.GitFetch}},
		"ref":    {Host: h, Port: 443, Scheme: "https", Method: "POST", Path: "/", Git: &policy.GitRequest{Op: policy.GitPush, Refs: []policy.RefUpdate{{Name: long, Kind: policy.RefCreate}}}},
		"refs":   {Host: h, Port: 443, Scheme: "https", Method: "POST", Path: "/", Git: &policy.GitRequest{Op: policy.GitPush, Refs: refs}},
	} {
		log := &memory{}
		if _, err := gate.New(policy.Set{Default: policy.Deny}, log).Check(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if len(log.lines[0]) > 12<<10 {
			t.Errorf("%s: an event of %d bytes", name, len(log.lines[0]))
		}
		var e event.Event
		if err := json.Unmarshal(log.lines[0], &e); err != nil {
			t.Fatal(err)
		}
		if again, err := Request(e); err == nil {
			t.Errorf("%s: told as %+v", name, again)
		}
		var l Log
		l.Add(e)
		all := rule(t, policy.Allow, "a.test")
		changes, unknown := l.Compare(policy.Set{Default: policy.Deny, Rules: []policy.Rule{all}})
		if len(changes) != 0 || len(unknown) != 1 {
			t.Errorf("%s: changes %v, unknown %v", name, changes, unknown)
		}
	}
}

func TestRequestsThatCannotBeTold(t *testing.T) {
	for name, e := range map[string]event.Event{
		"an address":        {Kind: event.NetRequest, Host: "192.0.2.1", Port: 443, Method: "CONNECT"},
		"no name":           {Kind: event.NetRequest, Host: "", Port: 443, Method: "GET", Path: "/"},
		"not canonical":     {Kind: event.NetRequest, Host: "A.test", Port: 443, Method: "GET", Path: "/"},
		"escapes":           {Kind: event.NetRequest, Host: "a\x1b[2J.test", Port: 443},
		"no scheme":         {Kind: event.NetRequest, Host: "a.test", Port: 8080, Method: "GET", Path: "/"},
		"an unheard git op": {Kind: event.NetRequest, Host: "a.test", Port: 443, Method: "GET", Path: "/", Git: &event.Git{Op: "gc"}},
		"another kind":      {Kind: event.NetResponse, Host: "a.test", Port: 443},
	} {
		if r, err := Request(e); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r, err := Request(event.Event{Kind: event.NetRequest, Host: "a.test", Port: 443, Method: "GET", Path: "/"}); err != nil || r.Scheme != "https" {
		t.Errorf("what an older agentbox wrote of port 443: %+v, %v", r, err)
	}
}

func TestCompareListsWhatChanges(t *testing.T) {
	var l Log
	for _, e := range []event.Event{
		{Kind: event.NetRequest, Decision: event.Deny, Host: "new.test", Port: 443, Scheme: "https", Method: "GET", Path: "/", Rule: "default"},
		{Kind: event.NetRequest, Decision: event.Deny, Host: "new.test", Port: 443, Scheme: "https", Method: "GET", Path: "/", Rule: "default", Count: 4},
		{Kind: event.NetRequest, Decision: event.Allow, Host: "old.test", Port: 443, Scheme: "https", Method: "GET", Path: "/", Rule: "q:1"},
		{Kind: event.NetRequest, Decision: event.Allow, Host: "same.test", Port: 443, Scheme: "https", Method: "GET", Path: "/", Rule: "q:2"},
		{Kind: event.NetRequest, Decision: event.Deny, Host: "asked.test", Port: 443, Scheme: "https", Method: "GET", Path: "/", Rule: "default"},
		{Kind: event.NetRequest, Decision: event.Allow, Host: "answered.test", Port: 443, Scheme: "https", Method: "GET", Path: "/", Rule: "p:1", Reason: policy.PersonAllowed + " once"},
		{Kind: event.NetRequest, Decision: event.Allow, Host: "spliced.test", Port: 443, Scheme: "https", Rule: "q:3"},
		{Kind: event.DNSRefused, Decision: event.Deny, Host: "same.test"},
		{Kind: event.DNSRefused, Decision: event.Deny, Host: "evil.test"},
		{Kind: event.NetRefused, Decision: event.Deny, Host: "same.test", Port: 443, Reason: "no TLS"},
		{Kind: "net.teleport"},
	} {
		l.Add(e)
	}
	set := policy.Set{Default: policy.Deny, Rules: []policy.Rule{
		rule(t, policy.Allow, "new.test"), rule(t, policy.Allow, "same.test"), rule(t, policy.Ask, "asked.test"), rule(t, policy.Ask, "answered.test"), rule(t, policy.Allow, "spliced.test"),
	}}
	changes, unknown := l.Compare(set.Compile())
	var got []string
	for _, c := range changes {
		got = append(got, fmt.Sprintf("%d %s %s %s→%s", c.Count, c.Request.Host, c.Request.Method, c.Was, c.Now.Action))
	}
	want := []string{"5 new.test GET deny→allow", "1 old.test GET allow→deny", "1 asked.test GET deny→ask", "1 same.test  deny→allow"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if len(unknown) != 1 || unknown[0].Host != "spliced.test" || len(l.Unsettled) != 1 || l.Foreign != 1 {
		t.Errorf("unknown %+v, unsettled %+v, foreign %d", unknown, l.Unsettled, l.Foreign)
	}
}

// An agent chooses names and paths: what is kept of them is bounded, and look-ups leave requests their room.
func TestALogIsBounded(t *testing.T) {
	var l Log
	for i := range 3 * maxRequests {
		l.Add(event.Event{Kind: event.DNSRefused, Decision: event.Deny, Host: fmt.Sprintf("n%d.evil.test", i)})
	}
	for i := range 3 * maxRequests {
		l.Add(event.Event{Kind: event.NetRequest, Decision: event.Deny, Host: "a.test", Port: 443, Method: "GET", Path: fmt.Sprintf("/%d", i)})
		l.Add(event.Event{Kind: event.NetRefused, Host: "a.test", Port: uint16(i%60_000 + 1), Reason: fmt.Sprint(i)})
	}
	if len(l.Groups) != maxRequests+maxLookups || len(l.Unsettled) != maxAsides || l.Omitted == 0 {
		t.Errorf("%d groups, %d asides, %d omitted", len(l.Groups), len(l.Unsettled), l.Omitted)
	}
	if n := len(l.Requests()); n != maxRequests {
		t.Errorf("%d requests kept", n)
	}
}

// Whatever rules a run had: judged by them again, nothing changes.
func TestTheSameRulesChangeNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	for range 300 {
		set := policy.Set{Default: policy.Action(pick("deny", "allow", "ask"))}
		for i := range r.IntN(6) {
			made := rule(t, policy.Action(pick("allow", "ask", "deny")), pick("a.test", "*.a.test", "b.a.test"))
			made.Origin = fmt.Sprint("p:", i)
			if r.IntN(2) == 0 {
				made.Methods = []string{pick("GET", "POST")}
			}
			set.Rules = append(set.Rules, made)
		}
		log := &memory{}
		g := gate.New(set, log)
		for range 30 {
			q := policy.Request{Host: host(t, pick("a.test", "b.a.test", "c.test")), Port: 443, Scheme: "https", Method: pick("GET", "POST"), Path: pick("/", "/a/../b", "/a")}
			if _, err := g.Check(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		var l Log
		for _, line := range log.lines {
			var e event.Event
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatal(err)
			}
			l.Add(e)
		}
		if changes, unknown := l.Compare(set); len(changes)+len(unknown) != 0 {
			t.Fatalf("%+v\n%+v", changes, unknown)
		}
	}
}

// A place that denied, or allowed, when the run was, and asks now, is a change; what came of the same question is none.
func TestAskingNowIsNoAnswerOfThen(t *testing.T) {
	asks := policy.Set{Default: policy.Ask}
	h := host(t, "a.test")
	want := asks.Decide(policy.Request{Host: h, Port: 443, Scheme: "https", Method: "GET", Path: "/"}).Reason()
	for _, c := range []struct {
		was    event.Decision
		reason string
		same   bool
	}{
		{event.Deny, "no rule names a.test on port 443", false},
		{event.Allow, "no rule names a.test on port 443 and the default allows it", false},
		{event.Deny, want + ", and nobody answered within 5m0s", true},
		{event.Deny, policy.PersonDenied + ": no", true},
		{event.Allow, policy.PersonAllowed + " once", true},
	} {
		l := &Log{}
		l.Add(event.Event{Kind: event.NetRequest, Decision: c.was, Host: "a.test", Port: 443, Scheme: "https", Method: "GET", Path: "/", Rule: "default", Reason: c.reason})
		changes, _ := l.Compare(asks.Compile())
		if same := len(changes) == 0; same != c.same {
			t.Errorf("%s %q: %+v", c.was, c.reason, changes)
		}
	}
}
