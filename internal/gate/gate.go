// Package gate is the one choke point: it answers a request by policy, or by a person where policy wants one asked, and
// records the answer before anything is forwarded.
//
// A Gate owns the way to the event log. When the log fails once, the gate is shut for good: every later answer is a
// denial, every later event is refused, and Failed tells the run to end. Nothing goes on unlogged.
//
// It owns the questions that wait for a person too. Requests that are alike are one question; the first answer counts;
// none in time is a no. Close denies what waits and lets nothing wait any more.
//
// What is allowed is one event each. Of refusals that are alike, the first is one, and those that follow are counted:
// one more event stands for them when there have been 10, 100, 1000 …, when others push them out of a bounded table, and
// at Close. So the log's total is exact after an orderly end; a crash can lose a count, and never a first refusal.
package gate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// Gate answers requests. It is safe for concurrent use. As an event.Sink it passes events to the log and shuts
// itself when the log fails, so whoever reports into a run reports through its gate.
type Gate struct {
	rules    *policy.Table
	log      event.Sink
	failed   chan struct{}
	asks     *asks
	refusals *refusals

	mu   sync.Mutex
	err  error
	sent map[policy.Host]int64 // bytes
}

var _ event.Sink = (*Gate)(nil)

// Person is whoever could be asked about requests of a run.
type Person interface {
	// Present reports whether there is somebody to ask: a terminal of the run's own, or a program that shows a person
	// the run's questions. It neither blocks nor calls the gate.
	Present() bool
}

// DefaultLimit is how long a question waits for its answer where nobody says otherwise.
const DefaultLimit = 5 * time.Minute

// New gives a gate for a run's rules that records into log, and has nobody to ask.
func New(set policy.Set, log event.Sink) *Gate { return NewAsking(set, log, nobody{}, DefaultLimit) }

// NewAsking gives a gate that asks a person and waits for limit at most. Close it.
func NewAsking(set policy.Set, log event.Sink, person Person, limit time.Duration) *Gate {
	g := &Gate{rules: set.Compile(), log: log, failed: make(chan struct{})}
	g.refusals = newRefusals(g.record, g.Err)
	g.asks = newAsks(g, person, limit)
	return g
}

type nobody struct{}

func (nobody) Present() bool { return false }

// Decide says what Check would answer, without recording it: for a tunnel whose requests are still to come. It gives
// policy.Ask only where somebody can be asked, or has allowed something of that host and port for this run.
func (g *Gate) Decide(r policy.Request) policy.Decision {
	d := g.rules.Decide(r)
	if d.Action == policy.Ask && !g.asks.possible(r) {
		return unasked(d)
	}
	return d
}

// Reachable reports whether a request to some port of h could be allowed, so that looking up its name makes sense.
func (g *Gate) Reachable(h policy.Host) bool { return g.rules.Reachable(h) }

// Check answers a request and records the answer, even when ctx has ended: an attempt leaves its trace. Where a person
// has to be asked it waits for the answer as long as ctx lasts, and never gives policy.Ask. An error means that the
// answer could not be recorded or that nobody waits for it any more; the decision then denies.
func (g *Gate) Check(ctx context.Context, r policy.Request) (policy.Decision, error) {
	d := g.rules.Decide(r)
	if d.Action == policy.Ask {
		d = g.asks.ask(ctx, r, d)
	}
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

// spent says which limit keeps a request from being sent whatever a person says, as the end of a sentence, or gives "".
func (g *Gate) spent(r policy.Request, d policy.Decision) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case d.MaxRequest > 0 && r.Size > d.MaxRequest:
		return fmt.Sprintf("its body is larger than the %d bytes that may be sent in one request", d.MaxRequest)
	case d.MaxSent > 0 && g.sent[r.Host] >= d.MaxSent:
		return fmt.Sprintf("the %d bytes that may be sent to %s in this run are sent", d.MaxSent, r.Host)
	}
	return ""
}

// Close denies every question that waits, lets nothing wait any more, and records the counts of refusals that were not
// recorded yet. The gate goes on to answer and to record.
func (g *Gate) Close() error {
	g.asks.close()
	return g.refusals.close()
}

// Emit records an event, or counts a refusal that was recorded before. After the first failure nothing is recorded any
// more and the same error is given.
func (g *Gate) Emit(e event.Event) error {
	if repeatable(e) {
		return g.refusals.add(e)
	}
	return g.record(e)
}

func (g *Gate) record(e event.Event) error {
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
