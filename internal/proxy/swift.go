package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"agentbox/internal/policy"
)

const (
	maxOrigins  = 4096 // servers of which it is remembered that they speak HTTP/1
	maxInterims = 5    // answers 1xx before the real one
	outSize     = 1 << 10
)

// swift forwards requests without a body to servers that are known to speak HTTP/1, in the goroutine that serves them:
// http.Transport hands each to a goroutine that writes and waits for one that reads, which for small requests costs
// more than all else about them. Everything else goes over http.Transport, the first request to each server too, which
// finds out what it speaks.
type swift struct {
	dialer *dialer

	mu     sync.Mutex
	closed bool
	known  map[origin]bool
	idle   map[origin][]*serverConn // the one used last is at the end
	count  int
	timer  *time.Timer
}

// origin is a server.
type origin struct {
	name   string // as it is dialled and verified
	port   uint16
	secure bool
}

func originOf(t target) origin {
	return origin{name: t.host.String(), port: t.port, secure: t.scheme == "https"}
}

func newSwift(d *dialer) *swift {
	return &swift{dialer: d, known: map[origin]bool{}, idle: map[origin][]*serverConn{}}
}

func (s *swift) knows(o origin) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[o]
}

// learn remembers what a server speaks.
func (s *swift) learn(o origin, http1 bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !http1:
		delete(s.known, o)
	case !s.known[o]:
		if len(s.known) >= maxOrigins {
			clear(s.known)
		}
		s.known[o] = true
	}
}

var errNotReached = errors.New("the server was not reached")

// roundTrip forwards a request without a body. It gives errNotReached when there was no connection.
func (s *swift) roundTrip(req *http.Request, t target) (*http.Response, error) {
	for {
		c, reused, err := s.get(req.Context(), t)
		if err != nil {
			return nil, errors.Join(errNotReached, err)
		}
		resp, err := c.roundTrip(req)
		if err == nil {
			return resp, nil
		}
		_ = c.conn.Close()
		// A server may close a connection at the moment it is used again.
		if !reused || c.answered || req.Context().Err() != nil || !repeatable(req.Method) {
			return nil, err
		}
	}
}

func repeatable(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions || method == http.MethodTrace
}

func (s *swift) get(ctx context.Context, t target) (c *serverConn, reused bool, err error) {
	o := originOf(t)
	for c := s.pop(o); c != nil; c = s.pop(o) {
		if !stale(c.conn) {
			return c, true, nil
		}
		_ = c.conn.Close()
	}
	conn, err := s.dialer.dial(ctx, t.host, t.port)
	if err != nil {
		return nil, false, err
	}
	if o.secure {
		if conn, err = s.handshake(ctx, conn, t.host); err != nil {
			return nil, false, err
		}
	}
	c = &serverConn{pool: s, origin: o, conn: conn}
	c.br = bufio.NewReaderSize(c, 4<<10)
	return c, false, nil
}

func (s *swift) handshake(ctx context.Context, conn net.Conn, host policy.Host) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamTLS)
	defer cancel()
	config := s.dialer.tlsFor(host)
	config.NextProtos = []string{protocolHTTP11}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

func (s *swift) pop(o origin) *serverConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := s.idle[o]
	if len(conns) == 0 {
		return nil
	}
	c := conns[len(conns)-1]
	s.set(o, conns[:len(conns)-1])
	return c
}

// set changes the idle connections of a server. s.mu is held.
func (s *swift) set(o origin, conns []*serverConn) {
	s.count += len(conns) - len(s.idle[o])
	if len(conns) == 0 {
		delete(s.idle, o)
		return
	}
	s.idle[o] = conns
}

// put keeps a connection for the next request, or closes it.
func (s *swift) put(c *serverConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := s.idle[c.origin]
	if s.closed || s.count >= maxUpstreamIdle || len(conns) >= maxUpstreamIdle/2 {
		_ = c.conn.Close()
		return
	}
	c.since = time.Now()
	s.set(c.origin, append(conns, c))
	if s.timer == nil {
		s.timer = time.AfterFunc(upstreamIdle/2, s.tidy)
	}
}

// tidy closes connections that were idle for long.
func (s *swift) tidy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeBefore(time.Now().Add(-upstreamIdle))
	s.timer = nil
	if s.count > 0 && !s.closed {
		s.timer = time.AfterFunc(upstreamIdle/2, s.tidy)
	}
}

