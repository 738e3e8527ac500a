package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"agentbox/internal/sys"
)

// copy fills the layer. Where something is to be hidden nothing is copied, and nothing needs to be laid over it.
func (b *builder) copy(ctx context.Context) error {
	skip := map[string]bool{b.repo.Common: true}
	for target, m := range b.mounts {
		if m.Kind == Hide && !within(target, b.repo.Common) {
			skip[target] = true
		}
	}
	c := &copier{ctx: ctx, skip: skip, limit: b.layer.Limit}
	if err := c.tree(b.repo.Root, filepath.Join(b.layer.Work, "copy")); err != nil {
		return err
	}
	if b.repo.Outside() == "" {
		// A mount point of its own: a container's engine would make it otherwise, as somebody else.
		if err := os.Mkdir(filepath.Join(b.layer.Work, "copy", ".git"), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if b.layer.CopyGit {
		if err := b.copyGit(c); err != nil {
			return err
		}
	}
	return b.keepCopied(skip)
}

// keepCopied takes the mounts away whose place was not copied, which a file that went meanwhile is, too.
func (b *builder) keepCopied(skip map[string]bool) error {
	seen := b.sorted() // what lies below something hidden stays hidden when that is taken away
	b.mounts = map[string]Mount{}
	for _, m := range seen {
		b.mounts[m.Target] = m
	}
	for _, m := range seen {
		place := b.layer.copied(b.repo, m.Target)
		if m.Kind == Tree || place == "" {
			continue
		}
		_, err := os.Lstat(place)
		switch {
		case skip[m.Target], errors.Is(err, fs.ErrNotExist) && m.Kind != Hide:
			delete(b.mounts, m.Target)
		case err != nil:
			return err
		}
	}
	return nil
}

// copyGit copies what git writes to. The objects that are there are only read, and are taken from the repository's own.
func (b *builder) copyGit(c *copier) error {
	to := filepath.Join(b.layer.Work, "git", "copy")
	objects := filepath.Join(b.repo.Common, "objects")
	c.skip = map[string]bool{objects: true}
	if err := c.tree(b.repo.Common, to); err != nil {
		return err
	}
	for _, dir := range []string{"objects/info", "objects/pack", hostObjects} {
		if err := os.MkdirAll(filepath.Join(to, dir), 0o755); err != nil {
			return err
		}
	}
	// relative to the directory of objects that names it
	if err := os.WriteFile(filepath.Join(to, "objects", "info", "alternates"), []byte("../"+hostObjects+"\n"), 0o644); err != nil {
		return err
	}
	target := filepath.Join(b.repo.Common, hostObjects)
	b.point(target)
	b.add(Mount{Source: objects, Target: target, ReadOnly: true, Kind: Guard})
	return nil
}

// ErrTooLarge says that a copy would take more than it may.
var ErrTooLarge = errors.New("it is larger than the limit on the disk of this run")

// copier copies trees: links as links, hard links as hard links, holes as holes, modes and times as they are. It goes from
// directory to directory by descriptor and follows no link, whatever somebody does to the tree meanwhile.
type copier struct {
	ctx   context.Context
	skip  map[string]bool // absolute paths that are left out
	limit int64
	taken int64
	links map[inode]string // the copies of files that have more than one name
}

type inode struct{ dev, ino uint64 }

func (c *copier) tree(from, to string) error {
	c.links = map[inode]string{}
	fd, err := unix.Open(from, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: from, Err: err}
	}
	return c.dir(os.NewFile(uintptr(fd), from), to)
}

// dir copies what is in a directory that there is a copy of, and closes it.
func (c *copier) dir(from *os.File, to string) error {
	defer func() { _ = from.Close() }() // only read
	entries, err := from.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.ctx.Err(); err != nil {
			return context.Cause(c.ctx)
		}
		if c.skip[path.Join(from.Name(), e.Name())] {
			continue
		}
		if err := c.entry(from, e.Name(), filepath.Join(to, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (c *copier) entry(dir *os.File, name, to string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "stat", Path: path.Join(dir.Name(), name), Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return c.subdir(dir, name, to, st)
	case unix.S_IFLNK:
		return c.link(dir, name, to, st)
	case unix.S_IFREG:
		return c.file(dir, name, to, st)
	}
	return nil // a device, a socket or a pipe leads out of the boundary
}

func (c *copier) open(dir *os.File, name string, flags int) (*os.File, error) {
	at := path.Join(dir.Name(), name)
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: at, Err: err}
	}
	return os.NewFile(uintptr(fd), at), nil
}

func (c *copier) subdir(dir *os.File, name, to string, st unix.Stat_t) error {
	from, err := c.open(dir, name, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return errors.Join(err, from.Close())
	}
	if err := c.dir(from, to); err != nil {
		return err
	}
	return finish(to, st)
}

// finish gives a copy its mode, without what gives rights, and its time.
func finish(to string, st unix.Stat_t) error {
	if err := os.Chmod(to, fs.FileMode(st.Mode&0o777)|fs.ModeSticky*fs.FileMode(st.Mode&unix.S_ISVTX>>9)); err != nil {
		return err
	}
	return touch(to, st)
}

func touch(to string, st unix.Stat_t) error {
	times := []unix.Timespec{{Nsec: sys.UtimeOmit}, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "utimensat", Path: to, Err: err}
	}
	return nil
}

