package gate

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

func refused(host string) event.Event {
	return event.Event{Kind: event.NetRequest, Decision: event.Deny, Host: host, Port: 443, Rule: "default", Reason: "no rule"}
}

func counts(events []event.Event) (out []uint64) {
	for _, e := range events {
		out = append(out, e.Count)
	}
	return out
}

func TestRepeatedRefusalsAreCounted(t *testing.T) {
	log := &memory{}
	g := New(policy.Set{}, log)
	for range 1234 {
		if err := g.Emit(refused("evil.test")); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(counts(log.all())); got != "[0 9 90 900]" {
		t.Errorf("counts %s", got)
	}
	for _, other := range []event.Event{refused("other.test"), {Kind: event.NetRequest, Decision: event.Allow, Host: "evil.test"}, {Kind: event.NetRequest, Decision: event.Allow, Host: "evil.test"}} {
		if err := g.Emit(other); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(log.all()); n != 7 {
		t.Errorf("%d events", n)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if all := log.all(); len(all) != 8 || all[7].Count != 234 || all[7].Host != "evil.test" || all[7].Reason != "no rule" {
		t.Errorf("at the end: %+v", all)
	}
	for range 2 { // after the end each is an event again
		if err := g.Emit(refused("evil.test")); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(log.all()); n != 10 {
		t.Errorf("%d events", n)
	}
}

func TestRefusalsAreKeptInBounds(t *testing.T) {
	log := &memory{}
	g := New(policy.Set{}, log)
	total := 0
	for i := range 3 * maxRefusals {
		for range 1 + i%3 {
			if err := g.Emit(refused(fmt.Sprintf("%d.evil.test", i))); err != nil {
				t.Fatal(err)
			}
			total++
		}
	}
	if n := len(g.refusals.known); n != maxRefusals || g.refusals.recent.Len() != n {
		t.Errorf("%d are kept", n)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, e := range log.all() {
		sum += int(max(e.Count, 1))
	}
	if sum != total {
		t.Errorf("the log says %d, there were %d", sum, total)
	}
}

func TestNothingIsCountedOnceTheLogFailed(t *testing.T) {
	log := &memory{}
	g := New(policy.Set{}, log)
	if err := g.Emit(refused("evil.test")); err != nil {
		t.Fatal(err)
	}
	log.fail(errors.New("full"))
	if err := g.Emit(refused("other.test")); err == nil {
		t.Error("a first refusal passed a log that failed")
	}
	if err := g.Emit(refused("evil.test")); err == nil {
		t.Error("a repeated refusal passed a log that failed")
	}
}

func TestConcurrentRefusalsAddUp(t *testing.T) {
	log := &memory{}
	g := New(policy.Set{}, log)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for i := range 100 {
				_ = g.Emit(refused(fmt.Sprint(i % 7)))
			}
		})
	}
	all.Wait()
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	sum := uint64(0)
	for _, n := range counts(log.all()) {
		sum += max(n, 1)
	}
	if sum != 2000 {
		t.Errorf("the log says %d", sum)
	}
}
