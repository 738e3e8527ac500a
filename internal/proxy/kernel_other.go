//go:build !linux

package proxy

import (
	"errors"
	"net"
)

func passInKernel(_, _ *net.TCPConn, _ func(int64) bool) (bool, error) {
	return false, errors.ErrUnsupported
}

func stale(net.Conn) bool { return false }
