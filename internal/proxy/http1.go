package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"agentbox/internal/policy"
)

const (
	lateAfter   = 20 * time.Millisecond // from here on an exchange is one that waits
	lingerTime  = time.Second           // for what a client still sends while it reads its last answer
	maxLinger   = 1 << 20               // bytes of that
	http2Hello  = "PRI * HTTP/2.0\r\n\r\n"
	slackOfIdle = 8 // the part of an idle limit by which it may be off
)

// conn1 serves requests of one connection from inside over HTTP/1, one after the other. One goroutine owns it; while a
// request waits for its answer, another reads ahead, so that a client that goes away is noticed.
type conn1 struct {
	p      *Proxy
	conn   net.Conn
	in     input
	to     target // where all requests lead; the zero value for the explicit proxy's own connections
	handle http.HandlerFunc
	body   *body // of the request that is served: each has its own, as one that is forwarded may outlast its answer
	answer answer1
	until  time.Time // the read deadline that is set
	hello2 bool      // the client began with HTTP/2's preface: in holds it again

	mu       sync.Mutex
	free     sync.Cond // watching has become false
	late     *time.Timer
	serving  bool
	isLate   bool
	allRead  bool // the request was read whole
	watching bool // a goroutine reads ahead
	stopping bool // it is to end
	last     bool // the client has said that this request is its last
	cancel   context.CancelFunc
	stopIdle func()
}

func (p *Proxy) newConn1(conn net.Conn, to target, handle http.HandlerFunc) *conn1 {
	c := &conn1{p: p, conn: conn, in: input{conn: conn}, to: to, handle: handle, body: noBody()}
	c.free.L = &c.mu
	c.answer.c = c
	return c
}

// serve serves requests until the connection ends, and closes it. With hello2 set it leaves the connection open.
func (c *conn1) serve() {
	for {
		head, err := c.readHead()
		switch {
		case err != nil:
			c.refuse(err)
			_ = c.conn.Close()
			return
		case head == "":
			_ = c.conn.Close()
			return
		case head == http2Hello && c.to.scheme == "http":
			c.hello2 = true
			return
		}
		req, frame, err := parseHead(head)
		if err != nil {
			c.refuse(err)
			c.linger()
			return
		}
		if !c.exchange(req, frame) {
			return
		}
	}
}

// readHead waits for a request and gives its head; "" without an error when none came.
func (c *conn1) readHead() (string, error) {
	if len(c.in.ahead()) == 0 {
		c.readBy(c.p.limits.idle)
		if c.in.fill() != nil {
			return "", nil
		}
	}
	waits, begun := false, false
	seen := 0
	for {
		if !begun {
			var may bool
			if begun, may = beginning(c.in.ahead(), seen); !may {
				return "", errors.New(notHTTP(c.to))
			}
		}
		end, searched, err := headEnd(c.in.ahead(), seen)
		if err != nil {
			return "", err
		}
		if end > 0 {
			return string(c.in.take(end)), nil
		}
		if seen = searched; !waits {
			waits = true
			c.until = time.Time{}
			c.readBy(c.p.limits.head)
		}
		if c.in.fill() != nil {
			return "", errPartHead
		}
	}
}

// notHTTP says what is wrong with a connection that speaks another protocol.
func notHTTP(t target) string {
	if t.host.IsZero() {
		return "the connection does not begin with a request of HTTP"
	}
	return fmt.Sprintf("the connection begins neither with a request of HTTP nor with TLS: for another protocol, port %d of %s needs a rule "+
		"with protocol = %q", t.port, t.host, policy.TCP)
}

var errPartHead = errors.New("the connection ended before a request's head was whole")

// readBy sets the read deadline, unless one of about that time is set.
func (c *conn1) readBy(limit time.Duration) {
	until := time.Now().Add(limit)
	if off := until.Sub(c.until); off < 0 || off > limit/slackOfIdle {
		c.until = until
		_ = c.conn.SetReadDeadline(until)
	}
}

// readAlways takes the read deadline away.
func (c *conn1) readAlways() {
	c.until = time.Time{}
	_ = c.conn.SetReadDeadline(c.until)
}

