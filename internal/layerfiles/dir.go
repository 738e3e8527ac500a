package layerfiles

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tree reads below one directory. It opens the directory anew for each call and keeps nothing open.
type tree struct {
	root  string
	rules rules
	shape rules // of the root itself
}

// Dir gives the files below root, a directory of a person's configuration: files and directories must belong to uid or
// to root, and nobody else may be able to write them (a group that has no other member does not count as somebody). Root
// may be a link; nothing below it is followed. A root that does not exist holds nothing. The value implements fs.ReadFileFS,
// fs.ReadDirFS and fs.GlobFS; its Glob, unlike fs.Glob's own,
// reports a directory that cannot be read, as long as only the pattern's last element holds wildcards.
func Dir(root string, uid int) fs.FS {
	r := personal(uid, MaxFile)
	return &tree{root: root, rules: r, shape: r}
}

// Repo gives the files below root, a working tree. Working trees are shared, and git's files follow the umask, so that only
// the owner of what is read counts: uid or root. What such a file may do is bounded by trust, not by who could have
// written it.
func Repo(root string, uid int) fs.FS {
	anyone := func(uint32) bool { return true }
	return &tree{root: root, rules: rules{owner: ownedBy(uid), limit: MaxFile, entries: MaxFiles}, shape: rules{owner: anyone}}
}

// ReadPrivate reads a file of agentbox's own: dir/base under the rules of Dir, of at most limit bytes.
func ReadPrivate(dir, base string, uid int, limit int64) ([]byte, error) {
	r := personal(uid, limit)
	return (&tree{root: dir, rules: r, shape: r}).ReadFile(base)
}

func personal(uid int, limit int64) rules {
	return rules{owner: ownedBy(uid), strict: true, private: privateGroup, limit: limit, entries: MaxFiles}
}

func ownedBy(uid int) func(uint32) bool {
	return func(owner uint32) bool { return int(owner) == uid || owner == 0 }
}

// full is a file's name in messages.
func (t *tree) full(name string) string { return filepath.Join(t.root, filepath.FromSlash(name)) }

// top opens the root.
func (t *tree) top() (descriptor, error) {
	here := descriptor{fd: unix.AT_FDCWD}
	real, err := filepath.EvalSymlinks(t.root)
	if err != nil {
		if _, lerr := os.Lstat(t.root); errors.Is(err, fs.ErrNotExist) && lerr == nil {
			return descriptor{}, problem("remove the link, or make what it points to", "reading %q: it is a link that leads nowhere", t.root)
		}
		return descriptor{}, explain(t.root, err)
	}
	return here.directory(real, t.root, t.shape)
}

// directory opens the directory of that name, step by step.
func (t *tree) directory(name string) (descriptor, error) {
	at, err := t.top()
	if err != nil || name == "." {
		return at, err
	}
	sofar := ""
	for step := range strings.SplitSeq(name, "/") {
		sofar = path.Join(sofar, step)
		next, err := at.directory(step, t.full(sofar), t.rules)
		at.close()
		if err != nil {
			return descriptor{}, err
		}
		at = next
	}
	return at, nil
}

// ReadFile reads one file.
func (t *tree) ReadFile(name string) ([]byte, error) {
	if !fs.ValidPath(name) || name == "." {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	dir, err := t.directory(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer dir.close()
	return dir.file(path.Base(name), t.full(name), t.rules)
}

// ReadDir lists a directory, links and whatever else is there included: reading them is what fails.
func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	dir, err := t.directory(name)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(dir.fd), dir.name)
	defer f.Close()
	names, err := list(f, t.rules.entries)
	if err != nil {
		return nil, err
	}
	var entries []fs.DirEntry
	for _, base := range names {
		st, err := dir.kindOf(base)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, explain(filepath.Join(dir.name, base), err)
		}
		entries = append(entries, newEntry(base, st.Size, kind(&st)))
	}
	return entries, nil
}

// list gives the names of a directory, sorted.
func list(f *os.File, limit int) ([]string, error) {
	names, err := f.Readdirnames(limit + 1)
	if len(names) > limit {
		return nil, problem("keep other files elsewhere", "reading %q: it has more than %d entries", f.Name(), limit)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, explain(f.Name(), err)
	}
	slices.Sort(names)
	return names, nil
}

// Glob lists files.
func (t *tree) Glob(pattern string) ([]string, error) { return glob(t, pattern) }

// Open opens a file or a directory.
func (t *tree) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if name != "." {
		dir, err := t.directory(path.Dir(name))
		if err != nil {
			return nil, err
		}
		st, err := dir.kindOf(path.Base(name))
		dir.close()
		if err != nil || kind(&st) != unix.S_IFDIR {
			data, err := t.ReadFile(name)
			return newFile(path.Base(name), data, err)
		}
	}
	entries, err := t.ReadDir(name)
	return newDir(path.Base(name), entries, err)
}

// privateGroup says whether a group is its owner's alone, by the convention of Debian, Fedora and others: it has the number
// of its owner, the machine's files know it, and they name no other member. A group that they do not know (a
// directory service's) counts as shared.
func privateGroup(uid, gid uint32) bool {
	groups, err := os.ReadFile("/etc/group")
	if err != nil {
		return false
	}
	users, err := os.ReadFile("/etc/passwd")
	return err == nil && privateIn(string(groups), string(users), uid, gid)
}

func privateIn(groups, users string, uid, gid uint32) bool {
	if uid != gid {
		return false
	}
	number, known := strconv.FormatUint(uint64(gid), 10), false
	for line := range strings.Lines(groups) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 || f[2] != number {
			continue
		}
		if known = f[3] == "" || f[3] == f[0]; !known {
			return false
		}
	}
	for line := range strings.Lines(users) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) >= 4 && f[3] == number && f[2] != number {
			return false
		}
	}
	return known
}

// CheckDir says whether files in a directory of a person's own could be read by the rules of Dir. fs.ErrNotExist says that
// there is none.
func CheckDir(dir string, uid int) error {
	r := personal(uid, MaxFile)
	d, err := (&tree{root: dir, rules: r, shape: r}).top()
	if err == nil {
		d.close()
	}
	return err
}
