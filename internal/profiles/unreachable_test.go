package profiles

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"agentbox/internal/policy"
)

var (
	someHosts   = []string{"a.example.com", "b.a.example.com", "*.a.example.com", "*.example.com", "example.com", "*.b.a.example.com"}
	somePaths   = []string{"/**", "/x", "/x/**", "/x/y", "/*/y", "/x/*", "/*/**", "/xx/**", "/x/**/y"}
	someMethods = []Method{"GET", "POST", "PUT"}
	somePorts   = []Port{443, 80}
)

// several gives some of a list, some more often than once.
func several[T any](r *rand.Rand, list []T, least int) (out []T) {
	for range least + r.IntN(3) {
		out = append(out, list[r.IntN(len(list))])
	}
	return out
}

func randomRule(r *rand.Rand, i int) Rule {
	rule := Rule{
		Action: []Action{"allow", "ask", "deny"}[r.IntN(3)], Host: must(policy.ParsePattern(someHosts[r.IntN(len(someHosts))])),
		Ports: several(r, somePorts, 1), Inspect: true, Origin: fmt.Sprint(i),
	}
	if r.IntN(2) == 0 {
		rule.Methods = several(r, someMethods, 0)
	}
	if r.IntN(2) == 0 {
		for _, p := range several(r, somePaths, 0) {
			rule.Paths = append(rule.Paths, must(policy.ParsePathPattern(p)))
		}
	}
	return rule
}

// What is said never to decide can be left out, and every request is answered as before.
func TestASettledRuleDecidesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same rules each time
	requests := everyRequest()
	found := map[bool]int{}
	for range 2000 {
		n := Network{Default: []Action{"allow", "ask", "deny"}[r.IntN(3)]}
		for i := range 1 + r.IntN(8) {
			n.Rules = append(n.Rules, randomRule(r, i))
		}
		before := n.Set()
		for _, s := range newSettlers(n.Rules, func(int) Level { return User }).findSettled() {
			found[s.twice]++
			without := Network{Default: n.Default, Rules: slices.Delete(slices.Clone(n.Rules), s.rule, s.rule+1)}
			after := without.Set()
			for _, req := range requests {
				if a, b := before.Decide(req).Action, after.Decide(req).Action; a != b {
					t.Fatalf("rule %d, by %d: %v is %s with it and %s without it\n%+v", s.rule, s.by, req, a, b, n.Rules)
				}
			}
		}
	}
	if found[true] < 20 || found[false] < 500 {
		t.Errorf("too few were found to tell: %v", found)
	}
}

func everyRequest() (out []policy.Request) {
	for _, h := range []string{"a.example.com", "b.a.example.com", "c.b.a.example.com", "example.com", "z.example.com"} {
		for _, m := range append(slices.Clone(someMethods), "DELETE") {
			for _, p := range []string{"/", "/x", "/x/", "/x/y", "/x/y/z", "/z/y", "/xx/y", "/x/z/y"} {
				for _, port := range []uint16{443, 80, 8443} {
					out = append(out, policy.Request{Host: must(policy.ParseHost(h)), Port: port, Scheme: "https", Method: string(m), Path: p})
				}
			}
		}
	}
	return out
}

