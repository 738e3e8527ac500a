package changes

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"agentbox/internal/later"
)

// sniffed is how much of a file says whether it is text, as git does it.
const sniffed = 8000

// look fills in what a change's content tells.
func (l *lister) look(c *Change) error {
	if c.Fate != Applies {
		return nil
	}
	if c.After.Kind == Link && l.leadsOut(c.Path, c.After.Link) {
		c.Later = "a link that leads out of the repository, or through another link: what is read or written by this name lies elsewhere"
	}
	before, after, err := l.s.sides(l.ctx, l.bases, *c, MaxDiff)
	switch {
	case errors.Is(err, fs.ErrPermission):
		c.Fate, c.Why = Unreadable, "it can't be read"
		return nil
	case errors.Is(err, ErrChanged):
		return err
	case errors.Is(err, fs.ErrNotExist):
		c.Fate, c.Why = Unreadable, "it went, or was replaced, while it was looked at"
		return nil
	case err != nil:
		return err
	}
	count(c, before, after)
	if c.After.Kind == File {
		c.Mark += content + digest(after.data)
	}
	if c.Later == "" {
		c.Later = later.Match(c.Path, before.file(c.Before), after.file(c.After))
	}
	return nil
}

// side is the content of one side of a change, as far as it is compared.
type side struct {
	data  []byte // at most limit+1 bytes
	limit int
	known bool // the data could be read
}

func (s side) tooLarge() bool { return len(s.data) > s.limit }
func (s side) binary() bool   { return bytes.IndexByte(s.data[:min(len(s.data), sniffed)], 0) >= 0 }

// file is the side as the list of what executes later sees it.
func (s side) file(st State) *later.File {
	mode := st.Mode
	switch st.Kind {
	case Absent:
		return nil
	case Dir:
		mode |= fs.ModeDir
	case Link:
		mode |= fs.ModeSymlink
	}
	return &later.File{Mode: mode, Read: func() ([]byte, error) { return s.data[:min(len(s.data), later.MaxRead)], nil }}
}

func count(c *Change, before, after side) {
	if before.binary() || after.binary() {
		c.Binary = true
		return
	}
	if before.tooLarge() || after.tooLarge() || !before.known && c.Before.Kind == File {
		return
	}
	for _, e := range compare(lines(before.data), lines(after.data)) {
		c.Removed += e.oldEnd - e.oldAt
		c.Added += e.newEnd - e.newAt
	}
}

// sides reads both sides of a change, as far as limit. What is no file has no content.
func (s *Source) sides(ctx context.Context, bases *Finder, c Change, limit int) (before, after side, err error) {
	before.limit, after.limit = limit, limit
	if c.After.Kind == File {
		if after.data, err = s.listed(c, limit); err != nil {
			return before, after, err
		}
		after.known = true
	}
	if c.Before.Kind != File {
		return before, after, nil
	}
	a, err := bases.Find(ctx, c.Path)
	if err != nil {
		return before, after, err
	}
	r, err := a.Open(ctx)
	if err != nil {
		return before, after, ctx.Err() // what it was can't be read: then there is nothing to compare with
	}
	defer r.Close()
	if before.data, err = io.ReadAll(io.LimitReader(r, int64(limit)+1)); err != nil {
		return before, after, err
	}
	before.known = true
	return before, after, nil
}

