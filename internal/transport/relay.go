package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"agentbox/internal/shimwire"
)

const (
	// relayConns is how many relayed connections there may be at a time; the shim sends fewer, but the agent
	// can connect to the relay's socket by itself.
	relayConns = 2048
	headerTime = 10 * time.Second
	// datagramWrite is how long an answer may wait for a client that does not read.
	datagramWrite = time.Second
	maxDatagram   = 65535
)

// relayed makes listeners that are fed by a relay.
func relayed(asked []shimwire.Listen) ([]Bound, error) {
	bound := make([]Bound, 0, len(asked))
	for _, l := range asked {
		addr, err := netip.ParseAddrPort(l.Addr)
		if err != nil || !addr.Addr().Is4() {
			return nil, fmt.Errorf("%q is not an IPv4 address and port", l.Addr)
		}
		switch l.Network {
		case "tcp4":
			bound = append(bound, Bound{Listen: l, TCP: newStreams(addr)})
		case "udp4":
			bound = append(bound, Bound{Listen: l, UDP: newPackets(addr)})
		default:
			return nil, fmt.Errorf("network %q is neither tcp4 nor udp4", l.Network)
		}
	}
	return bound, nil
}

// relay accepts what the shim relays and gives each connection to the listener that its header names. The
// agent can reach the same socket; all that it gains is what connecting to a listener would have given.
type relay struct {
	socket *net.UnixListener
	bound  []Bound
	slots  chan struct{}
	wg     sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	stopped bool
}

func newRelay(socket *net.UnixListener, bound []Bound) *relay {
	r := &relay{socket: socket, bound: bound, slots: make(chan struct{}, relayConns), conns: map[net.Conn]struct{}{}}
	r.wg.Go(r.serve)
	return r
}

// stop closes the socket and every connection, and waits.
func (r *relay) stop() {
	_ = r.socket.Close()
	r.mu.Lock()
	r.stopped = true
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *relay) serve() {
	for {
		conn, err := r.socket.AcceptUnix()
		if err != nil {
			return // closed: listeners end with the link
		}
		select {
		case r.slots <- struct{}{}:
		default: // more than the shim ever makes
			_ = conn.Close()
			continue
		}
		if !r.track(conn) {
			return
		}
		r.wg.Go(func() { r.receive(conn) })
	}
}

// track remembers conn for stop; false, and closed, when that has happened.
func (r *relay) track(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		_ = conn.Close()
		return false
	}
	r.conns[conn] = struct{}{}
	return true
}

// forget ends conn. It may be called twice.
func (r *relay) forget(conn net.Conn) {
	_ = conn.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.conns[conn]; ok {
		delete(r.conns, conn)
		<-r.slots
	}
}

// receive reads the header and hands conn over. Whatever is wrong with it ends that connection alone.
func (r *relay) receive(conn *net.UnixConn) {
	read := bufio.NewReader(conn)
	to, local, remote, err := r.header(conn, read)
	if err != nil {
		r.forget(conn)
		return
	}
	if to.UDP != nil {
		to.UDP.(*packets).serve(conn, read, remote)
		r.forget(conn)
		return
	}
	c := &relayConn{UnixConn: conn, read: read, local: local, remote: remote, release: func() { r.forget(conn) }}
	if !to.TCP.(*streams).deliver(c) {
		r.forget(conn)
	}
}

func (r *relay) header(conn *net.UnixConn, read *bufio.Reader) (to Bound, local, remote netip.AddrPort, err error) {
	if err := samePerson(conn, os.Getuid()); err != nil {
		return to, local, remote, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(headerTime)); err != nil {
		return to, local, remote, err
	}
	h, err := shimwire.ReadHeader(read)
	if err != nil {
		return to, local, remote, err
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return to, local, remote, err
	}
	return match(h, r.bound)
}

// match finds the listener that h means: the same network and port, and its address or any where it takes any.
func match(h shimwire.RelayHeader, bound []Bound) (to Bound, local, remote netip.AddrPort, err error) {
	local, errLocal := netip.ParseAddrPort(h.Local)
	remote, errRemote := netip.ParseAddrPort(h.Remote)
	if err := errors.Join(errLocal, errRemote); err != nil {
		return to, local, remote, err
	}
	if !local.Addr().Is4() || !remote.Addr().Is4() || remote.Port() == 0 || remote.Addr().IsUnspecified() {
		return to, local, remote, errors.New("a relayed address is not one of IPv4")
	}
	for _, b := range bound {
		at, err := netip.ParseAddrPort(b.Listen.Addr)
		if err == nil && b.Listen.Network == h.Network && accepts(at, local, h.Network) {
			return b, local, remote, nil
		}
	}
	return to, local, remote, fmt.Errorf("nobody listens on %s %s", h.Network, h.Local)
}

func accepts(listens, local netip.AddrPort, network string) bool {
	if listens == local {
		return true
	}
	// a datagram's own destination is not known to the shim: it names the listener
	return network == "tcp4" && listens.Addr().IsUnspecified() && !local.Addr().IsUnspecified() && listens.Port() == local.Port()
}

