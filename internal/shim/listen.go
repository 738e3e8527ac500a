//go:build linux

package shim

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"agentbox/internal/shimwire"
)

// backlog is the length of a listener's queue; the kernel lowers it to somaxconn.
const backlog = 4096

// openListeners opens what is asked for, in that order, or nothing.
func openListeners(asked []shimwire.Listen) (fds []int, err error) {
	if len(asked) > shimwire.MaxListeners {
		return nil, fmt.Errorf("opening listeners: %d are asked for, the most is %d", len(asked), shimwire.MaxListeners)
	}
	for _, l := range asked {
		fd, err := openListener(l)
		if err != nil {
			for _, fd := range fds {
				closeFD(fd)
			}
			return nil, fmt.Errorf("listening on %s %s: %w", l.Network, l.Addr, err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func openListener(l shimwire.Listen) (int, error) {
	addr, err := netip.ParseAddrPort(l.Addr)
	if err != nil || !addr.Addr().Is4() {
		return -1, fmt.Errorf("%q is not an IPv4 address and port", l.Addr)
	}
	kind, err := socketType(l.Network)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := bindListener(fd, kind, addr); err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

func socketType(network string) (int, error) {
	switch network {
	case "tcp4":
		return unix.SOCK_STREAM, nil
	case "udp4":
		return unix.SOCK_DGRAM, nil
	}
	return 0, fmt.Errorf("network %q is neither tcp4 nor udp4", network)
}

func bindListener(fd, kind int, addr netip.AddrPort) error {
	if kind == unix.SOCK_STREAM {
		// on UDP it would let another process bind the same port and take its datagrams
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	if err := unix.Bind(fd, sockaddr(addr)); err != nil {
		return err
	}
	if kind == unix.SOCK_STREAM {
		return unix.Listen(fd, backlog)
	}
	return nil
}
