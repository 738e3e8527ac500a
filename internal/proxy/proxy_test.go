package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/elazarl/goproxy"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func TestAllowedRequestThroughCONNECT(t *testing.T) {
	l := newLab(t, nil)
	resp, err := l.client().Post("https://good.test/a%2Fb?q=secret", "text/plain", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != 200 || string(body) != "hello from good.test/a/b body" {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	events := l.only(2)
	check(t, events, want{event.NetRequest, event.Allow, "good.test", "allows"}, want{event.NetResponse, "", "good.test", ""})
	if e := events[0]; e.Method != "POST" || e.Path != "/a%2Fb" || e.Port != 443 || e.Via != "proxy" || e.Rule != "test.toml:1" {
		t.Errorf("request event %+v", e)
	}
	if e := events[1]; e.Status != 200 || e.BytesUp != 4 || e.BytesDown != int64(len(body)) || e.Via != "proxy" {
		t.Errorf("response event %+v", e)
	}
	if seen := l.upstream.requests(); len(seen) != 1 || seen[0].RequestURI != "/a%2Fb?q=secret" {
		t.Errorf("upstream saw %+v", seen)
	}
}

func TestDirectConnectionIsTheSame(t *testing.T) {
	l := newLab(t, nil)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: l.roots}, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			name, port, _ := net.SplitHostPort(addr)
			listener := map[string]string{"443": l.direct, "80": l.direct80}[port]
			var d net.Dialer
			return d.DialContext(ctx, "tcp", l.synthetic(name, listener))
		}}
	client := &http.Client{Transport: transport}
	if resp, body := get(t, client, "https://good.test/x"); resp.StatusCode != 200 || body != "hello from good.test/x " {
		t.Errorf("https: got %d %q", resp.StatusCode, body)
	}
	if resp, body := get(t, client, "http://plain.test/y"); resp.StatusCode != 200 || body != "hello from plain.test/y " {
		t.Errorf("http: got %d %q", resp.StatusCode, body)
	}
	if resp, body := get(t, client, "https://evil.test/z"); resp.StatusCode != 403 || !strings.Contains(body, "no rule allows evil.test") {
		t.Errorf("denied: got %d %q", resp.StatusCode, body)
	}
	events := l.only(5)
	for _, e := range events {
		if e.Via != "direct" {
			t.Errorf("via of %+v", e)
		}
	}
	if e := events[4]; e.Kind != event.NetRequest || e.Decision != event.Deny || e.Host != "evil.test" || e.Port != 443 {
		t.Errorf("denied event %+v", e)
	}
}

