package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// rawLab is a lab in which connections to good.test are passed on as they are, to a script.
func rawLab(t *testing.T, serve func(conn net.Conn, br *bufio.Reader), options ...option) *lab {
	t.Helper()
	addr := script(t, serve)
	options = append([]option{func(c *Config) {
		c.Fixed[mustHost(t, "good.test")] = addr
		c.Gate.(rawOnly).hosts.Store("good.test", policy.Allow)
	}}, options...)
	return newLab(t, nil, options...)
}

// forEachRawWay runs a test by CONNECT and by a direct connection.
func forEachRawWay(t *testing.T, serve func(conn net.Conn, br *bufio.Reader), test func(t *testing.T, l *lab, conn net.Conn)) {
	t.Run("CONNECT", func(t *testing.T) {
		l := rawLab(t, serve)
		test(t, l, l.connect("good.test:443"))
	})
	t.Run("direct", func(t *testing.T) {
		l := rawLab(t, serve)
		test(t, l, l.dial(l.synthetic("good.test", l.direct)))
	})
}

// Protocols of all kinds, among them those in which the server speaks first, and what would elsewhere be refused.
func TestRawConnections(t *testing.T) {
	for name, c := range map[string]struct{ first, say, answer string }{
		"SSH":          {"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-client\r\n", "key exchange"},
		"SMTP":         {"220 mail ESMTP\r\n", "EHLO x\r\n", "250 ok\r\n"},
		"Redis":        {"", "*1\r\n$4\r\nPING\r\n", "+PONG\r\n"},
		"Postgres":     {"", "\x00\x00\x00\x08\x04\xd2\x16\x2f", "N"},
		"not HTTP":     {"", "GET / HTTP/1.1\nHost: evil.test\n\n", "anything"},
		"not TLS":      {"", "\x16\x03\x01\x00\x05hello", "anything"},
		"server alone": {"time\r\n", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			serve := func(conn net.Conn, br *bufio.Reader) {
				_, _ = io.WriteString(conn, c.first)
				got := make([]byte, len(c.say))
				if _, err := io.ReadFull(br, got); err != nil || string(got) != c.say {
					return
				}
				_, _ = io.WriteString(conn, c.answer)
			}
			forEachRawWay(t, serve, func(t *testing.T, l *lab, conn net.Conn) {
				first := make([]byte, len(c.first))
				if _, err := io.ReadFull(conn, first); err != nil || string(first) != c.first {
					t.Fatalf("got %q, %v", first, err)
				}
				if answer := l.sayOn(conn, c.say); answer != c.answer {
					t.Errorf("got %q", answer)
				}
				_ = conn.Close()
				events := l.only(2)
				check(t, events, want{event.NetRequest, event.Allow, "good.test", ""}, want{event.NetResponse, "", "good.test", ""})
				if e := events[1]; e.BytesUp != int64(len(c.say)) || e.BytesDown != int64(len(c.first+c.answer)) || e.Reason != "" {
					t.Errorf("event %+v", e)
				}
			})
		})
	}
}

// A rule says which connections are passed on, and every other one of the same host is judged as before.
func TestRawConnectionsByRule(t *testing.T) {
	addr := script(t, func(conn net.Conn, _ *bufio.Reader) { _, _ = io.WriteString(conn, "SSH-2.0-x\r\n") })
	tcp := rule(t, policy.Allow, "good.test", true, 22)
	tcp.Protocol = policy.TCP
	l := newLabOf(t, nil, []policy.Rule{tcp, rule(t, policy.Allow, "x.wild.test", true, 22)}, func(c *Config) {
		c.Gate = c.Gate.(rawOnly).Gate
		c.Fixed[mustHost(t, "good.test")] = addr
	})
	conn := l.connect("good.test:22")
	if got := l.sayOn(conn, ""); got != "SSH-2.0-x\r\n" {
		t.Errorf("got %q", got)
	}
	_ = conn.Close()
	if answer := l.say(connectLine("good.test:443")); statusOf(answer) != "403 Forbidden" {
		t.Errorf("got %q", answer)
	}
	if answer := l.say("GET http://good.test:22/ HTTP/1.1\r\nHost: good.test:22\r\nConnection: close\r\n\r\n"); statusOf(answer) != "403 Forbidden" {
		t.Errorf("HTTP: got %q", answer)
	}
	l.only(4)
}

