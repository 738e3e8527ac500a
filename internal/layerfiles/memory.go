package layerfiles

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// memory is a set of files by their slash-separated paths. An entry with an error stands for something that is there and
// cannot be read; it may stand in a directory's place.
type memory map[string]entry

type entry struct {
	data []byte
	err  error
	kind uint32 // S_IFREG unless err is set
}

// Memory gives files by their paths as a file system, with the same abilities as that of Dir. It keeps the map's values.
func Memory(files map[string][]byte) fs.FS {
	m := memory{}
	for name, data := range files {
		m[name] = entry{data: data, kind: unix.S_IFREG}
	}
	return m
}

// find gives the entry of that name, or the error that stands before it.
func (m memory) find(name string) (entry, error) {
	if !fs.ValidPath(name) {
		return entry{}, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	for i, c := range name {
		if c != '/' {
			continue
		}
		if e, ok := m[name[:i]]; ok && e.err != nil {
			return entry{}, e.err
		} else if ok {
			return entry{}, fmt.Errorf("reading %q: %q is a file, not a directory", name, name[:i])
		}
	}
	e, ok := m[name]
	if !ok {
		return entry{}, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return e, e.err
}

func (m memory) ReadFile(name string) ([]byte, error) {
	e, err := m.find(name)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(e.data), nil
}

func (m memory) ReadDir(name string) ([]fs.DirEntry, error) {
	if _, err := m.find(name); err == nil {
		return nil, fmt.Errorf("reading %q: it is a file, not a directory", name)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	seen := map[string]fs.DirEntry{}
	for p, e := range m {
		rest, below := p, name == "."
		if !below {
			rest, below = strings.CutPrefix(p, name+"/")
		}
		if !below {
			continue
		}
		base, _, deep := strings.Cut(rest, "/")
		kind := e.kind
		if deep {
			kind = unix.S_IFDIR
		}
		seen[base] = newEntry(base, int64(len(e.data)), kind)
	}
	if len(seen) == 0 && name != "." {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	entries := make([]fs.DirEntry, 0, len(seen))
	for _, e := range seen {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func (m memory) Glob(pattern string) ([]string, error) { return glob(m, pattern) }

func (m memory) Open(name string) (fs.File, error) {
	e, err := m.find(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return newFile(path.Base(name), e.data, err)
	}
	entries, err := m.ReadDir(name)
	return newDir(path.Base(name), entries, err)
}

// glob matches the pattern's last element in the directory that comes before it. A directory that is absent has no
// matches; one that cannot be read is an error.
func glob(fsys fs.ReadDirFS, pattern string) ([]string, error) {
	dir, last := path.Dir(pattern), path.Base(pattern)
	if _, err := path.Match(last, ""); err != nil || strings.ContainsAny(dir, `*?[\`) {
		return fs.Glob(struct{ fs.ReadDirFS }{fsys}, pattern)
	}
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if ok, _ := path.Match(last, e.Name()); ok {
			names = append(names, path.Join(dir, e.Name()))
		}
	}
	return names, err
}

// info describes what was read. Times are not kept.
type info struct {
	name string
	size int64
	mode fs.FileMode
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }

// newEntry describes an entry of a directory; the size counts for files only.
func newEntry(base string, size int64, kind uint32) fs.DirEntry {
	if kind != unix.S_IFREG {
		size = 0
	}
	return fs.FileInfoToDirEntry(info{name: base, size: size, mode: modeOf(kind)})
}

func modeOf(kind uint32) fs.FileMode {
	switch kind {
	case unix.S_IFREG:
		return 0o444
	case unix.S_IFDIR:
		return fs.ModeDir | 0o555
	case unix.S_IFLNK:
		return fs.ModeSymlink
	case unix.S_IFIFO:
		return fs.ModeNamedPipe
	case unix.S_IFSOCK:
		return fs.ModeSocket
	case unix.S_IFCHR, unix.S_IFBLK:
		return fs.ModeDevice
	}
	return fs.ModeIrregular
}

type file struct {
	info
	*bytes.Reader
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }
func (f *file) Size() int64                { return f.info.size }

func newFile(base string, data []byte, err error) (fs.File, error) {
	if err != nil {
		return nil, err
	}
	return &file{info: info{name: base, size: int64(len(data)), mode: modeOf(unix.S_IFREG)}, Reader: bytes.NewReader(data)}, nil
}

type directory struct {
	info
	left []fs.DirEntry
}

func (d *directory) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *directory) Close() error               { return nil }

func (d *directory) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errors.New("is a directory")}
}

func (d *directory) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(d.left) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.left) {
		n = len(d.left)
	}
	out := d.left[:n]
	d.left = d.left[n:]
	return out, nil
}

func newDir(base string, entries []fs.DirEntry, err error) (fs.File, error) {
	if err != nil {
		return nil, err
	}
	return &directory{info: info{name: base, mode: modeOf(unix.S_IFDIR)}, left: entries}, nil
}
