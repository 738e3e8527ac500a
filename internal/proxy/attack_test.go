package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// untouched says that nothing reached a server: no connection, so no byte.
func (l *lab) untouched() {
	l.t.Helper()
	if n := l.upstream.connections(); n != 0 {
		l.t.Errorf("%d connections reached the servers", n)
	}
}

func connectLine(authority string) string {
	return "CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\n\r\n"
}

func TestNULInName(t *testing.T) {
	l := newLab(t, nil)
	for _, raw := range []string{
		connectLine("evil.test\x00.good.test:443"), "CONNECT good.test:443 HTTP/1.1\r\nHost: good.test\x00.evil.test\r\n\r\n",
		"GET http://evil.test\x00.plain.test/ HTTP/1.1\r\nHost: plain.test\r\n\r\n",
	} {
		if answer := l.say(raw); statusOf(answer) != "400 Bad Request" {
			t.Errorf("%q: got %q", raw, answer)
		}
	}
	l.untouched()
	for _, e := range l.only(3) {
		if e.Kind != event.NetRefused || e.Decision != event.Deny || !strings.Contains(e.Reason, "control character") {
			t.Errorf("event %+v", e)
		}
	}
}

func TestOtherSpellingsOfANameAreTheName(t *testing.T) {
	l := newLab(t, nil)
	for _, name := range []string{"good.test.", "GOOD.TEST", "Good.Test."} {
		conn := tls.Client(l.connect(name+":443"), &tls.Config{RootCAs: l.roots, ServerName: "good.test"})
		if answer := l.sayOn(conn, "GET / HTTP/1.1\r\nHost: "+name+"\r\nConnection: close\r\n\r\n"); statusOf(answer) != "200 OK" {
			t.Errorf("%s: got %q", name, answer)
		}
	}
	for _, name := range []string{"bad.wild.test", "BAD.wild.test", "bad.wild.test.", "good.test.evil.test", "wild.test", "xgood.test"} {
		if answer := l.say(connectLine(name + ":443")); statusOf(answer) != "403 Forbidden" {
			t.Errorf("%s: got %q", name, answer)
		}
	}
	l.only(12)
}

func TestLiteralAddressesAreRefused(t *testing.T) {
	l := newLab(t, nil)
	_, port, _ := net.SplitHostPort(l.upstream.plain.Listener.Addr().String())
	names := []string{
		"127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "0",
		"localhost", "LOCALHOST.", "a.localhost", "169.254.169.254", "[fd00:ec2::254]", "metadata.google.internal", "[fe80::1%25eth0]", "10.0.0.1",
	}
	for _, name := range names {
		if answer := l.say(connectLine(name + ":" + port)); statusOf(answer) != "403 Forbidden" {
			t.Errorf("CONNECT %s: got %q", name, answer)
		}
		authority := name + ":" + port
		if answer := l.say("GET http://" + authority + "/ HTTP/1.1\r\nHost: " + authority + "\r\nConnection: close\r\n\r\n"); statusOf(answer) != "403 Forbidden" {
			t.Errorf("GET %s: got %q", name, answer)
		}
	}
	l.untouched()
	for _, e := range l.only(2 * len(names)) {
		if e.Kind != event.NetRequest || e.Decision != event.Deny || e.Host == "" || e.Reason == "" {
			t.Errorf("event %+v", e)
		}
		if strings.HasSuffix(e.Host, ":"+port) { // it would be shown twice
			t.Errorf("the event's host holds the port too: %+v", e)
		}
	}
}

// lying is a resolver under the agent's influence.
type lying struct {
	mu      sync.Mutex
	answers [][]netip.Addr
	calls   int
	after   func()
}

func (r *lying) LookupNetIP(_ context.Context, _, _ string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if r.after != nil {
		r.after()
	}
	return r.answers[min(r.calls, len(r.answers))-1], nil
}

