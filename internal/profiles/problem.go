package profiles

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Problem is one mistake in a file. Line and Col count from 1; Col counts characters.
type Problem struct {
	File    string
	Line    int
	Col     int
	Code    string // which mistake, stable, one of Codes
	Warning bool   // it keeps nothing from being run
	Text    string
	Snippet string // the source line, made printable
	Hint    string // what to do, or ""
}

// Error gives the place, the text, the source line with a mark, and the hint, without a final newline.
func (p Problem) Error() string {
	var b strings.Builder
	word := ""
	if p.Warning {
		word = "warning: "
	}
	fmt.Fprintf(&b, "%s:%d:%d: %s%s", p.File, p.Line, p.Col, word, p.Text)
	if snippet, mark := window(p.Snippet, p.Col); snippet != "" {
		fmt.Fprintf(&b, "\n%6d | %s\n       | %s^", p.Line, snippet, strings.Repeat(" ", mark))
	}
	if p.Hint != "" {
		fmt.Fprintf(&b, "\n  hint: %s", p.Hint)
	}
	return b.String()
}

// window cuts a long line to what stands around the column.
func window(s string, col int) (string, int) {
	const before, width = 60, 110
	runes := []rune(s)
	start := max(0, min(col-1, len(runes))-before)
	mark := min(col-1, len(runes)) - start
	return string(runes[start:min(len(runes), start+width)]), mark
}

// Problems is everything that is wrong with the files of a profile, file by file, each in its order. It is never empty
// when it is an error; warnings are in it too.
type Problems []Problem

func (ps Problems) Error() string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.Error()
	}
	return strings.Join(texts, "\n")
}

// failed reports whether any is more than a warning.
func (ps Problems) failed() bool {
	return slices.ContainsFunc(ps, func(p Problem) bool { return !p.Warning })
}

// sort orders by file, as files names them, and place, and drops what is said twice.
func (ps Problems) sort(files []string) Problems {
	rank := map[string]int{}
	for i, f := range files {
		if _, ok := rank[f]; !ok {
			rank[f] = i
		}
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(rank[a.File], rank[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(ps)
}

// printable keeps a file's bytes from redrawing the screen; each character stays one character.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '\uFFFD'
		}
		return r
	}, s)
}

// nearest finds the word that s was most likely meant to be, or "".
func nearest(s string, words []string) string {
	if len(s) > 100 {
		return "" // no word is like it, and comparing takes long
	}
	best, least := "", 1+max(1, len(s)/3)
	for _, w := range words {
		if d := distance(strings.ToLower(s), w); d < least {
			best, least = w, d
		}
	}
	return best
}

// distance is Levenshtein's, with a swap of neighbours as one step.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range y {
		rows[0][j+1] = j + 1
	}
	for i := range x {
		for j := range y {
			step := rows[i][j]
			if x[i] != y[j] {
				step++
			}
			d := min(step, rows[i][j+1]+1, rows[i+1][j]+1)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				d = min(d, rows[i-1][j-1]+1)
			}
			rows[i+1][j+1] = d
		}
	}
	return rows[len(x)][len(y)]
}
