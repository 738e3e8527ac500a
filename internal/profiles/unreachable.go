package profiles

import (
	"cmp"
	"fmt"
	"slices"
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
// to tighten; level tells the layer of a rule. Rules of named sets are never reported: nobody can change them.
func findSettled(rules []Rule, level func(int) Level) []settled {
	x := settlers{rules: rules, level: level, hosts: map[string]bool{}, cells: map[cell]int{}}
	for i, r := range rules {
		if policy.Action(r.Action) != policy.Allow {
			x.add(i, r)
		}
	}
	found := findTwice(rules, level)
	for i, r := range rules {
		if policy.Action(r.Action) == policy.Deny || r.Set != "" {
			continue
		}
		if by, ok := x.settle(i, r); ok {
			found = append(found, settled{rule: i, by: by})
		}
	}
	return found
}

// cell is one combination that a rule speaks of. No method, or no path, is all of them.
type cell struct {
	action Action
	host   string
	port   Port
	method Method
	path   string
}

type settlers struct {
	rules []Rule
	level func(int) Level
	hosts map[string]bool
	cells map[cell]int // the rule of the lowest level
	steps int
}

func (x *settlers) add(i int, r Rule) {
	host := r.Host.String()
	x.hosts[host] = true
	x.each(r, func(c cell) bool {
		c.host = host
		if old, ok := x.cells[c]; !ok || x.level(i) < x.level(old) {
			x.cells[c] = i
		}
		return true
	})
}

// settle finds a rule that answers the requests of r, the first of several.
func (x *settlers) settle(i int, r Rule) (by int, ok bool) {
	hosts := slices.DeleteFunc(wider(r.Host.String()), func(h string) bool { return !x.hosts[h] })
	if len(hosts) == 0 {
		return 0, false
	}
	by, level := -1, x.level(i)
	whole := x.each(r, func(c cell) bool {
		found, ok := x.covers(c, hosts, level)
		if by < 0 {
			by = found
		}
		return ok
	})
	return by, whole && by >= 0
}

// covers finds the rule that settles c on one of hosts, of that level or below it.
func (x *settlers) covers(c cell, hosts []string, level Level) (int, bool) {
	methods := []Method{"", c.method}
	paths := widerPaths(c.path)
	stronger := []Action{Action(policy.Deny)}
	if c.action == Action(policy.Allow) {
		stronger = append(stronger, Action(policy.Ask))
	}
	for _, c.action = range stronger {
		for _, c.host = range hosts {
			for _, c.method = range methods {
				for _, c.path = range paths {
					if by, ok := x.cells[c]; ok && x.level(by) <= level {
						return by, true
					}
				}
			}
		}
	}
	return -1, false
}

// each calls do until it says no, and reports whether it never did.
func (x *settlers) each(r Rule, do func(cell) bool) bool {
	methods, paths := r.Methods, r.Paths
	if len(methods) == 0 {
		methods = []Method{""}
	}
	cells := len(r.Ports) * len(methods) * max(1, len(paths))
	x.steps += cells
	if cells > maxCells || x.steps > maxSteps || cells == 0 || r.Host.String() == "" {
		return false
	}
	for _, port := range r.Ports {
		for _, method := range methods {
			if len(paths) == 0 && !do(cell{action: r.Action, port: port, method: method}) {
				return false
			}
			for _, path := range paths {
				if !do(cell{action: r.Action, port: port, method: method, path: path.String()}) {
					return false
				}
			}
		}
	}
	return true
}

// wider are the patterns of hosts that match all that this one matches, itself first.
func wider(host string) []string {
	out := []string{host}
	for rest := strings.TrimPrefix(host, "*."); ; {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			return out
		}
		out, rest = append(out, "*."+parent), parent
	}
}

// widerPaths are patterns of paths that match all that this one matches: every path, itself, and "/**" after each of
// its beginnings. There are others, which nobody writes.
func widerPaths(path string) []string {
	out := []string{"", "/**"}
	if path == "" {
		return out
	}
	out = append(out, path)
	for i, r := range path {
		if r == '/' && i > 0 {
			out = append(out, path[:i]+"/**")
		}
	}
	return out
}

// findTwice finds rules that say the same as an earlier one.
func findTwice(rules []Rule, level func(int) Level) (found []settled) {
	lone, first := make(map[policy.Pattern]int, len(rules)), map[string]int{}
	for i, r := range rules {
		if len(r.Ports) == 0 || r.Host.String() == "" {
			continue
		}
		j, ok := lone[r.Host]
		if !ok {
			lone[r.Host] = i
			continue
		}
		if j >= 0 {
			lone[r.Host], first[sameness(rules[j])] = -1, j
		}
		key := sameness(r)
		j, ok = first[key]
		switch {
		case !ok:
			first[key] = i
		case r.Set == "":
			found = append(found, settled{rule: i, by: j, twice: true})
		case rules[j].Set == "" && level(i) <= level(j):
			found = append(found, settled{rule: j, by: i, twice: true})
			first[key] = i
		}
	}
	return found
}

// sameness is the same for rules that say the same.
func sameness(r Rule) string {
	var paths []string
	for _, p := range r.Paths {
		paths = append(paths, p.String())
	}
	blind := policy.Action(r.Action) == policy.Allow && !r.Inspect
	return fmt.Sprintf("%s %s %t %d %q %q", r.Action, r.Host, blind, sorted(r.Ports), sorted(r.Methods), sorted(paths))
}

func sorted[T cmp.Ordered](list []T) []T {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}