func TestNamesThatLeadInsideAreNeverDialled(t *testing.T) {
	for _, answers := range [][]string{
		{"127.0.0.1"}, {"127.8.8.8"}, {"10.0.0.1"}, {"172.16.0.1"}, {"192.168.0.1"}, {"169.254.1.1"}, {"169.254.169.254"}, {"100.64.0.1"}, {"0.0.0.0"}, {"224.0.0.1"},
		{"240.0.0.1"}, {"255.255.255.255"}, {"::1"}, {"::"}, {"fc00::1"}, {"fe80::1"}, {"::ffff:127.0.0.1"}, {"::ffff:10.0.0.1"}, {"64:ff9b::7f00:1"}, {"2002:7f00:1::"},
		{"1.1.1.1", "127.0.0.1"}, {"127.0.0.1", "1.1.1.1"}, {"2606:4700:4700::1111", "fd00::1"},
	} {
		t.Run(strings.Join(answers, ","), func(t *testing.T) {
			resolver := &lying{answers: [][]netip.Addr{nil}}
			for _, a := range answers {
				resolver.answers[0] = append(resolver.answers[0], netip.MustParseAddr(a))
			}
			l := newLab(t, nil, func(c *Config) { c.Resolver = resolver })
			port := portOf(t, l.upstream.plain.Listener.Addr().String())
			resp, body := get(t, l.client(), fmt.Sprintf("http://rebind.test:%d/", port))
			if resp.StatusCode != 403 || !strings.Contains(body, "not public") {
				t.Errorf("got %d %q", resp.StatusCode, body)
			}
			l.untouched()
			events := l.only(2)
			check(t, events, want{event.NetRequest, event.Allow, "rebind.test", ""}, want{event.NetResponse, "", "rebind.test", "not public"})
			if events[1].Status != 403 || resolver.calls != 1 {
				t.Errorf("status %d, %d look-ups", events[1].Status, resolver.calls)
			}
		})
	}
}

// The second look-up of a rebinding name is the one that leads inside: there must be no second look-up.
func TestNameIsLookedUpOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	resolver := &lying{after: cancel, answers: [][]netip.Addr{{netip.MustParseAddr("1.1.1.1")}, {netip.MustParseAddr("127.0.0.1")}}}
	d, err := newDialer(Config{Resolver: resolver}, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := d.dialContext(ctx, "tcp", "rebind.test:443")
	if err == nil {
		_ = conn.Close()
		t.Fatal("dialled with an ended context")
	}
	var opErr *net.OpError
	if !errorsAs(err, &opErr) || opErr.Addr == nil || opErr.Addr.String() != "1.1.1.1:443" || resolver.calls != 1 {
		t.Errorf("dialled %v after %d look-ups", err, resolver.calls)
	}
}

func TestWrongOrMissingSNI(t *testing.T) {
	for _, way := range []string{"CONNECT", "direct", "spliced"} {
		for name, sni := range map[string]string{"evil": "evil.test", "none": "", "sibling": "x.wild.test", "suffix": "good.test.evil.test"} {
			t.Run(way+" "+name, func(t *testing.T) {
				l := newLab(t, nil)
				host := "good.test"
				var conn net.Conn
				switch way {
				case "CONNECT":
					conn = l.connect("good.test:443")
				case "direct":
					conn = l.dial(l.synthetic("good.test", l.direct))
				case "spliced":
					host, conn = "spliced.test", l.connect("spliced.test:443")
				}
				client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: sni})
				if err := client.HandshakeContext(t.Context()); err == nil {
					t.Error("the handshake succeeded")
				}
				l.untouched()
				check(t, l.only(1), want{event.NetRefused, event.Deny, host, "SNI"})
			})
		}
	}
}

func TestNoTLSWhereItBelongs(t *testing.T) {
	for _, c := range []struct{ authority, host string }{{"good.test:443", "good.test"}, {"spliced.test:443", "spliced.test"}} {
		for name, raw := range map[string]string{"HTTP": "GET / HTTP/1.1\r\nHost: good.test\r\n\r\n", "SSH": "SSH-2.0-x\r\n", "half TLS": "\x16\x03\x01\x00\x05hello"} {
			t.Run(c.authority+" "+name, func(t *testing.T) {
				l := newLab(t, nil)
				if answer := l.sayOn(l.connect(c.authority), raw); strings.Contains(answer, "HTTP") {
					t.Errorf("got %q", answer)
				}
				l.untouched()
				check(t, l.only(1), want{event.NetRefused, event.Deny, c.host, "TLS"})
			})
		}
	}
}