// refuse answers a head that cannot be read, and records it.
func (c *conn1) refuse(err error) {
	c.p.refused(c.to, err.Error())
	if errors.Is(err, errPartHead) {
		return
	}
	no := denied(http.StatusBadRequest, c.to.host.String(), err.Error())
	c.answer.reset(&http.Request{Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}}, true)
	no.write(&c.answer, nil)
	_ = c.answer.finish()
	c.linger()
}

// exchange serves one request and reports whether another may follow. If not, the connection is closed.
func (c *conn1) exchange(req *http.Request, frame framing) bool {
	ctx, cancel := context.WithCancel(c.p.ctx)
	defer cancel()
	req = req.WithContext(ctx)
	c.answer.reset(req, frame.last)
	c.begin(cancel, req, frame)
	done := false
	defer func() {
		c.end()
		if !done {
			_ = c.conn.Close()
		}
	}()
	if !c.run(req) {
		return false
	}
	if c.answer.hijacked {
		done = true
		return false
	}
	c.end()
	if c.answer.finish() != nil {
		return false
	}
	done = true
	if !c.body.settle() || c.answer.last {
		c.linger()
		return false
	}
	return true
}

// run calls the handler; false means that it ended the connection.
func (c *conn1) run(req *http.Request) (ok bool) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		ok = false
		if err, is := cause.(error); !is || !errors.Is(err, http.ErrAbortHandler) {
			c.p.refused(c.to, "agentbox failed while it served a request, and closed the connection")
		}
	}()
	c.handle(&c.answer, req)
	return true
}

// begin says that a request is being served.
func (c *conn1) begin(cancel context.CancelFunc, req *http.Request, frame framing) {
	if c.body.in != nil {
		c.body = noBody()
	}
	if frame.phase != atEnd {
		c.body = &body{in: &c.in, phase: frame.phase, n: frame.length, trailer: req.Trailer, done: c.bodyRead}
		if frame.expect {
			c.body.ready = c.answer.goOn
		}
		req.Body = c.body
		c.readAlways()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel, c.last, c.allRead = cancel, frame.last, frame.phase == atEnd
	c.serving, c.isLate, c.stopping = true, false, false
	if c.late == nil {
		c.late = time.AfterFunc(lateAfter, c.waits)
	} else {
		c.late.Reset(lateAfter)
	}
}

// waits is called when an answer takes its time: nothing is held back any longer, and the client is watched.
func (c *conn1) waits() {
	c.answer.late.Store(true)
	c.answer.release()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.serving || c.isLate {
		return
	}
	c.isLate = true
	c.stopIdle = whenIdle(c.p.limits.stream, c.answer.progress, func() { _ = c.conn.Close() })
	c.watch()
}

// bodyRead is called when the request was read whole.
func (c *conn1) bodyRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.allRead = true
	c.watch()
}

// watch begins to read ahead once nobody else reads. c.mu is held.
func (c *conn1) watch() {
	if c.serving && c.isLate && c.allRead && !c.watching && !c.stopping {
		c.watching = true
		c.readAlways()
		go c.readAhead()
	}
}

// readAhead reads until the client goes away, has sent much, or the request is over.
func (c *conn1) readAhead() {
	var err error
	for err == nil && len(c.in.ahead()) < inputSize {
		err = c.in.fill()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watching = false
	c.free.Broadcast()
	// A client that has said everything may close its half and wait; from any other it means that it is gone.
	if err != nil && !c.stopping && (!c.last || !errors.Is(err, io.EOF)) {
		c.cancel()
	}
}

// end stops what begin and waits have started. It may be called again.
func (c *conn1) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late.Stop()
	c.serving, c.stopping = false, true
	if c.stopIdle != nil {
		c.stopIdle()
		c.stopIdle = nil
	}
	if !c.watching {
		return
	}
	_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	for c.watching {
		c.free.Wait()
	}
	c.readAlways()
}

// linger ends the connection so that its last answer arrives: what still comes is read for a while, or the answer
// could be lost.
func (c *conn1) linger() {
	defer func() { _ = c.conn.Close() }()
	if closeWrite(c.conn) != nil || c.conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.conn, maxLinger)
}