// One half that is closed leaves the other open, and every byte arrives.
func TestRawHalfClose(t *testing.T) {
	const size = 8 << 20
	serve := func(conn net.Conn, br *bufio.Reader) {
		n, _ := io.Copy(io.Discard, br) // until the client's half is closed
		_, _ = conn.Write(bytes.Repeat([]byte("y"), int(n)))
	}
	forEachRawWay(t, serve, func(t *testing.T, l *lab, conn net.Conn) {
		if _, err := conn.Write(bytes.Repeat([]byte("x"), size)); err != nil {
			t.Fatal(err)
		}
		if err := closeWrite(conn); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, conn); err != nil || n != size {
			t.Errorf("%d bytes came back, %v", n, err)
		}
		if e := l.only(2)[1]; e.BytesUp != size || e.BytesDown != size {
			t.Errorf("event %+v", e)
		}
	})
}

func TestRawConnectionThatFails(t *testing.T) {
	l := newLab(t, nil, func(c *Config) { c.Fixed[mustHost(t, "good.test")] = "127.0.0.1:1" })
	l.raw.hosts.Store("good.test", policy.Allow)
	if answer := l.say(connectLine("good.test:443")); statusOf(answer) != "502 Bad Gateway" || !strings.Contains(answer, "refused the connection") {
		t.Errorf("got %q", answer)
	}
	if e := l.only(2)[1]; e.Status != 502 || e.Kind != event.NetResponse {
		t.Errorf("event %+v", e)
	}
}

func TestIdleRawConnectionIsEnded(t *testing.T) {
	serve := func(_ net.Conn, br *bufio.Reader) { _, _ = br.ReadByte() }
	for _, way := range []string{"raw", "spliced"} {
		t.Run(way, func(t *testing.T) {
			l := rawLab(t, serve, waiting(func(is *limits) { is.stream = 80 * time.Millisecond }))
			var conn net.Conn
			if way == "raw" {
				conn = l.dial(l.synthetic("good.test", l.direct))
			} else {
				secure := tls.Client(l.connect("spliced.test:443"), &tls.Config{InsecureSkipVerify: true, ServerName: "spliced.test"})
				if err := secure.HandshakeContext(t.Context()); err != nil {
					t.Fatal(err)
				}
				conn = secure
			}
			if _, err := io.ReadAll(conn); err != nil && way == "raw" && errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it was not ended: %v", err)
			}
			if e := l.log.await(t, 2)[1]; !strings.Contains(e.Reason, "nothing moved") {
				t.Errorf("event %+v", e)
			}
		})
	}
}

// rawAsk asks a person about raw connections too.
type rawAsk struct {
	rawOnly
	answer chan policy.Action
	asked  chan policy.Request
}

func (g rawAsk) Check(ctx context.Context, r policy.Request) (policy.Decision, error) {
	g.asked <- r
	select {
	case a := <-g.answer:
		return policy.Decision{Action: a, Rule: "test.toml:9"}, nil
	case <-ctx.Done():
		return policy.Decision{}, ctx.Err()
	}
}

func TestRawConnectionThatIsAskedAbout(t *testing.T) {
	for _, way := range []string{"CONNECT", "direct"} {
		for _, answer := range []policy.Action{policy.Allow, policy.Deny, ""} {
			t.Run(way+" "+string(answer), func(t *testing.T) {
				g := rawAsk{answer: make(chan policy.Action, 1), asked: make(chan policy.Request, 1)}
				served := make(chan struct{}, 1)
				l := rawLab(t, func(conn net.Conn, _ *bufio.Reader) {
					served <- struct{}{}
					_, _ = io.WriteString(conn, "hello")
				}, func(c *Config) {
					g.rawOnly = c.Gate.(rawOnly)
					g.hosts.Store("good.test", policy.Ask)
					c.Gate = g
				})
				var conn net.Conn
				if way == "direct" {
					conn = l.dial(l.synthetic("good.test", l.direct))
				} else {
					conn = l.dial(l.addr)
					_, _ = io.WriteString(conn, connectLine("good.test:443"))
				}
				if r := <-g.asked; r.Scheme != policy.TCP || r.Port != 443 {
					t.Errorf("asked about %+v", r)
				}
				if answer == "" { // it goes away, and the question with it: Close below waits for it
					_ = conn.Close()
					if err := l.proxy.Close(); err != nil || len(served) > 0 {
						t.Errorf("%v, %d served", err, len(served))
					}
					return
				}
				g.answer <- answer
				got, _ := io.ReadAll(conn)
				if allowed := strings.HasSuffix(string(got), "hello"); allowed != (answer == policy.Allow) || way == "CONNECT" && !allowed && statusOf(string(got)) != "403 Forbidden" {
					t.Errorf("got %q", got)
				}
			})
		}
	}
}

