package run

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"agentbox/internal/shimwire"
)

// Terminal is the person's terminal. While the agent has it, it is raw: every key, Ctrl-C and Ctrl-Z too, goes to the
// container's own terminal, whose line discipline makes the signals.
type Terminal struct {
	in, out *os.File
	resized chan os.Signal

	mu    sync.Mutex
	saved *term.State // nil while it is not raw
}

// OpenTerminal gives the terminal when both in and out are one, else nil. Close returns it as it was.
func OpenTerminal(in, out *os.File) *Terminal {
	if !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		return nil
	}
	t := &Terminal{in: in, out: out, resized: make(chan os.Signal, 1)}
	signal.Notify(t.resized, syscall.SIGWINCH)
	return t
}

// Raw makes the terminal raw.
func (t *Terminal) Raw() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.saved != nil {
		return nil
	}
	saved, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return fmt.Errorf("making the terminal raw: %w", err)
	}
	t.saved = saved
	return nil
}

// Restore makes the terminal what it was before Raw.
func (t *Terminal) Restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.saved != nil {
		_ = term.Restore(int(t.in.Fd()), t.saved) // nothing is left to do about a terminal that is gone
		t.saved = nil
	}
}

// Close restores the terminal and stops listening for its size.
func (t *Terminal) Close() {
	signal.Stop(t.resized)
	t.Restore()
}

// Resized receives when the size may have changed.
func (t *Terminal) Resized() <-chan os.Signal { return t.resized }

// Size is the terminal's size now; zero when it has none.
func (t *Terminal) Size() shimwire.Size {
	cols, rows, err := term.GetSize(int(t.out.Fd()))
	if err != nil || cols <= 0 || rows <= 0 || cols > 0xffff || rows > 0xffff {
		return shimwire.Size{}
	}
	return shimwire.Size{Rows: uint16(rows), Cols: uint16(cols)}
}

// Suspend does what Ctrl-Z does to a program: the terminal goes back to the shell and agentbox stops, with all of its
// job. It returns when the shell has continued it; at once where there is no shell with job control, whose absence
// makes the kernel pass over the signal.
func (t *Terminal) Suspend() error {
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	t.Restore()
	if err := syscall.Kill(0, syscall.SIGTSTP); err != nil {
		return fmt.Errorf("stopping for the shell: %w", err)
	}
	// The signal may reach another thread first: going on here could make the shell's terminal raw.
	unstopped := time.NewTimer(stopTime)
	defer unstopped.Stop()
	select {
	case <-continued:
	case <-unstopped.C:
	}
	return t.Raw()
}

// stopTime is more than a process takes to stop.
const stopTime = 100 * time.Millisecond
