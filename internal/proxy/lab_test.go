package proxy

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/gate"
	"agentbox/internal/policy"
)

// recorder is an event log in memory that can be waited on.
type recorder struct {
	mu     sync.Mutex
	events []event.Event
	err    error
	more   chan struct{}
}

func newRecorder() *recorder { return &recorder{more: make(chan struct{})} }

func (r *recorder) Emit(e event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	r.events = append(r.events, e)
	close(r.more)
	r.more = make(chan struct{})
	return nil
}

func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *recorder) look() ([]event.Event, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events), r.more
}

// await gives all events once n are there.
func (r *recorder) await(t testing.TB, n int) []event.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		events, more := r.look()
		if len(events) >= n {
			return events
		}
		select {
		case <-more:
		case <-ctx.Done():
			t.Fatalf("%d events came, want %d: %+v", len(events), n, events)
		}
	}
}

// only gives the events after everything has ended, so that none can be missed: it closes the proxy.
func (l *lab) only(n int) []event.Event {
	l.t.Helper()
	l.log.await(l.t, n)
	if err := l.proxy.Close(); err != nil {
		l.t.Errorf("closing the proxy: %v", err)
	}
	events, _ := l.log.look()
	if len(events) != n {
		l.t.Errorf("%d events, want %d: %+v", len(events), n, events)
	}
	return events
}

// authority signs certificates of test servers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) issue(t testing.TB, notAfter time.Time, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: names, NotBefore: notAfter.Add(-2 * time.Hour), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// lab is a proxy before real servers on loopback: good.test:443, plain.test:80, spliced.test:443 (not inspected).
type lab struct {
	t         testing.TB
	log       *recorder
	gate      *gate.Gate
	raw       rawOnly // what the proxy is given as its gate
	proxy     *Proxy
	ca        *CA
	roots     *x509.CertPool // trusts the run's CA alone
	authority *authority
	addr      string // of the explicit proxy
	direct    string // of the direct listener for port 443
	direct80  string
	names     map[string]policy.Host // local address → name, for direct connections
	upstream  *upstream
}

// upstream is a real server that remembers what reached it.
type upstream struct {
	server *httptest.Server
	plain  *httptest.Server

	mu    sync.Mutex
	seen  []*http.Request
	conns int
}

func (u *upstream) requests() []*http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.seen)
}

func (u *upstream) connections() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.conns
}

func newUpstream(t testing.TB, a *authority, handler http.Handler) *upstream {
	t.Helper()
	u := &upstream{}
	if handler == nil {
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			_, _ = io.WriteString(w, "hello from "+r.Host+r.URL.Path+" "+string(body))
		})
	}
	recording := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.seen = append(u.seen, r.Clone(context.WithoutCancel(r.Context())))
		u.mu.Unlock()
		handler.ServeHTTP(w, r)
	})
	count := func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			u.mu.Lock()
			u.conns++
			u.mu.Unlock()
		}
	}
	u.server = httptest.NewUnstartedServer(recording)
	u.server.TLS = &tls.Config{Certificates: []tls.Certificate{a.issue(t, time.Now().Add(time.Hour), "good.test", "*.wild.test", "spliced.test", "pinned.wild.test")}}
	u.server.Config.ConnState = count
	u.server.Config.ErrorLog = quiet()
	u.server.StartTLS()
	t.Cleanup(u.server.Close)
	u.plain = httptest.NewUnstartedServer(recording)
	u.plain.Config.ConnState = count
	u.plain.Start()
	t.Cleanup(u.plain.Close)
	return u
}

