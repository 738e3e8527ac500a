package plan

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/policy"
)

const (
	maxRules = 7 // that are shown: every other is in the JSON
	maxHosts = 6 // of a named set
)

func (t *page) network(p Plan) {
	set := p.Network()
	switch {
	case set.Default == policy.Allow:
		t.line(true, "network", "everything that no rule denies: it can send your code anywhere%s", from(p, "network.default"))
	case set.Default == policy.Ask:
		t.line(false, "network", "you are asked for what is not listed here%s", from(p, "network.default"))
	case !slices.ContainsFunc(set.Rules, func(r policy.Rule) bool { return r.Action != policy.Deny }):
		t.line(false, "network", "none%s", from(p, "network.default"))
	default:
		t.line(false, "network", "only what is listed here%s", from(p, "network.default"))
	}
	if only := p.Grants.Network.Only; len(only) > 0 {
		t.line(false, "", "and of that only %s (%s)", shortList(patternNames(only), maxHosts), clean(p.Grants.Origins["network.only"]))
	}
	own, sets, names := grouped(p.Grants.Network.Rules)
	for i, r := range own {
		if i == maxRules && len(own) > maxRules+1 {
			t.line(slices.ContainsFunc(own[i:], loud), "", "and %s, which --json shows", count(len(own)-i, "rule"))
			break
		}
		t.rule(r)
	}
	for _, name := range names {
		t.set(name, sets[name])
	}
	t.git(p.Grants)
	t.asking(p, set)
	if len(p.Binding.Rules) > 0 {
		t.line(false, "", "%s %s · fetch only", originSet, clean(p.Binding.Remote))
	}
	t.upstream(p.Binding.Upstream, set.Rules)
}

// grouped tells the rules of named sets, by the files that they come from, from all others.
func grouped(rules []policy.Rule) (own []policy.Rule, sets map[string][]policy.Rule, names []string) {
	sets = map[string][]policy.Rule{}
	for _, r := range rules {
		name, _ := setOf(r.Origin)
		if name == "" {
			own = append(own, r)
			continue
		}
		if sets[name] == nil {
			names = append(names, name)
		}
		sets[name] = append(sets[name], r)
	}
	return own, sets, names
}

var setRule = regexp.MustCompile(`^(.+), ([a-z0-9-]+)\.toml:[0-9]+$`)

// setOf is the named set that a rule comes from, and where that is used: "npm" and "agentbox.toml:3" for
// "agentbox.toml:3, npm.toml:4". It is "" for a rule of a profile's own.
func setOf(origin string) (name, used string) {
	if !strings.Contains(origin, ", ") {
		return "", "" // by far the most
	}
	if m := setRule.FindStringSubmatch(origin); m != nil {
		return m[2], m[1]
	}
	return "", ""
}

// unseen reports a rule that lets connections through without looking into them.
func unseen(r policy.Rule) bool {
	return r.Action != policy.Deny && r.Protocol != "" || r.Action == policy.Allow && !r.Inspect
}

// loud reports a rule that a person has to look at.
func loud(r policy.Rule) bool { return unseen(r) || len(r.Private) > 0 }

func (t *page) rule(r policy.Rule) {
	what := after(" ", strings.Join(r.Methods, ",")) + after(" ", strings.Join(patterns(r.Paths), " "))
	switch r.WebSocket {
	case policy.WebSocketOnly:
		what += " · WebSockets only"
	case policy.WebSocketNever:
		what += " · no WebSockets"
	}
	what += wrapped(" · ", r.Scheme, " only") + notes(r)
	t.line(loud(r), "", "%-6s%s%s (%s)", r.Action, target(r), what, clean(r.Origin))
}

// notes is what a rule limits, and what it gives up.
func notes(r policy.Rule) string {
	var out string
	if r.MaxRequest > 0 {
		out += " · at most " + limitBound(r.MaxRequest) + " a request"
	}
	if r.MaxSent > 0 {
		out += " · at most " + limitBound(r.MaxSent) + " sent in one run"
	}
	switch {
	case r.Action == policy.Deny:
	case r.Protocol != "":
		out += " · tcp: nothing of what is sent is seen, checked or counted beyond bytes"
	case unseen(r):
		out += " · not inspected: Host header, methods, paths, number and size of requests and git pushes are not checked, credentials not added, answers not scrubbed"
	}
	if len(r.Private) > 0 {
		out += " · may lead into your own network: " + strings.Join(prefixes(r.Private), ", ")
	}
	return out
}

// git is a row for each repository, and what becomes of pushes to others.
func (t *page) git(g Grants) {
	for i, r := range g.Git {
		if i == maxRules && len(g.Git) > maxRules+1 {
			t.line(slices.ContainsFunc(g.Git[i:], rewrites), "", "and %s, which --json shows", count(len(g.Git)-i, "git rule"))
			break
		}
		t.line(rewrites(r), "", "git %s · %s (%s)", clean(r.Remote), gitText(r), clean(r.Origin))
	}
	switch {
	case len(g.Git) == 0:
	case g.Network.Default == policy.Ask:
		t.line(false, "", "git pushes to anything else are asked about")
	default:
		t.line(false, "", "git pushes to anything else are denied")
	}
}

// rewrites reports a rule by which what is pushed already can be lost.
func rewrites(r GitRule) bool { return len(r.Push) > 0 && (r.Force || r.Delete) }

func gitText(r GitRule) string {
	var parts []string
	if r.Fetch {
		parts = append(parts, "fetch")
	}
	if len(r.Push) > 0 {
		how := map[[2]bool]string{{true, false}: ", also by force", {false, true}: ", also to delete", {true, true}: ", also by force and to delete"}[[2]bool{r.Force, r.Delete}]
		parts = append(parts, "push to "+clean(strings.Join(r.Push, ", "))+how)
	}
	if len(parts) == 0 {
		return "neither fetch nor push"
	}
	return strings.Join(parts, ", ")
}

// set is one row for all rules of a named set.
func (t *page) set(name string, rules []policy.Rule) {
	var hosts []string
	some := false
	for _, r := range rules {
		if r.Action == policy.Allow {
			hosts = append(hosts, target(r))
			some = some || len(r.Paths) > 0
		}
	}
	hosts = distinct(hosts)
	how := methodsOf(rules)
	if some {
		how += ", some by path"
	}
	_, used := setOf(rules[0].Origin)
	t.line(slices.ContainsFunc(rules, loud), "", "set %s · %s, %s: %s (%s)", clean(name), count(len(hosts), "host"), how, shortList(hosts, maxHosts), clean(used))
}

// methodsOf is what all rules that allow something let through together.
func methodsOf(rules []policy.Rule) string {
	var all []string
	for _, r := range rules {
		if r.Action == policy.Allow && len(r.Methods) == 0 {
			return "every method"
		}
		if r.Action == policy.Allow {
			all = append(all, r.Methods...)
		}
	}
	return strings.Join(distinct(all), ",")
}

func shortList(list []string, most int) string {
	if len(list) > most+1 {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list, ", ")
}

func patternNames(in []policy.Pattern) []string {
	out := make([]string, len(in))
	for i, p := range in {
		out[i] = p.String()
	}
	return out
}

// target leaves out the port that goes without saying.
func target(r policy.Rule) string {
	ports := make([]string, len(r.Ports))
	for i, p := range r.Ports {
		ports[i] = strconv.Itoa(int(p))
	}
	if s := strings.Join(ports, ","); s != "443" {
		return r.Host.String() + ":" + s
	}
	return r.Host.String()
}
