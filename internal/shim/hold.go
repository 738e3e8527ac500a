//go:build linux

package shim

import (
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// hold keeps the descriptors that it was started with until standard input ends, which is when agentbox is gone. They are
// of a container's namespaces: through this process's /proc entry a build joins exactly those, where the number of the
// container's own PID 1 may be another process's by then. It holds nothing else, so whoever has its user may look.
func hold() int {
	signal.Ignore()
	_, _ = unix.Setsid() // fails when it leads a session already
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		complain("hold: %v", err)
		return exitInternal
	}
	if _, err := os.Stdout.Write([]byte("\n")); err != nil { // it can be looked at from here on
		return exitInternal
	}
	_, _ = io.Copy(io.Discard, onlyReader{os.Stdin})
	return 0
}
