package site

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/yuin/goldmark/ast"
)

// anchors gives the headings of one page their anchors.
type anchors struct{ used map[string]bool }

// Generate makes an anchor of a heading's text, as GitHub does.
func (a *anchors) Generate(value []byte, _ ast.NodeKind) []byte {
	name := Anchor(string(value))
	for i := 1; a.used[name]; i++ {
		name = Anchor(string(value)) + "-" + strconv.Itoa(i)
	}
	a.Put([]byte(name))
	return []byte(name)
}

// Put notes an anchor that is taken.
func (a *anchors) Put(value []byte) {
	if a.used == nil {
		a.used = map[string]bool{}
	}
	a.used[string(value)] = true
}

// Anchor is what GitHub makes of a heading: lower case, letters, digits, hyphens and underscores; spaces become hyphens.
func Anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		}
		return -1
	}, strings.TrimSpace(heading))
}
