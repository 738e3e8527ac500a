package tui

import (
	"fmt"
	"slices"
	"strings"

	"agentbox/internal/changes"
)

// line is a line of the right side before it is put on rows.
type line struct {
	hunk  int // index, -1 above the first
	style style
	sign  string // "+", "-", " "; "" for what is ours
	text  string // as the agent wrote it
}

// pos is a place in a pane: a line, and the row of it where it takes several.
type pos struct{ line, row int }

// pane is the right side: one change's text. Lines are put on rows when they are seen.
type pane struct {
	path    string // of the change whose lines these are; "" for none yet
	mark    string // of what they are, or of what is being loaded
	lines   []line
	heads   []int    // the line of each hunk's header
	ids     []string // of the hunks
	loading bool
	jumps   bool // the person wanted the first hunk before there was one
	width   int
	at, top pos
}

// gutter is the room left of the text: the cursor, and the mark of a hunk.
const gutter = 2

// waiting is a pane before its text is there.
func waiting(it *item) pane {
	return pane{path: it.Path, mark: it.Mark, loading: true, lines: about(it)}
}

// loaded is a pane with its text, or with why there is none.
func loaded(it *item, text changes.Text, err error) pane {
	p := pane{path: it.Path, mark: it.Mark, lines: about(it)}
	switch {
	case err != nil:
		p.lines = append(p.lines, line{-1, warning, "", "showing the difference: " + err.Error()})
	case len(text.Hunks) == 0:
		p.lines = append(p.lines, line{-1, faint, "", nothingToShow(it, text)})
	}
	for i, h := range text.Hunks {
		p.heads, p.ids = append(p.heads, len(p.lines)), append(p.ids, h.ID)
		p.lines = append(p.lines, line{i, section, "", header(h)})
		for _, l := range h.Lines {
			p.lines = append(p.lines, hunkLines(i, l)...)
		}
	}
	return p
}

// stay puts the cursor and what is seen where they were in the lines before.
func (p *pane) stay(old pane) {
	p.width = old.width
	last := max(len(p.lines)-1, 0)
	keep := func(at pos) pos {
		if at.line > last {
			return pos{last, 0}
		}
		return pos{at.line, min(at.row, p.rowsOf(at.line)-1)}
	}
	if p.width > 0 {
		p.at, p.top = keep(old.at), keep(old.top)
	}
}

// header is a hunk's line of numbers.
func header(h changes.Hunk) string {
	return fmt.Sprintf("@@ -%d,%d +%d,%d @@", h.OldStart, h.OldLines, h.NewStart, h.NewLines)
}

func hunkLines(i int, l changes.Line) []line {
	st := plain
	switch l.Op {
	case '+':
		st = added
	case '-':
		st = removed
	}
	lines := []line{{i, st, string(l.Op), l.Text}}
	if l.NoEOL {
		lines = append(lines, line{i, faint, "", "\\ no line feed at the end of the file"})
	}
	return lines
}

func nothingToShow(it *item, text changes.Text) string {
	switch {
	case it.Binary || text.Binary:
		return fmt.Sprintf("binary: %d bytes before, %d after", it.Before.Size, it.After.Size)
	case text.TooLarge:
		return fmt.Sprintf("too large to show: %d bytes before, %d after", it.Before.Size, it.After.Size)
	case it.After.Kind == changes.File || it.Before.Kind == changes.File:
		return "the contents are the same"
	}
	return ""
}

// about is what stands above the hunks: the whole name and all that is to be known.
func about(it *item) []line {
	lines := []line{{-1, strong, "", it.Path}}
	add := func(st style, text string) {
		if text != "" {
			lines = append(lines, line{-1, st, "", text})
		}
	}
	add(plain, kinds(it.Change))
	if it.Later != "" {
		add(warning, "would execute later: "+it.Later)
	}
	if it.since && !it.on {
		add(warning, "new, or changed since it was selected: left out until you select it")
	}
	if it.ChangedOutside {
		add(removed, "conflict: this file was changed here too; both are merged where they don't touch, else yours stays and the agent's is laid beside it")
	}
	if it.Fate != changes.Applies {
		add(warning, "never applied: "+it.Why)
	} else if it.Why != "" {
		add(warning, it.Why)
	}
	if it.After.Kind == changes.Link {
		add(plain, "link to "+it.After.Link)
	}
	return lines
}

