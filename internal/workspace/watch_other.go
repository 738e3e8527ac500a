//go:build !linux

package workspace

import "errors"

// Watcher is Linux's: no mount is guarded here.
type Watcher struct{}

// Watch says that it cannot be done, so that no run begins.
func Watch([]Mount) (*Watcher, error) {
	return nil, errors.New("watching the workspace's guards: only Linux can")
}

// Lost gives nothing.
func (*Watcher) Lost() <-chan string { return nil }

// Close ends the watching.
func (*Watcher) Close() error { return nil }
