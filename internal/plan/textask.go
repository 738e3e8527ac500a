package plan

import (
	"slices"

	"agentbox/internal/policy"
)

// asking says how the person is asked in this run, where anything is asked about.
func (t *page) asking(p Plan, set policy.Set) {
	rules := slices.ContainsFunc(set.Rules, func(r policy.Rule) bool { return r.Action == policy.Ask })
	switch {
	case !rules && set.Default != policy.Ask:
	case p.Binding.Terminal:
		t.line(false, "", "what you are asked about waits for \"agentbox approvals\" in another terminal: the agent has this one")
	default:
		t.line(false, "", "you are asked at your terminal, or by \"agentbox approvals\" in another; without a terminal, and without \"agentbox approvals --watch\", the answer is no")
	}
}
