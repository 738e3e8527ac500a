package direct

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"agentbox/internal/later"
)

// What became of a file.
const (
	Made    = "made"
	Changed = "changed"
	Removed = "removed"
)

// Change is a file that would execute later, and is not what it was before the run.
type Change struct {
	Path    string `json:"path"` // slash-separated, below the repository's top; the agent may have chosen it
	What    string `json:"what"`
	Why     string `json:"why"`      // it would execute
	PutBack bool   `json:"put_back"` // what was there is kept, or there was nothing
	Was     state  `json:"was"`
	Now     state  `json:"now"`
}

// Compare lists what changed since Remember filled dir, by path, and records it for Undo.
func Compare(ctx context.Context, skip []string, dir string) ([]Change, error) {
	root, r, err := open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // only read
	c := comparer{root: root, dir: dir, record: r, seen: map[string]bool{}}
	if err := walk(ctx, root, r.Root, skip, c.visit); err != nil {
		return nil, fmt.Errorf("looking at what would execute later: %w", err)
	}
	c.removed()
	slices.SortFunc(c.out, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	if err := write(filepath.Join(dir, changesFile), c.out); err != nil {
		return nil, fmt.Errorf("recording what would execute later: %w", err)
	}
	return c.out, nil
}

type comparer struct {
	root   *os.Root
	dir    string
	record record
	seen   map[string]bool
	out    []Change
}

func (c *comparer) visit(rel string, now state) error {
	was, known := c.record.Files[rel]
	if known {
		c.seen[rel] = true
	}
	if _, same := slices.BinarySearch(c.record.Exact, c.record.exact(rel, now)); same {
		return nil
	}
	now, ok, err := stat(c.root, rel)
	if err != nil || !ok {
		return nil
	}
	what, before := Changed, (*later.File)(nil)
	switch _, found := slices.BinarySearch(c.record.Names, c.record.hash(rel)); {
	case known:
		before = was.side(func() ([]byte, error) { return c.kept(was) })
	case !found:
		what = Made
	}
	text, terr := content(c.root, rel, maxFile)
	if now.Mode.IsRegular() && terr == nil {
		now.Sum = sum(text)
	}
	if known && same(was, now) {
		return nil
	}
	why := later.Match(rel, before, now.side(func() ([]byte, error) { return text, terr }))
	if why == "" {
		return nil
	}
	c.add(rel, what, why, was, now)
	return nil
}

// same compares content and mode, where the times differ.
func same(was, now state) bool {
	if was.Mode != now.Mode || was.Link != now.Link {
		return false
	}
	return was.Mode&fs.ModeSymlink != 0 || was.Sum != "" && was.Sum == now.Sum
}

func (c *comparer) add(rel, what, why string, was, now state) {
	back := what == Made || was.Kept != "" || was.Mode&fs.ModeSymlink != 0
	c.out = append(c.out, Change{Path: rel, What: what, Why: why, PutBack: back, Was: was, Now: now})
}

func (c *comparer) removed() {
	for rel, was := range c.record.Files {
		if !c.seen[rel] {
			c.add(rel, Removed, later.Match(rel, nil, was.side(nothing)), was, state{})
		}
	}
}

// kept gives the copy of what was there.
func (c *comparer) kept(s state) ([]byte, error) { return keptIn(c.dir, s) }

func keptIn(dir string, s state) ([]byte, error) {
	if s.Kept == "" || s.Kept != filepath.Base(s.Kept) {
		return nil, fs.ErrNotExist
	}
	text, err := os.ReadFile(filepath.Join(dir, keptDir, s.Kept))
	if err == nil && !bytes.Equal([]byte(sum(text)), []byte(s.Sum)) {
		err = fmt.Errorf("the copy that was kept is not what it was")
	}
	return text, err
}

// Changes gives what Compare recorded.
func Changes(dir string) (list []Change, err error) {
	if err := read(filepath.Join(dir, changesFile), &list); err != nil {
		return nil, fmt.Errorf("reading what changed in the run: %w", err)
	}
	return list, nil
}
