package policy

import (
	"slices"
	"strings"
	"testing"
)

// rules makes a set for good.test:443 and, by other words, for more: "deny GET,POST /a/**,/b" and so on; a word with a
// dot is the host, one of digits the port.
func rules(t testing.TB, otherwise Action, lines ...string) Set {
	t.Helper()
	s := Set{Default: otherwise}
	for i, line := range lines {
		r := Rule{Host: pattern(t, "good.test"), Ports: []uint16{443}, Inspect: true, Origin: "p:" + string(rune('1'+i))}
		for n, word := range strings.Fields(line) {
			switch {
			case n == 0:
				r.Action = Action(word)
			case word == "splice":
				r.Inspect = false
			case word[0] == '/':
				for p := range strings.SplitSeq(word, ",") {
					r.Paths = append(r.Paths, pathPattern(t, p))
				}
			case strings.Contains(word, "."):
				r.Host = pattern(t, word)
			default:
				r.Methods = strings.Split(word, ",")
			}
		}
		s.Rules = append(s.Rules, r)
	}
	return s
}

func TestDecideByMethodAndPath(t *testing.T) {
	for _, c := range []struct {
		set                Set
		method, path, host string
		want               Action
		rule, reason       string
	}{
		{rules(t, Deny, "allow GET,HEAD /api/**"), "GET", "/api/x", "", Allow, "p:1", "the rule for good.test at p:1 allows GET /api/x of good.test on port 443"},
		{rules(t, Deny, "allow GET,HEAD /api/**"), "POST", "/api/x", "", Deny, "default", "no rule for good.test on port 443 names POST /api/x, only GET, HEAD of /api/**"},
		{rules(t, Deny, "allow GET,HEAD /api/**"), "get", "/api/x", "", Deny, "default", "names get /api/x"},
		{rules(t, Deny, "allow GET"), "HEAD", "/", "", Deny, "default", "only GET"},
		{rules(t, Deny, "allow GET /api/**"), "GET", "/api", "", Deny, "default", "names GET /api,"},
		{rules(t, Deny, "allow GET /api/**"), "GET", "", "", Deny, "default", "only GET of /api/**"},
		{rules(t, Deny, "allow GET /"), "GET", "", "", Allow, "p:1", ""},
		{rules(t, Deny, "allow /api/**", "deny DELETE"), "DELETE", "/api/x", "", Deny, "p:2", "denies DELETE /api/x"},
		{rules(t, Deny, "allow", "ask POST", "deny POST /admin"), "POST", "/admin", "", Deny, "p:3", ""},
		{rules(t, Deny, "allow", "ask POST", "deny POST /admin"), "POST", "/x", "", Ask, "p:2", "wants a person asked before POST /x of good.test on port 443"},
		{rules(t, Deny, "allow", "ask POST", "deny POST /admin"), "GET", "/admin", "", Allow, "p:1", ""},
		{rules(t, Ask, "allow GET"), "POST", "/", "", Ask, "default", "the default is to ask a person"},
		{rules(t, Allow, "deny POST"), "GET", "/", "", Allow, "default", "no rule names good.test on port 443 and the default is to allow"},
		{rules(t, Allow, "ask POST", "allow /x"), "POST", "/x", "", Ask, "p:1", ""},
		{rules(t, Deny, "allow", "deny /admin"), "GET", "/a//b", "", Deny, "p:2", "the path has an empty segment, so servers may take it for another one, and the rule at p:2 goes by paths of good.test"},
		{rules(t, Deny, "allow", "deny POST /admin"), "GET", "/..", "", Deny, "p:2", "has a segment"},
		{rules(t, Deny, "allow", "deny POST"), "GET", "/a//b", "", Allow, "p:1", ""},
		{rules(t, Allow, "deny other.test /admin"), "GET", "/a//b", "", Allow, "default", ""},
		{rules(t, Deny, "allow /**", "allow"), "GET", "/a;b", "", Deny, "p:1", `the path holds ";"`},
		{rules(t, Deny, "allow *.good.test GET /a", "allow x.good.test"), "GET", "//", "x.good.test", Deny, "p:1", "empty segment"},
		{rules(t, Deny, "allow"), "", "/x", "", Deny, "built-in", "the request has a path but no method"},
		{rules(t, Deny, "allow metadata.google.internal"), "GET", "/", "metadata.google.internal", Deny, "built-in", ""},
	} {
		name := "good.test"
		if c.host != "" {
			name = c.host
		}
		q := Request{Host: host(t, name), Port: 443, Method: c.method, Path: c.path}
		for _, d := range []Decision{c.set.Decide(q), c.set.Compile().Decide(q)} {
			if d.Action != c.want || d.Rule != c.rule || !strings.Contains(d.Reason(), c.reason) {
				t.Errorf("%s %s: got %s by %s: %s\nwant %s by %s: %s", c.method, c.path, d.Action, d.Rule, d.Reason(), c.want, c.rule, c.reason)
			}
			if wantInspect := d.Allowed(); d.Inspect != wantInspect {
				t.Errorf("%s %s: Inspect = %v", c.method, c.path, d.Inspect)
			}
		}
	}
}

