package proxy

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http/httpguts"
)

const (
	maxHeld = 16 << 10 // bytes of an answer that are gathered before they are sent
	keptOut = 8 << 10  // bytes of a buffer that stays with an idle connection
)

// answer1 writes an answer over HTTP/1. Its methods are those of http.ResponseWriter; a body without a length is sent
// in chunks, or ends with the connection where the client knows none.
type answer1 struct {
	c       *conn1
	method  string
	version int // the minor one
	header  http.Header
	trailer http.Header // sent behind the body
	last    bool        // the connection ends with this answer
	moved   atomic.Int64
	asking  atomic.Bool // somebody is asked about the request, for which the asker has a limit
	late    atomic.Bool // nothing is held any more

	mu       sync.Mutex // held while the connection is written to
	out      []byte     // not sent yet
	err      error
	began    bool // the head is in out, or sent
	chunked  bool
	bodiless bool
	left     int64 // bytes of the body that are to come; -1 when that is not known
	hijacked bool
}

var _ http.Hijacker = (*answer1)(nil)

func (a *answer1) reset(req *http.Request, last bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.method, a.version, a.last = req.Method, req.ProtoMinor, last
	a.header, a.trailer = nil, nil
	a.late.Store(false)
	a.asking.Store(false)
	if a.out = a.out[:0]; cap(a.out) > keptOut {
		a.out = nil
	}
	a.err, a.began, a.chunked, a.bodiless, a.left, a.hijacked = nil, false, false, false, -1, false
}

// Header is the answer's header.
func (a *answer1) Header() http.Header {
	if a.header == nil {
		a.header = http.Header{}
	}
	return a.header
}

// progress changes while something moves, and while somebody is asked.
func (a *answer1) progress() int64 {
	if a.asking.Load() {
		return a.moved.Add(1)
	}
	return a.moved.Load()
}

// goOn tells a client that waits with its body to send it.
func (a *answer1) goOn() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.began {
		return errors.New("the answer came before the body")
	}
	a.out = append(a.out, "HTTP/1.1 100 Continue\r\n\r\n"...)
	return a.send()
}

// WriteHeader begins the answer. It is held for the body to come along, but not for long.
func (a *answer1) WriteHeader(status int) {
	whole := a.c.body.whole()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.began {
		return
	}
	a.began = true
	a.last = a.last || !whole || lists(a.Header(), "Connection", "close")
	a.frame(status)
	a.out = append(a.out, "HTTP/1.1 "...)
	a.out = strconv.AppendInt(a.out, int64(status), 10)
	a.out = append(a.out, ' ')
	a.out = append(a.out, http.StatusText(status)...)
	a.out = append(a.out, crlf...)
	for name, values := range a.header {
		if name != "Connection" || status == http.StatusSwitchingProtocols {
			a.field(name, values)
		}
	}
	if a.last && status != http.StatusSwitchingProtocols {
		a.out = append(a.out, "Connection: close\r\n"...)
	}
	if a.chunked {
		a.out = append(a.out, "Transfer-Encoding: chunked\r\n"...)
		a.announce()
	}
	a.out = append(a.out, crlf...)
	if a.late.Load() && status != http.StatusSwitchingProtocols {
		_ = a.send() // an error shows at the next write
	}
}

// frame decides how the body is told to end.
func (a *answer1) frame(status int) {
	delete(a.header, "Transfer-Encoding")
	a.left = -1
	if values := a.header["Content-Length"]; len(values) > 0 {
		if n, err := strconv.ParseInt(values[0], 10, 64); err == nil && n >= 0 && len(values) == 1 {
			a.left = n
		} else {
			delete(a.header, "Content-Length")
		}
	}
	switch {
	case status < 200 || status == http.StatusNoContent:
		delete(a.header, "Content-Length")
		a.bodiless = true
	case status == http.StatusNotModified || a.method == http.MethodHead:
		a.bodiless = true
	case a.left >= 0:
	case a.version == 0:
		a.last = true
	default:
		a.chunked = true
	}
}

func (a *answer1) field(name string, values []string) {
	if !httpguts.ValidHeaderFieldName(name) {
		return
	}
	for _, value := range values {
		a.out = append(a.out, name...)
		a.out = append(a.out, ": "...)
		if strings.ContainsAny(value, "\r\n") {
			value = newlines.Replace(value)
		}
		a.out = append(a.out, value...)
		a.out = append(a.out, crlf...)
	}
}

var newlines = strings.NewReplacer("\r", " ", "\n", " ")

func (a *answer1) announce() {
	for name := range a.trailer {
		a.field("Trailer", []string{name})
	}
}

// Write adds to the body. Small pieces are gathered until Flush.
func (a *answer1) Write(p []byte) (int, error) {
	if !a.began {
		a.WriteHeader(http.StatusOK)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.err != nil:
		return 0, a.err
	case a.bodiless || len(p) == 0:
		return len(p), nil
	case a.left >= 0 && int64(len(p)) > a.left:
		a.err = http.ErrContentLength
		return 0, a.err
	}
	if a.left > 0 {
		a.left -= int64(len(p))
	}
	return len(p), a.add(p)
}

// add puts a piece of the body behind what is held, or sends both.
func (a *answer1) add(p []byte) error {
	if a.chunked {
		a.out = strconv.AppendInt(a.out, int64(len(p)), 16)
		a.out = append(a.out, crlf...)
		a.out = append(a.out, p...)
		a.out = append(a.out, crlf...)
		if len(a.out) < maxHeld {
			return nil
		}
		return a.send()
	}
	if len(a.out)+len(p) <= maxHeld {
		a.out = append(a.out, p...)
		return nil
	}
	if err := a.send(); err != nil {
		return err
	}
	return a.write(p)
}

// send sends what is held.
func (a *answer1) send() error {
	if len(a.out) == 0 {
		return a.err
	}
	err := a.write(a.out)
	a.out = a.out[:0]
	return err
}

func (a *answer1) write(p []byte) error {
	if a.err != nil {
		return a.err
	}
	_, a.err = a.c.conn.Write(p)
	a.moved.Add(1)
	return a.err
}

// Flush sends what is held. An error of it shows at the next write.
func (a *answer1) Flush() {
	if !a.began {
		a.WriteHeader(http.StatusOK)
	}
	a.release()
}

// release sends what is held, if there is something.
func (a *answer1) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.hijacked {
		_ = a.send()
	}
}

// finish sends the rest of a whole answer.
func (a *answer1) finish() error {
	if !a.began {
		a.WriteHeader(http.StatusOK)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left > 0 && !a.bodiless {
		return errors.New("the answer is shorter than announced")
	}
	if a.chunked {
		a.out = append(a.out, "0\r\n"...)
		for name, values := range a.trailer {
			a.field(name, values)
		}
		a.out = append(a.out, crlf...)
	}
	return a.send()
}

// Hijack hands the connection over, beginning with what was read ahead. Nothing of the answer was sent, unless it was
// flushed.
func (a *answer1) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a.c.end()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hijacked {
		return nil, nil, http.ErrHijacked
	}
	if err := a.send(); err != nil {
		return nil, nil, err
	}
	a.hijacked = true
	a.c.readAlways()
	conn := replay(a.c.conn, a.c.in.take(len(a.c.in.ahead())))
	return conn, bufio.NewReadWriter(bufio.NewReaderSize(conn, 16), bufio.NewWriterSize(conn, 16)), nil
}