// closeBefore closes what is idle since before a time. s.mu is held.
func (s *swift) closeBefore(at time.Time) {
	for o, conns := range s.idle {
		kept := conns[:0:0]
		for _, c := range conns {
			if c.since.After(at) {
				kept = append(kept, c)
			} else {
				_ = c.conn.Close()
			}
		}
		s.set(o, kept)
	}
}

// close closes all idle connections, now and later.
func (s *swift) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.closeBefore(time.Now().Add(time.Hour))
	if s.timer != nil {
		s.timer.Stop()
	}
}

// serverConn is a connection to a server.
type serverConn struct {
	pool     *swift
	origin   origin
	conn     net.Conn
	br       *bufio.Reader
	out      []byte
	since    time.Time   // that it is idle
	stop     func() bool // of what ends it with its request
	head     int64       // bytes that the answer's head may still have, while inHead
	inHead   bool
	answered bool // something came back
}

var errLongAnswer = errors.New("the head of the server's answer is too long")

// Read reads for br.
func (c *serverConn) Read(p []byte) (int, error) {
	if c.inHead && c.head <= 0 {
		return 0, errLongAnswer
	}
	n, err := c.conn.Read(p)
	c.head -= int64(n)
	c.answered = c.answered || n > 0
	return n, err
}

func (c *serverConn) roundTrip(req *http.Request) (*http.Response, error) {
	var err error
	if c.out, err = appendRequest(c.out[:0], req); err != nil {
		return nil, err
	}
	ctx := req.Context()
	c.stop = context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	c.answered, c.inHead, c.head = false, true, maxAnswerHead
	_, err = c.conn.Write(c.out)
	if cap(c.out) > keptOut {
		c.out = nil
	}
	var resp *http.Response
	if err == nil {
		resp, err = c.readHead(req)
	}
	if err != nil {
		c.stop()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	c.inHead = false
	c.attach(resp)
	return resp, nil
}

// readHead reads the answer's head, after those that only announce it. Early hints are for browsers: they end here.
func (c *serverConn) readHead(req *http.Request) (*http.Response, error) {
	for range maxInterims {
		resp, err := http.ReadResponse(c.br, req)
		switch {
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, errUnaskedUpgrade
		case resp.StatusCode >= 200:
			return resp, nil
		}
	}
	return nil, errors.New("the server announced an answer too often")
}

// attach has the connection go back, or end, with the answer's body.
func (c *serverConn) attach(resp *http.Response) {
	b := &serverBody{ReadCloser: resp.Body, c: c, keep: !resp.Close}
	if resp.Body == http.NoBody {
		b.end(true)
		return
	}
	resp.Body = b
}

// serverBody is the body of an answer that comes over a serverConn.
type serverBody struct {
	io.ReadCloser
	c    *serverConn
	keep bool
	over bool
}

func (b *serverBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end(errors.Is(err, io.EOF))
	}
	return n, err
}

// Close ends the connection, unless the body was read whole. The rest of it is not read.
func (b *serverBody) Close() error {
	b.end(false)
	return nil
}

func (b *serverBody) end(whole bool) {
	if b.over {
		return
	}
	b.over = true
	if !b.c.stop() || !whole || !b.keep || b.c.br.Buffered() > 0 {
		_ = b.c.conn.Close()
		return
	}
	b.c.pool.put(b.c)
}

// appendRequest appends a request without a body as it is sent.
func appendRequest(b []byte, req *http.Request) ([]byte, error) {
	target := req.URL.RequestURI()
	if hasControl(target) || strings.IndexByte(target, ' ') >= 0 || hasControl(req.Host) || !isToken(req.Method) {
		return b, errors.New("the request cannot be written")
	}
	b = append(append(append(b, req.Method...), ' '), target...)
	b = append(append(append(b, " HTTP/1.1\r\nHost: "...), req.Host...), crlf...)
	for name, values := range req.Header {
		switch {
		case name == "Host" || name == "Content-Length" || name == "Transfer-Encoding" || name == "Trailer" || !isToken(name):
		case name == "User-Agent" && len(values) == 1 && values[0] == "":
		default:
			for _, value := range values {
				b = append(append(append(b, name...), ": "...), newlines.Replace(value)...)
				b = append(b, crlf...)
			}
		}
	}
	if req.Method == http.MethodPost || req.Method == http.MethodPut || req.Method == http.MethodPatch {
		b = append(b, "Content-Length: 0\r\n"...)
	}
	return append(b, crlf...), nil
}
