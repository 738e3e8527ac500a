package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The work of a run in the review mode is what it changed: WorkDir in its state directory. It is whole when workRecord is in
// it, which the run writes last before it starts. Nothing but Discard removes a whole one.
const (
	WorkDir      = "work"       // state
	DiscardedDir = ".discarded" // state: work that is being removed, and nobody's any more
	workRecord   = "base.json"
)

// HasWork reports whether a session's directory holds work.
func HasWork(dir string) bool { return exists(filepath.Join(dir, WorkDir, workRecord)) }

// Discard removes the work of a run that has ended. What of it belongs to a subordinate uid only the user namespace can
// remove: remove is called with the directory. Should that fail, Tidy does it again; the work is gone all the same.
func Discard(info Info, remove func(dir string) error) error {
	lock, err := takeLock(filepath.Join(info.Dir, lockFile), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return problem("wait for its end, or end it with `agentbox stop --session "+info.ID+"`", "discarding the work of run %s: it still runs", info.ID)
	}
	if err != nil {
		return fmt.Errorf("discarding the work of run %s: %w", info.ID, err)
	}
	defer func() { _ = lock.Close() }()
	if err := discard(info.Dir, remove); err != nil {
		return fmt.Errorf("discarding the work of run %s: %w", info.ID, err)
	}
	return nil
}

// DiscardWork removes the work of this session's own run, whose container is gone.
func (s *Session) DiscardWork(remove func(dir string) error) error { return discard(s.Dir, remove) }

// discard gives the work another name first, so that nobody takes a half-removed one for whole.
func discard(dir string, remove func(dir string) error) error {
	work, gone := filepath.Join(dir, WorkDir), filepath.Join(dir, DiscardedDir)
	if exists(gone) {
		if err := remove(gone); err != nil {
			return err
		}
	}
	if err := os.Rename(work, gone); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return remove(gone)
}

// broken reports whether a dead session left something of work that nobody can use: a copy that was broken off, or what a
// removal left.
func broken(info Info) bool {
	return exists(filepath.Join(info.Dir, DiscardedDir)) || exists(filepath.Join(info.Dir, WorkDir)) && !HasWork(info.Dir)
}

// ClearBroken removes what of a dead session's work is broken: a copy that was broken off, and what a removal left. It is for
// what Tidy calls, which holds the session's lock.
func ClearBroken(info Info, remove func(dir string) error) error {
	if !broken(info) {
		return nil
	}
	if gone := filepath.Join(info.Dir, DiscardedDir); HasWork(info.Dir) {
		return remove(gone)
	}
	return discard(info.Dir, remove)
}
