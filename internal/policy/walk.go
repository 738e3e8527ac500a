package policy

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"
)

// The states of one walk are bounded, and so is what they hold together, in words: it takes long to go through the
// states of very many patterns.
const (
	maxVisits = 4000
	maxWords  = 1 << 19
)

// walk follows every path in normal form at once through the patterns of two sets, whose rules are all for one host,
// port and method. Its state is where in which pattern a path can have come to, and what the normal form needs to know
// of it. Paths in the same state can't be told apart by what follows, so each state is visited once, by its shortest
// path; and of all characters that no pattern waits for in a state, one is enough.
type walk struct {
	units []byte // of all patterns, each with unitEnd after it
	wide  []bool // by unit: how it is read
	other string // a character that no pattern names
	sides [2]judged
	masks masks
}

// masks are the places by what they mean for how a walk goes on.
type masks struct {
	differing  []uint64 // of rules that one side alone has
	generous   []uint64 // of rules of the second side that allow or ask
	denied     []uint64 // from where on the second side denies whatever follows
	from       []uint64 // of rules of the first side
	fromDenied []uint64 // from where on the first side denies whatever follows
}

// unitEnd stands after a pattern's last unit.
const unitEnd = 0x04

// judged is one set, and where its patterns are.
type judged struct {
	Set
	spans [][]span // by rule
}

// span is where a pattern stands among the units: it ends at end, which holds unitEnd.
type span struct{ begin, end int }

func newWalk(from, to Set) *walk {
	w := &walk{}
	w.sides = [2]judged{w.judged(from), w.judged(to)}
	w.other = otherThan(w.units)
	w.masks = w.mask()
	return w
}

func (w *walk) judged(s Set) judged {
	j := judged{Set: s, spans: make([][]span, len(s.Rules))}
	for i, r := range s.Rules {
		for _, p := range r.Paths {
			if p.units == "" {
				continue
			}
			begin := len(w.units)
			w.units = append(append(w.units, p.units...), unitEnd)
			w.wide = append(w.wide, slices.Repeat([]bool{r.Action != Allow}, len(p.units)+1)...)
			j.spans[i] = append(j.spans[i], span{begin, len(w.units) - 1})
		}
	}
	return j
}

func (w *walk) newSet() []uint64 { return make([]uint64, len(w.units)>>6+1) }

func (w *walk) mask() masks {
	m := masks{w.newSet(), w.newSet(), w.newSet(), w.newSet(), w.newSet()}
	for side, j := range w.sides {
		others := map[string]bool{}
		for _, r := range w.sides[1-side].Rules {
			others[r.said()] = true
		}
		for i, r := range j.Rules {
			shared := others[r.said()]
			for _, span := range j.spans[i] {
				for at := span.begin; at <= span.end; at++ {
					switch {
					case side == 0:
						put(m.from, at)
					case r.Action == Allow || r.Action == Ask:
						put(m.generous, at)
					}
					if !shared {
						put(m.differing, at)
					}
				}
				if forever := span.end - 1; r.Action == Deny && w.units[forever] == unitStars {
					put([][]uint64{m.fromDenied, m.denied}[side], forever)
				}
			}
		}
	}
	return m
}

// said is the same for rules of one action, of the same weight, with the same paths.
func (r Rule) said() string {
	said := []string{string(r.Action), r.By}
	for _, p := range r.Paths {
		said = append(said, p.text)
	}
	return strings.Join(said, " ")
}

// settled reports whether the second side can't become more generous than the first any more, whatever follows.
func (w *walk) settled(set []uint64) bool {
	from, to := w.sides[0], w.sides[1]
	unlimited := func(r Rule) bool { return len(r.Paths) == 0 }
	switch {
	case meet(set, w.masks.denied):
		return true
	case !meet(set, w.masks.generous) && to.Default.generosity() == 0 && !slices.ContainsFunc(to.Rules, unlimited):
		return true
	}
	return !meet(set, w.masks.differing) && from.Default.generosity() == to.Default.generosity() &&
		sameUnlimited(from.Rules, to.Rules)
}

