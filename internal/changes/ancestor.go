package changes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Ancestor is what a path was when the agent got it: the base of a three-way merge.
type Ancestor struct {
	Known bool  // false: nobody knows; State and Open are then the person's side as it is now
	State State // Kind Absent where nothing was there
	Same  bool  // the person's side is still that
	Host  State // the person's side as it is now
	open  func(context.Context) (io.ReadCloser, error)
}

// Open reads the ancestor's file.
func (a Ancestor) Open(ctx context.Context) (io.ReadCloser, error) {
	if a.open == nil {
		return nil, fs.ErrNotExist
	}
	return a.open(ctx)
}

// Ancestor finds out what a path was at the start.
func (s *Source) Ancestor(ctx context.Context, path string) (Ancestor, error) {
	f, err := s.Finder()
	if err != nil {
		return Ancestor{}, err
	}
	defer f.Close()
	return f.Find(ctx, path)
}

// Finder finds the ancestors of many paths: what it must read for one of them, it reads once.
type Finder struct {
	s     *Source
	host  tree
	known map[string]Known
	moved map[string]bool // directories: whether one was put in another's place
}

// Finder begins to look for ancestors.
func (s *Source) Finder() (*Finder, error) {
	known, err := s.readKnown()
	if err != nil {
		return nil, fmt.Errorf("reading what was applied before: %w", err)
	}
	host, err := openTree(s.Base.Root)
	if err != nil {
		return nil, fmt.Errorf("reading the repository: %w", err)
	}
	return &Finder{s: s, host: host, known: known, moved: map[string]bool{}}, nil
}

// Note takes in what an apply recorded meanwhile.
func (f *Finder) Note(k Known) {
	if f.known == nil {
		f.known = map[string]Known{}
	}
	if k.Forget {
		delete(f.known, string(k.Path))
		return
	}
	f.known[string(k.Path)] = k
}

// Known gives what an apply recorded of a path.
func (f *Finder) Known(path string) (Known, bool) {
	k, ok := f.known[path]
	return k, ok
}

// Moved says whether a directory was put in another's place since the start, as far as its times tell, and its inode.
func (f *Finder) Moved(dir string) (bool, uint64) {
	n, _ := f.host.lstat(dir)
	return f.isMoved(dir), n.st.Ino
}

// Trust takes over what Moved said before an apply that was killed touched the directory's mode.
func (f *Finder) Trust(dir string, moved bool, inode uint64) {
	if n, err := f.host.lstat(dir); err == nil && n.st.Ino == inode {
		f.moved[dir] = moved
	}
}

// Close ends the search.
func (f *Finder) Close() { f.host.close() }

// Find gives the ancestor of one path.
func (f *Finder) Find(ctx context.Context, path string) (Ancestor, error) {
	host, err := f.host.lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Ancestor{}, fmt.Errorf("looking at %q: %w", path, err)
	}
	a, err := f.find(ctx, path, host)
	if err != nil {
		return Ancestor{}, fmt.Errorf("finding out what %q was: %w", path, err)
	}
	a.Host = host.state()
	return a, nil
}

func (f *Finder) find(ctx context.Context, path string, host node) (Ancestor, error) {
	if k, ok := f.known[path]; ok {
		if a, ok, err := f.recorded(path, host, k); ok || err != nil {
			return a, err
		}
	}
	if host.kind() == Dir {
		same := !f.renamed(path, host) // what is put into a directory changes its times too
		return Ancestor{Known: true, Same: same, State: host.state()}, nil
	}
	if host.kind() != Absent && f.untouched(path, host) {
		return f.itself(path, host), nil
	}
	index, err := f.s.startIndex(ctx)
	if err != nil {
		return Ancestor{}, err
	}
	if b, ok := index.find(path); ok {
		return f.tracked(ctx, path, host, b)
	}
	if host.kind() == Absent {
		return Ancestor{Known: true, Same: true}, nil
	}
	a := f.itself(path, host)
	a.Known, a.Same = false, false
	return a, nil
}

// itself takes the person's side for the ancestor.
func (f *Finder) itself(path string, host node) Ancestor {
	a := Ancestor{Known: true, Same: true, State: host.state()}
	if host.kind() == File {
		a.open = func(context.Context) (io.ReadCloser, error) {
			t, err := openTree(f.s.Base.Root)
			if err != nil {
				return nil, err
			}
			defer t.close()
			file, _, err := t.openFile(path)
			return file, err
		}
	}
	return a
}

// untouched says that a file is as it was at the start: nothing changed it since, and no directory above it was put there.
func (f *Finder) untouched(path string, host node) bool {
	if !host.changed().Before(f.s.Base.Began) {
		return false
	}
	return !slices.ContainsFunc(above(path), f.isMoved)
}

