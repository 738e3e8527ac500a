package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"agentbox/internal/changes"
	"agentbox/internal/sys"

	"golang.org/x/sys/unix"
)

// step is one change of the repository, prepared.
type step struct {
	rec   record
	place *place
	was   pin // what it was decided on
	again func() (*step, error)
	tries int
}

// shape is what a step does.
type shape int

const (
	putNew  shape = iota // a file or a link where nothing is
	putOver              // … in the place of a file or a link
	unlink               // a file or a link goes
	rmdir                // a directory goes
	mkdir                // a directory comes
	setMode              // of a file or a directory
)

func (r record) shape() shape {
	before, after := r.Before.Kind, r.After.Kind
	switch {
	case before == changes.Dir && after == changes.Absent:
		return rmdir
	case before == changes.Absent && after == changes.Dir:
		return mkdir
	case after == changes.Absent:
		return unlink
	case r.Temp == "":
		return setMode
	case before == changes.Absent:
		return putNew
	}
	return putOver
}

func (st *step) shape() shape { return st.rec.shape() }

// alone says that the next step may need this one.
func (st *step) alone() bool { return st.shape() == mkdir }

// discard removes the temporary file of a step that does not happen. It is ours as long as the step did not swap it.
func (st *step) discard() {
	if st.rec.Temp != "" && st.shape() != unlink {
		_ = unix.Unlinkat(st.place.fd(), st.rec.Temp, 0)
	}
}

// next numbers a step on a path.
func (a *applier) next(p *place, rel string, was pin, after changes.State, o Outcome) *step {
	a.n++
	before := was.state()
	if mode, loose := a.loose[rel]; loose && before.Kind == changes.Dir {
		before.Mode = mode
	}
	return &step{place: p, was: was, rec: record{What: ready, N: a.n, Path: changes.Name(rel), Before: before, After: after, Told: &o}}
}

func (a *applier) tempName() string { return fmt.Sprintf("%s%d", a.tempPrefix(), a.n) }

func (a *applier) tempPrefix() string { return ".agentbox-" + a.nonce + "-" }

// commit does a step.
func (a *applier) commit(st *step) error {
	now, err := pinAt(st.place.fd(), st.place.name)
	if err != nil {
		return err
	}
	if now.kind() != st.was.kind() || now.kind() != changes.Absent && st.shape() != rmdir && !st.was.still(now, st.was.kind() == changes.Dir) {
		return errMoved
	}
	fd, name, temp := st.place.fd(), st.place.name, st.rec.Temp
	switch st.shape() {
	case putNew:
		return putInto(fd, temp, name)
	case putOver:
		return a.swap(st)
	case unlink:
		return a.takeAway(st)
	case rmdir:
		if err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); err != nil {
			return err
		}
		delete(a.loose, string(st.rec.Path))
		return nil
	case mkdir:
		return a.makeIt(st)
	}
	if err := chmodAt(fd, name, st.was, st.rec.After.Mode); err != nil {
		return err
	}
	if st.was.kind() == changes.Dir {
		delete(a.loose, string(st.rec.Path))
		return a.knowDir(st.place, string(st.rec.Path), st.rec.After)
	}
	return nil
}

// putInto gives a file its name, where there must be nothing.
func putInto(fd int, temp, name string) error {
	err := rename2(fd, temp, name, sys.RenameNoReplace)
	if errors.Is(err, errors.ErrUnsupported) {
		if err = unix.Linkat(fd, temp, fd, name, 0); err == nil {
			err = unix.Unlinkat(fd, temp, 0)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return errMoved
	}
	return err
}

// swap puts the new file into the place of the old one, and looks whether what came out is what was decided on: a program may
// have written in between, and then it gets its file back.
func (a *applier) swap(st *step) error {
	fd, name, temp := st.place.fd(), st.place.name, st.rec.Temp
	err := rename2(fd, temp, name, sys.RenameExchange)
	if errors.Is(err, errors.ErrUnsupported) {
		return unix.Renameat(fd, temp, fd, name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return errMoved
	}
	if err != nil {
		return err
	}
	a.at("after an exchange")
	out, err := pinAt(fd, temp)
	if err != nil {
		return fatal(err)
	}
	if !st.was.still(out, true) {
		return movedUnless(rename2(fd, temp, name, sys.RenameExchange))
	}
	return fatal(unix.Unlinkat(fd, temp, 0)) // the old file has a copy in undo
}

// takeAway removes a file by way of another name, to see that it is the one that was decided on.
func (a *applier) takeAway(st *step) error {
	fd, name, temp := st.place.fd(), st.place.name, st.rec.Temp
	err := rename2(fd, name, temp, sys.RenameNoReplace)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return unix.Unlinkat(fd, name, 0)
	case errors.Is(err, fs.ErrNotExist):
		return errMoved
	case err != nil:
		return err
	}
	a.at("after a removal's rename")
	out, err := pinAt(fd, temp)
	if err != nil {
		return fatal(err)
	}
	if !st.was.still(out, true) {
		return movedUnless(rename2(fd, temp, name, sys.RenameNoReplace))
	}
	return fatal(unix.Unlinkat(fd, temp, 0))
}

// movedUnless is errMoved when what was taken could be given back.
func movedUnless(err error) error {
	if err != nil {
		return fatal(fmt.Errorf("giving back what changed at this moment: %w", err))
	}
	return errMoved
}

// makeIt makes a directory; while files are put into it, its owner can.
func (a *applier) makeIt(st *step) error {
	rel, mode := string(st.rec.Path), st.rec.After.Mode.Perm()
	if mode&0o700 != 0o700 {
		if err := a.journal.write(record{What: loosens, Path: st.rec.Path, Before: st.rec.After}); err != nil {
			return fatal(err)
		}
		a.loose[rel] = mode
	}
	if err := unix.Mkdirat(st.place.fd(), st.place.name, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return errMoved
		}
		return err
	}
	a.at("after mkdir")
	is, err := pinAt(st.place.fd(), st.place.name)
	if err != nil {
		return err
	}
	return chmodAt(st.place.fd(), st.place.name, is, mode|0o700)
}