func TestTheQuestionOfATunnel(t *testing.T) {
	for _, c := range []struct {
		set     Set
		want    Action
		inspect bool
	}{
		{rules(t, Deny, "allow GET /a"), Allow, true},
		{rules(t, Deny, "allow splice"), Allow, false},
		{rules(t, Deny, "allow splice", "deny DELETE"), Allow, true},
		{rules(t, Deny, "allow splice", "ask /x"), Allow, true},
		{rules(t, Deny, "allow splice", "allow *.other.test GET"), Allow, false},
		{rules(t, Deny, "allow splice", "deny"), Deny, false},
		{rules(t, Deny, "allow GET", "ask"), Ask, false},
		{rules(t, Deny, "ask POST"), Ask, false},
		{rules(t, Deny, "ask POST", "deny"), Deny, false},
		{rules(t, Allow, "deny POST /x"), Allow, true},
		{rules(t, Ask, "allow /x"), Allow, true},
	} {
		if good := host(t, "good.test"); c.set.Reachable(good) != (c.want != Deny) || c.set.Compile().Reachable(good) != (c.want != Deny) {
			t.Errorf("%+v: Reachable is not %v", c.set, c.want != Deny)
		}
		for _, method := range []string{"", "CONNECT"} {
			q := Request{Host: host(t, "good.test"), Port: 443, Method: method}
			for _, d := range []Decision{c.set.Decide(q), c.set.Compile().Decide(q)} {
				if d.Action != c.want || d.Inspect != c.inspect {
					t.Errorf("%+v: %s, Inspect = %v: %s", c.set, d.Action, d.Inspect, d.Reason())
				}
			}
		}
	}
}

func TestOnly(t *testing.T) {
	set := rules(t, Allow, "allow evil.test")
	set.Only = []Pattern{pattern(t, "good.test"), pattern(t, "*.fine.test"), pattern(t, "metadata.google.internal")}
	for name, want := range map[string]Action{
		"good.test": Allow, "x.fine.test": Allow, "fine.test": Deny, "x.good.test": Deny, "evil.test": Deny, "other.test": Deny, "metadata.google.internal": Deny,
	} {
		q := Request{Host: host(t, name), Port: 443, Method: "GET", Path: "/"}
		for _, d := range []Decision{set.Decide(q), set.Compile().Decide(q)} {
			if d.Action != want || name == "evil.test" && (d.Rule != "only" || !strings.Contains(d.Reason(), "organisation")) {
				t.Errorf("%s: %s by %s: %s", name, d.Action, d.Rule, d.Reason())
			}
		}
		if set.Reachable(q.Host) != (want == Allow) || set.Compile().Reachable(q.Host) != (want == Allow) {
			t.Errorf("Reachable(%s) is wrong", name)
		}
	}
}

