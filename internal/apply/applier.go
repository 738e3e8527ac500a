package apply

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"agentbox/internal/atomicfile"
	"agentbox/internal/changes"

	"golang.org/x/sys/unix"
)

// applier is one apply, resumption or undo.
type applier struct {
	ctx     context.Context
	s       *changes.Source
	finder  *changes.Finder
	journal *journal
	unlock  func() error
	nonce   string
	n       int // steps so far
	loose   map[string]fs.FileMode
	list    map[string]changes.Change
	wants   map[string]want
	told    map[string]Outcome
	batch   []*step
	at      func(string) // called between any two acts, for tests that end the process there
}

func newApplier(ctx context.Context, s *changes.Source, at func(string)) (*applier, error) {
	a := &applier{ctx: ctx, s: s, at: at, loose: map[string]fs.FileMode{}, list: map[string]changes.Change{},
		wants: map[string]want{}, told: map[string]Outcome{}}
	var err error
	a.unlock, err = atomicfile.TryLock(filepath.Join(s.Work, "apply.lock"))
	if errors.Is(err, atomicfile.ErrLocked) {
		return nil, ErrBusy
	}
	if err != nil {
		return nil, err
	}
	if a.finder, err = s.Finder(); err != nil {
		_ = a.unlock()
		return nil, err
	}
	if a.journal, err = openJournal(s.Work); err != nil {
		a.finder.Close()
		_ = a.unlock()
		return nil, err
	}
	a.n = a.journal.steps()
	return a, nil
}

func (a *applier) close() {
	for _, st := range a.batch { // an error came before they were written down
		st.discard()
		st.place.close()
	}
	a.journal.close()
	a.finder.Close()
	_ = a.unlock()
}

// begin opens an entry of the journal.
func (a *applier) begin(what string, wants []want) error {
	if err := os.MkdirAll(filepath.Join(a.s.Work, "undo"), 0o700); err != nil {
		return err
	}
	a.nonce = strings.ToLower(rand.Text())
	a.at("before the beginning")
	return a.journal.write(record{What: what, Nonce: a.nonce, Wants: wants})
}

func (a *applier) tell(path string, result Result, why string) {
	a.told[path] = Outcome{Path: path, Result: result, Why: why}
}

func (a *applier) report() Report {
	r := Report{}
	for _, o := range a.told {
		r.Outcomes = append(r.Outcomes, o)
	}
	slices.SortFunc(r.Outcomes, func(x, y Outcome) int { return strings.Compare(x.Path, y.Path) })
	return r
}

// know records what both sides have in common at a path from now on.
func (a *applier) know(all ...changes.Known) error {
	if len(all) == 0 {
		return nil
	}
	var text []byte
	for _, k := range all {
		line, err := json.Marshal(k.Escaped())
		if err != nil {
			return fatal(err)
		}
		text = append(append(text, line...), '\n')
		a.finder.Note(k)
	}
	f, err := os.OpenFile(filepath.Join(a.s.Work, changes.KnownFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fatal(fmt.Errorf("recording what was applied: %w", err))
	}
	defer f.Close()
	at, err := f.Seek(0, 2)
	if err == nil && at > 0 && !endsLine(f, at) { // a crash cut the last one off
		text = append([]byte{'\n'}, text...)
	}
	if err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = f.Truncate(at)
		return fatal(fmt.Errorf("recording what was applied: %w", err))
	}
	return nil
}

func endsLine(f *os.File, size int64) bool {
	var last [1]byte
	_, err := f.ReadAt(last[:], size-1)
	return err == nil && last[0] == '\n'
}

// fatalError ends an apply; any other error is the fate of one path.
type fatalError struct{ err error }

func (e fatalError) Error() string { return e.err.Error() }
func (e fatalError) Unwrap() error { return e.err }

func fatal(err error) error {
	if err == nil {
		return nil
	}
	return fatalError{err}
}

// isFatal says whether to stop: the disk is full or broken, the journal can't be written, the person wants to stop.
func (a *applier) isFatal(err error) bool {
	_, ours := errors.AsType[fatalError](err)
	return ours || a.ctx.Err() != nil || slices.ContainsFunc(
		[]error{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS, unix.ENOMEM, unix.EMFILE, unix.ENFILE},
		func(stop error) bool { return errors.Is(err, stop) })
}
