package proxy

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/net/http2"
)

const (
	maxStreams     = 250       // that are open at once on one connection from inside
	maxStreamHead  = 64 << 10  // bytes of a stream's head
	maxFrame       = 64 << 10  // bytes of one frame from inside
	maxUnread      = 256 << 10 // bytes of bodies of one connection that no server has taken yet
	maxToldErrors  = 4         // kinds of broken rules that are recorded for one connection
	protocolHTTP2  = "h2"
	protocolHTTP11 = "http/1.1"
)

// serveHTTP2 serves requests of one connection from inside over HTTP/2, each judged by itself. It closes conn.
func (p *Proxy) serveHTTP2(conn net.Conn, t target) {
	if t.scheme == "http" {
		conn = schemeConn{conn}
	}
	told := &brokenRules{proxy: p, to: t}
	if stated, ok := conn.(statedConn); ok {
		conn = &resets{statedConn: stated, broken: told}
	}
	base := &http.Server{
		IdleTimeout:    p.limits.idle,
		MaxHeaderBytes: maxStreamHead,
		ErrorLog:       log.New(io.Discard, "", 0),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReadFrameSize:              maxFrame,
			MaxReceiveBufferPerConnection: maxUnread,
			MaxReceiveBufferPerStream:     maxUnread,
			WriteByteTimeout:              p.limits.stream,
			CountError:                    told.count,
		},
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serveStream(w, r, t) })
	//nolint:staticcheck // http.Server serves listeners only, and tells nothing of a stream's scheme without TLS
	new(http2.Server).ServeConn(conn, &http2.ServeConnOpts{Context: p.ctx, BaseConfig: base, Handler: handler})
}

// serveStream serves one request over HTTP/2.
func (p *Proxy) serveStream(w http.ResponseWriter, r *http.Request, t target) {
	if !p.conns.enter() {
		panic(http.ErrAbortHandler)
	}
	defer p.conns.work.Done()
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if err, is := cause.(error); !is || !errors.Is(err, http.ErrAbortHandler) {
			p.refused(t, "agentbox failed while it served a request, and ended it")
		}
		panic(http.ErrAbortHandler)
	}()
	defer p.streams.Add(-1)
	if p.streams.Add(1) > p.limits.streams { // each holds its head: what connections allow together is more than memory does
		const reason = "too many requests are open at once over HTTP/2"
		p.refused(t, reason)
		denied(http.StatusServiceUnavailable, t.host.String(), reason).write(w, r)
		return
	}
	if reason := streamFlaw(r, t); reason != "" {
		p.refused(t, reason)
		denied(http.StatusBadRequest, t.host.String(), reason).write(w, r)
		return
	}
	p.serveInner(w, r, t)
}

// streamFlaw says what in a stream's pseudo-header could be read in another way once it is a request over HTTP/1.
func streamFlaw(r *http.Request, t target) string {
	switch {
	case (r.TLS != nil) != (t.scheme == "https"):
		return "the stream names another scheme than the connection's"
	case !isToken(r.Method):
		return "the stream's method is not valid"
	case r.Method != http.MethodConnect && !isTarget(r.Method, r.RequestURI):
		return "the stream's path is not one"
	case strings.ContainsRune(r.RequestURI, ' ') || hasControl(r.RequestURI):
		return "the stream's path holds a space or a control character"
	}
	return ""
}

// schemeConn is a connection without TLS that looks to http2 as if it had TLS. http2 tells of a stream's scheme only
// by whether the request has the state of a TLS connection, so this way "https" can be told from "http" here.
type schemeConn struct{ net.Conn }

func (schemeConn) ConnectionState() tls.ConnectionState {
	return tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
}

// brokenRules records what http2 ends streams and connections for: those never come to a handler.
type brokenRules struct {
	proxy *Proxy
	to    target

	mu   sync.Mutex
	told map[string]bool
}

// tooLate is data for a stream that has ended: what was on its way when the answer came.
const tooLate = "stream_STREAM_CLOSED_closed"

func (b *brokenRules) count(what string) {
	if what == tooLate {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.told[what] || len(b.told) >= maxToldErrors {
		return
	}
	if b.told == nil {
		b.told = map[string]bool{}
	}
	b.told[what] = true
	b.tell(what)
}

// reset is called for each stream that is ended for breaking HTTP/2's rules: count was not where it was for those about
// header fields.
func (b *brokenRules) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.told == nil {
		b.told = map[string]bool{"headers": true}
		b.tell("headers")
	}
}

func (b *brokenRules) tell(what string) {
	b.proxy.refused(b.to, "a stream or connection over HTTP/2 is not valid ("+what+")")
}

// statedConn is what http2 makes use of in a connection.
type statedConn interface {
	net.Conn
	ConnectionState() tls.ConnectionState
}

const (
	frameHead  = 9 // bytes before what a frame carries
	resetCode  = 4 // bytes that say why a stream is ended
	resetFrame = byte(http2.FrameRSTStream)
)

// resets is a connection that follows what http2 writes to it, for the streams that it ends.
type resets struct {
	statedConn
	broken *brokenRules
	head   []byte // of the frame that is being written, and the first resetCode bytes that it carries
	skip   int    // bytes of it that are of no interest
}

func (r *resets) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; { // first, so that it is recorded when the program inside learns of it
		rest = rest[r.follow(rest):]
	}
	return r.statedConn.Write(p)
}

// follow takes some bytes and says how many.
func (r *resets) follow(p []byte) int {
	if r.skip > 0 {
		n := min(r.skip, len(p))
		r.skip -= n
		return n
	}
	n := min(r.want()-len(r.head), len(p))
	r.head = append(r.head, p[:n]...)
	if len(r.head) < frameHead || len(r.head) < r.want() {
		return n
	}
	if r.head[3] == resetFrame && len(r.head) == frameHead+resetCode &&
		http2.ErrCode(binary.BigEndian.Uint32(r.head[frameHead:])) == http2.ErrCodeProtocol {
		r.broken.reset()
	}
	r.skip = r.length() - (len(r.head) - frameHead)
	r.head = r.head[:0]
	return n
}

func (r *resets) want() int {
	if len(r.head) < frameHead {
		return frameHead
	}
	return frameHead + min(r.length(), resetCode)
}

func (r *resets) length() int { return int(r.head[0])<<16 | int(r.head[1])<<8 | int(r.head[2]) }
