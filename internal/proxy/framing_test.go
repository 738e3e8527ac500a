package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func errorsAs[T error](err error, to *T) bool { return errors.As(err, to) }

// scripted is a connection that says what is in r.
type scripted struct {
	net.Conn
	r io.Reader
}

func (s *scripted) Read(p []byte) (int, error) { return s.r.Read(p) }
func (s *scripted) Close() error               { return nil }

// Whatever is sent, net/http and strictConn agree on where each request ends: else what follows one request could be
// passed unexamined.
func FuzzStrictConn(f *testing.F) {
	for _, raw := range ambiguous {
		f.Add([]byte(raw), 7)
	}
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n"), 1)
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a.test\r\n\r\n"), 4096)
	f.Fuzz(func(t *testing.T, raw []byte, size int) {
		if size < 1 || size > 4096 {
			size = 4096
		}
		c := newStrictConn(&scripted{r: &dribble{strings.NewReader(string(raw)), size}}, target{}, func(target, string) {})
		br := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if c.phase == inTunnel || c.phase == atEnd {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			if c.phase != inHead || br.Buffered() != 0 || len(c.out) != 0 {
				t.Fatalf("after a request of %q: phase %d, %d bytes ahead", raw, c.phase, br.Buffered())
			}
		}
	})
}

// dribble gives at most n bytes at once.
type dribble struct {
	r io.Reader
	n int
}

func (d *dribble) Read(p []byte) (int, error) { return d.r.Read(p[:min(len(p), d.n)]) }

func TestStrictConnReadsInAnyPieces(t *testing.T) {
	raw := "POST /1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" +
		"POST /2 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: a.test\r\n\r\n"
	for size := 1; size <= len(raw); size++ {
		c := newStrictConn(&scripted{r: &dribble{strings.NewReader(raw), size}}, target{}, func(_ target, reason string) { t.Errorf("refused: %s", reason) })
		br := bufio.NewReader(c)
		for i, body := range []string{"abc", "abc", ""} {
			req, err := http.ReadRequest(br)
			if err != nil {
				t.Fatalf("pieces of %d, request %d: %v", size, i+1, err)
			}
			c.reached()
			got, err := io.ReadAll(req.Body)
			if err != nil || string(got) != body || req.URL.Path != "/"+string(rune('1'+i)) {
				t.Errorf("pieces of %d, request %d: %s %q, %v", size, i+1, req.URL.Path, got, err)
			}
		}
		if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("pieces of %d: after the end: %v", size, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestUnfinishedHeadIsTold(t *testing.T) {
	for raw, want := range map[string]string{"": "", "GET / HT": "the connection ended before a request's head was whole, or valid", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n": "the request is not valid HTTP"} {
		told := ""
		c := newStrictConn(&scripted{r: strings.NewReader(raw)}, target{}, func(_ target, reason string) { told += reason })
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
		_ = c.Close()
		if told != want {
			t.Errorf("%q: told %q, want %q", raw, told, want)
		}
	}
}
