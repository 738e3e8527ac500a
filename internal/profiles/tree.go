package profiles

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// A file beyond these is a mistake, or hostile: it is not read on, so that reading is quick whatever it holds.
const (
	maxFile  = 4 << 20 // bytes
	maxDepth = 64      // of tables and arrays within each other; the format is six deep
	maxNodes = 1 << 19 // tables, arrays and values
)

type kind uint8

const (
	tableKind kind = iota
	arrayKind
	stringKind
	integerKind
	floatKind
	boolKind
	timeKind
)

// form says how a table or an array came to be, which decides what may still be added to it.
type form uint8

const (
	implied form = iota // by a header that names what is below it
	headed              // by its own header; the root; an array by [[headers]]
	dotted              // by a dotted key
	closed              // written as one value
)

// node is a value with its place: byte offsets of its key (an element's is its value's) and of the value itself. A
// table with a header stands where the header does.
type node struct {
	kind       kind
	form       form
	key, value int32
	src        *source
	text       string // of a string
	bits       uint64 // of a number or a boolean
	*list             // of tables and arrays
}

// list is what a table or an array holds, in the file's order.
type list struct {
	names []string // of a table: the key of each item
	items []*node
	index map[string]int32 // of a table with many keys
	done  any              // of an element of an array of tables: points to what it was decoded to
}

func (n *node) integer() int64 { return int64(n.bits) } //nolint:gosec // stored so
func (n *node) float() float64 { return math.Float64frombits(n.bits) }

// get is the item of a table, or nil.
func (n *node) get(name string) *node {
	if n == nil || n.kind != tableKind {
		return nil
	}
	if i := n.find(name); i >= 0 {
		return n.items[i]
	}
	return nil
}

// few is the number of keys up to which going through them is quicker than a map.
const few = 12

func (l *list) find(name string) int {
	if l.index != nil {
		if i, ok := l.index[name]; ok {
			return int(i)
		}
		return -1
	}
	for i, n := range l.names {
		if n == name {
			return i
		}
	}
	return -1
}

// put adds or replaces.
func (l *list) put(name string, n *node) {
	if i := l.find(name); i >= 0 {
		l.items[i] = n
		return
	}
	l.names, l.items = append(l.names, name), append(l.items, n)
	switch {
	case l.index != nil:
		l.index[name] = int32(len(l.names) - 1) //nolint:gosec // files are small
	case len(l.names) > few:
		l.index = make(map[string]int32, 2*len(l.names))
		for i, k := range l.names {
			l.index[k] = int32(i) //nolint:gosec // files are small
		}
	}
}

// fault is what keeps a file from being read, at a byte offset.
type fault struct {
	code   string
	offset int
	text   string
}

func invalid(offset int, format string, args ...any) *fault {
	return &fault{"not-toml", offset, "not valid TOML: " + printable(fmt.Sprintf(format, args...))}
}

// parse reads src as TOML 1.0. It reads what BurntSushi/toml reads, but for what TOML 1.1 adds (inline tables over
// several lines, \e, \x, times without seconds) and what is nested deeper than maxDepth.
func parse(src *source) (*node, *fault) {
	if f := excess(src); f != nil {
		return nil, f
	}
	g := grower{src: src}
	g.root = g.table(headed, 0, 0)
	g.at, g.depth = g.root, 0
	g.parser.Reset(src.data)
	for g.parser.NextExpression() {
		if f := g.expression(g.parser.Expression()); f != nil {
			return nil, f
		}
		if g.count > maxNodes {
			return nil, &fault{"too-large", 0, fmt.Sprintf("the file holds more than %d values", maxNodes)}
		}
	}
	if err := g.parser.Error(); err != nil {
		return nil, g.fault(err)
	}
	return g.root, nil
}

// excess finds what is not handed to the parser: what is too much, and what is not text.
func excess(src *source) *fault {
	if src.large {
		return &fault{"too-large", 0, fmt.Sprintf("the file is larger than %d MiB", maxFile>>20)}
	}
	if !utf8.Valid(src.data) {
		rest, offset := src.data, 0
		for {
			r, size := utf8.DecodeRune(rest)
			if r == utf8.RuneError && size <= 1 {
				return &fault{"not-utf8", offset, "the file is not UTF-8 text"}
			}
			rest, offset = rest[size:], offset+size
		}
	}
	if offset := tooDeep(src.data); offset >= 0 {
		return &fault{"too-deep", offset, fmt.Sprintf("more than %d values stand within each other", maxDepth)}
	}
	return nil
}

