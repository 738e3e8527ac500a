package policy

import (
	"net/netip"
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
// takes part when its host matches, its ports hold the port, and its methods, paths, scheme and WebSocket, if it has
// any, name the request's. Anything unclear is denied; so is a path that is not in normal form, and a request that asks
// the server to take it for another, where a rule with paths, or methods, or a rule for git, names the host and port;
// and a body larger than what the rules for the host and port let through.
//
// Of a request that is not known yet it says whether one could be allowed, or else asked about: rules that deny or ask
// settle it only when they are about every request.
//
// Connections that are passed on as they are (Scheme TCP) need a rule with that protocol. Where rules for the place go
// by what is in requests, they are denied: nobody could hold those rules.
//
// Rules for git allow what they name, whatever other rules ask; and where there is one at all, nothing else lets a push
// through.
func (s Set) Decide(r Request) Decision {
	return s.conclude(r, s.find(r))
}

// findings is what the rules have to say about a request. Rules are given by their places in the set, none as none.
type findings struct {
	barred   cause  // what denies it before any rule; byText for nothing
	flaw     string // of the path
	byMethod int    // the first rule with methods, of whatever action, for the host and port
	byPath   int    // the first such rule with paths
	inspect  bool   // rules go by what only requests show
	deny     int
	ask      int
	mayAsk   int // a rule that asks about some requests, of those that are not known; or, of TCP, about all others
	allow    int
	held     int // of TCP: a rule that could not be held
	git      gitFindings

	maxRequest, maxSent least
}

const none = -1

func nothing() findings {
	return findings{byMethod: none, byPath: none, deny: none, ask: none, mayAsk: none, allow: none, held: none, git: noGit()}
}

// least is the smallest of some limits, and the first rule that says so.
type least struct {
	bytes int64 // 0: there is none
	rule  int
}

func (l *least) add(other least) {
	if other.bytes > 0 && (l.bytes == 0 || other.bytes < l.bytes || other.bytes == l.bytes && other.rule < l.rule) {
		*l = other
	}
}

// conclude weighs what was found.
func (s *Set) conclude(r Request, f findings) Decision {
	d := Decision{Action: Deny, set: s, at: none, request: r}
	switch {
	case f.barred == byOnly:
		d.cause, d.Rule = f.barred, originOnly
		return d
	case f.barred != byText:
		d.cause, d.Rule = f.barred, originBuiltIn
		return d
	case r.Scheme == TCP:
		d.concludeTCP(&f)
	case d.unclear(&f):
		return d
	case f.deny != none:
		d.rest(byRule, f.deny)
	case f.git.speaks(r, s):
		d.concludeGit(f.git)
	default:
		d.concludeRules(&f)
	}
	d.limit(&f)
	return d
}

// unclear denies what a server may take for something else than what is judged, where that matters.
func (d *Decision) unclear(f *findings) bool {
	r := d.request
	switch {
	case f.flaw != "" && f.byPath != none:
		d.text = f.flaw
		d.rest(byPathFlaw, f.byPath)
	case f.flaw != "" && f.git.host != none:
		d.text = f.flaw
		d.restGit(byPathFlaw, f.git.host)
	case r.MethodBy != "" && f.byMethod != none:
		d.rest(byMethodOverride, f.byMethod)
	case r.MethodBy != "" && f.git.host != none:
		d.restGit(byMethodOverride, f.git.host)
	case r.PathBy != "" && f.byPath != none:
		d.rest(byPathOverride, f.byPath)
	case r.PathBy != "" && f.git.host != none:
		d.restGit(byPathOverride, f.git.host)
	default:
		return false
	}
	return true
}

func (d *Decision) concludeTCP(f *findings) {
	switch {
	case f.deny != none:
		d.rest(byRule, f.deny)
	case f.held != none:
		d.rest(byUnseen, f.held)
	case f.git.host != none:
		d.restGit(byUnseen, f.git.host)
	case f.ask != none || f.mayAsk != none && f.allow != none:
		d.Action = Ask
		d.rest(byRule, first(f.ask, f.mayAsk))
	case f.allow != none:
		d.Action = Allow
		d.rest(byRule, f.allow)
	default:
		d.cause, d.Rule = byNoTCP, originDefault
	}
}

// concludeRules weighs what neither denials nor git have settled.
func (d *Decision) concludeRules(f *findings) {
	switch {
	case f.ask != none:
		d.Action = Ask
		d.rest(byRule, f.ask)
		if at := d.set.answer(d.request); at != none {
			d.Action, d.Inspect = Allow, true
			d.rest(byRule, at)
		}
	case f.allow != none:
		rule := &d.set.Rules[f.allow]
		d.Action, d.Inspect = Allow, rule.Inspect || f.inspect || f.git.host != none || !rule.kinds().has(kindsOf("https"))
		d.rest(byRule, f.allow)
	case f.mayAsk != none && d.set.Default != Allow:
		d.Action = Ask
		d.rest(byRule, f.mayAsk)
	default:
		d.cause, d.Rule = byDefault, originDefault
		if d.set.Default.generosity() > 0 {
			d.Action, d.Inspect = d.set.Default, d.set.Default == Allow
		}
	}
}

// answer gives the rule in which the person answered a request that rules ask about.
func (s *Set) answer(r Request) int {
	var buf [maxPath]byte
	q, _ := ask(r, buf[:0])
	at := none
	for i := range s.Rules {
		rule := &s.Rules[i]
		switch {
		case rule.By == "" || !rule.takesPlace(r) || !rule.speaksOf(q):
		case rule.By == ByOrganisation && rule.Action == Ask:
			return none
		case rule.By == ByPerson && rule.Action == Allow:
			at = first(at, i)
		}
	}
	return at
}

// speaksOf is speaks, for requests and for connections that are passed on as they are.
func (r *Rule) speaksOf(q question) bool {
	switch role := r.roleInTCP(); {
	case q.tcp:
		return role != tcpSilent
	case r.Protocol != "":
		return false
	}
	return r.speaks(q)
}

// limit says how much may be sent, and denies a request whose body is larger.
func (d *Decision) limit(f *findings) {
	if d.Action == Deny {
		return
	}
	d.MaxSent = f.maxSent.bytes
	if d.request.Scheme == TCP {
		return
	}
	d.MaxRequest = f.maxRequest.bytes
	if d.MaxRequest > 0 && d.request.Size > d.MaxRequest {
		d.Action, d.Inspect, d.MaxRequest, d.MaxSent = Deny, false, 0, 0
		d.rest(bySize, f.maxRequest.rule)
	}
}

// rest rests the decision on a rule.
func (d *Decision) rest(why cause, rule int) {
	d.cause, d.at, d.Rule, d.byGit = why, rule, d.set.Rules[rule].Origin, false
}

// find looks at every rule.
func (s *Set) find(r Request) findings {
	f := nothing()
	if f.barred = barred(r); f.barred == byText && !s.lists(r.Host) {
		f.barred = byOnly
	}
	if f.barred != byText {
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
	f.git.judge(s, s.gitRulesOf(r.Host), r)
	return f
}

// hear adds what the rule at i, which is for the host and port, has to say.
func (s *Set) hear(f *findings, i int, q question) {
	rule := &s.Rules[i]
	f.maxRequest.add(least{rule.limit(limitRequest), i})
	f.maxSent.add(least{rule.limit(limitSent), i})
	f.inspect = f.inspect || rule.forcesInspection()
	switch {
	case q.tcp:
		s.hearTCP(f, i)
		return
	case rule.Protocol != "":
		return
	}
	if f.byMethod == none && len(rule.Methods) > 0 {
		f.byMethod = i
	}
	if f.byPath == none && len(rule.Paths) > 0 {
		f.byPath = i
	}
	if rule.Action == Ask && f.mayAsk == none && q.partial && rule.kinds().meets(q.kinds) {
		f.mayAsk = i
	}
	switch {
	case !rule.speaks(q):
	case rule.Action == Deny && f.deny == none:
		f.deny = i
	case rule.Action == Ask && f.ask == none:
		f.ask = i
	case rule.Action == Allow && (f.allow == none || narrower(*rule, s.Rules[f.allow])):
		f.allow = i
	}
}

// hearTCP adds what it has to say about a connection that is passed on as it is.
func (s *Set) hearTCP(f *findings, i int) {
	switch rule := &s.Rules[i]; rule.roleInTCP() {
	case tcpDenies:
		f.deny = first(f.deny, i)
	case tcpHeld:
		f.held = first(f.held, i)
	case tcpAsks:
		f.ask = first(f.ask, i)
	case tcpMayAsk:
		f.mayAsk = first(f.mayAsk, i)
	case tcpAllows:
		if f.allow == none || narrower(*rule, s.Rules[f.allow]) {
			f.allow = i
		}
	}
}

// tcpRole is what a rule means for connections that are passed on as they are.
type tcpRole uint8

const (
	tcpSilent tcpRole = iota
	tcpDenies
	tcpHeld // it goes by what nobody would see
	tcpAsks
	tcpMayAsk // it asks about everything else, and so about what another rule allows
	tcpAllows
)

func (r *Rule) roleInTCP() tcpRole {
	own := r.Protocol != ""
	switch {
	case r.Action == Allow && own:
		return tcpAllows
	case r.Action == Ask && own:
		return tcpAsks
	case r.Action == Deny && (own || !r.limited()):
		return tcpDenies
	case r.Action == Ask && !r.limited():
		return tcpMayAsk
	case r.Action == Deny || r.Action == Ask:
		return tcpHeld
	}
	return tcpSilent
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

// question is the part of a request that rules for its place are held against.
type question struct {
	tcp     bool
	partial bool
	kinds   kinds
	method  string
	path    []byte // in units; nil when it has a flaw
}

// ask takes the question out of a request, and says what keeps the path from its normal form; buf has room for maxPath.
// The flaw is no part of the question, or buf could not stay on the stack.
func ask(r Request, buf []byte) (q question, flaw string) {
	q = question{tcp: r.Scheme == TCP, partial: r.partial(), kinds: r.kinds(), method: r.Method}
	if q.partial || q.tcp {
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

// limited reports whether the rule is about some requests only.
func (r *Rule) limited() bool { return r.byRequest() || r.kinds() != anyKind }

// byRequest reports whether it goes by methods or paths.
func (r *Rule) byRequest() bool { return len(r.Methods) > 0 || len(r.Paths) > 0 }

// forcesInspection reports whether no connection to the rule's place may be spliced, for the rule could not be held:
// what is spliced is TLS, whose requests nobody sees.
func (r *Rule) forcesInspection() bool {
	if r.Protocol != "" {
		return false
	}
	return r.byRequest() || r.WebSocket != "" || r.limit(limitRequest) > 0 ||
		r.Action != Allow && r.Scheme != "" && r.kinds().meets(kindsOf("https"))
}

// limit gives what the rule lets through at most; 0 for all.
func (r *Rule) limit(which string) int64 {
	switch {
	case r.Action == Deny:
		return 0
	case which == limitSent:
		return r.MaxSent
	case r.Protocol != "":
		return 0 // there are no requests to be seen
	}
	return r.MaxRequest
}

// speaks reports whether a rule for the right place has a say in q. Where it is not known what q is, a rule that allows
// needs one request that it names, and all others need to name them all.
func (r *Rule) speaks(q question) bool {
	switch allows := r.Action == Allow; {
	case q.partial && allows:
		return r.kinds().meets(q.kinds)
	case q.partial:
		return !r.byRequest() && r.kinds().has(q.kinds)
	case !r.kinds().take(q.kinds, !allows) || !takesMethod(r.Methods, q.method):
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

// Reachable reports whether a request to some port of h could be allowed or asked about, so that looking up its name
// makes sense.
func (s Set) Reachable(h Host) bool {
	if h.IsZero() || isMetadata(h) || !s.lists(h) {
		return false
	}
	if s.Default.generosity() > 0 {
		return true
	}
	return slices.ContainsFunc(s.reached(h), func(port uint16) bool {
		return s.Decide(Request{Host: h, Port: port}).Action != Deny || s.Decide(Request{Host: h, Port: port, Scheme: TCP}).Action != Deny
	})
}

// reached gives the ports of h that rules allow or ask about.
func (s Set) reached(h Host) []uint16 {
	ports := s.portsOf(h)
	for _, rule := range s.Rules {
		if rule.Action == Ask && rule.Host.Match(h) {
			ports = append(ports, rule.Ports...)
		}
	}
	if len(s.gitRulesOf(h)) > 0 {
		ports = append(ports, gitPort)
	}
	return ports
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

// Private gives the addresses that are not public and that h may lead to all the same; see Permits.
func (s Set) Private(h Host) []netip.Prefix {
	var out []netip.Prefix
	for _, rule := range s.Rules {
		if rule.Action == Allow && rule.Host.Match(h) {
			out = append(out, rule.Private...)
		}
	}
	return out
}
