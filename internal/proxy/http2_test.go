package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// client2 goes through the proxy over HTTP/2.
func (l *lab) client2() *http.Client {
	c := l.client()
	c.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	return c
}

// frames is a client of HTTP/2 that sends what it is told to.
type frames struct {
	t    testing.TB
	conn net.Conn
	fr   *http2.Framer
	buf  bytes.Buffer
	enc  *hpack.Encoder
	set  map[http2.SettingID]uint32
}

// frames opens a connection to good.test over TLS, or to plain.test without, and says hello.
func (l *lab) frames(secure bool) *frames {
	l.t.Helper()
	var conn net.Conn
	if secure {
		c := tls.Client(l.connect("good.test:443"), &tls.Config{RootCAs: l.roots, ServerName: "good.test", NextProtos: []string{"h2"}})
		if err := c.HandshakeContext(l.t.Context()); err != nil || c.ConnectionState().NegotiatedProtocol != "h2" {
			l.t.Fatalf("%v, %q", err, c.ConnectionState().NegotiatedProtocol)
		}
		conn = c
	} else {
		conn = l.connect("plain.test:80")
	}
	f := &frames{t: l.t, conn: conn, fr: http2.NewFramer(conn, conn), set: map[http2.SettingID]uint32{}}
	f.fr.AllowIllegalWrites = true
	f.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.enc = hpack.NewEncoder(&f.buf)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		l.t.Fatal(err)
	}
	if err := f.fr.WriteSettings(); err != nil {
		l.t.Fatal(err)
	}
	return f
}

// block encodes header fields, "name: value" each.
func (f *frames) block(fields ...string) []byte {
	f.buf.Reset()
	for _, field := range fields {
		at := strings.Index(field[1:], ": ") + 1
		if err := f.enc.WriteField(hpack.HeaderField{Name: field[:at], Value: field[at+2:]}); err != nil {
			f.t.Fatal(err)
		}
	}
	return bytes.Clone(f.buf.Bytes())
}

func (f *frames) request(stream uint32, end bool, fields ...string) {
	f.t.Helper()
	if err := f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.block(fields...), EndHeaders: true, EndStream: end}); err != nil {
		f.t.Fatal(err)
	}
}

// answer gives the status of a stream's answer, or how the stream or the connection ended.
func (f *frames) answer(stream uint32) string {
	f.t.Helper()
	for {
		frame, err := f.fr.ReadFrame()
		if err != nil {
			return "end"
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			_ = frame.ForeachSetting(func(s http2.Setting) error { f.set[s.ID] = s.Val; return nil })
		case *http2.GoAwayFrame:
			if frame.ErrCode != http2.ErrCodeNo {
				return "goaway " + frame.ErrCode.String()
			}
		case *http2.RSTStreamFrame:
			if frame.StreamID == stream {
				return "reset " + frame.ErrCode.String()
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamID == stream {
				return frame.PseudoValue("status")
			}
		}
	}
}

func usual(path string) []string {
	return []string{":method: GET", ":scheme: https", ":authority: good.test", ":path: " + path}
}

func TestHTTP2(t *testing.T) {
	l := newLab(t, nil)
	c := l.client2()
	if resp, _ := get(t, c, "https://good.test/a%2Fb"); resp.ProtoMajor != 2 {
		t.Fatalf("got %s", resp.Proto)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			resp, err := c.Post("https://good.test/a%2Fb?q", "text/plain", strings.NewReader("body"))
			if err != nil {
				t.Error(err)
				return
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.Proto != "HTTP/2.0" || string(body) != "hello from good.test/a/b body" {
				t.Errorf("got %s %q", resp.Proto, body)
			}
		})
	}
	all.Wait()
	for _, e := range l.only(42) {
		if e.Path != "/a%2Fb" || e.Kind == event.NetResponse && (e.Method == "POST" && e.BytesUp != 4 || e.Status != 200) {
			t.Errorf("event %+v", e)
		}
	}
}

