package policy

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Widening is one way in which a set allows more than another, with a request that shows it.
type Widening struct {
	Host     string // of the witness
	Hosts    string // whom it stands for: the pattern that names it, "*" for a host that no pattern names
	Port     string // of the witness
	Method   string // of the witness; "" with Uninspected, when the tunnel is what changed
	Path     string // of the witness, escaped; "" when Uninspected or Unsure, and where paths play no part
	Override string // what the witness carries beside: a header that asks for another method or path; mostly ""
	From, To Action // what was said of the witness, and what is now
	Rule     string // Origin of the rule that says so now, or "default"
	Was      string // Origin of the rule that was heard before, or "default" or "only"

	// Uninspected says that the host's connections are spliced and were not: no request in them is seen any more.
	Uninspected bool
	// Unsure says that there is no witness: the patterns of paths are too involved to be held against each other within
	// bounds, so to is taken to be wider there. From and To are then the bounds of what can be said.
	Unsure bool
}

// request is the witness.
func (w Widening) request() Request {
	port, _ := strconv.ParseUint(w.Port, 10, 16)
	r := Request{Host: Host{w.Host}, Port: uint16(port), Scheme: "https", Method: w.Method, Path: w.Path}
	switch w.Override {
	case overrideMethod:
		r.MethodBy = w.Override
	case overridePath:
		r.PathBy = w.Override
	}
	return r
}

// What witnesses carry as Override.
const (
	overrideMethod = "X-HTTP-Method-Override"
	overridePath   = "X-Original-URL"
)

// Wider gives what `to` allows or asks that `from` denied, allows that `from` asked, or no longer inspects: one entry,
// with a witness, for each pair of a rule of `to` that says so and a rule of `from` that said otherwise, the defaults
// among them, in the order of `to`'s rules. It misses nothing: an empty answer means that no request at all is
// answered more generously. It reports nothing that is not so, unless Unsure says so.
//
// Hosts, ports and methods fall into finitely many classes, those that some rule names and all others, of which one
// each is tried. Paths are followed through all patterns at once (see walk).
func Wider(from, to Set) []Widening {
	if sameSets(from, to) {
		return nil
	}
	c := compare(from, to)
	for _, at := range c.classes() {
		c.class(at)
	}
	slices.SortStableFunc(c.found, func(a, b found) int {
		return cmp.Or(cmp.Compare(uint(a.by), uint(b.by)), cmp.Compare(uint(a.was), uint(b.was))) // none comes last
	})
	var out []Widening
	for _, f := range c.found {
		out = append(out, f.Widening)
	}
	return out
}

func sameSets(a, b Set) bool {
	return a.Default.generosity() == b.Default.generosity() && slices.Equal(a.Only, b.Only) && slices.EqualFunc(a.Rules, b.Rules, sameRules)
}

// sameRules reports whether two rules say the same of every request.
func sameRules(a, b Rule) bool {
	return a.Action == b.Action && a.Host == b.Host && a.Inspect == b.Inspect &&
		slices.Equal(a.Ports, b.Ports) && slices.Equal(a.Methods, b.Methods) && slices.Equal(a.Paths, b.Paths)
}

// comparison is one run of Wider.
type comparison struct {
	from, to Set
	patterns []Pattern // in the order in which they were met
	named    map[Pattern]*naming
	found    []found
	seen     map[grounds]bool
}

// naming is what both sets say about one host pattern, as places in their rules.
type naming struct {
	from, to         []int
	onlyFrom, onlyTo bool
	same             bool
}

// grounds tell widenings apart: the rule that says so now, and that which said otherwise; none is the default.
type grounds struct {
	by, was int
	kind    kind
}

type kind uint8

const (
	ordinary kind = iota
	uninspected
	unsure
)

type found struct {
	grounds
	Widening
}

func compare(from, to Set) *comparison {
	c := &comparison{from: from, to: to, named: make(map[Pattern]*naming, len(to.Rules)), seen: map[grounds]bool{}}
	for i, r := range from.Rules {
		at := c.at(r.Host)
		at.from = append(at.from, i)
	}
	for i, r := range to.Rules {
		at := c.at(r.Host)
		at.to = append(at.to, i)
	}
	for _, p := range from.Only {
		c.at(p).onlyFrom = true
	}
	for _, p := range to.Only {
		c.at(p).onlyTo = true
	}
	for _, at := range c.named {
		at.same = slices.EqualFunc(at.from, at.to, func(i, j int) bool { return sameRules(from.Rules[i], to.Rules[j]) })
	}
	return c
}

