package learn

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"agentbox/internal/policy"
	"agentbox/internal/replay"
)

// Rule is one rule that is proposed: always one host, one port, and methods.
type Rule struct {
	Host    policy.Host
	Port    uint16
	Scheme  string // "": https, the only one of port 443, or not known
	Socket  bool   // WebSockets alone
	Methods []string
	Paths   []Path // none: every path, of which Blind says why
	Blind   bool   // only the tunnel was seen, never a request in it: reading is proposed, of every path
	For     []replay.Group
}

// Path is a pattern with the paths it was made of.
type Path struct {
	Pattern policy.PathPattern
	Seen    []string // as patterns; of one that names a single path, that path
}

// Wide reports whether the pattern names more than was seen.
func (p Path) Wide() bool { return len(p.Seen) != 1 || p.Seen[0] != p.Pattern.String() }

// Writes reports whether the rule allows what may change something: a WebSocket may carry anything.
func (r Rule) Writes() bool { return r.Socket || slices.ContainsFunc(r.Methods, Writes) }

// WebSocket is what the rule says of WebSockets: "true" is nothing else, "false" none of them. Where nothing but reading
// is proposed, of every path, there are none.
func (r Rule) WebSocket() string {
	switch {
	case r.Socket:
		return "true"
	case r.Blind:
		return "false"
	}
	return ""
}

// Policy is the rule as policy judges it.
func (r Rule) Policy() policy.Rule {
	pattern, _ := policy.ParsePattern(r.Host.String()) // every host is one
	out := policy.Rule{Action: policy.Allow, Host: pattern, Ports: []uint16{r.Port}, Methods: r.Methods, Inspect: true, Origin: "learned", Scheme: r.Scheme}
	switch r.WebSocket() {
	case "true":
		out.WebSocket = policy.WebSocketOnly
	case "false":
		out.WebSocket = policy.WebSocketNever
	}
	for _, p := range r.Paths {
		out.Paths = append(out.Paths, p.Pattern)
	}
	return out
}

// Texts are the rule's patterns.
func (r Rule) Texts() []string {
	var out []string
	for _, p := range r.Paths {
		out = append(out, p.Pattern.String())
	}
	return out
}

// place is what one rule can be about.
type place struct {
	host policy.Host
	port uint16
}

// rulesFor makes the rules for requests: for each host and port the methods that have the same paths together.
func rulesFor(wanted []replay.Group, broad bool) (rules []Rule) {
	at := map[place][]replay.Group{}
	for _, g := range wanted {
		p := place{g.Request.Host, g.Request.Port}
		at[p] = append(at[p], g)
	}
	for _, p := range slices.SortedFunc(maps.Keys(at), func(a, b place) int {
		return cmp.Or(strings.Compare(a.host.String(), b.host.String()), cmp.Compare(a.port, b.port))
	}) {
		rules = append(rules, rulesAt(p, at[p], broad)...)
	}
	return rules
}

// kind is what one rule can be about at a place: the method is one of several.
type kind struct {
	scheme string
	socket bool
	method string
}

func kindOf(r policy.Request) kind {
	k := kind{r.Scheme, r.WebSocket, r.Method}
	if r.Scheme == "https" && r.Port == 443 {
		k.scheme = ""
	}
	return k
}

func (k kind) compare(o kind) int {
	return cmp.Or(strings.Compare(k.scheme, o.scheme), compareBool(k.socket, o.socket), strings.Compare(k.method, o.method))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func rulesAt(p place, groups []replay.Group, broad bool) []Rule {
	kinds := map[kind][]replay.Group{}
	var tunnels []replay.Group
	for _, g := range groups {
		if replay.Partial(g.Request) {
			tunnels = append(tunnels, g)
		} else {
			k := kindOf(g.Request)
			kinds[k] = append(kinds[k], g)
		}
	}
	if len(kinds) == 0 { // a tunnel opens for any rule, so beside others it needs none
		return []Rule{{Host: p.host, Port: p.port, Methods: []string{"GET", "HEAD"}, Blind: true, For: tunnels}}
	}
	var rules []Rule
	for _, k := range slices.SortedFunc(maps.Keys(kinds), kind.compare) {
		more := Rule{Host: p.host, Port: p.port, Scheme: k.scheme, Socket: k.socket, Methods: []string{k.method}, For: kinds[k]}
		more.Paths = pathsFor(more.For, broad, more.Writes())
		i := slices.IndexFunc(rules, more.joins)
		if i < 0 {
			rules = append(rules, more)
			continue
		}
		rules[i].Methods = append(rules[i].Methods, k.method)
		rules[i].For = append(rules[i].For, more.For...)
	}
	rules[0].For = append(rules[0].For, tunnels...)
	return chunked(rules)
}

// joins reports whether two rules are one but for their methods.
func (r Rule) joins(o Rule) bool {
	return r.Scheme == o.Scheme && r.Socket == o.Socket && r.Writes() == o.Writes() && samePaths(r.Paths, o.Paths)
}

func samePaths(a, b []Path) bool {
	return slices.EqualFunc(a, b, func(a, b Path) bool { return a.Pattern == b.Pattern })
}

// maxPaths is how many patterns one rule gets; the format holds a few more.
const maxPaths = 200

// chunked takes rules with very many paths apart.
func chunked(rules []Rule) (out []Rule) {
	for _, r := range rules {
		for len(r.Paths) > maxPaths {
			part := r
			part.Paths, r.Paths = r.Paths[:maxPaths], r.Paths[maxPaths:]
			out = append(out, part)
		}
		out = append(out, r)
	}
	return out
}
