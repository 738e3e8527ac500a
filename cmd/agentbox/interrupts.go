package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	"agentbox/internal/run"
)

// interrupts turns signals into the end of the context before the agent runs, and hands them on from then on.
type interrupts struct {
	forwarded chan os.Signal
	passing   atomic.Bool
	got       atomic.Int64
	cancel    context.CancelFunc
	end       func()
}

func interruptible(parent context.Context) (context.Context, *interrupts) {
	ctx, cancel := context.WithCancel(parent)
	c, end := signals()
	in := &interrupts{forwarded: make(chan os.Signal, cap(c)), cancel: cancel, end: end}
	go func() {
		for {
			select {
			case sig := <-c:
				in.take(sig)
			case <-parent.Done():
				return
			}
		}
	}()
	return ctx, in
}

func (in *interrupts) take(sig os.Signal) {
	if in.passing.Load() {
		in.forwarded <- sig
		return
	}
	if n, ok := sig.(syscall.Signal); ok && n != syscall.SIGUSR1 && n != syscall.SIGUSR2 {
		in.got.Store(int64(n))
		in.cancel()
	}
}

func (in *interrupts) forward() { in.passing.Store(true) }

func (in *interrupts) stop() {
	in.end()
	in.cancel()
}

// explain gives the signal as the reason of an error that a signal brought about.
func (in *interrupts) explain(err error) error {
	if n := in.got.Load(); n != 0 {
		return &run.Failure{Code: 128 + int(n), Text: fmt.Sprintf("ended by signal %d (%s) before the agent started", n, syscall.Signal(n))}
	}
	return err
}
