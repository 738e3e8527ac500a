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

	Scheme    string // of the witness where it is not "https": "http" or TCP
	WebSocket bool   // the witness asks for a WebSocket

	// Of a witness that does something to a git repository.
	GitOp   GitOp
	Repo    string
	Ref     string // of a push; "" where the commands are not known yet
	RefKind RefKind

	// Limit is "max_request" or "max_sent" when that is what is wider, at the witness's host and port, and the bounds
	// are what they were and are; 0 is no limit. The witness of max_request has a body one byte larger than it may have been.
	Limit              string
	LimitFrom, LimitTo int64

	Private string // addresses to which the host may lead now, when that is what is wider: "10.0.0.0/8"

	// Uninspected says that the host's connections are spliced and were not: no request in them is seen any more.
	Uninspected bool
	// Unsure says that there is no witness: the patterns of paths are too involved to be held against each other within
	// bounds, so to is taken to be wider there. From and To are then the bounds of what can be said.
	Unsure bool
}

// request is the witness.
func (w Widening) request() Request {
	port, _ := strconv.ParseUint(w.Port, 10, 16)
	r := Request{Host: Host{w.Host}, Port: uint16(port), Scheme: cmp.Or(w.Scheme, "https"), WebSocket: w.WebSocket, Method: w.Method, Path: w.Path}
	switch w.Override {
	case overrideMethod:
		r.MethodBy = w.Override
	case overridePath:
		r.PathBy = w.Override
	}
	if w.Limit == limitRequest {
		r.Size = w.LimitFrom + 1
	}
	if w.GitOp != "" {
		r.Git = &GitRequest{Repo: w.Repo, Op: w.GitOp}
		if w.Ref != "" {
			r.Git.Refs = []RefUpdate{{w.Ref, w.RefKind}}
		}
	}
	return r
}

// Values of Widening.Limit.
const (
	limitRequest = "max_request"
	limitSent    = "max_sent"
)

// What witnesses carry as Override.
const (
	overrideMethod = "X-HTTP-Method-Override"
	overridePath   = "X-Original-URL"
)

// Wider gives what `to` allows or asks that `from` denied, allows that `from` asked, no longer inspects, lets more be
// sent of or lead to more addresses: one entry,
// with a witness, for each pair of a rule of `to` that says so and a rule of `from` that said otherwise, the defaults
// among them, in the order of `to`'s rules. It misses nothing: an empty answer means that no request at all is
// answered more generously. (A request whose scheme is not known, though everything else is, is none.) It reports
// nothing that is not so, unless Unsure says so.
//
// Hosts, ports, methods, schemes, and what is done to repositories fall into finitely many classes, those that some rule names and all others, of which one
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
	return a.Default.generosity() == b.Default.generosity() && slices.Equal(a.Only, b.Only) &&
		slices.EqualFunc(a.Rules, b.Rules, sameRules) && slices.EqualFunc(a.Git, b.Git, sameGitRules)
}

// sameRules reports whether two rules say the same of every request.
func sameRules(a, b Rule) bool {
	return a.Action == b.Action && a.Host == b.Host && a.Inspect == b.Inspect && a.By == b.By &&
		slices.Equal(a.Ports, b.Ports) && slices.Equal(a.Methods, b.Methods) && slices.Equal(a.Paths, b.Paths) &&
		a.Scheme == b.Scheme && a.WebSocket == b.WebSocket && a.Protocol == b.Protocol &&
		a.MaxRequest == b.MaxRequest && a.MaxSent == b.MaxSent && slices.Equal(a.Private, b.Private)
}

func sameGitRules(a, b GitRule) bool {
	return a.Host == b.Host && a.Repo == b.Repo && a.Fetch == b.Fetch && slices.Equal(a.Push, b.Push) && a.Force == b.Force && a.Delete == b.Delete
}

// comparison is one run of Wider.
type comparison struct {
	from, to Set
	patterns []Pattern // in the order in which they were met
	named    map[Pattern]*naming
	sameGit  bool
	found    []found
	seen     map[grounds]bool
}

// naming is what both sets say about one host pattern, as places in their rules.
type naming struct {
	from, to         []int
	onlyFrom, onlyTo bool
	git              bool // rules for git name the host
	same             bool
}

