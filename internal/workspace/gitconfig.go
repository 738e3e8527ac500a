package workspace

import (
	"bytes"
	"fmt"
	"strings"
)

// entry is one variable of a git configuration file, in the file's order.
type entry struct {
	section string // lower case; "" before the first section of a file
	sub     string // as written; lower case in the old form [section.sub]
	hasSub  bool
	key     string // lower case
	value   string
	bare    bool // no "=": true for a boolean, an error for anything else
}

// name is the variable as `git config --list` prints it.
func (e entry) name() string {
	if e.hasSub {
		return e.section + "." + e.sub + "." + e.key
	}
	if e.section == "" {
		return e.key
	}
	return e.section + "." + e.key
}

// configParser reads git's format byte by byte, as git does, so that no spelling means one thing to git and
// another to us.
type configParser struct {
	data []byte
	pos  int
	line int
	cur  entry // section and sub of the section that holds now
}

const eof = -1

// next gives the next byte with CR LF read as LF, or eof.
func (p *configParser) next() int {
	if p.pos >= len(p.data) {
		p.pos++
		return eof
	}
	c := p.data[p.pos]
	p.pos++
	if c == '\r' && p.pos < len(p.data) && p.data[p.pos] == '\n' {
		c = '\n'
		p.pos++
	}
	if c == '\n' {
		p.line++
	}
	return int(c)
}

func (p *configParser) bad() error { return fmt.Errorf("bad config line %d", p.line) }

// parseConfig reads a git configuration. A file that git would refuse is an error here too.
func parseConfig(data []byte) ([]entry, error) {
	p := &configParser{data: bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), line: 1}
	if bytes.IndexByte(data, 0) >= 0 {
		return nil, fmt.Errorf("a zero byte in a git configuration")
	}
	var out []entry
	for {
		c := p.next()
		switch {
		case c == eof:
			return out, nil
		case isSpace(c):
		case c == '#' || c == ';':
			p.skipLine()
		case c == '[':
			if err := p.header(); err != nil {
				return nil, err
			}
		case isAlpha(c):
			e, err := p.variable(c)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		default:
			return nil, p.bad()
		}
	}
}

func (p *configParser) skipLine() {
	for c := p.next(); c != '\n' && c != eof; c = p.next() {
	}
}

// header reads a section's name after "[".
func (p *configParser) header() error {
	var name strings.Builder
	for {
		c := p.next()
		switch {
		case c == ']':
			if name.Len() == 0 {
				return p.bad()
			}
			p.begin(name.String(), "", false)
			return nil
		case c == ' ' || c == '\t':
			sub, err := p.subsection()
			if err != nil {
				return err
			}
			p.begin(name.String(), sub, true)
			return nil
		case isAlpha(c) || isDigit(c) || c == '-' || c == '.':
			name.WriteByte(lower(c))
		default:
			return p.bad()
		}
	}
}

// begin splits a name at its first dot, as git splits the whole variable's name.
func (p *configParser) begin(name, sub string, hasSub bool) {
	section, rest, dotted := strings.Cut(name, ".")
	if dotted && hasSub {
		sub = rest + "." + sub
	} else if dotted {
		sub = rest
	}
	p.cur = entry{section: section, sub: sub, hasSub: dotted || hasSub}
}

// subsection reads `"name"]`.
func (p *configParser) subsection() (string, error) {
	c := p.next()
	for c == ' ' || c == '\t' {
		c = p.next()
	}
	if c != '"' {
		return "", p.bad()
	}
	var sub strings.Builder
	for {
		c = p.next()
		if c == '"' {
			break
		}
		if c == '\\' {
			c = p.next()
		}
		if c == '\n' || c == eof {
			return "", p.bad()
		}
		sub.WriteByte(byte(c))
	}
	if p.next() != ']' {
		return "", p.bad()
	}
	return sub.String(), nil
}

// variable reads "key", "key =" or "key = value", whose first letter is c.
func (p *configParser) variable(c int) (entry, error) {
	e := p.cur
	var key strings.Builder
	for isAlpha(c) || isDigit(c) || c == '-' {
		key.WriteByte(lower(c))
		c = p.next()
	}
	e.key = key.String()
	for c == ' ' || c == '\t' {
		c = p.next()
	}
	if c == '\n' || c == eof {
		e.bare = true
		return e, nil
	}
	if c != '=' {
		return e, p.bad()
	}
	value, err := p.value()
	e.value = value
	return e, err
}

// value reads the rest of a variable: quotes, escapes, continued lines, a comment at the end.
func (p *configParser) value() (string, error) {
	var out []byte
	trim := 0 // length of out up to its last byte that is not unquoted space
	quoted, comment := false, false
	for {
		c := p.next()
		switch {
		case c == '\n' || c == eof:
			if quoted {
				return "", p.bad()
			}
			return string(out[:trim]), nil
		case comment:
			continue
		case isSpace(c) && !quoted:
			if trim > 0 {
				out = append(out, byte(c))
			}
			continue
		case !quoted && (c == ';' || c == '#'):
			comment = true
			continue
		case c == '"':
			quoted = !quoted
		case c == '\\':
			e, skip, err := p.escape()
			if err != nil {
				return "", err
			}
			if skip {
				continue
			}
			out = append(out, e)
		default:
			out = append(out, byte(c))
		}
		trim = len(out)
	}
}

// escape reads what follows a backslash; skip is true for a continued line.
func (p *configParser) escape() (b byte, skip bool, err error) {
	switch c := p.next(); c {
	case '\n', eof:
		return 0, true, nil
	case 't':
		return '\t', false, nil
	case 'b':
		return '\b', false, nil
	case 'n':
		return '\n', false, nil
	case '\\', '"':
		return byte(c), false, nil
	default:
		return 0, false, p.bad()
	}
}

// formatConfig writes entries so that git reads exactly them.
func formatConfig(entries []entry) []byte {
	var b bytes.Buffer
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\b", `\b`)
	subQuote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	last := ""
	for _, e := range entries {
		head := "[" + e.section + "]"
		if e.section == "" && !e.hasSub {
			head = ""
		}
		if e.hasSub {
			head = "[" + e.section + ` "` + subQuote.Replace(e.sub) + `"]`
		}
		if head != last {
			fmt.Fprintln(&b, head)
			last = head
		}
		if e.bare {
			fmt.Fprintf(&b, "\t%s\n", e.key)
			continue
		}
		fmt.Fprintf(&b, "\t%s = \"%s\"\n", e.key, quote.Replace(e.value))
	}
	return b.Bytes()
}

func isSpace(c int) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
func isDigit(c int) bool { return c >= '0' && c <= '9' }
func isAlpha(c int) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func lower(c int) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return byte(c)
}
