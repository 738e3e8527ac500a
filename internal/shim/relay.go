//go:build linux

package shim

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"agentbox/internal/shimwire"
)

const (
	maxRelayed  = 1024             // relayed TCP connections at a time
	maxFlows    = 256              // UDP clients at a time
	flowIdle    = 15 * time.Second // a UDP client that is answered nothing for so long is forgotten
	flowWrite   = time.Second      // a host that is slower loses the datagram
	maxDatagram = 65535
)

// relay carries what arrives on the listeners to the host, over one connection each to the relay socket.
type relay struct {
	socket string
	slots  chan struct{}
}

func newRelay(socket string) *relay {
	return &relay{socket: socket, slots: make(chan struct{}, streams())}
}

// streams is how many connections fit in the descriptors that this process may open, two each.
func streams() int {
	const others = maxFlows + shimwire.MaxListeners/8 + 64
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < others+2 {
		return 1
	}
	return int(min(maxRelayed, (limit.Cur-others)/2))
}

// serve accepts on fd, which it owns, until it fails. The process ends with the host, so nothing stops it.
func (r *relay) serve(l shimwire.Listen, fd int) error {
	f, err := pollable(fd, l.Addr)
	if err != nil {
		return err
	}
	if l.Network == "udp4" {
		return (&datagrams{relay: r, file: f, listen: l, flows: map[netip.AddrPort]*flow{}}).serve()
	}
	for {
		r.slots <- struct{}{}
		conn, remote, err := accept(f)
		if err != nil {
			return err
		}
		go func() {
			defer func() { <-r.slots }()
			r.stream(conn, remote)
		}()
	}
}

// accept waits for a connection. Errors of the one connection, and of a moment, are not the listener's.
func accept(listener *os.File) (int, netip.AddrPort, error) {
	for {
		conn, remote := -1, netip.AddrPort{}
		err := whenReadable(listener, func(fd int) error {
			n, sa, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			conn, remote = n, address(sa)
			return err
		})
		switch {
		case err == nil:
			return conn, remote, nil
		case errors.Is(err, unix.ECONNABORTED):
		default:
			return -1, remote, err
		}
	}
}

// stream relays one connection, which it owns, until both directions have ended.
func (r *relay) stream(fd int, remote netip.AddrPort) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		closeFD(fd)
		return
	}
	inside := os.NewFile(uintptr(fd), "accepted")
	defer inside.Close()
	outside, err := r.dial("tcp4", address(sa), remote)
	if err != nil {
		return
	}
	defer outside.Close()
	splice(inside, outside)
}

// dial opens a connection to the host and says what it is for.
func (r *relay) dial(network string, local, remote netip.AddrPort) (*os.File, error) {
	line, err := shimwire.EncodeHeader(shimwire.RelayHeader{Network: network, Local: local.String(), Remote: remote.String()})
	if err != nil {
		return nil, err
	}
	f, err := dialUnix(r.socket)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(line); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// splice copies both ways. The end of one direction is passed on and leaves the other open; an error ends both.
func splice(a, b *os.File) {
	var wg sync.WaitGroup
	wg.Go(func() { half(a, b) })
	wg.Go(func() { half(b, a) })
	wg.Wait()
}

func half(dst, src *os.File) {
	if _, err := io.CopyBuffer(onlyWriter{dst}, onlyReader{src}, make([]byte, 32<<10)); err != nil {
		_ = shutdown(src, unix.SHUT_RDWR) // wakes the other direction too
		_ = shutdown(dst, unix.SHUT_RDWR)
		return
	}
	_ = shutdown(dst, unix.SHUT_WR)
}

// onlyReader and onlyWriter keep io.Copy from splice(2) and its like, which gVisor answers differently.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

// datagrams relays one UDP listener: a connection to the host for each client address.
type datagrams struct {
	*relay
	file   *os.File
	listen shimwire.Listen
	mu     sync.Mutex
	flows  map[netip.AddrPort]*flow
}

// flow is one client's connection to the host.
type flow struct{ conn *os.File }

func (d *datagrams) serve() error {
	buf := make([]byte, 2+maxDatagram)
	for {
		n, remote, err := d.receive(buf[2:])
		if err != nil {
			return err
		}
		if n == 0 || !remote.IsValid() {
			continue
		}
		binary.BigEndian.PutUint16(buf, uint16(n))
		d.forward(remote, buf[:2+n])
	}
}

func (d *datagrams) receive(buf []byte) (n int, remote netip.AddrPort, err error) {
	err = whenReadable(d.file, func(fd int) error {
		var sa unix.Sockaddr
		n, sa, err = unix.Recvfrom(fd, buf, 0)
		remote = address(sa)
		return err
	})
	return n, remote, err
}

// forward sends a framed datagram to the host. What cannot be sent is dropped, as the network would.
func (d *datagrams) forward(remote netip.AddrPort, frame []byte) {
	f := d.flow(remote)
	if f == nil {
		return
	}
	_ = f.conn.SetReadDeadline(time.Now().Add(flowIdle))
	_ = f.conn.SetWriteDeadline(time.Now().Add(flowWrite))
	if _, err := f.conn.Write(frame); err != nil {
		_ = f.conn.Close() // its reader forgets it
	}
}

// flow finds or opens the connection for remote; nil when there are too many or the host takes none.
func (d *datagrams) flow(remote netip.AddrPort) *flow {
	d.mu.Lock()
	f, n := d.flows[remote], len(d.flows)
	d.mu.Unlock()
	if f != nil || n >= maxFlows {
		return f
	}
	conn, err := d.dial("udp4", netip.MustParseAddrPort(d.listen.Addr), remote)
	if err != nil {
		return nil
	}
	f = &flow{conn: conn}
	d.mu.Lock()
	d.flows[remote] = f
	d.mu.Unlock()
	go d.answers(remote, f)
	return f
}

// answers sends the host's datagrams to remote until the connection ends.
func (d *datagrams) answers(remote netip.AddrPort, f *flow) {
	defer func() {
		d.mu.Lock()
		delete(d.flows, remote)
		d.mu.Unlock()
		_ = f.conn.Close()
	}()
	buf := make([]byte, maxDatagram)
	for {
		if _, err := io.ReadFull(f.conn, buf[:2]); err != nil {
			return
		}
		frame := buf[:binary.BigEndian.Uint16(buf)]
		if _, err := io.ReadFull(f.conn, frame); err != nil {
			return
		}
		_ = whenWritable(d.file, func(fd int) error { return unix.Sendto(fd, frame, 0, sockaddr(remote)) })
	}
}
