package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/policy"
)

// Use is one line of the matrix of a plan's credentials: which of them may go where, with what, and for whom.
type Use struct {
	Credential string               `json:"credential"`
	Who        string               `json:"who"` // whose requests it goes into: "agent"
	Host       policy.Host          `json:"host"`
	Ports      []uint16             `json:"ports,omitempty"`   // none: every port
	Methods    []string             `json:"methods,omitempty"` // none: every method that a rule allows
	Paths      []policy.PathPattern `json:"paths,omitempty"`   // none: every path that a rule allows
	Slot       string               `json:"slot"`              // "Authorization", "Basic login", "parameter key", "field x of the body"
	Origin     string               `json:"origin,omitempty"`
}

// Uses is the matrix: each credential with each of its hosts, in the order of the profile.
func (g Grants) Uses() []Use {
	uses := []Use{}
	for _, c := range g.Credentials {
		for _, h := range c.Hosts {
			uses = append(uses, Use{Credential: c.Name, Who: "agent", Host: h, Ports: c.Ports, Methods: c.Methods, Paths: c.Paths, Slot: c.slot(), Origin: c.Origin})
		}
	}
	return uses
}

// slot says where in a request it stands: the name of its header, or what else it is.
func (c Credential) slot() string {
	var out []string
	if c.Header != "" {
		name, _, _ := strings.Cut(c.Header, ":")
		out = append(out, name)
	}
	if c.Basic != "" {
		user, _, _ := strings.Cut(c.Basic, ":")
		out = append(out, strings.TrimSpace("Basic login "+strings.TrimPrefix(user, "*")))
	}
	if c.Query != "" {
		out = append(out, "parameter "+c.Query)
	}
	if c.Body != "" {
		out = append(out, "field "+c.Body+" of the body")
	}
	return strings.Join(out, " or ")
}

// only says for which requests to its hosts it is: "GET, HEAD of /api/** on port 443"; "" for all of them.
func (c Credential) only() string {
	var out []string
	if len(c.Methods) > 0 {
		out = append(out, clean(strings.Join(c.Methods, ", ")))
	}
	if len(c.Paths) > 0 {
		out = append(out, "of "+words(pathTexts(c.Paths)))
	}
	if len(c.Ports) > 0 {
		out = append(out, "on port "+strings.Join(portTexts(c.Ports), ", "))
	}
	return strings.Join(out, " ")
}

func pathTexts(ps []policy.PathPattern) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String()
	}
	return out
}

func portTexts(ps []uint16) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = strconv.Itoa(int(p))
	}
	return out
}

// fits says whether it is for a request: always, for some of those that a connection is still to bring, or never.
func (c Credential) fits(r policy.Request) (fits, some bool) {
	if !slices.Contains(c.Hosts, r.Host) || r.Scheme == "http" || r.Scheme == policy.TCP || len(c.Ports) > 0 && !slices.Contains(c.Ports, r.Port) {
		return false, false
	}
	if r.Method == "" && r.Path == "" {
		return true, len(c.Methods) > 0 || len(c.Paths) > 0
	}
	method := len(c.Methods) == 0 || slices.Contains(c.Methods, r.Method) && r.MethodBy == ""
	path := len(c.Paths) == 0 || slices.ContainsFunc(c.Paths, func(p policy.PathPattern) bool { return p.Match(r.Path) }) && r.PathBy == ""
	return method && path, false
}

// fewer compares what limits a credential: a list of which none is everything.
func (d *differ) fewer(path, origin, shown, what, every string, old, now []string, within func(a, b string) bool) {
	switch {
	case len(old) == 0 && len(now) == 0:
		return
	case len(now) == 0:
		d.at(Wider, path, origin, "uses credential %s for %s, not only for %s", shown, every, words(old))
		return
	case len(old) == 0:
		d.at(Tighter, path, origin, "uses credential %s only for %s%s", shown, what, words(now))
		return
	}
	before := len(d.changes)
	for _, v := range minus(now, old) {
		if !slices.ContainsFunc(old, func(o string) bool { return within(v, o) }) {
			d.at(Wider, path, origin, "uses credential %s for %s%s too", shown, what, clean(v))
		}
	}
	for _, v := range minus(old, now) {
		if !slices.ContainsFunc(now, func(n string) bool { return within(v, n) }) {
			d.at(Tighter, path, origin, "no longer uses credential %s for %s%s", shown, what, clean(v))
		}
	}
	if len(d.changes) == before && len(minus(now, old))+len(minus(old, now)) > 0 {
		d.at(Other, path, origin, "says in other words what credential %s is used for", shown)
	}
}

func same(a, b string) bool { return a == b }

// within reports whether one pattern of paths surely lies within another.
func within(a, b string) bool {
	p, errP := policy.ParsePathPattern(a)
	q, errQ := policy.ParsePathPattern(b)
	return errP == nil && errQ == nil && p.Within(q)
}

// slots compares where a credential stands in a request.
func (d *differ) slots(path, shown string, old, now Credential) {
	for _, s := range []struct{ key, form, old, now string }{
		{"header", "%s", old.Header, now.Header}, {"basic", "the Basic login %s", old.Basic, now.Basic},
		{"query", "parameter %s", old.Query, now.Query}, {"body", "field %s of the body", old.Body, now.Body},
	} {
		is, was := fmt.Sprintf(s.form, clean(s.now)), fmt.Sprintf(s.form, clean(s.old))
		switch at := path + "." + s.key; {
		case s.old == s.now:
		case s.old == "":
			d.at(Wider, at, now.Origin, "sends credential %s as %s", shown, is)
		case s.now == "":
			d.at(Tighter, at, now.Origin, "no longer sends credential %s as %s", shown, was)
		default:
			d.at(Wider, at, now.Origin, "sends credential %s as %s instead of %s", shown, is, was)
		}
	}
}
