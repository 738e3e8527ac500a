package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// script is a server on a bare socket: it is given each connection, and what came on it.
func script(t testing.TB, serve func(conn net.Conn, br *bufio.Reader)) string {
	t.Helper()
	li, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(done)
		for {
			conn, err := li.Accept()
			if err != nil {
				return
			}
			go func() {
				defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
				defer func() { _ = conn.Close() }()
				serve(conn, bufio.NewReader(conn))
			}()
		}
	}()
	t.Cleanup(func() { cancel(); _ = li.Close(); <-done })
	return li.Addr().String()
}

// sameAnswer is a script that answers every head with the same bytes, and tells how many it got.
func sameAnswer(t testing.TB, got chan<- string, answer string) string {
	return script(t, func(conn net.Conn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			if got != nil {
				got <- req.Method + " " + req.RequestURI + " " + string(body)
			}
			if _, err := io.WriteString(conn, answer); err != nil {
				return
			}
		}
	})
}

func plainAt(t testing.TB, addr string) option {
	return func(c *Config) { c.Fixed[mustHost(t, "plain.test")] = addr }
}

func TestTrailersPassBothWays(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = fmt.Fprintf(w, "%d bytes, %s", len(body), r.Trailer.Get("X-Check"))
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Late", "7")
	})
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP/", version), func(t *testing.T) {
			l := newLab(t, handler)
			c := l.client()
			if version == 2 {
				c = l.client2()
			}
			req, err := http.NewRequestWithContext(t.Context(), "POST", "https://good.test/", io.MultiReader(strings.NewReader("hello")))
			if err != nil {
				t.Fatal(err)
			}
			req.Trailer = http.Header{"X-Check": {"yes"}}
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || string(body) != "5 bytes, yes" || resp.ProtoMajor != version || resp.Trailer.Get("X-Sum") != "42" || resp.Trailer.Get("X-Late") != "7" {
				t.Errorf("got %q, trailers %v, %v", body, resp.Trailer, err)
			}
		})
	}
}

// noPlaceholder refuses what stands behind a body, as the broker does.
type noPlaceholder struct{}

func (noPlaceholder) Inject(_ context.Context, req *http.Request, _ policy.Host, _ bool) (string, error) {
	switch text := req.Trailer.Get("X-Check"); text {
	case "a placeholder":
		return "", errors.New(text + " stands in a trailer")
	case "a fault":
		panic(text)
	}
	return "", nil
}

func TestTrailersAreJudgedBeforeTheyLeave(t *testing.T) {
	reached := make(chan string, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		reached <- fmt.Sprint(r.Trailer.Get("X-Check"), err != nil)
		w.WriteHeader(http.StatusNoContent)
	})
	refused := want{event.CredentialRefused, event.Deny, "good.test", "a placeholder stands in a trailer"}
	for _, c := range []struct {
		version     int
		text, shown string
		wants       []want
	}{
		{1, "a placeholder", refused.reason, []want{refused}}, {2, "a placeholder", refused.reason, []want{refused}},
		{1, "a fault", "agentbox failed", nil}, {2, "a fault", "agentbox failed", nil},
	} {
		t.Run(fmt.Sprint("HTTP/", c.version, c.text), func(t *testing.T) {
			l := newLab(t, handler, func(c *Config) { c.Injector = noPlaceholder{} })
			client := l.client()
			if c.version == 2 {
				client = l.client2()
			}
			req, err := http.NewRequestWithContext(t.Context(), "POST", "https://good.test/", io.MultiReader(strings.NewReader("hello")))
			if err != nil {
				t.Fatal(err)
			}
			req.Trailer = http.Header{"X-Check": {c.text}}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), c.shown) {
				t.Errorf("got %s %q", resp.Status, body)
			}
			if text := <-reached; text != "true" {
				t.Errorf("the server got the trailer, or a whole request: %s", text)
			}
			wants := append([]want{{event.NetRequest, event.Allow, "good.test", ""}}, c.wants...)
			check(t, l.only(len(wants)+1), append(wants, want{event.NetResponse, "", "good.test", c.shown})...)
		})
	}
}

func TestTrailersCountAsSent(t *testing.T) {
	const sent = 2000
	l := newLab(t, nil, func(c *Config) { c.Gate = newLimited(c.Gate, 0, sent) })
	for text, want := range map[string]int{"short": http.StatusOK, strings.Repeat("a", sent): http.StatusForbidden} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://good.test/", io.MultiReader(strings.NewReader("hello")))
		if err != nil {
			t.Fatal(err)
		}
		req.Trailer = http.Header{"X-Check": {text}}
		resp, err := l.client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d bytes of trailers: %s", len(text), resp.Status)
		}
	}
}

