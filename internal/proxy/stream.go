package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

func contextWith(r *http.Request, x *exchange) context.Context {
	return context.WithValue(r.Context(), exchangeKey{}, x)
}

// countedBody counts the bytes of a body. cut, when set, is told that the body broke off.
type countedBody struct {
	io.ReadCloser
	count *atomic.Int64
	cut   *atomic.Bool
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.count.Add(int64(n))
	if b.cut != nil && err != nil && !errors.Is(err, io.EOF) {
		b.cut.Store(true)
	}
	return n, err
}

// countedStream counts the bytes of a WebSocket: what is written to it goes up.
type countedStream struct {
	io.ReadWriteCloser
	up, down *atomic.Int64
}

func (s *countedStream) Read(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(p)
	s.down.Add(int64(n))
	return n, err
}

func (s *countedStream) Write(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Write(p)
	s.up.Add(int64(n))
	return n, err
}

// answerWriter sends an answer whose length is not known as it comes: a stream never waits for a buffer to fill.
type answerWriter struct {
	http.ResponseWriter
	upgrade  bool
	stream   bool
	hijacked net.Conn
}

func (w *answerWriter) WriteHeader(status int) {
	if w.upgrade && status != http.StatusSwitchingProtocols {
		// The connection passes everything since the request asked to leave HTTP, so it must not be used on.
		w.Header().Set("Connection", "close")
	}
	w.stream = w.Header().Get("Content-Length") == "" && status != http.StatusSwitchingProtocols
	w.ResponseWriter.WriteHeader(status)
	if w.stream {
		w.Flush()
	}
}

func (w *answerWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	if w.stream && err == nil {
		w.Flush()
	}
	return n, err
}

// Flush sends what is buffered. An error of it shows at the next write.
func (w *answerWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack remembers the connection, which goproxy does not close.
func (w *answerWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.hijacked = conn
	}
	return conn, rw, err
}

// end closes a connection that was taken over for a WebSocket.
func (w *answerWriter) end() {
	if w.hijacked != nil {
		_ = w.hijacked.Close()
	}
}
