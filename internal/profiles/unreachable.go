package profiles

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/policy"
)

// settled says that a rule changes nothing, because another answers each of its requests already.
type settled struct {
	rule, by int // indexes
	twice    bool
}

// The search ends after so many combinations of ports, methods and paths, and leaves out a rule with very many of them,
// so that no file makes it slow. What is found is right in any case; not everything that could be found is.
const (
	maxCells = 128
	maxSteps = 1 << 17
)

// findSettled finds the rules that can never decide: allow where deny or ask holds, ask where deny holds, and rules
// that are written twice. Restrictions of a later layer are not held against the rules below it, which they are there
// to tighten. Rules of named sets are never reported: nobody can change them.
func (x *settlers) findSettled() (found []settled) {
	for i, r := range x.rules {
		if r.Action == Action(policy.Deny) || r.Set != "" {
			continue
		}
		if by, ok := x.settle(i, r); ok {
			found = append(found, settled{rule: i, by: by})
		}
	}
	return append(found, x.findTwice()...)
}

// settlers is all rules by the pattern of their host. level tells the layer of a rule.
type settlers struct {
	rules        []Rule
	level        func(int) Level
	groups       []group
	exact, below map[string]int // groups, by the host's name and by what stands after "*."
	next         []int          // of a rule, the next one of its group; -1: none
	steps        int
}

// group is the rules of one pattern.
type group struct {
	first, last int
	strong      bool         // one of them denies or asks
	cells       map[cell]int // what those that do speak of, and the rule of the lowest level; nil: not looked at yet
	paths       map[paths]bool
}

// cell is one combination that a rule speaks of. No method is all of them.
type cell struct {
	action Action
	port   Port
	method Method
	paths  paths
}

// paths is a pattern of paths: one as written; or, below, everything after text and "/". The zero value is every path.
type paths struct {
	text  string
	below bool
}

func pathsOf(pattern string) paths {
	text, below := strings.CutSuffix(pattern, "/**")
	return paths{text, below}
}

func newSettlers(rules []Rule, level func(int) Level) *settlers {
	x := &settlers{rules: rules, level: level, exact: make(map[string]int, len(rules)), below: map[string]int{}, next: make([]int, len(rules)), groups: make([]group, 0, len(rules))}
	for i, r := range rules {
		x.next[i] = -1
		by, name := x.at(r.Host)
		if name == "" {
			continue // its own problem is known
		}
		at, ok := by[name]
		if !ok {
			at = len(x.groups)
			by[name] = at
			x.groups = append(x.groups, group{first: i, last: i})
		}
		g := &x.groups[at]
		g.strong = g.strong || r.Action != Action(policy.Allow)
		if g.last != i {
			x.next[g.last], g.last = i, i
		}
	}
	return x
}

func (x *settlers) at(host policy.Pattern) (by map[string]int, name string) {
	if exact, ok := host.Exact(); ok {
		return x.exact, exact.String()
	}
	return x.below, strings.TrimPrefix(host.String(), "*.")
}

// wider are the groups with rules that deny or ask and that match all that host matches.
func (x *settlers) wider(host policy.Pattern) []*group {
	return slices.DeleteFunc(x.holding(x.at(host)), func(g *group) bool { return !g.strong })
}

// holding are the groups that hold all of a name, which is one of by.
func (x *settlers) holding(by map[string]int, name string) (out []*group) {
	add := func(by map[string]int, name string) {
		if i, ok := by[name]; ok {
			out = append(out, &x.groups[i])
		}
	}
	add(by, name)
	for {
		_, parent, ok := strings.Cut(name, ".")
		if !ok {
			return out
		}
		add(x.below, parent)
		name = parent
	}
}

// matching are the rules for a host, in their order.
func (x *settlers) matching(h policy.Host) (rules []int) {
	for _, g := range x.holding(x.exact, h.String()) {
		for i := g.first; i >= 0; i = x.next[i] {
			rules = append(rules, i)
		}
	}
	slices.Sort(rules)
	return rules
}

// settle finds a rule that answers the requests of r, the first of several.
func (x *settlers) settle(i int, r Rule) (by int, ok bool) {
	groups := x.wider(r.Host)
	if len(groups) == 0 {
		return 0, false
	}
	by, level := -1, x.level(i)
	whole := x.each(r, func(c cell) bool {
		found, ok := x.covers(c, groups, level)
		if by < 0 {
			by = found
		}
		return ok
	})
	return by, whole && by >= 0
}