func TestPortsWithoutARule(t *testing.T) {
	l := newLab(t, nil)
	for _, authority := range []string{"good.test:22", "good.test:80", "good.test:8443", "plain.test:443"} {
		answer := l.say(connectLine(authority))
		if statusOf(answer) != "403 Forbidden" || !strings.Contains(answer, "only, not on port") {
			t.Errorf("%s: got %q", authority, answer)
		}
	}
	for _, authority := range []string{"good.test", "good.test:", "good.test:0", "good.test:65536", "good.test:-1", "good.test:+443", "good.test:https", ":443", "good.test:443:443"} {
		if status := statusOf(l.say(connectLine(authority))); status != "403 Forbidden" && status != "400 Bad Request" {
			t.Errorf("%s: got %q", authority, status)
		}
	}
	if status := statusOf(l.say("GET http://good.test:443/ HTTP/1.1\r\nHost: good.test:443\r\n\r\n")); status != "403 Forbidden" {
		t.Errorf("plain HTTP to 443: got %q", status)
	}
	l.untouched()
	l.only(14)
}

func TestAnotherHostInsideATunnel(t *testing.T) {
	for name, raw := range map[string]string{
		"Host":              "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
		"sibling":           "GET / HTTP/1.1\r\nHost: x.wild.test\r\n\r\n",
		"port":              "GET / HTTP/1.1\r\nHost: good.test:8443\r\n\r\n",
		"user":              "GET / HTTP/1.1\r\nHost: good.test@evil.test\r\n\r\n",
		"empty":             "GET / HTTP/1.1\r\nHost:\r\n\r\n",
		"absolute":          "GET https://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
		"absolute, other":   "GET https://evil.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n",
		"absolute, reverse": "GET https://good.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
		"scheme":            "GET http://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n",
		"CONNECT":           "CONNECT good.test:443 HTTP/1.1\r\nHost: good.test:443\r\n\r\n",
		"address":           "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
		"WebSocket":         "GET / HTTP/1.1\r\nHost: evil.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil)
			conn := l.tunnel("good.test:443", "good.test")
			answer := l.sayOn(conn, raw+"GET /second HTTP/1.1\r\nHost: good.test\r\n\r\n")
			if status := statusOf(answer); status != "421 Misdirected Request" && !strings.HasPrefix(status, "400 Bad Request") || strings.Contains(answer, "hello") {
				t.Errorf("got %q", answer)
			}
			l.untouched()
			check(t, l.only(1), want{event.NetRefused, event.Deny, "good.test", ""})
		})
	}
}

func TestSecondRequestForAnotherHost(t *testing.T) {
	l := newLab(t, nil)
	conn := l.tunnel("good.test:443", "good.test")
	answer := l.sayOn(conn, "GET /1 HTTP/1.1\r\nHost: good.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: evil.test\r\n\r\nGET /3 HTTP/1.1\r\nHost: good.test\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 200 OK") || !strings.Contains(answer, "HTTP/1.1 421") || strings.Count(answer, "HTTP/1.1 ") != 2 {
		t.Errorf("got %q", answer)
	}
	if seen := l.upstream.requests(); len(seen) != 1 {
		t.Errorf("%d requests reached the server", len(seen))
	}
	check(t, l.only(3), want{event.NetRequest, event.Allow, "good.test", ""}, want{event.NetResponse, "", "good.test", ""}, want{event.NetRefused, event.Deny, "good.test", "evil.test"})
}

