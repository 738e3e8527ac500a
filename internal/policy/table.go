package policy

import (
	"bytes"
	"math"
	"slices"
	"strings"
)

// Table gives a Set's answers without looking at every rule: host names lead through a tree of labels to the rules of
// each pattern that names them, those are apart by port and action, and paths lead through a tree of segments. It is
// safe for concurrent use. A Table holds the Set that it was made of, which must not change any more.
type Table struct {
	set  Set
	root label
}

// label is a node of the tree of host names, whose root is above the top-level domains.
type label struct {
	below    map[string]*label
	exact    ports // rules for the name itself
	wild     ports // rules for every name below it
	only     bool  // Only holds the name itself
	onlyWild bool  // Only holds every name below it
	metadata bool  // the name, and every name below it, is a metadata name
}

// ports holds the rules of one host pattern by port, in ascending order.
type ports struct {
	numbers []uint16
	rules   []*spot
}

// spot holds the rules for one host pattern and port.
type spot struct {
	byMethod, byPath int
	deny, ask, allow verdicts
}

// verdicts holds the rules of one action. Of those that speak, the one of the lowest rank is heard.
type verdicts struct {
	wide      bool     // how patterns are read
	best      rank     // of all
	unlimited rank     // of those with neither methods nor paths
	anyPath   []hit    // those with methods alone
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
	methods []string
}

// tail is the rest of a pattern, in units.
type tail struct {
	hit
	units string
}

// Compile gives the table of s. It shares s's rules, which must not change any more.
func (s Set) Compile() *Table {
	t := &Table{set: s}
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
		places := &at.exact
		if rule.Host.wild {
			places = &at.wild
		}
		for _, port := range rule.Ports {
			places.make(port).add(rule, i)
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
	empty := verdicts{best: noRank, unlimited: noRank}
	s := &spot{byMethod: none, byPath: none, deny: empty, ask: empty, allow: empty}
	s.deny.wide, s.ask.wide = true, true
	return s
}

// add adds the rule at i of the set; rules come in their order.
func (s *spot) add(rule Rule, i int) {
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

func (v *verdicts) add(rule Rule, i int) {
	h := hit{rank: rankOf(rule, i), methods: rule.Methods}
	v.best = min(v.best, h.rank)
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
	}
	return f
}

// hear adds what the rules of a spot have to say. Spots come from the widest host pattern to the narrowest.
func (s *spot) hear(f *findings, q *question) {
	f.byMethod = first(f.byMethod, s.byMethod)
	f.byPath = first(f.byPath, s.byPath)
	if q.partial {
		f.deny = first(f.deny, s.deny.unlimited.rule())
		f.ask = first(f.ask, s.ask.unlimited.rule())
		f.allow = last(f.allow, s.allow.best.rule())
		return
	}
	f.deny = first(f.deny, s.deny.heard(q))
	f.ask = first(f.ask, s.ask.heard(q))
	f.allow = last(f.allow, s.allow.heard(q))
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
	if v.best == noRank {
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
		if h := &hits[i]; h.rank < l.best && takesMethod(h.methods, l.method) {
			l.best = h.rank
		}
	}
}

func (l *listening) hearTails(tails []tail, path []byte) {
	for i := range tails {
		if t := &tails[i]; t.rank < l.best && takesMethod(t.methods, l.method) && matchUnits(t.units, path, l.wide) {
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
	if t.set.Default == Allow {
		return t.find(Request{Host: h, Port: 1}).barred == byText
	}
	at, name := &t.root, h.name
	for name != "" {
		dot := strings.LastIndexByte(name, '.')
		if at = at.below[name[dot+1:]]; at == nil {
			return false
		}
		name = name[:max(dot, 0)]
		places := &at.wild
		if name == "" {
			places = &at.exact
		}
		for i, port := range places.numbers {
			if places.rules[i].allow.best != noRank && t.Decide(Request{Host: h, Port: port}).Allowed() {
				return true
			}
		}
	}
	return false
}
