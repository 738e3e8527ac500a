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
	Inspect bool   // of the rule that allowed it; always true where rules go by what only requests show; false for TCP
	Rule    string // Origin of the rule that decided, or "default", "only" or "built-in"

	MaxRequest int64 // bytes of the body that may be sent, 0 for no limit: the least that a rule for the host and port says
	MaxSent    int64 // bytes that may be sent to the host in the whole run, in the same way

	cause   cause
	set     *Set
	at      int  // of the rule in set
	byGit   bool // the rule is one for git
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
	bySize    // more than MaxRequest
	byUnseen  // a rule could not be held in a connection that is passed on as it is
	byNoTCP   // no rule lets such a connection through
	byGitRule // a rule for git
	byNoPush  // no rule for git allows the push
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

// How the reason of what a person answered begins.
const (
	PersonAllowed = "a person allowed it"
	PersonDenied  = "a person was asked and denied it"
)

// Answered is what becomes of a decision to ask, by the answer of a person or for want of one: the grounds stay, and
// reason is one plain sentence. What is allowed so is inspected, but for what nobody can look into.
func (d Decision) Answered(a Action, reason string) Decision {
	d.Action, d.Inspect, d.cause, d.text = a, a == Allow && d.request.Scheme != TCP, byText, reason
	return d
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
	return d.moreReason()
}

func (d Decision) moreReason() string {
	r := d.request
	switch d.cause {
	case bySize:
		return fmt.Sprintf("the body has %d bytes, and the rule at %s lets through %d in one request to %s", r.Size, d.Rule, d.set.Rules[d.at].MaxRequest, r.Host)
	case byUnseen:
		return fmt.Sprintf("the rule at %s goes by what is in requests to %s on port %d, which nobody sees in a plain TCP connection", d.Rule, r.Host, r.Port)
	case byNoTCP:
		return fmt.Sprintf("no rule with protocol = \"tcp\" names %s on port %d", r.Host, r.Port)
	case byGitRule:
		return fmt.Sprintf("the [[git]] rule for %s at %s allows %s", d.set.Git[d.at].remote(), d.Rule, d.gitPlace())
	case byNoPush:
		return d.pushReason()
	}
	return d.text
}

func (d Decision) says() string {
	place := fmt.Sprintf("%s on port %d", d.request.Host, d.request.Port)
	switch rule := &d.set.Rules[d.at]; {
	case d.request.Scheme == TCP:
		place += " by plain TCP"
	case d.request.partial() && d.Action == Ask && rule.limited():
		place = "some requests to " + place
	case !d.request.partial() && rule.limited():
		place = fmt.Sprintf("%s of %s", d.request.what(), place)
	}
	switch d.Action {
	case Allow:
		return "allows " + place
	case Ask:
		return "wants a person asked before " + place
	}
	return "denies " + place
}

// what is what a request asks for: "GET /x", "a WebSocket at /x over http".
func (r Request) what() string {
	out := shown(r.Method) + " " + shown(r.Path)
	if r.WebSocket {
		out = "a WebSocket at " + shown(r.Path)
	}
	if r.Scheme == "http" {
		out += " over http"
	}
	return out
}

func (d Decision) defaultReason() string {
	r := d.request
	var limits []string
	for i := range d.set.Rules {
		if rule := &d.set.Rules[i]; rule.Action == Allow && rule.Protocol == "" && rule.takesPlace(r) {
			limits = append(limits, rule.limits())
		}
	}
	what := fmt.Sprintf("no rule names %s on port %d", r.Host, r.Port)
	if len(limits) > 0 {
		what = fmt.Sprintf("no rule for %s on port %d names %s", r.Host, r.Port, r.what())
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
	switch {
	case len(ports) == 0:
		return fmt.Sprintf("no rule allows %s and the default is to deny", r.Host)
	case slices.Contains(ports, r.Port):
		return fmt.Sprintf("%s is allowed on port %d by plain TCP only, not by https and http", r.Host, r.Port)
	}
	text := make([]string, len(ports))
	for i, port := range ports {
		text[i] = strconv.Itoa(int(port))
	}
	return fmt.Sprintf("%s is allowed on port %s only, not on port %d", r.Host, strings.Join(text, ", "), r.Port)
}

// limits is what a rule about some requests is about: "GET, HEAD of /api/**".
func (r *Rule) limits() string {
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
	what := strings.Join(parts, " of ")
	switch r.WebSocket {
	case WebSocketOnly:
		what = strings.TrimSpace("WebSockets " + what)
	case WebSocketNever:
		what = strings.TrimSpace(what + " without WebSockets")
	}
	if r.Scheme != "" {
		what = strings.TrimSpace(what + " over " + r.Scheme)
	}
	return what
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