func (c *comparison) at(p Pattern) *naming {
	at := c.named[p]
	if at == nil {
		at = &naming{}
		c.named[p] = at
		c.patterns = append(c.patterns, p)
	}
	return at
}

// class is one host that stands for all that the same patterns name.
type class struct {
	host  Host
	hosts string
}

// classes gives a host for each set of patterns that can name one: each name that is named itself, a fresh name below
// each wildcard, and a fresh name that nothing names.
func (c *comparison) classes() []class {
	out := make([]class, 0, len(c.patterns)+1)
	for _, p := range c.patterns {
		switch {
		case p.host.IsZero():
		case !p.wild:
			out = append(out, class{p.host, p.String()})
		default:
			if h, ok := c.fresh(p.host.name); ok {
				out = append(out, class{h, p.String()})
			}
		}
	}
	if h, ok := c.fresh("example"); ok {
		out = append(out, class{h, "*"})
	}
	return out
}

// fresh gives a name right below another that is not named itself, so that only the wildcards above it name it. There
// is none when all that are short enough are taken.
func (c *comparison) fresh(parent string) (Host, bool) {
	if h := (Host{"any." + parent}); len(h.name) <= maxHost && c.named[Pattern{host: h}] == nil {
		return h, true
	}
	for i := range len(c.patterns) + 1 {
		h := Host{strconv.FormatInt(int64(i), 36) + "." + parent}
		if len(h.name) <= maxHost && c.named[Pattern{host: h}] == nil {
			return h, true
		}
	}
	return Host{}, false
}

// side is what one set says about one host, and later about one port of it.
type side struct {
	Set        // with the rules for the place alone, and without Only
	at   []int // their places in the whole set
	only bool  // the host is not among those that the set is limited to
}

// class holds the sets against each other for one host.
func (c *comparison) class(at class) {
	from := side{Set: Set{Default: c.from.Default}, only: len(c.from.Only) > 0}
	to := side{Set: Set{Default: c.to.Default}, only: len(c.to.Only) > 0}
	same := c.from.Default.generosity() == c.to.Default.generosity()
	for p := (Pattern{host: at.host}); p.host.name != ""; p = p.wider() {
		n := c.named[p]
		if n == nil {
			continue
		}
		same = same && n.same
		from.only, to.only = from.only && !n.onlyFrom, to.only && !n.onlyTo
		from.at, to.at = append(from.at, n.from...), append(to.at, n.to...)
	}
	if isMetadata(at.host) || to.only || same && !from.only || len(to.at) == 0 && to.Default.generosity() == 0 {
		return
	}
	from.take(c.from.Rules)
	to.take(c.to.Rules)
	fromOn, toOn := from.byPort(), to.byPort()
	for _, port := range portsToTry(from, to) {
		c.port(at, port, from.on(fromOn[port]), to.on(toOn[port]))
	}
}

// wider is the wildcard that names what p names and the least beside.
func (p Pattern) wider() Pattern {
	_, parent, _ := strings.Cut(p.host.name, ".")
	return Pattern{host: Host{parent}, wild: true}
}

// take fetches the rules whose places are known. A set that denies the host altogether has none.
func (s *side) take(rules []Rule) {
	if s.only {
		s.Set, s.at = Set{Default: Deny}, nil
		return
	}
	slices.Sort(s.at)
	for _, i := range s.at {
		s.Rules = append(s.Rules, rules[i])
	}
}

// byPort gives the rules for each port, as places among the side's.
func (s *side) byPort() map[uint16][]int {
	out := make(map[uint16][]int, 1)
	for i, r := range s.Rules {
		for _, port := range r.Ports {
			if on := out[port]; len(on) == 0 || on[len(on)-1] != i { // a rule may name a port twice
				out[port] = append(on, i)
			}
		}
	}
	return out
}

