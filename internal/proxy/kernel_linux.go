package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

const maxAtOnce = 1 << 20 // bytes that are counted and passed in one go

// passInKernel copies until an end, which gives true, an error, or until may says no. How much there is is asked
// before it is read, so that the bytes are counted before they leave and never come into this process: io.CopyN uses
// splice(2) for sockets.
func passInKernel(to, from *net.TCPConn, may func(int64) bool) (bool, error) {
	for {
		n, err := awaitBytes(from)
		if n == 0 || err != nil {
			return err == nil, err
		}
		if !may(n) {
			return false, nil
		}
		if _, err := io.CopyN(to, from, n); err != nil {
			return false, err
		}
	}
}

// awaitBytes waits until something can be read and says how much; 0 is the end.
func awaitBytes(conn *net.TCPConn) (int64, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var failure error
	err = raw.Read(func(fd uintptr) (done bool) {
		n, failure = waiting(int(fd))
		return !errors.Is(failure, unix.EAGAIN)
	})
	return int64(min(n, maxAtOnce)), errors.Join(err, failure)
}

// waiting says how much can be read at once, 0 at the end, EAGAIN when nothing has come.
func waiting(fd int) (int, error) {
	n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
	if err != nil || n > 0 {
		return n, err
	}
	var one [1]byte
	for {
		n, _, err = unix.Recvfrom(fd, one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

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
