package changes

import (
	"context"
	"encoding/binary"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Watcher tells when something may have changed on the agent's side. It only reads.
type Watcher struct {
	file    *os.File // nil where the kernel has no more of them
	fd      int
	upper   tree
	changed chan struct{}
	partial atomic.Bool // not every directory is watched
	done    sync.WaitGroup
}

const (
	maxWatched = 4096 // directories: more would take what the person's other programs need
	// lookAnyway is how often one looks where no event came: what is written into a file that lies in an overlay's upper
	// already tells nobody. lookOften is the same where not everything is watched.
	lookAnyway = 2 * time.Second
	lookOften  = time.Second / 2
)

const watched = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_ONLYDIR | unix.IN_EXCL_UNLINK

// Watch begins to watch. Where the machine's limits of watches are reached, Wait looks from time to time instead.
func (s *Source) Watch() *Watcher {
	w := &Watcher{changed: make(chan struct{}, 1)}
	w.partial.Store(true)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return w
	}
	if w.upper, err = openTree(s.upper()); err != nil {
		_ = unix.Close(fd)
		return w
	}
	w.file = os.NewFile(uintptr(fd), "inotify")
	w.fd = fd
	w.addAll()
	w.done.Go(w.loop)
	return w
}

// Wait waits for so long at least, so that looking takes a part of the time only, then until something may have changed.
func (w *Watcher) Wait(ctx context.Context, least time.Duration) error {
	if err := pause(ctx, least, nil); err != nil {
		return err
	}
	most := lookAnyway
	if w.partial.Load() {
		most = lookOften
	}
	return pause(ctx, most, w.changed)
}

func pause(ctx context.Context, d time.Duration, event <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-event:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Close stops the watcher and waits for it.
func (w *Watcher) Close() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.done.Wait()
	w.upper.close()
	return err
}

func (w *Watcher) loop() {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return
		}
		if directories(buf[:n]) {
			w.addAll()
		}
		select {
		case w.changed <- struct{}{}:
		default: // it is known already
		}
	}
}

// directories reports whether events are about directories, or about more than there was room for.
func directories(events []byte) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(events[4:])
		if mask&unix.IN_Q_OVERFLOW != 0 || mask&unix.IN_ISDIR != 0 && mask&(unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ATTRIB) != 0 {
			return true
		}
		events = events[unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(events[12:])):]
	}
	return false
}

// addAll watches every directory that there is; to watch one again changes nothing.
func (w *Watcher) addAll() {
	left := maxWatched
	w.partial.Store(!w.add("", &left))
}

func (w *Watcher) add(dir string, left *int) (whole bool) {
	if *left--; *left < 0 {
		return false
	}
	d, err := w.upper.open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return true // it went, or nobody can look into it
	}
	// By its descriptor: a name could lead elsewhere by now.
	_, err = unix.InotifyAddWatch(w.fd, "/proc/self/fd/"+strconv.Itoa(int(d.Fd())), watched)
	_ = d.Close()
	if err != nil {
		return false
	}
	entries, _, err := w.upper.list(dir) // after the watch: what comes later is an event
	if err != nil {
		return true
	}
	for _, e := range entries {
		if e.kind() == Dir && !w.add(join(dir, e.name), left) {
			return false
		}
	}
	return true
}
