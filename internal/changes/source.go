package changes

import (
	"context"
	"errors"
	"io"
	"time"
)

var errNotYet = errors.New("reading changes: not built yet")

// Open reads <work>/base.json.
func Open(work string) (*Source, error) { return nil, errNotYet }

// Save writes the record of the start into work, a directory that exists.
func Save(work string, base Base) error { return errNotYet }

// Moment gives the present as dir's own file system tells it: what was written there before has an earlier change
// time, what is written after has this one or a later one. It makes a file in dir, and removes it.
func Moment(dir string) (time.Time, error) { return time.Time{}, errNotYet }

// List gives what changed, sorted by path.
func (s *Source) List(ctx context.Context) ([]Change, error) { return nil, errNotYet }

// Before opens the file of a path as it was at the start, where that is known, else as the person has it now. An
// error wraps fs.ErrNotExist where there is no such file.
func (s *Source) Before(ctx context.Context, path string) (io.ReadCloser, error) {
	return nil, errNotYet
}

// After opens the agent's file of a path.
func (s *Source) After(path string) (io.ReadCloser, error) { return nil, errNotYet }

// Diff compares the two sides of a change line by line.
func (s *Source) Diff(ctx context.Context, c Change) (Text, error) { return Text{}, errNotYet }
