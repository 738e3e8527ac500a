package gate

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

type memory struct {
	mu     sync.Mutex
	events []event.Event
	err    error
}

func (m *memory) Emit(e event.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.events = append(m.events, e)
	return nil
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) all() []event.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.events)
}

func goodOnly(t *testing.T) (policy.Set, policy.Host, policy.Host) {
	t.Helper()
	good, err := policy.ParseHost("good.test")
	if err != nil {
		t.Fatal(err)
	}
	evil, err := policy.ParseHost("evil.test")
	if err != nil {
		t.Fatal(err)
	}
	pattern, err := policy.ParsePattern("good.test")
	if err != nil {
		t.Fatal(err)
	}
	rule := policy.Rule{Action: policy.Allow, Host: pattern, Ports: []uint16{443}, Inspect: true, Origin: "p:1"}
	return policy.Set{Default: policy.Deny, Rules: []policy.Rule{rule}}, good, evil
}

func TestCheckRecordsEachAnswerOnce(t *testing.T) {
	set, good, evil := goodOnly(t)
	log := &memory{}
	g := New(set, log)
	allowed, err := g.Check(t.Context(), policy.Request{Host: good, Port: 443, Scheme: "https", Method: "GET", Path: "/x", Via: "proxy"})
	if err != nil || !allowed.Allowed() || !allowed.Inspect {
		t.Fatalf("Check(good) = %+v, %v", allowed, err)
	}
	denied, err := g.Check(t.Context(), policy.Request{Host: evil, Port: 443, Via: "direct"})
	if err != nil || denied.Allowed() {
		t.Fatalf("Check(evil) = %+v, %v", denied, err)
	}
	want := []event.Event{
		{Kind: event.NetRequest, Decision: event.Allow, Host: "good.test", Port: 443, Method: "GET", Path: "/x", Rule: "p:1", Reason: allowed.Reason(), Via: "proxy"},
		{Kind: event.NetRequest, Decision: event.Deny, Host: "evil.test", Port: 443, Rule: "default", Reason: denied.Reason(), Via: "direct"},
	}
	got := log.all()
	if len(got) != len(want) {
		t.Fatalf("got %d events, want %d", len(got), len(want))
	}
	for i := range want {
		if g, w := got[i], want[i]; g.Kind != w.Kind || g.Decision != w.Decision || g.Host != w.Host || g.Port != w.Port ||
			g.Method != w.Method || g.Path != w.Path || g.Rule != w.Rule || g.Reason != w.Reason || g.Via != w.Via {
			t.Errorf("event %d\n got %+v\nwant %+v", i, g, w)
		}
	}
}

func TestDecideRecordsNothing(t *testing.T) {
	set, good, _ := goodOnly(t)
	log := &memory{}
	if d := New(set, log).Decide(policy.Request{Host: good, Port: 443}); !d.Allowed() {
		t.Errorf("Decide = %+v", d)
	}
	if n := len(log.all()); n != 0 {
		t.Errorf("Decide recorded %d events", n)
	}
}

func TestNobodyCanBeAsked(t *testing.T) {
	set, good, evil := goodOnly(t)
	asking := set.Rules[0]
	asking.Action, asking.Methods, asking.Origin = policy.Ask, []string{"POST"}, "p:2"
	set.Rules, set.Default = append(set.Rules, asking), policy.Ask
	log := &memory{}
	g := New(set, log)
	for _, r := range []policy.Request{{Host: good, Port: 443, Method: "POST", Path: "/"}, {Host: evil, Port: 443}, {Host: evil, Port: 443, Method: "GET", Path: "/"}} {
		checked, err := g.Check(t.Context(), r)
		if err != nil || checked.Action != policy.Deny || g.Decide(r).Action != policy.Deny || !strings.Contains(checked.Reason(), "nobody can be asked") {
			t.Errorf("%+v: %+v (%s), %v", r, checked, checked.Reason(), err)
		}
	}
	if d, err := g.Check(t.Context(), policy.Request{Host: good, Port: 443, Method: "GET", Path: "/"}); err != nil || !d.Allowed() {
		t.Errorf("what is not asked about: %+v, %v", d, err)
	}
	events := log.all()
	if len(events) != 4 || events[0].Decision != event.Deny || events[0].Rule != "p:2" || events[2].Decision != event.Deny || events[3].Decision != event.Allow {
		t.Errorf("events %+v", events)
	}
	if !g.Reachable(evil) || !g.Reachable(good) { // the table knows of nobody who is not there
		t.Error("Reachable is wrong")
	}
}

func TestFailingLogShutsTheGateForGood(t *testing.T) {
	set, good, _ := goodOnly(t)
	full := errors.New("no space left on device")
	log := &memory{err: full}
	g := New(set, log)
	select {
	case <-g.Failed():
		t.Fatal("the gate is shut before anything happened")
	default:
	}
	request := policy.Request{Host: good, Port: 443}
	if d, err := g.Check(t.Context(), request); !errors.Is(err, full) || d.Allowed() {
		t.Fatalf("Check with a failing log = %+v, %v", d, err)
	}
	<-g.Failed()
	log.fail(nil)
	if d, err := g.Check(t.Context(), request); !errors.Is(err, full) || d.Allowed() {
		t.Errorf("Check after the log recovered = %+v, %v", d, err)
	}
	if err := g.Emit(event.Event{Kind: event.NetResponse}); !errors.Is(err, full) || !errors.Is(g.Err(), full) {
		t.Errorf("Emit after failure = %v, Err = %v", err, g.Err())
	}
	if n := len(log.all()); n != 0 {
		t.Errorf("%d events were recorded after the failure", n)
	}
}

func TestEndedContextIsDeniedAndRecorded(t *testing.T) {
	set, good, _ := goodOnly(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	log := &memory{}
	g := New(set, log)
	if d, err := g.Check(ctx, policy.Request{Host: good, Port: 443}); !errors.Is(err, context.Canceled) || d.Allowed() {
		t.Errorf("Check = %+v, %v", d, err)
	}
	if len(log.all()) != 1 || g.Err() != nil {
		t.Errorf("%d events, Err = %v; want 1 and an open gate", len(log.all()), g.Err())
	}
}

func TestConcurrentChecksAndOneFailure(t *testing.T) {
	set, good, _ := goodOnly(t)
	log := &memory{}
	g := New(set, log)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if i == 25 {
				log.fail(errors.New("full"))
			}
			_, _ = g.Check(t.Context(), policy.Request{Host: good, Port: 443})
		})
	}
	wg.Wait()
	if _, err := g.Check(t.Context(), policy.Request{Host: good, Port: 443}); err == nil {
		t.Error("the gate is open after a failure")
	}
	<-g.Failed()
}
