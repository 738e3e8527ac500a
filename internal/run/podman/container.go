package podman

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containers/podman/v5/pkg/bindings/containers"

	"agentbox/internal/run"
)

type container struct {
	engine   *Engine
	id       string
	terminal bool
}

// Attach connects the streams before the container starts.
func (c *container) Attach(ctx context.Context, s run.Streams) (func() error, error) {
	conn, stop, err := c.engine.with(ctx)
	if err != nil {
		return nil, err
	}
	// The bindings put a terminal into raw mode by themselves when they are given an *os.File: they get none.
	var in io.Reader
	if s.In != nil {
		in = &reader{s.In}
	}
	var errw io.Writer
	if !c.terminal {
		errw = &writer{s.Err}
	}
	ready, done := make(chan bool, 1), make(chan error, 1)
	opts := new(containers.AttachOptions).WithStream(true).WithDetachKeys("") // or Ctrl-P is swallowed
	go func() {
		defer stop()
		done <- containers.Attach(conn, c.id, in, &writer{s.Out}, errw, ready, opts)
	}()
	select {
	case <-ready:
		return func() error { return <-done }, nil
	case err := <-done:
		return nil, fmt.Errorf("attaching to the container: %w", plain(err))
	}
}

func (c *container) Start(ctx context.Context) error {
	conn, stop, err := c.engine.with(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if err := containers.Start(conn, c.id, nil); err != nil {
		return fmt.Errorf("starting the container: %w", plain(err))
	}
	return nil
}

// Remove outlives ctx: a run that was cancelled must still leave nothing.
func (c *container) Remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	return c.engine.Remove(ctx, c.id)
}

// reader and writer hide the type of what they wrap.
type reader struct{ io.Reader }
type writer struct{ io.Writer }

func (w *writer) Write(p []byte) (int, error) {
	if w.Writer == nil {
		return 0, errors.New("no stream for this output")
	}
	return w.Writer.Write(p)
}
