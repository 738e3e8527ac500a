package plan

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

// network compares the rules, by the requests that they answer otherwise.
func (d *differ) network() {
	a, b := d.from, d.to
	d.wasRules, d.isRules = indexOf(a.Network), indexOf(b.Network)
	for _, w := range policy.Wider(a.Set(), b.Set()) {
		if !byChangedGit(w, a, b) {
			d.at(Wider, "network", ruleOrigin(b, w.Rule), "%s", d.widened(w))
		}
	}
	for _, w := range policy.Wider(b.Set(), a.Set()) {
		if !byChangedGit(w, b, a) {
			d.at(Tighter, "network", gone(ruleOrigin(a, w.Rule), ""), "%s", d.narrowed(w))
		}
	}
}

// byChangedGit reports what a rule for git allows that is not in `from` as it is now: git says so by remote.
func byChangedGit(w policy.Widening, from, to Grants) bool {
	if w.GitOp == "" {
		return false
	}
	bare := func(r GitRule) GitRule { r.Origin = ""; return r }
	return slices.ContainsFunc(to.Git, func(r GitRule) bool {
		return r.Origin == w.Rule && !slices.ContainsFunc(from.Git, func(old GitRule) bool { return reflect.DeepEqual(bare(old), bare(r)) })
	})
}

// origin compares the sets by name. The rules of all but "origin" are compared as rules.
func (d *differ) origin() {
	a, b := d.from, d.to
	switch had, has := slices.Contains(a.Use, originSet), slices.Contains(b.Use, originSet); {
	case has && !had:
		d.at(Wider, "network.use", origin(b, "network.use", slices.Index(b.Use, originSet)), "fetches from this repository's own remote (origin)")
	case had && !has:
		d.at(Tighter, "network.use", gone(origin(a, "network.use", slices.Index(a.Use, originSet)), ""), "no longer fetches from this repository's own remote (origin)")
	}
	sets := func(g Grants) []string { // of others, the rules are compared above
		return slices.DeleteFunc(slices.Clone(g.Use), func(name string) bool { return name == originSet })
	}
	d.items("network.use", sets(a), sets(b), Other, Other, "uses the set %s", "no longer uses the set %s")
}

func ruleOrigin(g Grants, rule string) string {
	if rule == fromDefault {
		return cmp.Or(g.Origins["network.default"], fromDefault)
	}
	return rule
}

// widened says what is new, by the rule that makes it so.
func (d *differ) widened(w policy.Widening) string {
	subject, was := d.isRules.subject(w, d.wasRules), ", which was "+said(w.From)
	switch {
	case w.Limit != "":
		return "lets " + limitBound(w.LimitTo) + limitOf(w) + " (it was " + limitBound(w.LimitFrom) + ")"
	case w.Private != "":
		return "lets " + cmp.Or(w.Hosts, w.Host) + " lead into your own network: " + w.Private
	case w.Uninspected && w.From == w.To:
		return "no longer looks into connections to " + placeOf(w) + ", so that only the host and the port hold"
	case w.Unsure:
		return verb(w.To) + " " + subject + ", and whether that was so cannot be told"
	case d.fresh:
		was = ""
	}
	if w.Uninspected {
		was = ", not looked into" + was
	}
	return verb(w.To) + " " + subject + was + d.wasRules.by(w.Was)
}

// narrowed says what is no longer there, by the rule that made it so.
func (d *differ) narrowed(w policy.Widening) string {
	switch {
	case w.Limit != "":
		return "lets no more than " + limitBound(w.LimitFrom) + limitOf(w) + " (it was " + limitBound(w.LimitTo) + ")"
	case w.Private != "":
		return "no longer lets " + cmp.Or(w.Hosts, w.Host) + " lead into your own network: " + w.Private
	case w.Uninspected && w.From == w.To:
		return "looks into connections to " + placeOf(w)
	case w.Unsure:
		return verb(w.To) + " " + d.wasRules.subject(w, d.isRules) + " no longer, or not all of it"
	}
	return "no longer " + verb(w.To) + " " + d.wasRules.subject(w, d.isRules) + ", which is " + said(w.From) + " now" + d.isRules.by(w.Was)
}

func limitBound(bytes int64) string {
	if bytes == 0 {
		return "any number of bytes"
	}
	return profiles.ByteSize(bytes).String()
}

func limitOf(w policy.Widening) string {
	if w.Limit == "max_sent" {
		return " be sent to " + placeOf(w) + " in one run"
	}
	return " be sent to " + placeOf(w) + " in one request"
}

func verb(a policy.Action) string {
	if a == policy.Ask {
		return "asks for"
	}
	return "allows"
}