// What may not stand behind a body does not, whatever version of HTTP announces it; and no server waits for trailers
// behind a body that is not there.
func TestTrailersThatAreNone(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, r.ProtoMajor, r.Trailer)
	})
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("server of HTTP/", version), func(t *testing.T) {
			server := httptest.NewUnstartedServer(handler)
			server.EnableHTTP2 = version == 2
			server.StartTLS()
			t.Cleanup(server.Close)
			roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			l := newLabOf(t, nil, []policy.Rule{rule(t, policy.Allow, "example.com", true, 443)}, func(c *Config) {
				c.ExtraRoots, c.Fixed = roots, map[policy.Host]string{mustHost(t, "example.com"): server.Listener.Addr().String()}
			})
			for _, body := range []io.Reader{nil, io.MultiReader(strings.NewReader("hello"))} {
				req, err := http.NewRequestWithContext(t.Context(), "POST", "https://example.com/", body)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Trailer", "Authorization, Host, Proxy-X, X-Kept")
				resp, err := l.client2().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				text, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				want := fmt.Sprint(version, http.Header{})
				if body != nil {
					want = fmt.Sprint(version, http.Header{"X-Kept": nil})
				}
				if string(text) != want {
					t.Errorf("got %s, want %s", text, want)
				}
			}
		})
	}
}

// A client that waits for leave to send its body gets it from the server, or is refused before it sends anything.
func TestExpectContinue(t *testing.T) {
	l := newLab(t, nil)
	conn := l.tunnel("good.test:443", "good.test")
	br := bufio.NewReader(conn)
	if _, err := io.WriteString(conn, "POST /x HTTP/1.1\r\nHost: good.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := br.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	_, _ = br.ReadString('\n')
	if status, body := exchangeOn(t, conn, br, "body"); status != 200 || !strings.HasSuffix(body, "body") {
		t.Errorf("got %d %q", status, body)
	}
	denied := l.tunnel("good.test:443", "good.test")
	answer := l.sayOn(denied, "POST /x HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 421") || !strings.Contains(answer, "Connection: close") {
		t.Errorf("got %q", answer)
	}
}

// An answer that comes while the body is still being sent is passed on at once; the connection ends with it.
func TestEarlyAnswer(t *testing.T) {
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		line, _ := bufio.NewReader(r.Body).ReadString('\n')
		_, _ = io.WriteString(w, "got "+line)
		w.(http.Flusher).Flush()
		_, _ = io.Copy(w, r.Body)
	}))
	conn := l.tunnel("good.test:443", "good.test")
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != "got one\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if _, err := io.WriteString(conn, "4\r\ntwo\n\r\n0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(lines); err != nil || string(rest) != "two\n" || !resp.Close {
		t.Errorf("got %q, %v", rest, err)
	}
}

func TestAnswersWithoutBodies(t *testing.T) {
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(304)
		case "/empty":
		default:
			_, _ = io.WriteString(w, "hello")
		}
	}))
	conn := l.tunnel("good.test:443", "good.test")
	br := bufio.NewReader(conn)
	for range 2 { // the second time over connections of our own
		for _, c := range []struct {
			method, path string
			status       int
			length       string
		}{{"HEAD", "/", 200, "5"}, {"GET", "/204", 204, ""}, {"GET", "/304", 304, ""}, {"GET", "/empty", 200, "0"}, {"GET", "/", 200, "5"}} {
			if _, err := io.WriteString(conn, c.method+" "+c.path+" HTTP/1.1\r\nHost: good.test\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(br, &http.Request{Method: c.method})
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != c.status || resp.Header.Get("Content-Length") != c.length || len(resp.TransferEncoding) > 0 || (c.path == "/" && c.method == "GET") != (string(body) == "hello") {
				t.Errorf("%s %s: got %d %v %v %q, %v", c.method, c.path, resp.StatusCode, resp.Header, resp.TransferEncoding, body, err)
			}
		}
	}
}

