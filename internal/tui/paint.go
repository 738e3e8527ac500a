package tui

// style is how text looks.
type style int

const (
	plain style = iota
	strong
	faint
	added
	removed
	section
	warning
	cursor
)

// reset ends every style.
const reset = "\x1b[0m"

// paint gives styles as a terminal takes them. Without colour they are bold, faint and reversed only.
type paint struct{ colour bool }

func (p paint) open(s style) string {
	if !p.colour {
		return [...]string{"", "\x1b[1m", "", "", "", "", "\x1b[1m", "\x1b[7m"}[s]
	}
	return [...]string{"", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[36m", "\x1b[1;33m", "\x1b[7m"}[s]
}

// in gives text in a style.
func (p paint) in(s style, text string) string {
	open := p.open(s)
	if open == "" || text == "" {
		return text
	}
	return open + text + reset
}

// mark begins, or ends, what stands out within a style.
func (p paint) mark(begin bool) string {
	if begin {
		return "\x1b[7m"
	}
	return "\x1b[27m"
}