// tooDeep finds the bracket that nests deeper than maxDepth, or -1: the parser calls itself for each. Up to the first
// mistake in the file it sees strings and comments as the parser does, and beyond that the parser does not go.
func tooDeep(data []byte) int {
	depth := 0
	for i := 0; i < len(data); i++ {
		if !marks[data[i]] {
			continue // by far the most
		}
		switch data[i] {
		case '[', '{':
			if depth++; depth > maxDepth {
				return i
			}
		case ']', '}':
			depth--
		case '#':
			i += lineEnd(data[i:])
		case '"', '\'':
			i += skipString(data[i:]) - 1
		}
	}
	return -1
}

// marks are the characters that tooDeep looks at.
var marks = [256]bool{'[': true, '{': true, ']': true, '}': true, '#': true, '"': true, '\'': true}

func lineEnd(data []byte) int {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i
	}
	return len(data)
}

// skipString is the length of the string that data begins with.
func skipString(data []byte) int {
	quote, triple := data[0], len(data) >= 3 && data[1] == data[0] && data[2] == data[0]
	i := 1
	if triple {
		i = 3
	}
	for ; i < len(data); i++ {
		switch c := data[i]; {
		case c == '\\' && quote == '"':
			i++
		case c == '\n' && !triple:
			return i
		case c == quote && !triple:
			return i + 1
		case c == quote && i+2 < len(data) && data[i+1] == quote && data[i+2] == quote:
			for i += 3; i < len(data) && data[i] == quote; i++ { // up to two quotes may stand before the closing three
			}
			return i
		}
	}
	return len(data)
}

// grower makes the tree out of the parser's expressions.
type grower struct {
	src    *source
	parser unstable.Parser
	root   *node
	at     *node // the table of the last header
	depth  int   // of at
	spare  []node
	lists  []list
	names  []string
	items  []*node
	count  int
}

func (g *grower) node(k kind, f form, key, value int) *node {
	if g.count++; len(g.spare) == 0 {
		g.spare = make([]node, 256)
	}
	n := &g.spare[0]
	g.spare = g.spare[1:]
	*n = node{kind: k, form: f, key: int32(key), value: int32(value), src: g.src} //nolint:gosec // at most maxFile
	return n
}

func (g *grower) table(f form, key, value int) *node { return g.holder(tableKind, f, key, value) }

func (g *grower) holder(k kind, f form, key, value int) *node {
	n := g.node(k, f, key, value)
	if len(g.lists) == 0 {
		g.lists = make([]list, 64)
	}
	n.list, g.lists = &g.lists[0], g.lists[1:]
	g.room(n)
	return n
}

// room gives a new table or array space for a few items, out of a larger piece.
func (g *grower) room(n *node) {
	const usual = 4
	if len(g.items) < usual {
		g.items = make([]*node, 64*usual)
	}
	if len(g.names) < usual {
		g.names = make([]string, 64*usual)
	}
	n.items, g.items = g.items[:0:usual], g.items[usual:]
	if n.kind == tableKind {
		n.names, g.names = g.names[:0:usual], g.names[usual:]
	}
}

// fault places an error of the parser: what it points at is a part of the file's bytes, and so ends where they end.
func (g *grower) fault(err error) *fault {
	offset := len(g.src.data)
	if pe := (*unstable.ParserError)(nil); errors.As(err, &pe) {
		offset = g.offset(pe.Highlight)
	}
	return invalid(offset, "%s", err)
}

// offset is where a part of the file's bytes begins.
func (g *grower) offset(part []byte) int {
	return max(0, min(cap(g.src.data)-cap(part), len(g.src.data)))
}

// text is the string of a token, shared with the file's own where it is written as it is.
func (g *grower) text(data []byte) string {
	at := g.offset(data)
	if at+len(data) <= len(g.src.text) && g.src.text[at:at+len(data)] == string(data) {
		return g.src.text[at : at+len(data)]
	}
	return string(data)
}

func (g *grower) expression(e *unstable.Node) *fault {
	switch e.Kind {
	case unstable.Table:
		return g.header(e, false)
	case unstable.ArrayTable:
		return g.header(e, true)
	case unstable.KeyValue:
		_, f := g.pair(g.at, e, g.depth)
		return f
	}
	return nil
}

