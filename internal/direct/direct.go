// Package direct looks after a run in the direct mode, in which an agent changes the person's own files: what their own
// tools would execute later (package later says what that is) is remembered before the run, looked at after it, and can be put
// back.
//
// It owns one directory of a run: the record of what lay in the repository, copies of what would execute, the list of what
// changed, and what a put-back replaced. It reads and writes below the repository's top only by names that lead through no
// link, and removes nothing: what is in the way of a put-back is moved into its own directory. It does not look into
// git directories, which are guarded otherwise.
package direct

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"agentbox/internal/atomicfile"
	"agentbox/internal/later"
	"agentbox/internal/sys"
)

// What is kept of a repository is bounded. A larger file, or one too many, is seen to have changed and can't be put back.
const (
	maxFile  = 1 << 20  // bytes of one file
	maxKept  = 64 << 20 // bytes of all
	maxFiles = 20_000   // that would execute
)

// The files of the directory.
const (
	recordFile  = "record.json"
	changesFile = "changes.json"
	keptDir     = "kept"
	undoneDir   = "undone"
)

// state is what lies at a path.
type state struct {
	Mode  fs.FileMode `json:"mode"` // type and permission bits
	Size  int64       `json:"size,omitempty"`
	Link  string      `json:"link,omitempty"`
	Inode uint64      `json:"inode"`
	Ctime int64       `json:"ctime"` // which a program can't set
	Sum   string      `json:"sum,omitempty"`
	Kept  string      `json:"kept,omitempty"` // the name of the copy
}

// record is what there was before a run.
type record struct {
	Root  string           `json:"root"`
	Key   string           `json:"key"`   // of the hashes
	Files map[string]state `json:"files"` // what would execute, by its path
	Names []uint64         `json:"names"` // a hash of each path that there was, sorted
	Exact []uint64         `json:"exact"` // … of each with its inode and time, sorted: what has the same is the same
}

// stateOf is that of a file or a link, without its content.
func stateOf(info fs.FileInfo) state {
	s := state{Mode: info.Mode() & (fs.ModeType | fs.ModePerm), Size: info.Size()}
	if st, isStat := info.Sys().(*syscall.Stat_t); isStat {
		s.Inode, s.Ctime = st.Ino, sys.ChangeTime(st)
	}
	return s
}

// stat gives the state of what lies at path, without its content. ok is false where there is nothing, or something that is
// neither a file nor a link.
func stat(root *os.Root, path string) (s state, ok bool, err error) {
	info, err := root.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return state{}, false, nil
	}
	if err != nil {
		return state{}, false, err
	}
	if !info.Mode().IsRegular() && info.Mode()&fs.ModeSymlink == 0 {
		return state{}, false, nil
	}
	s = stateOf(info)
	if s.Mode&fs.ModeSymlink != 0 {
		s.Link, err = root.Readlink(path)
	}
	return s, true, err
}

// errNotPlain says that what was a file is none any more.
var errNotPlain = errors.New("it is not a plain file")

// content gives at most limit bytes of a plain file, and waits for nothing.
func content(root *os.Root, path string, limit int64) ([]byte, error) {
	f, err := root.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNotPlain
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// side is a state as package later wants it.
func (s state) side(read func() ([]byte, error)) *later.File {
	return &later.File{Mode: s.Mode, Read: read}
}

func read(path string, v any) error {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	return err
}

func write(path string, v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		err = atomicfile.Write(path, text, 0o600)
	}
	return err
}

// open opens a repository's top and the record of a run.
func open(dir string) (*os.Root, record, error) {
	var r record
	if err := read(filepath.Join(dir, recordFile), &r); err != nil {
		return nil, r, fmt.Errorf("reading what there was before the run: %w", err)
	}
	root, err := os.OpenRoot(r.Root)
	return root, r, err
}
