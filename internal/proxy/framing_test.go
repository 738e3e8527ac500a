package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"agentbox/internal/policy"
)

func errorsAs[T error](err error, to *T) bool { return errors.As(err, to) }

// scripted is a connection that says what is in r.
type scripted struct {
	net.Conn
	r io.Reader
}

func (s *scripted) Read(p []byte) (int, error) { return s.r.Read(p) }
func (s *scripted) Close() error               { return nil }

// dribble gives at most n bytes at once.
type dribble struct {
	r io.Reader
	n int
}

func (d *dribble) Read(p []byte) (int, error) { return d.r.Read(p[:min(len(p), d.n)]) }

// readRequests reads requests as conn1 does, until one is refused, and says what is read ahead after each.
func readRequests(in *input, each func(req *http.Request, body []byte, err error) bool) error {
	for {
		end, seen := 0, 0
		for end == 0 {
			var err error
			if end, seen, err = headEnd(in.ahead(), seen); err != nil {
				return err
			}
			if end == 0 {
				if err := in.fill(); err != nil {
					return err
				}
			}
		}
		req, frame, err := parseHead(string(in.take(end)))
		if err != nil {
			return err
		}
		b := &body{in: in, phase: frame.phase, n: frame.length, trailer: req.Trailer}
		text, err := io.ReadAll(b)
		if !each(req, text, err) {
			return nil
		}
	}
}

// What is taken for a request here is the same request to net/http, to the last header and byte of its body; what
// follows it begins at the same place. Else something could be read in another way by the server than it was judged.
func FuzzRequests(f *testing.F) {
	for _, raw := range ambiguous {
		f.Add([]byte(raw), 7)
	}
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n3;x\r\nabc\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n"), 1)
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabcGET http://a.test/x?y HTTP/1.1\r\nHost: a.test:80\r\n\r\n"), 4096)
	f.Add([]byte("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\nOPTIONS * HTTP/1.1\r\nhost: a.test\r\ncookie: a\r\nCookie: b\r\n\r\n"), 3)
	f.Fuzz(func(t *testing.T, raw []byte, size int) {
		if size < 1 || size > 4096 {
			size = 4096
		}
		in := &input{conn: &scripted{r: &dribble{strings.NewReader(string(raw)), size}}}
		theirs := bufio.NewReader(strings.NewReader(string(raw)))
		_ = readRequests(in, func(req *http.Request, text []byte, err error) bool {
			want, wantErr := http.ReadRequest(theirs)
			if wantErr != nil {
				t.Fatalf("%q was taken, and net/http says: %v", raw, wantErr)
			}
			if want.Method != req.Method || want.RequestURI != req.RequestURI || want.Host != req.Host || want.ContentLength != req.ContentLength || *want.URL != *req.URL && want.URL.String() != req.URL.String() {
				t.Fatalf("%q\n got %+v\nwant %+v", raw, req, want)
			}
			header := want.Header.Clone()
			for _, name := range []string{"Pragma", "Cache-Control", "Trailer"} { // ReadRequest changes these
				header.Del(name)
				req.Header.Del(name)
			}
			if !reflect.DeepEqual(header, req.Header) {
				t.Fatalf("%q\n got %q\nwant %q", raw, req.Header, header)
			}
			wantText, bodyErr := io.ReadAll(want.Body)
			if err == nil && (bodyErr != nil || string(wantText) != string(text)) {
				t.Fatalf("%q\n got body %q\nwant %q, %v", raw, text, wantText, bodyErr)
			}
			return err == nil && req.Method != http.MethodConnect && !isWebSocket(req.Header)
		})
	})
}