// header goes to, or makes, the table of [a.b] or [[a.b]].
func (g *grower) header(e *unstable.Node, array bool) *fault {
	t, depth, start := g.root, 0, -1
	for it := e.Key(); it.Next(); {
		part := it.Node()
		name, offset := g.text(part.Data), int(part.Raw.Offset)
		if start < 0 {
			start = g.bracket(offset, array)
		}
		if depth++; depth > maxDepth {
			return &fault{"too-deep", offset, fmt.Sprintf("more than %d tables stand within each other", maxDepth)}
		}
		next := t.get(name)
		switch {
		case it.IsLast() && array:
			n, f := g.element(t, next, name, start, offset)
			if f != nil {
				return f
			}
			next = n
		case it.IsLast():
			n, f := g.open(t, next, name, start, offset)
			if f != nil {
				return f
			}
			next = n
		case next == nil:
			next = g.table(implied, start, start)
			t.put(name, next)
		case next.kind == arrayKind && next.form == headed:
			next = next.items[len(next.items)-1]
		case next.kind != tableKind || next.form == closed:
			return g.twice(next, name, offset)
		}
		t = next
	}
	g.at, g.depth = t, depth
	return nil
}

// bracket is where the header begins whose first key is at offset.
func (g *grower) bracket(offset int, array bool) int {
	start := bytes.LastIndexByte(g.src.data[:offset], '[')
	if array {
		start--
	}
	return start
}

// element adds a table to an array of tables.
func (g *grower) element(t, array *node, name string, start, offset int) (*node, *fault) {
	if array == nil {
		array = g.holder(arrayKind, headed, start, start)
		t.put(name, array)
	}
	if array.kind != arrayKind || array.form != headed {
		return nil, g.twice(array, name, offset)
	}
	n := g.table(headed, start, start)
	array.items = append(array.items, n)
	return n, nil
}

// open makes the table of a header, or takes the one that was only implied before.
func (g *grower) open(t, n *node, name string, start, offset int) (*node, *fault) {
	if n == nil {
		n = g.table(headed, start, start)
		t.put(name, n)
		return n, nil
	}
	if n.kind != tableKind || n.form != implied {
		return nil, g.twice(n, name, offset)
	}
	n.form, n.key, n.value = headed, int32(start), int32(start) //nolint:gosec // at most maxFile
	return n, nil
}

func (g *grower) twice(first *node, name string, offset int) *fault {
	return invalid(offset, "%q is given already, on line %d", name, g.src.line(int(first.key)))
}

// pair puts key = value into t; end is where the value ends.
func (g *grower) pair(t *node, kv *unstable.Node, depth int) (end int, f *fault) {
	for it := kv.Key(); it.Next(); {
		part := it.Node()
		name, offset := g.text(part.Data), int(part.Raw.Offset)
		if depth++; depth > maxDepth {
			return 0, &fault{"too-deep", offset, fmt.Sprintf("more than %d tables stand within each other", maxDepth)}
		}
		next := t.get(name)
		switch {
		case next == nil && it.IsLast():
			n, end, f := g.value(kv.Value(), g.equals(offset+int(part.Raw.Length)), depth)
			if f != nil {
				return 0, f
			}
			n.key = int32(offset) //nolint:gosec // at most maxFile
			t.put(name, n)
			return end, nil
		case next == nil:
			next = g.table(dotted, offset, offset)
			t.put(name, next)
		case it.IsLast() || next.kind != tableKind || next.form != dotted && next.form != implied:
			return 0, g.twice(next, name, offset)
		default:
			next.form = dotted // and no header may open it any more
		}
		t = next
	}
	return 0, invalid(0, "a key is missing")
}

// equals is where the value of a key begins that ends at offset.
func (g *grower) equals(offset int) int {
	data := g.src.data
	for offset < len(data) && (data[offset] == ' ' || data[offset] == '\t' || data[offset] == '=') {
		offset++
	}
	return offset
}

// blank skips what may stand between the elements of an array.
func (g *grower) blank(offset int) int {
	data := g.src.data
	for offset < len(data) {
		switch data[offset] {
		case ' ', '\t', '\r', '\n', ',':
			offset++
		case '#':
			offset += lineEnd(data[offset:])
		default:
			return offset
		}
	}
	return offset
}