// covers finds the rule of groups that settles c, of that level or below it.
func (x *settlers) covers(c cell, groups []*group, level Level) (by int, ok bool) {
	for _, g := range groups {
		if g.cells == nil {
			x.open(g)
		}
		for _, p := range g.wider(c.paths) {
			for _, action := range []Action{Action(policy.Deny), Action(policy.Ask)} {
				if action == c.action || action == Action(policy.Ask) && level == Grants { // a grant answers what is asked
					break
				}
				for _, method := range []Method{"", c.method} {
					if by, ok = g.cells[cell{action, c.port, method, p}]; ok && x.level(by) <= level {
						return by, true
					}
				}
			}
		}
	}
	return -1, false
}

// open fills the cells of a group.
func (x *settlers) open(g *group) {
	g.cells, g.paths = map[cell]int{}, map[paths]bool{}
	for i := g.first; i >= 0; i = x.next[i] {
		if x.rules[i].Action == Action(policy.Allow) {
			continue
		}
		x.each(x.rules[i], func(c cell) bool {
			if old, ok := g.cells[c]; !ok || x.level(i) < x.level(old) {
				g.cells[c], g.paths[c.paths] = i, true
			}
			return true
		})
	}
}

// wider are patterns of the group that match all that p matches: every path, p itself, and everything below one of its
// beginnings. There are others, which nobody writes.
func (g *group) wider(p paths) (out []paths) {
	add := func(w paths) {
		if g.paths[w] {
			out = append(out, w)
		}
	}
	add(paths{})
	if p == (paths{}) {
		return out
	}
	add(p)
	for i := range len(p.text) {
		if p.text[i] == '/' {
			add(paths{p.text[:i], true})
		}
	}
	return out
}

// partOf reports a rule about a part of the requests that no cell is for.
func (r Rule) partOf() bool { return r.Scheme != "" || r.WebSocket != nil || r.Protocol != "" }

// each calls do until it says no, and reports whether it never did.
func (x *settlers) each(r Rule, do func(cell) bool) bool {
	methods := r.Methods
	if len(methods) == 0 {
		methods = []Method{""}
	}
	if r.partOf() {
		return false
	}
	cells := len(r.Ports) * len(methods) * max(1, len(r.Paths))
	x.steps += cells
	if cells > maxCells || x.steps > maxSteps || cells == 0 {
		return false
	}
	for _, port := range r.Ports {
		for _, method := range methods {
			if len(r.Paths) == 0 && !do(cell{r.Action, port, method, paths{}}) {
				return false
			}
			for _, path := range r.Paths {
				if !do(cell{r.Action, port, method, pathsOf(path.String())}) {
					return false
				}
			}
		}
	}
	return true
}

// findTwice finds rules that say the same as an earlier one.
func (x *settlers) findTwice() (found []settled) {
	var buf []byte
	for _, g := range x.groups {
		if g.first == g.last {
			continue
		}
		first := map[string]int{}
		for i := g.first; i >= 0; i = x.next[i] {
			buf = appendSaid(buf[:0], x.rules[i])
			j, ok := first[string(buf)]
			switch {
			case !ok:
				first[string(buf)] = i
			case x.rules[i].Set == "":
				found = append(found, settled{rule: i, by: j, twice: true})
			case x.rules[j].Set == "" && x.level(i) <= x.level(j):
				found = append(found, settled{rule: j, by: i, twice: true})
				first[string(buf)] = i
			}
		}
	}
	return found
}

// appendSaid appends what a rule says besides its host, the same for rules that say the same.
func appendSaid(b []byte, r Rule) []byte {
	b = append(b, r.Action...)
	b = strconv.AppendBool(b, r.Action == Action(policy.Allow) && !r.Inspect)
	for _, p := range sorted(r.Ports) {
		b = strconv.AppendInt(append(b, ' '), int64(p), 10)
	}
	for _, m := range sorted(r.Methods) {
		b = append(append(b, ' '), m...)
	}
	texts := make([]string, len(r.Paths))
	for i, p := range r.Paths {
		texts[i] = p.String()
	}
	for _, t := range sorted(texts) {
		b = append(append(b, ' '), t...)
	}
	return r.appendMore(b)
}

func (r Rule) appendMore(b []byte) []byte {
	b = fmt.Appendf(b, " %s %s %d %d", r.Scheme, r.Protocol, r.MaxRequest, r.MaxSent)
	if r.WebSocket != nil {
		b = strconv.AppendBool(b, *r.WebSocket)
	}
	for _, p := range r.Private {
		b = append(append(b, ' '), p.String()...)
	}
	return b
}

// sorted gives a list in order, each element once; it may be the list itself.
func sorted[T cmp.Ordered](list []T) []T {
	if len(list) < 2 {
		return list
	}
	return slices.Compact(slices.Sorted(slices.Values(list)))
}