// sameUnlimited reports whether the rules without paths say the same on both sides.
func sameUnlimited(a, b []Rule) bool {
	for _, action := range []Action{Deny, Ask, Allow} {
		for _, by := range []string{"", ByPerson, ByOrganisation} {
			says := func(r Rule) bool { return r.Action == action && r.By == by && len(r.Paths) == 0 }
			if slices.ContainsFunc(a, says) != slices.ContainsFunc(b, says) {
				return false
			}
		}
	}
	return true
}

// forget drops places that make no difference any more: once the first side denies whatever follows, all others of it.
func (w *walk) forget(set []uint64) {
	if !meet(set, w.masks.fromDenied) {
		return
	}
	for i := range set {
		if keep := set[i] & w.masks.fromDenied[i]; keep != 0 {
			first := keep & -keep
			for j := range set {
				set[j] &^= w.masks.from[j]
			}
			set[i] |= first
			w.add(set, (i<<6 + bits.TrailingZeros64(first)))
			return
		}
	}
}

func put(set []uint64, at int)      { set[at>>6] |= 1 << (at & 63) }
func has(set []uint64, at int) bool { return set[at>>6]&(1<<(at&63)) != 0 }

func meet(a, b []uint64) bool {
	for i := range a {
		if a[i]&b[i] != 0 {
			return true
		}
	}
	return false
}

// otherThan gives a character that is not among units and that has no meaning of its own in a path.
func otherThan(units []byte) string {
	for _, c := range []byte("xyzuvwqrstklmnopghijXYZUVWQRSTKLMNOPGHIJ-_~") {
		if !slices.Contains(units, c) {
			return string(c)
		}
	}
	for r := rune(0xe0); ; r++ {
		if !strings.Contains(string(units), string(r)) {
			return string(r)
		}
	}
}

// form is what the normal form needs to know of the path so far.
type form struct {
	dots    int8 // of the segment so far: how many, when it holds nothing else; -1 when it does
	escaped int8 // how many units since a "%" could be an escape with it
}

// next gives the form with one unit more, and whether the path can still be in normal form.
func (f form) next(unit byte) (form, bool) {
	out := form{dots: -1}
	switch {
	case isSeparator(unit):
		if f.dots >= 0 && f.dots <= 2 {
			return f, false // empty, "." or ".."
		}
		out.dots = 0
	case unit == '.' && f.dots >= 0 && f.dots < 2:
		out.dots = f.dots + 1
	case unit == '%':
		out.escaped = 1
	case f.escaped > 0 && isHex(unit):
		if f.escaped == 2 {
			return f, false
		}
		out.escaped = 2
	}
	return out, true
}

// ends reports whether a path may end here.
func (f form) ends() bool { return f.dots != 1 && f.dots != 2 }

// visit is a state, and how it was come to.
type visit struct {
	at     []uint64 // a set of places in units
	form   form
	before int    // the visit before it
	symbol string // what led here from there: the units of one character
}

// run visits all states and calls found with a path for every pair of verdicts in which the second set is more
// generous. It reports whether it came to its end, and found always agreed.
func (w *walk) run(found func(path string) bool) bool {
	visits := []visit{{at: w.begin(), form: form{}, before: none, symbol: "/"}}
	known := map[string]bool{visits[0].key(): true}
	said := map[[2]int]bool{}
	agreed, most := true, min(maxVisits, maxWords/len(visits[0].at))
	for i := 0; i < len(visits); i++ {
		v := visits[i]
		if v.form.ends() {
			from, a := w.sides[0].verdict(v.at)
			to, b := w.sides[1].verdict(v.at)
			if pair := [2]int{from, to}; b > a && !said[pair] {
				said[pair] = true
				agreed = found(path(visits, i)) && agreed
			}
		}
		if w.settled(v.at) {
			continue
		}
		for _, symbol := range w.symbols(v.at) {
			next, ok := w.step(v, symbol)
			if !ok || known[next.key()] {
				continue
			}
			if len(visits) == most {
				return false
			}
			known[next.key()] = true
			next.before = i
			visits = append(visits, next)
		}
	}
	return agreed
}