func mustHost(t testing.TB, name string) policy.Host {
	t.Helper()
	h, err := policy.ParseHost(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func rule(t testing.TB, action policy.Action, name string, inspect bool, ports ...uint16) policy.Rule {
	t.Helper()
	pattern, err := policy.ParsePattern(name)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Rule{Action: action, Host: pattern, Ports: ports, Inspect: inspect, Origin: "test.toml:1"}
}

func portOf(t testing.TB, addr string) uint16 {
	t.Helper()
	parsed, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Port()
}

type option func(*Config)

// waiting changes how long things are waited for.
func waiting(change func(*limits)) option {
	return func(c *Config) {
		is := usualLimits()
		change(&is)
		c.limits = &is
	}
}

func newLab(t testing.TB, handler http.Handler, options ...option) *lab {
	t.Helper()
	return newLabOf(t, handler, nil, options...)
}

// newLabOf has rules of its own; nil is the usual ones.
func newLabOf(t testing.TB, handler http.Handler, rules []policy.Rule, options ...option) *lab {
	t.Helper()
	l := &lab{t: t, log: newRecorder(), authority: newAuthority(t), names: map[string]policy.Host{}}
	l.upstream = newUpstream(t, l.authority, handler)
	if rules == nil {
		rules = []policy.Rule{
			rule(t, policy.Allow, "good.test", true, 443), rule(t, policy.Allow, "plain.test", true, 80), rule(t, policy.Allow, "spliced.test", false, 443),
			rule(t, policy.Allow, "*.wild.test", true, 443, 8443), rule(t, policy.Deny, "bad.wild.test", true, 443),
			rule(t, policy.Allow, "rebind.test", true, portOf(t, l.upstream.plain.Listener.Addr().String())),
		}
	}
	l.gate = gate.New(policy.Set{Default: policy.Deny, Rules: rules}, l.log)
	asks := slices.ContainsFunc(rules, func(r policy.Rule) bool { return r.Action == policy.Ask })
	if !asks && l.gate.Close() != nil { // from then on refusals that are alike are recorded one by one; nobody is asked any more
		t.Fatal("closing the gate")
	}
	l.raw = rawOnly{Gate: l.gate, hosts: &sync.Map{}}
	ca, err := NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l.ca = ca
	l.roots = x509.NewCertPool()
	l.roots.AppendCertsFromPEM(ca.PEM())
	secure, plain := l.upstream.server.Listener.Addr().String(), l.upstream.plain.Listener.Addr().String()
	config := Config{CA: ca, Gate: l.raw, Events: l.gate, ExtraRoots: l.authority.pem(), Canary: "canary.agentbox:443", Fixed: map[policy.Host]string{
		mustHost(t, "good.test"): secure, mustHost(t, "x.wild.test"): secure, mustHost(t, "spliced.test"): secure, mustHost(t, "plain.test"): plain,
		mustHost(t, "evil.test"): secure, mustHost(t, "bad.wild.test"): secure,
	}, Resolver: noNames{t}}
	for _, o := range options {
		o(&config)
	}
	if l.proxy, err = New(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.proxy.Close() })
	l.serve()
	return l
}

// rawOnly is a gate that has an answer of its own to whether connections may be passed on as they are: the action of
// the host, and to deny for all others.
type rawOnly struct {
	Gate
	hosts *sync.Map // of policy.Action, by name
}

func (g rawOnly) Decide(r policy.Request) policy.Decision {
	if r.Scheme != policy.TCP {
		return g.Gate.Decide(r)
	}
	if action, ok := g.hosts.Load(r.Host.String()); ok {
		return policy.Decision{Action: action.(policy.Action), Rule: "test.toml:9"}
	}
	return policy.Denied("default", "no rule allows that")
}

func (g rawOnly) Check(ctx context.Context, r policy.Request) (policy.Decision, error) {
	if action, _ := g.hosts.Load(r.Host.String()); r.Scheme != policy.TCP || action != policy.Allow {
		return g.Gate.Check(ctx, r)
	}
	e := event.Event{Kind: event.NetRequest, Decision: event.Allow, Host: r.Host.String(), Port: r.Port, Via: r.Via}
	return policy.Decision{Action: policy.Allow, Rule: "test.toml:9"}, g.Gate.(event.Sink).Emit(e)
}

// noNames is a resolver that must not be asked.
type noNames struct{ t testing.TB }

func (n noNames) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.t.Errorf("%s was looked up", host)
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (l *lab) serve() {
	p := l.proxy // a test may put another in its place while this one still serves
	l.addr = l.listen("127.0.0.1:0", p.ServeProxy)
	lookup := func(addr netip.Addr) (policy.Host, bool) {
		h, ok := l.names[addr.String()]
		return h, ok
	}
	for i, name := range []string{"good.test", "plain.test", "spliced.test", "x.wild.test", "evil.test"} {
		l.names[netip.AddrFrom4([4]byte{127, 64, 0, byte(i + 2)}).String()] = mustHost(l.t, name)
	}
	l.direct = l.listen("0.0.0.0:0", func(li net.Listener) error { return p.ServeDirect(li, 443, lookup) })
	l.direct80 = l.listen("0.0.0.0:0", func(li net.Listener) error { return p.ServeDirect(li, 80, lookup) })
}

func (l *lab) listen(addr string, serve func(net.Listener) error) string {
	l.t.Helper()
	li, err := net.Listen("tcp4", addr)
	if err != nil {
		l.t.Fatal(err)
	}
	done := make(chan error, 1)
	p := l.proxy
	go func() { done <- serve(li) }()
	l.t.Cleanup(func() {
		_ = p.Close()
		if err := <-done; err != nil {
			l.t.Errorf("serving: %v", err)
		}
	})
	return li.Addr().String()
}

// synthetic is the address to dial for a name without the proxy.
func (l *lab) synthetic(name, listener string) string {
	l.t.Helper()
	_, port, err := net.SplitHostPort(listener)
	if err != nil {
		l.t.Fatal(err)
	}
	for addr, host := range l.names {
		if host.String() == name {
			return net.JoinHostPort(addr, port)
		}
	}
	l.t.Fatalf("no synthetic address for %s", name)
	return ""
}

// client goes through the proxy; it keeps no connection.
func (l *lab) client() *http.Client {
	transport := &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: l.addr}),
		TLSClientConfig: &tls.Config{RootCAs: l.roots},
	}
	l.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// dial opens a raw connection with a deadline for the whole test.