func TestHTTP10(t *testing.T) {
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "one")
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, "two")
	}))
	answer := l.sayOn(l.tunnel("good.test:443", "good.test"), "GET / HTTP/1.0\r\nHost: good.test\r\n\r\n")
	if statusOf(answer) != "200 OK" || strings.Contains(answer, "chunked") || !strings.HasSuffix(answer, "\r\n\r\nonetwo") {
		t.Errorf("got %q", answer)
	}
}

// A client that has said that it is done may close its half and wait for the answer.
func TestHalfClosedClient(t *testing.T) {
	arrived, leave := make(chan struct{}), make(chan struct{})
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-leave
		_, _ = io.WriteString(w, "late")
	}))
	conn := l.connect("plain.test:80").(*net.TCPConn)
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-arrived
	close(leave)
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(answer), "late") {
		t.Errorf("got %q, %v", answer, err)
	}
}

// A client that goes away takes its request to the server with it.
func TestVanishedClientEndsItsRequest(t *testing.T) {
	for _, path := range []string{"/head", "/body"} {
		for _, version := range []int{1, 2} {
			t.Run(fmt.Sprint(path, version), func(t *testing.T) {
				arrived, ended := make(chan struct{}, 2), make(chan struct{}, 2)
				l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/first" {
						return
					}
					if r.URL.Path == "/body" {
						w.WriteHeader(200)
						w.(http.Flusher).Flush()
					}
					arrived <- struct{}{}
					<-r.Context().Done()
					ended <- struct{}{}
				}))
				c := l.client()
				if version == 2 {
					c = l.client2()
				}
				get(t, c, "https://good.test/first")
				for range 2 {
					ctx, cancel := context.WithCancel(t.Context())
					go func() { <-arrived; cancel() }()
					req, _ := http.NewRequestWithContext(ctx, "GET", "https://good.test"+path, nil)
					resp, err := c.Do(req)
					if err == nil {
						_, err = io.ReadAll(resp.Body)
						_ = resp.Body.Close()
					}
					if !errors.Is(err, context.Canceled) {
						t.Errorf("got %v", err)
					}
					<-ended
				}
			})
		}
	}
}

// Early hints and other announcements end here, on either way to the server.
func TestAnnouncementsEndHere(t *testing.T) {
	l := newLab(t, nil, plainAt(t, sameAnswer(t, nil, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
	conn := l.connect("plain.test:80")
	br := bufio.NewReader(conn)
	for range 3 {
		if status, body := exchangeOn(t, conn, br, "GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n"); status != 200 || body != "ok" {
			t.Errorf("got %d %q", status, body)
		}
	}
}

// What a server sends that nobody asked for is no answer to the next request; nor is an endless head taken.
func TestServersThatMisbehave(t *testing.T) {
	ok := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for name, c := range map[string]struct {
		second string // the answer to the second request, after which the connection closes
		status int
	}{
		"more than asked":    {ok + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 200},
		"switch":             {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 502},
		"endless interims":   {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100), 502},
		"huge head":          {"HTTP/1.1 200 OK\r\nX-Big: " + strings.Repeat("a", maxAnswerHead+10) + "\r\n\r\n", 502},
		"not HTTP":           {"SSH-2.0-x\r\n\r\n", 502},
		"closed":             {"", 200}, // and is asked again
		"header with return": {"HTTP/1.1 200 OK\r\nX-A: b\rX-C: d\r\nContent-Length: 2\r\n\r\nok", 502},
	} {
		t.Run(name, func(t *testing.T) {
			turn := make(chan int, 1)
			turn <- 0
			addr := script(t, func(conn net.Conn, br *bufio.Reader) {
				for {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					n := <-turn + 1
					turn <- n
					answer := ok
					if n == 3 { // the second over a connection of ours
						answer = c.second
					}
					_, _ = io.WriteString(conn, answer)
					if n == 3 && c.second == "" || req.Close {
						return
					}
				}
			})
			l := newLab(t, nil, plainAt(t, addr))
			conn := l.connect("plain.test:80")
			br := bufio.NewReader(conn)
			for i := 1; i <= 4; i++ {
				want := 200
				if i == 3 {
					want = c.status
				}
				status, body := exchangeOn(t, conn, br, "GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n")
				if status != want || strings.Contains(body, "evil") || want == 200 && body != "ok" {
					t.Errorf("request %d: got %d %q", i, status, body)
				}
			}
		})
	}
}

// What arrives at a server is what was sent, byte by byte, whichever way it went.
func TestBodilessPostAndHeadersOnOurOwnWay(t *testing.T) {
	l, w := newWireLab(t, rule(t, "allow", "good.test", true, 443))
	conn := l.tunnel("good.test:443", "good.test")
	br := bufio.NewReader(conn)
	for range 3 {
		exchangeOn(t, conn, br, "POST /p?q=1 HTTP/1.1\r\nHost: GOOD.test\r\nContent-Length: 0\r\nX-One: a\r\nX-One: b\r\nConnection: X-Gone\r\nX-Gone: 1\r\nAccept: */*\r\n\r\n")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, head := range w.seen {
		for _, part := range []string{"POST /p?q=1 HTTP/1.1\r\nHost: good.test\r\n", "Content-Length: 0\r\n", "X-One: a\r\nX-One: b\r\n", "Accept: */*\r\n"} {
			if strings.Count(head, part) != 1 {
				t.Errorf("%q has not once %q", head, part)
			}
		}
		if strings.Contains(head, "Gone") || strings.Contains(head, "User-Agent") || strings.Contains(head, "Connection") {
			t.Errorf("got %q", head)
		}
	}
	if len(w.seen) != 3 {
		t.Errorf("%d heads", len(w.seen))
	}
}

func TestWebSocketHandshakePassesAsItIs(t *testing.T) {
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: v2\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
	}))
	conn := l.tunnel("good.test:443", "good.test")
	answer := l.sayOn(conn, "GET /ws HTTP/1.1\r\nHost: good.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: v1, v2\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nSec-WebSocket-Version: 13\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 101 ") || !strings.Contains(answer, "Sec-Websocket-Protocol: v2\r\n") || !strings.Contains(answer, "Sec-Websocket-Extensions: permessage-deflate\r\n") {
		t.Errorf("got %q", answer)
	}
	h := l.upstream.requests()[0].Header
	if h.Get("Sec-Websocket-Protocol") != "v1, v2" || h.Get("Sec-Websocket-Extensions") != "permessage-deflate; client_max_window_bits" || h.Get("Sec-Websocket-Version") != "13" {
		t.Errorf("the server saw %v", h)
	}
}

