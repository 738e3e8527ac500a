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
	Text    string
	Snippet string // the source line, made printable
	Hint    string // what to do, or ""
}

// Error gives the place, the text, the source line with a mark, and the hint, without a final newline.
func (p Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: %s", p.File, p.Line, p.Col, p.Text)
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

// Problems is everything that is wrong with a file, in the file's order. It is never empty when it is an error.
type Problems []Problem

func (ps Problems) Error() string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.Error()
	}
	return strings.Join(texts, "\n")
}

func (ps Problems) sorted() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), cmp.Compare(a.Text, b.Text))
	})
	return ps
}

// problem makes the Problem at a byte offset of data.
func problem(file string, data []byte, offset int, text, hint string) Problem {
	offset = max(0, min(offset, len(data)))
	start := strings.LastIndexByte(string(data[:offset]), '\n') + 1
	end := len(data)
	if i := strings.IndexByte(string(data[offset:]), '\n'); i >= 0 {
		end = offset + i
	}
	return Problem{
		File: file, Line: strings.Count(string(data[:start]), "\n") + 1, Col: utf8.RuneCount(data[start:offset]) + 1,
		Text: text, Snippet: printable(strings.TrimRight(string(data[start:end]), "\r")), Hint: hint,
	}
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
