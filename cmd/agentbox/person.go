package main

import (
	"context"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"agentbox/internal/approval"
	"agentbox/internal/gate"
	"agentbox/internal/policy"
	"agentbox/internal/run"
	"agentbox/internal/trust"
)

// person is whoever can be asked about a run's requests: at its terminal, or through the control socket.
type person struct {
	gate     atomic.Pointer[gate.Gate] // nil until there is one
	watching atomic.Int64              // programs that show a person the questions

	mu       sync.Mutex
	watchers map[chan struct{}]func() // which end what the gate tells them; nil until there is one
}

// Present reports whether there is a terminal, whoever has it, or somebody who watches.
func (p *person) Present() bool { return p.watching.Load() > 0 || hasTerminal() }

func hasTerminal() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	_ = tty.Close()
	return true
}

// Pending, Answer, Outcome and Watch are what other terminals ask of this run.
func (p *person) Pending() []approval.Question {
	if g := p.gate.Load(); g != nil {
		return g.Pending()
	}
	return nil
}

// Answer answers a question.
func (p *person) Answer(id string, a approval.Answer) error {
	if g := p.gate.Load(); g != nil {
		return g.Answer(id, a)
	}
	return approval.ErrUnknown
}

// Outcome says how a question ended.
func (p *person) Outcome(id string) (approval.Outcome, bool) {
	if g := p.gate.Load(); g != nil {
		return g.Outcome(id)
	}
	return approval.Outcome{}, false
}

// Watch counts one more who can be asked, from before there is a gate: a run can be watched as soon as it can be found.
func (p *person) Watch() (<-chan struct{}, func()) {
	w := make(chan struct{}, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watchers == nil {
		p.watchers = map[chan struct{}]func(){}
	}
	p.watchers[w] = nil
	if g := p.gate.Load(); g != nil {
		p.watchers[w] = g.Tell(w)
	}
	p.watching.Add(1)
	return w, func() { p.leave(w) }
}

func (p *person) leave(w chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watching.Add(-1)
	if stop := p.watchers[w]; stop != nil {
		stop()
	}
	delete(p.watchers, w)
}

// meet hands over the gate, before anything is asked.
func (p *person) meet(g *gate.Gate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate.Store(g)
	for w := range p.watchers {
		p.watchers[w] = g.Tell(w)
	}
}

// asking is how this run asks. The prompt at the terminal, where the agent leaves it free, ends with ctx; wait waits for that.
func (j *job) asking(ctx context.Context) (asking run.Asking, wait func()) {
	var prompts sync.WaitGroup
	if j.term == nil {
		prompts.Go(func() { j.alarms.tell(ctx, j.interject) })
	}
	return run.Asking{Person: &j.person, Limit: time.Duration(j.work.config.Approvals.Timeout), Asks: func(g *gate.Gate) {
		j.meet(g)
		if j.term == nil && hasTerminal() {
			p := &prompt{gate: g, screen: &j.screen, always: j.always}
			prompts.Go(func() { p.run(ctx) })
		}
	}}, prompts.Wait
}

// always writes the rule that lets a question's request through from now on.
func (j *job) always(to io.Writer, q approval.Question) error {
	return j.allowAlways(to, trust.GrantsOf(j.places.Config, j.session.Meta.Repo), q)
}

// asks reports whether a person may have to be asked about a request of this run.
func asks(set policy.Set) bool {
	if set.Default == policy.Ask {
		return true
	}
	for _, r := range set.Rules {
		if r.Action == policy.Ask {
			return true
		}
	}
	return false
}

// tellAsking says how the person will be asked, where it does not show by itself.
func (j *job) tellAsking() {
	switch {
	case j.quiet || !asks(j.plan.Network()) && j.plan.Grants.Signing.Commits != string(policy.Ask):
	case !hasTerminal():
		j.say("there is no terminal to ask at: requests that a person is to be asked about are denied, unless \"agentbox approvals --watch\" runs elsewhere")
	case j.term != nil:
		j.say("requests that you are asked about wait: \"agentbox approvals\" in another terminal shows them")
	}
}
