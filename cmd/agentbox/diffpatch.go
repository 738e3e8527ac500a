package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"agentbox/internal/changes"
	"agentbox/internal/tui"
)

// patch writes changes as git would. In a pipe it is what git apply takes, byte by byte; on a terminal what a terminal
// would obey is written out.
type patch struct {
	w                *bufio.Writer
	source           *changes.Source
	terminal, colour bool
	note             func(text string)           // tells the person beside the patch
	name             func(content []byte) string // git's, once it is needed
}

// line writes one line; sgr is its colour.
func (p *patch) line(sgr, text string) {
	if p.terminal {
		text = tui.Escaped(text)
	}
	if p.colour && sgr != "" {
		text = "\x1b[" + sgr + "m" + text + "\x1b[0m"
	}
	_, _ = p.w.WriteString(text) // the error stays, and Flush gives it
	_ = p.w.WriteByte('\n')
}

// comment writes what git passes over. It is one line, whatever a text holds: what stands on a line of its own is a patch.
func (p *patch) comment(c changes.Change, text string) {
	p.line("33", "# "+gitQuoted(c.Path)+": "+tui.Escaped(text))
}

func (p *patch) unkept(c changes.Change) {
	p.comment(c, "mode "+tui.ModeChange(c)+", which git does not keep")
}

// write writes one change.
func (p *patch) write(ctx context.Context, c changes.Change) error {
	if c.Fate != changes.Applies {
		p.comment(c, "never applied: "+c.Why)
		return nil
	}
	if c.Later != "" {
		p.comment(c, "would execute later: "+c.Later)
	}
	if c.Why != "" {
		p.comment(c, c.Why)
	}
	if c.Before.Kind == changes.Dir || c.After.Kind == changes.Dir {
		p.comment(c, directory(c))
	}
	before, after := c, c
	switch {
	case gitMode(c.Before) == "" && gitMode(c.After) == "":
		return nil
	case gitMode(c.Before) != "" && gitMode(c.After) != "" && c.Before.Kind != c.After.Kind: // git says it in two
		before.After, after.Before = changes.State{}, changes.State{}
		if err := p.looked(ctx, before); err != nil {
			return err
		}
		return p.looked(ctx, after)
	}
	return p.looked(ctx, c)
}

// looked writes a change, or that the agent changed it meanwhile.
func (p *patch) looked(ctx context.Context, c changes.Change) error {
	err := p.one(ctx, c)
	if errors.Is(err, changes.ErrChanged) || errors.Is(err, fs.ErrNotExist) {
		p.comment(c, "the agent changed it while it was looked at")
		return nil
	}
	return err
}

func directory(c changes.Change) string {
	switch {
	case c.Before.Kind != changes.Dir:
		return "a new directory"
	case c.After.Kind != changes.Dir:
		return "a directory that is gone"
	}
	return fmt.Sprintf("a directory, mode %04o→%04o", c.Before.Mode.Perm(), c.After.Mode.Perm())
}

// gitMode is the mode that git gives a file or a link; "" for what git does not keep.
func gitMode(s changes.State) string {
	switch {
	case s.Kind == changes.Link:
		return "120000"
	case s.Kind != changes.File:
		return ""
	case s.Mode&fs.FileMode(0o100) != 0:
		return "100755"
	}
	return "100644"
}

// one writes a change that git's format has: of one kind of file, or to and from none.
func (p *patch) one(ctx context.Context, c changes.Change) error {
	text, err := p.text(ctx, c)
	switch {
	case err != nil:
		return fmt.Errorf("reading %q: %w", c.Path, err)
	case text.Binary || text.TooLarge:
		return p.whole(ctx, c)
	case gitMode(c.Before) == gitMode(c.After) && len(text.Hunks) == 0:
		p.unkept(c)
		return nil
	}
	p.head(c)
	if len(text.Hunks) > 0 {
		a, b := names(c)
		p.line("1", "--- "+tabbed(a))
		p.line("1", "+++ "+tabbed(b))
	}
	for _, h := range text.Hunks {
		p.hunk(h)
	}
	return nil
}

// head begins a change: its name, and its modes where they are not the same.
func (p *patch) head(c changes.Change) {
	p.line("1", "diff --git "+gitQuoted("a/"+c.Path)+" "+gitQuoted("b/"+c.Path))
	switch before, after := gitMode(c.Before), gitMode(c.After); {
	case before == "":
		p.line("1", "new file mode "+after)
	case after == "":
		p.line("1", "deleted file mode "+before)
	case before != after:
		p.line("1", "old mode "+before)
		p.line("1", "new mode "+after)
	}
}

// names are those of both sides.
func names(c changes.Change) (a, b string) {
	a, b = gitQuoted("a/"+c.Path), gitQuoted("b/"+c.Path)
	if gitMode(c.Before) == "" {
		a = "/dev/null"
	}
	if gitMode(c.After) == "" {
		b = "/dev/null"
	}
	return a, b
}

// tabbed ends a name with blanks in it, as git does.
func tabbed(name string) string {
	if strings.Contains(name, " ") && !strings.HasPrefix(name, `"`) {
		return name + "\t"
	}
	return name
}

// text gives the lines of a change. A link's text is where it leads.
func (p *patch) text(ctx context.Context, c changes.Change) (changes.Text, error) {
	if c.Before.Kind != changes.Link && c.After.Kind != changes.Link {
		return p.source.Diff(ctx, c)
	}
	h := changes.Hunk{}
	h.OldLines = linkLines(&h, '-', c.Before)
	h.NewLines = linkLines(&h, '+', c.After)
	h.OldStart, h.NewStart = min(1, h.OldLines), min(1, h.NewLines)
	return changes.Text{Hunks: []changes.Hunk{h}}, nil
}

// linkLines adds where a link leads to a hunk: a target may have line feeds in it, and nothing of it may stand for another
// part of the patch.
func linkLines(h *changes.Hunk, op byte, s changes.State) (n int) {
	if s.Kind != changes.Link {
		return 0
	}
	for text := range strings.Lines(s.Link) {
		line, ended := strings.CutSuffix(text, "\n")
		h.Lines = append(h.Lines, changes.Line{Op: op, Text: line, NoEOL: !ended})
		n++
	}
	return n
}

func (p *patch) hunk(h changes.Hunk) {
	p.line("36", fmt.Sprintf("@@ -%d,%d +%d,%d @@", h.OldStart, h.OldLines, h.NewStart, h.NewLines))
	for _, l := range h.Lines {
		sgr := map[byte]string{'+': "32", '-': "31"}[l.Op]
		p.line(sgr, string(l.Op)+l.Text)
		if l.NoEOL {
			p.line("", `\ No newline at end of file`)
		}
	}
}

// gitQuoted is a name as git writes it: in quotes, as in C, where it holds what could be taken for something else.
func gitQuoted(name string) string {
	plain := true
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
			plain = false
		case c < 0x20 || c >= 0x7f:
			fmt.Fprintf(&b, "\\%03o", c)
			plain = false
		default:
			b.WriteByte(c)
		}
	}
	if plain {
		return name
	}
	return `"` + b.String() + `"`
}
