package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"agentbox/internal/event"
)

// Sizes of a copyBuffer. TLS gives 16 KB at once, so only connections that are passed on as they are come to the
// greatest, where fewer and longer reads leave the processors to the client and the server.
const (
	smallBuffer = 4 << 10 // while little comes at once, as in streams that wait for most of their time
	bigBuffer   = 32 << 10
	hugeBuffer  = 128 << 10
)

// maxHuge bounds how many of the greatest buffers are in use at once; who comes later does with less.
const maxHuge = 128

// buffers are kept for those who copy.
type buffers struct {
	kept [3]sync.Pool // of *[]byte, by step
	huge atomic.Int64 // how many are in use
}

func (b *buffers) get() *copyBuffer {
	c := &copyBuffer{from: b}
	c.take(0)
	return c
}

// copyBuffer is a buffer that grows while much is read at once, and shrinks when little is.
type copyBuffer struct {
	from *buffers
	step int
	buf  *[]byte
}

func capacity(step int) int { return [...]int{smallBuffer, bigBuffer, hugeBuffer}[step] }

// bytes is the buffer to read into next.
func (c *copyBuffer) bytes() []byte { return *c.buf }

// read says how much the last read gave.
func (c *copyBuffer) read(n int) {
	step := c.step
	switch {
	case n == len(*c.buf):
		step = min(step+1, len(c.from.kept)-1)
	case n < smallBuffer:
		step = 0
	}
	if step != c.step {
		c.free()
		c.take(step)
	}
}

func (c *copyBuffer) take(step int) {
	if capacity(step) == hugeBuffer && c.from.huge.Add(1) > maxHuge {
		c.from.huge.Add(-1)
		step--
	}
	var ok bool
	if c.buf, ok = c.from.kept[step].Get().(*[]byte); !ok {
		buf := make([]byte, capacity(step))
		c.buf = &buf
	}
	c.step = step
}

func (c *copyBuffer) free() {
	if capacity(c.step) == hugeBuffer {
		c.from.huge.Add(-1)
	}
	c.from.kept[c.step].Put(c.buf)
}