// Every rule that an equal or a wider one of higher precedence stands above is found.
func TestEverySettledRuleOfThisShapeIsFound(t *testing.T) {
	rule := func(action Action, host string, ports []Port, methods []Method, paths ...string) Rule {
		r := Rule{Action: action, Host: must(policy.ParsePattern(host)), Ports: ports, Methods: methods, Inspect: true}
		for _, p := range paths {
			r.Paths = append(r.Paths, must(policy.ParsePathPattern(p)))
		}
		return r
	}
	ports, get := []Port{443}, []Method{"GET"}
	for i, c := range []struct {
		strong, weak Rule
		settled      bool
	}{
		{rule("deny", "a.test.org", ports, nil), rule("allow", "a.test.org", ports, nil), true},
		{rule("deny", "a.test.org", ports, nil), rule("ask", "a.test.org", ports, get, "/x"), true},
		{rule("ask", "a.test.org", ports, nil), rule("allow", "a.test.org", ports, nil), true},
		{rule("ask", "a.test.org", ports, nil), rule("deny", "a.test.org", ports, get), false},
		{rule("allow", "a.test.org", ports, nil), rule("ask", "a.test.org", ports, get), false},
		{rule("allow", "*.test.org", ports, nil), rule("allow", "a.test.org", ports, get), false},
		{rule("deny", "*.test.org", ports, nil), rule("allow", "b.a.test.org", ports, nil), true},
		{rule("deny", "*.test.org", ports, nil), rule("allow", "*.a.test.org", ports, nil), true},
		{rule("deny", "*.test.org", ports, nil), rule("allow", "*.test.org", ports, nil, "/x"), true},
		{rule("deny", "*.test.org", ports, nil), rule("allow", "test.org", ports, nil), false},
		{rule("deny", "a.test.org", ports, nil), rule("allow", "*.test.org", ports, nil), false},
		{rule("deny", "*.a.test.org", ports, nil), rule("allow", "*.test.org", ports, nil), false},
		{rule("deny", "a.test.org", []Port{443, 80}, nil), rule("allow", "a.test.org", []Port{80}, nil), true},
		{rule("deny", "a.test.org", []Port{443}, nil), rule("allow", "a.test.org", []Port{80, 443}, nil), false},
		{rule("deny", "a.test.org", ports, []Method{"GET", "PUT"}), rule("allow", "a.test.org", ports, get), true},
		{rule("deny", "a.test.org", ports, get), rule("allow", "a.test.org", ports, []Method{"GET", "PUT"}), false},
		{rule("deny", "a.test.org", ports, get), rule("allow", "a.test.org", ports, nil), false},
		{rule("deny", "a.test.org", ports, nil, "/**"), rule("allow", "a.test.org", ports, nil, "/x/*"), true},
		{rule("deny", "a.test.org", ports, nil, "/x/**"), rule("allow", "a.test.org", ports, nil, "/x/y/**", "/x/**"), true},
		{rule("deny", "a.test.org", ports, nil, "/x/**"), rule("allow", "a.test.org", ports, nil, "/x/y", "/y"), false},
		{rule("deny", "a.test.org", ports, nil, "/x/**"), rule("allow", "a.test.org", ports, nil), false},
		{rule("deny", "a.test.org", ports, nil, "/x/**"), rule("allow", "a.test.org", ports, nil, "/xy"), false},
	} {
		for _, order := range [][]Rule{{c.strong, c.weak}, {c.weak, c.strong}} {
			found := newSettlers(order, func(int) Level { return User }).findSettled()
			if got := len(found) == 1 && !found[0].twice && order[found[0].rule].Action == c.weak.Action; got != c.settled || len(found) > 1 {
				t.Errorf("%d: %+v", i, found)
			}
		}
		lower := func(i int) Level { return []Level{Repo, BuiltIn}[i] } // the strong one is of a layer above
		if found := newSettlers([]Rule{c.strong, c.weak}, lower).findSettled(); len(found) != 0 {
			t.Errorf("%d: a restriction of a later layer is held against a rule below it: %+v", i, found)
		}
	}
}

// No file makes the search slow: it is bounded, whatever is in the rules.
func TestTheSearchForSettledRulesIsBounded(t *testing.T) {
	var methods []Method
	for i := range 100 {
		methods = append(methods, Method(fmt.Sprintf("M%d", i)))
	}
	var rules []Rule
	for i := range 10000 {
		rules = append(rules, Rule{Action: []Action{"deny", "allow"}[i%2], Host: must(policy.ParsePattern("a.test.org")), Ports: []Port{Port(1 + i)}, Methods: methods, Inspect: true}) //nolint:gosec // small
	}
	x := newSettlers(rules, func(int) Level { return User })
	visited := 0
	for _, r := range rules {
		x.each(r, func(cell) bool { visited++; return true })
	}
	if visited > maxSteps || visited < maxSteps/2 {
		t.Errorf("%d steps were taken", visited)
	}
}

func benchmarkSettled(b *testing.B, host func(i int) string, action func(i int) Action) {
	var rules []Rule
	for i := range 10000 {
		rules = append(rules, Rule{
			Action: action(i), Host: must(policy.ParsePattern(host(i))), Ports: []Port{443}, Inspect: true,
			Methods: []Method{"GET", "HEAD"}, Paths: []policy.PathPattern{must(policy.ParsePathPattern(fmt.Sprintf("/api/v%d/**", i)))},
		})
	}
	for b.Loop() {
		newSettlers(rules, func(int) Level { return User }).findSettled()
	}
}

func BenchmarkSettledAmong10000Hosts(b *testing.B) {
	benchmarkSettled(b, func(i int) string { return fmt.Sprintf("h%d.example.com", i) }, func(i int) Action { return []Action{"allow", "allow", "ask", "deny"}[i%4] })
}

func BenchmarkSettledAmong10000RulesOfOneHost(b *testing.B) {
	benchmarkSettled(b, func(int) string { return "h.example.com" }, func(i int) Action { return []Action{"allow", "allow", "ask", "deny"}[i%4] })
}

func BenchmarkSettledBelowADenial(b *testing.B) {
	benchmarkSettled(b, func(i int) string { return []string{"*.example.com", fmt.Sprintf("h%d.example.com", i)}[min(i, 1)] }, func(i int) Action { return []Action{"deny", "allow"}[min(i, 1)] })
}
