package main

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// agentInput is the person's terminal as the agent reads from it. Whoever hands it on to the agent always waits for the
// next key: without an end it would take the first one of the review that follows.
type agentInput struct {
	from         *os.File
	awake, alarm *os.File // a pipe; that its other side is closed wakes who waits

	mu    sync.Mutex
	ended bool
}

func newAgentInput(from *os.File) (*agentInput, error) {
	awake, alarm, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &agentInput{from: from, awake: awake, alarm: alarm}, nil
}

// Read reads what is typed, until the end.
func (i *agentInput) Read(p []byte) (int, error) {
	for {
		if err := poll(-1, i.from, i.awake); err != nil {
			return 0, err
		}
		if n, err := i.take(p); !errors.Is(err, errTaken) {
			return n, err
		}
	}
}

// take reads what is there. It waits for nothing: it is in the way of the end.
func (i *agentInput) take(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		return 0, io.EOF
	}
	if err := poll(0, i.from); err != nil {
		return 0, err
	}
	return i.from.Read(p)
}

// end has nothing more read. From then on what is typed is for others.
func (i *agentInput) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.ended {
		i.ended = true
		_ = i.alarm.Close()
	}
}

// poll waits until there is something to read in one of the files, for so many milliseconds at most; -1 is as long as it
// takes.
func poll(millis int, files ...*os.File) error {
	var fds []unix.PollFd
	for _, f := range files {
		fds = append(fds, unix.PollFd{Fd: int32(f.Fd()), Events: unix.POLLIN})
	}
	for {
		n, err := unix.Poll(fds, millis)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return errTaken
		default:
			return nil
		}
	}
}