func TestSpliceCountsAndHalfCloses(t *testing.T) {
	const size = 4 << 20
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = w.Write(bytes.Repeat([]byte("y"), int(n)))
	}))
	pool := x509.NewCertPool()
	pool.AddCert(l.authority.cert)
	l.roots = pool
	resp, err := l.client().Post("https://spliced.test/", "text/plain", bytes.NewReader(bytes.Repeat([]byte("x"), size)))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
		t.Errorf("%d bytes, %v", n, err)
	}
	_ = resp.Body.Close()
	l.client().CloseIdleConnections()
	_ = l.proxy.Close()
	if e := l.log.await(t, 2)[1]; e.BytesUp < size || e.BytesDown < size {
		t.Errorf("event %+v", e)
	}
}

// limitedGate has limits, as a rule's would be.
type limitedGate struct {
	Gate
	request, sent int64
	mu            *sync.Mutex
	total         *int64 // that was let through
}

func newLimited(inner Gate, request, sent int64) limitedGate {
	return limitedGate{Gate: inner, request: request, sent: sent, mu: &sync.Mutex{}, total: new(int64)}
}

func (g limitedGate) Check(ctx context.Context, r policy.Request) (policy.Decision, error) {
	d, err := g.Gate.Check(ctx, r)
	d.MaxRequest, d.MaxSent = g.request, g.sent
	return d, err
}

func (g limitedGate) Send(h policy.Host, n, limit int64) bool {
	ok := g.Gate.Send(h, n, limit)
	if ok {
		g.mu.Lock()
		*g.total += n
		g.mu.Unlock()
	}
	return ok
}

// counted is a server that counts what it gets and never says anything.
func counted(t *testing.T) (addr string, got func() int64) {
	var mu sync.Mutex
	var n int64
	addr = script(t, func(_ net.Conn, br *bufio.Reader) {
		buf := make([]byte, 4096)
		for {
			m, err := br.Read(buf)
			mu.Lock()
			n += int64(m)
			mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	return addr, func() int64 { mu.Lock(); defer mu.Unlock(); return n }
}

func TestRequestSizeIsBounded(t *testing.T) {
	body := strings.Repeat("x", 300_000)
	for name, c := range map[string]struct {
		head   string
		body   string
		max    int64
		status string
	}{
		"announced":     {"Content-Length: 300000\r\n", body, 1000, "413"},
		"just":          {"Content-Length: 300000\r\n", body, 300_000, "200"},
		"chunked":       {"Transfer-Encoding: chunked\r\n", "493e0\r\n" + body + "\r\n0\r\n\r\n", 1000, "413"},
		"chunked, just": {"Transfer-Encoding: chunked\r\n", "493e0\r\n" + body + "\r\n0\r\n\r\n", 300_000, "200"},
	} {
		for _, secure := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				l := newLab(t, nil, func(config *Config) { config.Gate = newLimited(config.Gate, c.max, 0) })
				conn, host := net.Conn(nil), "plain.test"
				if conn = l.connect("plain.test:80"); secure {
					conn, host = l.tunnel("good.test:443", "good.test"), "good.test"
				}
				answer := l.sayOn(conn, "POST /up HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n"+c.head+"\r\n"+c.body)
				if !strings.HasPrefix(answer, "HTTP/1.1 "+c.status) || c.status == "413" && !strings.Contains(answer, "max_request") {
					t.Errorf("got %.300q", answer)
				}
				for _, r := range l.upstream.requests() {
					if c.status == "413" && (name == "announced" || r.ContentLength > c.max) {
						t.Errorf("the server saw %+v", r)
					}
				}
				if e := l.only(2)[1]; c.status == "413" && (e.Status != 413 || !strings.Contains(e.Reason, "max_request") || e.BytesUp > c.max) {
					t.Errorf("event %+v", e)
				}
			})
		}
	}
}

