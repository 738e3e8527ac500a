//go:build !linux

package eventlog

import (
	"context"
	"time"
)

// watcher has no notification here, so it looks five times a second.
type watcher struct {
	ticker *time.Ticker
	stop   func()
}

func watch(context.Context, string) (*watcher, error) {
	t := time.NewTicker(200 * time.Millisecond)
	return &watcher{ticker: t, stop: t.Stop}, nil
}

func (w *watcher) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-w.ticker.C:
		return nil
	}
}