func TestPlainRequestThroughProxy(t *testing.T) {
	l := newLab(t, nil)
	if resp, body := get(t, l.client(), "http://plain.test/x"); resp.StatusCode != 200 || body != "hello from plain.test/x " {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	if resp, _ := get(t, l.client(), "http://evil.test/x"); resp.StatusCode != 403 || resp.Header.Get("X-Agentbox") != "denied" {
		t.Errorf("denied: got %d %v", resp.StatusCode, resp.Header)
	}
	check(t, l.only(3), want{event.NetRequest, event.Allow, "plain.test", ""}, want{event.NetResponse, "", "plain.test", ""},
		want{event.NetRequest, event.Deny, "evil.test", "no rule"})
}

func TestPlainHTTPInATunnelIsInspected(t *testing.T) {
	l := newLab(t, nil)
	conn := l.connect("plain.test:80")
	answer := l.sayOn(conn, "GET /t HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n\r\n")
	if statusOf(answer) != "200 OK" || !strings.HasSuffix(answer, "hello from plain.test/t ") {
		t.Errorf("got %q", answer)
	}
	check(t, l.only(2), want{event.NetRequest, event.Allow, "plain.test", ""}, want{event.NetResponse, "", "plain.test", ""})
}

func TestRefusedCONNECTSaysWhy(t *testing.T) {
	l := newLab(t, nil)
	answer := l.say("CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), &http.Request{Method: http.MethodGet})
	if err != nil {
		t.Fatal(err)
	}
	var body map[string]string
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 403 || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("X-Agentbox") != "denied" {
		t.Errorf("got %s %v", resp.Status, resp.Header)
	}
	if body["error"] != "denied by agentbox" || body["host"] != "evil.test" || body["reason"] != "no rule allows evil.test and the default is to deny" || body["what to do"] == "" {
		t.Errorf("got %v", body)
	}
	events := l.only(1)
	check(t, events, want{event.NetRequest, event.Deny, "evil.test", "no rule"})
	if e := events[0]; e.Method != "CONNECT" || e.Port != 443 || e.Rule != "default" {
		t.Errorf("event %+v", e)
	}
}

func TestCanaryIsRefusedWithoutEvent(t *testing.T) {
	l := newLab(t, nil)
	if answer := l.say("CONNECT canary.agentbox:443 HTTP/1.1\r\nHost: canary.agentbox:443\r\n\r\n"); statusOf(answer) != "403 Forbidden" {
		t.Errorf("got %q", answer)
	}
	l.only(0)
}

func TestManyRequestsOnOneTunnelAreJudgedEach(t *testing.T) {
	l := newLab(t, nil)
	client := l.client()
	for i := range 3 {
		if resp, _ := get(t, client, fmt.Sprintf("https://good.test/%d", i)); resp.StatusCode != 200 {
			t.Errorf("request %d: %d", i, resp.StatusCode)
		}
	}
	events := l.only(6)
	for i, e := range events {
		if kind := []event.Kind{event.NetRequest, event.NetResponse}[i%2]; e.Kind != kind || e.Path != fmt.Sprintf("/%d", i/2) {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

func TestSplicedTunnelIsOneEvent(t *testing.T) {
	l := newLab(t, nil)
	pool := x509.NewCertPool()
	pool.AddCert(l.authority.cert) // the server's own certificate is seen
	l.roots = pool
	conn := l.tunnel("spliced.test:443", "spliced.test")
	answer := l.sayOn(conn, "GET /s HTTP/1.1\r\nHost: anything.test\r\nConnection: close\r\n\r\n")
	if statusOf(answer) != "200 OK" || !strings.HasSuffix(answer, "hello from anything.test/s ") {
		t.Errorf("got %q", answer)
	}
	_ = conn.Close()
	events := l.only(2)
	check(t, events, want{event.NetRequest, event.Allow, "spliced.test", ""}, want{event.NetResponse, "", "spliced.test", ""})
	if e := events[1]; e.BytesUp == 0 || e.BytesDown == 0 || e.Method != "" {
		t.Errorf("response event %+v", e)
	}
}

func TestStreamIsNotHeldBack(t *testing.T) {
	for _, contentType := range []string{"text/event-stream", "application/x-ndjson"} {
		t.Run(contentType, func(t *testing.T) {
			next := make(chan string)
			l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", contentType)
				w.WriteHeader(200)
				w.(http.Flusher).Flush()
				for line := range next {
					_, _ = io.WriteString(w, line)
					w.(http.Flusher).Flush()
				}
			}))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "GET", "https://good.test/stream", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := l.client().Do(req) // returns before the first event is written
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			lines := bufio.NewReader(resp.Body)
			for _, line := range []string{"one\n", "two\n", "three\n"} {
				next <- line
				if got, err := lines.ReadString('\n'); err != nil || got != line {
					t.Fatalf("got %q, %v, want %q", got, err, line)
				}
			}
			close(next)
			if _, err := lines.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("after the end: %v", err)
			}
			if e := l.only(2)[1]; e.BytesDown != 14 {
				t.Errorf("response event %+v", e)
			}
		})
	}
}

func TestBodiesPassUnchangedAndUnbuffered(t *testing.T) {
	const size = 32 << 20
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", r.Header.Get("Content-Length"))
		_, _ = io.Copy(w, r.Body)
	}))
	body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	req, err := http.NewRequest("PUT", "https://good.test/big", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip, br")
	resp, err := l.client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !bytes.Equal(got, body) || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("got %d bytes, %v, %v", len(got), err, resp.Header)
	}
	if seen := l.upstream.requests(); seen[0].Header.Get("Accept-Encoding") != "gzip, br" {
		t.Errorf("upstream saw %v", seen[0].Header)
	}
	if e := l.only(2)[1]; e.BytesUp != size || e.BytesDown != size {
		t.Errorf("response event %+v", e)
	}
}

func TestBrokenOffAnswerIsSeenAsBrokenOff(t *testing.T) {
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "part of it")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	resp, err := l.client().Get("https://good.test/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a broken-off answer ended well: %q", body)
	}
	check(t, l.only(2), want{event.NetRequest, event.Allow, "good.test", ""}, want{event.NetResponse, "", "good.test", ""})
}

