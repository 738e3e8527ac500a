package workspace

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Watcher tells when the host takes a mount's place away.
type Watcher struct {
	file *os.File
	lost chan string
	done sync.WaitGroup
	dirs map[int32]string
	want map[string]bool
}

const watched = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_ONLYDIR | unix.IN_EXCL_UNLINK

// Watch looks after the mount points of mounts. It must be called before they are made in a container: from then on
// a file or directory that is replaced or removed on the host (an agent cannot: EBUSY) has lost its mount, and what
// lies there is open to the agent. Close stops it.
func Watch(mounts []Mount) (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watching the workspace's guards: %w", err)
	}
	w := &Watcher{
		file: os.NewFile(uintptr(fd), "inotify"),
		lost: make(chan string, 1),
		dirs: map[int32]string{},
		want: map[string]bool{},
	}
	if err := w.addAll(fd, mounts); err != nil {
		_ = w.file.Close()
		return nil, err
	}
	w.done.Go(w.loop)
	return w, nil
}

// addAll watches the parents of all targets but the workspace itself, whose parent is not the workspace's.
func (w *Watcher) addAll(fd int, mounts []Mount) error {
	if len(mounts) == 0 {
		return nil
	}
	root := mounts[0].Target
	for _, m := range mounts {
		if m.Target == root {
			continue
		}
		w.want[m.Target] = true
		dir := filepath.Dir(m.Target)
		wd, err := unix.InotifyAddWatch(fd, dir, watched)
		if err != nil {
			return fmt.Errorf("watching %s: %w", quote(dir), err)
		}
		w.dirs[int32(wd)] = dir
	}
	return nil
}

// Lost gives the path of the first mount that was lost, once; it is closed by Close.
func (w *Watcher) Lost() <-chan string { return w.lost }

// Close stops the watcher and waits for it.
func (w *Watcher) Close() error {
	err := w.file.Close()
	w.done.Wait()
	return err
}

func (w *Watcher) loop() {
	defer close(w.lost)
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return
		}
		if path := w.first(buf[:n]); path != "" {
			w.lost <- path
			return
		}
	}
}

// first gives the first watched path that events name, "" for none.
func (w *Watcher) first(events []byte) string {
	for len(events) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(events))
		mask := binary.NativeEndian.Uint32(events[4:])
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(events[12:]))
		name := strings.TrimRight(string(events[unix.SizeofInotifyEvent:size]), "\x00")
		events = events[size:]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			return "the workspace (changes came too fast to be watched)"
		}
		if path := filepath.Join(w.dirs[wd], name); name != "" && w.want[path] {
			return path
		}
	}
	return ""
}