// Each stream of a connection is judged by itself; what is wrong with one does not touch the others.
func TestStreamsThatNameSomethingElse(t *testing.T) {
	rest := []string{":scheme: https", ":authority: good.test", ":path: /"}
	get := ":method: GET"
	for name, c := range map[string]struct {
		fields []string
		want   string // status, or the beginning of how it ended
	}{
		"authority":         {[]string{get, ":scheme: https", ":authority: evil.test", ":path: /"}, "421"},
		"sibling":           {[]string{get, ":scheme: https", ":authority: x.wild.test", ":path: /"}, "421"},
		"port":              {[]string{get, ":scheme: https", ":authority: good.test:8443", ":path: /"}, "421"},
		"Host alone":        {[]string{get, ":scheme: https", ":path: /", "host: evil.test"}, "421"},
		"no authority":      {[]string{get, ":scheme: https", ":path: /"}, "421"},
		"scheme":            {[]string{get, ":scheme: http", ":authority: good.test", ":path: /"}, "400"},
		"other scheme":      {[]string{get, ":scheme: ftp", ":authority: good.test", ":path: /"}, "reset"},
		"Host contradicts":  {append([]string{get}, append(slices.Clone(rest), "host: evil.test")...), "reset"},
		"two Hosts":         {append([]string{get}, append(slices.Clone(rest), "host: good.test", "host: evil.test")...), "reset"},
		"two authorities":   {append([]string{get, ":authority: evil.test"}, rest...), "reset"},
		"user":              {[]string{get, ":scheme: https", ":authority: good.test@evil.test", ":path: /"}, "reset"},
		"late pseudo":       {append([]string{get, "a: b"}, rest...), "reset"},
		"CONNECT":           {[]string{":method: CONNECT", ":authority: good.test:443"}, "400"},
		"CONNECT elsewhere": {[]string{":method: CONNECT", ":authority: evil.test:443"}, "400"},
		"extended CONNECT":  {[]string{":method: CONNECT", ":protocol: websocket", ":scheme: https", ":authority: good.test", ":path: /"}, "reset"},
		"path *":            {[]string{get, ":scheme: https", ":authority: good.test", ":path: *"}, "400"},
		"path URL":          {[]string{get, ":scheme: https", ":authority: good.test", ":path: https://evil.test/"}, "reset"},
		"path empty":        {[]string{get, ":scheme: https", ":authority: good.test", ":path: "}, "reset"},
		"path relative":     {[]string{get, ":scheme: https", ":authority: good.test", ":path: admin"}, "reset"},
		"path CRLF":         {[]string{get, ":scheme: https", ":authority: good.test", ":path: / HTTP/1.1\r\nHost: evil.test\r\n\r\n"}, "reset"},
		"path space":        {[]string{get, ":scheme: https", ":authority: good.test", ":path: /?x HTTP/1.1"}, "400"},
		"path NUL":          {[]string{get, ":scheme: https", ":authority: good.test", ":path: /\x00"}, "reset"},
		"method CRLF":       {append([]string{":method: GET / HTTP/1.1\r\nX: y"}, rest...), "reset"},
		"method space":      {append([]string{":method: GET /admin"}, rest...), "400"},
		"uppercase name":    {append([]string{get}, append(slices.Clone(rest), "X-A: b")...), "reset"},
		"value CRLF":        {append([]string{get}, append(slices.Clone(rest), "x-a: b\r\nx-c: d")...), "reset"},
		"name CRLF":         {append([]string{get}, append(slices.Clone(rest), "x-a\r\nx-c: d")...), "reset"},
		"name colon":        {append([]string{get}, append(slices.Clone(rest), "x:a: d")...), "reset"},
		"connection":        {append([]string{get}, append(slices.Clone(rest), "connection: keep-alive")...), "400"},
		"transfer-encoding": {append([]string{get}, append(slices.Clone(rest), "transfer-encoding: chunked")...), "400"},
		"upgrade":           {append([]string{get}, append(slices.Clone(rest), "upgrade: websocket")...), "400"},
		"te":                {append([]string{get}, append(slices.Clone(rest), "te: gzip")...), "400"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil)
			f := l.frames(true)
			f.request(1, true, c.fields...)
			if got := f.answer(1); !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q, want %s", got, c.want)
			}
			l.untouched()
			f.request(3, true, usual("/after")...)
			if got := f.answer(3); got != "200" {
				t.Errorf("another stream got %q", got)
			}
			if seen := l.upstream.requests(); len(seen) != 1 || seen[0].URL.Path != "/after" {
				t.Errorf("the server saw %+v", seen)
			}
			events := l.log.await(t, 2)
			told := events[0].Kind == event.NetRefused && events[0].Decision == event.Deny && events[0].Host == "good.test"
			if by400 := c.want == "400" && slices.Contains([]string{"connection", "transfer-encoding", "upgrade", "te"}, name); !told && !by400 {
				t.Errorf("events %+v", events)
			}
		})
	}
}

