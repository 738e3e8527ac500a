package learn

import (
	"fmt"
	"strings"
)

// context is how many lines around a change a diff shows.
const context = 3

// maxCompared bounds the table in which lines are compared; what is larger is shown as one change.
const maxCompared = 4 << 20

// Unified is the unified diff between two texts of a file; old is its name before, "/dev/null" when it is new.
func Unified(old, now string, before, after string) string {
	if before == after {
		return ""
	}
	edits := compare(lines(before), lines(after))
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", old, now)
	for start := 0; start < len(edits); {
		start = next(edits, start)
		if start == len(edits) {
			break
		}
		end := hunkEnd(edits, start)
		from, to := max(0, start-context), min(len(edits), end+context)
		hunk(&b, edits, from, to)
		start = to
	}
	return b.String()
}

// edit is one line: kept (' '), taken away ('-') or added ('+').
type edit struct {
	what byte
	line string
}

func lines(text string) []string {
	all := strings.SplitAfter(text, "\n")
	if all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	return all
}

// compare finds what became of each line.
func compare(a, b []string) (edits []edit) {
	var head, tail []edit
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head = append(head, edit{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append([]edit{{' ', a[len(a)-1]}}, tail...)
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return append(append(head, middle(a, b)...), tail...)
}

// middle compares by the longest common subsequence, where its table is small enough.
func middle(a, b []string) (edits []edit) {
	width := len(b) + 1
	if len(a) == 0 || len(b) == 0 || (len(a)+1)*width > maxCompared {
		return append(all('-', a), all('+', b)...)
	}
	most := make([]int32, (len(a)+1)*width)
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				most[i*width+j] = most[(i+1)*width+j+1] + 1
			} else {
				most[i*width+j] = max(most[(i+1)*width+j], most[i*width+j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		switch {
		case a[i] == b[j]:
			edits = append(edits, edit{' ', a[i]})
			i, j = i+1, j+1
		case most[(i+1)*width+j] >= most[i*width+j+1]:
			edits = append(edits, edit{'-', a[i]})
			i++
		default:
			edits = append(edits, edit{'+', b[j]})
			j++
		}
	}
	return append(append(edits, all('-', a[i:])...), all('+', b[j:])...)
}

func all(what byte, lines []string) (edits []edit) {
	for _, line := range lines {
		edits = append(edits, edit{what, line})
	}
	return edits
}

// next is the place of the first change from start on.
func next(edits []edit, start int) int {
	for start < len(edits) && edits[start].what == ' ' {
		start++
	}
	return start
}

// hunkEnd is behind the last change that is near enough to those before it.
func hunkEnd(edits []edit, start int) int {
	end := start
	for at := start; at < len(edits) && at <= end+2*context; at++ {
		if edits[at].what != ' ' {
			end = at + 1
		}
	}
	return end
}

func hunk(b *strings.Builder, edits []edit, from, to int) {
	oldAt, newAt := 0, 0
	for _, e := range edits[:from] {
		if e.what != '+' {
			oldAt++
		}
		if e.what != '-' {
			newAt++
		}
	}
	olds, news := 0, 0
	for _, e := range edits[from:to] {
		if e.what != '+' {
			olds++
		}
		if e.what != '-' {
			news++
		}
	}
	fmt.Fprintf(b, "@@ -%s +%s @@\n", span(oldAt, olds), span(newAt, news))
	for _, e := range edits[from:to] {
		b.WriteByte(e.what)
		b.WriteString(e.line)
		if !strings.HasSuffix(e.line, "\n") {
			b.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

// span is where lines are, from 1; of none it is the line before.
func span(at, n int) string {
	if n > 0 {
		at++
	}
	return fmt.Sprintf("%d,%d", at, n)
}
