package run

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"agentbox/internal/plan"
	"agentbox/internal/sys"
)

const (
	lookEvery = 200 * time.Millisecond // at the room that is left, which costs nothing
	share     = 20                     // at what is written, for at most this part of the time
	reserve   = 512 << 20              // bytes that are left to the rest of the machine
)

// measure watches what a run in the review mode writes, whose layer lies on the person's own disk: against the limit of the
// plan, and so that the disk does not fill up. The channel gives why the run must end, once. The function ends the watch and
// waits for it.
func (x *execution) measure() (full <-chan string, end func()) {
	if x.Plan.Grants.Workspace.Mode != plan.Review {
		return nil, func() {}
	}
	m := &meter{work: x.Work, limit: x.Plan.Grants.Limits.Disk, full: make(chan string, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go m.watch()
	return m.full, func() { close(m.stop); <-m.done }
}

type meter struct {
	work  string
	limit int64 // 0 is none
	full  chan string
	stop  chan struct{}
	done  chan struct{}
	next  time.Time // when to walk again
	room  int64     // that there was at the start
}

func (m *meter) watch() {
	defer close(m.done)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	m.room, _ = room(m.work)   // look says what is wrong with it
	enough := m.room > reserve // a disk that was full before is not this run's doing
	for {
		if reason := m.look(enough); reason != "" {
			m.full <- reason
			return
		}
		select {
		case <-ticker.C:
		case <-m.stop:
			return
		}
	}
}

func (m *meter) look(enough bool) string {
	left, err := room(m.work)
	switch {
	case err != nil: // what can't be measured has no limit
		return fmt.Sprintf("the disk of %s can't be measured: %v", m.work, err)
	case enough && left < reserve:
		return fmt.Sprintf("the disk of %s is nearly full", m.work)
	}
	now := time.Now()
	if m.limit == 0 || now.Before(m.next) {
		return ""
	}
	taken := m.taken()
	m.next = now.Add(share * time.Since(now))
	if taken > m.limit {
		return fmt.Sprintf("its changes take more than the limit of %d MiB on the disk", m.limit>>20)
	}
	return ""
}

// taken is what the layer takes on the disk: whole blocks, and hard links once. It ends early when that is too much. Where the
// agent has closed a directory, all that was written to the disk counts.
func (m *meter) taken() (bytes int64) {
	seen, closed := map[file]bool{}, false
	err := filepath.WalkDir(m.work, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			closed = closed || errors.Is(err, fs.ErrPermission) && !kernels(m.work, path)
			if e != nil && e.IsDir() {
				return fs.SkipDir
			}
			return nil // it went meanwhile
		}
		info, err := e.Info()
		if err != nil {
			return nil //nolint:nilerr // it went meanwhile
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Nlink > 1 && !e.IsDir() && seen[file{sys.DeviceOf(info), st.Ino}] {
			return nil
		}
		seen[file{sys.DeviceOf(info), st.Ino}] = st.Nlink > 1
		if bytes += st.Blocks * 512; bytes > m.limit {
			return fs.SkipAll
		}
		return nil
	})
	if closed || err != nil {
		left, _ := room(m.work) // 0 where it can't be told: then all of it counts
		bytes = max(bytes, m.room-left)
	}
	return bytes
}

// kernels knows the directories that are the kernel's own while the layer is mounted.
func kernels(work, path string) bool {
	return path == filepath.Join(work, "tree", "work", "work") || path == filepath.Join(work, "git", "work", "work")
}

// room is how many bytes there are left for the person.
func room(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * sys.BlockSize(&st), nil
}