// A stream's path is held against rules like any other, and no DATA reaches a server that the head did not announce.
func TestStreamsAreHeldAgainstRules(t *testing.T) {
	l, w := newWireLab(t, apiOnly(t)...)
	f := l.frames(true)
	stream := uint32(1)
	for path, want := range map[string]string{
		"/api/1": "200", "/admin": "403", "/api/../admin": "403", "/api/%2e%2e/admin": "403", "//api/x": "403", "/api/x;v=1": "403", "/api/x%0d%0aHost:%20evil": "403", "/@scope%2fname": "200",
	} {
		f.request(stream, true, usual(path)...)
		if got := f.answer(stream); got != want {
			t.Errorf("%s: got %s", path, got)
		}
		stream += 2
	}
	for _, body := range []string{"short", "much longer than was announced"} {
		f.request(stream, false, ":method: POST", ":scheme: https", ":authority: good.test", ":path: /api/cl", "content-length: 10")
		if err := f.fr.WriteData(stream, true, []byte(body)); err != nil {
			t.Fatal(err)
		}
		if got := f.answer(stream); got == "200" {
			t.Errorf("%q for a length of 10: got %s", body, got)
		}
		stream += 2
	}
	for _, line := range w.lines() {
		if line != "GET /api/1" && line != "GET /@scope%2fname" && line != "POST /api/cl" {
			t.Errorf("the server got %q", line)
		}
	}
}

func TestHTTP2Bounds(t *testing.T) {
	t.Run("settings", func(t *testing.T) {
		f := newLab(t, nil).frames(true)
		f.request(1, true, usual("/")...)
		f.answer(1)
		if _, connect := f.set[http2.SettingEnableConnectProtocol]; connect || f.set[http2.SettingMaxConcurrentStreams] != maxStreams || f.set[http2.SettingMaxHeaderListSize] == 0 || f.set[http2.SettingMaxFrameSize] > maxFrame {
			t.Errorf("settings %v", f.set)
		}
	})
	t.Run("rapid reset", func(t *testing.T) {
		l := newLab(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		f := l.frames(true)
		go func() {
			for stream := uint32(1); ; stream += 2 {
				block := f.block(usual("/")...)
				if f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true, EndStream: true}) != nil || f.fr.WriteRSTStream(stream, http2.ErrCodeCancel) != nil {
					return
				}
				if stream > 1_000_000 {
					return
				}
			}
		}()
		if got := f.answer(0); got != "goaway ENHANCE_YOUR_CALM" && got != "end" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("CONTINUATION flood", func(t *testing.T) {
		l := newLab(t, nil)
		f := l.frames(true)
		done := make(chan int)
		go func() {
			sent := 0
			block := f.block(usual("/")...)
			err := f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block})
			for err == nil && sent < 1<<30 {
				piece := f.block("x-pad: " + strings.Repeat("a", 8<<10))
				sent += len(piece)
				err = f.fr.WriteContinuation(1, false, piece)
			}
			done <- sent
		}()
		f.answer(0)
		if sent := <-done; sent > 32<<20 {
			t.Errorf("%d bytes of one head were taken", sent)
		}
		l.untouched()
	})
	for name, send := range map[string]func(f *frames) error{
		"PING flood":     func(f *frames) error { return f.fr.WritePing(false, [8]byte{1}) },
		"SETTINGS flood": func(f *frames) error { return f.fr.WriteSettings() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newLab(t, nil).frames(true)
			if err := f.conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil { // the server may also stop reading
				t.Fatal(err)
			}
			sent := 0
			for sent < 50_000_000 && send(f) == nil { // nothing is read, so answers pile up
				sent++
			}
			if sent == 50_000_000 {
				t.Error("the flood was taken")
			}
		})
	}
	t.Run("1 GB header", func(t *testing.T) {
		l := newLab(t, nil)
		f := l.frames(true)
		f.request(1, true, append(usual("/"), "x-big: "+strings.Repeat("a", 2*maxHead))...)
		if got := f.answer(1); got == "200" {
			t.Errorf("got %q", got)
		}
		l.untouched()
	})
}

