// Package subprocess runs programs of this machine on the person's behalf: each ends with its context as a whole, children
// included, and what it prints is bounded. What it is told and where it runs is its caller's.
package subprocess

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// Patience is how long a program that has ended, or was killed, may leave a child behind that holds its output open: then
// Wait gives exec.ErrWaitDelay.
const Patience = time.Second

// Command is a program in a process group of its own, so that Ctrl-C is not for it. When ctx ends the whole group is killed.
func Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = Patience
	return cmd
}

// Output keeps the first Most bytes that are written to it. It takes the rest too, so that the writer goes on, unless it is
// Strict: then the program finds that nobody reads, and Run fails.
type Output struct {
	Most   int
	Strict bool

	data []byte
	over bool
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	if o.data == nil {
		o.data = make([]byte, 0, o.Most) // never grown: Wipe leaves no copy
	}
	room := min(len(p), o.Most-len(o.data))
	o.data = append(o.data, p[:room]...)
	if room < len(p) {
		o.over = true
		if o.Strict {
			return room, errOver
		}
	}
	return len(p), nil
}

var errOver = errors.New("the output is too long")

// ReadAll reads what is there, or as much as fits.
func (o *Output) ReadAll(r io.Reader) error {
	_, err := io.Copy(o, io.LimitReader(r, int64(o.Most)+1))
	return err
}

// Bytes are what was kept, not a copy.
func (o *Output) Bytes() []byte { return o.data }

// Over reports whether there was more than was kept.
func (o *Output) Over() bool { return o.over }

// Wipe overwrites what was kept.
func (o *Output) Wipe() { clear(o.data[:cap(o.data)]) }