// ambiguous are heads that different programs read in different ways.
var ambiguous = map[string]string{
	"CL and TE":          "POST / HTTP/1.1\r\nHost: good.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"TE and CL":          "POST / HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
	"two Hosts":          "GET / HTTP/1.1\r\nHost: good.test\r\nHost: evil.test\r\n\r\n",
	"two equal Hosts":    "GET / HTTP/1.1\r\nHost: good.test\r\nhost: good.test\r\n\r\n",
	"no Host":            "GET / HTTP/1.1\r\n\r\n",
	"folding":            "GET / HTTP/1.1\r\nHost: good.test\r\nX-A: 1\r\n 2\r\n\r\n",
	"folded Host":        "GET / HTTP/1.1\r\nHost: good.test\r\n\tevil.test\r\n\r\n",
	"two CLs":            "POST / HTTP/1.1\r\nHost: good.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
	"two equal CLs":      "POST / HTTP/1.1\r\nHost: good.test\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
	"list of CLs":        "POST / HTTP/1.1\r\nHost: good.test\r\nContent-Length: 1, 1\r\n\r\nx",
	"signed CL":          "POST / HTTP/1.1\r\nHost: good.test\r\nContent-Length: +1\r\n\r\nx",
	"huge CL":            "POST / HTTP/1.1\r\nHost: good.test\r\nContent-Length: 99999999999999999999\r\n\r\nx",
	"two TEs":            "POST / HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
	"TE list":            "POST / HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	"TE xchunked":        "POST / HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
	"TE in 1.0":          "POST / HTTP/1.0\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"space before colon": "POST / HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
	"bare LF":            "GET / HTTP/1.1\nHost: good.test\n\n",
	"bare LF in head":    "GET / HTTP/1.1\r\nHost: good.test\nX-A: 1\r\n\r\n",
	"bare CR":            "GET / HTTP/1.1\r\nHost: good.test\r\nX-A: 1\rX-B: 2\r\n\r\n",
	"NUL in value":       "GET / HTTP/1.1\r\nHost: good.test\r\nX-A: 1\x002\r\n\r\n",
	"no name":            "GET / HTTP/1.1\r\nHost: good.test\r\n: x\r\n\r\n",
	"no colon":           "GET / HTTP/1.1\r\nHost: good.test\r\nX-A\r\n\r\n",
	"two spaces":         "GET  / HTTP/1.1\r\nHost: good.test\r\n\r\n",
	"tab":                "GET\t/ HTTP/1.1\r\nHost: good.test\r\n\r\n",
	"HTTP/0.9":           "GET /\r\n\r\n",
	"HTTP/1.2":           "GET / HTTP/1.2\r\nHost: good.test\r\n\r\n",
	"leading line":       "\r\nGET / HTTP/1.1\r\nHost: good.test\r\n\r\n",
	"upgrade with body":  "POST / HTTP/1.1\r\nHost: good.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
	"bad escape":         "GET /%zz HTTP/1.1\r\nHost: good.test\r\n\r\n",
}

func TestAmbiguousRequestsAreRefused(t *testing.T) {
	for name, raw := range ambiguous {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil)
			if answer := l.sayOn(l.tunnel("good.test:443", "good.test"), raw); !strings.HasPrefix(answer, "HTTP/1.1 400 Bad Request") || strings.Count(answer, "HTTP/1.1 ") != 1 {
				t.Errorf("in a tunnel: got %q", answer)
			}
			if answer := l.say(strings.ReplaceAll(raw, "good.test", "plain.test")); !strings.HasPrefix(statusOf(answer), "40") || strings.Contains(answer, "200") {
				t.Errorf("to the proxy: got %q", answer)
			}
			l.untouched()
			for _, e := range l.only(2) {
				if e.Kind != event.NetRefused || e.Decision != event.Deny {
					t.Errorf("event %+v", e)
				}
			}
		})
	}
}