// shortest gives the shortest path when nothing but one pattern of `to` lets anything through, and that path is known:
// the one in which every star is empty.
func shortest(from, to Set) (path string, ok bool) {
	if len(from.Rules) > 0 || from.Default.generosity() > 0 || to.Default.generosity() > 0 || len(to.Rules) != 1 ||
		to.Rules[0].Action != Allow || len(to.Rules[0].Paths) != 1 {
		return "", false
	}
	pattern := to.Rules[0].Paths[0]
	units := slices.DeleteFunc([]byte(pattern.units), isStar)
	path = escapeUnits(string(units))
	return path, pattern.Match(path)
}

// path gives the escaped path that led to a visit.
func path(visits []visit, i int) string {
	var symbols []string
	for ; i != none; i = visits[i].before {
		symbols = append(symbols, visits[i].symbol)
	}
	slices.Reverse(symbols)
	return escapeUnits(strings.Join(symbols, ""))
}

// escapeUnits writes units as a request line does.
func escapeUnits(units string) string {
	var b strings.Builder
	for i := range len(units) {
		switch c := units[i]; {
		case c == unitSlash:
			b.WriteString("%2F")
		case c == unitBack:
			b.WriteString("%5C")
		case isPlain(c):
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// begin is the state after the "/" with which every path begins.
func (w *walk) begin() []uint64 {
	at := w.newSet()
	start := true
	for i, unit := range w.units {
		if start {
			w.add(at, i+1) // patterns too begin with "/"
		}
		start = unit == unitEnd
	}
	return at
}

// add adds a place and, since stars may be empty, those that follow it.
func (w *walk) add(set []uint64, at int) {
	for {
		put(set, at)
		if !isStar(w.units[at]) {
			return
		}
		at++
	}
}

func each(set []uint64, do func(at int)) {
	for i, word := range set {
		for ; word != 0; word &= word - 1 {
			do(i<<6 + bits.TrailingZeros64(word))
		}
	}
}

// step follows a character.
func (w *walk) step(v visit, symbol string) (visit, bool) {
	out := visit{at: v.at, form: v.form, symbol: symbol}
	for i := range len(symbol) {
		unit := symbol[i]
		var ok bool
		if out.form, ok = out.form.next(unit); !ok {
			return out, false
		}
		next := make([]uint64, len(v.at))
		each(out.at, func(at int) {
			if w.units[at] == unitEnd {
				return
			}
			stays, moves := follows(w.units[at], unit, w.wide[at])
			switch {
			case stays:
				w.add(next, at)
			case moves:
				w.add(next, at+1)
			}
		})
		out.at = next
	}
	w.forget(out.at)
	return out, true
}

// symbols gives the characters that can make a difference in a state.
func (w *walk) symbols(set []uint64) []string {
	out := []string{w.other, "/", "\x00", "\x01"}
	each(set, func(at int) {
		unit := w.units[at]
		if isStar(unit) || isSeparator(unit) || unit == unitEnd {
			return
		}
		_, size := utf8.DecodeRune(w.units[at:])
		out = append(out, string(w.units[at:at+size]))
	})
	slices.Sort(out[4:])
	return append(out[:4:4], slices.Compact(out[4:])...)
}

func (v visit) key() string {
	key := make([]byte, 0, 8*len(v.at)+2)
	for _, word := range v.at {
		key = binary.LittleEndian.AppendUint64(key, word)
	}
	return string(append(key, byte(v.form.dots), byte(v.form.escaped)))
}

// verdict gives the rule that is heard about a path that ends here, none for the default, and how generous it is.
func (j *judged) verdict(set []uint64) (rule, generosity int) {
	heard := map[Action]int{}
	answer, bound := none, false
	for i, r := range j.Rules {
		if len(r.Paths) > 0 && !slices.ContainsFunc(j.spans[i], func(s span) bool { return has(set, s.end) }) {
			continue
		}
		if old, had := heard[r.Action]; !had || r.Action == Allow && narrower(r, j.Rules[old]) {
			heard[r.Action] = i
		}
		bound = bound || r.Action == Ask && r.By == ByOrganisation
		if r.Action == Allow && r.By == ByPerson {
			answer = first(answer, i)
		}
	}
	if answer != none && !bound { // like Set.answer
		delete(heard, Ask)
		heard[Allow] = answer
	}
	for _, action := range []Action{Deny, Ask, Allow} {
		if i, ok := heard[action]; ok {
			return i, action.generosity()
		}
	}
	return none, j.Default.generosity()
}