func said(a policy.Action) string {
	if a == policy.Ask {
		return "asked for"
	}
	return "denied"
}

// index finds rules: two sets of ten thousand may differ in all of them.
type index struct {
	at    map[string][]policy.Rule // by Origin
	hosts map[policy.Pattern]bool  // that some rule names
	wild  bool                     // one of them is a wildcard
}

func indexOf(set policy.Set) index {
	out := index{make(map[string][]policy.Rule, len(set.Rules)), make(map[policy.Pattern]bool, len(set.Rules)), false}
	for _, r := range set.Rules {
		_, exact := r.Host.Exact()
		out.at[r.Origin], out.hosts[r.Host], out.wild = append(out.at[r.Origin], r), true, out.wild || !exact
	}
	return out
}

// silent reports that no rule can name any host of a pattern, so that a rule for it is new as a whole.
func (o index) silent(p policy.Pattern) bool {
	_, exact := p.Exact()
	return exact && !o.wild && !o.hosts[p]
}

// by names the rule that said otherwise.
func (o index) by(rule string) string {
	if rule == "" || len(o.at[rule]) == 0 {
		return ""
	}
	return " by the rule at " + clean(rule)
}

func placeOf(w policy.Widening) string {
	return cmp.Or(w.Hosts, w.Host) + wrapped(" on port ", w.Port, "")
}

// subject is what the rule of a widening speaks of, and the request that shows that it matters.
func (o index) subject(w policy.Widening, other index) string {
	i := slices.IndexFunc(o.at[w.Rule], func(r policy.Rule) bool { return r.Action == w.To })
	if w.GitOp != "" {
		return witness(w)
	}
	if w.Rule == fromDefault || i < 0 {
		return "what no rule names, such as " + witness(w)
	}
	r := o.at[w.Rule][i]
	if other.silent(r.Host) {
		return requests(r)
	}
	_, exact := r.Host.Exact()
	whole := len(r.Paths) == 0 || len(r.Paths) == 1 && r.Paths[0].String() == w.Path
	if exact && len(r.Methods) == 1 && len(r.Ports) == 1 && whole || w.Method == "" {
		return requests(r)
	}
	return requests(r) + ", such as " + witness(w)
}

func witness(w policy.Widening) string {
	switch {
	case w.GitOp == policy.GitFetch:
		return "fetching " + clean(w.Repo) + " from " + w.Host
	case w.GitOp != "":
		return "pushing " + cmp.Or(clean(w.Ref), "something") + wrapped(" (", string(w.RefKind), ")") + " to " + clean(w.Repo) + " of " + w.Host
	case w.Scheme == policy.TCP:
		return "plain TCP to " + w.Host + wrapped(" on port ", w.Port, "")
	case w.WebSocket:
		return "a WebSocket at " + clean(w.Path) + " of " + w.Host + wrapped(" on port ", w.Port, "")
	}
	return strings.TrimSpace(clean(w.Method)+" "+clean(w.Path)) + " to " + w.Host + wrapped(" on port ", w.Port, "") + wrapped(" with ", w.Override, "")
}

// requests is what a rule speaks of: "GET, HEAD to a.test on port 443 for /api/**".
func requests(r policy.Rule) string {
	text := cmp.Or(strings.Join(r.Methods, ", "), "every method")
	switch {
	case r.Protocol != "":
		text = "plain TCP"
	case r.WebSocket == policy.WebSocketOnly && len(r.Methods) == 0:
		text = "WebSockets"
	}
	text += " to " + r.Host.String() + onPorts(r.Ports)
	if len(r.Paths) > 0 {
		text += " for " + strings.Join(patterns(r.Paths), ", ")
	}
	if r.WebSocket == policy.WebSocketNever {
		text += " without WebSockets"
	}
	return text + wrapped(" over ", r.Scheme, "") + bounds(r)
}

// bounds is what a rule says of how much may be sent, and of where its hosts may lead.
func bounds(r policy.Rule) string {
	var text string
	if r.MaxRequest > 0 {
		text += ", at most " + limitBound(r.MaxRequest) + " a request"
	}
	if r.MaxSent > 0 {
		text += ", at most " + limitBound(r.MaxSent) + " in one run"
	}
	if len(r.Private) > 0 {
		text += ", also in your own network: " + strings.Join(prefixes(r.Private), ", ")
	}
	return text
}

func onPorts(ports []uint16) string {
	noun := " on port "
	if len(ports) > 1 {
		noun = " on ports "
	}
	texts := make([]string, len(ports))
	for i, port := range ports {
		texts[i] = strconv.Itoa(int(port))
	}
	return noun + strings.Join(texts, ", ")
}