// grounds tell widenings apart: the rule that says so now, and that which said otherwise; none is the default.
type grounds struct {
	by, was int
	kind    kind
	what    string // what tells two of the same rules apart
}

type kind uint8

const (
	ordinary kind = iota
	uninspected
	limits
	private
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
	for _, g := range slices.Concat(from.Git, to.Git) {
		if !g.Host.IsZero() {
			c.at(Pattern{host: g.Host}).git = true
		}
	}
	c.sameGit = slices.EqualFunc(from.Git, to.Git, sameGitRules)
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
	Set         // with the rules for the place alone but all for git, and without Only
	at    []int // their places in the whole set
	rules int   // how many rules the whole set has
	only  bool  // the host is not among those that the set is limited to
}

// class holds the sets against each other for one host.
func (c *comparison) class(at class) {
	from, to := sideOf(c.from), sideOf(c.to)
	same := c.sameGit && c.from.Default.generosity() == c.to.Default.generosity()
	git := false
	for p := (Pattern{host: at.host}); p.host.name != ""; p = p.wider() {
		n := c.named[p]
		if n == nil {
			continue
		}
		same, git = same && n.same, git || n.git
		from.only, to.only = from.only && !n.onlyFrom, to.only && !n.onlyTo
		from.at, to.at = append(from.at, n.from...), append(to.at, n.to...)
	}
	if isMetadata(at.host) || to.only || same && !from.only || len(to.at) == 0 && !git && to.Default.generosity() == 0 {
		return
	}
	from.take(c.from.Rules)
	to.take(c.to.Rules)
	fromOn, toOn := from.byPort(), to.byPort()
	for _, port := range portsToTry(from, to, git) {
		c.port(at, port, from.on(fromOn[port]), to.on(toOn[port]))
	}
	c.private(at, from, to)
}

func sideOf(s Set) side {
	return side{Set: Set{Default: s.Default, Git: s.Git}, rules: len(s.Rules), only: len(s.Only) > 0}
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
	out := side{Set: Set{Default: s.Default, Git: s.Git}, rules: s.rules, only: s.only}
	for _, i := range rules {
		out.Rules, out.at = append(out.Rules, s.Rules[i]), append(out.at, s.at[i])
	}
	return out
}

// origin gives the place in the whole set of the rule that decided, and its name.
func (s *side) origin(d Decision) (place int, name string) {
	switch {
	case d.byGit:
		return s.rules + d.at, d.Rule
	case d.at != none:
		return s.at[d.at], d.Rule
	case s.only:
		return none, originOnly
	}
	return none, d.Rule
}

