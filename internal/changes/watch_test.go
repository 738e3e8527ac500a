//go:build linux

package changes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// event waits for one, however long it takes.
func (st *stage) event(w *Watcher) {
	st.t.Helper()
	select {
	case <-w.changed:
	case <-st.t.Context().Done():
		st.t.Fatal("no event came")
	}
}

// Every kind of change is an event, in directories that came since too.
func TestTheWatcherTells(t *testing.T) {
	st := newStage(t, Overlay)
	put(t, st.upper, "old/file", "1\n")
	st.begin()
	w := st.source().Watch()
	defer func() { must(t, w.Close()) }()
	if w.partial.Load() {
		t.Fatal("not everything is watched")
	}
	in := func(name string) string { return filepath.Join(st.upper, name) }
	for _, step := range []func() error{
		func() error { return os.WriteFile(in("old/file"), []byte("2\n"), 0o644) },
		func() error { return os.Chmod(in("old/file"), 0o755) },
		func() error { return os.Mkdir(in("new"), 0o755) },
	} {
		must(t, step())
		st.event(w)
	}
	// When the event of a directory is told, it is watched. Events before may still be told once more.
	must(t, os.MkdirAll(in("new/deep/er"), 0o755))
	for !st.watches(w, "new/deep/er") {
		st.event(w)
	}
	must(t, os.Rename(in("new"), in("moved")))
	for !st.watches(w, "moved/deep/er") {
		st.event(w)
	}
}

// watches reports whether a directory is watched: a watch of it again is the same one.
func (st *stage) watches(w *Watcher, dir string) bool {
	st.t.Helper()
	wd, err := unix.InotifyAddWatch(w.fd, filepath.Join(st.upper, dir), watched|unix.IN_MASK_CREATE)
	if err == nil {
		_, _ = unix.InotifyRmWatch(w.fd, uint32(wd))
	}
	return errors.Is(err, unix.EEXIST)
}

// Where there are more directories than are watched, and where none can be, one looks from time to time.
func TestTheWatchersLimit(t *testing.T) {
	st := newStage(t, Overlay)
	put(t, st.upper, "a/b/c", "1\n")
	st.begin()
	w := st.source().Watch()
	left := 2
	if w.add("", &left) {
		t.Error("two watches are enough for three directories")
	}
	must(t, w.Close())
	none := &Watcher{changed: make(chan struct{}, 1)}
	none.partial.Store(true)
	must(t, none.Wait(t.Context(), 0))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := none.Wait(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	must(t, none.Close())
}

// A directory that the agent replaced by a link is not followed out.
func TestTheWatcherFollowsNoLink(t *testing.T) {
	st := newStage(t, Overlay)
	outside := t.TempDir()
	must(t, os.Symlink(outside, filepath.Join(st.upper, "link")))
	st.begin()
	w := st.source().Watch()
	defer func() { must(t, w.Close()) }()
	if _, err := unix.InotifyAddWatch(w.fd, outside, watched|unix.IN_MASK_CREATE); err != nil {
		t.Errorf("the outside is watched: %v", err)
	}
}