// kinds says what became of a file, in words.
func kinds(c changes.Change) string {
	mode := ""
	if m := ModeChange(c); m != "" {
		mode = ", mode " + m
	}
	before, after := kind(c.Before.Kind), kind(c.After.Kind)
	switch Status(c) {
	case "A":
		return fmt.Sprintf("new %s, mode %04o%s", after, c.After.Mode.Perm(), strings.TrimPrefix(mode, ", mode"))
	case "D":
		return before + " removed"
	case "T":
		return fmt.Sprintf("was a %s, is a %s%s", before, after, mode)
	}
	return after + " changed" + mode
}

// kind is a kind of file in a word.
func kind(k changes.Kind) string {
	if k == changes.Dir {
		return "directory"
	}
	return string(k)
}

// hunk is the hunk under the cursor, or -1.
func (p *pane) hunk() int {
	if p.at.line >= len(p.lines) {
		return -1
	}
	return p.lines[p.at.line].hunk
}

// resize keeps the places valid at another width.
func (p *pane) resize(width int) {
	if width = max(width-gutter, 1); width != p.width {
		p.width = width
		p.at.row, p.top.row = 0, 0
	}
}

func (p *pane) rowsOf(i int) int { return len(p.draw(paint{}, i)) }

// draw is a line on its rows.
func (p *pane) draw(pt paint, i int) []string {
	l := p.lines[i]
	return wrapped(pt, l.style, l.sign+l.text, p.width)
}

// step gives the place n rows on, or the last there is.
func (p *pane) step(from pos, n int) pos {
	for ; n > 0; n-- {
		switch {
		case from.row+1 < p.rowsOf(from.line):
			from.row++
		case from.line+1 < len(p.lines):
			from = pos{from.line + 1, 0}
		default:
			return from
		}
	}
	for ; n < 0; n++ {
		switch {
		case from.row > 0:
			from.row--
		case from.line > 0:
			from.line--
			from.row = p.rowsOf(from.line) - 1
		default:
			return from
		}
	}
	return from
}

// move takes the cursor n rows on.
func (p *pane) move(n int) {
	if len(p.lines) > 0 {
		p.at = p.step(p.at, n)
	}
}

// jump takes the cursor to the next hunk, or the one before.
func (p *pane) jump(by int) {
	next := p.hunk() + by
	if by < 0 && p.hunk() >= 0 && p.at != (pos{p.heads[p.hunk()], 0}) {
		next = p.hunk() // first to the beginning of this one
	}
	if next >= 0 && next < len(p.heads) {
		p.at = pos{p.heads[next], 0}
		p.top = p.at
	}
}

// window moves the top so that the cursor is seen on so many rows.
func (p *pane) window(height int) {
	if before(p.at, p.top) {
		p.top = p.at
	}
	if first := p.step(p.at, 1-max(height, 1)); before(p.top, first) {
		p.top = first
	}
}

func before(a, b pos) bool { return a.line < b.line || a.line == b.line && a.row < b.row }

// view draws what is seen.
func (p *pane) view(pt paint, it *item, width, height int, focus bool) []string {
	p.resize(width)
	p.window(height)
	var out []string
	for i, skip := p.top.line, p.top.row; i < len(p.lines) && len(out) < height; i, skip = i+1, 0 {
		for n, text := range p.draw(pt, i)[skip:] {
			if len(out) == height {
				break
			}
			here := focus && p.at == pos{i, n + skip}
			out = append(out, p.margin(pt, it, i, n+skip, here)+pad(text, width-gutter))
		}
	}
	if p.loading && len(out) < height {
		out = append(out, pad("  …", width))
	}
	return out
}

// margin is the gutter of a row.
func (p *pane) margin(pt paint, it *item, i, row int, here bool) string {
	mark := " "
	if l := p.lines[i]; l.hunk >= 0 && row == 0 && p.heads[l.hunk] == i && it.group() != outside {
		if mark = "·"; it.takes(p.ids[l.hunk]) {
			mark = "x"
		}
	}
	if here {
		return pt.in(cursor, ">"+mark)
	}
	return " " + mark
}

// takes reports whether a hunk of the item is taken.
func (i *item) takes(id string) bool { return i.on && (i.hunks == nil || slices.Contains(i.hunks, id)) }

// toggleHunk takes one of all hunks, or leaves it.
func (i *item) toggleHunk(id string, all []string) {
	var now []string
	for _, h := range all {
		if i.takes(h) != (h == id) {
			now = append(now, h)
		}
	}
	i.on, i.hunks, i.since = len(now) > 0, now, false
	if len(now) == len(all) {
		i.hunks = nil
	}
}
