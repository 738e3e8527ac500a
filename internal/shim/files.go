//go:build linux

package shim

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"agentbox/internal/shimwire"
)

// writeFiles lays the files in the container. It follows no link, replaces nothing, and writes to a tmpfs only,
// so that a seeded file never lands in the person's repository.
func writeFiles(files []shimwire.File) error {
	for _, f := range files {
		if err := writeFile(f); err != nil {
			return fmt.Errorf("writing %s: %w", f.Path, err)
		}
	}
	return nil
}

func writeFile(f shimwire.File) error {
	if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" {
		return errors.New("the path is not absolute and clean")
	}
	parent, err := openParent(path.Dir(f.Path))
	if err != nil {
		return err
	}
	defer closeFD(parent)
	fd, err := unix.Openat(parent, path.Base(f.Path), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), f.Path)
	if _, err := out.Write(f.Content); err != nil {
		_ = out.Close()
		return err
	}
	if err := unix.Fchmod(fd, f.Mode&0o777); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}

// openParent walks to dir from the root, makes what is missing, and insists that it ends on a tmpfs.
func openParent(dir string) (int, error) {
	at, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for _, name := range strings.Split(strings.Trim(dir, "/"), "/") {
		if name == "" {
			continue
		}
		next, err := step(at, name)
		closeFD(at)
		if err != nil {
			return -1, fmt.Errorf("entering %s of %s: %w", name, dir, err)
		}
		at = next
	}
	if err := requireTmpfs(at); err != nil {
		closeFD(at)
		return -1, err
	}
	return at, nil
}

// step opens the directory name in at; a missing one is made, on a tmpfs only.
func step(at int, name string) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at, name, flags, 0)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if err := requireTmpfs(at); err != nil {
		return -1, err
	}
	if err := unix.Mkdirat(at, name, 0o700); err != nil {
		return -1, err
	}
	return unix.Openat(at, name, flags, 0)
}

func requireTmpfs(fd int) error {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(fd, &st) }); err != nil {
		return err
	}
	if st.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("it does not lie on a tmpfs (file system type %#x)", st.Type)
	}
	return nil
}
