package starter

import (
	"bytes"
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/tailscale/hujson"
)

// Bounds of a file of settings. Depth keeps the parser, which calls itself, from running out of stack.
const (
	maxSettings = 1 << 20 // bytes
	maxDepth    = 64      // objects and lists within each other
)

// SyntaxError says where a file is not what it should be. It shows nothing of what the file holds.
type SyntaxError struct {
	File      string
	Line, Col int // from 1, in bytes; Line 0 when the whole file is meant
	Text      string
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", clean(e.File), e.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", clean(e.File), e.Line, e.Col, e.Text)
}

// document is a JSON file with comments and trailing commas, as read.
type document struct {
	file  string
	lines []int // the offset at which each line begins
	size  int
}

// node is a value of a document, by its path: "sandbox.network.allowedDomains[2]".
type node struct {
	doc  *document
	v    hujson.Value
	path string
	at   int // the offset that messages name: of the name, where it has one
}

// member is one name of an object with its value.
type member struct {
	name  string
	value node
}

// parseJSONC reads data, whose names must differ within an object.
func parseJSONC(file string, data []byte) (node, error) {
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	d := &document{file: file, lines: lineStarts(data), size: len(data)}
	if len(data) > maxSettings {
		return node{}, &SyntaxError{File: file, Text: fmt.Sprintf("larger than %d KiB", maxSettings>>10)}
	}
	if i := invalidUTF8(data); i >= 0 {
		return node{}, d.fault(i, "not UTF-8")
	}
	if i := tooDeep(data); i >= 0 {
		return node{}, d.fault(i, fmt.Sprintf("more than %d objects and lists within each other", maxDepth))
	}
	// The parser wants a line comment's end, which a file's end is too.
	v, err := hujson.Parse(append(bytes.Clone(data), '\n'))
	if err != nil {
		return node{}, d.syntax(err)
	}
	n := node{doc: d, v: v, at: v.StartOffset}
	return n, n.distinct()
}

func lineStarts(data []byte) []int {
	starts := []int{0}
	for i, c := range data {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// tooDeep gives the offset of the bracket that opens one level too many, or -1. It need not know JSON beyond strings
// and comments: what else is wrong, the parser finds.
func tooDeep(data []byte) int {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = endOfString(data, i)
		case '/':
			i = endOfComment(data, i)
		case '{', '[':
			if depth++; depth > maxDepth {
				return i
			}
		case '}', ']':
			depth--
		}
	}
	return -1
}

// endOfString gives the offset of the quote that ends the string that begins at i.
func endOfString(data []byte, i int) int {
	for i++; i < len(data) && data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return i
}

// endOfComment gives the offset of the last byte of the comment at i, or i when there is none.
func endOfComment(data []byte, i int) int {
	rest, end := data[i:], ""
	switch {
	case bytes.HasPrefix(rest, []byte("//")):
		end = "\n"
	case bytes.HasPrefix(rest, []byte("/*")):
		end = "*/"
	default:
		return i
	}
	at := bytes.Index(rest[2:], []byte(end))
	if at < 0 {
		return len(data)
	}
	return i + 2 + at + len(end) - 1
}

// place gives line and column of an offset.
func (d *document) place(offset int) (line, col int) {
	line = sort.SearchInts(d.lines, offset+1)
	return line, offset - d.lines[line-1] + 1
}

func (d *document) fault(offset int, text string) error {
	line, col := d.place(offset)
	return &SyntaxError{File: d.file, Line: line, Col: col, Text: text}
}