// Heads that do not come to an end, tunnels in which nothing is said, and streams of which nothing moves are ended.
func TestWhatStandsStillIsEnded(t *testing.T) {
	short := 80 * time.Millisecond
	forever := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})
	for name, c := range map[string]struct {
		change func(*limits)
		open   func(l *lab) net.Conn
		say    string
		want   string
	}{
		"slow head":    {func(is *limits) { is.head = short }, func(l *lab) net.Conn { return l.dial(l.addr) }, "GET http://plain.test/ HTT", "before a request's head"},
		"slow head in": {func(is *limits) { is.head = short }, func(l *lab) net.Conn { return l.tunnel("good.test:443", "good.test") }, "GET / HTT", "before a request's head"},
		"silence":      {func(is *limits) { is.handshake = short }, func(l *lab) net.Conn { return l.connect("good.test:443") }, "", "nothing was sent"},
		"half a hello": {func(is *limits) { is.handshake = short }, func(l *lab) net.Conn { return l.connect("good.test:443") }, "\x16\x03\x01\x01\x00", "TLS inside"},
		"no request":   {func(is *limits) { is.idle = short }, func(l *lab) net.Conn { return l.tunnel("good.test:443", "good.test") }, "", ""},
		"no answer":    {func(is *limits) { is.stream = short }, func(l *lab) net.Conn { return l.tunnel("good.test:443", "good.test") }, "GET /head HTTP/1.1\r\nHost: good.test\r\n\r\n", ""},
		"no body":      {func(is *limits) { is.stream = short }, func(l *lab) net.Conn { return l.tunnel("good.test:443", "good.test") }, "GET /body HTTP/1.1\r\nHost: good.test\r\n\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, forever, waiting(c.change))
			l.sayOn(c.open(l), c.say) // comes back when the connection ends; the test's own deadline is much longer
			if c.want != "" {
				if e := l.log.await(t, 1)[0]; e.Kind != event.NetRefused || !strings.Contains(e.Reason, c.want) {
					t.Errorf("event %+v", e)
				}
			}
		})
	}
	t.Run("HTTP/2", func(t *testing.T) {
		l := newLab(t, forever, waiting(func(is *limits) { is.stream = short }))
		resp, err := l.client2().Get("https://good.test/body")
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		if err == nil {
			t.Error("the stream ended as if it were whole")
		}
	})
}

