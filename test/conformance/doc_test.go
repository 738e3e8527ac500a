// Package conformance holds the proxy against public suites: h2spec for the HTTP/2 that it offers inside, and the cases
// of Autobahn's WebSocket suite, of which a proxy has to pass every byte on as it is.
package conformance

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/gate"
	"agentbox/internal/policy"
	"agentbox/internal/proxy"
)

// name is the server's, and stands in httptest's certificate.
const name = "example.com"

// recorder is an event log in memory that can be waited on.
type recorder struct {
	mu     sync.Mutex
	events []event.Event
	more   chan struct{}
}

func (r *recorder) Emit(e event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	close(r.more)
	r.more = make(chan struct{})
	return nil
}

// next waits for an event of a kind on a path, and takes it out.
func (r *recorder) next(t *testing.T, kind event.Kind, path string) event.Event {
	t.Helper()
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	for {
		r.mu.Lock()
		more := r.more
		for i, e := range r.events {
			if e.Kind == kind && e.Path == path {
				r.events = append(r.events[:i:i], r.events[i+1:]...)
				r.mu.Unlock()
				return e
			}
		}
		r.mu.Unlock()
		select {
		case <-more:
		case <-patience.C:
			t.Fatalf("no event of kind %s on %s", kind, path)
		}
	}
}

// lab is a proxy before a TLS server and a plain one.
type lab struct {
	log           *recorder
	secure, plain *httptest.Server
	addr          string // of the explicit proxy
	direct        string // of a listener for the name's port of the same number
	roots         *x509.CertPool
}

func newLab(t *testing.T, handler http.Handler) *lab {
	t.Helper()
	l := &lab{log: &recorder{more: make(chan struct{})}, roots: x509.NewCertPool()}
	l.secure, l.plain = httptest.NewUnstartedServer(handler), httptest.NewUnstartedServer(handler)
	l.secure.EnableHTTP2 = true
	for _, s := range []*httptest.Server{l.secure, l.plain} {
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
	}
	l.secure.StartTLS()
	l.plain.Start()
	t.Cleanup(l.secure.Close)
	t.Cleanup(l.plain.Close)
	l.serve(t)
	return l
}

func (l *lab) serve(t *testing.T) {
	t.Helper()
	straight, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	explicit, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	l.addr, l.direct = explicit.Addr().String(), straight.Addr().String()
	port := netip.MustParseAddrPort(l.direct).Port()
	host, err := policy.ParseHost(name)
	must(t, err)
	plain, err := policy.ParseHost("plain." + name)
	must(t, err)
	ca, err := proxy.NewCA(time.Now())
	must(t, err)
	l.roots.AppendCertsFromPEM(ca.PEM())
	judge := gate.New(policy.Set{Default: policy.Deny, Rules: []policy.Rule{
		{Action: policy.Allow, Host: pattern(t, name), Ports: []uint16{443, port}, Inspect: true},
		{Action: policy.Allow, Host: pattern(t, "plain."+name), Ports: []uint16{80}, Inspect: true},
	}}, l.log)
	p, err := proxy.New(proxy.Config{
		CA: ca, Gate: judge, Events: judge, ExtraRoots: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.secure.Certificate().Raw}),
		Fixed: map[policy.Host]string{host: l.secure.Listener.Addr().String(), plain: l.plain.Listener.Addr().String()},
	})
	must(t, err)
	served := make(chan error, 2)
	go func() { served <- p.ServeProxy(explicit) }()
	go func() {
		served <- p.ServeDirect(straight, port, func(netip.Addr) (policy.Host, bool) { return host, true })
	}()
	t.Cleanup(func() {
		must(t, p.Close())
		must(t, <-served)
		must(t, <-served)
	})
}

func pattern(t *testing.T, text string) policy.Pattern {
	t.Helper()
	p, err := policy.ParsePattern(text)
	must(t, err)
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dial opens a tunnel to authority, with TLS in it where it leads to port 443.
func (l *lab) dial(t *testing.T, authority string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp4", l.addr)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(5*time.Minute)))
	_, err = io.WriteString(conn, "CONNECT "+authority+" HTTP/1.1\r\nHost: "+authority+"\r\n\r\n")
	must(t, err)
	if head := readHead(t, conn); head.StatusCode != http.StatusOK {
		t.Fatalf("CONNECT %s: %s", authority, head.Status)
	}
	if _, port, _ := net.SplitHostPort(authority); port != "443" {
		return conn
	}
	secure := tls.Client(conn, &tls.Config{RootCAs: l.roots, ServerName: name, NextProtos: []string{"http/1.1"}})
	must(t, secure.HandshakeContext(t.Context()))
	return secure
}
