package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"agentbox/internal/policy"
)

type widening struct {
	Host, Port, Method, Path string
	From, To                 policy.Action
	Rule                     string
	Uninspected              bool
}

// wider is conservative: every rule that is new or gone may widen.
func wider(from, to policy.Set) (out []widening) {
	had, has := map[string]bool{}, map[string]bool{}
	for _, r := range from.Rules {
		had[string(appendRule(nil, r))] = true
	}
	for _, r := range to.Rules {
		key := string(appendRule(nil, r))
		has[key] = true
		if r.Action != policy.Deny && !had[key] {
			out = append(out, widening{Rule: r.Origin, From: policy.Deny, To: r.Action, Host: r.Host.String()})
		}
	}
	for _, r := range from.Rules {
		if r.Action != policy.Allow && !has[string(appendRule(nil, r))] {
			out = append(out, widening{Rule: fromDefault, From: r.Action, To: to.Default, Host: r.Host.String()})
		}
	}
	if rank("network.default", string(to.Default)) < rank("network.default", string(from.Default)) {
		out = append(out, widening{Rule: fromDefault, From: from.Default, To: to.Default})
	}
	if len(from.Only) > 0 && !slices.Equal(from.Only, to.Only) {
		out = append(out, widening{Rule: fromDefault, From: policy.Deny, To: policy.Allow})
	}
	return out
}

// widened says what is new, by the rule that makes it so.
func widened(to policy.Set, w widening, fresh bool) string {
	was := ", which was " + did(w.From)
	if fresh {
		was = ""
	}
	if w.Uninspected {
		was = ", without inspecting what is asked of it, as it was"
	}
	return verbs(w.To) + " " + what(to, w) + was
}

// narrowed says what is no longer there, by the rule that made it so.
func narrowed(from policy.Set, w widening) string {
	if w.Uninspected {
		return "inspects what is asked of " + subject(from, w)
	}
	now := ", which is denied now"
	if w.From == policy.Ask {
		now = ", which is asked for now"
	}
	return "no longer " + verbs(w.To) + " " + what(from, w) + now
}

func verbs(a policy.Action) string {
	if a == policy.Ask {
		return "asks for"
	}
	return "allows"
}

func did(a policy.Action) string {
	if a == policy.Ask {
		return "asked for"
	}
	return "denied"
}

func what(set policy.Set, w widening) string {
	if r, ok := ruleOf(set, w); ok {
		return requests(r)
	}
	if w.Host == "" {
		return "what no rule names"
	}
	return "what no rule names, such as " + cmp.Or(w.Method, "requests") + " to " + subject(set, w)
}

func subject(set policy.Set, w widening) string {
	if r, ok := ruleOf(set, w); ok {
		return r.Host.String() + portsText(r.Ports)
	}
	return w.Host + wrapped(" on port ", w.Port, "") + w.Path
}

// ruleOf finds the rule that a widening names.
func ruleOf(set policy.Set, w widening) (policy.Rule, bool) {
	if w.Rule == "" || w.Rule == fromDefault {
		return policy.Rule{}, false
	}
	i := slices.IndexFunc(set.Rules, func(r policy.Rule) bool { return r.Origin == w.Rule && r.Action == w.To })
	if i < 0 {
		return policy.Rule{}, false
	}
	return set.Rules[i], true
}

// requests is what a rule speaks of: "GET and HEAD to a.test on port 443 below /api/**".
func requests(r policy.Rule) string {
	text := "every method"
	if len(r.Methods) > 0 {
		text = strings.Join(r.Methods, ", ")
	}
	text += " to " + r.Host.String() + portsText(r.Ports)
	if len(r.Paths) > 0 {
		text += " for " + strings.Join(patterns(r.Paths), ", ")
	}
	return text
}

func portsText(ports []uint16) string {
	noun := " on port "
	if len(ports) > 1 {
		noun = " on ports "
	}
	return noun + strings.Trim(strings.ReplaceAll(fmt.Sprint(ports), " ", ", "), "[]")
}