func TestAmbiguousSecondRequestIsRefusedInItsTurn(t *testing.T) {
	for name, first := range map[string]string{
		"no body": "GET /1 HTTP/1.1\r\nHost: good.test\r\n\r\n",
		"length":  "POST /1 HTTP/1.1\r\nHost: good.test\r\nContent-Length: 5\r\n\r\nhello",
		"chunked": "POST /1 HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: 1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil)
			answer := l.sayOn(l.tunnel("good.test:443", "good.test"), first+ambiguous["CL and TE"])
			if !strings.HasPrefix(answer, "HTTP/1.1 200 OK") || !strings.Contains(answer, "HTTP/1.1 400") || strings.Count(answer, "HTTP/1.1 ") != 2 {
				t.Errorf("got %q", answer)
			}
			if seen := l.upstream.requests(); len(seen) != 1 || seen[0].URL.Path != "/1" {
				t.Errorf("the server saw %+v", seen)
			}
			check(t, l.only(3), want{event.NetRequest, event.Allow, "good.test", ""}, want{event.NetResponse, "", "good.test", ""}, want{event.NetRefused, event.Deny, "good.test", "Content-Length"})
		})
	}
}

func TestTheProxyServesNothingOfItsOwn(t *testing.T) {
	l := newLab(t, nil)
	for _, raw := range []string{
		"GET / HTTP/1.1\r\nHost: " + l.addr + "\r\nConnection: close\r\n\r\n", "GET /debug/pprof HTTP/1.1\r\nHost: good.test\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: good.test\r\n\r\n",
		"GET https://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", "GET ftp://good.test/ HTTP/1.1\r\nHost: good.test\r\n\r\n", "GET http://u:p@plain.test/ HTTP/1.1\r\nHost: u:p@plain.test\r\n\r\n",
		"GET file:///etc/passwd HTTP/1.1\r\nHost: good.test\r\n\r\n",
		"GET http://plain.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", "GET http://evil.test/ HTTP/1.1\r\nHost: plain.test\r\n\r\n",
	} {
		if status := statusOf(l.say(raw)); status != "403 Forbidden" && !strings.HasPrefix(status, "400 Bad Request") {
			t.Errorf("%q: got %q", raw, status)
		}
	}
	l.untouched()
	l.only(9)
}

func TestEndlessHeaderIsBounded(t *testing.T) {
	l := newLab(t, nil)
	conn := l.dial(l.addr)
	if _, err := io.WriteString(conn, "GET http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\nX-Big: "); err != nil {
		t.Fatal(err)
	}
	block := bytes.Repeat([]byte("a"), 64<<10)
	sent := 0
	for sent < 1<<30 {
		n, err := conn.Write(block)
		sent += n
		if err != nil {
			break
		}
	}
	if sent > 64<<20 {
		t.Errorf("%d bytes of a header were taken", sent)
	}
	l.untouched()
	check(t, l.only(1), want{event.NetRefused, event.Deny, "", "longer than"})
}

func TestEndlessChunkLineAndTrailersAreBounded(t *testing.T) {
	for name, raw := range map[string]string{
		"size line": "1;" + strings.Repeat("a", maxChunkLine+10), "trailer line": "0\r\nX: " + strings.Repeat("a", maxChunkLine+10),
		"trailers": "0\r\n" + strings.Repeat("X-A: b\r\n", maxTrailers), "size": "fffffffffffffffff\r\n", "negative": "-1\r\n", "bare": "1\nx",
		"folded trailer": "0\r\n a\r\n\r\n", "trailer with NUL": "0\r\nA: \x00\r\n\r\n", "signed": "+1\r\nx\r\n", "underscore": "1_0\r\nx", "none": "\r\n\r\n", "longer": "1\r\nxy\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			in := &input{conn: &scripted{r: strings.NewReader(raw)}}
			b := &body{in: in, phase: inSize}
			if n, err := io.Copy(io.Discard, b); err == nil || n > 1 || len(in.buf) > 2*maxTrailers {
				t.Errorf("%d bytes of body, %v, %d bytes held", n, err, len(in.buf))
			}
			if n, err := b.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("afterwards: %d, %v", n, err)
			}
		})
	}
}