func TestOverridesAreDeniedWhereTheyMatter(t *testing.T) {
	for _, c := range []struct {
		set              Set
		methodBy, pathBy string
		want             Action
	}{
		{rules(t, Deny, "allow GET"), "X-HTTP-Method", "", Deny},
		{rules(t, Deny, "allow", "deny DELETE"), "X-HTTP-Method", "", Deny},
		{rules(t, Deny, "allow", "deny /x"), "X-HTTP-Method", "", Allow},
		{rules(t, Deny, "allow /a"), "", "X-Original-URL", Deny},
		{rules(t, Deny, "allow", "deny /x"), "", "X-Original-URL", Deny},
		{rules(t, Deny, "allow GET"), "", "X-Original-URL", Allow},
		{rules(t, Deny, "allow", "deny other.test DELETE /x"), "X-HTTP-Method", "X-Original-URL", Allow},
	} {
		q := Request{Host: host(t, "good.test"), Port: 443, Method: "GET", Path: "/a", MethodBy: c.methodBy, PathBy: c.pathBy}
		for _, d := range []Decision{c.set.Decide(q), c.set.Compile().Decide(q)} {
			if d.Action != c.want || d.Action == Deny && !strings.Contains(d.Reason(), c.methodBy+c.pathBy) || d.Action == Deny && !strings.Contains(d.Reason(), "server") {
				t.Errorf("%+v: %s: %s", c, d.Action, d.Reason())
			}
		}
	}
}

// What an agent sent can't redraw a screen, or fill it, by way of a reason.
func TestReasonsShowWhatWasSentSafely(t *testing.T) {
	set := rules(t, Deny, "allow GET /a")
	for _, path := range []string{"/\x1b[2J", "/\n\nallowed", "/\u202e", "/" + strings.Repeat("x", 10_000)} {
		q := Request{Host: host(t, "good.test"), Port: 443, Method: "GET", Path: path}
		for _, d := range []Decision{set.Decide(q), rules(t, Deny, "allow GET").Decide(Request{Host: q.Host, Port: 443, Method: path})} {
			if why := d.Reason(); strings.ContainsFunc(why, func(r rune) bool { return r < ' ' || r > '~' && r != '…' }) || len(why) > 500 {
				t.Errorf("%.20q: %q", path, why)
			}
		}
	}
	if d := Denied("p:9", "because"); d.Allowed() || d.Action != Deny || d.Rule != "p:9" || d.Reason() != "because" {
		t.Errorf("Denied gave %+v", d)
	}
	if d := (Decision{}); d.Allowed() {
		t.Error("the zero decision allows")
	}
}

// Every path of a few segments over a small alphabet, so that nothing can hide between samples.
func TestWiderMissesNoPath(t *testing.T) {
	var paths []string
	var grow func(path string, left int)
	grow = func(path string, left int) {
		if CanonicalPath(path) {
			paths = append(paths, path)
		}
		if left > 0 {
			for _, unit := range []string{"a", "b", "/", "%2F"} {
				grow(path+unit, left-1)
			}
		}
	}
	grow("/", 5)
	same, differ := 0, 0
	for seed := range uint64(400) {
		r := newRandom(t, seed)
		from, to := r.pathSet(), r.pathSet()
		if seed%2 == 0 {
			to = Set{Default: from.Default, Rules: append(slices.Clone(from.Rules[1:]), r.pathRule("t"))}
		}
		now := map[string]string{} // by rule of to, a path that it allows more of
		for _, path := range paths {
			q := Request{Host: host(t, "good.test"), Port: 443, Method: "GET", Path: path}
			if a, b := from.Decide(q), to.Decide(q); moreGenerous(a, b) {
				now[b.Rule] = path
			}
		}
		said := map[string]bool{}
		for _, w := range Wider(from, to) {
			said[w.Rule] = true
			q := w.request()
			if w.Unsure || !moreGenerous(from.Decide(q), to.Decide(q)) {
				t.Fatalf("seed %d: %+v from\n%+v to\n%+v", seed, w, from, to)
			}
		}
		for rule, path := range now {
			if !said[rule] {
				t.Fatalf("seed %d: Wider says nothing of %s, by which %s is allowed, from\n%+v to\n%+v", seed, rule, path, from, to)
			}
		}
		if len(now) > 0 {
			differ++
		} else {
			same++
		}
	}
	if same < 30 || differ < 30 {
		t.Errorf("%d pairs without a difference and %d with one say too little", same, differ)
	}
}

