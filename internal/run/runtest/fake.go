package runtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"agentbox/internal/run"
)

// Program is what a Fake runs as PID 1. It returns when the container ends, and soon after ctx is done.
type Program func(ctx context.Context, spec run.Spec, streams run.Streams)

// Fake is a Runtime without an engine: its containers are goroutines that run Program.
type Fake struct {
	Program Program

	mu         sync.Mutex
	containers map[string]*fakeContainer
}

var _ run.Runtime = (*Fake)(nil)

// Create checks what an engine would check.
func (f *Fake) Create(_ context.Context, spec run.Spec) (run.Container, error) {
	for _, m := range spec.Mounts {
		if m.Type != "bind" {
			continue
		}
		if _, err := os.Stat(m.Source); err != nil {
			return nil, fmt.Errorf("creating the container: %w", err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.containers[spec.Name]; ok {
		return nil, fmt.Errorf("creating the container: the name %q is in use", spec.Name)
	}
	if f.containers == nil {
		f.containers = map[string]*fakeContainer{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &fakeContainer{fake: f, spec: spec, ctx: ctx, cancel: cancel, done: make(chan struct{})}
	f.containers[spec.Name] = c
	return c, nil
}

// Remove removes by name.
func (f *Fake) Remove(ctx context.Context, name string) error {
	f.mu.Lock()
	c := f.containers[name]
	f.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.Remove(ctx)
}

// Names are those of the containers that are still there.
func (f *Fake) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for n := range f.containers {
		names = append(names, n)
	}
	return names
}

type fakeContainer struct {
	fake    *Fake
	spec    run.Spec
	ctx     context.Context
	cancel  context.CancelFunc
	streams run.Streams
	started bool
	done    chan struct{}
}

func (c *fakeContainer) Attach(_ context.Context, s run.Streams) (func() error, error) {
	if s.Out == nil || (s.Err == nil && !c.spec.Terminal) {
		return nil, errors.New("attaching to the container: no stream for its output")
	}
	if c.spec.Terminal {
		s.Err = io.Discard
	}
	c.streams = s
	return func() error { <-c.done; return nil }, nil
}

func (c *fakeContainer) Start(context.Context) error {
	c.started = true
	go func() {
		defer c.forget()
		c.fake.Program(c.ctx, c.spec, c.streams)
	}()
	return nil
}

// forget is what "removes itself when PID 1 ends" means.
func (c *fakeContainer) forget() {
	c.fake.mu.Lock()
	delete(c.fake.containers, c.spec.Name)
	c.fake.mu.Unlock()
	close(c.done)
}

func (c *fakeContainer) Remove(context.Context) error {
	c.cancel()
	if c.started {
		<-c.done
		return nil
	}
	c.fake.mu.Lock()
	delete(c.fake.containers, c.spec.Name)
	c.fake.mu.Unlock()
	return nil
}
