package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	maxPath        = 4096 // bytes of a path in normal form, its escapes decoded
	maxPathPattern = 500  // bytes of a pattern as written
)

// Paths and patterns are compared in units: a path's bytes with its escapes decoded, so that "/%61" is "/a" and "%2f"
// is "%2F". Control characters are in no path in normal form, so they are free to stand for what is not a plain byte.
const (
	unitSlash = 0x00 // %2F, which is no separator
	unitBack  = 0x01 // %5C, neither
	unitStar  = 0x02 // "*", in patterns only
	unitStars = 0x03 // "**", in patterns only
)

// PathPattern names paths of requests in normal form (see PathFlaw), "/api/**": "*" is any run of characters within a
// segment, "**" any run at all, and either may be empty; nothing else is special. So "/api/**" names "/api/" and
// "/api/x/y" but not "/api", and "/**/x" does not name "/x". An escaped slash or backslash (%2F, %5C) is named by
// itself or by "**", never by "/" or "*". %2A is a star that means itself. Case matters, and so does a slash at the
// end. The zero value matches nothing.
//
// Rules that deny or ask read a pattern more widely, because servers differ in what they take for a slash: there "/",
// %2F and %5C all name each other, and "*" names the escaped ones too.
type PathPattern struct{ text, units string }

// ParsePathPattern reads a pattern, or says why it is none: every pattern is written in one way only, so escapes are
// in upper case and stand only where they are needed, and what is in no path in normal form is in no pattern.
func ParsePathPattern(s string) (PathPattern, error) {
	switch {
	case s == "":
		return PathPattern{}, errors.New("a path is empty")
	case len(s) > maxPathPattern:
		return PathPattern{}, fmt.Errorf("a path is longer than %d bytes", maxPathPattern)
	case s[0] != '/':
		return PathPattern{}, fmt.Errorf(`path %q does not begin with "/"`, s)
	}
	var buf [maxPathPattern]byte
	units := buf[:0]
	for rest := s; rest != ""; {
		unit, width, err := patternUnit(rest)
		if err != nil {
			return PathPattern{}, fmt.Errorf("path %q %w", s, err)
		}
		units = append(units, unit)
		rest = rest[width:]
	}
	if flaw := flawOf(units); flaw != "" {
		return PathPattern{}, fmt.Errorf("path %q %s", s, flaw)
	}
	return PathPattern{text: s, units: string(units)}, nil
}

// patternUnit reads one unit at the beginning of s, which is not empty, and gives the bytes it took.
func patternUnit(s string) (unit byte, width int, err error) {
	switch c := s[0]; {
	case strings.HasPrefix(s, "***"):
		return 0, 0, errors.New(`has more than two "*" in a row`)
	case strings.HasPrefix(s, "**"):
		return unitStars, 2, nil
	case c == '*':
		return unitStar, 1, nil
	case c == '%':
		return patternEscape(s)
	case c == '?' || c == '#':
		return 0, 0, fmt.Errorf("holds %q: queries and fragments are no part of a path", c)
	case c == ';' || c == '\\':
		return 0, 0, fmt.Errorf("holds %q, which no path in normal form does", c)
	case !isPlain(c):
		return 0, 0, errors.New("holds a character that has to be escaped (%20 is a space)")
	default:
		return c, 1, nil
	}
}

func patternEscape(s string) (unit byte, width int, err error) {
	c, ok := unescape(s)
	switch {
	case !ok:
		return 0, 0, errors.New(`has "%" without two hexadecimal digits after it: write %25 for the character itself`)
	case strings.ToUpper(s[:3]) != s[:3]:
		return 0, 0, fmt.Errorf("has an escape in lower case: write %s", strings.ToUpper(s[:3]))
	case c == '*':
		return c, 3, nil
	case isPlain(c) && c != '/':
		return 0, 0, fmt.Errorf("escapes what needs no escape: write %c for %s", c, s[:3])
	}
	unit, flaw := unitOf(c)
	if flaw != "" {
		return 0, 0, errors.New(flaw)
	}
	return unit, 3, nil
}

// Match reports whether p names a path, escaped as in a request line. What is not in normal form has no name.
func (p PathPattern) Match(path string) bool {
	var buf [maxPath]byte
	units, flaw := normalPath(buf[:0], path)
	return flaw == "" && matchUnits(p.units, units, false)
}

// String is the pattern as written.
func (p PathPattern) String() string { return p.text }

