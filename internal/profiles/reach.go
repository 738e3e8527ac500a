package profiles

import (
	"slices"

	"agentbox/internal/policy"
)

// reach answers whether hosts can be reached. It gives up after maxReach steps, and then finds nothing wrong.
type reach struct {
	network Network
	git     []GitRule
	rules   *settlers
	steps   int
}

const maxReach = 1 << 20

func newReach(p *Profile, all *settlers) *reach {
	return &reach{network: p.Network, git: p.Git, rules: all}
}

// unreached says why no request to h can be let through and looked at, or ""; rule is the one at fault, or -1.
func (r *reach) unreached(h policy.Host) (rule int, why string) {
	if h.IsZero() || r.steps > maxReach {
		return -1, "" // an empty one's own problem is known
	}
	near, ports := Network{Default: r.network.Default}, []uint16{443}
	places := r.rules.matching(h)
	for _, i := range places {
		near.Rules = append(near.Rules, r.network.Rules[i])
	}
	set := near.Set()
	for _, g := range r.git {
		if g.Remote.Host() == h {
			set.Git = append(set.Git, g.Rule())
		}
	}
	for _, rule := range set.Rules {
		ports = append(ports, rule.Ports...)
	}
	ports = sorted(ports)
	if r.steps += (1 + len(near.Rules)) * len(ports); r.steps > maxReach {
		return -1, ""
	}
	for _, port := range ports {
		if near.reached(set.Decide(policy.Request{Host: h, Port: port, Scheme: "https"}), Port(port)) {
			return -1, ""
		}
	}
	d := set.Decide(policy.Request{Host: h, Port: 443, Scheme: "https"})
	if rule = near.byOrigin(d.Rule); rule >= 0 {
		rule = places[rule]
	}
	if d.Action != policy.Deny {
		return rule, "inspect = false at " + d.Rule + " keeps agentbox from looking into requests"
	}
	return rule, d.Reason()
}

// reached reports whether a decision on all requests to a port leaves some that are let through and looked at. Rules
// that ask about some of them leave the rest to the default.
func (n Network) reached(d policy.Decision, port Port) bool {
	rule := n.byOrigin(d.Rule)
	if d.Action != policy.Deny {
		return rule < 0 || n.Rules[rule].Inspect || d.Inspect
	}
	return rule < 0 && slices.ContainsFunc(n.Rules, func(r Rule) bool {
		return r.Action == Action(policy.Ask) && r.Inspect && slices.Contains(r.Ports, port)
	})
}

func (n Network) byOrigin(origin string) int {
	return slices.IndexFunc(n.Rules, func(r Rule) bool { return r.Origin == origin })
}
