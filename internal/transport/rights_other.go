//go:build !linux

package transport

import (
	"errors"
	"net"

	"agentbox/internal/shimwire"
)

// errLinux says that the shim can be reached on Linux only.
var errLinux = errors.New("a container on this machine needs Linux")

type rightsReader struct {
	conn *net.UnixConn
	fds  []int
}

func (r *rightsReader) Read(p []byte) (int, error) { return r.conn.Read(p) }

func closeFDs([]int) error { return nil }

func samePerson(*net.UnixConn, int) error { return errLinux }

func adopt([]shimwire.Listen, []int) ([]Bound, error) { return nil, errLinux }