// patientGate asks a person about the path /asked, who takes as long as done is open.
type patientGate struct {
	Gate
	asked, done chan struct{}
}

func (g patientGate) Check(ctx context.Context, r policy.Request) (policy.Decision, error) {
	if r.Path == "/asked" {
		close(g.asked)
		select {
		case <-g.done:
		case <-ctx.Done():
			return policy.Decision{}, ctx.Err()
		}
	}
	return g.Gate.Check(ctx, r)
}

// TestAPersonMayTakeLongerThanAStillStream: a wait for an answer was cut at the limit for streams of which nothing moves.
// That limit has passed when a stream that began later has been ended by it.
func TestAPersonMayTakeLongerThanAStillStream(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(version, func(t *testing.T) {
			g := patientGate{asked: make(chan struct{}), done: make(chan struct{})}
			l := newLab(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/still" {
					<-r.Context().Done()
				}
			}), waiting(func(is *limits) { is.stream = 80 * time.Millisecond }), func(c *Config) {
				g.Gate = c.Gate
				c.Gate = g
			})
			client := l.client
			if version == "HTTP/2" {
				client = l.client2
			}
			status := make(chan int, 1)
			go func() {
				resp, err := client().Get("https://good.test/asked")
				if err != nil {
					status <- 0
					return
				}
				_ = resp.Body.Close()
				status <- resp.StatusCode
			}()
			<-g.asked
			for range 2 {
				if resp, err := client().Get("https://good.test/still"); err == nil {
					_ = resp.Body.Close()
					t.Fatalf("the stream that stands still got %d", resp.StatusCode)
				}
			}
			close(g.done)
			if got := <-status; got != http.StatusOK {
				t.Errorf("the request that waited got %d", got)
			}
		})
	}
}

// A stream in which now and then something moves goes on for many times the limit.
func TestWhatMovesIsNotEnded(t *testing.T) {
	limit := 400 * time.Millisecond
	tick := make(chan struct{})
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range tick {
			_, _ = io.WriteString(w, "x")
			w.(http.Flusher).Flush()
		}
	}), waiting(func(is *limits) { is.stream = limit }))
	go func() {
		defer close(tick)
		every := time.NewTicker(limit / 8)
		defer every.Stop()
		for range 24 {
			<-every.C
			tick <- struct{}{}
		}
	}()
	if _, body := get(t, l.client(), "https://good.test/"); body != strings.Repeat("x", 24) {
		t.Errorf("got %q", body)
	}
}

// Bodies that are compressed to nearly nothing pass as they are: nothing here unpacks them.
func TestCompressedBombPassesAsItIs(t *testing.T) {
	bomb := bytes.Repeat([]byte("\x1f\x8b\x08\x00 a head only "), 1000)
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb)
	}))
	conn := l.tunnel("good.test:443", "good.test")
	if status, body := exchangeOn(t, conn, bufio.NewReader(conn), "GET / HTTP/1.1\r\nHost: good.test\r\n\r\n"); status != 200 || body != string(bomb) {
		t.Errorf("got %d and %d bytes", status, len(body))
	}
}

// A server may answer before it has taken the request: whoever forwards the body may come back to it, and closes it,
// when the next request of the connection is served already.
func TestBodyOfAnAnsweredRequestIsNotTheNextOnes(t *testing.T) {
	l := newLab(t, nil)
	var first io.ReadCloser
	got := make(chan string, 1)
	inside, outside := net.Pipe()
	c := l.proxy.newConn1(outside, target{scheme: "http"}, func(w http.ResponseWriter, r *http.Request) {
		if first == nil {
			first = r.Body
			_, _ = io.CopyN(io.Discard, r.Body, 3)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		n, _ := first.Read(make([]byte, 1))
		_ = first.Close()
		body, err := io.ReadAll(r.Body)
		got <- fmt.Sprintf("%d %q %v", n, body, err)
		w.WriteHeader(http.StatusNoContent)
	})
	served := make(chan struct{})
	go func() { defer close(served); c.serve() }()
	go func() { _, _ = io.Copy(io.Discard, inside) }()
	for _, body := range []string{"old", "new"} {
		if _, err := io.WriteString(inside, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n"+body); err != nil {
			t.Fatal(err)
		}
	}
	if text := <-got; text != `0 "new" <nil>` {
		t.Errorf("the next request's body: %s", text)
	}
	_ = inside.Close()
	<-served
}
