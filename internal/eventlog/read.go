package eventlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"agentbox/internal/event"
)

// LineError is a line of a log that is not an event. Torn says that it is the last one and was cut short, as a full
// disk or a power cut leaves it: everything before it is whole.
type LineError struct {
	Line   int   // 1, 2, 3 …
	Offset int64 // of the line's first byte
	Torn   bool
	Err    error
}

func (e *LineError) Error() string {
	if e.Torn {
		return fmt.Sprintf("event log line %d (byte %d) is cut short", e.Line, e.Offset)
	}
	return fmt.Sprintf("event log line %d (byte %d) is not an event: %v", e.Line, e.Offset, e.Err)
}

func (e *LineError) Unwrap() error { return e.Err }

// Reader reads a log from its start.
type Reader struct {
	in     *bufio.Reader
	line   int
	offset int64
}

// NewReader reads a log that nobody writes to at the moment; Follow reads one that grows.
func NewReader(r io.Reader) *Reader { return &Reader{in: bufio.NewReader(r)} }

// Next returns the next event, or io.EOF. A *LineError stands for one line; the call after it goes on behind it.
func (r *Reader) Next() (event.Event, error) {
	line, size, err := r.readLine()
	if size == 0 && err != nil {
		return event.Event{}, err
	}
	at := r.offset
	r.line++
	r.offset += size
	if err != nil && !errors.Is(err, io.EOF) {
		return event.Event{}, err
	}
	if err != nil {
		return event.Event{}, &LineError{Line: r.line, Offset: at, Torn: true, Err: io.ErrUnexpectedEOF}
	}
	if size > maxLine {
		return event.Event{}, &LineError{Line: r.line, Offset: at, Err: fmt.Errorf("it is longer than %d bytes", maxLine)}
	}
	e, err := decode(line)
	if err != nil {
		return event.Event{}, &LineError{Line: r.line, Offset: at, Err: err}
	}
	return e, nil
}

// maxLine is how long a line may be to be read as an event: far longer than any that a Writer writes.
const maxLine = 1 << 20

// readLine gives the next line and its size. Of one that is too long it keeps only the size.
func (r *Reader) readLine() (line []byte, size int64, err error) {
	for {
		part, err := r.in.ReadSlice('\n')
		size += int64(len(part))
		if size <= maxLine {
			line = append(line, part...)
		} else {
			line = nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, size, err
		}
	}
}

func decode(line []byte) (e event.Event, err error) {
	err = json.Unmarshal(line, &e)
	if err == nil && e.Seq == 0 {
		err = errors.New("it has no sequence number")
	}
	return e, err
}

// Follow calls fn for each event of the log at path with a Seq of at least from, then for each that is added, until
// the event that ends the run (then it returns nil), until fn or the log gives an error, or until ctx ends (then it
// returns ctx.Err()). A line that is still being written is waited for.
func Follow(ctx context.Context, path string, from uint64, fn func(event.Event) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("following the event log: %w", err)
	}
	defer f.Close()
	changed, err := watch(ctx, path)
	if err != nil {
		return fmt.Errorf("following the event log: %w", err)
	}
	defer changed.stop()
	t := tail{file: f, from: from, fn: fn}
	for {
		done, err := t.drain()
		if done || err != nil {
			return err
		}
		if err := changed.wait(ctx); err != nil {
			return err
		}
	}
}

// tail is what Follow has read: pending is the start of a line that has no end yet.
type tail struct {
	file    *os.File
	from    uint64
	fn      func(event.Event) error
	pending []byte
	line    int
	offset  int64
}

// drain reads to the end of the file as it is now. Done says that the run has ended.
func (t *tail) drain() (done bool, err error) {
	chunk := make([]byte, 64<<10)
	for {
		n, err := t.file.Read(chunk)
		t.pending = append(t.pending, chunk[:n]...)
		if done, err := t.lines(); done || err != nil {
			return done, err
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("following the event log: %w", err)
		}
	}
}

// lines hands on every whole line of pending.
func (t *tail) lines() (done bool, err error) {
	for {
		end := bytes.IndexByte(t.pending, '\n') + 1
		if end == 0 {
			return false, nil
		}
		line := t.pending[:end]
		t.pending = t.pending[end:]
		t.line++
		e, err := decode(line)
		if err != nil {
			return false, &LineError{Line: t.line, Offset: t.offset, Err: err}
		}
		t.offset += int64(end)
		if done, err := t.hand(e); done || err != nil {
			return done, err
		}
	}
}

func (t *tail) hand(e event.Event) (done bool, err error) {
	if e.Seq >= t.from {
		err = t.fn(e)
	}
	return e.Kind == event.RunEnd, err
}
