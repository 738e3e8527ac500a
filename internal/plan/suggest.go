package plan

import (
	"fmt"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

// SetRules is what a named set says by itself: whatever none of its rules names is denied.
func SetRules(s profiles.NamedSet) policy.Set {
	return policy.Set{Default: policy.Deny, Rules: rules(s.Rules)}
}

// GrantCommand is the command that allows a request for the person in this repository alone. Of a tunnel, whose requests
// are not known, reading is what it allows.
func GrantCommand(r policy.Request) string {
	a := widened(r)
	if r.Path == "" && (r.Method == "" || r.Method == "CONNECT") {
		a = wanted{Request: r, methods: []string{"GET", "HEAD"}, anyPath: true}
	}
	return "agentbox grants add " + grantArgs(a)
}

// NoWrites says why the tier lets no rule allow a method that writes; "" when it may.
func (g Grants) NoWrites() string {
	f := floors{}
	f.tier(g.Tier, g.Origins["tier"])
	w, ok := f[pathWrites]
	if !ok || rank(pathWrites, w.word) <= rank(pathWrites, string(policy.Allow)) {
		return ""
	}
	return fmt.Sprintf("%s wants a person asked before anything that writes: a rule with action = \"ask\" does that", w.named)
}
