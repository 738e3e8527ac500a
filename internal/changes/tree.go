package changes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"agentbox/internal/sys"
)

// tree reads below one directory, through no link.
type tree struct {
	top  *os.File
	fuse bool // an upper of fuse-overlayfs
}

func openTree(dir string) (tree, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return tree{}, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return tree{top: os.NewFile(uintptr(fd), dir)}, nil
}

func (t tree) close() { _ = t.top.Close() }

// open opens what lies at rel. No part of it may be a link, but for the last one with O_PATH: then, too, it is
// fs.ErrNotExist.
func (t tree) open(rel string, flags int) (*os.File, error) {
	if rel == "" {
		rel = "."
	}
	fd, err := sys.OpenBeneath(int(t.top.Fd()), rel, flags)
	if err != nil {
		return nil, absentBelow(&fs.PathError{Op: "open", Path: rel, Err: err})
	}
	return os.NewFile(uintptr(fd), rel), nil
}

// openFile opens a regular file for reading, and never waits for a FIFO.
func (t tree) openFile(rel string) (*os.File, node, error) {
	f, err := t.open(rel, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, node{}, err
	}
	var n node
	if err := unix.Fstat(int(f.Fd()), &n.st); err != nil {
		_ = f.Close()
		return nil, node{}, &fs.PathError{Op: "stat", Path: rel, Err: err}
	}
	if n.kind() != File {
		_ = f.Close()
		return nil, node{}, fmt.Errorf("opening %q: it is no regular file: %w", rel, fs.ErrNotExist)
	}
	return f, n, nil
}

// lstat looks at what lies at rel. What is absent, or lies below something that is no directory, is fs.ErrNotExist.
func (t tree) lstat(rel string) (node, error) {
	f, err := t.open(rel, sys.OPath)
	if err != nil {
		return node{}, err
	}
	defer f.Close()
	var n node
	if err := unix.Fstat(int(f.Fd()), &n.st); err != nil {
		return node{}, &fs.PathError{Op: "stat", Path: rel, Err: err}
	}
	if n.kind() == Link {
		n.link, err = readlink(int(f.Fd()), "")
	}
	return n, err
}

// absentBelow takes "a part of the way is a link, or a file" for "nothing is there", as well as a socket, which can't be
// opened, and a file of which the agent won't let go.
func absentBelow(err error) error {
	for _, none := range []error{unix.ELOOP, unix.ENOTDIR, unix.ENXIO, unix.ENODEV, unix.EAGAIN} {
		if errors.Is(err, none) {
			return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		}
	}
	return err
}

func readlink(fd int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, name, buf)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(buf[:n]), nil
}

// entry is one name in a directory.
type entry struct {
	name string
	node
}

// list gives what is in a directory, sorted by name, and whether the directory hides what the lower has.
func (t tree) list(rel string) ([]entry, bool, error) {
	d, err := t.open(rel, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, false, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, false, err
	}
	slices.Sort(names)
	entries := make([]entry, 0, len(names))
	for _, name := range names {
		n, err := nodeAt(int(d.Fd()), name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it went meanwhile
		}
		if err != nil {
			return nil, false, err
		}
		entries = append(entries, entry{name, n})
	}
	return entries, t.opaque(int(d.Fd())), nil
}

// nodeAt looks at a name. What was a link and is none by the time that it is read (EINVAL) is looked at again.
func nodeAt(dir int, name string) (n node, err error) {
	for range 1000 { // who exchanges it faster than that wants no answer
		if err := unix.Fstatat(dir, name, &n.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return n, &fs.PathError{Op: "lstat", Path: name, Err: err}
		}
		if n.kind() != Link {
			return n, nil
		}
		if n.link, err = readlink(dir, name); !errors.Is(err, unix.EINVAL) {
			return n, err
		}
	}
	return n, err
}

// node is what the file system says of one path.
type node struct {
	st   unix.Stat_t
	link string
}

func (n node) kind() Kind {
	switch n.st.Mode & unix.S_IFMT {
	case 0:
		return Absent
	case unix.S_IFREG:
		return File
	case unix.S_IFLNK:
		return Link
	case unix.S_IFDIR:
		return Dir
	}
	return Special
}

// whiteout says that an overlay marks here what was deleted.
func (n node) whiteout() bool {
	return n.st.Mode&unix.S_IFMT == unix.S_IFCHR && n.st.Rdev == 0
}

func (n node) state() State {
	s := State{Kind: n.kind(), Mode: fs.FileMode(n.st.Mode & 0o777)}
	switch s.Kind {
	case File:
		s.Size = n.st.Size
	case Link:
		s.Link, s.Mode = n.link, 0 // a link has no mode of its own
	case Special:
		s.Special = specialName(sys.Mode(&n.st))
	}
	return s
}

func specialName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "device"
}

func (n node) changed() time.Time  { return time.Unix(n.st.Ctim.Unix()) }
func (n node) modified() time.Time { return time.Unix(n.st.Mtim.Unix()) }

// moment names the last change of a directory itself.
func (n node) moment() string { return fmt.Sprintf("%x %x", n.st.Ino, n.changed().UnixNano()) }

// mark names this state of a path.
func (n node) mark() string {
	switch n.kind() {
	case Absent:
		return "gone"
	case Dir: // its times change with what is in it
		return fmt.Sprintf("dir %o", n.st.Mode&0o7777)
	}
	return fmt.Sprintf("%s %x %x %x %x %o", n.kind(), n.st.Ino, n.st.Size, n.modified().UnixNano(), n.changed().UnixNano(), n.st.Mode&0o7777)
}

// opaque says that a directory of an upper shows nothing of the lower's. The agent can't set these attributes through
// the mount: each kind of overlay keeps its own to itself, and only those.
func (t tree) opaque(dir int) bool {
	names := []string{"user.overlay.opaque", "trusted.overlay.opaque"}
	if t.fuse {
		names = append(names, "user.fuseoverlayfs.opaque")
	}
	for _, name := range names {
		buf := make([]byte, 4)
		if n, err := unix.Fgetxattr(dir, name, buf); err == nil && n == 1 && buf[0] == 'y' {
			return true
		}
	}
	return false
}

// partial says that only a part of a file or directory lies here, and an attribute tells where the rest is. agentbox
// makes no mounts that do so.
func (t tree) partial(rel string) bool {
	f, err := t.open(rel, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return false // its own errors say so
	}
	defer f.Close()
	for _, name := range []string{"user.overlay.metacopy", "trusted.overlay.metacopy", "user.overlay.redirect", "trusted.overlay.redirect"} {
		if _, err := unix.Fgetxattr(int(f.Fd()), name, nil); err == nil {
			return true
		}
	}
	return false
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// above gives the directories above a path, the outermost first.
func above(rel string) (dirs []string) {
	for dir := path.Dir(rel); dir != "."; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
	}
	slices.Reverse(dirs)
	return dirs
}