func (l *lab) dial(addr string) net.Conn {
	l.t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		l.t.Fatal(err)
	}
	return conn
}

// say sends raw bytes to the explicit proxy and gives all that comes back until the connection ends.
func (l *lab) say(raw string) string {
	l.t.Helper()
	return l.sayOn(l.dial(l.addr), raw)
}

func (l *lab) sayOn(conn net.Conn, raw string) string {
	l.t.Helper()
	if _, err := io.WriteString(conn, raw); err != nil {
		return ""
	}
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

// connect opens a tunnel and gives the connection after the 200.
func (l *lab) connect(authority string) net.Conn {
	l.t.Helper()
	conn := l.dial(l.addr)
	if _, err := io.WriteString(conn, "CONNECT "+authority+" HTTP/1.1\r\nHost: "+authority+"\r\n\r\n"); err != nil {
		l.t.Fatal(err)
	}
	br := bufio.NewReader(&dribble{conn, 1}) // what the server says first is left where it is
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		l.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		l.t.Fatalf("CONNECT %s answered %s", authority, resp.Status)
	}
	return conn
}

// tunnel opens a tunnel with TLS in it.
func (l *lab) tunnel(authority, sni string) *tls.Conn {
	l.t.Helper()
	conn := tls.Client(l.connect(authority), &tls.Config{RootCAs: l.roots, ServerName: sni})
	if err := conn.HandshakeContext(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	return conn
}

func statusOf(answer string) string {
	line, _, _ := strings.Cut(answer, "\r\n")
	_, status, _ := strings.Cut(line, " ")
	return status
}

func get(t testing.TB, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

type want struct {
	kind     event.Kind
	decision event.Decision
	host     string
	reason   string // a part of it
}

func check(t testing.TB, events []event.Event, wants ...want) {
	t.Helper()
	if len(events) != len(wants) {
		t.Fatalf("%d events, want %d: %+v", len(events), len(wants), events)
	}
	for i, w := range wants {
		e := events[i]
		if e.Kind != w.kind || e.Decision != w.decision || e.Host != w.host || !strings.Contains(e.Reason, w.reason) {
			t.Errorf("event %d\n got %+v\nwant %+v", i, e, w)
		}
	}
}
