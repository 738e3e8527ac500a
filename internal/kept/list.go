package kept

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"agentbox/internal/caches"
)

// Entry is one thing that is kept: a cache, or a directory of an agent's home.
type Entry struct {
	Repo    string // "" when nobody knows
	Profile string
	Name    string
	Path    string
	Used    time.Time // when a run last began that uses its profile, at the latest
	Strange string    // why it is none of ours: it is not removed either
}

// ErrInUse says that a run uses it.
var ErrInUse = errors.New("a run uses it")

// List gives what is kept below a root. What could not be read is named in the error, which comes with the rest.
func List(root string) ([]Entry, error) {
	var out []Entry
	var errs []error
	for _, repo := range names(root, &errs) {
		at := filepath.Join(root, repo)
		said, err := os.ReadFile(filepath.Join(at, repoFile))
		if err != nil {
			said = nil
		}
		if !plainDir(at) {
			out = append(out, Entry{Path: at, Strange: "it is no directory that agentbox made"})
			continue
		}
		for _, profile := range names(at, &errs) {
			if profile == repoFile {
				continue
			}
			out = append(out, ofProfile(string(said), filepath.Join(at, profile), &errs)...)
		}
	}
	return out, errors.Join(errs...)
}

func ofProfile(repo, base string, errs *[]error) (out []Entry) {
	profile := filepath.Base(base)
	if !plainDir(base) {
		return []Entry{{Repo: repo, Profile: profile, Path: base, Strange: "it is no directory that agentbox made"}}
	}
	var used time.Time
	if info, err := os.Lstat(filepath.Join(base, lockFile)); err == nil {
		used = info.ModTime()
	}
	for _, name := range names(base, errs) {
		if name == lockFile {
			continue
		}
		e := Entry{Repo: repo, Profile: profile, Name: caches.Name(name), Path: filepath.Join(base, name), Used: used}
		if !plainDir(e.Path) {
			e.Strange = "it is no directory that agentbox made"
		}
		out = append(out, e)
	}
	return out
}

func names(dir string, errs *[]error) (out []string) {
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		*errs = append(*errs, fmt.Errorf("looking at what is kept: %w", err))
	}
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func plainDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// Remove takes an entry away: remove is called with its directory. ErrInUse, wrapped, says that a run uses it.
func Remove(e Entry, remove func(dir string) error) error {
	if e.Strange != "" {
		return fmt.Errorf("removing %q: %s", e.Path, e.Strange)
	}
	base := filepath.Dir(e.Path)
	lock, err := os.OpenFile(filepath.Join(base, lockFile), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("removing %q: %w", e.Path, err)
	}
	defer func() { _ = lock.Close() }() // it gives the lock up
	if err := flock(lock, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("removing %q: %w", e.Path, ErrInUse)
	} else if err != nil {
		return fmt.Errorf("removing %q: %w", e.Path, err)
	}
	if err := remove(e.Path); err != nil {
		return err
	}
	return clear(base)
}

// clear removes the directories around the last entry, with their own files. Its caller holds the lock.
func clear(base string) error {
	if left, err := os.ReadDir(base); err != nil || len(left) != 1 || left[0].Name() != lockFile {
		return err
	}
	if err := errors.Join(os.Remove(filepath.Join(base, lockFile)), os.Remove(base)); err != nil {
		return err
	}
	repo := filepath.Dir(base)
	if left, err := os.ReadDir(repo); err != nil || len(left) != 1 || left[0].Name() != repoFile {
		return err
	}
	return errors.Join(os.Remove(filepath.Join(repo, repoFile)), os.Remove(repo))
}
