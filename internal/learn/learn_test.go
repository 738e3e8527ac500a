package learn

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"agentbox/internal/event"
	"agentbox/internal/policy"
	"agentbox/internal/profiles"
	"agentbox/internal/replay"
)

func pattern(t testing.TB, s string) policy.Pattern {
	t.Helper()
	p, err := policy.ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func host(t testing.TB, s string) policy.Host {
	t.Helper()
	h, err := policy.ParseHost(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func paths(t testing.TB, texts ...string) (out []policy.PathPattern) {
	t.Helper()
	for _, s := range texts {
		p, err := policy.ParsePathPattern(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// refusedRequests is a log of requests "METHOD host/path", all of which were refused; "CONNECT host" is a tunnel.
func refusedRequests(all ...string) *replay.Log {
	l := &replay.Log{}
	for _, s := range all {
		method, rest, _ := strings.Cut(s, " ")
		host, path, found := strings.Cut(rest, "/")
		if found {
			path = "/" + path
		}
		l.Add(event.Event{Kind: event.NetRequest, Decision: event.Deny, Host: host, Port: 443, Scheme: "https", Method: method, Path: path, Rule: "default"})
	}
	return l
}

func propose(t *testing.T, in Input) (rules []string, left []string) {
	t.Helper()
	p := Propose(in)
	for _, r := range p.Rules {
		rules = append(rules, strings.TrimSpace(fmt.Sprintf("%s %s %s", strings.Join(r.Methods, ","), r.Host, strings.Join(r.Texts(), " "))))
	}
	for _, l := range p.Left {
		left = append(left, l.Request.Host.String())
	}
	return rules, left
}

func TestTheTightestRules(t *testing.T) {
	for name, test := range map[string]struct {
		log  []string
		want []string
	}{
		"one request":                      {[]string{"GET a.test/x"}, []string{"GET a.test /x"}},
		"a tunnel is reading":              {[]string{"CONNECT a.test"}, []string{"GET,HEAD a.test"}},
		"a tunnel beside requests":         {[]string{"CONNECT a.test", "POST a.test/x"}, []string{"POST a.test /x"}},
		"the same paths share a rule":      {[]string{"GET a.test/x", "HEAD a.test/x", "GET a.test/y", "HEAD a.test/y"}, []string{"GET,HEAD a.test /x /y"}},
		"no methods times paths":           {[]string{"GET a.test/x", "HEAD a.test/y"}, []string{"GET a.test /x", "HEAD a.test /y"}},
		"writing has its own rule":         {[]string{"GET a.test/x", "POST a.test/x"}, []string{"GET a.test /x", "POST a.test /x"}},
		"three siblings are themselves":    {[]string{"GET a.test/i/1", "GET a.test/i/2", "GET a.test/i/3"}, []string{"GET a.test /i/1 /i/2 /i/3"}},
		"four are a pattern":               {[]string{"GET a.test/i/1", "GET a.test/i/2", "GET a.test/i/3", "GET a.test/i/4", "GET a.test/other"}, []string{"GET a.test /i/* /other"}},
		"in the middle too":                {[]string{"GET a.test/i/1/x", "GET a.test/i/2/x", "GET a.test/i/3/x", "GET a.test/i/4/x"}, []string{"GET a.test /i/*/x"}},
		"but not the first segment":        {[]string{"GET a.test/1", "GET a.test/2", "GET a.test/3", "GET a.test/4"}, []string{"GET a.test /1 /2 /3 /4"}},
		"nor where two segments differ":    {[]string{"GET a.test/i/1/a", "GET a.test/i/2/b", "GET a.test/i/3/c", "GET a.test/i/4/d"}, []string{"GET a.test /i/1/a /i/2/b /i/3/c /i/4/d"}},
		"nor for writing":                  {[]string{"POST a.test/i/1", "POST a.test/i/2", "POST a.test/i/3", "POST a.test/i/4"}, []string{"POST a.test /i/1 /i/2 /i/3 /i/4"}},
		"a star in a path is a star":       {[]string{"GET a.test/a*b"}, []string{"GET a.test /a%2Ab"}},
		"an escape as rules write it":      {[]string{"GET a.test/%61%2fb"}, []string{"GET a.test /a%2Fb"}},
		"hosts and their order":            {[]string{"GET b.test/", "GET a.test/"}, []string{"GET a.test /", "GET b.test /"}},
		"nothing was refused, no proposal": {nil, nil},
	} {
		rules, left := propose(t, Input{Rules: policy.Set{Default: policy.Deny}, Log: refusedRequests(test.log...)})
		if !reflect.DeepEqual(rules, test.want) || len(left) > 0 {
			t.Errorf("%s:\n got %q\nwant %q\nleft %q", name, rules, test.want, left)
		}
	}
}

func TestBroadIsAskedFor(t *testing.T) {
	log := refusedRequests("GET a.test/x/1/a", "GET a.test/x/2/b", "GET a.test/x/3/c", "GET a.test/x/4/d", "POST a.test/i/1", "POST a.test/i/2", "POST a.test/i/3", "POST a.test/i/4")
	rules, _ := propose(t, Input{Rules: policy.Set{Default: policy.Deny}, Log: log, Broad: true})
	if want := []string{"GET a.test /x/**", "POST a.test /i/*"}; !reflect.DeepEqual(rules, want) {
		t.Errorf("got %q, want %q", rules, want)
	}
}

// What must never be learned is left out, whatever else is, and said.
func TestWhatIsNeverLearned(t *testing.T) {
	var tunnelled []string
	for i := range manyNames {
		tunnelled = append(tunnelled, fmt.Sprintf("CONNECT d%d.x%d.tunnel.test", i, i%3))
	}
	deny := policy.Rule{Action: policy.Deny, Host: pattern(t, "denied.test"), Ports: []uint16{443}, Inspect: true, Origin: "p:1"}
	ask := policy.Rule{Action: policy.Ask, Host: pattern(t, "asked.test"), Ports: []uint16{443}, Inspect: true, Origin: "p:2"}
	limited := policy.Rule{Action: policy.Allow, Host: pattern(t, "limited.test"), Ports: []uint16{443}, Paths: paths(t, "/a"), Inspect: true, Origin: "p:3"}
	set := policy.Set{Default: policy.Deny, Rules: []policy.Rule{deny, ask, limited}}
	for name, test := range map[string]struct {
		log  *replay.Log
		set  policy.Set
		why  string
		left int
	}{
		"metadata names":       {refusedRequests("GET metadata.google.internal/computeMetadata/v1/", "CONNECT metadata.google.internal"), set, "never allowed", 2},
		"what a rule denies":   {refusedRequests("GET denied.test/"), set, "goes before", 1},
		"what a rule asks":     {refusedRequests("GET asked.test/"), set, "agentbox approve --always", 1},
		"the organisation":     {refusedRequests("GET a.test/"), policy.Set{Default: policy.Deny, Only: []policy.Pattern{pattern(t, "b.test")}}, "organisation", 1},
		"many names":           {refusedRequests(tunnelled...), set, "looks like data", manyNames},
		"a long label":         {refusedRequests("CONNECT " + strings.Repeat("a", longLabel+1) + ".test"), set, "looks like data", 1},
		"paths of no one form": {refusedRequests("GET a.test/x/../y"), set, "no rule with paths", 1},
		"such beside a rule":   {refusedRequests("GET limited.test/x/../y"), set, "goes before", 1},
		"methods of no rule":   {refusedRequests("get a.test/"), set, "its method", 1},
	} {
		p := Propose(Input{Rules: test.set, Log: test.log, Broad: true})
		if !p.Empty() || len(p.Left) != test.left || !strings.Contains(p.Left[0].Why, test.why) {
			t.Errorf("%s: rules %+v, left %+v", name, p.Rules, p.Left)
		}
	}
	asides := &replay.Log{}
	asides.Add(event.Event{Kind: event.NetRequest, Decision: event.Deny, Host: "192.0.2.1", Port: 443, Method: "CONNECT"})
	asides.Add(event.Event{Kind: event.CredentialRefused, Decision: event.Deny, Host: "evil.test", Port: 443, Credential: "x", Reason: "a placeholder where it may not go"})
	asides.Add(event.Event{Kind: event.NetRequest, Decision: event.Deny, Host: "a.test", Port: 443, Method: "GET", Path: "/x…"})
	asides.Add(event.Event{Kind: event.NetResponse, Host: "inside.test", Port: 443, Status: 403, Reason: "inside.test resolves to an address that is not public (private)"})
	if p := Propose(Input{Rules: set, Log: asides}); !p.Empty() || len(asides.Unknown) != 2 || len(asides.Unsettled) != 2 {
		t.Errorf("%+v: %+v, %+v", p, asides.Unknown, asides.Unsettled)
	}
	override := &replay.Log{}
	override.Add(event.Event{Kind: event.NetRequest, Decision: event.Deny, Host: "a.test", Port: 443, Scheme: "https", Method: "GET", Path: "/", MethodBy: "X-HTTP-Method-Override"})
	override.Add(event.Event{Kind: event.NetRequest, Decision: event.Deny, Host: "db.test", Port: 5432, Scheme: policy.TCP})
	override.Add(event.Event{Kind: event.NetRequest, Decision: event.Deny, Host: "g.test", Port: 443, Scheme: "https", Method: "POST", Path: "/r/git-receive-pack", Git: &event.Git{Repo: "r", Op: "push"}})
	if p := Propose(Input{Rules: set, Log: override, Broad: true}); !p.Empty() || len(p.Left) != 3 {
		t.Errorf("%+v", p)
	}
	if p := Propose(Input{Rules: set, Log: refusedRequests("POST a.test/x", "GET a.test/x"), NoWrites: "the tier asks"}); len(p.Learned) != 1 || len(p.Left) != 1 || p.Left[0].Why != "the tier asks" {
		t.Errorf("%+v", p)
	}
}

func TestNamesThatWereOnlyLookedUp(t *testing.T) {
	l := refusedRequests("GET a.test/x")
	for _, h := range []string{"a.test", "b.test", "metadata.google.internal"} {
		l.Add(event.Event{Kind: event.DNSRefused, Decision: event.Deny, Host: h})
	}
	p := Propose(Input{Rules: policy.Set{Default: policy.Deny}, Log: l})
	if len(p.Rules) != 1 || len(p.Names) != 1 || p.Names[0].Request.Host.String() != "b.test" || len(p.Left) != 1 {
		t.Errorf("%+v", p)
	}
}

// A rule that goes by paths would deny what is allowed now and not in normal form: then its host is left alone.
func TestNothingThatIsAllowedGetsLost(t *testing.T) {
	l := refusedRequests("POST a.test/x", "POST b.test/x")
	l.Add(event.Event{Kind: event.NetRequest, Decision: event.Allow, Host: "a.test", Port: 443, Scheme: "https", Method: "GET", Path: "/a;b", Rule: "p:1"})
	reading := policy.Rule{Action: policy.Allow, Host: pattern(t, "a.test"), Ports: []uint16{443}, Methods: []string{"GET"}, Inspect: true, Origin: "p:1"}
	rules, left := propose(t, Input{Rules: policy.Set{Default: policy.Deny, Rules: []policy.Rule{reading}}, Log: l})
	if !slices.Equal(rules, []string{"POST b.test /x"}) || !slices.Equal(left, []string{"a.test"}) {
		t.Errorf("rules %q, left %q", rules, left)
	}
}

func TestASetThatHasTheRequestsGoesFirst(t *testing.T) {
	set := func(name string, model bool, hosts ...string) profiles.NamedSet {
		s := profiles.NamedSet{Name: name, Model: model}
		for _, h := range hosts {
			s.Rules = append(s.Rules, profiles.Rule{Action: "allow", Host: pattern(t, h), Ports: []profiles.Port{443}, Methods: []profiles.Method{"GET"}, Inspect: true})
		}
		return s
	}
	p := Propose(Input{Rules: policy.Set{Default: policy.Deny}, Log: refusedRequests("GET a.test/x", "GET b.test/y", "GET c.test/z", "GET model.test/"), Sets: []profiles.NamedSet{
		set("one", false, "a.test"), set("two", false, "a.test", "b.test"), set("model", true, "model.test"),
	}})
	if len(p.Sets) != 1 || p.Sets[0].Set.Name != "two" || len(p.Sets[0].For) != 2 || len(p.Rules) != 2 || len(p.Learned) != 4 {
		t.Errorf("%+v", p)
	}
}

func TestManyRequests(t *testing.T) {
	var all []string
	for i := range 3 * maxWanted {
		all = append(all, fmt.Sprintf("GET a.test/item/%d", i))
	}
	for i := range 500 {
		all = append(all, fmt.Sprintf("POST b.test/%d", i))
	}
	p := Propose(Input{Rules: policy.Set{Default: policy.Deny}, Log: refusedRequests(all...)})
	if len(p.Rules) != 1 || len(p.Learned) != 3*maxWanted || len(p.Left) != 500 {
		t.Errorf("%d rules, %d learned, %d left", len(p.Rules), len(p.Learned), len(p.Left))
	}
}

// For random rules and a random log: every request that is given as learned is allowed then, no other answer to the log
// changes, and all that is wider is what was shown: a request of a rule that is proposed.
func TestWhatIsLearnedIsAllowedAndNothingElse(t *testing.T) {
	learned, wide := 0, 0
	for seed := range uint64(600) {
		r := random{t, rand.New(rand.NewPCG(seed, 9))}
		in := Input{Rules: r.set(), Log: r.log(), Broad: r.IntN(3) == 0}
		p := Propose(in)
		after := p.Apply(in.Rules)
		r.holds(in, p, after)
		learned += len(p.Learned)
		for _, w := range policy.Wider(in.Rules, after) {
			wide++
			if !shown(p, w) {
				t.Fatalf("seed %d: %+v is not what was shown: %+v", seed, w, p.Rules)
			}
		}
	}
	if learned < 500 || wide < 200 {
		t.Errorf("only %d requests were learned, in %d ways: the words of the test do not meet", learned, wide)
	}
}

func (r random) holds(in Input, p Proposal, after policy.Set) {
	is, hosts := map[int]bool{}, map[policy.Host]bool{}
	for _, g := range p.Learned {
		is[g.Order], hosts[g.Request.Host] = true, true
	}
	for _, g := range in.Log.Groups {
		if g.Lookup && hosts[g.Request.Host] { // its name has to be found
			continue
		}
		was, wasErr := replay.Judge(in.Rules, g)
		now, nowErr := replay.Judge(after, g)
		switch {
		case is[g.Order] && (nowErr != nil || now.Action != policy.Allow):
			r.Fatalf("learned, and not allowed: %+v: %+v\n%+v", g, now, p.Rules)
		case !is[g.Order] && (was.Action != now.Action || (wasErr == nil) != (nowErr == nil)):
			r.Fatalf("not learned, and changed: %+v: from %+v to %+v\n%+v", g, was, now, p.Rules)
		}
	}
}

// shown reports whether a rule that is proposed names the request that shows what is wider.
func shown(p Proposal, w policy.Widening) bool {
	return w.Rule == "learned" && slices.ContainsFunc(p.Rules, func(r Rule) bool {
		path := len(r.Paths) == 0 || w.Unsure || slices.ContainsFunc(r.Paths, func(p Path) bool { return p.Pattern.Match(w.Path) })
		return r.Host.String() == w.Host && fmt.Sprint(r.Port) == w.Port && slices.Contains(r.Methods, w.Method) && path && !w.Uninspected && w.Override == ""
	})
}

// random makes rules and logs out of few enough words that they often meet.
type random struct {
	testing.TB
	*rand.Rand
}

func pick[T any](r random, of ...T) T { return of[r.IntN(len(of))] }

func (r random) set() policy.Set {
	s := policy.Set{Default: pick(r, policy.Deny, policy.Deny, policy.Ask)}
	for i := range r.IntN(5) {
		rule := policy.Rule{
			Action: pick(r, policy.Allow, policy.Allow, policy.Ask, policy.Deny), Host: pattern(r, pick(r, "a.test", "*.a.test", "b.a.test", "c.test")),
			Ports: []uint16{443}, Inspect: r.IntN(4) > 0, Origin: fmt.Sprintf("p:%d", i),
		}
		if r.IntN(2) == 0 {
			rule.Methods = []string{pick(r, "GET", "POST")}
		}
		if r.IntN(3) == 0 {
			rule.Paths = paths(r, pick(r, "/a", "/a/*", "/**/b", "/x/**"))
		}
		if len(rule.Methods)+len(rule.Paths) > 0 {
			rule.Inspect = true
		}
		s.Rules = append(s.Rules, rule)
	}
	if r.IntN(6) == 0 {
		s.Only = []policy.Pattern{pattern(r, pick(r, "a.test", "*.a.test"))}
	}
	return s
}

func (r random) log() *replay.Log {
	l := &replay.Log{}
	for range r.IntN(40) {
		e := event.Event{
			Kind: event.NetRequest, Decision: pick(r, event.Deny, event.Deny, event.Allow), Host: pick(r, "a.test", "b.a.test", "x.a.test", "c.test", "d.test", "metadata.goog"),
			Port: pick[uint16](r, 443, 443, 443, 8443), Scheme: "https", Method: pick(r, "GET", "GET", "HEAD", "POST", "PUT"),
			Path: pick(r, "/", "/a", "/b", "/x/"+pick(r, "1", "2", "3", "4", "5", "a%2Fb"), "/x/"+pick(r, "1", "2", "3", "4")+"/"+pick(r, "b", "c"), "/a/../b", "/a;b", "/*"),
		}
		switch r.IntN(10) {
		case 0:
			e.Method, e.Path = pick(r, "", "CONNECT"), ""
		case 1:
			e.MethodBy = "X-HTTP-Method-Override"
		case 2:
			e = event.Event{Kind: event.DNSRefused, Decision: event.Deny, Host: e.Host}
		}
		l.Add(e)
	}
	return l
}

// What a person said no to is not proposed, however often nobody answered beside.
func TestWhatAPersonDeniedIsNotLearned(t *testing.T) {
	l := &replay.Log{}
	for _, reason := range []string{"no rule names a.test, and nobody answered within 5m0s", policy.PersonDenied + ": no"} {
		l.Add(event.Event{Kind: event.NetRequest, Decision: event.Deny, Host: "a.test", Port: 443, Scheme: "https", Method: "GET", Path: "/", Rule: "default", Reason: reason})
	}
	p := Propose(Input{Rules: policy.Set{Default: policy.Ask}, Log: l})
	if len(p.Rules) != 0 || len(p.Left) != 1 || p.Left[0].Why != policy.PersonDenied {
		t.Errorf("%+v", p)
	}
}

// A rule is no wider than its requests: one of a WebSocket is for WebSockets, one of another port names the scheme, and
// what was seen of a tunnel alone is for reading, which a WebSocket is not.
func TestRulesHoldSchemeAndWebSocket(t *testing.T) {
	l := &replay.Log{}
	for _, e := range []event.Event{
		{Host: "a.test", Port: 443, Scheme: "https", Method: "GET", Path: "/socket", WebSocket: true},
		{Host: "a.test", Port: 443, Scheme: "https", Method: "GET", Path: "/page"},
		{Host: "a.test", Port: 8080, Scheme: "http", Method: "GET", Path: "/x"},
		{Host: "a.test", Port: 8080, Scheme: "https", Method: "GET", Path: "/x"},
		{Host: "b.test", Port: 443, Scheme: "https", Method: "CONNECT"},
	} {
		e.Kind, e.Decision, e.Rule = event.NetRequest, event.Deny, "default"
		l.Add(e)
	}
	p := Propose(Input{Rules: policy.Set{Default: policy.Deny}, Log: l})
	var got []string
	for _, r := range p.Rules {
		got = append(got, strings.TrimPrefix(strings.ReplaceAll(r.TOML(), "\n", " "), `[[network.rule]] action = "allow" `))
	}
	want := []string{
		`host = "a.test" methods = ["GET"] paths = ["/page"] `,
		`host = "a.test" websocket = true methods = ["GET"] paths = ["/socket"] `,
		`host = "a.test" ports = [8080] scheme = "http" methods = ["GET"] paths = ["/x"] `,
		`host = "a.test" ports = [8080] scheme = "https" methods = ["GET"] paths = ["/x"] `,
		`host = "b.test" websocket = false methods = ["GET", "HEAD"] `,
	}
	if !reflect.DeepEqual(got, want) || len(p.Left) > 0 || len(p.Learned) != 5 {
		t.Errorf("got\n%s\nleft %+v", strings.Join(got, "\n"), p.Left)
	}
	after := p.Apply(policy.Set{Default: policy.Deny}).Compile()
	for _, r := range []policy.Request{
		{Path: "/socket"}, {Path: "/x", Port: 8080, Scheme: "http", WebSocket: true, Host: host(t, "b.test")}, {Path: "/", WebSocket: true, Host: host(t, "b.test")},
	} {
		if r.Host.IsZero() {
			r.Host = host(t, "a.test")
		}
		if r.Port == 0 {
			r.Port, r.Scheme = 443, "https"
		}
		if r.Method = "GET"; after.Decide(r).Allowed() {
			t.Errorf("%+v is allowed too", r)
		}
	}
	if p := Propose(Input{Rules: policy.Set{Default: policy.Deny}, Log: l, NoWrites: "the tier"}); len(p.Left) != 1 || !p.Left[0].Request.WebSocket {
		t.Errorf("where nothing may write: %+v", p.Left)
	}
}
