// Package eventlog keeps a run's events in a file, one JSON object a line, as they happen.
//
// The Writer owns the file, the order of events and their Seq, Time and Run. It fails closed: after the first
// error every Emit fails and Failed is closed, so that a run never goes on unlogged. Fanout hands an event to other
// sinks only after it is in the log. Reader and Follow read a log, finished or growing, and name what is wrong in it.
package eventlog

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"agentbox/internal/event"
)

// ErrClosed is what Emit returns after Close.
var ErrClosed = errors.New("the event log is closed")

// Writer is the log of one run. It is a Sink; use it concurrently.
type Writer struct {
	run    string
	now    func() time.Time
	failed chan struct{}

	mu   sync.Mutex
	file *os.File
	seq  uint64
	line []byte // room for the next line
	err  error  // the first one: sticky
}

var _ event.Sink = (*Writer)(nil)

// Create makes the log of a run at path (0600). The file must not exist: a run has one log and no other run writes
// to it.
func Create(path, run string, now func() time.Time) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("creating the event log: %w", err)
	}
	return newWriter(f, run, now), nil
}

func newWriter(f *os.File, run string, now func() time.Time) *Writer {
	return &Writer{run: run, now: now, failed: make(chan struct{}), file: f}
}

// Emit writes the event with one write call and returns when the kernel has it; a run.start is on the disk then.
func (w *Writer) Emit(e event.Event) error {
	_, err := w.append(e)
	return err
}

// Failed is closed at the first error. Err says which.
func (w *Writer) Failed() <-chan struct{} { return w.failed }

// Err is the error that closed Failed, or nil.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(w.err, ErrClosed) {
		return nil
	}
	return w.err
}

// Close puts everything on the disk and closes the file. It returns the log's first error, if there was one.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	err := errors.Join(w.err, w.file.Sync(), w.file.Close())
	w.file = nil
	if w.err == nil {
		w.err = ErrClosed
	}
	return err
}

// append returns the event as it is in the log.
func (w *Writer) append(e event.Event) (event.Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return e, w.err
	}
	e.Seq, e.Time, e.Run = w.seq+1, w.now().UTC(), w.run
	if err := w.write(e); err != nil {
		w.err = fmt.Errorf("writing the event log: %w", err)
		close(w.failed)
		return e, w.err
	}
	w.seq++
	return e, nil
}

func (w *Writer) write(e event.Event) error {
	line, err := appendLine(w.line[:0], e)
	if err != nil {
		return err
	}
	w.line = line[:0]
	if cap(line) > keptLine {
		w.line = nil
	}
	if _, err := w.file.Write(line); err != nil {
		return err
	}
	if e.Kind == event.RunStart {
		return w.file.Sync()
	}
	return nil
}

const keptLine = 64 << 10 // bytes of the buffer that is kept for the next line

// Fanout is a Sink: an event goes to the log first, then, in the log's order, to the others.
type Fanout struct {
	mu     sync.Mutex
	log    *Writer
	others []event.Sink
	clean  func(string) string
}

var _ event.Sink = (*Fanout)(nil)

// NewFanout returns a sink that writes to log, then to others. It does not own the log.
func NewFanout(log *Writer, others ...event.Sink) *Fanout { return &Fanout{log: log, others: others} }

// Clean has every string of an event pass through text before it goes anywhere. Call it before Emit.
func (f *Fanout) Clean(text func(string) string) { f.clean = text }

// Emit returns the log's error; then nothing went to the others. An error of another sink is its own business:
// what is in the log has been recorded.
func (f *Fanout) Emit(e event.Event) error {
	if f.clean != nil {
		e = e.Clean(f.clean)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := f.log.append(e)
	if err != nil {
		return err
	}
	for _, s := range f.others {
		_ = s.Emit(e)
	}
	return nil
}