func TestEverythingHasBounds(t *testing.T) {
	l := newLab(t, nil)
	if is := l.proxy.limits; is.head <= 0 || is.handshake <= 0 || is.idle <= 0 || is.stream < time.Hour || is.streams <= 0 || is.streams > 1<<12 {
		t.Errorf("limits %+v", is)
	}
	for _, tr := range []*http.Transport{l.proxy.transport, l.proxy.plain2} {
		if tr.MaxResponseHeaderBytes <= 0 || tr.IdleConnTimeout <= 0 || tr.MaxIdleConns <= 0 || tr.ResponseHeaderTimeout <= 0 || tr.HTTP2.MaxReceiveBufferPerConnection <= 0 {
			t.Errorf("transport %+v", tr)
		}
	}
	if l.proxy.transport.TLSHandshakeTimeout <= 0 {
		t.Error("a handshake may last for ever")
	}
}

func TestHugeAnswerHeadIsBounded(t *testing.T) {
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Big", strings.Repeat("a", maxAnswerHead+1))
	}))
	if resp, _ := get(t, l.client(), "https://good.test/"); resp.StatusCode != 502 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

func TestUpstreamCertificates(t *testing.T) {
	stranger := newAuthority(t)
	for name, c := range map[string]struct {
		issue  func(l *lab) tls.Certificate
		reason string
	}{
		"expired":       {func(l *lab) tls.Certificate { return l.authority.issue(t, time.Now().Add(-time.Minute), "good.test") }, "expired"},
		"not yet valid": {func(l *lab) tls.Certificate { return l.authority.issue(t, time.Now().Add(48*time.Hour), "good.test") }, "expired or is not valid yet"},
		"other name":    {func(l *lab) tls.Certificate { return l.authority.issue(t, time.Now().Add(time.Hour), "evil.test") }, "another name"},
		"unknown":       {func(*lab) tls.Certificate { return stranger.issue(t, time.Now().Add(time.Hour), "good.test") }, "not trusted"},
		"the run's own": {func(l *lab) tls.Certificate { cert, _ := l.ca.leafFor(mustHost(t, "good.test")); return *cert }, "not trusted"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s %s was forwarded", r.Method, r.URL) }))
			li, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			_ = server.Listener.Close()
			server.Listener = li
			l := newLab(t, nil, func(config *Config) { config.Fixed[mustHost(t, "good.test")] = li.Addr().String() })
			server.TLS = &tls.Config{Certificates: []tls.Certificate{c.issue(l)}}
			server.Config.ErrorLog = quiet()
			server.StartTLS()
			defer server.Close()
			resp, err := l.client().Post("https://good.test/", "text/plain", strings.NewReader("secret"))
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != 502 || !strings.Contains(string(body), c.reason) || resp.Header.Get("X-Agentbox") != "failed" {
				t.Errorf("got %d %q", resp.StatusCode, body)
			}
			events := l.only(2)
			check(t, events, want{event.NetRequest, event.Allow, "good.test", ""}, want{event.NetResponse, "", "good.test", c.reason})
			if events[1].Status != 502 || events[1].BytesUp != 0 {
				t.Errorf("event %+v", events[1])
			}
		})
	}
}

