//go:build !linux

package changes

import (
	"context"
	"time"
)

// Watcher has no notification here, so it looks twice a second.
type Watcher struct{}

// Watch begins to watch.
func (s *Source) Watch() *Watcher { return &Watcher{} }

// Wait waits for so long at least, and half a second besides.
func (*Watcher) Wait(ctx context.Context, least time.Duration) error {
	timer := time.NewTimer(least + time.Second/2)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends the watching.
func (*Watcher) Close() error { return nil }