// relayConn is a relayed connection with the addresses of the one inside.
type relayConn struct {
	*net.UnixConn
	read          *bufio.Reader
	local, remote netip.AddrPort
	release       func()
}

func (c *relayConn) Read(p []byte) (int, error) { return c.read.Read(p) }
func (c *relayConn) LocalAddr() net.Addr        { return net.TCPAddrFromAddrPort(c.local) }
func (c *relayConn) RemoteAddr() net.Addr       { return net.TCPAddrFromAddrPort(c.remote) }

func (c *relayConn) Close() error {
	c.release()
	return nil
}

// streams is a listener fed by deliver.
type streams struct {
	addr   netip.AddrPort
	ready  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newStreams(addr netip.AddrPort) *streams {
	return &streams{addr: addr, ready: make(chan net.Conn), closed: make(chan struct{})}
}

// deliver waits until c is accepted; false when the listener is closed.
func (s *streams) deliver(c net.Conn) bool {
	select {
	case s.ready <- c:
		return true
	case <-s.closed:
		return false
	}
}

func (s *streams) Accept() (net.Conn, error) {
	select {
	case c := <-s.ready:
		return c, nil
	case <-s.closed:
		return nil, &net.OpError{Op: "accept", Net: "tcp4", Addr: s.Addr(), Err: net.ErrClosed}
	}
}

func (s *streams) Addr() net.Addr { return net.TCPAddrFromAddrPort(s.addr) }

func (s *streams) Close() error {
	err := net.ErrClosed
	s.once.Do(func() {
		close(s.closed)
		err = nil
	})
	return err
}

// packets is a packet connection over one relayed connection for each client.
type packets struct {
	addr     netip.AddrPort
	received chan packet
	closed   chan struct{}
	once     sync.Once
	read     deadline

	mu    sync.Mutex
	flows map[netip.AddrPort]net.Conn
}

type packet struct {
	data []byte
	from netip.AddrPort
}

func newPackets(addr netip.AddrPort) *packets {
	return &packets{addr: addr, received: make(chan packet), closed: make(chan struct{}), flows: map[netip.AddrPort]net.Conn{}}
}

// serve hands on the datagrams of one client until its connection ends. A newer connection of the same client
// takes its place.
func (p *packets) serve(conn net.Conn, r io.Reader, from netip.AddrPort) {
	p.mu.Lock()
	older := p.flows[from]
	p.flows[from] = conn
	p.mu.Unlock()
	if older != nil {
		_ = older.Close()
	}
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.flows[from] == conn {
			delete(p.flows, from)
		}
	}()
	for {
		data, err := readFrame(r)
		if err != nil {
			return
		}
		select {
		case p.received <- packet{data, from}:
		case <-p.closed:
			return
		}
	}
}

func readFrame(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	data := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, data)
	return data, err
}

func (p *packets) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case m := <-p.received:
		return copy(b, m.data), net.UDPAddrFromAddrPort(m.from), nil
	case <-p.closed:
		return 0, nil, p.fail("read", net.ErrClosed)
	case <-p.read.expired():
		return 0, nil, p.fail("read", os.ErrDeadlineExceeded)
	}
}

// WriteTo answers a client. One that is gone loses the answer, as on a network.
func (p *packets) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-p.closed:
		return 0, p.fail("write", net.ErrClosed)
	default:
	}
	udp, ok := to.(*net.UDPAddr)
	if !ok || len(b) > maxDatagram {
		return 0, p.fail("write", errors.New("it is not a datagram for a UDP address"))
	}
	at := udp.AddrPort()
	p.mu.Lock()
	conn := p.flows[netip.AddrPortFrom(at.Addr().Unmap(), at.Port())]
	p.mu.Unlock()
	if conn == nil {
		return len(b), nil
	}
	frame := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(b)), uint16(len(b))), b...)
	_ = conn.SetWriteDeadline(time.Now().Add(datagramWrite))
	if _, err := conn.Write(frame); err != nil {
		_ = conn.Close() // half a frame may be sent
	}
	return len(b), nil
}

func (p *packets) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp4", Addr: p.LocalAddr(), Err: err}
}

func (p *packets) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(p.addr) }

func (p *packets) Close() error {
	err := net.ErrClosed
	p.once.Do(func() {
		close(p.closed)
		err = nil
	})
	return err
}

func (p *packets) SetReadDeadline(t time.Time) error { p.read.set(t); return nil }
func (p *packets) SetWriteDeadline(time.Time) error  { return nil } // WriteTo does not wait
func (p *packets) SetDeadline(t time.Time) error     { return p.SetReadDeadline(t) }

// deadline is a channel that is closed at a time that may change.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	done  chan struct{}
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		d.done = nil // it is closed, or about to be
	}
	d.timer = nil
	if t.IsZero() {
		return
	}
	done := d.channel()
	d.timer = time.AfterFunc(time.Until(t), func() { close(done) })
}

func (d *deadline) channel() chan struct{} {
	if d.done == nil {
		d.done = make(chan struct{})
	}
	return d.done
}

func (d *deadline) expired() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.channel()
}