func (r random) pathRule(origin string) Rule {
	var paths []PathPattern
	for len(paths) == 0 {
		var b strings.Builder
		for range 1 + r.IntN(3) {
			b.WriteString("/")
			for range r.IntN(3) {
				b.WriteString(pick(r, "a", "b", "a", "*", "**", "%2F"))
			}
		}
		if p, err := ParsePathPattern(b.String()); err == nil {
			paths = append(paths, p)
		}
	}
	return Rule{Action: pick(r, Allow, Allow, Deny, Ask), Host: pattern(r, "good.test"), Ports: []uint16{443}, Inspect: true, Paths: paths, Origin: origin}
}

func (r random) pathSet() Set {
	s := Set{Default: pick(r, Deny, Deny, Allow, Ask)}
	for i := range 1 + r.IntN(4) {
		s.Rules = append(s.Rules, r.pathRule("p:"+string(rune('1'+i))))
	}
	return s
}

func TestWiderSaysWhatIsWider(t *testing.T) {
	for name, c := range map[string]struct {
		from, to Set
		want     []Widening // Host, Method, Path where they are to be held
	}{
		"one method more": {rules(t, Deny, "allow GET /api/**"), rules(t, Deny, "allow GET,POST /api/**"),
			[]Widening{{Host: "good.test", Hosts: "good.test", Port: "443", Method: "POST", Path: "/api/", From: Deny, To: Allow, Rule: "p:1", Was: "default"}}},
		"every method": {rules(t, Deny, "allow GET,POST"), rules(t, Deny, "allow"),
			[]Widening{{Host: "good.test", Hosts: "good.test", Port: "443", Method: "PUT", Path: "/", From: Deny, To: Allow, Rule: "p:1", Was: "default"}}},
		"a deeper path": {rules(t, Deny, "allow GET /x/*"), rules(t, Deny, "allow GET /x/**"),
			[]Widening{{Host: "good.test", Hosts: "good.test", Port: "443", Method: "GET", Path: "/x/y/", From: Deny, To: Allow, Rule: "p:1", Was: "default"}}},
		"one denial less": {rules(t, Deny, "allow *.good.test", "deny a.good.test"), rules(t, Deny, "allow *.good.test"),
			[]Widening{{Host: "a.good.test", Hosts: "a.good.test", Port: "443", Method: "POST", Path: "/", From: Deny, To: Allow, Rule: "p:1", Was: "p:2"}}},
		"names below": {rules(t, Deny, "allow a.good.test"), rules(t, Deny, "allow *.good.test"),
			[]Widening{{Host: "any.good.test", Hosts: "*.good.test", Port: "443", Method: "POST", Path: "/", From: Deny, To: Allow, Rule: "p:1", Was: "default"}}},
		"the default": {rules(t, Deny, "deny good.test"), rules(t, Ask, "deny good.test"),
			[]Widening{{Host: "good.test", Hosts: "good.test", Port: "444", Method: "POST", Path: "/", From: Deny, To: Ask, Rule: "default", Was: "default"}}},
		"asked before": {rules(t, Deny, "allow", "ask DELETE"), rules(t, Deny, "allow"),
			[]Widening{{Host: "good.test", Hosts: "good.test", Port: "443", Method: "DELETE", Path: "/", From: Ask, To: Allow, Rule: "p:1", Was: "p:2"}}},
		"not inspected": {rules(t, Deny, "allow"), rules(t, Deny, "allow splice"),
			[]Widening{{Host: "good.test", Hosts: "good.test", Port: "443", From: Allow, To: Allow, Rule: "p:1", Was: "p:1", Uninspected: true}}},
		"new and not inspected": {rules(t, Deny), rules(t, Deny, "allow splice"),
			[]Widening{{Host: "good.test", Hosts: "good.test", Port: "443", Method: "POST", Path: "/", From: Deny, To: Allow, Rule: "p:1", Was: "default", Uninspected: true}}},
		"unclear paths": {rules(t, Deny, "allow", "allow /x"), rules(t, Deny, "allow"),
			[]Widening{{Host: "good.test", Hosts: "good.test", Port: "443", Method: "POST", Path: "/a/../b", From: Deny, To: Allow, Rule: "p:1", Was: "p:2"}}},
		"overrides": {rules(t, Deny, "allow", "allow POST"), rules(t, Deny, "allow"),
			[]Widening{{Host: "good.test", Hosts: "good.test", Port: "443", Method: "POST", Path: "/", Override: "X-HTTP-Method-Override", From: Deny, To: Allow, Rule: "p:1", Was: "p:2"}}},
		"around what is escaped twice": {rules(t, Deny), rules(t, Deny, "allow /%254*1"),
			[]Widening{{Host: "good.test", Hosts: "good.test", Port: "443", Method: "POST", Path: "/%254x1", From: Deny, To: Allow, Rule: "p:1", Was: "default"}}},
		"the same in other words": {rules(t, Deny, "allow GET /a", "allow GET /b", "allow POST /b"), rules(t, Deny, "allow GET,POST /b", "allow GET /a"), nil},
		"covered":                 {rules(t, Deny, "allow /a/**"), rules(t, Deny, "allow /a/**", "allow GET /a/*/c"), nil},
		"tighter":                 {rules(t, Allow, "allow splice"), rules(t, Deny, "allow GET /a", "deny"), nil},
		"metadata":                {rules(t, Deny), rules(t, Deny, "allow metadata.google.internal", "allow *.metadata.google.internal"), nil},
		"out of bounds": {rules(t, Deny), func() Set {
			s := rules(t, Deny, "allow evil.test")
			s.Only = []Pattern{pattern(t, "good.test")}
			return s
		}(), nil},
		"no bounds any more": {func() Set { s := rules(t, Deny, "allow"); s.Only = []Pattern{pattern(t, "evil.test")}; return s }(), rules(t, Deny, "allow"),
			[]Widening{{Host: "good.test", Hosts: "good.test", Port: "443", Method: "POST", Path: "/", From: Deny, To: Allow, Rule: "p:1", Was: "only"}}},
	} {
		if got := Wider(c.from, c.to); !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, c.want)
		}
	}
}

// Patterns that would take too long to follow are said to be wider, not left out.
func TestWiderIsConservativeBeyondItsBounds(t *testing.T) {
	many := func(n string) Set {
		s := Set{Default: Allow}
		for i := range 14 {
			s.Rules = append(s.Rules, Rule{Action: Deny, Host: pattern(t, "good.test"), Ports: []uint16{443}, Origin: n,
				Paths: []PathPattern{pathPattern(t, "/**"+n+strings.Repeat("a*b", i%5)+string(rune('c'+i))+strings.Repeat("*z", i)+"/x")}})
		}
		return s
	}
	found := false
	for _, w := range Wider(many("p"), many("q")) {
		found = found || w.Unsure && w.Host == "good.test" && w.Path == "" && w.To == Allow
	}
	if !found {
		t.Errorf("got %+v", Wider(many("p"), many("q")))
	}
}