// Whatever name and port are taken for, they are taken for the same when they are written anew.
func FuzzAuthority(f *testing.F) {
	for _, s := range []string{"good.test:443", "GOOD.test.:0443", "[::1]:80", "a:b:c", "xn--bcher-kva.example:1", "bücher.example:65535", "127.1:80", "good.test\x00:443", "good.test:+1", ":443", "good.test:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		host, port, err := splitAuthority(authority)
		if err != nil {
			return
		}
		again, port2, err := splitAuthority(net.JoinHostPort(host.String(), "1"))
		if host.IsZero() || port == 0 || err != nil || again != host || port2 != 1 {
			t.Fatalf("%q is %v and %d, then %v, %v", authority, host, port, again, err)
		}
		if !names(host.String(), target{host: host, port: port}) || names(host.String()+".x", target{host: host, port: port}) {
			t.Fatalf("%q does not name itself", authority)
		}
		if strings.ContainsFunc(host.String(), func(r rune) bool { return isControl(r) || strings.ContainsRune("/@:[]%\\ ", r) }) {
			t.Fatalf("%q gave the name %q", authority, host)
		}
	})
}

func TestRequestsAreReadInAnyPieces(t *testing.T) {
	raw := "POST /1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-T, Host\r\n\r\n3\r\nabc\r\n0\r\nX-T: v\r\nHost: evil\r\nY: z\r\n\r\n" +
		"POST /2 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: a.test\r\n\r\n"
	for size := 1; size <= len(raw); size++ {
		in := &input{conn: &scripted{r: &dribble{strings.NewReader(raw), size}}}
		bodies := []string{"abc", "abc", ""}
		i := 0
		err := readRequests(in, func(req *http.Request, got []byte, err error) bool {
			if err != nil || string(got) != bodies[i] || req.URL.Path != "/"+string(rune('1'+i)) {
				t.Errorf("pieces of %d, request %d: %s %q, %v", size, i+1, req.URL.Path, got, err)
			}
			if want := (http.Header{"X-T": {"v"}}); i == 0 && !reflect.DeepEqual(req.Trailer, want) {
				t.Errorf("pieces of %d: trailers %v", size, req.Trailer)
			}
			i++
			return true
		})
		if !errors.Is(err, io.EOF) || i != 3 {
			t.Errorf("pieces of %d: %d requests, %v", size, i, err)
		}
	}
}

func TestUnfinishedHeadIsTold(t *testing.T) {
	for raw, want := range map[string]string{"": "", "GET / HT": "the connection ended before a request's head was whole", "GET / HTTP/1.1\r\nHost: a.test": "the connection ended before a request's head was whole"} {
		l := newLab(t, nil)
		conn := l.dial(l.addr)
		if _, err := io.WriteString(conn, raw); err != nil {
			t.Fatal(err)
		}
		_ = closeWrite(conn)
		if answer, err := io.ReadAll(conn); err != nil || len(answer) > 0 {
			t.Errorf("%q: got %q, %v", raw, answer, err)
		}
		if want == "" {
			l.only(0)
			continue
		}
		if e := l.only(1)[0]; e.Reason != want {
			t.Errorf("%q: got %+v", raw, e)
		}
	}
}

// Whatever begins a connection, it is let through only when it is a ClientHello that names the right server, and what
// is passed on then begins with just what came.
func FuzzHello(f *testing.F) {
	for _, name := range []string{"good.test", "evil.test", "", "GOOD.test"} {
		hello := &bytes.Buffer{}
		_ = tls.Client(&recorded{to: hello}, &tls.Config{ServerName: name, InsecureSkipVerify: true}).HandshakeContext(f.Context())
		f.Add(hello.Bytes())
	}
	f.Add([]byte("\x16\x03\x01\x00\x05hello"))
	f.Add([]byte("SSH-2.0-x\r\n"))
	good, err := policy.ParseHost("good.test")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		ctx := context.WithValue(t.Context(), targetKey{}, target{host: good, port: 443})
		ahead, err := peekHello(ctx, &scripted{r: bytes.NewReader(raw)})
		if err != nil {
			return
		}
		if !bytes.HasPrefix(raw, ahead) || len(ahead) < 40 || ahead[0] != tlsHandshake {
			t.Fatalf("%q gave %q", raw, ahead)
		}
		if !bytes.Contains(bytes.ToLower(ahead), []byte("good.test")) {
			t.Fatalf("%q does not name good.test", ahead)
		}
	})
}