// HTTP/2 without TLS, as gRPC's clients speak it, needs a server that speaks it too.
func TestHTTP2WithoutTLS(t *testing.T) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto+r.Host) })}
	li, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(li) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	l := newLab(t, nil, func(c *Config) { c.Fixed[mustHost(t, "plain.test")] = li.Addr().String() })
	f := l.frames(false)
	f.request(1, true, ":method: GET", ":scheme: http", ":authority: plain.test", ":path: /x")
	if got := f.answer(1); got != "200" {
		t.Errorf("got %q", got)
	}
	f.request(3, true, ":method: GET", ":scheme: https", ":authority: plain.test", ":path: /x")
	if got := f.answer(3); got != "400" {
		t.Errorf("scheme: got %q", got)
	}
	f.request(5, true, ":method: GET", ":scheme: http", ":authority: good.test", ":path: /x")
	if got := f.answer(5); got != "421" {
		t.Errorf("authority: got %q", got)
	}
	if answer := l.sayOn(l.tunnel("good.test:443", "good.test"), http2.ClientPreface); statusOf(answer) != "400 Bad Request" {
		t.Errorf("the preface in TLS for HTTP/1: got %q", answer)
	}
	if answer := l.say(http2.ClientPreface); statusOf(answer) != "400 Bad Request" {
		t.Errorf("the preface to the proxy: got %q", answer)
	}
	l.only(6)
}

// slowGate asks a person, who answers when the test says so.
type slowGate struct {
	Gate
	asked chan policy.Request
	ended chan error
}

func (g slowGate) Decide(r policy.Request) policy.Decision {
	d := g.Gate.Decide(r)
	if d.Allowed() {
		d.Action, d.Inspect = policy.Ask, false
	}
	return d
}

func (g slowGate) Check(ctx context.Context, r policy.Request) (policy.Decision, error) {
	if r.Path != "/ask" {
		return g.Gate.Check(ctx, r)
	}
	g.asked <- r
	<-ctx.Done()
	g.ended <- ctx.Err()
	return policy.Decision{}, ctx.Err()
}

