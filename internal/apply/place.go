package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"agentbox/internal/changes"
	"agentbox/internal/sys"

	"golang.org/x/sys/unix"
)

var (
	errLink   = errors.New("a directory on its way is a link now")
	errNotDir = errors.New("a directory on its way is none now")
)

// place is a directory of the repository, reached through no link, and a name in it.
type place struct {
	root *os.Root
	dir  *os.File
	name string
}

func (p *place) close() {
	_ = p.dir.Close()
	_ = p.root.Close()
}

func (p *place) fd() int { return int(p.dir.Fd()) }

// way gives the parts of the way to a path's directory.
func way(rel string) []string {
	dir := path.Dir(rel)
	if dir == "." {
		return nil
	}
	return strings.Split(dir, "/")
}

// place opens the directory of a path. make says to make what is missing of it, as the agent's side has it.
func (a *applier) place(rel string, make bool) (*place, error) {
	at, err := os.OpenRoot(a.s.Base.Root)
	if err != nil {
		return nil, fatal(err)
	}
	parts := way(rel)
	for i, part := range parts {
		next, err := a.enter(at, strings.Join(parts[:i+1], "/"), part, make, i == len(parts)-1)
		_ = at.Close()
		if err != nil {
			return nil, err
		}
		at = next
	}
	dir, err := at.Open(".")
	if err != nil {
		_ = at.Close()
		return nil, err
	}
	return &place{root: at, dir: dir, name: path.Base(rel)}, nil
}

// enter opens a directory that is no link: what was looked at must be what was opened.
func (a *applier) enter(at *os.Root, rel, part string, make, last bool) (*os.Root, error) {
	info, err := at.Lstat(part)
	if errors.Is(err, fs.ErrNotExist) && make {
		if err := a.missing(at, rel, part); err != nil {
			return nil, err
		}
		info, err = at.Lstat(part)
	}
	switch {
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, fmt.Errorf("%q: %w", rel, errLink)
	case !info.IsDir():
		return nil, fmt.Errorf("%q: %w", rel, errNotDir)
	}
	if err := a.loosen(at, rel, part, info, last); err != nil {
		return nil, err
	}
	next, err := at.OpenRoot(part)
	if err != nil {
		return nil, err
	}
	opened, err := next.Stat(".")
	if err != nil || !os.SameFile(info, opened) {
		_ = next.Close()
		return nil, errors.Join(err, fmt.Errorf("%q: %w", rel, errLink))
	}
	return next, nil
}

// loosen lets the owner work in a directory whose mode does not; the end puts the mode back.
func (a *applier) loosen(at *os.Root, rel, part string, info fs.FileInfo, last bool) error {
	need := fs.FileMode(0o500)
	if last {
		need = 0o700
	}
	mode := info.Mode().Perm()
	if mode&need == need {
		return nil
	}
	if _, known := a.loose[rel]; !known {
		r := record{What: loosens, Path: changes.Name(rel), Before: changes.State{Kind: changes.Dir, Mode: mode}}
		r.Moved, r.Inode = a.finder.Moved(rel)
		if err := a.journal.write(r); err != nil {
			return fatal(err)
		}
		a.loose[rel] = mode
	}
	dir, err := at.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	was, err := pinAt(int(dir.Fd()), part)
	if err != nil {
		return err
	}
	err = chmodAt(int(dir.Fd()), part, was, mode|0o700)
	a.at("after a mode was loosened")
	return err
}

// tighten puts back the modes of directories that were loosened, the deepest first.
func (a *applier) tighten() error {
	for len(a.loose) > 0 {
		rel := slices.MaxFunc(slices.Collect(maps.Keys(a.loose)), compareWays)
		mode := a.loose[rel]
		delete(a.loose, rel)
		if err := a.tightenOne(rel, mode); err != nil {
			return fmt.Errorf("putting back the mode of %q: %w", rel, err)
		}
	}
	return nil
}

func (a *applier) tightenOne(rel string, mode fs.FileMode) error {
	p, was, err := a.target(rel, false)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errLink) || errors.Is(err, errNotDir) {
		return nil // it is gone
	}
	if err != nil {
		return err
	}
	defer p.close()
	switch {
	case was.kind() != changes.Dir || was.perm() != mode|0o700 && was.perm() != mode:
		return nil // the person gave it another mode
	case was.perm() != mode:
		if err := chmodAt(p.fd(), p.name, was, mode); err != nil {
			return err
		}
		a.at("after a mode was put back")
	}
	return a.knowDir(p, rel, changes.State{Kind: changes.Dir, Mode: mode})
}

// knowDir records that a directory's times are of our making.
func (a *applier) knowDir(p *place, rel string, is changes.State) error {
	dir, err := p.root.Open(p.name)
	if err != nil {
		return nil //nolint:nilerr // it can't be opened: then an apply after this one is more careful, no more
	}
	defer dir.Close()
	moment, err := changes.MomentOf(dir)
	if err != nil {
		return err
	}
	return a.know(changes.Known{Path: changes.Name(rel), Written: is, Digest: moment, Base: is})
}

// pin is what lay at a name at one moment.
type pin struct {
	st   unix.Stat_t
	link string
}

// pinAt looks at a name; what is absent has no kind.
func pinAt(dir int, name string) (p pin, err error) {
	err = unix.Fstatat(dir, name, &p.st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return pin{}, nil
	}
	if err == nil && p.kind() == changes.Link {
		buf := make([]byte, unix.PathMax)
		var n int
		n, err = unix.Readlinkat(dir, name, buf)
		p.link = string(buf[:max(n, 0)])
	}
	if err != nil {
		return p, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	return p, nil
}

func (p pin) kind() changes.Kind {
	switch p.st.Mode & unix.S_IFMT {
	case 0:
		return changes.Absent
	case unix.S_IFREG:
		return changes.File
	case unix.S_IFLNK:
		return changes.Link
	case unix.S_IFDIR:
		return changes.Dir
	}
	return changes.Special
}

func (p pin) perm() fs.FileMode { return fs.FileMode(p.st.Mode & 0o777) }

func (p pin) state() changes.State {
	s := changes.State{Kind: p.kind(), Mode: p.perm(), Link: p.link}
	switch s.Kind {
	case changes.Absent, changes.Link:
		s.Mode = 0
	case changes.File:
		s.Size = p.st.Size
	}
	return s
}

// still says that it is the same file, and nobody wrote to it. A rename changes the time of change itself, so that
// moved says to pass over it.
func (p pin) still(now pin, moved bool) bool {
	return p.st.Ino == now.st.Ino && p.st.Dev == now.st.Dev && p.st.Mode == now.st.Mode && p.st.Size == now.st.Size &&
		p.st.Mtim == now.st.Mtim && (moved || p.st.Ctim == now.st.Ctim)
}

// chmodAt changes the mode of what was looked at, and of nothing that took its place.
func chmodAt(dir int, name string, was pin, mode fs.FileMode) error {
	fd, err := unix.Openat(dir, name, sys.OPath|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written through it
	var now pin
	if err := unix.Fstat(fd, &now.st); err != nil {
		return err
	}
	if now.st.Ino != was.st.Ino || now.st.Dev != was.st.Dev || now.kind() == changes.Link {
		return errMoved
	}
	// A directory keeps the special bits that the person gave it.
	bits := uint32(mode.Perm())
	if now.kind() == changes.Dir {
		bits |= sys.Mode(&now.st) & 0o7000
	}
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), bits); err != nil {
		return &fs.PathError{Op: "chmod", Path: name, Err: err}
	}
	return nil
}

// errMoved says that something changed between the look and the deed.
var errMoved = errors.New("it changed at this moment")
