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

// comment writes what git passes over.
func (p *patch) comment(c changes.Change, text string) {
	p.line("33", "# "+gitQuoted(c.Path)+": "+text)
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
		if err := p.one(ctx, before); err != nil {
			return err
		}
		return p.one(ctx, after)
	}
	return p.one(ctx, c)
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
	if errors.Is(err, changes.ErrChanged) || errors.Is(err, fs.ErrNotExist) {
		p.comment(c, "the agent changed it while it was looked at")
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading %q: %w", c.Path, err)
	}
	before, after := gitMode(c.Before), gitMode(c.After)
	if before == after && len(text.Hunks) == 0 && !text.Binary && !text.TooLarge {
		p.comment(c, "mode "+tui.ModeChange(c)+", which git does not keep")
		return nil
	}
	a, b := gitQuoted("a/"+c.Path), gitQuoted("b/"+c.Path)
	if text.Binary || text.TooLarge { // git apply would refuse the whole patch for a header with nothing behind it
		what := "binary"
		if text.TooLarge {
			what = "too large to compare"
		}
		p.comment(c, fmt.Sprintf("%s, %d bytes before, %d after", what, c.Before.Size, c.After.Size))
		return nil
	}
	p.line("1", "diff --git "+a+" "+b)
	switch {
	case before == "":
		a = "/dev/null"
		p.line("1", "new file mode "+after)
	case after == "":
		b = "/dev/null"
		p.line("1", "deleted file mode "+before)
	case before != after:
		p.line("1", "old mode "+before)
		p.line("1", "new mode "+after)
	}
	if len(text.Hunks) > 0 {
		p.line("1", "--- "+tabbed(a))
		p.line("1", "+++ "+tabbed(b))
	}
	for _, h := range text.Hunks {
		p.hunk(h)
	}
	return nil
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
	var h changes.Hunk
	if c.Before.Kind == changes.Link {
		h.OldStart, h.OldLines = 1, 1
		h.Lines = append(h.Lines, changes.Line{Op: '-', Text: c.Before.Link, NoEOL: true})
	}
	if c.After.Kind == changes.Link {
		h.NewStart, h.NewLines = 1, 1
		h.Lines = append(h.Lines, changes.Line{Op: '+', Text: c.After.Link, NoEOL: true})
	}
	return changes.Text{Hunks: []changes.Hunk{h}}, nil
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