// on keeps what a side says about one port, for which are the rules at these places.
func (s *side) on(rules []int) side {
	out := side{Set: Set{Default: s.Default}, only: s.only}
	for _, i := range rules {
		out.Rules, out.at = append(out.Rules, s.Rules[i]), append(out.at, s.at[i])
	}
	return out
}

// origin gives the place in the whole set of the rule that decided, and its name.
func (s *side) origin(d Decision) (place int, name string) {
	switch {
	case d.at != none:
		return s.at[d.at], d.Rule
	case s.only:
		return none, originOnly
	}
	return none, d.Rule
}

// portsToTry gives every port that a rule names, and one that none does.
func portsToTry(from, to side) []uint16 {
	var out []uint16
	for _, r := range slices.Concat(from.Rules, to.Rules) {
		out = append(out, r.Ports...)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	other := uint16(443)
	for _, named := slices.BinarySearch(out, other); named && other != 442; _, named = slices.BinarySearch(out, other) {
		other++
		if other == 0 {
			other++
		}
	}
	return append(out, other)
}

// pair is both sides for one port.
type pair struct {
	class
	port     uint16
	from, to side
}

// port holds the sets against each other for one port of a host.
func (c *comparison) port(at class, port uint16, from, to side) {
	p := pair{at, port, from, to}
	sameDefault := from.Default.generosity() == to.Default.generosity()
	if sameDefault && from.only == to.only && slices.EqualFunc(from.Rules, to.Rules, sameRules) {
		return
	}
	byMethod := func(r Rule) bool { return len(r.Methods) > 0 }
	byPath := func(r Rule) bool { return len(r.Paths) > 0 }
	methods := methodsToTry(from.Rules, to.Rules)
	for _, m := range methods {
		c.method(p, m, "")
		if slices.ContainsFunc(from.Rules, byPath) && !slices.ContainsFunc(to.Rules, byPath) {
			c.try(p, Request{Method: m, Path: unclearPath})
		}
	}
	for _, o := range []struct {
		override string
		limited  func(Rule) bool
	}{{overrideMethod, byMethod}, {overridePath, byPath}} {
		i := slices.IndexFunc(from.Rules, o.limited)
		if i < 0 || slices.ContainsFunc(to.Rules, o.limited) {
			continue
		}
		for _, m := range methods {
			c.method(p, m, o.override)
		}
	}
	c.inspection(p)
}

// unclearPath is a path that is not in normal form.
const unclearPath = "/a/../b"

// methodsToTry gives a method for each way in which rules can go by methods: of those that the same rules name, one is
// enough.
func methodsToTry(from, to []Rule) []string {
	rules := slices.Concat(from, to)
	var named []string
	for _, r := range rules {
		named = append(named, r.Methods...)
	}
	slices.Sort(named)
	named = slices.Compact(named)
	seen := map[string]bool{}
	return slices.DeleteFunc(append(named, otherMethod(named)), func(m string) bool {
		key := make([]byte, len(rules))
		for i, r := range rules {
			if takesMethod(r.Methods, m) {
				key[i] = 1
			}
		}
		had := seen[string(key)]
		seen[string(key)] = true
		return had || m == ""
	})
}

// otherMethod is a method that is not named.
func otherMethod(named []string) string {
	for _, m := range []string{"POST", "PUT", "PATCH", "DELETE", "GET", "HEAD", "OPTIONS"} {
		if !slices.Contains(named, m) {
			return m
		}
	}
	other := "X"
	for slices.Contains(named, other) {
		other += "X"
	}
	return other
}

// method holds the sets against each other for one method. With an override, the request carries that too.
func (c *comparison) method(p pair, method, override string) {
	takes := func(r Rule) bool { return takesMethod(r.Methods, method) }
	from, to := filter(p.from.Rules, takes), filter(p.to.Rules, takes)
	worst := worstOf(from, p.from.Default)
	if override != "" {
		from, worst = nil, 0
	}
	if bestOf(to, p.to.Default) <= worst {
		return
	}
	request := func(path string) Request {
		r := Request{Method: method, Path: path}
		switch override {
		case overrideMethod:
			r.MethodBy = override
		case overridePath:
			r.PathBy = override
		}
		return r
	}
	if !slices.ContainsFunc(slices.Concat(from, to), func(r Rule) bool { return len(r.Paths) > 0 }) {
		c.try(p, request("/"))
		return
	}
	before := Set{Default: p.from.Default, Rules: from}
	if override != "" {
		before = Set{Default: Deny}
	}
	after := Set{Default: p.to.Default, Rules: to}
	if path, ok := shortest(before, after); ok && c.try(p, request(path)) {
		return
	}
	if !newWalk(before, after).run(func(path string) bool { return c.try(p, request(path)) }) {
		c.unsure(p, method, override, worst)
	}
}

func filter(rules []Rule, keep func(Rule) bool) []Rule {
	var out []Rule
	for _, r := range rules {
		if keep(r) {
			out = append(out, r)
		}
	}
	return out
}

// bestOf is the most generous answer that rules for one method can give to any path.
func bestOf(rules []Rule, otherwise Action) int {
	best := otherwise.generosity()
	for _, r := range rules {
		best = max(best, r.Action.generosity())
	}
	for _, r := range rules {
		if len(r.Paths) == 0 && (r.Action == Deny || r.Action == Ask) {
			best = min(best, r.Action.generosity())
		}
	}
	return best
}

// worstOf is at most the least generous one.
func worstOf(rules []Rule, otherwise Action) int {
	worst := otherwise.generosity()
	for _, r := range rules {
		if r.Action == Allow && len(r.Paths) == 0 {
			worst = Allow.generosity()
		}
	}
	for _, r := range rules {
		worst = min(worst, r.Action.generosity())
	}
	return worst
}

// try asks both sides, and keeps the request when it is a witness.
func (c *comparison) try(p pair, r Request) bool {
	r.Host, r.Port, r.Scheme = p.host, p.port, "https"
	from, to := p.from.Decide(r), p.to.Decide(r)
	if to.Action.generosity() <= from.Action.generosity() {
		return false
	}
	w := c.widening(p, from, to)
	w.Method, w.Path, w.Override = r.Method, r.Path, cmp.Or(r.MethodBy, r.PathBy)
	by, _ := p.to.origin(to)
	was, _ := p.from.origin(from)
	if w.Override != "" && slices.ContainsFunc(c.found, func(f found) bool { return f.by == by && f.Host == w.Host && f.Port == w.Port }) {
		return true // what is wider without an override says it better
	}
	c.keep(grounds{by: by, was: was}, w)
	return true
}

func (c *comparison) widening(p pair, from, to Decision) Widening {
	w := Widening{Host: p.host.String(), Hosts: p.hosts, Port: strconv.Itoa(int(p.port)), From: from.Action, To: to.Action}
	_, w.Rule = p.to.origin(to)
	_, w.Was = p.from.origin(from)
	return w
}

func (c *comparison) keep(g grounds, w Widening) {
	if c.seen[g] {
		return
	}
	c.seen[g] = true
	c.found = append(c.found, found{g, w})
}

// unsure keeps that a method could not be compared.
func (c *comparison) unsure(p pair, method, override string, worst int) {
	by, name := none, originDefault
	for i, r := range p.to.Rules {
		if r.Action.generosity() > worst && takesMethod(r.Methods, method) {
			by, name = p.to.at[i], r.Origin
			break
		}
	}
	w := c.widening(p, Decision{Action: Deny, at: none, Rule: originDefault}, Decision{Action: Allow, at: none, Rule: name})
	w.Method, w.Override, w.Unsure = method, override, true
	c.keep(grounds{by: by, was: none, kind: unsure}, w)
}

// inspection sees whether connections are spliced that were not.
func (c *comparison) inspection(p pair) {
	r := Request{Host: p.host, Port: p.port, Scheme: "https"}
	from, to := p.from.Decide(r), p.to.Decide(r)
	if !spliced(to) || spliced(from) {
		return
	}
	by, _ := p.to.origin(to)
	was, _ := p.from.origin(from)
	w := c.widening(p, from, to)
	w.Uninspected = true
	for i, f := range c.found {
		if f.by == by && f.kind == ordinary && f.Host == w.Host && f.Port == w.Port {
			c.found[i].Uninspected = true
			return
		}
	}
	c.keep(grounds{by: by, was: was, kind: uninspected}, w)
}

func spliced(d Decision) bool { return d.Allowed() && !d.Inspect }
