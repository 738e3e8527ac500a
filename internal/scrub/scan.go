package scrub

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// scan goes once over some bytes.
type scan struct {
	set   *Set
	data  []byte
	final bool // nothing comes behind data

	from    int // everything before it is decided
	changed bool

	literal, escape found
	partial         int // where a form begins that data ends in; -1: not looked for yet
	area            area
	percent, slash  int // the next ones in the area, or its end; -1: not looked for yet
}

// found is a form in the data, or where one could begin that goes on behind it: then end is 0.
type found struct {
	start, end int
	form       int32
	looked     bool
}

// run decides as much as can be, and appends what is to be passed on to out once something has to be replaced. The first
// sent bytes were passed on already. What is undecided begins at from. Without a change, all before it is to be passed on.
func (c *scan) run(out []byte, sent int, fitted bool) []byte {
	c.partial, c.percent, c.slash = -1, -1, -1
	for {
		m := c.next()
		hold := c.hold()
		if m.start >= hold {
			if c.changed {
				out = c.pass(out, max(c.from, sent), hold)
			}
			c.from = hold
			return out
		}
		c.changed = true
		out = c.pass(out, max(c.from, sent), m.start)
		out = append(out, c.instead(m, fitted, max(0, sent-m.start))...)
		c.from = m.end
	}
}

func (c *scan) pass(out []byte, from, to int) []byte {
	if from >= to {
		return out
	}
	return append(out, c.data[from:to]...)
}

// instead is what stands in the place of a form, without what was passed on of it before.
func (c *scan) instead(m found, fitted bool, sent int) string {
	f := &c.set.forms[m.form]
	with := f.placeholder
	if fitted {
		with = fit(with, m.end-m.start)
	}
	return with[min(sent, len(with)):]
}

// next is the first whole form, or one that could go on.
func (c *scan) next() found {
	if !c.literal.looked || c.literal.start < c.from {
		c.literal = c.findLiteral()
	}
	if !c.escape.looked || c.escape.start < c.from {
		c.escape = c.findEscaped()
	}
	l, e := c.literal, c.escape
	switch {
	case e.end == 0 || l.start < e.start || l.start == e.start && l.end >= e.end:
		return l
	}
	return e
}

// hold is where the undecided begins.
func (c *scan) hold() int {
	if c.final {
		return len(c.data)
	}
	if c.partial < c.from {
		c.partial = c.tail(c.from, len(c.data))
	}
	if c.escape.end == 0 {
		return min(c.partial, c.escape.start)
	}
	return c.partial
}

// findLiteral finds forms that are written out. Every form that begins at or behind from has one of its first grams at
// one of the places that are looked at, and of several forms the first is met first.
func (c *scan) findLiteral() found {
	s, data := c.set, c.data
	filter, shift, stride := s.filter, s.shift, s.stride
	for q := c.from + stride - 1; q+gram <= len(data); q += stride {
		g := binary.LittleEndian.Uint64(data[q : q+gram])
		h := g * multiplier >> (shift & 63)
		if filter[h>>6]&(1<<(h&63)) == 0 {
			continue
		}
		if m := c.verify(g, q); m.end > 0 {
			return m
		}
	}
	return found{start: len(data), looked: true}
}

// verify finds the forms that have a gram at q.
func (c *scan) verify(g uint64, q int) (m found) {
	for _, at := range c.set.grams[g] {
		start, text := q-int(at.at), c.set.forms[at.form].text
		if start < c.from || start+len(text) > len(c.data) || string(c.data[start:start+len(text)]) != text {
			continue
		}
		if m.end == 0 || start < m.start || start == m.start && start+len(text) > m.end {
			m = found{start, start + len(text), at.form, true}
		}
	}
	return m
}

// tail is where the first form begins that data[:end] ends in the middle of; end if there is none.
func (c *scan) tail(from, end int) int {
	s := c.set
	for i := max(from, end-s.longest+1); i < end; i++ {
		for _, f := range s.starts[c.data[i]] {
			if text := s.forms[f].text; len(text) > end-i && text[:end-i] == string(c.data[i:end]) {
				return i
			}
		}
	}
	return end
}

// findEscaped finds forms of which at least one byte is escaped, by the first such byte.
func (c *scan) findEscaped() found {
	for at := c.from; at < len(c.data); {
		if at >= c.area.end {
			c.area = c.legible(at)
		}
		at = max(at, c.area.start)
		if c.percent < at {
			c.percent = c.nextPercent(at, c.area.end)
		}
		if c.slash < at {
			c.slash = c.nextSlash(at, c.area.end)
		}
		p := min(c.percent, c.slash)
		if p >= c.area.end {
			at = c.area.end
			continue
		}
		if m := c.escapedAt(p); m.looked {
			return m
		}
		at = p + 1
	}
	return found{start: len(c.data), end: len(c.data) + 1, looked: true}
}

// area is a part of the data.
type area struct{ start, end int }

// legible is the next part of the data, at or behind a place, that a form with something escaped could lie in, whole or
// with its beginning: forms are of ASCII, so one that is longer than a stride and a gram has a gram of ASCII at one of its
// strides. What is no text is passed over so.
func (c *scan) legible(at int) area {
	data, beyond, stride, end := c.data, c.set.beyond, c.set.stride, len(c.data)
	q := (max(0, at-gram) + stride - 1) / stride * stride
	for ; q+gram <= end; q += stride {
		if binary.LittleEndian.Uint64(data[q:q+gram])&beyond == 0 {
			break
		}
	}
	if q+gram > end { // a beginning at the end of the data may be shorter
		return area{max(at, end-stride-gram), end}
	}
	start := max(at, q-stride)
	for q += stride; q+gram <= end && binary.LittleEndian.Uint64(data[q:q+gram])&beyond == 0; q += stride {
	}
	if q+gram > end {
		return area{start, end}
	}
	return area{start, min(end, q+gram)}
}

