package profiles

import (
	"bytes"
	"strconv"
	"strings"
)

// span says where a key and its value begin. A table's value is its key.
type span struct{ key, value int }

// where maps the path of each key ("network", "rule", "[0]", "host", joined by NUL) to its place.
type where map[string]span

func pathKey(path []string) string { return strings.Join(path, "\x00") }

// locate finds every key of a document that is known to be valid TOML. On anything else it stops early and never
// panics: a missing place is then shown as the start of the nearest table.
func locate(data []byte) where {
	s := scanner{data: data, at: where{}, arrays: map[string]int{}}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		s.pos = 3
	}
	for s.blank(); s.pos < len(s.data); s.blank() {
		start := s.pos
		if s.data[s.pos] == '[' {
			s.header()
		} else {
			s.pair(s.table)
		}
		s.line()
		if s.pos == start {
			break
		}
	}
	return s.at
}

type scanner struct {
	data   []byte
	pos    int
	table  []string
	at     where
	arrays map[string]int // elements seen of each array of tables
}

func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

// blank skips white space, newlines and comments.
func (s *scanner) blank() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		case '#':
			s.line()
		default:
			return
		}
	}
}

// line skips to the end of the line.
func (s *scanner) line() {
	if i := bytes.IndexByte(s.data[s.pos:], '\n'); i >= 0 {
		s.pos += i + 1
		return
	}
	s.pos = len(s.data)
}

func (s *scanner) spaces() {
	for s.peek() == ' ' || s.peek() == '\t' {
		s.pos++
	}
}

// header reads [a.b] or [[a.b]].
func (s *scanner) header() {
	start := s.pos
	s.pos++
	array := s.peek() == '['
	if array {
		s.pos++
	}
	var path []string
	parts := s.key()
	for i, part := range parts {
		path = append(path, part)
		count := s.arrays[pathKey(path)]
		if array && i == len(parts)-1 {
			s.mark(path, start, start)
			s.arrays[pathKey(path)] = count + 1
			path = append(path, index(count))
		} else if count > 0 {
			path = append(path, index(count-1))
		}
	}
	s.mark(path, start, start)
	s.table = path
}

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }

// mark keeps the first place of a path, and the places of tables that only its dots name.
func (s *scanner) mark(path []string, key, value int) {
	for n := 1; n <= len(path); n++ {
		k := pathKey(path[:n])
		if _, ok := s.at[k]; !ok {
			s.at[k] = span{key, value}
		}
	}
}

// maxDepth bounds the work that a hostile key makes; the format is four deep.
const maxDepth = 32

// pair reads key = value below path.
func (s *scanner) pair(path []string) {
	start := s.pos
	full := append(append([]string{}, path...), s.key()...)
	s.spaces()
	if s.peek() != '=' {
		s.pos = len(s.data)
		return
	}
	s.pos++
	s.spaces()
	s.mark(full, start, s.pos)
	s.value(full)
}

// key reads a dotted key.
func (s *scanner) key() (parts []string) {
	for {
		s.spaces()
		parts = append(parts, s.part())
		s.spaces()
		if s.peek() != '.' || len(parts) == maxDepth {
			return parts
		}
		s.pos++
	}
}

func (s *scanner) part() string {
	if c := s.peek(); c == '"' || c == '\'' {
		start := s.pos
		s.text()
		raw := string(s.data[start:s.pos])
		if c == '"' {
			if v, err := strconv.Unquote(raw); err == nil {
				return v
			}
		}
		return strings.Trim(raw, string(c))
	}
	start := s.pos
	for s.pos < len(s.data) && !strings.ContainsRune(" \t\r\n.=[]{},\"'#", rune(s.data[s.pos])) {
		s.pos++
	}
	return string(s.data[start:s.pos])
}

func (s *scanner) value(path []string) {
	if len(path) > 2*maxDepth {
		s.pos = len(s.data)
		return
	}
	switch s.peek() {
	case '"', '\'':
		s.text()
	case '[':
		s.list(']', func(i int) {
			element := append(append([]string{}, path...), index(i))
			s.mark(element, s.pos, s.pos)
			s.value(element)
		})
	case '{':
		s.list('}', func(int) { s.pair(path) })
	default:
		for s.pos < len(s.data) && !strings.ContainsRune(" \t\r\n,]}#", rune(s.data[s.pos])) {
			s.pos++
		}
	}
}

// list reads elements up to the closing bracket.
func (s *scanner) list(end byte, element func(i int)) {
	s.pos++
	for i := 0; ; i++ {
		for s.blank(); s.peek() == ','; s.blank() {
			s.pos++
		}
		if s.pos >= len(s.data) {
			return
		}
		if s.peek() == end {
			s.pos++
			return
		}
		start := s.pos
		element(i)
		if s.pos == start {
			s.pos = len(s.data)
		}
	}
}

// text skips a string of any of the four kinds.
func (s *scanner) text() {
	quote := s.data[s.pos]
	mark := []byte{quote}
	if triple := bytes.Repeat(mark, 3); bytes.HasPrefix(s.data[s.pos:], triple) {
		mark = triple
	}
	s.pos += len(mark)
	for s.pos < len(s.data) && !bytes.HasPrefix(s.data[s.pos:], mark) {
		if quote == '"' && s.data[s.pos] == '\\' {
			s.pos++
		}
		s.pos++
	}
	s.pos = min(s.pos+len(mark), len(s.data))
	for len(mark) == 3 && s.peek() == quote { // up to two quotes may stand before the closing three
		s.pos++
	}
}
