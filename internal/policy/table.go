package policy

import (
	"bytes"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// Table gives a Set's answers without looking at every rule: host names lead through a tree of labels to the rules of
// each pattern that names them, those are apart by port and action, and paths lead through a tree of segments. It is
// safe for concurrent use. A Table holds the Set that it was made of, which must not change any more.
type Table struct {
	set  Set
	root label
	git  map[Host][]int // places in Set.Git
}

// label is a node of the tree of host names, whose root is above the top-level domains.
type label struct {
	below    map[string]*label
	exact    ports // rules for the name itself
	wild     ports // rules for every name below it
	only     bool  // Only holds the name itself
	onlyWild bool  // Only holds every name below it
	metadata bool  // the name, and every name below it, is a metadata name

	private, wildPrivate []netip.Prefix
}

// ports holds the rules of one host pattern by port, in ascending order.
type ports struct {
	numbers []uint16
	rules   []*spot
}

// spot holds the rules for one host pattern and port.
type spot struct {
	byMethod, byPath    int
	inspect             bool
	maxRequest, maxSent least
	deny, ask, allow    verdicts
	tcp                 tcpVerdicts
}

// tcpVerdicts are for connections that are passed on as they are.
type tcpVerdicts struct {
	deny, held, ask, mayAsk int
	allow                   rank
}

// verdicts holds the rules of one action. Of those that speak, the one of the lowest rank is heard.
type verdicts struct {
	wide      bool     // how patterns are read
	may       [3]rank  // by what is known of the scheme: of those that are about some such request
	settles   [3]rank  // in the same way: of those that are about all
	unlimited rank     // of those that are about every request
	anyPath   []hit    // the others without paths
	patterns  []tail   // every pattern of those with paths
	root      *segment // all of them, once there are many
}

// crowd is the number of patterns from which a tree is quicker than going through them.
const crowd = 4

// rank orders the rules of a spot: by place in the set, but those that allow and inspect before those that do not.
type rank int64

const (
	noRank    rank = math.MaxInt64
	unspected rank = 1 << 32
)

func rankOf(r Rule, at int) rank {
	if r.Action == Allow && !r.Inspect {
		return rank(at) + unspected
	}
	return rank(at)
}

// rule is the rule's place in the set.
func (r rank) rule() int {
	if r == noRank {
		return none
	}
	return int(r % unspected)
}

// segment is a node of a tree of path patterns: what it took to come here are whole segments, each plain or "*".
type segment struct {
	plain map[string]*segment
	star  *segment
	ends  []hit  // patterns that end here
	tails []tail // patterns that go on in another way
}

// hit is a rule, but for its paths.
type hit struct {
	rank    rank
	kinds   kinds
	methods []string
}

// takes reports whether the rule is about a request, but for its path.
func (h *hit) takes(q *question, wide bool) bool {
	return h.kinds.take(q.kinds, wide) && takesMethod(h.methods, q.method)
}

// variants are what can be known of requests whose scheme may be known and that are not known otherwise.
var variants = [3]kinds{anyKind, plainHTTPS | socketHTTPS, plainHTTP | socketHTTP}

// variant is the place among them.
func (q *question) variant() int {
	for i := range variants {
		if variants[i] == q.kinds {
			return i
		}
	}
	return 0
}

// tail is the rest of a pattern, in units.
type tail struct {
	hit
	units string
}

// Compile gives the table of s. It shares s's rules, which must not change any more.
func (s Set) Compile() *Table {
	t := &Table{set: s, git: map[Host][]int{}}
	for i := range s.Git {
		t.git[s.Git[i].Host] = append(t.git[s.Git[i].Host], i)
	}
	for _, p := range s.Only {
		if at := t.root.at(p.host); p.wild {
			at.onlyWild = true
		} else {
			at.only = true
		}
	}
	for _, name := range metadataNames {
		t.root.at(Host{name}).metadata = true
	}
	for i, rule := range s.Rules {
		if rule.Host.host.IsZero() {
			continue
		}
		at := t.root.at(rule.Host.host)
		places, private := &at.exact, &at.private
		if rule.Host.wild {
			places, private = &at.wild, &at.wildPrivate
		}
		if rule.Action == Allow {
			*private = append(*private, rule.Private...)
		}
		for j, port := range rule.Ports {
			if !slices.Contains(rule.Ports[:j], port) {
				places.make(port).add(rule, i)
			}
		}
	}
	return t
}

// at gives the node of a name, which it makes where it is missing.
func (l *label) at(h Host) *label {
	for name := h.name; name != ""; {
		dot := strings.LastIndexByte(name, '.')
		child := l.below[name[dot+1:]]
		if child == nil {
			if l.below == nil {
				l.below = map[string]*label{}
			}
			child = &label{}
			l.below[name[dot+1:]] = child
		}
		l, name = child, name[:max(dot, 0)]
	}
	return l
}

func (p *ports) at(port uint16) *spot {
	if i, ok := slices.BinarySearch(p.numbers, port); ok {
		return p.rules[i]
	}
	return nil
}

func (p *ports) make(port uint16) *spot {
	i, ok := slices.BinarySearch(p.numbers, port)
	if !ok {
		p.numbers = slices.Insert(p.numbers, i, port)
		p.rules = slices.Insert(p.rules, i, newSpot())
	}
	return p.rules[i]
}

func newSpot() *spot {
	empty := verdicts{may: [3]rank{noRank, noRank, noRank}, settles: [3]rank{noRank, noRank, noRank}, unlimited: noRank}
	s := &spot{byMethod: none, byPath: none, deny: empty, ask: empty, allow: empty}
	s.deny.wide, s.ask.wide = true, true
	s.tcp = tcpVerdicts{none, none, none, none, noRank}
	return s
}

// add adds the rule at i of the set; rules come in their order.
func (s *spot) add(rule Rule, i int) {
	s.maxRequest.add(least{rule.limit(limitRequest), i})
	s.maxSent.add(least{rule.limit(limitSent), i})
	s.inspect = s.inspect || rule.forcesInspection()
	s.tcp.add(rule, i)
	if rule.Protocol != "" {
		return
	}
	if s.byMethod == none && len(rule.Methods) > 0 {
		s.byMethod = i
	}
	if s.byPath == none && len(rule.Paths) > 0 {
		s.byPath = i
	}
	switch rule.Action {
	case Deny:
		s.deny.add(rule, i)
	case Ask:
		s.ask.add(rule, i)
	case Allow:
		s.allow.add(rule, i)
	}
}

func (v *tcpVerdicts) add(rule Rule, i int) {
	switch rule.roleInTCP() {
	case tcpDenies:
		v.deny = first(v.deny, i)
	case tcpHeld:
		v.held = first(v.held, i)
	case tcpAsks:
		v.ask = first(v.ask, i)
	case tcpMayAsk:
		v.mayAsk = first(v.mayAsk, i)
	case tcpAllows:
		v.allow = min(v.allow, rankOf(rule, i))
	}
}

func (v *verdicts) add(rule Rule, i int) {
	h := hit{rank: rankOf(rule, i), kinds: rule.kinds(), methods: rule.Methods}
	for variant, all := range variants {
		if h.kinds.meets(all) {
			v.may[variant] = min(v.may[variant], h.rank)
		}
		if h.kinds.has(all) && !rule.byRequest() {
			v.settles[variant] = min(v.settles[variant], h.rank)
		}
	}
	switch {
	case !rule.limited():
		v.unlimited = min(v.unlimited, h.rank)
	case len(rule.Paths) == 0:
		v.anyPath = append(v.anyPath, h)
	}
	for _, p := range rule.Paths {
		if p.units == "" {
			continue
		}
		v.patterns = append(v.patterns, tail{h, p.units})
		switch {
		case len(v.patterns) > crowd:
			v.root.add(p.units[1:], h, v.wide)
		case len(v.patterns) == crowd:
			v.root = &segment{}
			for _, t := range v.patterns {
				v.root.add(t.units[1:], t.hit, v.wide)
			}
		}
	}
}

// add adds what is left of a pattern at the beginning of a segment.
func (s *segment) add(units string, h hit, wide bool) {
	for {
		end := endOf(units, wide)
		child := s.child(units[:end])
		switch {
		case child == nil:
			s.tails = append(s.tails, tail{h, units})
			return
		case end == len(units):
			child.ends = append(child.ends, h)
			return
		}
		s, units = child, units[end+1:]
	}
}

// endOf gives where the segment at the beginning of units ends.
func endOf[T string | []byte](units T, wide bool) int {
	for i := range len(units) {
		if units[i] == '/' || wide && isSeparator(units[i]) {
			return i
		}
	}
	return len(units)
}

// child gives the node for a pattern's segment, nil when it is neither plain nor "*".
func (s *segment) child(units string) *segment {
	if units == string(rune(unitStar)) {
		if s.star == nil {
			s.star = &segment{}
		}
		return s.star
	}
	if strings.IndexByte(units, unitStar) >= 0 || strings.IndexByte(units, unitStars) >= 0 {
		return nil
	}
	if s.plain[units] == nil {
		if s.plain == nil {
			s.plain = map[string]*segment{}
		}
		s.plain[units] = &segment{}
	}
	return s.plain[units]
}

// Decide gives the answer of Set.Decide, and allocates nothing.
func (t *Table) Decide(r Request) Decision {
	return t.set.conclude(r, t.find(r))
}

func (t *Table) find(r Request) findings {
	f := nothing()
	if r.Host.IsZero() || r.Port == 0 || r.Method == "" && r.Path != "" {
		f.barred = barred(r)
		return f
	}
	var buf [maxPath]byte
	q, flaw := ask(r, buf[:0])
	f.flaw = flaw
	listed := len(t.set.Only) == 0
	at, name := &t.root, r.Host.name
	for name != "" {
		dot := strings.LastIndexByte(name, '.')
		if at = at.below[name[dot+1:]]; at == nil {
			break
		}
		if at.metadata {
			f.barred = byMetadata
			return f
		}
		name = name[:max(dot, 0)]
		places := &at.wild
		if name == "" {
			places = &at.exact
		}
		listed = listed || name == "" && at.only || name != "" && at.onlyWild
		if s := places.at(r.Port); s != nil {
			s.hear(&f, &q)
		}
	}
	if !listed {
		f.barred = byOnly
		return f
	}
	if len(t.git) > 0 {
		f.git.judge(&t.set, t.git[r.Host], r)
	}
	return f
}

// hear adds what the rules of a spot have to say. Spots come from the widest host pattern to the narrowest.
func (s *spot) hear(f *findings, q *question) {
	f.maxRequest.add(s.maxRequest)
	f.maxSent.add(s.maxSent)
	f.inspect = f.inspect || s.inspect
	if q.tcp {
		s.tcp.hear(f)
		return
	}
	f.byMethod = first(f.byMethod, s.byMethod)
	f.byPath = first(f.byPath, s.byPath)
	if q.partial {
		v := q.variant()
		f.deny = first(f.deny, s.deny.settles[v].rule())
		f.ask = first(f.ask, s.ask.settles[v].rule())
		f.mayAsk = first(f.mayAsk, s.ask.may[v].rule())
		f.allow = last(f.allow, s.allow.may[v].rule())
		return
	}
	f.deny = first(f.deny, s.deny.heard(q))
	f.ask = first(f.ask, s.ask.heard(q))
	f.allow = last(f.allow, s.allow.heard(q))
}

func (v *tcpVerdicts) hear(f *findings) {
	f.deny, f.held = first(f.deny, v.deny), first(f.held, v.held)
	f.ask, f.mayAsk = first(f.ask, v.ask), first(f.mayAsk, v.mayAsk)
	f.allow = last(f.allow, v.allow.rule())
}

// first is the lower of two places, where none is no place.
func first(a, b int) int {
	if a == none || b != none && b < a {
		return b
	}
	return a
}

// last is b, unless it is no place.
func last(a, b int) int {
	if b == none {
		return a
	}
	return b
}

// heard gives the rule that is heard about q.
func (v *verdicts) heard(q *question) int {
	if v.unlimited == noRank && len(v.anyPath) == 0 && len(v.patterns) == 0 {
		return none
	}
	l := listening{question: q, wide: v.wide, best: v.unlimited}
	l.hear(v.anyPath)
	switch {
	case q.path == nil:
	case v.root == nil || v.wide && hasEscapedSlash(q.path): // a segment has several ends then: no tree can be followed
		l.hearTails(v.patterns, q.path)
	default:
		l.follow(v.root, q.path[1:])
	}
	return l.best.rule()
}

// listening is the search for the rule of the lowest rank that speaks of a question.
type listening struct {
	*question
	wide bool
	best rank
}

func (l *listening) hear(hits []hit) {
	for i := range hits {
		if h := &hits[i]; h.rank < l.best && h.takes(l.question, l.wide) {
			l.best = h.rank
		}
	}
}

func (l *listening) hearTails(tails []tail, path []byte) {
	for i := range tails {
		if t := &tails[i]; t.rank < l.best && t.takes(l.question, l.wide) && matchUnits(t.units, path, l.wide) {
			l.best = t.rank
		}
	}
}

// follow goes on from a node with the rest of a path, which begins with a segment.
func (l *listening) follow(s *segment, path []byte) {
	l.hearTails(s.tails, path)
	end := endOf(path, false)
	if child := s.plain[string(path[:end])]; child != nil {
		l.enter(child, path, end)
	}
	if s.star != nil && !hasEscapedSlash(path[:end]) {
		l.enter(s.star, path, end)
	}
}

func (l *listening) enter(s *segment, path []byte, end int) {
	if end == len(path) {
		l.hear(s.ends)
		return
	}
	l.follow(s, path[end+1:])
}

func hasEscapedSlash(path []byte) bool {
	return bytes.IndexByte(path, unitSlash) >= 0 || bytes.IndexByte(path, unitBack) >= 0
}

// Reachable gives the answer of Set.Reachable.
func (t *Table) Reachable(h Host) bool {
	if h.IsZero() {
		return false
	}
	if t.set.Default.generosity() > 0 {
		return t.find(Request{Host: h, Port: 1}).barred == byText
	}
	if len(t.git) > 0 && len(t.git[h]) > 0 && t.Decide(Request{Host: h, Port: gitPort}).Action != Deny {
		return true
	}
	reachable := false
	t.each(h, func(at *label, name string) bool {
		places := &at.wild
		if name == "" {
			places = &at.exact
		}
		for i, port := range places.numbers {
			if reachable = places.rules[i].generous() && t.opens(h, port); reachable {
				return false
			}
		}
		return true
	})
	return reachable
}

// opens reports whether anything at a place could be allowed or asked about.
func (t *Table) opens(h Host, port uint16) bool {
	return t.Decide(Request{Host: h, Port: port}).Action != Deny || t.Decide(Request{Host: h, Port: port, Scheme: TCP}).Action != Deny
}

// generous reports whether a rule allows or asks about anything.
func (s *spot) generous() bool {
	return s.allow.may[0] != noRank || s.ask.may[0] != noRank || s.tcp.allow != noRank || s.tcp.ask != none
}

// each calls visit with the nodes on the way to h and what is left of the name, as long as visit wants more.
func (t *Table) each(h Host, visit func(at *label, rest string) bool) {
	at, name := &t.root, h.name
	for name != "" {
		dot := strings.LastIndexByte(name, '.')
		if at = at.below[name[dot+1:]]; at == nil {
			return
		}
		name = name[:max(dot, 0)]
		if !visit(at, name) {
			return
		}
	}
}

// Private gives the answer of Set.Private, in another order.
func (t *Table) Private(h Host) []netip.Prefix {
	var out []netip.Prefix
	t.each(h, func(at *label, rest string) bool {
		if rest == "" {
			out = append(out, at.private...)
		} else {
			out = append(out, at.wildPrivate...)
		}
		return true
	})
	return out
}