func TestHeadersForOneHopStayHere(t *testing.T) {
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Proxy-Authenticate", "Basic")
		w.Header().Set("Keep-Alive", "timeout=1")
		w.Header().Set("X-Kept", "yes")
	}))
	conn := l.tunnel("good.test:443", "good.test")
	answer := l.sayOn(conn, "GET / HTTP/1.1\r\nHost: GOOD.test.:443\r\nProxy-Authorization: Basic eDp5\r\nProxy-Connection: keep-alive\r\nProxy-Anything: x\r\n"+
		"Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nTE: trailers, gzip\r\nUpgrade: h2c\r\nVia: 1.1 mine\r\nX-Kept: 1\r\n\r\n")
	if statusOf(answer) != "200 OK" || strings.Contains(answer, "Proxy-Authenticate") || strings.Contains(answer, "Keep-Alive:") || !strings.Contains(answer, "X-Kept: yes") {
		t.Errorf("got %q", answer)
	}
	seen := l.upstream.requests()
	if len(seen) != 1 || seen[0].Host != "good.test" {
		t.Fatalf("upstream saw %+v", seen)
	}
	h := seen[0].Header
	for _, name := range []string{"Proxy-Authorization", "Proxy-Connection", "Proxy-Anything", "X-Hop", "Keep-Alive", "Upgrade", "X-Forwarded-For", "User-Agent", "Accept-Encoding"} {
		if v, ok := h[name]; ok {
			t.Errorf("upstream saw %s: %q", name, v)
		}
	}
	if h.Get("Via") != "1.1 mine" || h.Get("X-Kept") != "1" || h.Get("Te") != "trailers" {
		t.Errorf("upstream saw %v", h)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://evil.test/stolen", http.StatusTemporaryRedirect)
	}))
	resp, _ := get(t, l.client(), "https://good.test/")
	if resp.StatusCode != 307 || resp.Header.Get("Location") != "https://evil.test/stolen" || l.upstream.connections() != 1 || len(l.upstream.requests()) != 1 {
		t.Errorf("got %d %v, %d connections", resp.StatusCode, resp.Header, l.upstream.connections())
	}
}

// echoUpgrade answers a WebSocket handshake and then echoes bytes.
func echoUpgrade(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "websocket" {
		w.WriteHeader(http.StatusUpgradeRequired)
		return
	}
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
	_, _ = io.Copy(conn, rw)
}

func TestWebSocket(t *testing.T) {
	for _, via := range []string{"https", "http"} {
		t.Run(via, func(t *testing.T) {
			l := newLab(t, http.HandlerFunc(echoUpgrade))
			host, conn := "plain.test", l.dial(l.addr)
			target := "http://plain.test/ws"
			if via == "https" {
				host, conn, target = "good.test", l.tunnel("good.test:443", "good.test"), "/ws"
			}
			// The first frame comes with the handshake, before any answer.
			if _, err := io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n\r\nearly"); err != nil {
				t.Fatal(err)
			}
			br := bufio.NewReader(conn)
			resp, err := http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-Websocket-Accept") != "x" {
				t.Fatalf("got %+v, %v", resp, err)
			}
			if _, err := io.WriteString(conn, " and later"); err != nil {
				t.Fatal(err)
			}
			echo := make([]byte, len("early and later"))
			if _, err := io.ReadFull(br, echo); err != nil || string(echo) != "early and later" {
				t.Fatalf("echo %q, %v", echo, err)
			}
			_ = conn.Close()
			events := l.only(2)
			check(t, events, want{event.NetRequest, event.Allow, host, ""}, want{event.NetResponse, "", host, ""})
			if e := events[1]; e.Status != 101 || e.BytesUp != 15 || e.BytesDown != 15 {
				t.Errorf("response event %+v", e)
			}
		})
	}
}

func TestRefusedUpgradeEndsTheConnection(t *testing.T) {
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	conn := l.tunnel("good.test:443", "good.test")
	answer := l.sayOn(conn, "GET /ws HTTP/1.1\r\nHost: good.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+
		"GET /second HTTP/1.1\r\nHost: good.test\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 418") || strings.Count(answer, "HTTP/1.1 ") != 1 || len(l.upstream.requests()) != 1 {
		t.Errorf("got %q, upstream saw %d requests", answer, len(l.upstream.requests()))
	}
}

