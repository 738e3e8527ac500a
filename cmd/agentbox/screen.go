package main

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// screen is the person's terminal in a run whose agent does not have it as a whole: some of the agent's streams may lead
// to it all the same. While a question stands there, what the agent prints waits, so that it can't write over the
// question, and what is typed is the answer and no input of the agent's.
type screen struct {
	mu      sync.Mutex
	printed bool // the agent has printed something there
	midLine bool // and has not ended the line
}

// claim takes the screen for a question and puts it in order: neither where the agent left the cursor nor the modes that
// it set say how the question looks. The function it returns gives the screen back.
func (s *screen) claim(tty io.Writer) (release func()) {
	s.mu.Lock()
	if s.printed {
		_, _ = io.WriteString(tty, inOrder)
	}
	if s.midLine {
		_, _ = io.WriteString(tty, "\r\n")
		s.midLine = false
	}
	if s.printed {
		_, _ = io.WriteString(tty, "\r\x1b[J") // the cursor may stand above what the agent printed
	}
	return s.mu.Unlock
}

// inOrder ends a sequence that was only begun, resets margins, character sets and hidden text, has lines wrap and what is
// printed appear at once, and takes back the colours: where those of text and ground are one, nothing is seen.
const inOrder = "\x18\x1b\\\x1b[!p\x1b[0m\x1b[?7h\x1b[?25h\x1b[?2026l\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\"

// out is f for the agent to print on.
func (s *screen) out(f *os.File) io.Writer {
	if !term.IsTerminal(int(f.Fd())) {
		return f
	}
	return &screenWriter{s, f}
}

// in is f for the agent to read from.
func (s *screen) in(f *os.File) io.Reader {
	if !term.IsTerminal(int(f.Fd())) {
		return f
	}
	return &screenReader{s, f}
}

type screenWriter struct {
	*screen
	to io.Writer
}

func (w *screenWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(p) > 0 {
		w.printed, w.midLine = true, p[len(p)-1] != '\n'
	}
	return w.to.Write(p)
}

// screenReader reads what is there while no question is.
type screenReader struct {
	*screen
	from *os.File
}

func (r *screenReader) Read(p []byte) (int, error) {
	for {
		if err := r.wait(-1); err != nil {
			return 0, err
		}
		if n, err := r.take(p); !errors.Is(err, errTaken) {
			return n, err
		}
	}
}

// errTaken says that somebody else took what there was to read.
var errTaken = errors.New("nothing is left to read")

func (r *screenReader) take(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.wait(0); err != nil {
		return 0, err
	}
	return r.from.Read(p)
}

// wait waits until there is something to read, for so many milliseconds at most; -1 is as long as it takes.
func (r *screenReader) wait(millis int) error { return poll(millis, r.from) }