// rename2 renames within a directory. errors.ErrUnsupported says that the file system knows no such flag.
func rename2(fd int, from, to string, flags uint) error {
	err := sys.Renameat2(fd, from, fd, to, flags)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return errors.ErrUnsupported
	}
	return err
}

func isNotEmpty(err error) bool { return errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) }

// syncAll makes what was done in the directories of the steps last.
func syncAll(batch []*step) error {
	seen := map[string]bool{}
	for _, st := range batch {
		dir := filepath.Dir(string(st.rec.Path))
		if seen[dir] {
			continue
		}
		seen[dir] = true
		if err := st.place.dir.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return nil
}

func (a *applier) syncUndo() error { return fatal(syncDir(filepath.Join(a.s.Work, "undo"))) }

// backup copies what a step replaces, and names its content.
func (a *applier) backup(st *step) error {
	if st.was.kind() != changes.File {
		return nil
	}
	f, err := openPinned(st.place, st.was)
	if err != nil {
		return fmt.Errorf("keeping what is there: %w", err)
	}
	defer f.Close()
	name := filepath.Join("undo", fmt.Sprint(st.rec.N))
	out, err := a.undoFile(name)
	if err != nil {
		return fatal(fmt.Errorf("keeping what is there: %w", err))
	}
	defer out.Close()
	if st.rec.Was, err = copySparse(out, f); err == nil {
		err = out.Sync()
	}
	if err != nil {
		return fatal(fmt.Errorf("keeping what is there: %w", err))
	}
	st.rec.Backup = name
	a.at("after a backup")
	return nil
}

// undoFile makes a file below <work>; an earlier one of the name belongs to a step that was never written down.
func (a *applier) undoFile(name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(a.s.Work, name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
}

// openPinned opens the file that was looked at.
func openPinned(p *place, was pin) (*os.File, error) {
	fd, err := unix.Openat(p.fd(), p.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p.name, Err: err}
	}
	f := os.NewFile(uintptr(fd), p.name)
	var now pin
	if err := unix.Fstat(fd, &now.st); err != nil || !was.still(now, false) {
		_ = f.Close()
		return nil, errors.Join(err, errMoved)
	}
	return f, nil
}

// copySparse copies a file without its zeros and gives the content's digest.
func copySparse(to, from *os.File) (string, error) {
	size, err := changes.Blocks(from, func(at int64, data []byte) error {
		_, err := to.WriteAt(data, at)
		return err
	})
	if err == nil {
		err = to.Truncate(size)
	}
	if err != nil {
		return "", err
	}
	return changes.Digest(to)
}

// fill makes the temporary file of a step beside its target.
func (a *applier) fill(st *step, content func(*os.File) error) error {
	temp := a.tempName()
	if st.rec.After.Kind == changes.Link {
		if err := st.place.root.Symlink(st.rec.After.Link, temp); err != nil {
			return err
		}
		st.rec.Temp = temp
		return nil
	}
	f, err := st.place.root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	st.rec.Temp = temp
	a.at("after an empty temporary file")
	if err = content(f); err == nil {
		err = f.Chmod(st.rec.After.Mode.Perm())
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		st.rec.Will, err = changes.Digest(f)
	}
	var info fs.FileInfo
	if err == nil {
		info, err = f.Stat()
	}
	if err != nil {
		st.discard()
		return err
	}
	st.rec.After.Size = info.Size()
	a.at("after a temporary file")
	return nil
}

// isTemp says whether a name is that of a temporary file of this apply.
func (a *applier) isTemp(name string) bool { return strings.HasPrefix(name, a.tempPrefix()) }