// MarshalText gives the pattern as written.
func (p PathPattern) MarshalText() ([]byte, error) { return []byte(p.text), nil }

// UnmarshalText parses like ParsePathPattern.
func (p *PathPattern) UnmarshalText(text []byte) error {
	parsed, err := ParsePathPattern(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}

// CanonicalPath reports whether an escaped path, as in a request line, is in normal form.
func CanonicalPath(escaped string) bool { return PathFlaw(escaped) == "" }

// PathFlaw says why an escaped path is not in normal form, as the end of a sentence that begins with "the path", or
// gives "". In normal form every server reads a path in the same way: it begins with "/"; no segment but the last is
// empty, and none is "." or "..", however they are spelled and with %2F and %5C taken for slashes too; there is no
// backslash, no ";" however spelled, no control character, nothing escaped twice (%2561), nothing that is not UTF-8,
// nothing unescaped that has to be escaped; and it is at most 4096 bytes long.
func PathFlaw(escaped string) string {
	var buf [maxPath]byte
	_, flaw := normalPath(buf[:0], escaped)
	return flaw
}

// normalPath appends the units of an escaped path to dst, which has room for maxPath, or says what keeps it from its
// normal form.
func normalPath(dst []byte, escaped string) (units []byte, flaw string) {
	if escaped == "" || escaped[0] != '/' {
		return nil, `does not begin with "/"`
	}
	for i := 0; i < len(escaped); i++ {
		if len(dst) == maxPath {
			return nil, "is longer than 4096 bytes"
		}
		unit := escaped[i]
		switch {
		case unit == '%':
			c, ok := unescape(escaped[i:])
			if !ok {
				return nil, `has "%" without two hexadecimal digits after it`
			}
			if unit, flaw = unitOf(c); flaw != "" {
				return nil, flaw
			}
			i += 2
		case !isPlain(unit):
			return nil, rawFlaw(unit)
		}
		dst = append(dst, unit)
	}
	return dst, flawOf(dst)
}

func rawFlaw(c byte) string {
	switch {
	case c == ';':
		return `holds ";"`
	case c == '\\':
		return "holds a backslash"
	case c < ' ' || c == 0x7f:
		return "holds a control character"
	}
	return "holds a character that has to be escaped"
}

// unitOf is the unit of an escaped byte.
func unitOf(c byte) (unit byte, flaw string) {
	switch {
	case c == '/':
		return unitSlash, ""
	case c == '\\':
		return unitBack, ""
	case c == ';':
		return 0, `holds ";"`
	case c < ' ' || c == 0x7f:
		return 0, "holds a control character"
	}
	return c, ""
}

// flawOf holds units, of a path or of a pattern, against what spans several of them.
func flawOf(units []byte) string {
	begin, ascii := 1, true
	for i, unit := range units {
		if unit > '/' && unit != '%' && unit < utf8.RuneSelf && (i < 2 || units[i-2] != '%') {
			continue // by far the most
		}
		ascii = ascii && unit < utf8.RuneSelf
		if i >= 2 && units[i-2] == '%' && isHex(units[i-1]) && isHex(unit) {
			return "has an escape of an escape"
		}
		if i == 0 || !isSeparator(unit) {
			continue
		}
		if i == begin {
			return "has an empty segment"
		}
		if isDots(units[begin:i]) {
			return `has a segment "." or ".."`
		}
		begin = i + 1
	}
	switch {
	case isDots(units[begin:]):
		return `has a segment "." or ".."`
	case !ascii && !utf8.Valid(units):
		return "is not UTF-8"
	}
	return ""
}

func isSeparator(unit byte) bool { return unit == '/' || unit <= unitBack }

func isDots(segment []byte) bool {
	return len(segment) == 1 && segment[0] == '.' || len(segment) == 2 && segment[0] == '.' && segment[1] == '.'
}

// isPlain reports whether c stands in an escaped path as it is.
func isPlain(c byte) bool { return plain[c] }

// plain is the characters of isPlain. The brackets are there because programs send them so.
var plain = func() (out [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-._~!$&'()*+,=:@[]") {
		out[c] = true
	}
	return out
}()

// unescape reads the "%XX" at the beginning of s.
func unescape(s string) (byte, bool) {
	if len(s) < 3 || !isHex(s[1]) || !isHex(s[2]) {
		return 0, false
	}
	return hexValue(s[1])<<4 | hexValue(s[2]), true
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