func TestUpstreamOverHTTP2(t *testing.T) {
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	server := l.upstream.server
	server.Close()
	fresh := newUpstreamH2(t, l.authority)
	p, err := New(Config{CA: l.ca, Gate: l.raw, Events: l.gate, ExtraRoots: l.authority.pem(), Fixed: map[policy.Host]string{mustHost(t, "good.test"): fresh}})
	if err != nil {
		t.Fatal(err)
	}
	_ = l.proxy.Close()
	l.proxy = p
	l.serve()
	if resp, body := get(t, l.client(), "https://good.test/"); resp.StatusCode != 200 || body != "HTTP/2.0" || resp.Proto != "HTTP/1.1" {
		t.Errorf("got %d %q over %s", resp.StatusCode, body, resp.Proto)
	}
}

func newUpstreamH2(t *testing.T, a *authority) string {
	t.Helper()
	li, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{NextProtos: []string{"h2"}, Certificates: []tls.Certificate{a.issue(t, time.Now().Add(time.Hour), "good.test")}})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(li)
	}()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return li.Addr().String()
}

// No certificate that an agent sees, by whatever way, is signed by goproxy's public key.
func TestOnlyTheRunsOwnCASigns(t *testing.T) {
	l := newLab(t, nil)
	public := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(goproxy.GoproxyCa.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	public.AddCert(parsed)
	conns := map[string]net.Conn{"CONNECT": l.connect("good.test:443"), "direct": l.dial(l.synthetic("good.test", l.direct)), "denied direct": l.dial(l.synthetic("evil.test", l.direct))}
	for way, conn := range conns {
		name := "good.test"
		if way == "denied direct" {
			name = "evil.test"
		}
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		if err := secure.HandshakeContext(t.Context()); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		cert := secure.ConnectionState().PeerCertificates[0]
		if _, err := cert.Verify(x509.VerifyOptions{DNSName: name, Roots: public}); err == nil {
			t.Errorf("%s: goproxy's CA signed", way)
		}
		if _, err := cert.Verify(x509.VerifyOptions{DNSName: name, Roots: l.roots}); err != nil {
			t.Errorf("%s: the run's CA did not sign: %v", way, err)
		}
	}
	for _, authority := range []string{"good.test:443", "evil.test:443", "", "x", "canary.agentbox:443"} {
		action, _ := l.proxy.onConnect(authority, &goproxy.ProxyCtx{Req: (&http.Request{}).WithContext(t.Context())})
		if action == nil || action.Action != goproxy.ConnectHijack && action.Action != goproxy.ConnectReject {
			t.Fatalf("CONNECT %q leaves it to goproxy: %+v", authority, action)
		}
		if _, err := action.TLSConfig("good.test", nil); err == nil {
			t.Errorf("CONNECT %q has a TLS configuration of goproxy's", authority)
		}
	}
}

func TestGoproxyDefaultsAreSet(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("https_proxy", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	l := newLab(t, nil)
	e := l.proxy.engine
	if e.Tr != l.proxy.transport || e.Tr.Proxy != nil || e.Tr.TLSClientConfig.InsecureSkipVerify || e.Tr.TLSClientConfig.RootCAs == nil {
		t.Errorf("transport %+v", e.Tr)
	}
	if e.Verbose || e.AllowHTTP2 || e.KeepHeader || !e.KeepAcceptEncoding || e.PreventCanonicalization || e.KeepDestinationHeaders {
		t.Errorf("engine %+v", e)
	}
	if _, err := e.ConnectDial("tcp", "good.test:443"); !errors.Is(err, errNoTunnel) {
		t.Errorf("ConnectDial: %v", err)
	}
	if _, err := e.ConnectDialWithReq(nil, "tcp", "good.test:443"); !errors.Is(err, errNoTunnel) {
		t.Errorf("ConnectDialWithReq: %v", err)
	}
	if resp, _ := get(t, l.client(), "https://good.test/"); resp.StatusCode != 200 {
		t.Errorf("with proxies in the environment: %d", resp.StatusCode)
	}
	if resp, _ := get(t, l.client(), "http://plain.test/"); resp.StatusCode != 200 {
		t.Errorf("with proxies in the environment, plain: %d", resp.StatusCode)
	}
}

func TestLeafStoreIsBoundedAndMakesEachOnce(t *testing.T) {
	ca, err := NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	host := mustHost(t, "good.test")
	certs := make([]*tls.Certificate, 16)
	var all sync.WaitGroup
	for i := range certs {
		all.Go(func() { certs[i], _ = ca.leafFor(host) })
	}
	all.Wait()
	for _, cert := range certs {
		if cert == nil || cert != certs[0] {
			t.Fatal("one host has several certificates")
		}
	}
	for i := range maxLeaves + 50 {
		ca.entry(mustHost(t, fmt.Sprintf("h%d.test", i)))
		ca.entry(host)
	}
	if len(ca.leaves) != maxLeaves || ca.recent.Len() != maxLeaves {
		t.Errorf("%d and %d leaves are kept, want %d", len(ca.leaves), ca.recent.Len(), maxLeaves)
	}
	if again, _ := ca.leafFor(host); again != certs[0] {
		t.Error("the most used leaf was thrown away")
	}
	if strings.Contains(string(ca.PEM()), "PRIVATE") {
		t.Error("the key is in the PEM")
	}
}

func TestLogFailureStopsEverything(t *testing.T) {
	l := newLab(t, nil)
	l.log.fail(errors.New("no space left on device"))
	resp, body := get(t, l.client(), "https://good.test/")
	if resp.StatusCode != 503 || !strings.Contains(body, "event log") {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	<-l.gate.Failed()
	l.log.fail(nil)
	if resp, _ := get(t, l.client(), "https://good.test/"); resp.StatusCode != 503 {
		t.Errorf("after the log recovered: %d", resp.StatusCode)
	}
	if n := l.upstream.connections(); n != 0 {
		t.Errorf("%d connections reached the server", n)
	}
}

type swap struct {
	err   error
	panic bool
}

func (s swap) Inject(_ context.Context, req *http.Request, host policy.Host, overTLS bool) (string, error) {
	if s.panic {
		panic("injector")
	}
	if s.err != nil {
		return "key", s.err
	}
	if !overTLS || req.Header.Get("Authorization") != "Bearer placeholder" || host.String() != "good.test" || req.URL.Host != "good.test" {
		return "", nil
	}
	req.Header.Set("Authorization", "Bearer real")
	return "key", nil
}

func TestInjector(t *testing.T) {
	l := newLab(t, http.HandlerFunc(echoUpgrade), func(c *Config) { c.Injector = swap{} })
	conn := l.tunnel("good.test:443", "good.test")
	if answer := l.sayOn(conn, "GET /a HTTP/1.1\r\nHost: good.test\r\nAuthorization: Bearer placeholder\r\nConnection: close\r\n\r\n"); statusOf(answer) != "426 Upgrade Required" {
		t.Errorf("got %q", answer)
	}
	ws := l.tunnel("good.test:443", "good.test")
	if _, err := io.WriteString(ws, "GET /ws HTTP/1.1\r\nHost: good.test\r\nAuthorization: Bearer placeholder\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(bufio.NewReader(ws), nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("got %+v, %v", resp, err)
	}
	_ = ws.Close()
	get(t, l.client(), "http://plain.test/")
	seen := l.upstream.requests()
	if len(seen) != 3 || seen[0].Header.Get("Authorization") != "Bearer real" || seen[1].Header.Get("Authorization") != "Bearer real" {
		t.Errorf("upstream saw %+v", seen)
	}
	uses := 0
	for _, e := range l.only(8) {
		if e.Kind == event.CredentialUse {
			uses++
			if e.Credential != "key" || e.Host != "good.test" || strings.Contains(fmt.Sprintf("%+v", e), "real") {
				t.Errorf("event %+v", e)
			}
		}
	}
	if uses != 2 {
		t.Errorf("%d uses were recorded", uses)
	}
}

func TestInjectorRefuses(t *testing.T) {
	l := newLab(t, nil, func(c *Config) { c.Injector = swap{err: errors.New("the placeholder was sent where it may not go")} })
	resp, body := get(t, l.client(), "https://good.test/")
	if resp.StatusCode != 403 || !strings.Contains(body, "where it may not go") || l.upstream.connections() != 0 {
		t.Errorf("got %d %q, %d connections", resp.StatusCode, body, l.upstream.connections())
	}
	events := l.only(3)
	check(t, events, want{event.NetRequest, event.Allow, "good.test", ""}, want{event.CredentialRefused, event.Deny, "good.test", "where it may not go"},
		want{event.NetResponse, "", "good.test", "where it may not go"})
	if events[1].Credential != "key" || events[2].Status != 403 {
		t.Errorf("events %+v", events)
	}
}

func TestPanicEndsOneConnectionOnly(t *testing.T) {
	l := newLab(t, nil, func(c *Config) { c.Injector = swap{panic: true} })
	if resp, err := l.client().Get("https://good.test/"); err == nil {
		t.Errorf("got %d", resp.StatusCode)
	}
	if answer := l.say("CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n"); statusOf(answer) != "403 Forbidden" {
		t.Errorf("afterwards: %q", answer)
	}
	found := false
	for _, e := range l.only(4) {
		found = found || e.Kind == event.NetRefused && strings.Contains(e.Reason, "agentbox failed")
	}
	if !found {
		t.Error("the panic left no event")
	}
	if l.upstream.connections() != 0 {
		t.Error("the request was forwarded")
	}
}

func TestCloseEndsStreamsAndWaits(t *testing.T) {
	l := newLab(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	resp, err := l.client().Get("https://good.test/forever")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	idle := l.connect("good.test:443")
	if err := l.proxy.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the stream ended as if it were whole")
	}
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("the idle tunnel is open")
	}
	if err := l.proxy.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if conn, err := net.Dial("tcp", l.addr); err == nil {
		_ = conn.Close()
		t.Error("the listener is open")
	}
}

func TestNewRefusesBadConfig(t *testing.T) {
	l := newLab(t, nil)
	good := Config{CA: l.ca, Gate: l.gate, Events: l.gate}
	for name, change := range map[string]func(*Config){
		"no CA": func(c *Config) { c.CA = nil }, "no gate": func(c *Config) { c.Gate = nil }, "no events": func(c *Config) { c.Events = nil },
		"roots":          func(c *Config) { c.ExtraRoots = []byte("not PEM") },
		"fixed name":     func(c *Config) { c.Fixed = map[policy.Host]string{mustHost(t, "good.test"): "localhost:1"} },
		"fixed no port":  func(c *Config) { c.Fixed = map[policy.Host]string{mustHost(t, "good.test"): "127.0.0.1"} },
		"fixed port nil": func(c *Config) { c.Fixed = map[policy.Host]string{mustHost(t, "good.test"): "127.0.0.1:0"} },
	} {
		config := good
		change(&config)
		if p, err := New(config); err == nil {
			_ = p.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

// curl is a real client that was written by others.
func TestCurl(t *testing.T) {
	l := newLab(t, nil)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, l.ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "curl", append([]string{"-sS", "--max-time", "20", "--cacert", bundle}, args...)...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	proxied := (&url.URL{Scheme: "http", Host: l.addr}).String()
	if out, err := run("-x", proxied, "https://good.test/c", "-d", "data"); err != nil || out != "hello from good.test/c data" {
		t.Errorf("by proxy: %q, %v", out, err)
	}
	if out, err := run("-x", proxied, "http://plain.test:80/c"); err != nil || out != "hello from plain.test:80/c " && out != "hello from plain.test/c " {
		t.Errorf("plain by proxy: %q, %v", out, err)
	}
	if out, err := run("-x", proxied, "https://evil.test/"); err == nil || !strings.Contains(out, "403") {
		t.Errorf("denied by proxy: %q, %v", out, err)
	}
	to := func(name, listener string, port int) string {
		addr := l.synthetic(name, listener)
		return fmt.Sprintf("%s:%d:%s", name, port, addr)
	}
	if out, err := run("--noproxy", "*", "--connect-to", to("good.test", l.direct, 443), "https://good.test/d"); err != nil || out != "hello from good.test/d " {
		t.Errorf("direct: %q, %v", out, err)
	}
	if out, err := run("--noproxy", "*", "--connect-to", to("plain.test", l.direct80, 80), "http://plain.test/d"); err != nil || out != "hello from plain.test/d " {
		t.Errorf("direct plain: %q, %v", out, err)
	}
	if out, err := run("--noproxy", "*", "--connect-to", to("evil.test", l.direct, 443), "https://evil.test/d"); err != nil || !strings.Contains(out, "denied by agentbox") {
		t.Errorf("denied direct: %q, %v", out, err)
	}
	l.only(10)
}