func (f *Finder) isMoved(dir string) bool {
	moved, seen := f.moved[dir]
	if !seen {
		n, err := f.host.lstat(dir)
		moved = err != nil || f.renamed(dir, n)
		f.moved[dir] = moved
	}
	return moved
}

// renamed says that a directory was renamed, or its mode changed, since the start, as far as its times tell: what is put
// into it moves both of them.
func (f *Finder) renamed(path string, dir node) bool {
	if k, ok := f.known[path]; ok && k.Digest == dir.moment() {
		return false // an apply changed its mode
	}
	return !dir.changed().Before(f.s.Base.Began) && dir.modified().Before(dir.changed())
}

// tracked takes what the index named for the ancestor.
func (f *Finder) tracked(ctx context.Context, path string, host node, b blob) (Ancestor, error) {
	a := Ancestor{Known: true, State: b.state()}
	switch {
	case a.State.Kind == Link:
		content, err := readAll(f.s.openBlob(ctx, b))
		if err != nil {
			return unknownUnless(f.itself(path, host), err)
		}
		a.State.Link = string(content)
		a.Same = host.kind() == Link && host.link == a.State.Link
		return a, nil
	case host.kind() == File:
		same, err := f.holds(path, b)
		if err != nil {
			return a, err
		}
		if same { // only its times changed, or its mode: what it was, the index tells by one bit
			host := f.itself(path, host)
			host.Same = host.State.Mode&0o100 == a.State.Mode&0o100
			if !host.Same {
				host.State.Mode = a.State.Mode
			}
			return host, nil
		}
	}
	a.open = func(ctx context.Context) (io.ReadCloser, error) { return f.s.openBlob(ctx, b) }
	return a, nil
}

// unknownUnless gives up on an ancestor that the repository does not hold, as a partial clone does not.
func unknownUnless(host Ancestor, err error) (Ancestor, error) {
	if errors.Is(err, context.Canceled) {
		return Ancestor{}, err
	}
	host.Known, host.Same = false, false
	return host, nil
}

func (f *Finder) holds(path string, b blob) (bool, error) {
	file, n, err := f.host.openFile(path)
	if err != nil {
		return false, ignoreUnreadable(err)
	}
	defer file.Close()
	return b.holds(file, n.st.Size)
}

// recorded takes what an apply recorded; false says that it tells nothing of how things are now.
func (f *Finder) recorded(path string, host node, k Known) (Ancestor, bool, error) {
	if !k.Merged {
		same, err := f.asWritten(path, host, k)
		if err != nil {
			return Ancestor{}, false, err
		}
		if same {
			a := f.itself(path, host)
			a.Same = a.State.Mode == k.Written.Mode
			a.State.Mode = k.Written.Mode
			return a, true, nil
		}
	}
	if k.File == "" && k.Base.Kind == File {
		return Ancestor{}, false, nil
	}
	a := Ancestor{Known: true, State: k.Base}
	if k.Base.Kind == File {
		a.open = func(context.Context) (io.ReadCloser, error) { return os.Open(filepath.Join(f.s.Work, k.File)) }
	}
	return a, true, nil
}

func (f *Finder) asWritten(path string, host node, k Known) (bool, error) {
	if host.kind() != k.Written.Kind || host.link != k.Written.Link {
		return false, nil
	}
	if host.kind() != File {
		return true, nil
	}
	if host.st.Size != k.Written.Size {
		return false, nil
	}
	file, _, err := f.host.openFile(path)
	if err != nil {
		return false, ignoreUnreadable(err)
	}
	defer file.Close()
	digest, err := Digest(file)
	return digest == k.Digest, err
}

// ignoreUnreadable takes a file that can't be read for one that is not as it was.
func ignoreUnreadable(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// SameContent says whether a file of the agent's holds what the ancestor held.
func (a Ancestor) SameContent(ctx context.Context, after *os.File) (bool, error) {
	before, err := a.Open(ctx)
	if errors.Is(err, errTooLarge) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer before.Close()
	if file, ok := before.(*os.File); ok {
		one, err1 := file.Stat()
		two, err2 := after.Stat()
		if err := errors.Join(err1, err2); err != nil || one.Size() != two.Size() {
			return false, err
		}
		return EqualFiles(file, after)
	}
	want, err := io.ReadAll(io.LimitReader(before, MaxDiff+1))
	if err != nil {
		return false, err
	}
	got, err := io.ReadAll(io.NewSectionReader(after, 0, int64(len(want))+1))
	return bytes.Equal(want, got), err
}

func readAll(r io.ReadCloser, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, MaxDiff+1))
}
