package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	maxChunkLine = 4 << 10  // bytes of one chunk's size line or of one trailer line
	maxTrailers  = 64 << 10 // bytes of all trailers of a request
)

// body is the body of a request that came over HTTP/1.
type body struct {
	in      *input
	trailer http.Header  // of the request: values of those that it announced are put in
	ready   func() error // called once before anything is read: a client may wait for that
	done    func()       // called once when all was read

	closed atomic.Bool
	mu     sync.Mutex // held while reading
	phase  phase
	n      int64
	err    error
}

// noBody is the body of a request without one: all of it was read.
func noBody() *body { return &body{} }

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed.Load():
		return 0, http.ErrBodyReadAfterClose
	case b.err != nil:
		return 0, b.err
	case len(p) == 0:
		return 0, nil
	}
	n, err := b.read(p)
	if err != nil {
		b.err = err
		if b.phase != atEnd {
			b.err = unexpected(err)
		}
	}
	return n, b.err
}

// Close lets no read begin any more. It does not wait for one.
func (b *body) Close() error {
	b.closed.Store(true)
	return nil
}

func (b *body) read(p []byte) (int, error) {
	if ready := b.ready; ready != nil {
		b.ready = nil
		if err := ready(); err != nil {
			return 0, err
		}
	}
	for {
		switch b.phase {
		case inLength, inChunk:
			return b.pass(p)
		case inSize:
			if err := b.readSize(); err != nil {
				return 0, err
			}
		case inTrailers:
			if err := b.readTrailer(); err != nil {
				return 0, err
			}
		default:
			return 0, io.EOF
		}
	}
}

// pass gives bytes of the body.
func (b *body) pass(p []byte) (int, error) {
	n, err := b.in.Read(p[:min(int64(len(p)), b.n)])
	if b.n -= int64(n); b.n > 0 {
		if n > 0 {
			err = nil
		}
		return n, err
	}
	if b.phase == inLength {
		b.finish()
		return n, io.EOF
	}
	b.phase = inSize
	end, err := b.in.line(2)
	if err != nil || !bytes.Equal(end, crlf) {
		return n, errors.New("a chunk of the body is longer than it says")
	}
	return n, nil
}

var crlf = []byte("\r\n")

func (b *body) finish() {
	b.phase = atEnd
	if b.done != nil {
		b.done()
	}
}

// readSize reads a chunk's size line.
func (b *body) readSize() error {
	line, err := b.in.line(maxChunkLine)
	if err != nil {
		return err
	}
	digits, ok := strings.CutSuffix(string(line), "\r\n")
	digits, _, _ = strings.Cut(digits, ";")
	size, err := strconv.ParseUint(digits, 16, 62)
	if err != nil || !ok || hasControl(digits) || strings.ContainsAny(digits, "+_") {
		return errors.New("a chunk of the body has no valid size")
	}
	b.phase, b.n = inChunk, int64(size)
	if size == 0 {
		b.phase = inTrailers
	}
	return nil
}

// readTrailer reads one trailer line, or the empty one that ends the body.
func (b *body) readTrailer() error {
	line, err := b.in.line(maxChunkLine)
	if err != nil {
		return err
	}
	b.n += int64(len(line))
	text, ok := strings.CutSuffix(string(line), "\r\n")
	if ok && text == "" {
		b.finish()
		return nil
	}
	name, value, colon := strings.Cut(text, ":")
	value = strings.Trim(value, " \t")
	if !ok || !colon || b.n > maxTrailers || !isToken(name) || strings.ContainsAny(value, "\r\x00") {
		return errors.New("the trailers of the body are not valid")
	}
	name = textproto.CanonicalMIMEHeaderKey(name)
	if _, announced := b.trailer[name]; announced {
		b.trailer[name] = append(b.trailer[name], value)
	}
	return nil
}

// whole reports whether the whole body was read.
func (b *body) whole() bool {
	if !b.mu.TryLock() {
		return false // a read waits for more
	}
	defer b.mu.Unlock()
	return b.phase == atEnd
}

// settle reports whether the whole body was read, so that the next request follows. What little of it lies ready is
// thrown away for that, so nobody may want it any more.
func (b *body) settle() bool {
	if !b.mu.TryLock() {
		return false // a read waits for more
	}
	defer b.mu.Unlock()
	if b.phase == inLength && b.err == nil && b.n <= int64(len(b.in.ahead())) && b.ready == nil {
		b.in.take(int(b.n))
		b.phase = atEnd
	}
	return b.phase == atEnd
}
