package eventlog

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watcher tells by inotify that a file has changed since watch was called.
type watcher struct {
	file *os.File
	stop func()
}

func watch(ctx context.Context, path string) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF); err != nil {
		_ = f.Close()
		return nil, err
	}
	unhook := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	return &watcher{file: f, stop: func() { unhook(); _ = f.Close() }}, nil
}

// wait returns nil when the file has changed. What changed does not matter: the reader reads on.
func (w *watcher) wait(ctx context.Context) error {
	buf := make([]byte, 64*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
	_, err := w.file.Read(buf)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