// value makes the node of a value that begins at offset, and says where it ends.
func (g *grower) value(v *unstable.Node, offset, depth int) (n *node, end int, f *fault) {
	switch v.Kind {
	case unstable.Array:
		return g.array(v, offset, depth)
	case unstable.InlineTable:
		return g.inline(v, offset, depth)
	case unstable.String:
		n = g.node(stringKind, closed, offset, offset)
		n.text = g.text(v.Data)
		return n, offset + int(v.Raw.Length), nil
	case unstable.Bool:
		n = g.node(boolKind, closed, offset, offset)
		if v.Data[0] == 't' {
			n.bits = 1
		}
	case unstable.Integer:
		n = g.node(integerKind, closed, offset, offset)
		i, why := integer(string(v.Data))
		if why != "" {
			return nil, 0, invalid(offset, "%s", why)
		}
		n.bits = uint64(i) //nolint:gosec // read back by integer
	case unstable.Float:
		n = g.node(floatKind, closed, offset, offset)
		x, why := float(string(v.Data))
		if why != "" {
			return nil, 0, invalid(offset, "%s", why)
		}
		n.bits = math.Float64bits(x)
	default:
		n = g.node(timeKind, closed, offset, offset)
		n.text = string(v.Data)
		if !validTime(n.text) {
			return nil, 0, invalid(offset, "%q is not a date or a time", n.text)
		}
	}
	return n, offset + len(v.Data), nil
}

func (g *grower) array(v *unstable.Node, offset, depth int) (*node, int, *fault) {
	n, end := g.holder(arrayKind, closed, offset, offset), offset+1
	for it := v.Children(); it.Next(); {
		item, after, f := g.value(it.Node(), g.blank(end), depth+1)
		if f != nil {
			return nil, 0, f
		}
		n.items, end = append(n.items, item), after
	}
	return n, g.blank(end) + 1, nil
}

func (g *grower) inline(v *unstable.Node, offset, depth int) (*node, int, *fault) {
	n, end := g.table(closed, offset, offset), offset+1
	for it := v.Children(); it.Next(); {
		after, f := g.pair(n, it.Node(), depth)
		if f != nil {
			return nil, 0, f
		}
		end = after
	}
	return n, g.blank(end) + 1, nil
}

// integer reads TOML's whole numbers.
func integer(s string) (n int64, why string) {
	digits, base := strings.TrimLeft(s, "+-"), 10
	if strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0o") || strings.HasPrefix(s, "0b") {
		digits, base = s[2:], map[byte]int{'x': 16, 'o': 8, 'b': 2}[s[1]]
	}
	plain := strings.ReplaceAll(digits, "_", "")
	if !grouped(digits) || len(s)-len(digits) > 1 && base == 10 || base == 10 && len(plain) > 1 && plain[0] == '0' {
		return 0, fmt.Sprintf("%q is not a whole number", s)
	}
	if base == 10 && s[0] == '-' {
		plain = "-" + plain
	}
	n, err := strconv.ParseInt(plain, base, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Sprintf("%s is too large a number", s)
	case err != nil:
		return 0, fmt.Sprintf("%q is not a whole number", s)
	}
	return n, ""
}

// grouped reports whether each underscore stands between digits.
func grouped(digits string) bool {
	return digits != "" && digits[0] != '_' && digits[len(digits)-1] != '_' && !strings.Contains(digits, "__")
}

var floatForm = lazily(`^[+-]?(?:inf|nan|(?:0|[1-9](?:_?[0-9])*)(?:\.[0-9](?:_?[0-9])*)?(?:[eE][+-]?[0-9](?:_?[0-9])*)?)$`)

func float(s string) (x float64, why string) {
	if !floatForm().MatchString(s) {
		return 0, fmt.Sprintf("%q is not a number", s)
	}
	if strings.HasSuffix(s, "nan") {
		return math.NaN(), "" // ParseFloat takes no sign before it
	}
	x, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	if err != nil {
		return 0, fmt.Sprintf("%s is too large a number", s)
	}
	return x, ""
}

var timeForm = lazily(`^(?:[0-9]{4}-[0-9]{2}-[0-9]{2})?(?:[Tt ]?[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})?)?$`)

// validTime takes the four forms of dates and times. No key of the format has one.
func validTime(s string) bool {
	if !timeForm().MatchString(s) {
		return false
	}
	plain := strings.NewReplacer("t", "T", " ", "T", "z", "Z").Replace(s)
	for _, layout := range []string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05", time.DateOnly, time.TimeOnly} {
		if _, err := time.Parse(layout, plain); err == nil {
			return true
		}
	}
	return false
}
