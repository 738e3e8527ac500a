package policy

import (
	"slices"
	"strings"
)

// Names under which clouds serve a machine's own credentials. No rule can allow them.
var metadataNames = []string{
	"instance-data.ec2.internal",
	"metadata.azure.internal",
	"metadata.goog",
	"metadata.google.internal",
	"metadata.packet.net",
	"metadata.platformequinix.com",
	"metadata.tencentyun.com",
}

// Decide answers a request: built-in denials, then Only, then rules that deny, ask, allow, then the default. A rule
// takes part when its host matches, its ports hold the port, and its methods and paths, if it has any, name the
// request's. Anything unclear is denied; so is a path that is not in normal form, and a request that asks the server
// to take it for another, where a rule with paths, or methods, names the host and port.
//
// Of a request that is not known yet it says whether one could be allowed: rules that deny or ask settle it only when
// they have neither methods nor paths.
func (s Set) Decide(r Request) Decision {
	return s.conclude(r, s.find(r))
}

// findings is what the rules have to say about a request. Rules are given by their places in the set, none as none.
type findings struct {
	barred   cause  // what denies it before any rule; byText for nothing
	flaw     string // of the path
	byMethod int    // the first rule with methods, of whatever action, for the host and port
	byPath   int    // the first such rule with paths
	deny     int
	ask      int
	allow    int
}

const none = -1

func nothing() findings {
	return findings{byMethod: none, byPath: none, deny: none, ask: none, allow: none}
}

// conclude weighs what was found.
func (s *Set) conclude(r Request, f findings) Decision {
	d := Decision{Action: Deny, set: s, at: none, request: r}
	switch {
	case f.barred == byOnly:
		d.cause, d.Rule = f.barred, originOnly
	case f.barred != byText:
		d.cause, d.Rule = f.barred, originBuiltIn
	case f.flaw != "" && f.byPath != none:
		d.text = f.flaw
		d.rest(byPathFlaw, f.byPath)
	case r.MethodBy != "" && f.byMethod != none:
		d.rest(byMethodOverride, f.byMethod)
	case r.PathBy != "" && f.byPath != none:
		d.rest(byPathOverride, f.byPath)
	case f.deny != none:
		d.rest(byRule, f.deny)
	case f.ask != none:
		d.Action = Ask
		d.rest(byRule, f.ask)
	case f.allow != none:
		d.Action, d.Inspect = Allow, s.Rules[f.allow].Inspect || f.byMethod != none || f.byPath != none
		d.rest(byRule, f.allow)
	default:
		d.cause, d.Rule = byDefault, originDefault
		if s.Default.generosity() > 0 {
			d.Action, d.Inspect = s.Default, s.Default == Allow
		}
	}
	return d
}

// rest rests the decision on a rule.
func (d *Decision) rest(why cause, rule int) {
	d.cause, d.at, d.Rule = why, rule, d.set.Rules[rule].Origin
}

// find looks at every rule.
func (s *Set) find(r Request) findings {
	f := nothing()
	if f.barred = barred(r); f.barred == byText && !s.lists(r.Host) {
		f.barred = byOnly
	}
	if f.barred != byText || len(s.Rules) == 0 {
		return f
	}
	var buf [maxPath]byte
	q, flaw := ask(r, buf[:0])
	f.flaw = flaw
	for i, rule := range s.Rules {
		if rule.takesPlace(r) {
			s.hear(&f, i, q)
		}
	}
	return f
}

// hear adds what the rule at i, which is for the host and port, has to say.
func (s *Set) hear(f *findings, i int, q question) {
	rule := s.Rules[i]
	if f.byMethod == none && len(rule.Methods) > 0 {
		f.byMethod = i
	}
	if f.byPath == none && len(rule.Paths) > 0 {
		f.byPath = i
	}
	switch {
	case !rule.speaks(q):
	case rule.Action == Deny && f.deny == none:
		f.deny = i
	case rule.Action == Ask && f.ask == none:
		f.ask = i
	case rule.Action == Allow && (f.allow == none || narrower(rule, s.Rules[f.allow])):
		f.allow = i
	}
}

// barred is what denies a request before any rule is looked at, but for Only.
func barred(r Request) cause {
	switch {
	case r.Host.IsZero() || r.Port == 0:
		return byNoPlace
	case r.Method == "" && r.Path != "":
		return byNoMethod
	case isMetadata(r.Host):
		return byMetadata
	}
	return byText
}

// question is the part of a request that methods and paths are held against.
type question struct {
	partial bool
	method  string
	path    []byte // in units; nil when it has a flaw
}

// ask takes the question out of a request, and says what keeps the path from its normal form; buf has room for maxPath.
// The flaw is no part of the question, or buf could not stay on the stack.
func ask(r Request, buf []byte) (q question, flaw string) {
	q = question{partial: r.partial(), method: r.Method}
	if q.partial {
		return q, ""
	}
	path := r.Path
	if path == "" {
		path = "/"
	}
	q.path, flaw = normalPath(buf, path)
	if flaw != "" {
		q.path = nil
	}
	return q, flaw
}

func isMetadata(h Host) bool {
	return slices.ContainsFunc(metadataNames, func(name string) bool {
		above, ok := strings.CutSuffix(h.name, name)
		return ok && (above == "" || above[len(above)-1] == '.')
	})
}

// lists reports whether Only lets h through.
func (s *Set) lists(h Host) bool {
	return len(s.Only) == 0 || slices.ContainsFunc(s.Only, func(p Pattern) bool { return p.Match(h) })
}

func (r Rule) takesPlace(req Request) bool {
	return r.Host.Match(req.Host) && slices.Contains(r.Ports, req.Port)
}

// limited reports whether the rule goes by methods or paths.
func (r Rule) limited() bool { return len(r.Methods) > 0 || len(r.Paths) > 0 }

// speaks reports whether a rule for the right place has a say in q.
func (r Rule) speaks(q question) bool {
	if q.partial {
		return r.Action == Allow || !r.limited()
	}
	if !takesMethod(r.Methods, q.method) {
		return false
	}
	return len(r.Paths) == 0 || q.path != nil && slices.ContainsFunc(r.Paths, func(p PathPattern) bool {
		return matchUnits(p.units, q.path, r.Action != Allow)
	})
}

func takesMethod(methods []string, method string) bool {
	return len(methods) == 0 || slices.Contains(methods, method)
}

// narrower says that of two rules that allow, a is heard: the one that speaks of the fewer hosts, so that
// inspect = false can be said of one host below a wildcard; of two equals, the one that inspects.
func narrower(a, b Rule) bool {
	if a.Host.wild != b.Host.wild {
		return !a.Host.wild
	}
	if len(a.Host.host.name) != len(b.Host.host.name) {
		return len(a.Host.host.name) > len(b.Host.host.name)
	}
	return a.Inspect && !b.Inspect
}

// Reachable reports whether a request to some port of h could be allowed, so that looking up its name makes sense.
func (s Set) Reachable(h Host) bool {
	if h.IsZero() || isMetadata(h) || !s.lists(h) {
		return false
	}
	if s.Default == Allow {
		return true
	}
	return slices.ContainsFunc(s.portsOf(h), func(port uint16) bool {
		return s.Decide(Request{Host: h, Port: port}).Allowed()
	})
}

func (s Set) portsOf(h Host) []uint16 {
	var ports []uint16
	for _, rule := range s.Rules {
		if rule.Action == Allow && rule.Host.Match(h) {
			ports = append(ports, rule.Ports...)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}
