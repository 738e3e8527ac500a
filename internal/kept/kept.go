// Package kept holds what of agents' homes outlives a run, in directories of agentbox's own: caches of tools and an agent's
// state.
//
// A root directory has one directory for each repository, and that one for each profile: nothing is shared between two.
//
//	ROOT/DIGEST/repo                       the path of the repository
//	ROOT/DIGEST/PROFILE/lock               held, shared, by every run that uses what lies beside it
//	ROOT/DIGEST/PROFILE/NAME/DIRECTORY     what the agent sees, and nothing above it
//
// Everything below DIRECTORY was written by an agent. Nothing on the host reads or executes it: it is measured and removed, by
// descriptors that follow no link. Open refuses what is not as it was made; a lock ends with its process.
package kept

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"agentbox/internal/atomicfile"
	"agentbox/internal/sys"
)

const (
	repoFile = "repo"
	lockFile = "lock"
)

// Problem is an error with what to do about it.
type Problem struct {
	Err  error
	Tip  string
	Path string
}

func (p *Problem) Error() string { return p.Err.Error() }
func (p *Problem) Unwrap() error { return p.Err }

// Hint says what to do.
func (p *Problem) Hint() string { return p.Tip }

// Base is where what one profile keeps in one repository lies below root.
func Base(root, repo, profile string) string {
	sum := sha256.Sum256([]byte(repo))
	return filepath.Join(root, hex.EncodeToString(sum[:16]), profile)
}

// Opened is what a run uses. Nothing removes it before Close, or the end of the process.
type Opened struct{ lock *os.File }

// Close gives it up.
func (o *Opened) Close() error { return o.lock.Close() }

// Open makes the directories that are not there, each NAME/DIRECTORY below Base(root, repo, profile), and checks those that
// are. The error is a *Problem where something else is there.
func Open(root, repo, profile string, dirs []string) (*Opened, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("making the directories that are kept: %w", err)
	}
	base := Base(root, repo, profile)
	for _, dir := range []string{root, filepath.Dir(base), base} {
		if err := ensure(dir); err != nil {
			return nil, err
		}
	}
	lock, err := hold(base)
	if err != nil {
		return nil, err
	}
	if err := fill(base, repo, dirs); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Opened{lock}, nil
}

// hold takes the shared lock of a base. Who removes a base holds it alone, and removes the lock too: then it is made anew.
func hold(base string) (*os.File, error) {
	for range 100 {
		lock, err := os.OpenFile(filepath.Join(base, lockFile), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
		if err == nil {
			err = flock(lock, unix.LOCK_SH)
		}
		if errors.Is(err, fs.ErrNotExist) {
			if err := ensure(filepath.Dir(base)); err != nil {
				return nil, err
			}
			if err := ensure(base); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("locking what is kept: %w", err)
		}
		mine, err := lock.Stat()
		if there, lerr := os.Lstat(lock.Name()); err == nil && lerr == nil && os.SameFile(mine, there) {
			return lock, os.Chtimes("/proc/self/fd/"+strconv.Itoa(int(lock.Fd())), time.Time{}, time.Now())
		}
		_ = lock.Close() // it was removed meanwhile
	}
	return nil, errors.New("locking what is kept: it is removed again and again")
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func fill(base, repo string, dirs []string) error {
	label := filepath.Join(filepath.Dir(base), repoFile)
	if said, err := os.ReadFile(label); err != nil || string(said) != repo {
		if err := atomicfile.Write(label, []byte(repo), 0o600); err != nil {
			return err
		}
	}
	for _, dir := range dirs {
		rel, err := filepath.Rel(base, dir)
		if err != nil || !filepath.IsLocal(rel) || strings.Count(rel, "/") != 1 {
			return fmt.Errorf("making %q: it is not below %q", dir, base)
		}
		for _, d := range []string{filepath.Dir(dir), dir} {
			if err := ensure(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// ensure makes a directory for this user alone, or finds that it is one.
func ensure(dir string) error {
	if err := os.Mkdir(dir, 0o700); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the directories that are kept: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("looking at what is kept: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return strange(dir, "is a link")
	case !info.IsDir():
		return strange(dir, "is no directory")
	case !ok || int(st.Uid) != os.Getuid():
		return strange(dir, "belongs to somebody else")
	case info.Mode().Perm() != 0o700: // an agent owns what it sees, and may have closed or opened it
		if err := chmod(dir, info); err != nil {
			return strange(dir, "has another mode: "+err.Error())
		}
	}
	return nil
}

// chmod gives a directory its mode back, if it is still the one that was looked at. One that is closed to its owner can be
// opened in no other way.
func chmod(dir string, was fs.FileInfo) error {
	fd, err := unix.Open(dir, sys.OPath|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), dir)
	defer func() { _ = f.Close() }() // it is a place, and nothing was written
	if now, err := f.Stat(); err != nil || !os.SameFile(now, was) {
		return errors.New("it was replaced")
	}
	return os.Chmod("/proc/self/fd/"+strconv.Itoa(fd), 0o700)
}

func strange(dir, what string) error {
	return &Problem{Err: fmt.Errorf("%q is to be kept between runs, and %s", dir, what), Path: dir,
		Tip: "agentbox makes these directories itself: look at what is there and remove it; the next run makes it anew"}
}
