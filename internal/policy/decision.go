package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Decision is the answer with its grounds. The zero value denies.
type Decision struct {
	Action  Action
	Inspect bool   // of the rule that allowed it; always true where rules go by methods or paths
	Rule    string // Origin of the rule that decided, or "default", "only" or "built-in"

	MaxRequest int64 // bytes of the body that may be sent, 0 for no limit: the least that a rule for the host and port says
	MaxSent    int64 // bytes that may be sent to the host in the whole run, in the same way

	cause   cause
	set     *Set
	at      int // of the rule in set
	request Request
	text    string // the reason, or a part of it, when cause has none of its own
}

// cause is what made a decision.
type cause uint8

const (
	byText cause = iota
	byNoPlace
	byMetadata
	byOnly
	byPathFlaw
	byMethodOverride
	byPathOverride
	byNoMethod
	byRule
	byDefault
)

// Origins of decisions that no written rule made.
const (
	originDefault = "default"
	originOnly    = "only"
	originBuiltIn = "built-in"
)

// Denied is a denial on the grounds of rule, for reason, which is one plain sentence.
func Denied(rule, reason string) Decision {
	return Decision{Action: Deny, Rule: rule, text: reason}
}

// Allowed reports whether the request may be made.
func (d Decision) Allowed() bool { return d.Action == Allow }

// Reason is one plain sentence for a person and for the agent. It is made when it is asked for.
func (d Decision) Reason() string {
	r := d.request
	switch d.cause {
	case byNoPlace:
		return "the request names no host and port"
	case byNoMethod:
		return "the request has a path but no method"
	case byMetadata:
		return fmt.Sprintf("%s serves the credentials of a cloud machine and is never allowed", r.Host)
	case byOnly:
		return fmt.Sprintf("%s is not one of the hosts to which the organisation's policy limits every run", r.Host)
	case byPathFlaw:
		return fmt.Sprintf("the path %s, so servers may take it for another one, and the rule at %s goes by paths of %s", d.text, d.Rule, r.Host)
	case byMethodOverride:
		return fmt.Sprintf("%s asks the server to take the request for one with another method, and the rule at %s goes by methods of %s", r.MethodBy, d.Rule, r.Host)
	case byPathOverride:
		return fmt.Sprintf("%s names another path to the server than the one that is judged, and the rule at %s goes by paths of %s", r.PathBy, d.Rule, r.Host)
	case byRule:
		return fmt.Sprintf("the rule for %s at %s %s", d.set.Rules[d.at].Host, d.Rule, d.says())
	case byDefault:
		return d.defaultReason()
	}
	return d.text
}

func (d Decision) says() string {
	place := fmt.Sprintf("%s on port %d", d.request.Host, d.request.Port)
	if rule := d.set.Rules[d.at]; !d.request.partial() && (len(rule.Methods) > 0 || len(rule.Paths) > 0) {
		place = fmt.Sprintf("%s %s of %s", shown(d.request.Method), shown(d.request.Path), place)
	}
	switch d.Action {
	case Allow:
		return "allows " + place
	case Ask:
		return "wants a person asked before " + place
	}
	return "denies " + place
}

func (d Decision) defaultReason() string {
	r := d.request
	var limits []string
	for _, rule := range d.set.Rules {
		if rule.Action == Allow && rule.takesPlace(r) {
			limits = append(limits, rule.limits())
		}
	}
	what := fmt.Sprintf("no rule names %s on port %d", r.Host, r.Port)
	if len(limits) > 0 {
		what = fmt.Sprintf("no rule for %s on port %d names %s %s", r.Host, r.Port, shown(r.Method), shown(r.Path))
	}
	switch {
	case d.Action == Allow:
		return what + " and the default is to allow"
	case d.Action == Ask:
		return what + " and the default is to ask a person"
	case len(limits) > 0:
		return what + ", only " + listed(limits)
	}
	ports := d.set.portsOf(r.Host)
	if len(ports) == 0 {
		return fmt.Sprintf("no rule allows %s and the default is to deny", r.Host)
	}
	text := make([]string, len(ports))
	for i, port := range ports {
		text[i] = strconv.Itoa(int(port))
	}
	return fmt.Sprintf("%s is allowed on port %s only, not on port %d", r.Host, strings.Join(text, ", "), r.Port)
}

// limits is what a rule with methods or paths is about: "GET, HEAD of /api/**".
func (r Rule) limits() string {
	var parts []string
	if len(r.Methods) > 0 {
		parts = append(parts, strings.Join(r.Methods, ", "))
	}
	if len(r.Paths) > 0 {
		paths := make([]string, len(r.Paths))
		for i, p := range r.Paths {
			paths[i] = p.String()
		}
		parts = append(parts, listed(paths))
	}
	return strings.Join(parts, " of ")
}

const maxListed = 4

func listed(items []string) string {
	slices.Sort(items)
	items = slices.Compact(items)
	if len(items) > maxListed {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:maxListed], ", "), len(items)-maxListed)
	}
	return strings.Join(items, ", ")
}

const maxShown = 120 // bytes of what an agent sent that are repeated in a reason

// shown is what an agent sent, short and without anything that could redraw a screen.
func shown(s string) string {
	short := s[:min(len(s), maxShown)]
	for i := range len(short) {
		if c := short[i]; c <= ' ' || c > '~' {
			return strconv.QuoteToASCII(short)
		}
	}
	if len(short) < len(s) {
		return short + "…"
	}
	return short
}
