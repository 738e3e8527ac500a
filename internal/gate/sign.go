package gate

import (
	"context"

	"agentbox/internal/approval"
	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// Signature is something that a program inside wants signed.
type Signature struct {
	What   string // what it is, and with what it would be signed, as a person is shown it
	Digest string // of its bytes: what has the same is the same
	Rule   string // which says what is done about it
	Reason string // what it says, in one plain sentence
}

// Sign answers like Check whether something is signed: allow, deny, or ask a person. A yes is for what was shown, once.
func (g *Gate) Sign(ctx context.Context, s Signature, action policy.Action) (policy.Decision, error) {
	d := policy.Denied(s.Rule, s.Reason)
	d.Action = action
	if action == policy.Ask {
		d = g.asks.wait(ctx, posed{identity{sign: s.Digest, rule: s.Rule}, approval.Question{Sign: s.What, Rule: s.Rule, Reason: d.Reason()}}, d)
	}
	e := event.Event{Kind: event.SignRequest, Decision: event.Deny, Who: event.Agent, Rule: d.Rule, Reason: d.Reason()}
	if d.Action == policy.Allow { // refusals that are alike are counted together, and the events of a question say what it was about
		e.Decision, e.Detail = event.Allow, map[string]string{"sign": s.What, "digest": s.Digest}
	}
	if err := g.Emit(e); err != nil {
		return closed(), err
	}
	if err := ctx.Err(); err != nil {
		return closed(), err
	}
	return d, nil
}
