package workspace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"agentbox/internal/sys"
)

// walkers is how many directories are read at once: enough to wait for a disk, and more than two processors gain nothing.
const walkers = 4

// dirent is a name in a directory, with its type.
type dirent struct {
	name string
	kind fs.FileMode
}

func (e dirent) Name() string      { return e.name }
func (e dirent) Type() fs.FileMode { return e.kind }
func (e dirent) IsDir() bool       { return e.kind.IsDir() }

// crawl reads every directory below a root but those that are notable. It opens no file, asks for no file's state where the
// directory tells its type, and makes nothing of a name that nobody wants to see: a start waits for it.
type crawl struct {
	root    string
	most    int                                           // entries in all
	notable func(rel, name []byte, kind fs.FileMode) bool // whether visit is to see it; called by several at once
	visit   func(e dirent, abs, rel string) error         // one at a time; of a directory, that is not gone into
	failed  func(dir, rel string, err error) error        // what a directory that can't be read means; one at a time

	mu   sync.Mutex
	more sync.Cond // there is something to do, or nothing any more
	todo []string  // directories, relative to the root
	busy int
	seen int
	err  error
}

// run walks, and returns the first error of what it calls.
func (w *crawl) run() error {
	w.more.L = &w.mu
	w.todo = []string{""}
	var all sync.WaitGroup
	for range walkers {
		all.Go(w.work)
	}
	all.Wait()
	return w.err
}

func (w *crawl) work() {
	buf := make([]byte, 64<<10)
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.todo) == 0 && w.busy > 0 && w.err == nil {
			w.more.Wait()
		}
		if len(w.todo) == 0 || w.err != nil {
			return
		}
		rel := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		w.busy++
		w.mu.Unlock()
		found, err := w.list(rel, buf)
		w.mu.Lock()
		w.busy--
		w.take(rel, found, err)
		w.more.Broadcast()
	}
}

// listed is what a directory holds, as far as it matters.
type listed struct {
	count int
	dirs  []string
	noted []dirent
}

func (w *crawl) take(rel string, found listed, err error) {
	if w.seen += found.count; w.seen > w.most && w.err == nil {
		w.err = errTooMany
	}
	if err != nil && w.err == nil {
		w.err = w.failed(filepath.Join(w.root, rel), rel, err)
	}
	for _, e := range found.noted {
		if w.err == nil {
			w.err = w.visit(e, filepath.Join(w.root, rel, e.name), path.Join(rel, e.name))
		}
	}
	w.todo = append(w.todo, found.dirs...)
}

var errTooMany = errors.New("it holds too many files")

// list reads one directory. A link that took its place meanwhile leads elsewhere and is not followed.
func (w *crawl) list(rel string, buf []byte) (out listed, err error) {
	dir := filepath.Join(w.root, rel)
	flags := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	if rel != "" {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := retry(func() (int, error) { return unix.Open(dir, flags, 0) })
	if err != nil {
		return out, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer func() { _ = unix.Close(fd) }() // only read
	for {
		n, err := retry(func() (int, error) { return sys.Getdents(fd, buf) })
		if err != nil {
			return out, &fs.PathError{Op: "getdents64", Path: dir, Err: err}
		}
		if n == 0 {
			return out, nil
		}
		if err := w.entries(fd, rel, buf[:n], &out); err != nil {
			return out, fmt.Errorf("reading %s: %w", quote(dir), err)
		}
	}
}

// retry calls again what a signal has interrupted.
func retry(call func() (int, error)) (n int, err error) {
	for n, err = call(); errors.Is(err, unix.EINTR); n, err = call() {
	}
	return n, err
}

// Where the fields of a linux_dirent64 are.
const (
	direntLength = 16 // two bytes
	direntType   = 18
	direntName   = 19
)

// entries goes through what getdents gave.
func (w *crawl) entries(fd int, rel string, buf []byte, out *listed) error {
	dir := []byte(rel)
	for len(buf) > direntName {
		length := int(binary.NativeEndian.Uint16(buf[direntLength:]))
		if length <= direntName || length > len(buf) {
			return errors.New("a directory entry has no sensible length")
		}
		name, kind := buf[direntName:length], buf[direntType]
		buf = buf[length:]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		if string(name) == "." || string(name) == ".." {
			continue
		}
		out.count++
		mode, ok := kindOf(fd, name, kind)
		switch {
		case !ok: // it is gone
		case w.notable(dir, name, mode):
			out.noted = append(out.noted, dirent{string(name), mode})
		case mode.IsDir():
			out.dirs = append(out.dirs, path.Join(rel, string(name)))
		}
	}
	return nil
}

// kindOf is the type of an entry. Not every file system tells it with the name.
func kindOf(fd int, name []byte, kind byte) (mode fs.FileMode, ok bool) {
	switch kind {
	case unix.DT_REG:
		return 0, true
	case unix.DT_DIR:
		return fs.ModeDir, true
	case unix.DT_LNK:
		return fs.ModeSymlink, true
	case unix.DT_FIFO:
		return fs.ModeNamedPipe, true
	case unix.DT_SOCK:
		return fs.ModeSocket, true
	case unix.DT_BLK, unix.DT_CHR:
		return fs.ModeDevice, true
	}
	var st unix.Stat_t
	if _, err := retry(func() (int, error) { return 0, unix.Fstatat(fd, string(name), &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return 0, false
	}
	return kindOf(fd, name, byte(st.Mode&unix.S_IFMT>>12)) // the two numberings are the same
}