func (c *copier) link(dir *os.File, name, to string, st unix.Stat_t) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
	if err != nil {
		return &fs.PathError{Op: "readlink", Path: path.Join(dir.Name(), name), Err: err}
	}
	if err := os.Symlink(string(buf[:n]), to); err != nil {
		return err
	}
	return touch(to, st)
}

func (c *copier) file(dir *os.File, name, to string, st unix.Stat_t) error {
	key := inode{sys.Device(&st), st.Ino}
	if first, ok := c.links[key]; ok {
		return os.Link(first, to)
	}
	from, err := c.open(dir, name, 0)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read
	if err := unix.Fstat(int(from.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(c.content(out, from, st.Size), out.Close()); err != nil {
		return err
	}
	if st.Nlink > 1 {
		c.links[key] = to
	}
	return finish(to, st)
}

// content shares the blocks where the file system can, which takes no room, and copies the data between the holes elsewhere.
func (c *copier) content(to, from *os.File, size int64) error {
	if size == 0 || sys.CloneFile(int(to.Fd()), int(from.Fd())) == nil {
		return nil
	}
	for at := int64(0); at < size; {
		begin, end, err := extent(from, at, size)
		if err != nil {
			return err
		}
		if begin >= size {
			break
		}
		if err := c.piece(to, from, begin, end); err != nil {
			return err
		}
		at = end
	}
	return to.Truncate(size)
}

// extent is where the next data of a file lie. A file system that knows no holes says that all is data.
func extent(f *os.File, at, size int64) (begin, end int64, err error) {
	if begin, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA); err == unix.ENXIO {
		return size, size, nil
	} else if err == unix.EINVAL {
		return at, size, nil
	} else if err != nil {
		return 0, 0, err
	}
	end, err = unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE)
	return begin, min(end, size), err
}

const pieceSize = 8 << 20 // copied between two looks at whether to go on

func (c *copier) piece(to, from *os.File, begin, end int64) error {
	for _, f := range []*os.File{to, from} {
		if _, err := f.Seek(begin, io.SeekStart); err != nil {
			return err
		}
	}
	for begin < end {
		if err := c.ctx.Err(); err != nil {
			return context.Cause(c.ctx)
		}
		n, err := io.Copy(to, io.LimitReader(from, min(pieceSize, end-begin)))
		if err != nil {
			return err
		}
		if n == 0 {
			return nil // it has become shorter
		}
		begin += n
		if c.taken += n; c.limit > 0 && c.taken > c.limit {
			return fmt.Errorf("%w (%d MiB)", ErrTooLarge, c.limit>>20)
		}
	}
	return nil
}

// CanOverlay says why there can be no overlay over repo with its upper layer in dir, which need not exist yet; "" if there can.
// It tries there what the kernel would need: to keep attributes and to mark what was deleted. Then mount, which is called with a
// scratch directory, has the kernel make overlays over the given directories.
func CanOverlay(repo Repo, dir string, mount func(scratch string, lower ...string) error) string {
	for _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist); _, err = os.Stat(dir) {
		dir = filepath.Dir(dir)
	}
	for _, path := range append(repo.tops(), dir) {
		if strings.ContainsAny(path, `\:,`) {
			return fmt.Sprintf("the kernel takes no path like %s for one", quote(path))
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Sprintf("the file system of %s can't be asked: %v", quote(dir), err)
	}
	if isRemote(&st) {
		return fmt.Sprintf("the file system of %s can't be the upper one of an overlay", quote(dir))
	}
	return tryUpper(dir, func(scratch string) error { return mount(scratch, repo.Root, repo.Common) })
}

func tryUpper(dir string, mount func(scratch string) error) string {
	// Its name is longer than what a run's own layer has below dir: the kernel takes so many characters of all paths together.
	try, err := os.MkdirTemp(dir, ".try-*"+strings.Repeat("-", 80))
	if err != nil {
		return fmt.Sprintf("nothing can be written to %s: %v", quote(dir), err)
	}
	defer func() { _ = os.RemoveAll(try) }()
	if err := unix.Setxattr(try, "user.overlay.opaque", []byte("y"), 0); err != nil {
		return fmt.Sprintf("the file system of %s keeps no attributes (%v)", quote(dir), err)
	}
	if err := unix.Mknod(filepath.Join(try, "deleted"), unix.S_IFCHR, 0); err != nil {
		return fmt.Sprintf("the file system of %s can't mark what was deleted (%v)", quote(dir), err)
	}
	if err := mount(try); err != nil {
		return fmt.Sprintf("the kernel turns it down: %v", err)
	}
	return ""
}
