package tui

import (
	"fmt"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// Escaped gives what somebody else chose (a name, a line of a file) as it may stand on a terminal: whatever would move the
// cursor, change colours, reorder text or take no room of its own is written out, as a program would write it.
func Escaped(s string) string {
	var b strings.Builder
	for piece := range pieces(s) {
		b.WriteString(piece)
	}
	return b.String()
}

// pieces takes s apart into what is shown of it, rune by rune, and says of each whether it is written out.
func pieces(s string) iter.Seq2[string, bool] {
	return func(yield func(string, bool) bool) {
		marks := 0
		for i := 0; i < len(s); {
			r, size := utf8.DecodeRuneInString(s[i:])
			marks++
			if !unicode.Is(unicode.M, r) {
				marks = 0
			}
			piece, odd := shown(r, s[i:i+size], marks)
			if !yield(piece, odd) {
				return
			}
			i += size
		}
	}
}

const (
	tab      = "    "
	maxMarks = 2 // on one letter; more of them climb over the lines around it
)

// shown gives one rune as it is shown; raw are its bytes, marks how many marks in a row it ends.
func shown(r rune, raw string, marks int) (piece string, odd bool) {
	switch {
	case r == utf8.RuneError && len(raw) == 1:
		return fmt.Sprintf("\\x%02x", raw[0]), true
	case r == '\t':
		return tab, false
	case !unicode.IsPrint(r), unseen(r), marks > maxMarks:
		return fmt.Sprintf("\\u%04x", r), true
	}
	return raw, false
}

// unseen are letters and marks that Unicode calls printable and nobody sees: fillers, blanks, variation selectors.
func unseen(r rune) bool {
	switch {
	case r == 0x034f, r == 0x115f, r == 0x1160, r == 0x17b4, r == 0x17b5, r == 0x2800, r == 0x3164, r == 0xffa0:
		return true
	case 0x180b <= r && r <= 0x180f, 0xfe00 <= r && r <= 0xfe0f, 0xe0100 <= r && r <= 0xe01ef:
		return true
	}
	return false
}

// maxCells bounds what is shown of one line. What is left out is counted where it would stand: nothing is hidden silently.
const maxCells = 4000

// wrapped is s on rows of a width, in a style; what is written out stands out in it.
func wrapped(p paint, st style, s string, width int) []string {
	width = max(width, 1)
	w := wrapper{paint: p, style: st, width: width}
	cells := 0
	for piece, odd := range pieces(s) {
		n := ansi.StringWidth(piece)
		if cells += n; cells > maxCells {
			w.put(fmt.Sprintf("… %d bytes in this line, not all shown", len(s)), true)
			break
		}
		w.add(piece, n, odd)
	}
	return w.done()
}

// wrapper fills rows.
type wrapper struct {
	paint
	style style
	width int
	rows  []string
	row   strings.Builder
	used  int
	odd   bool // what is being written stands out
}

// put adds text letter by letter.
func (w *wrapper) put(text string, odd bool) {
	for _, r := range text {
		w.add(string(r), ansi.StringWidth(string(r)), odd)
	}
}

// add adds a piece, which is broken only where no row could hold it.
func (w *wrapper) add(piece string, cells int, odd bool) {
	if cells > w.width && len(piece) == cells { // written out, or a tab
		w.put(piece, odd)
		return
	}
	if w.used+cells > w.width {
		w.next()
	}
	if w.row.Len() == 0 {
		w.row.WriteString(w.open(w.style))
		w.odd = false
	}
	if odd != w.odd {
		w.row.WriteString(w.mark(odd))
		w.odd = odd
	}
	w.row.WriteString(piece)
	w.used += cells
}

func (w *wrapper) next() {
	if w.row.Len() > 0 {
		w.row.WriteString(reset)
	}
	w.rows = append(w.rows, w.row.String())
	w.row.Reset()
	w.used = 0
}

func (w *wrapper) done() []string {
	if w.used > 0 || len(w.rows) == 0 {
		w.next()
	}
	return w.rows
}

// fit gives s in exactly so many cells. Where it is too long its beginning goes: the end of a path tells more.
func fit(s string, width int) string {
	s = Escaped(s)
	if n := ansi.StringWidth(s); n > width {
		if width < 2 {
			return strings.Repeat(" ", max(width, 0))
		}
		whole := s
		for cut := n - width + 1; ansi.StringWidth(s) > width; cut++ { // half of a wide letter stays whole
			s = ansi.TruncateLeft(whole, cut, "…")
		}
	}
	return s + strings.Repeat(" ", max(width-ansi.StringWidth(s), 0))
}

// clip cuts s, which is ours or escaped already, and may carry styles, at the end.
func clip(s string, width int) string { return ansi.Truncate(s, max(width, 0), "") }

// pad clips and fills up.
func pad(s string, width int) string {
	s = clip(s, width)
	return s + strings.Repeat(" ", max(width-ansi.StringWidth(s), 0))
}
