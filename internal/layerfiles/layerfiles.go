// Package layerfiles reads the files that say what a run may do, from places that others may write to.
//
// It owns how such a file is opened: through no link, never waiting for a FIFO or a device, of an owner who may say so,
// bounded in size, read whole from the descriptor that was checked. Dir reads a person's configuration, Repo the files of
// a working tree, Git those of a commit, ReadPolicy the organisation's file. What the bytes mean is not its business.
// A file that is absent is fs.ErrNotExist; one that cannot be read, or may not be trusted, is an error and never
// "absent".
package layerfiles

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

const (
	// MaxFile is the size in bytes of the largest file that is read.
	MaxFile = 4 << 20
	// MaxFiles is how many entries a directory may have.
	MaxFiles = 4096
)

// Problem is an error with what to do about it.
type Problem struct {
	Err  error
	Hint string
}

func (p *Problem) Error() string { return p.Err.Error() }
func (p *Problem) Unwrap() error { return p.Err }

// HintText is the line to show below the error.
func (p *Problem) HintText() string { return p.Hint }

func problem(hint, format string, args ...any) error {
	return &Problem{Err: fmt.Errorf(format, args...), Hint: hint}
}

// open flags: a link in the last place fails, a FIFO does not wait, a terminal does not become ours.
const openFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC

// rules say whose files are read.
type rules struct {
	owner   func(uid uint32) bool
	strict  bool // nobody but the owner may write it
	sticky  bool // a directory that others may add to, but not change what is there, will do
	private func(uid, gid uint32) bool
	limit   int64 // bytes of a file
	entries int   // of a directory
}

// descriptor is an open directory or file with the name that messages give it.
type descriptor struct {
	fd   int
	name string
}

func (d descriptor) close() { _ = unix.Close(d.fd) }

// retry repeats what a signal interrupted: the Go runtime sends itself SIGURG at any time.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// kindOf says what a directory entry is, without opening it: opening a device or a FIFO is an act of its own.
func (d descriptor) kindOf(base string) (st unix.Stat_t, err error) {
	err = retry(func() error { return unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

// openat opens an entry that the rules let through.
func (d descriptor) openat(base, name string, flags int, r rules) (descriptor, unix.Stat_t, error) {
	var st unix.Stat_t
	fd := -1
	err := retry(func() (err error) { fd, err = unix.Openat(d.fd, base, openFlags|flags, 0); return err })
	if err != nil {
		return descriptor{}, st, explain(name, err)
	}
	out := descriptor{fd: fd, name: name}
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		out.close()
		return descriptor{}, st, explain(name, err)
	}
	if err := r.check(name, &st); err != nil {
		out.close()
		return descriptor{}, st, err
	}
	return out, st, nil
}

// directory opens a subdirectory, which must not be a link.
func (d descriptor) directory(base, name string, r rules) (descriptor, error) {
	st, err := d.kindOf(base)
	if err != nil {
		return descriptor{}, explain(name, err)
	}
	if kind := kind(&st); kind != unix.S_IFDIR {
		return descriptor{}, problem("make "+name+" a directory, with the files themselves in it", "reading %q: it is %s, not a directory", name, kindName(kind))
	}
	out, _, err := d.openat(base, name, unix.O_DIRECTORY, r)
	return out, err
}

// file reads a regular file, whole.
func (d descriptor) file(base, name string, r rules) ([]byte, error) {
	st, err := d.kindOf(base)
	if err != nil {
		return nil, explain(name, err)
	}
	if err := regular(name, &st); err != nil {
		return nil, err
	}
	f, st, err := d.openat(base, name, 0, r)
	if err != nil {
		return nil, err
	}
	defer f.close()
	if err := regular(name, &st); err != nil {
		return nil, err
	}
	if st.Size > r.limit {
		return nil, tooLarge(name, r.limit)
	}
	return f.read(st.Size, r.limit)
}

// read reads to the end, which may lie beyond what the size promised, but not beyond the limit.
func (d descriptor) read(size, limit int64) ([]byte, error) {
	data := make([]byte, 0, size+1)
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		var n int
		err := retry(func() (err error) { n, err = unix.Read(d.fd, data[len(data):cap(data)]); return err })
		if err != nil {
			return nil, explain(d.name, err)
		}
		data = data[:len(data)+n]
		if int64(len(data)) > limit {
			return nil, tooLarge(d.name, limit)
		}
		if n == 0 {
			return data, nil
		}
	}
}

// check applies the rules to what was opened.
func (r rules) check(name string, st *unix.Stat_t) error {
	mode := modeBits(st)
	if !r.owner(st.Uid) {
		return problem(fmt.Sprintf("if you trust what is in it, make it yours: chown \"$(id -u)\" %q", name),
			"reading %q: it belongs to another user (uid %d)", name, st.Uid)
	}
	if !r.strict || r.sticky && mode&unix.S_IFMT == unix.S_IFDIR && mode&unix.S_ISVTX != 0 {
		return nil
	}
	if mode&0o002 != 0 || mode&0o020 != 0 && !r.private(st.Uid, st.Gid) {
		return problem(fmt.Sprintf("look whether it says what you want, then: chmod go-w %q", name),
			"reading %q: other users can write it (mode %04o)", name, mode&0o7777)
	}
	return nil
}

// modeBits is the mode, which has 16 bits on macOS.
func modeBits(st *unix.Stat_t) uint32 { return uint32(st.Mode) } //nolint:unconvert // it converts on macOS

func kind(st *unix.Stat_t) uint32 { return modeBits(st) & unix.S_IFMT }

func regular(name string, st *unix.Stat_t) error {
	switch k := kind(st); k {
	case unix.S_IFREG:
		return nil
	case unix.S_IFLNK:
		return problem("put the file itself in its place", "reading %q: it is a symbolic link, and links are not followed here", name)
	default:
		return problem("remove it, or put a file in its place", "reading %q: it is %s, not a regular file", name, kindName(k))
	}
}

func kindName(kind uint32) string {
	switch kind {
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	case unix.S_IFREG:
		return "a file"
	}
	return "something unknown"
}

func tooLarge(name string, limit int64) error {
	return problem("make it smaller", "reading %q: it has more than %d bytes", name, limit)
}

// explain names the file in a system error. ENOENT stays fs.ErrNotExist.
func explain(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case errors.Is(err, fs.ErrPermission):
		return problem("let this user read it", "reading %q: %w", name, err)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENOTDIR):
		return problem("try again", "reading %q: it became something else while it was read: %w", name, err)
	}
	return fmt.Errorf("reading %q: %w", name, err)
}