// portsToTry gives every port that a rule names, and one that none does.
func portsToTry(from, to side, git bool) []uint16 {
	var out []uint16
	if git {
		out = append(out, gitPort)
	}
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

// probe is a request, but for its place and path, that stands for all that the same rules take.
type probe struct {
	kind     kinds // one
	method   string
	override string // a header that asks for another method or path
	git      *GitRequest
	size     int64
}

func (pr probe) request(path string) Request {
	r := Request{Scheme: "https", Method: pr.method, Path: path, Git: pr.git, Size: pr.size}
	r.WebSocket = pr.kind.meets(socketHTTPS | socketHTTP)
	if pr.kind.meets(kindsOf("http")) {
		r.Scheme = "http"
	}
	switch pr.override {
	case overrideMethod:
		r.MethodBy = pr.override
	case overridePath:
		r.PathBy = pr.override
	}
	return r
}

// port holds the sets against each other for one port of a host.
func (c *comparison) port(at class, port uint16, from, to side) {
	p := pair{at, port, from, to}
	sameDefault := from.Default.generosity() == to.Default.generosity()
	if sameDefault && from.only == to.only && c.sameGit && slices.EqualFunc(from.Rules, to.Rules, sameRules) {
		return
	}
	probes := p.probes()
	for _, pr := range probes {
		c.probe(p, pr)
		if p.from.byPath(p) && !p.to.byPath(p) {
			c.try(p, pr, unclearPath)
		}
	}
	for _, o := range []struct {
		override string
		limited  func(*side, pair) bool
	}{{overrideMethod, (*side).byMethod}, {overridePath, (*side).byPath}} {
		if !o.limited(&p.from, p) || o.limited(&p.to, p) {
			continue
		}
		for _, pr := range probes {
			pr.override = o.override
			c.probe(p, pr)
		}
	}
	c.tcp(p)
	c.inspection(p)
	c.limits(p, probes)
}

func (s *side) byMethod(p pair) bool {
	return s.named(p) || slices.ContainsFunc(s.Rules, func(r Rule) bool { return r.Protocol == "" && len(r.Methods) > 0 })
}

func (s *side) byPath(p pair) bool {
	return s.named(p) || slices.ContainsFunc(s.Rules, func(r Rule) bool { return r.Protocol == "" && len(r.Paths) > 0 })
}

// named reports whether rules for git are about the place.
func (s *side) named(p pair) bool { return p.port == gitPort && len(s.gitRulesOf(p.host)) > 0 }

// probes gives a request for each way in which rules of both sides can be told apart, but for paths.
func (p pair) probes() []probe {
	var out []probe
	for _, git := range p.gitToTry() {
		for _, kind := range kindsToTry(p.from.Rules, p.to.Rules, git != nil) {
			for _, method := range methodsToTry(p.from.Rules, p.to.Rules) {
				out = append(out, probe{kind: kind, method: method, git: git})
			}
		}
	}
	return out
}

// kindsToTry gives a kind of request for each way in which rules can go by them.
func kindsToTry(from, to []Rule, git bool) []kinds {
	rules := slices.Concat(from, to)
	seen := map[string]bool{}
	return slices.DeleteFunc([]kinds{plainHTTPS, socketHTTPS, plainHTTP, socketHTTP}, func(k kinds) bool {
		key := make([]byte, len(rules), len(rules)+1)
		for i := range rules {
			if rules[i].kinds().meets(k) {
				key[i] = 1
			}
		}
		if git && k.meets(kindsOf("http")) {
			key = append(key, 1) // rules for git are about https
		}
		had := seen[string(key)]
		seen[string(key)] = true
		return had
	})
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

// probe holds the sets against each other for all requests that a probe stands for.
func (c *comparison) probe(p pair, pr probe) {
	before, after := p.from.heard(p, pr), p.to.heard(p, pr)
	worst := worstOf(before.Rules, before.Default)
	if pr.override != "" || pr.size > 0 {
		before, worst = Set{Default: Deny}, 0
	}
	if bestOf(after.Rules, after.Default) <= worst {
		return
	}
	if !slices.ContainsFunc(slices.Concat(before.Rules, after.Rules), func(r Rule) bool { return len(r.Paths) > 0 }) {
		c.try(p, pr, "/")
		return
	}
	if path, ok := shortest(before, after); ok && c.try(p, pr, path) {
		return
	}
	if !newWalk(before, after).run(func(path string) bool { return c.try(p, pr, path) }) {
		c.unsure(p, pr, worst)
	}
}

// heard is what a side says to a probe, by nothing but paths any more. Where rules for git settle it, of the others only
// denials are heard.
func (s *side) heard(p pair, pr probe) Set {
	r := pr.request("/")
	r.Host, r.Port = p.host, p.port
	git := noGit()
	git.judge(&s.Set, s.gitRulesOf(p.host), r)
	settled := git.speaks(r, &s.Set)
	out := Set{Default: s.Default, Rules: filter(s.Rules, func(rule Rule) bool {
		return rule.Protocol == "" && rule.kinds().meets(pr.kind) && takesMethod(rule.Methods, pr.method) && (!settled || rule.Action == Deny)
	})}
	switch {
	case git.allow != none:
		out.Rules = append(out.Rules, Rule{Action: Allow, Host: Pattern{host: p.host}, Inspect: true})
	case settled && s.Default != Ask:
		out.Default = Deny
	}
	return out
}

func filter[T any](rules []T, keep func(T) bool) []T {
	var out []T
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
	answers := slices.ContainsFunc(rules, func(r Rule) bool { return r.Action == Allow && r.By == ByPerson })
	for _, r := range rules {
		if len(r.Paths) == 0 && (r.Action == Deny || r.Action == Ask && !answers) {
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
func (c *comparison) try(p pair, pr probe, path string) bool {
	from, to, w, wider := c.ask(p, pr, path)
	if !wider {
		return false
	}
	by, _ := p.to.origin(to)
	was, _ := p.from.origin(from)
	if w.Override != "" && slices.ContainsFunc(c.found, func(f found) bool { return f.by == by && f.Host == w.Host && f.Port == w.Port }) {
		return true // what is wider without an override says it better
	}
	g := grounds{by: by, was: was}
	if w.GitOp != "" && pr.size == 0 {
		if c.seen[g] {
			return true // what is wider for every request says it better
		}
		g.what = string(w.GitOp)
	}
	if pr.size > 0 {
		if slices.ContainsFunc(c.found, func(f found) bool { return f.Limit == limitRequest && f.Host == w.Host && f.Port == w.Port }) {
			return true // the limit is for the place
		}
		g.kind = limits
		w.Limit, w.LimitFrom, w.LimitTo = limitRequest, p.from.least(limitRequest), p.to.least(limitRequest)
	}
	c.keep(g, w)
	return true
}

// ask asks both sides, and reports whether the second is more generous.
func (c *comparison) ask(p pair, pr probe, path string) (from, to Decision, w Widening, wider bool) {
	r := pr.request(path)
	r.Host, r.Port = p.host, p.port
	from, to = p.from.Decide(r), p.to.Decide(r)
	w = c.widening(p, from, to)
	w.Method, w.Path, w.Override = r.Method, r.Path, cmp.Or(r.MethodBy, r.PathBy)
	w.show(r)
	return from, to, w, to.Action.generosity() > from.Action.generosity()
}

// show fills in what most requests have nothing of.
func (w *Widening) show(r Request) {
	if r.Scheme != "https" {
		w.Scheme = r.Scheme
	}
	w.WebSocket = r.WebSocket
	if r.Git != nil {
		w.GitOp, w.Repo = r.Git.Op, r.Git.Repo
		if len(r.Git.Refs) > 0 {
			w.Ref, w.RefKind = r.Git.Refs[0].Name, r.Git.Refs[0].Kind
		}
	}
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

// unsure keeps that a probe could not be compared.
func (c *comparison) unsure(p pair, pr probe, worst int) {
	by, name := none, originDefault
	for i, r := range p.to.Rules {
		if r.Action.generosity() > worst && takesMethod(r.Methods, pr.method) && r.kinds().meets(pr.kind) {
			by, name = p.to.at[i], r.Origin
			break
		}
	}
	w := c.widening(p, Decision{Action: Deny, at: none, Rule: originDefault}, Decision{Action: Allow, at: none, Rule: name})
	w.Method, w.Override, w.Unsure = pr.method, pr.override, true
	w.show(pr.request("/"))
	c.keep(grounds{by: by, was: none, kind: unsure}, w)
}

// tcp sees whether connections are passed on as they are that were not.
func (c *comparison) tcp(p pair) {
	r := Request{Host: p.host, Port: p.port, Scheme: TCP}
	from, to := p.from.Decide(r), p.to.Decide(r)
	if to.Action.generosity() <= from.Action.generosity() {
		return
	}
	by, _ := p.to.origin(to)
	was, _ := p.from.origin(from)
	w := c.widening(p, from, to)
	w.Scheme = TCP
	c.keep(grounds{by: by, was: was, what: TCP}, w)
}

// inspection sees whether connections are spliced that were not, whether or not it is known that they are TLS.
func (c *comparison) inspection(p pair) {
	for _, scheme := range []string{"https", ""} {
		r := Request{Host: p.host, Port: p.port, Scheme: scheme}
		from, to := p.from.Decide(r), p.to.Decide(r)
		if spliced(to) && !spliced(from) {
			c.uninspected(p, from, to)
			return
		}
	}
}

func (c *comparison) uninspected(p pair, from, to Decision) {
	by, _ := p.to.origin(to)
	was, _ := p.from.origin(from)
	w := c.widening(p, from, to)
	w.Uninspected = true
	for i, f := range c.found {
		if f.by == by && f.kind == ordinary && f.Host == w.Host && f.Port == w.Port && f.Scheme != TCP {
			c.found[i].Uninspected = true
			return
		}
	}
	c.keep(grounds{by: by, was: was, kind: uninspected}, w)
}

func spliced(d Decision) bool { return d.Allowed() && !d.Inspect && d.request.Scheme != TCP }
