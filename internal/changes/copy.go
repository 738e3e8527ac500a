package changes

import (
	"errors"
	"io/fs"
)

// copied looks at a directory of the private copy. still says that it is the directory that was copied: none above it, nor
// itself, was put there since; what in it was not changed since the copying then is no change.
func (l *lister) copied(dir string, there bool) error { return l.copiedIn(dir, there, dir == "") }

func (l *lister) copiedIn(dir string, there, still bool) error {
	entries, _, err := l.upper.list(dir)
	if err != nil {
		return l.unreadable(dir, err)
	}
	for _, e := range entries {
		if err := l.copiedEntry(join(dir, e.name), e.node, there, still); err != nil {
			return err
		}
	}
	if !there {
		return nil
	}
	self, err := l.upper.lstat(dir)
	if err != nil || still && l.intact(self) {
		return err // nothing was taken out of it
	}
	return l.covered(dir, entries)
}

// intact says that nothing happened to a file of the copy since it was made.
func (l *lister) intact(n node) bool { return n.changed().Before(l.s.Base.Copied) }

func (l *lister) copiedEntry(path string, after node, there, still bool) error {
	if after.kind() == Dir && l.intact(after) && there && still && !l.mounts[path] && !l.ours(path) {
		before, err := l.host.lstat(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return l.copiedIn(path, before.kind() == Dir, true)
	}
	if !l.intact(after) || after.kind() == Dir {
		return l.entry(path, after)
	}
	if still {
		return nil
	}
	before, err := l.host.lstat(path)
	if err == nil && before.state() == after.state() && before.modified().Equal(after.modified()) {
		return nil
	}
	return l.entry(path, after)
}

// ours says that a path is hidden or git's: entry knows what to do with it.
func (l *lister) ours(path string) bool { return l.hidden(path, true) || GitsOwnPath(path) }

// thereAtStart says that what the person has at a path and the copy has not was there when the copy was made.
func (l *lister) thereAtStart(path string, before node) (bool, error) {
	if before.changed().Before(l.s.Base.Began) {
		return true, nil
	}
	a, err := l.bases.Find(l.ctx, path)
	return a.Known && a.State.Kind != Absent, err
}

// touchedBelow says that something in a directory of the copy changed since it was made.
func (l *lister) touchedBelow(dir string) (bool, error) {
	entries, _, err := l.upper.list(dir)
	if err != nil {
		return true, nil // it can't be read: then it is told
	}
	for _, e := range entries {
		if !l.intact(e.node) {
			return true, nil
		}
		if e.kind() == Dir {
			if touched, err := l.touchedBelow(join(dir, e.name)); touched || err != nil {
				return touched, err
			}
		}
	}
	return false, nil
}
