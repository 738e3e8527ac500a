package run

import (
	"slices"

	"agentbox/internal/plan"
	"agentbox/internal/policy"
)

// gitHosts are the hosts whose repositories the agent may want to reach, so that addresses of ssh are rewritten to https
// for them: those of rules about git, of the repository's own remote, and the well-known ones that may be reached.
func gitHosts(p plan.Plan) []string {
	var hosts []string
	network := p.Network()
	for _, r := range network.Git {
		hosts = append(hosts, r.Host.String())
	}
	for _, r := range p.Binding.Rules { // the set origin's
		hosts = append(hosts, r.Host.String())
	}
	table := network.Compile()
	for _, name := range wellKnown {
		h, err := policy.ParseHost(name)
		if err == nil && table.Decide(policy.Request{Host: h, Port: 443, Scheme: "https"}).Action != policy.Deny {
			hosts = append(hosts, name)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// wellKnown are hosts that serve the same repositories by ssh and by https, under the same paths.
var wellKnown = []string{"github.com", "gitlab.com", "bitbucket.org", "codeberg.org"}