// copyBody passes an answer's body on: nothing of it waits for more to come, but for its end, which may come with it.
func (x *exchange) copyBody(w http.ResponseWriter, body io.Reader, flush bool) error {
	flusher := w.(http.Flusher)
	if flush {
		flusher.Flush() // the head
	}
	buf := x.proxy.buffers.get()
	defer buf.free()
	for {
		n, err := body.Read(buf.bytes())
		if n > 0 {
			x.down.Add(int64(n))
			if _, err := w.Write(buf.bytes()[:n]); err != nil {
				return err
			}
			if err == nil {
				flusher.Flush()
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		buf.read(n)
	}
}

// upload is the body of a request: its bytes are counted, and held against the limits before they leave. Trailers are
// known once it is read whole; it ends well only where they may go.
type upload struct {
	io.ReadCloser
	x       *exchange
	trailed *http.Request // what stands behind the body, as a request of its own; nil where nothing was announced
	end     error         // once the end was read
}

func (u *upload) Read(p []byte) (int, error) {
	if u.end != nil {
		return 0, u.end // nothing comes behind what was judged
	}
	n, err := u.ReadCloser.Read(p)
	if n > 0 && !u.x.maySend(int64(n)) {
		return 0, errLimit
	}
	if errors.Is(err, io.EOF) {
		u.end = err
		if !u.x.mayEnd(u.trailed) {
			u.end = errLimit
			return 0, u.end
		}
	}
	return n, err
}

// watch has the body looked at as it is sent, unless that is a body with a credential in it.
func (x *exchange) watch(req *http.Request) {
	w, ok := x.proxy.injector.(Watcher)
	if _, asItCame := req.Body.(*upload); ok && asItCame {
		req.Body = &watched{ReadCloser: req.Body, x: x, look: w.Watch(x.target.host)}
	}
}

// watched is a body that is looked at. A placeholder in it is recorded, and passes: it is worth nothing.
type watched struct {
	io.ReadCloser
	x    *exchange
	look func([]byte) (credential string, seen bool)
}

func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if credential, seen := b.look(p[:n]); seen && b.x.sighted(credential) != nil {
		return 0, errLimit
	}
	return n, err
}

// sighted records a placeholder in the body. What can't be recorded does not pass.
func (x *exchange) sighted(credential string) error {
	err := x.proxy.events.Emit(event.Event{
		Kind: event.CredentialSeen, Host: x.target.host.String(), Port: x.target.port, Method: x.method, Path: x.path, Via: x.target.via,
		Credential: credential, Who: event.Agent, Reason: "a placeholder is in the body of the request, where nothing takes its place: it passed, and is worth nothing there",
	})
	if err != nil {
		no := unrecorded(x.target.host.String())
		x.over.Store(&no)
	}
	return err
}

var errLimit = errors.New("the request reached a limit")

// maySend counts n more bytes of body, or says that a limit does not let them pass.
func (x *exchange) maySend(n int64) bool {
	if x.over.Load() != nil {
		return false
	}
	d := x.decision
	if d.MaxRequest > 0 && x.up.Load()+n > d.MaxRequest && !x.upgrade {
		x.over.Store(tooLarge(x.target.host.String(), d))
		return false
	}
	if !x.proxy.gate.Send(x.target.host, n, d.MaxSent) {
		x.over.Store(spent(x.target.host.String(), d))
		return false
	}
	x.up.Add(n)
	return true
}

// mayEnd judges trailers, which leave once the body has ended without an error. Whoever forwards the request calls it,
// and would take everything along if it failed.
func (x *exchange) mayEnd(trailed *http.Request) (may bool) {
	defer func() {
		if recover() != nil {
			no := denied(http.StatusForbidden, x.target.host.String(), "agentbox failed while it judged the request's trailers")
			x.over.Store(&no)
			may = false
		}
	}()
	if trailed == nil {
		return x.over.Load() == nil
	}
	no := x.inject(trailed)
	if no == nil && !x.proxy.gate.Send(x.target.host, sizeOf(trailed.Trailer), x.decision.MaxSent) {
		no = spent(x.target.host.String(), x.decision)
	}
	if no != nil {
		x.over.Store(no)
	}
	return no == nil
}

// withinLimits holds what is known of the request against the limits, and counts its head.
func (x *exchange) withinLimits(req *http.Request) *refusal {
	d := x.decision
	if d.MaxRequest > 0 && req.ContentLength > d.MaxRequest {
		return tooLarge(x.target.host.String(), d)
	}
	if !x.proxy.gate.Send(x.target.host, headSize(req), d.MaxSent) {
		return spent(x.target.host.String(), d)
	}
	return nil
}

// headSize is how many bytes the head takes over HTTP/1, and more than over HTTP/2.
func headSize(req *http.Request) int64 {
	n := len(req.Method) + len(req.URL.EscapedPath()) + len(req.URL.RawQuery) + len(req.Host) + len("  HTTP/1.1\r\n?Host: \r\n\r\n")
	return int64(n) + sizeOf(req.Header)
}

func sizeOf(h http.Header) (n int64) {
	for name, values := range h {
		for _, value := range values {
			n += int64(len(name) + len(value) + len(": \r\n"))
		}
	}
	return n
}

// copyBoth passes a WebSocket's bytes both ways until either side ends.
func (x *exchange) copyBoth(inside net.Conn, outside io.ReadWriteCloser) {
	var both sync.WaitGroup
	end := sync.OnceFunc(func() {
		_ = inside.Close()
		_ = outside.Close()
	})
	both.Go(func() {
		defer end()
		x.proxy.passBytes(outside, inside, x.maySend)
	})
	both.Go(func() {
		defer end()
		if x.scrubs {
			x.copyFrames(inside, outside)
			return
		}
		x.proxy.passBytes(inside, outside, func(n int64) bool { x.down.Add(n); return true })
	})
	both.Wait()
	if over := x.over.Load(); over != nil {
		x.reason = over.Reason
	}
}

// passBytes copies until an end, which gives true, an error, or until may says no. What may let pass was counted by it.
func (p *Proxy) passBytes(to io.Writer, from io.Reader, may func(n int64) bool) bool {
	buf := p.buffers.get()
	defer buf.free()
	for {
		n, err := from.Read(buf.bytes())
		if n > 0 {
			if !may(int64(n)) {
				return false
			}
			if _, err := to.Write(buf.bytes()[:n]); err != nil {
				return false
			}
		}
		if err != nil {
			return errors.Is(err, io.EOF)
		}
		buf.read(n)
	}
}
