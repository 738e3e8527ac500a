package proxy

import (
	"bytes"
	"io"
	"net"
	"sync"
)

// maxConns bounds the connections from inside that are open at once; more wait to be accepted.
const maxConns = 2048

// registry knows every connection from inside and every goroutine that serves one, so that Close can end the first
// and wait for the second.
type registry struct {
	slots chan struct{}
	done  chan struct{}
	work  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[io.Closer]struct{}
}

func newRegistry() *registry {
	return &registry{slots: make(chan struct{}, maxConns), done: make(chan struct{}), open: map[io.Closer]struct{}{}}
}

// enter counts a goroutine in; false means that everything is ending. After true, call work.Done.
func (r *registry) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.work.Add(1)
	return true
}

// add remembers what is to be closed at the end; false means that the end has come, and c is closed already.
func (r *registry) add(c io.Closer) bool {
	r.mu.Lock()
	closed := r.closed
	if !closed {
		r.open[c] = struct{}{}
	}
	r.mu.Unlock()
	if closed {
		_ = c.Close()
	}
	return !closed
}

func (r *registry) remove(c io.Closer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
}

// closeAll closes what is open, now and later. It does not wait.
func (r *registry) closeAll() {
	r.mu.Lock()
	first := !r.closed
	r.closed = true
	open := r.open
	r.open = map[io.Closer]struct{}{}
	r.mu.Unlock()
	if first {
		close(r.done)
	}
	for c := range open {
		_ = c.Close()
	}
}

// listener accepts into a registry and wraps what it accepts.
type listener struct {
	net.Listener
	registry *registry
	wrap     func(net.Conn) net.Conn
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.registry.slots <- struct{}{}:
	case <-l.registry.done:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.registry.slots
		return nil, err
	}
	held := &heldConn{Conn: conn, registry: l.registry}
	if !l.registry.add(held) {
		return nil, net.ErrClosed
	}
	return l.wrap(held), nil
}

// heldConn is a connection that a registry knows and that takes one of its slots.
type heldConn struct {
	net.Conn
	registry *registry
	once     sync.Once
	err      error
}

func (c *heldConn) Close() error {
	c.once.Do(func() {
		c.err = c.Conn.Close()
		c.registry.remove(c)
		<-c.registry.slots
	})
	return c.err
}

func (c *heldConn) CloseWrite() error { return closeWrite(c.Conn) }

// closeWrite ends one direction where the connection can, and nothing where it cannot.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// replayConn gives bytes that were read ahead before those of the connection.
type replayConn struct {
	net.Conn
	r io.Reader
}

func replay(conn net.Conn, ahead []byte) net.Conn {
	if len(ahead) == 0 {
		return conn
	}
	return &replayConn{Conn: conn, r: io.MultiReader(bytes.NewReader(bytes.Clone(ahead)), conn)}
}

func (c *replayConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *replayConn) CloseWrite() error { return closeWrite(c.Conn) }

// handover is a listener whose connections come from this process: tunnels, once their TLS is terminated.
type handover struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandover() *handover {
	return &handover{conns: make(chan net.Conn), done: make(chan struct{})}
}

// give hands a connection to whoever accepts; false means that nobody does any more.
func (h *handover) give(conn net.Conn) bool {
	select {
	case h.conns <- conn:
		return true
	case <-h.done:
		return false
	}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handover) Addr() net.Addr { return handoverAddr{} }

type handoverAddr struct{}

func (handoverAddr) Network() string { return "handover" }
func (handoverAddr) String() string  { return "handover" }
