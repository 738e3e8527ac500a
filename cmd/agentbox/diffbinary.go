package main

import (
	"bufio"
	"compress/zlib"
	"context"
	"fmt"
	"strings"

	"agentbox/internal/changes"
)

// maxLiteral is the size in bytes of the largest file that a patch carries whole.
const maxLiteral = 32 << 20

// whole writes a change of what has no lines, or too many to compare: each side as it is, as git diff --binary does.
// On a terminal nobody reads that, and only its size is told.
func (p *patch) whole(ctx context.Context, c changes.Change) error {
	if p.terminal {
		p.sizes(c, "")
		return nil
	}
	before, after, whole, err := p.source.Whole(ctx, c, maxLiteral)
	if err != nil {
		return fmt.Errorf("reading %q: %w", c.Path, err)
	}
	if !whole {
		return p.notWhole(ctx, c)
	}
	if string(before) == string(after) && gitMode(c.Before) != "" && gitMode(c.After) != "" {
		p.modeOnly(c)
		return nil
	}
	index, err := p.index(ctx, c, before, after)
	if err != nil {
		return err
	}
	p.head(c)
	p.line("1", index)
	p.line("1", "GIT binary patch")
	if err := p.literal(after); err != nil {
		return err
	}
	return p.literal(before) // for git apply --reverse
}

// notWhole says of a file that no patch carries what can be said.
func (p *patch) notWhole(ctx context.Context, c changes.Change) error {
	same, err := p.source.SameContent(ctx, c)
	if err != nil {
		return fmt.Errorf("reading %q: %w", c.Path, err)
	}
	if same {
		p.modeOnly(c)
		return nil
	}
	p.sizes(c, ", too large for a patch")
	p.note(fmt.Sprintf("the patch is without %s: it is too large for one, or what it was at the start can't be read", gitQuoted(c.Path)))
	return nil
}

// sizes is the comment in place of contents.
func (p *patch) sizes(c changes.Change, why string) {
	p.comment(c, fmt.Sprintf("Binary files differ%s: %d bytes before, %d after", why, c.Before.Size, c.After.Size))
}

func (p *patch) modeOnly(c changes.Change) {
	if gitMode(c.Before) == gitMode(c.After) {
		p.unkept(c)
		return
	}
	p.head(c)
}

// index is the line by which git knows that a patch fits, and what it must come to.
func (p *patch) index(ctx context.Context, c changes.Change, before, after []byte) (string, error) {
	if p.name == nil {
		var err error
		if p.name, err = p.source.Namer(ctx); err != nil {
			return "", err
		}
	}
	one, two := p.name(before), p.name(after)
	switch none := strings.Repeat("0", len(one)); {
	case gitMode(c.Before) == "":
		one = none
	case gitMode(c.After) == "":
		two = none
	case gitMode(c.Before) == gitMode(c.After):
		two += " " + gitMode(c.After)
	}
	return "index " + one + ".." + two, nil
}

// literal writes one side: deflated, in lines of at most 52 bytes that begin with how many they hold.
func (p *patch) literal(data []byte) error {
	p.line("", fmt.Sprintf("literal %d", len(data)))
	lines := &lines85{to: p.w}
	z := zlib.NewWriter(lines)
	if _, err := z.Write(data); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	lines.flush()
	p.line("", "")
	return nil
}

// lines85 writes what it gets as the lines of git's binary patches.
type lines85 struct {
	to  *bufio.Writer // whose error stays until it is flushed
	buf [52]byte
	n   int
}

func (l *lines85) Write(data []byte) (int, error) {
	for rest := data; len(rest) > 0; {
		n := copy(l.buf[l.n:], rest)
		l.n, rest = l.n+n, rest[n:]
		if l.n == len(l.buf) {
			l.flush()
		}
	}
	return len(data), nil
}

func (l *lines85) flush() {
	if l.n == 0 {
		return
	}
	head := byte('A' + l.n - 1)
	if l.n > 26 {
		head = byte('a' + l.n - 27)
	}
	_ = l.to.WriteByte(head)
	clear(l.buf[l.n:])
	for i := 0; i < l.n; i += 4 {
		four := base85(l.buf[i : i+4])
		_, _ = l.to.Write(four[:])
	}
	_ = l.to.WriteByte('\n')
	l.n = 0
}

// base85 is git's alphabet, which is not Ascii85's.
func base85(four []byte) (out [5]byte) {
	const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
	n := uint32(four[0])<<24 | uint32(four[1])<<16 | uint32(four[2])<<8 | uint32(four[3])
	for i := 4; i >= 0; i-- {
		out[i] = letters[n%85]
		n /= 85
	}
	return out
}