// listed reads the agent's file of a change. It must be the one that was listed: its name may have led to another one
// for a moment. What is longer than limit is cut off behind it.
func (s *Source) listed(c Change, limit int) ([]byte, error) {
	f, err := s.AfterFile(c.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if mark, err := Mark(f); err != nil || mark != Stat(c.Mark) {
		return nil, errors.Join(err, ErrChanged)
	}
	data, err := io.ReadAll(io.LimitReader(f, max(int64(limit), MaxDiff)+1))
	if err == nil && !holds(c.Mark, data[:min(len(data), MaxDiff+1)]) {
		err = ErrChanged
	}
	return data[:min(len(data), limit+1)], err
}

// Diff compares the two sides of a change line by line. What the agent changed since it was listed is ErrChanged.
func (s *Source) Diff(ctx context.Context, c Change) (Text, error) {
	bases, err := s.Finder()
	if err != nil {
		return Text{}, err
	}
	defer bases.Close()
	before, after, err := s.sides(ctx, bases, c, MaxDiff)
	if err != nil {
		return Text{}, fmt.Errorf("comparing %q: %w", c.Path, err)
	}
	switch {
	case before.binary() || after.binary():
		return Text{Binary: true}, nil
	case before.tooLarge() || after.tooLarge():
		return Text{TooLarge: true}, nil
	case !before.known && c.Before.Kind == File:
		return Text{}, fmt.Errorf("comparing %q: what it was at the start can't be read", c.Path)
	}
	old, now := lines(before.data), lines(after.data)
	return Text{Hunks: hunks(old, now, compare(old, now))}, nil
}

// lines splits a text behind its line feeds.
func lines(data []byte) []string {
	if len(data) == 0 {
		return nil
	}
	l := strings.SplitAfter(string(data), "\n")
	if l[len(l)-1] == "" {
		l = l[:len(l)-1]
	}
	return l
}

// around is how many lines are shown before and after those that changed.
const around = 3

// hunks puts edits together that lie near each other.
func hunks(old, now []string, edits []edit) (all []Hunk) {
	for len(edits) > 0 {
		n := 1
		for n < len(edits) && edits[n].oldAt-edits[n-1].oldEnd <= 2*around {
			n++
		}
		all = append(all, hunk(old, now, edits[:n]))
		edits = edits[n:]
	}
	return all
}

func hunk(old, now []string, edits []edit) Hunk {
	first := edits[0]
	lead := min(around, first.oldAt)
	h := Hunk{OldStart: first.oldAt - lead + 1, NewStart: first.newAt - lead + 1}
	at := first.oldAt - lead
	for _, e := range edits {
		h.put(' ', old[at:e.oldAt])
		h.put('-', old[e.oldAt:e.oldEnd])
		h.put('+', now[e.newAt:e.newEnd])
		at = e.oldEnd
	}
	h.put(' ', old[at:min(at+around, len(old))])
	h.finish()
	return h
}

func (h *Hunk) put(op byte, lines []string) {
	for _, l := range lines {
		text, ended := strings.CutSuffix(l, "\n")
		h.Lines = append(h.Lines, Line{Op: op, Text: text, NoEOL: !ended})
		if op != '+' {
			h.OldLines++
		}
		if op != '-' {
			h.NewLines++
		}
	}
}

// finish numbers an empty side as unified diffs do, and names the hunk.
func (h *Hunk) finish() {
	if h.OldLines == 0 {
		h.OldStart--
	}
	if h.NewLines == 0 {
		h.NewStart--
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %d\n", h.OldStart, h.OldLines)
	for _, l := range h.Lines {
		fmt.Fprintf(sum, "%c%d %t %s\n", l.Op, len(l.Text), l.NoEOL, l.Text)
	}
	h.ID = hex.EncodeToString(sum.Sum(nil)[:8])
}

// errNoSuchHunk says that a text changed since its hunks were chosen.
var errNoSuchHunk = errors.New("the text changed since its hunks were shown")

// Pick gives the text before with the chosen hunks of its difference to after put in.
func Pick(before, after []byte, ids []string) ([]byte, error) {
	old, now := lines(before), lines(after)
	edits := compare(old, now)
	chosen := map[string]bool{}
	for _, id := range ids {
		chosen[id] = true
	}
	var out []string
	at, met := 0, 0
	for len(edits) > 0 {
		n := 1
		for n < len(edits) && edits[n].oldAt-edits[n-1].oldEnd <= 2*around {
			n++
		}
		if chosen[hunk(old, now, edits[:n]).ID] {
			met++
			for _, e := range edits[:n] {
				out = append(append(out, old[at:e.oldAt]...), now[e.newAt:e.newEnd]...)
				at = e.oldEnd
			}
		}
		edits = edits[n:]
	}
	if met != len(chosen) {
		return nil, errNoSuchHunk
	}
	return []byte(strings.Join(append(out, old[at:]...), "")), nil
}

// NoSuchHunk says whether Pick failed because a text changed since its hunks were shown.
func NoSuchHunk(err error) bool { return errors.Is(err, errNoSuchHunk) }