func TestUnaskedProtocolSwitch(t *testing.T) {
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: anything\r\n\r\n")
	}))
	resp, body := get(t, l.client(), "https://good.test/")
	if resp.StatusCode != 502 || !strings.Contains(body, "not asked for") {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

func TestConnectionToAnAddressWithoutName(t *testing.T) {
	l := newLab(t, nil)
	_, port, _ := net.SplitHostPort(l.direct)
	for _, addr := range []string{"127.0.0.1", "127.99.99.99"} {
		if answer := l.sayOn(l.dial(net.JoinHostPort(addr, port)), "GET / HTTP/1.1\r\nHost: good.test\r\n\r\n"); answer != "" {
			t.Errorf("%s: got %q", addr, answer)
		}
	}
	l.untouched()
	for _, e := range l.only(2) {
		if e.Kind != event.NetRefused || e.Via != "direct" || e.Port != 443 || !strings.Contains(e.Reason, "stands for no name") {
			t.Errorf("event %+v", e)
		}
	}
}

func TestDirectPlainConnectionForAnotherHost(t *testing.T) {
	l := newLab(t, nil)
	answer := l.sayOn(l.dial(l.synthetic("plain.test", l.direct80)), "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
	if statusOf(answer) != "421 Misdirected Request" {
		t.Errorf("got %q", answer)
	}
	l.untouched()
	check(t, l.only(1), want{event.NetRefused, event.Deny, "plain.test", "evil.test"})
}

func TestPathsPassAsTheyAreWritten(t *testing.T) {
	l := newLab(t, nil)
	paths := []string{"/public/../admin", "//evil.test/x", "/a;x=1", "/%2e%2e/x", "/a%2Fb", "/?q=//evil.test", "/a//b/"}
	for _, path := range paths {
		answer := l.sayOn(l.tunnel("good.test:443", "good.test"), "GET "+path+" HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n")
		if status := statusOf(answer); status != "200 OK" && status != "301 Moved Permanently" {
			t.Errorf("%s: got %q", path, answer)
		}
	}
	var got []string
	for _, r := range l.upstream.requests() {
		got = append(got, r.RequestURI)
		if r.Host != "good.test" {
			t.Errorf("%s went to %s", r.RequestURI, r.Host)
		}
	}
	if !slices.Equal(got, paths) {
		t.Errorf("the server saw %q, want %q", got, paths)
	}
}

// A tunnel's first bytes may come with the CONNECT, before its answer.
func TestBytesSentWithTheCONNECTAreNotLost(t *testing.T) {
	l := newLab(t, nil)
	answer := l.say(connectLine("plain.test:80") + "GET /early HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK") || !strings.HasSuffix(answer, "hello from plain.test/early ") {
		t.Errorf("got %q", answer)
	}
	l.only(2)
}

func TestManyParallelRequests(t *testing.T) {
	l := newLab(t, nil)
	client := l.client()
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			host, code := "good.test", 200
			if i%4 == 3 {
				host, code = "x.wild.test", 200
			}
			resp, err := client.Get(fmt.Sprintf("https://%s/%d", host, i))
			if err != nil {
				t.Errorf("request %d: %v", i, err)
				return
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != code || string(body) != fmt.Sprintf("hello from %s/%d ", host, i) {
				t.Errorf("request %d: %d %q", i, resp.StatusCode, body)
			}
		})
	}
	all.Wait()
	l.only(80)
}

// Who speaks another protocol waits for an answer, and so for as long as a head may take.
func TestOtherProtocolsAreToldAtOnce(t *testing.T) {
	rules := []policy.Rule{rule(t, policy.Allow, "plain.test", true, 80, 6379)}
	for name, said := range map[string]string{
		"redis": "*1\r\n$4\r\nPING\r\n", "its first byte": "*", "redis, by hand": "PING\r\n", "postgres": "\x00\x00\x00\x08\x04\xd2\x16/",
		"mqtt": "\x10\x0c\x00\x04MQTT", "ssh": "SSH-2.0-x\r\n", "a word without an end": strings.Repeat("a", maxMethod+1), "half a word": "PING\r",
		"no line that ends": "GET / HTTP", // this one may be HTTP: the time for a head ends it
	} {
		t.Run(name, func(t *testing.T) {
			patience, reason := time.Hour, "needs a rule with protocol = \"tcp\""
			if name == "no line that ends" {
				patience, reason = 50*time.Millisecond, "before a request's head was whole"
			}
			l := newLabOf(t, nil, rules, waiting(func(is *limits) { is.head = patience }))
			conn := l.connect("plain.test:6379")
			for _, b := range []byte(said) {
				if _, err := conn.Write([]byte{b}); err != nil {
					break // it is told already
				}
			}
			_, _ = io.Copy(io.Discard, conn)
			check(t, l.only(1), want{event.NetRefused, event.Deny, "plain.test", reason})
		})
	}
}
