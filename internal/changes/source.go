package changes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"agentbox/internal/atomicfile"

	"golang.org/x/sys/unix"
)

// Open reads <work>/base.json.
func Open(work string) (*Source, error) {
	data, err := os.ReadFile(filepath.Join(work, "base.json"))
	if err != nil {
		return nil, fmt.Errorf("reading how the run began: %w", err)
	}
	s := &Source{Work: work}
	if err := json.Unmarshal(data, &s.Base); err != nil {
		return nil, fmt.Errorf("reading how the run began: %w", err)
	}
	if err := s.Base.check(); err != nil {
		return nil, fmt.Errorf("reading how the run began: %w", err)
	}
	return s, nil
}

func (b Base) check() error {
	switch {
	case b.Version != BaseVersion:
		return fmt.Errorf("the record is of version %d, and this agentbox reads %d", b.Version, BaseVersion)
	case !filepath.IsAbs(b.Root), b.Git != "" && !filepath.IsAbs(b.Git):
		return errors.New("it names no place for the repository")
	case b.Run == "" || filepath.Base(b.Run) != b.Run:
		return errors.New("it does not name the run")
	case b.Backend != Overlay && b.Backend != FuseOverlay && b.Backend != Copy:
		return fmt.Errorf("this agentbox knows no back end %q", b.Backend)
	case b.Began.IsZero(), b.Backend == Copy && b.Copied.IsZero():
		return errors.New("it does not say when the run began")
	}
	return nil
}

// Save writes the record of the start into work, a directory that exists.
func Save(work string, base Base) error {
	base.Version = BaseVersion
	if err := base.check(); err != nil {
		return fmt.Errorf("recording how the run begins: %w", err)
	}
	data, err := json.Marshal(base)
	if err != nil {
		return fmt.Errorf("recording how the run begins: %w", err)
	}
	return atomicfile.Write(filepath.Join(work, "base.json"), append(data, '\n'), 0o600)
}

// Moment gives the present as dir's own file system tells it: what was written there before has an earlier change
// time, what is written after has this one or a later one. It makes a file in dir, and removes it.
func Moment(dir string) (time.Time, error) {
	f, err := os.CreateTemp(dir, ".agentbox-moment-*")
	if err != nil {
		return time.Time{}, fmt.Errorf("asking a file system for the time: %w", err)
	}
	defer f.Close()
	defer func() { _ = os.Remove(f.Name()) }()
	first, err := touched(f, 0)
	for i := 1; err == nil; i++ {
		// A file system's clock goes in steps; another program's write in the step of the first answer could be
		// before or after it. The next step's answer is after all that.
		var now time.Time
		if now, err = touched(f, i); err == nil && now.After(first) {
			return now, nil
		}
	}
	return time.Time{}, fmt.Errorf("asking a file system for the time: %w", err)
}

func touched(f *os.File, i int) (time.Time, error) {
	if err := f.Chmod(os.FileMode(0o600 | i&1<<6)); err != nil {
		return time.Time{}, err
	}
	var n node
	if err := unix.Fstat(int(f.Fd()), &n.st); err != nil {
		return time.Time{}, err
	}
	return n.changed(), nil
}

// upper is where the agent's side lies.
func (s *Source) upper() string {
	if s.Base.Backend == Copy {
		return filepath.Join(s.Work, "copy")
	}
	return filepath.Join(s.Work, "tree", "upper")
}

// Before opens the file of a path as it was at the start, where that is known, else as the person has it now. An
// error wraps fs.ErrNotExist where there is no such file.
func (s *Source) Before(ctx context.Context, path string) (io.ReadCloser, error) {
	anc, err := s.Ancestor(ctx, path)
	if err != nil {
		return nil, err
	}
	return anc.Open(ctx)
}

// After opens the agent's file of a path.
func (s *Source) After(path string) (io.ReadCloser, error) {
	f, err := s.AfterFile(path)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// AfterFile is After with a file that can be asked for more: a regular one, reached through no link.
func (s *Source) AfterFile(path string) (*os.File, error) {
	upper, err := openTree(s.upper())
	if err != nil {
		return nil, fmt.Errorf("reading what the agent wrote: %w", err)
	}
	defer upper.close()
	f, _, err := upper.openFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading what the agent wrote: %w", err)
	}
	return f, nil
}

// Look gives what the agent's side holds at a path, and the first part of its mark.
func (s *Source) Look(path string) (State, string, error) {
	upper, err := openTree(s.upper())
	if err != nil {
		return State{}, "", fmt.Errorf("reading what the agent wrote: %w", err)
	}
	defer upper.close()
	n, err := upper.lstat(path)
	if err != nil || n.whiteout() {
		return State{}, "", errors.Join(err, fs.ErrNotExist)
	}
	return n.state(), n.mark(), nil
}
