package proxy

import (
	"crypto/tls"
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// stale reports whether an idle connection was closed by the other side, or got something that was not asked for.
func stale(conn net.Conn) bool {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	tcp := socket(conn)
	if tcp == nil {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return true
	}
	var waits error
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, waits = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return err != nil || !errors.Is(waits, unix.EAGAIN)
}
