//go:build linux

package shim

import (
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Marker is the file that a directory must hold for the janitor to remove it.
const Marker = ".agentbox-run"

// janitor waits until standard input ends, which is when agentbox and everything that holds the pipe is gone,
// and removes dir. It outlives whatever kills agentbox: a session of its own, and no signal but SIGKILL.
func janitor(dir string) int {
	signal.Ignore()
	_, _ = unix.Setsid() // fails when it leads a session already
	if !filepath.IsAbs(dir) || !marked(dir) {
		complain("janitor: %s is not the directory of a run", dir)
		return exitUsage
	}
	if err := os.Chdir("/"); err != nil {
		complain("janitor: %v", err)
	}
	_, _ = io.Copy(io.Discard, onlyReader{os.Stdin})
	return sweep(dir)
}

func sweep(dir string) int {
	if _, err := os.Lstat(dir); os.IsNotExist(err) {
		return 0
	}
	if !marked(dir) {
		complain("janitor: %s is no longer the directory of a run", dir)
		return 1
	}
	if err := os.RemoveAll(dir); err != nil {
		complain("janitor: removing %s: %v", dir, err)
		return 1
	}
	return 0
}

// marked reports whether dir is a directory itself, not a link to one, and holds the marker as a plain file.
func marked(dir string) bool {
	d, err := os.Lstat(dir)
	if err != nil || !d.IsDir() {
		return false
	}
	m, err := os.Lstat(filepath.Join(dir, Marker))
	return err == nil && m.Mode().IsRegular()
}
