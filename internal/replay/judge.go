package replay

import (
	"fmt"
	"strings"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// Rules is what judges; a policy.Set or its Table.
type Rules interface {
	Decide(policy.Request) policy.Decision
	Reachable(policy.Host) bool
}

// Verdict is what rules say of a group.
type Verdict struct {
	Action policy.Action
	Rule   string
	Reason string
}

// Judge asks the rules about a group. Of a connection that was passed on as it was, and would be looked into now, they
// can't tell: the error says so.
func Judge(rules Rules, g Group) (Verdict, error) {
	if g.Lookup {
		return lookup(rules, g.Request), nil
	}
	d := rules.Decide(g.Request)
	v := Verdict{Action: d.Action, Rule: d.Rule, Reason: d.Reason()}
	switch most := d.MaxRequest; {
	case !d.Allowed():
	case most > 0 && g.Request.Size > most:
		v.Action, v.Reason = policy.Deny, fmt.Sprintf("its body has %d bytes, and %d may be sent there", g.Request.Size, most)
	case g.Was == event.Allow && Partial(g.Request) && d.Inspect && g.Request.Scheme != policy.TCP:
		return v, fmt.Errorf("its connection was passed on without a look at its requests, and the rule at %s would look at each", d.Rule)
	}
	return v, nil
}

func lookup(rules Rules, r policy.Request) Verdict {
	if rules.Reachable(r.Host) {
		return Verdict{policy.Allow, "", "the name could be looked up now: a rule allows some port of it"}
	}
	d := rules.Decide(policy.Request{Host: r.Host, Port: 443})
	return Verdict{policy.Deny, d.Rule, d.Reason()}
}

// Same reports whether a verdict is the answer that the run got. Where a person is asked, the run got their answer, or
// a no where nobody could be: that is the same as long as the rule that asks is.
func (v Verdict) Same(g Group) bool {
	switch v.Action {
	case policy.Allow:
		return g.Was == event.Allow
	case policy.Ask:
		return g.Rule == v.Rule && g.asked(v)
	}
	return g.Was == event.Deny
}

// asked reports whether the run's answer came of the question that a verdict wants, and not of a rule at the same place
// that allowed, or denied, then.
func (g Group) asked(v Verdict) bool {
	return strings.HasPrefix(g.Reason, policy.PersonAllowed) || strings.HasPrefix(g.Reason, policy.PersonDenied) || strings.HasPrefix(g.Reason, v.Reason+", and ")
}

// Change is a group whose answer is another one now.
type Change struct {
	Group
	Now Verdict
}

// Compare judges all of a log, and gives what changes and what can't be judged, the log's own unknown requests first.
func (l *Log) Compare(rules Rules) (changes []Change, unknown []Aside) {
	unknown = append(unknown, l.Unknown...)
	for _, g := range l.Groups {
		v, err := Judge(rules, g)
		switch r := g.Request; {
		case err != nil:
			unknown = append(unknown, Aside{Kind: event.NetRequest, Host: r.Host.String(), Port: r.Port, Method: r.Method, Path: r.Path, Text: err.Error(), Count: g.Count})
		case !v.Same(g):
			changes = append(changes, Change{g, v})
		}
	}
	return changes, unknown
}