// syntax words the parser's error anew: its own text shows what stands in the file, which may be a secret.
func (d *document) syntax(err error) error {
	e := &SyntaxError{File: d.file, Text: "not JSON"}
	if _, scanErr := fmt.Sscanf(err.Error(), "hujson: line %d, column %d:", &e.Line, &e.Col); scanErr != nil {
		return e
	}
	if e.Line > len(d.lines) { // the end that was put behind the file's
		e.Line, e.Col = d.place(d.size)
	}
	text := err.Error()
	switch _, what, _ := strings.Cut(text, ": parsing "); {
	case strings.HasSuffix(text, "unexpected EOF"):
		kind, _, _ := strings.Cut(what, ":")
		e.Text = "the file ends within a " + strings.TrimPrefix(kind, "a ")
	case strings.Contains(text, "invalid literal"):
		e.Text = "neither a text in quotes, a number, true, false nor null"
	case strings.Contains(text, "object value"):
		e.Text = `a "," or "}" is missing`
	case strings.Contains(text, "array value"):
		e.Text = `a "," or "]" is missing`
	case strings.Contains(text, "object name"):
		e.Text = `a name in quotes and a ":" are missing`
	case strings.Contains(text, "top-level"):
		e.Text = "something stands behind the end"
	}
	return e
}

// distinct reports a name that an object has twice: readers differ in which one counts.
func (n node) distinct() error {
	seen := map[string]bool{}
	for _, m := range n.members() {
		if seen[m.name] {
			return n.doc.fault(m.value.at, fmt.Sprintf("%q stands here twice", clean(m.name)))
		}
		seen[m.name] = true
		if err := m.value.distinct(); err != nil {
			return err
		}
	}
	for _, e := range n.elements() {
		if err := e.distinct(); err != nil {
			return err
		}
	}
	return nil
}

// members gives what an object holds, in order; nothing for another value.
func (n node) members() []member {
	object, ok := n.v.Value.(*hujson.Object)
	if !ok {
		return nil
	}
	all := make([]member, 0, len(object.Members))
	for _, m := range object.Members {
		name := m.Name.Value.(hujson.Literal).String()
		path := strings.TrimPrefix(n.path+"."+clean(name), ".")
		all = append(all, member{name, node{doc: n.doc, v: m.Value, path: path, at: m.Name.StartOffset}})
	}
	return all
}

// elements gives what a list holds; nothing for another value.
func (n node) elements() []node {
	array, ok := n.v.Value.(*hujson.Array)
	if !ok {
		return nil
	}
	all := make([]node, 0, len(array.Elements))
	for i, e := range array.Elements {
		all = append(all, node{doc: n.doc, v: e, path: fmt.Sprintf("%s[%d]", n.path, i), at: e.StartOffset})
	}
	return all
}

// get finds a value by its names.
func (n node) get(names ...string) (node, bool) {
	for _, name := range names {
		found := false
		for _, m := range n.members() {
			if m.name == name {
				n, found = m.value, true
			}
		}
		if !found {
			return node{}, false
		}
	}
	return n, true
}

func (n node) has(name string) bool { _, ok := n.get(name); return ok }

func (n node) isObject() bool { _, ok := n.v.Value.(*hujson.Object); return ok }
func (n node) isList() bool   { _, ok := n.v.Value.(*hujson.Array); return ok }

func (n node) text() (string, bool) {
	l, ok := n.v.Value.(hujson.Literal)
	if !ok || l.Kind() != '"' {
		return "", false
	}
	return l.String(), true
}

func (n node) boolean() (value, ok bool) {
	l, isLiteral := n.v.Value.(hujson.Literal)
	if !isLiteral || l.Kind() != 't' && l.Kind() != 'f' {
		return false, false
	}
	return l.Bool(), true
}

// off reports a value that asks for nothing: none, false, null, an empty list, object or text.
func (n node) off() bool {
	if n.v.Value == nil {
		return true
	}
	if b, ok := n.boolean(); ok {
		return !b
	}
	if s, ok := n.text(); ok {
		return s == ""
	}
	if n.isList() || n.isObject() {
		return len(n.elements()) == 0 && len(n.members()) == 0
	}
	l, ok := n.v.Value.(hujson.Literal)
	return ok && l.Kind() == 'n'
}

// position is "FILE:LINE:COL".
func (n node) position() string {
	line, col := n.doc.place(n.at)
	return fmt.Sprintf("%s:%d:%d", clean(n.doc.file), line, col)
}
