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

// listener accepts into a registry.
type listener struct {
	net.Listener
	registry *registry
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
	return held, nil
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
	ahead []byte
}

func replay(conn net.Conn, ahead []byte) net.Conn {
	if len(ahead) == 0 {
		return conn
	}
	return &replayConn{Conn: conn, ahead: bytes.Clone(ahead)}
}

func (c *replayConn) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

func (c *replayConn) CloseWrite() error { return closeWrite(c.Conn) }

// socket gives the TCP connection below what is wrapped around it here, nil where there is none.
func socket(conn net.Conn) *net.TCPConn {
	switch c := conn.(type) {
	case *net.TCPConn:
		return c
	case *heldConn:
		return socket(c.Conn)
	case *replayConn:
		return socket(c.Conn)
	}
	return nil
}
