package layerfiles

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// overflow is the number that a user namespace shows for users that it does not know.
const overflow = 65534

// maxLinks is how many links the way to a policy may have.
const maxLinks = 16

// ReadPolicy reads the organisation's file at an absolute path. It, every directory above it and every link on the way must
// be root's, and writable by root alone (a directory with the sticky bit may be open to others: they cannot replace what
// is root's). fs.ErrNotExist says that the file, or a directory above it, is absent and that root alone could have
// removed it; any other error means that what the organisation says is not known.
func ReadPolicy(path string) ([]byte, error) {
	root, err := systemUID()
	if err != nil {
		return nil, explain("/", err)
	}
	return readOwned(path, func(uid uint32) bool { return uid == 0 || uid == root })
}

// systemUID is the number that the machine's root has here: in a user namespace that does not know root, the machine's own
// directories belong to the overflow user.
func systemUID() (uint32, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Lstat("/", &st) }); err != nil {
		return 0, err
	}
	if st.Uid == overflow {
		return overflow, nil
	}
	return 0, nil
}

// readOwned walks from "/" to the file, on directory descriptors, reading links itself.
func readOwned(path string, owner func(uint32) bool) ([]byte, error) {
	if !filepath.IsAbs(path) {
		return nil, problem("write an absolute path", "reading %q: the path depends on where agentbox is started", path)
	}
	nobody := func(uint32, uint32) bool { return false }
	w := walk{rules: rules{owner: owner, strict: true, sticky: true, private: nobody, limit: MaxFile}, path: filepath.Clean(path)}
	defer w.close()
	if err := w.restart(); err != nil {
		return nil, err
	}
	data, err := w.run(split(w.path))
	if w.links > 0 && errors.Is(err, fs.ErrNotExist) {
		return nil, problem("remove the link, or make what it points to", "reading %q: a link on the way leads nowhere: %q", path, w.name)
	}
	return data, err
}

// walk is where a walk stands: in an open directory.
type walk struct {
	rules rules
	path  string
	at    descriptor
	open  bool
	name  string // of what is looked at, for messages
	links int
}

func (w *walk) close() {
	if w.open {
		w.at.close()
	}
	w.open = false
}

func (w *walk) enter(next descriptor, err error) error {
	if err != nil {
		return err
	}
	w.close()
	w.at, w.open = next, true
	return nil
}

func (w *walk) restart() error {
	return w.enter(descriptor{fd: unix.AT_FDCWD}.directory("/", "/", w.rules))
}

func split(path string) (steps []string) {
	for step := range strings.SplitSeq(path, "/") {
		if step != "" && step != "." {
			steps = append(steps, step)
		}
	}
	return steps
}

// run goes the steps; the last is the file.
func (w *walk) run(steps []string) ([]byte, error) {
	for len(steps) > 0 {
		step := steps[0]
		w.name = filepath.Join(w.at.name, step)
		st, err := w.at.kindOf(step)
		switch {
		case err != nil:
			return nil, explain(w.name, err)
		case kind(&st) == unix.S_IFLNK:
			target, err := w.link(step, &st)
			if err != nil {
				return nil, err
			}
			steps = append(split(target), steps[1:]...)
			continue
		case len(steps) == 1:
			return w.at.file(step, w.name, w.rules)
		}
		if err := w.enter(w.at.directory(step, w.name, w.rules)); err != nil {
			return nil, err
		}
		steps = steps[1:]
	}
	return nil, problem("put a file there", "reading %q: it is a directory", w.path)
}

// link reads a link of root's and goes to where its target begins.
func (w *walk) link(step string, st *unix.Stat_t) (string, error) {
	if w.links++; w.links > maxLinks {
		return "", problem("put the file itself in its place", "reading %q: there are more than %d links on the way", w.path, maxLinks)
	}
	if !w.rules.owner(st.Uid) {
		return "", problem("have the machine's administrator look at it", "reading %q: %q is a link of another user's (uid %d)", w.path, w.name, st.Uid)
	}
	buf := make([]byte, unix.PathMax)
	var n int
	if err := retry(func() (err error) { n, err = unix.Readlinkat(w.at.fd, step, buf); return err }); err != nil {
		return "", explain(w.name, err)
	}
	target := string(buf[:n])
	if filepath.IsAbs(target) {
		return target, w.restart()
	}
	return target, nil
}