// Never more than the limit leaves, whatever it is that carries it out.
func TestBytesSentAreBounded(t *testing.T) {
	const limit = 50_000
	for name, attack := range map[string]func(t *testing.T, l *lab){
		"heads": func(t *testing.T, l *lab) {
			conn := l.connect("plain.test:80")
			for range 1000 {
				if _, err := io.WriteString(conn, "GET /"+strings.Repeat("s", 500)+" HTTP/1.1\r\nHost: plain.test\r\nX: "+strings.Repeat("h", 500)+"\r\n\r\n"); err != nil {
					return
				}
			}
			_ = closeWrite(conn)
			_, _ = io.Copy(io.Discard, conn)
		},
		"body": func(t *testing.T, l *lab) {
			answer := l.sayOn(l.connect("plain.test:80"), "POST / HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 1_000_000))
			if !strings.HasPrefix(answer, "HTTP/1.1 403") || !strings.Contains(answer, "max_sent") {
				t.Errorf("got %q", answer)
			}
		},
		"raw": func(t *testing.T, l *lab) {
			l.raw.hosts.Store("plain.test", policy.Allow)
			l.sayOn(l.connect("plain.test:80"), strings.Repeat("x", 1_000_000))
		},
		"spliced": func(t *testing.T, l *lab) {
			conn := l.connect("spliced.test:443")
			hello := &bytes.Buffer{}
			_ = tls.Client(&recorded{Conn: conn, to: hello}, &tls.Config{ServerName: "spliced.test"}).HandshakeContext(t.Context())
			l.sayOn(conn, hello.String()+strings.Repeat("x", 1_000_000))
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr, got := counted(t)
			if name == "heads" {
				addr, got = countedAnswering(t)
			}
			var g limitedGate
			l := newLab(t, nil, func(c *Config) {
				g = newLimited(c.Gate, 0, limit)
				c.Gate = g
				c.Fixed[mustHost(t, "plain.test")], c.Fixed[mustHost(t, "spliced.test")] = addr, addr
			})
			if raw, ok := g.Gate.(rawOnly); ok {
				l.raw = raw
			}
			attack(t, l)
			_ = l.proxy.Close()
			if n := got(); n > limit || *g.total > limit {
				t.Errorf("%d bytes left, %d were counted", n, *g.total)
			}
		})
	}
}

// recorded keeps what is written, sends none of it, and ends at the first read.
type recorded struct {
	net.Conn
	to *bytes.Buffer
}

func (r *recorded) Write(p []byte) (int, error) { return r.to.Write(p) }
func (r *recorded) Read([]byte) (int, error)    { return 0, io.EOF }

func countedAnswering(t *testing.T) (addr string, got func() int64) {
	var mu sync.Mutex
	var n int64
	addr = script(t, func(conn net.Conn, br *bufio.Reader) {
		for {
			line, err := br.ReadString('\n')
			mu.Lock()
			n += int64(len(line))
			mu.Unlock()
			if err != nil {
				return
			}
			if line == "\r\n" {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}
	})
	return addr, func() int64 { mu.Lock(); defer mu.Unlock(); return n }
}

func TestWebSocketIsBounded(t *testing.T) {
	const limit = 50_000
	var g limitedGate
	l := newLab(t, http.HandlerFunc(echoUpgrade), func(c *Config) { g = newLimited(c.Gate, 10, limit); c.Gate = g })
	conn := l.tunnel("good.test:443", "good.test")
	if _, err := io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: good.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = conn.Write(bytes.Repeat([]byte("x"), 1_000_000)) }()
	if n, _ := io.Copy(io.Discard, conn); n > limit+1000 {
		t.Errorf("%d bytes came back", n)
	}
	events := l.log.await(t, 2)
	if e := events[1]; e.BytesUp > limit || e.BytesUp == 0 || !strings.Contains(e.Reason, "max_sent") || *g.total > limit {
		t.Errorf("event %+v, %d", e, *g.total)
	}
}
