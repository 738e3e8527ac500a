package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

func moreGenerous(from, to Decision) bool { return to.Action.generosity() > from.Action.generosity() }

// sendsMore reports whether more may be sent, where something may.
func sendsMore(from, to Decision) bool {
	return from.Action != Deny && to.Action != Deny && (looser(from.MaxRequest, to.MaxRequest) || looser(from.MaxSent, to.MaxSent))
}

// leadsFurther reports whether a host may lead to an address to which it could not.
func leadsFurther(from, to Set, h Host, a netip.Addr) bool {
	return to.Reachable(h) && Permits(to.Private(h), a) && !Permits(from.Private(h), a)
}

// newlySpliced reports whether connections are no longer inspected.
func newlySpliced(from, to Set, r Request) bool {
	for _, scheme := range []string{"https", ""} {
		q := Request{Host: r.Host, Port: r.Port, Scheme: scheme}
		if spliced(to.Decide(q)) && !spliced(from.Decide(q)) {
			return true
		}
	}
	return false
}

func TestWiderMissesNothingAndInventsNothing(t *testing.T) {
	quiet, loud, unsure := 0, 0, 0
	for seed := range uint64(4000) {
		r := newRandom(t, seed)
		from := r.either(6)
		to := r.neighbour(from)
		if seed%5 == 0 {
			to = r.either(6)
		}
		widenings := Wider(from, to)
		for _, w := range widenings {
			q := w.request()
			a, b := from.Decide(q), to.Decide(q)
			switch {
			case w.Unsure:
				unsure++
			case w.Private != "":
				if at := netip.MustParsePrefix(w.Private); !leadsFurther(from, to, q.Host, at.Addr()) && covered(at, from.Private(q.Host)) && from.lists(q.Host) {
					t.Fatalf("seed %d: %+v leads no further", seed, w)
				}
			case w.Limit == limitSent:
				if b.Action == Deny || !looser(w.LimitFrom, w.LimitTo) || b.MaxSent != w.LimitTo || a.Action != Deny && a.MaxSent != w.LimitFrom {
					t.Fatalf("seed %d: %+v, where the answers are %+v and %+v", seed, w, a, b)
				}
			case w.From != a.Action || w.To != b.Action || w.Rule != b.Rule || w.Was != a.Rule && w.Override == "":
				t.Fatalf("seed %d: %+v of %+v, where the answers are %+v and %+v", seed, w, q, a, b)
			case !moreGenerous(a, b) && !(w.Uninspected && newlySpliced(from, to, q)):
				t.Fatalf("seed %d: %+v is no widening from\n%+v to\n%+v", seed, w, from, to)
			case w.Uninspected && !newlySpliced(from, to, q):
				t.Fatalf("seed %d: %+v is inspected as before", seed, w)
			}
		}
		if len(widenings) > 0 {
			loud++
			continue
		}
		quiet++
		for range 300 {
			q := r.request()
			if r.IntN(8) == 0 {
				q = Request{Host: q.Host, Port: q.Port, Scheme: TCP}
			}
			if a, b := from.Decide(q), to.Decide(q); (!q.partial() || q.Scheme == TCP) && (moreGenerous(a, b) || sendsMore(a, b)) {
				t.Fatalf("seed %d: %+v was %s (%s) and is %s (%s), which Wider missed\n%+v\n%+v", seed, q, a.Action, a.Reason(), b.Action, b.Reason(), from, to)
			}
			if a := r.address(); leadsFurther(from, to, q.Host, a) {
				t.Fatalf("seed %d: %s leads to %s, which Wider missed\n%+v\n%+v", seed, q.Host, a, from, to)
			}
			if newlySpliced(from, to, q) {
				t.Fatalf("seed %d: %s:%d is no longer inspected, which Wider missed", seed, q.Host, q.Port)
			}
		}
	}
	t.Logf("%d pairs without a widening, %d with, %d widenings unsure", quiet, loud, unsure)
	if quiet < 300 || loud < 300 {
		t.Errorf("%d pairs without a widening and %d with one say too little", quiet, loud)
	}
}

