// Package atomicfile writes files that are either the old ones or the new ones, whole, and holds locks that end
// with the process.
//
// It owns nothing: a caller names every path, and keeps the unlock function that Lock returns.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another process holds the lock. TryLock returns it, wrapped.
var ErrLocked = errors.New("locked by another process")

// Write replaces the file at path with data, durably: when it returns nil the new content is on the disk, and when
// it returns an error the old content is still there. Mode is applied before the file gets its name. A symbolic
// link at path is replaced, not followed.
func Write(path string, data []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
			err = fmt.Errorf("writing %q: %w", path, err)
		}
	}()
	if err := fill(tmp, data, mode); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// fill writes, syncs and closes f; it closes f on every path.
func fill(f *os.File, data []byte, mode fs.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes a rename in dir durable. Some file systems cannot sync a directory and say EINVAL; there the rename
// is as durable as it gets.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// Lock waits for the exclusive lock on path, a file that it makes (0600) and leaves there: removing a lock file lets
// two processes hold two files of one name. The kernel drops the lock when the process ends.
func Lock(path string) (unlock func() error, err error) { return lock(path, 0) }

// TryLock is Lock without the wait: ErrLocked, wrapped, says that another holds it.
func TryLock(path string) (unlock func() error, err error) { return lock(path, unix.LOCK_NB) }

func lock(path string, flags int) (func() error, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking %q: %w", path, err)
	}
	if err := flock(f, unix.LOCK_EX|flags); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("locking %q: %w", path, err)
	}
	return func() error { // a child that was just forked, and runs no program yet, still has a copy of the descriptor
		return errors.Join(flock(f, unix.LOCK_UN), f.Close())
	}, nil
}

// flock retries what a signal interrupted: the Go runtime sends itself SIGURG at any time.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
