package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestTableAnswersLikeItsSet(t *testing.T) {
	for seed := range uint64(2000) {
		r := newRandom(t, seed)
		set := r.either(12)
		if seed%10 == 0 {
			set = r.set(120) // whose hosts have very many paths
		}
		table := set.Compile()
		for range 60 {
			q := r.anyRequest()
			want, got := set.Decide(q), table.Decide(q)
			if got.Action != want.Action || got.Inspect != want.Inspect || got.Rule != want.Rule || got.at != want.at || got.Reason() != want.Reason() ||
				got.MaxRequest != want.MaxRequest || got.MaxSent != want.MaxSent {
				t.Fatalf("seed %d: %+v in %+v\n got %s %v %d %s\nwant %s %v %d %s", seed, q, set, got.Action, got.Inspect, got.at, got.Reason(), want.Action, want.Inspect, want.at, want.Reason())
			}
			if got, want := table.Reachable(q.Host), set.Reachable(q.Host); got != want {
				t.Fatalf("seed %d: Reachable(%s) in %+v = %v, want %v", seed, q.Host, set, got, want)
			}
			a := r.address()
			if got, want := Permits(table.Private(q.Host), a), Permits(set.Private(q.Host), a); got != want {
				t.Fatalf("seed %d: %s may lead to %s in %+v: %v, want %v", seed, q.Host, a, set, got, want)
			}
		}
	}
}

// What a tunnel is refused for, each request in it would be refused for too, so asking early loses nothing; and a
// connection is only ever spliced where no request in it could be denied.
func TestTheQuestionOfATunnelIsABound(t *testing.T) {
	for seed := range uint64(2000) {
		r := newRandom(t, seed)
		set := r.either(8)
		for range 30 {
			q := r.request()
			if q.partial() {
				continue
			}
			d := set.Decide(q)
			for _, scheme := range []string{"", q.Scheme} {
				tunnel := set.Decide(Request{Host: q.Host, Port: q.Port, Scheme: scheme})
				if moreGenerous(tunnel, d) {
					t.Fatalf("seed %d: %+v in %+v gets %s, its tunnel %s: %s", seed, q, set, d.Action, tunnel.Action, tunnel.Reason())
				}
				// What is spliced is TLS. Of pushes to other repositories than those that rules name, the plan says that they pass.
				if spliced(tunnel) && !d.Allowed() && q.Scheme == "https" && q.Git == nil {
					t.Fatalf("seed %d: %+v in %+v is denied, its tunnel is spliced", seed, q, set)
				}
			}
			if d.Action != Deny && !set.Reachable(q.Host) {
				t.Fatalf("seed %d: %+v in %+v gets %s, and is not reachable", seed, q, set, d.Action)
			}
		}
	}
}

// bigSet has n rules, every shape of them.
func bigSet(t testing.TB, n int) Set {
	s := Set{Default: Deny}
	add := func(rule Rule) { s.Rules = append(s.Rules, rule) }
	for i := 0; len(s.Rules) < n; i++ {
		name := fmt.Sprintf("h%d.d%d.example.org", i, i%97)
		add(Rule{Action: Allow, Host: pattern(t, name), Ports: []uint16{443}, Inspect: true, Origin: "p:1"})
		add(Rule{Action: Allow, Host: pattern(t, "*."+name), Ports: []uint16{443, 8443}, Inspect: true, Origin: "p:2"})
		add(Rule{Action: Deny, Host: pattern(t, name), Ports: []uint16{443}, Methods: []string{"DELETE"}, Origin: "p:3"})
		add(Rule{Action: Allow, Host: pattern(t, "api.example.com"), Ports: []uint16{443}, Inspect: true, Methods: []string{"GET", "POST"},
			Paths: []PathPattern{pathPattern(t, fmt.Sprintf("/repos/acme/r%d/**", i)), pathPattern(t, fmt.Sprintf("/users/*/keys/%d", i))}, Origin: "p:4"})
		add(Rule{Action: Deny, Host: pattern(t, "api.example.com"), Ports: []uint16{443}, Paths: []PathPattern{pathPattern(t, fmt.Sprintf("/repos/*/r%d/keys", i))}, Origin: "p:5"})
		add(Rule{Action: Ask, Host: pattern(t, "many.example.com"), Ports: []uint16{uint16(1024 + i)}, Origin: "p:6"})
	}
	return s
}

func bigRequests(t testing.TB) map[string]Request {
	q := func(name, method, path string) Request {
		return Request{Host: host(t, name), Port: 443, Scheme: "https", Method: method, Path: path}
	}
	return map[string]Request{
		"exact":         q("h700.d21.example.org", "GET", "/index.html"),
		"tunnel":        q("h700.d21.example.org", "", ""),
		"below":         q("a.b.h700.d21.example.org", "POST", "/x"),
		"unknown":       q("evil.example.net", "GET", "/"),
		"deep":          q(strings.Repeat("a.", 100)+"h700.d21.example.org", "GET", "/"),
		"path":          q("api.example.com", "GET", "/repos/acme/r1500/issues/12/comments"),
		"path by star":  q("api.example.com", "POST", "/users/octocat/keys/900"),
		"path denied":   q("api.example.com", "GET", "/repos/evil/r77/keys"),
		"path unknown":  q("api.example.com", "GET", "/repos/acme/other/issues"),
		"path escaped":  q("api.example.com", "GET", "/repos/acme/r1500/contents/%40scope%20name"),
		"path not norm": q("api.example.com", "GET", "/repos/acme/../r1500"),
		"port":          {Host: host(t, "many.example.com"), Port: 1024 + 1200, Method: "GET", Path: "/"},
	}
}

func TestTableAllocatesNothing(t *testing.T) {
	table := bigSet(t, 10_000).Compile()
	for name, q := range bigRequests(t) {
		if n := testing.AllocsPerRun(100, func() { table.Decide(q) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if n := testing.AllocsPerRun(100, func() { table.Reachable(q.Host) }); n != 0 {
			t.Errorf("Reachable of %s: %v allocations", name, n)
		}
	}
	p := pathPattern(t, "/a/*/c/**")
	if n := testing.AllocsPerRun(100, func() { p.Match("/a/%2e/c/d") }); n != 0 {
		t.Errorf("Match: %v allocations", n)
	}
}

// The big set's answers are held against the readable ones too.
func TestBigTableAnswersLikeItsSet(t *testing.T) {
	set := bigSet(t, 10_000)
	table := set.Compile()
	for name, q := range bigRequests(t) {
		if got, want := table.Decide(q), set.Decide(q); got.Action != want.Action || got.at != want.at || got.Reason() != want.Reason() {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	table := bigSet(b, 10_000).Compile()
	requests := bigRequests(b)
	names := make([]string, 0, len(requests))
	for name := range requests {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table.Decide(requests[name])
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	set := bigSet(b, 10_000)
	for b.Loop() {
		set.Compile()
	}
}