func TestWiderOfBigSetsIsQuick(t *testing.T) {
	from := bigSet(t, 10_000)
	if got := Wider(from, bigSet(t, 10_000)); got != nil {
		t.Errorf("equal sets: %+v", got)
	}
	to := bigSet(t, 10_000)
	to.Rules = append([]Rule{{Action: Allow, Host: pattern(t, "new.test"), Ports: []uint16{443}, Inspect: true, Origin: "n:1"}}, to.Rules...)
	got := Wider(from, to)
	if len(got) != 1 || got[0].Rule != "n:1" || got[0].Host != "new.test" || got[0].From != Deny || got[0].To != Allow || got[0].Port != "443" {
		t.Errorf("one rule more: %+v", got)
	}
}

func BenchmarkWider(b *testing.B) {
	from, equal, more := bigSet(b, 10_000), bigSet(b, 10_000), bigSet(b, 10_000)
	more.Rules = append([]Rule{{Action: Allow, Host: pattern(b, "new.test"), Ports: []uint16{443}, Inspect: true}}, more.Rules...)
	for name, to := range map[string]Set{"equal": equal, "one-more": more} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				Wider(from, to)
			}
		})
	}
	some := func(n int, name, last string) Set {
		s := Set{Default: Deny}
		for i := range n {
			s.Rules = append(s.Rules, Rule{Action: []Action{Allow, Deny}[i%2], Host: pattern(b, "api.test"), Ports: []uint16{443}, Inspect: true,
				Paths: []PathPattern{pathPattern(b, fmt.Sprintf("/repos/*/%s%d/**", name, i))}})
		}
		s.Rules = append(s.Rules, Rule{Action: Allow, Host: pattern(b, "api.test"), Ports: []uint16{443}, Inspect: true, Paths: []PathPattern{pathPattern(b, last)}})
		return s
	}
	for name, pair := range map[string][2]Set{
		"paths-shared":    {some(30, "thing", "/x/*"), some(30, "thing", "/x/**")},
		"paths-different": {some(30, "thing", "/x/*"), some(30, "other", "/x/*")},
		"paths-widest":    {some(30, "thing", "/x/*"), some(0, "", "/**")},
	} {
		b.Run(name, func(b *testing.B) {
			unsure := 0
			for b.Loop() {
				for _, w := range Wider(pair[0], pair[1]) {
					if w.Unsure {
						unsure++
					}
				}
			}
			b.ReportMetric(float64(unsure)/float64(b.N), "unsure/op")
		})
	}
}

// The path that needs no walk is the one that a walk finds first.
func TestShortestIsWhatAWalkFinds(t *testing.T) {
	known, unknown := 0, 0
	for seed := range uint64(3000) {
		r := newRandom(t, seed)
		to := Set{Default: pick(r, Deny, Deny, Ask), Rules: []Rule{r.rule()}}
		from := Set{Default: pick(r, Deny, Deny, Deny, Allow), Rules: some(r, 1, r.rule)}
		path, ok := shortest(from, to)
		if !ok {
			unknown++
			continue
		}
		known++
		var found []string
		if !newWalk(from, to).run(func(path string) bool { found = append(found, path); return true }) || !slices.Equal(found, []string{path}) {
			t.Fatalf("seed %d: %q, and a walk from %+v to %+v finds %q", seed, path, from, to, found)
		}
	}
	if known < 50 || unknown < 50 {
		t.Errorf("%d known, %d not", known, unknown)
	}
}

// Thousands of patterns for one host are not followed to the end: something was changed, and so it is reported.
func TestWiderGivesUpOnCrowds(t *testing.T) {
	crowd := func(path string) (s Set) {
		s.Default = Deny
		for i := range 3000 {
			s.Rules = append(s.Rules, Rule{Action: Allow, Host: pattern(t, "a.example.org"), Ports: []uint16{443, uint16(1000 + i)}, Inspect: true,
				Paths: []PathPattern{pathPattern(t, fmt.Sprintf(path, i))}})
		}
		return s
	}
	unsure := false
	for _, w := range Wider(crowd("/a/%d/**"), crowd("/*/%d/**")) {
		unsure = unsure || w.Unsure
	}
	if !unsure {
		t.Error("nothing is reported")
	}
}