// nextPercent finds a percent sign behind which may stand a byte of a form; end if there is none before.
func (c *scan) nextPercent(from, end int) int {
	data := c.data
	for from < end {
		i := bytes.IndexByte(data[from:end], '%')
		if i < 0 {
			break
		}
		from += i + 1
		if from+1 >= len(data) {
			return from - 1
		}
		high, low := digits[data[from]], digits[data[from+1]]
		if high|low != noDigit && (len(c.set.escaped[high<<4|low]) > 0 || high<<4|low == '%') {
			return from - 1
		}
	}
	return end
}

// nextSlash finds a backslash behind which may stand a byte of a form; end if there is none before.
func (c *scan) nextSlash(from, end int) int {
	data := c.data
	for from < end {
		i := bytes.IndexByte(data[from:end], '\\')
		if i < 0 {
			break
		}
		from += i + 1
		if from == len(data) {
			return from - 1
		}
		switch b := data[from]; b {
		case '/', '"':
			if len(c.set.escaped[b]) > 0 {
				return from - 1
			}
		case 'u', 'x', '\\':
			return from - 1
		}
	}
	return end
}

// escapedAt finds a form whose first escaped byte is at p.
func (c *scan) escapedAt(p int) (best found) {
	b, n, state := decode(c.data, p)
	if state == broken {
		return best
	}
	if state == short {
		if c.final {
			return best
		}
		return found{start: c.tail(c.from, p), looked: true}
	}
	for _, at := range c.set.escaped[b] {
		start, text := p-int(at.at), c.set.forms[at.form].text
		if start < c.from || text[:at.at] != string(c.data[start:p]) {
			continue
		}
		end, ok := c.follow(p+n, text[at.at+1:])
		if !ok {
			continue
		}
		if best.better(start, end) {
			best = found{start, end, at.form, true}
		}
	}
	return best
}

// better reports whether another form goes before what was found: it begins further left, or could go on, or is longer.
func (m found) better(start, end int) bool {
	switch {
	case !m.looked || start != m.start:
		return !m.looked || start < m.start
	case m.end == 0 || end == 0:
		return end == 0
	}
	return end > m.end
}

// follow reads the rest of a form at p, escaped or not, and gives where it ends; 0 where data ends before it.
func (c *scan) follow(p int, rest string) (end int, ok bool) {
	for k := 0; k < len(rest); k++ {
		if p == len(c.data) {
			return 0, !c.final
		}
		at := c.data[p]
		if at != '%' && at != '\\' {
			if at != rest[k] {
				return 0, false
			}
			p++
			continue
		}
		b, n, state := decode(c.data, p)
		switch {
		case state == short && !c.final:
			return 0, true
		case state == whole && b == rest[k]:
			p += n
		case rest[k] == '%' && bytes.HasPrefix(c.data[p:], []byte("%25")):
			p += len("%25")
		case at == rest[k]:
			p++
		default:
			return 0, false
		}
	}
	return p, true
}

// What decode found.
type state int

const (
	broken state = iota // no escape
	short               // data ends in it
	whole
)

const (
	maxNested  = 3 // times that one escape is escaped again in a URL
	maxSlashes = 8 // before an escaped character of JSON, which doubles them each time
)

// decode reads one escaped byte at p: %41, %2541, \u0041, \x41, \/, \", \\, with as many backslashes as it has after
// being escaped several times (a backslash itself is known escaped once).
func decode(data []byte, p int) (b byte, n int, s state) {
	if data[p] == '%' {
		return decodePercent(data, p)
	}
	q := p
	for q < len(data) && data[q] == '\\' && q-p < maxSlashes {
		q++
	}
	if q == len(data) {
		return 0, 0, short
	}
	switch data[q] {
	case '/', '"':
		return data[q], q + 1 - p, whole
	case 'x':
		return decodeHex(data, p, q+1)
	case 'u':
		const zeros = "00"
		head := data[q+1 : min(q+1+len(zeros), len(data))]
		if !strings.HasPrefix(zeros, string(head)) {
			break
		}
		if len(head) < len(zeros) {
			return 0, 0, short
		}
		return decodeHex(data, p, q+1+len(zeros))
	}
	if q-p >= 2 {
		return '\\', 2, whole
	}
	return 0, 0, broken
}

func decodePercent(data []byte, p int) (b byte, n int, s state) {
	q := p + 1
	for range maxNested {
		if !bytes.HasPrefix(data[q:], []byte("25")) {
			break
		}
		q += len("25")
	}
	if b, n, s = decodeHex(data, p, q); s == broken && q > p+1 {
		return '%', len("%25"), whole
	}
	return b, n, s
}

// decodeHex reads two digits at q of an escape that begins at p.
func decodeHex(data []byte, p, q int) (b byte, n int, s state) {
	for i := q; i < q+2; i++ {
		if i >= len(data) {
			return 0, 0, short
		}
		d := digits[data[i]]
		if d == noDigit {
			return 0, 0, broken
		}
		b = b<<4 | d
	}
	return b, q + 2 - p, whole
}

const noDigit = 0xFF

// digits are the values of hex digits.
var digits = func() (d [256]byte) {
	for i := range d {
		d[i] = noDigit
	}
	for i := range 16 {
		d["0123456789abcdef"[i]], d["0123456789ABCDEF"[i]] = byte(i), byte(i)
	}
	return d
}()
