package direct

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Outcome is what became of one change that was to be put back.
type Outcome struct {
	Path string `json:"path"`
	Done bool   `json:"done"`
	Why  string `json:"why,omitempty"` // not
}

// Undo puts back what Compare recorded: all of it, or paths. What somebody changed since the run's end stays as it is. What a
// put-back replaces is moved to dir, where it stays.
func Undo(ctx context.Context, dir string, paths []string) ([]Outcome, error) {
	list, err := Changes(dir)
	if err != nil {
		return nil, err
	}
	root, r, err := open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // each write was synced
	if err := os.MkdirAll(filepath.Join(dir, undoneDir), 0o700); err != nil {
		return nil, err
	}
	u := undoer{root: root, top: r.Root, dir: dir}
	var out []Outcome
	for _, c := range list {
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		if len(paths) > 0 && !slices.Contains(paths, c.Path) {
			continue
		}
		o := Outcome{Path: c.Path}
		if err := u.one(c); err != nil {
			o.Why = err.Error()
		}
		o.Done = o.Why == ""
		out = append(out, o)
	}
	return out, nil
}

// Pending counts the changes that Undo would put back now.
func Pending(dir string) (n int, err error) {
	list, err := Changes(dir)
	if err != nil {
		return 0, err
	}
	root, r, err := open(dir)
	if err != nil {
		return 0, err
	}
	defer func() { _ = root.Close() }() // only read
	u := undoer{root: root, top: r.Root, dir: dir}
	for _, c := range list {
		if l, err := u.look(c); err == nil && !l.done {
			n++
		}
	}
	return n, nil
}

type undoer struct {
	root *os.Root
	top  string
	dir  string
}

func (u *undoer) one(c Change) error {
	l, err := u.look(c)
	switch {
	case err != nil || l.done:
		return err
	case c.What == Made:
		return u.aside(c.Path, l.now)
	}
	return u.back(c, l.there, l.now)
}

// looked is what lies at a path that is to be put back.
type looked struct {
	now   state
	there bool
	done  bool // it has been put back
}

// look says what lies at a change's path, or why it can't be put back.
func (u *undoer) look(c Change) (l looked, err error) {
	if !c.PutBack {
		return l, errors.New("what was there was too large to be kept")
	}
	if err := u.noLinks(c.Path); err != nil {
		return l, err
	}
	if l.now, l.there, err = stat(u.root, c.Path); err != nil {
		return l, err
	}
	if l.there && l.now.Mode.IsRegular() {
		if text, err := content(u.root, c.Path, maxFile); err == nil {
			l.now.Sum = sum(text)
		}
	}
	switch {
	case c.What == Made && !l.there, c.What != Made && l.there && same(c.Was, l.now):
		l.done = true
	case c.What == Removed && l.there, c.What != Removed && (!l.there || !alike(c.Now, l.now)):
		return l, errors.New("it has been changed since the run ended")
	case c.What == Removed:
		if _, err := u.root.Lstat(c.Path); !errors.Is(err, fs.ErrNotExist) {
			return l, errors.New("something else is there now")
		}
	}
	return l, nil
}

// alike compares what is there with what was there at the run's end, by content where that is known, else by its times.
func alike(after, now state) bool {
	if after.Inode == now.Inode && after.Ctime == now.Ctime {
		return true
	}
	return same(after, now)
}

// noLinks refuses a path on whose way there is anything but directories.
func (u *undoer) noLinks(rel string) error {
	for at := path.Dir(rel); at != "."; at = path.Dir(at) {
		info, err := u.root.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory any more", at)
		}
	}
	return nil
}

// back writes what was there beside its place, then moves it there.
func (u *undoer) back(c Change, there bool, now state) error {
	if err := u.root.MkdirAll(path.Dir(c.Path), 0o755); err != nil {
		return err
	}
	tmp := path.Join(path.Dir(c.Path), ".agentbox-"+rand.Text())
	if err := u.lay(tmp, c.Was); err != nil {
		return errors.Join(err, ignoreMissing(u.root.Remove(tmp)))
	}
	if there {
		if err := u.copyAside(c.Path, now); err != nil {
			return errors.Join(err, u.root.Remove(tmp))
		}
	}
	if err := u.root.Rename(tmp, c.Path); err != nil {
		return errors.Join(err, u.root.Remove(tmp))
	}
	return u.sync(path.Dir(c.Path))
}

func (u *undoer) lay(tmp string, was state) error {
	if was.Mode&fs.ModeSymlink != 0 {
		return u.root.Symlink(was.Link, tmp)
	}
	text, err := keptIn(u.dir, was)
	if err != nil {
		return err
	}
	f, err := u.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Chmod(was.Mode.Perm()), f.Sync(), f.Close())
}

// aside takes a file away that the run made: into our directory.
func (u *undoer) aside(rel string, now state) error {
	if err := u.copyAside(rel, now); err != nil {
		return err
	}
	if err := u.root.Remove(rel); err != nil {
		return err
	}
	return u.sync(path.Dir(rel))
}

// copyAside copies what a put-back replaces.
func (u *undoer) copyAside(rel string, now state) error {
	name := filepath.Join(u.dir, undoneDir, rand.Text()+"-"+strings.Map(plain, path.Base(rel)))
	if now.Mode&fs.ModeSymlink != 0 {
		return os.Symlink(now.Link, name)
	}
	in, err := u.root.Open(rel)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(in)
	return errors.Join(err, out.Sync(), out.Close())
}

// plain keeps a name readable.
func plain(r rune) rune {
	if r < ' ' || r == 0x7f || r == '/' {
		return '_'
	}
	return r
}

func (u *undoer) sync(rel string) error {
	d, err := u.root.Open(rel)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
