// Package gate is the one choke point: it answers a request by policy and records the answer as exactly one event
// before anything is forwarded.
//
// A Gate owns the way to the event log. When the log fails once, the gate is shut for good: every later answer is a
// denial, every later event is refused, and Failed tells the run to end. Nothing goes on unlogged.
package gate

import (
	"context"
	"fmt"
	"sync"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// Gate answers requests. It is safe for concurrent use. As an event.Sink it passes events to the log and shuts
// itself when the log fails, so whoever reports into a run reports through its gate.
type Gate struct {
	rules  *policy.Table
	log    event.Sink
	failed chan struct{}

	mu   sync.Mutex
	err  error
	sent map[policy.Host]int64 // bytes
}

var _ event.Sink = (*Gate)(nil)

// New gives a gate for a run's rules that records into log.
func New(set policy.Set, log event.Sink) *Gate {
	return &Gate{rules: set.Compile(), log: log, failed: make(chan struct{})}
}

// Decide says what Check would answer, without recording it: for a tunnel whose requests are still to come. Where a
// person would have to be asked the answer is to deny: there is nobody who could be.
func (g *Gate) Decide(r policy.Request) policy.Decision {
	d := g.rules.Decide(r)
	if d.Action == policy.Ask {
		return policy.Denied(d.Rule, d.Reason()+", and in this run nobody can be asked")
	}
	return d
}

// Reachable reports whether a request to some port of h could be allowed, so that looking up its name makes sense.
func (g *Gate) Reachable(h policy.Host) bool { return g.rules.Reachable(h) }

// Check answers a request and records the answer, even when ctx has ended: an attempt leaves its trace. An error
// means that the answer could not be recorded or that nobody waits for it any more; the decision then denies.
func (g *Gate) Check(ctx context.Context, r policy.Request) (policy.Decision, error) {
	d := g.Decide(r)
	if err := g.Emit(asEvent(r, d)); err != nil {
		return closed(), err
	}
	if err := ctx.Err(); err != nil {
		return closed(), err
	}
	return d, nil
}

// Send counts n more bytes on their way to host, and reports whether all of this run's are within limit; 0 is no limit.
// Bytes that are not within it are not counted.
func (g *Gate) Send(host policy.Host, n, limit int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if limit > 0 && g.sent[host] > limit-n {
		return false
	}
	if g.sent == nil {
		g.sent = map[policy.Host]int64{}
	}
	g.sent[host] += n
	return true
}

// Emit records an event. After the first failure nothing is recorded any more and the same error is given.
func (g *Gate) Emit(e event.Event) error {
	if err := g.Err(); err != nil {
		return err
	}
	if err := g.log.Emit(e); err != nil {
		return g.shut(fmt.Errorf("recording an event: %w", err))
	}
	return nil
}

// Failed is closed when the log has failed: the run must end.
func (g *Gate) Failed() <-chan struct{} { return g.failed }

// Err is why the gate is shut, or nil while it is not.
func (g *Gate) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

func (g *Gate) shut(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
		close(g.failed)
	}
	return g.err
}

func closed() policy.Decision {
	return policy.Denied("built-in", "the answer could not be recorded, so nothing is let through")
}