// While a person is asked about one request, the others go on; a client that goes away ends the question.
func TestQuestionEndsWithItsClient(t *testing.T) {
	for _, way := range []string{"HTTP/1", "HTTP/2", "absolute"} {
		t.Run(way, func(t *testing.T) {
			g := slowGate{asked: make(chan policy.Request, 1), ended: make(chan error, 1)}
			l := newLab(t, nil, func(c *Config) { g.Gate = c.Gate; c.Gate = g })
			switch way {
			case "HTTP/2":
				f := l.frames(true)
				f.request(1, true, usual("/ask")...)
				<-g.asked
				f.request(3, true, usual("/other")...)
				if err := f.fr.WritePing(false, [8]byte{7}); err != nil {
					t.Fatal(err)
				}
				if got := f.answer(3); got != "200" {
					t.Errorf("the other stream got %q", got)
				}
				if err := f.fr.WriteRSTStream(1, http2.ErrCodeCancel); err != nil {
					t.Fatal(err)
				}
			default:
				conn, target, host := net.Conn(nil), "/ask", "good.test"
				if conn = l.dial(l.addr); way == "absolute" {
					target, host = "http://plain.test/ask", "plain.test"
				} else {
					conn = l.tunnel("good.test:443", "good.test")
				}
				if _, err := io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				<-g.asked
				if resp, _ := get(t, l.client(), "https://good.test/other"); resp.StatusCode != 200 {
					t.Errorf("the other request got %d", resp.StatusCode)
				}
				_ = conn.Close()
			}
			if err := <-g.ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the question ended with %v", err)
			}
		})
	}
}

func TestResetsAreSeenHoweverTheyAreWritten(t *testing.T) {
	var wire bytes.Buffer
	f := http2.NewFramer(&wire, nil)
	write := []error{f.WriteSettings(), f.WriteSettingsAck(), f.WriteData(1, false, make([]byte, 70000)), f.WriteRSTStream(1, http2.ErrCodeNo),
		f.WriteWindowUpdate(0, uint32(http2.ErrCodeProtocol)), f.WriteRSTStream(3, http2.ErrCodeProtocol), f.WriteRSTStream(5, http2.ErrCodeProtocol)}
	if err := errors.Join(write...); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 7, 13, 4096, wire.Len()} {
		l := newLab(t, nil)
		told := &brokenRules{proxy: l.proxy, to: target{host: mustHost(t, "good.test"), port: 443}}
		inside, outside := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, inside) }()
		r := &resets{statedConn: schemeConn{outside}, broken: told}
		for piece := range slices.Chunk(wire.Bytes(), size) {
			if n, err := r.Write(piece); n != len(piece) || err != nil {
				t.Fatal(n, err)
			}
			if len(told.told) > 0 && cap(r.head) > 64 {
				t.Errorf("pieces of %d: %d bytes are kept", size, cap(r.head))
			}
		}
		_ = inside.Close()
		check(t, l.only(1), want{event.NetRefused, event.Deny, "good.test", "HTTP/2 is not valid (headers)"})
	}
}

// Streams are bounded over all connections too: what each connection may open is together far more than memory holds.
func TestStreamsAreBoundedOverAllConnections(t *testing.T) {
	held, release := make(chan struct{}, 4), make(chan struct{})
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		held <- struct{}{}
		<-release
	}), waiting(func(is *limits) { is.streams = 2 }))
	ends := make(chan error, 2)
	for range 2 {
		c := l.client2()
		go func() {
			resp, err := c.Get("https://good.test/held")
			if err == nil {
				err = resp.Body.Close()
			}
			ends <- err
		}()
		<-held
	}
	resp, err := l.client2().Get("https://good.test/more")
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.ProtoMajor != 2 {
		t.Errorf("got %v, %v", resp, err)
	} else {
		_ = resp.Body.Close()
	}
	close(release)
	for range 2 {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
	for status, tries := 0, 0; status != http.StatusOK; tries++ { // their handlers may still be about to end
		resp, err := l.client2().Get("https://good.test/after")
		if err != nil || tries == 1000 {
			t.Fatalf("%d, %v once they had ended", status, err)
		}
		status = resp.StatusCode
		_ = resp.Body.Close()
	}
	if !slices.ContainsFunc(l.log.await(t, 3), func(e event.Event) bool {
		return e.Kind == event.NetRefused && strings.Contains(e.Reason, "too many requests")
	}) {
		t.Error("the refusal left no event")
	}
}
