// Package proxy is the one way out of a sandbox: it lets requests through that its gate allows, to hosts whose
// certificates it verified, at addresses it checked, and records each.
//
// goproxy dispatches what comes to the proxy's own port: CONNECT goes to onConnect, which always takes the connection
// over. Everything that goproxy would do by default is set in newEngine. Neither its loop for intercepted tunnels nor
// its way of forwarding is used: the loop bounds neither a head's size nor the time it takes, and both cost more than
// all else about a small request. Tunnels are opened here (CONNECT and connections that were made straight to a name's
// synthetic address alike), their TLS ends here, and their requests are read here, HTTP/1 by conn1 in one strict pass
// (parseHead), HTTP/2 by x/net/http2. Every request, however it came, is one exchange:
//
//	CONNECT ──┐              ┌─ TLS, SNI = name ─┬─► conn1 (HTTP/1) ─┐
//	          ├─► tunnel ────┤                   ├─► HTTP/2 streams ─┤                                   ┌─► swift: no body, HTTP/1
//	direct ───┘              ├─ plain ───────────┘                   ├─► exchange ─► gate ─► injector ───┼─► transport: everything else
//	http://… ────────────────│────────────► conn1 ───────────────────┘     ▲  ▼                          └─► plain2: HTTP/2 without TLS
//	                         │                                         limits on bodies
//	                         ├─ inspect = false: SNI = name ─► gate ─┐
//	                         └─ protocol = "tcp": unread ────► gate ─┴─► relay, copied as it is
//
// Nothing is held back for more to come; an answer whose head is there waits for its body for lateAfter at the most.
// While a request waits (for a person, for a server), its client is watched, and takes the request with it when it goes.
// Nothing is cut by a clock while something moves; what stands still is ended (limits).
//
// Each request is judged by its own method and path, and what was judged is what is sent: the path goes upstream as it
// was held against the rules, and targets that are no path and no URL are refused.
//
// A Proxy owns every connection that it accepted or made, and every goroutine that serves one; Close ends and awaits
// them. It never follows redirects, never uses a proxy of the environment and never reuses goproxy's public CA.
package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/elazarl/goproxy"

	"agentbox/internal/event"
	"agentbox/internal/policy"
	"agentbox/internal/scrub"
)

const (
	upstreamIdle    = 90 * time.Second // of a pooled connection to a server
	upstreamTLS     = 15 * time.Second
	upstreamHead    = time.Hour // for the head of an answer: a model may think for long
	maxAnswerHead   = 1 << 20   // bytes of an answer's head
	maxUpstreamIdle = 128       // pooled connections
	acceptPause     = 100 * time.Millisecond
)

// Gate answers and records requests. Decide says what Check would answer without recording it; Check records exactly
// one event before it returns, and an error of it denies. Where a person has to be asked, Decide gives policy.Ask, and
// Check waits for the answer, as long as its context lasts: it never gives policy.Ask.
//
// Send counts n more bytes on their way to host in this run, and reports whether they are within limit; 0 is no limit.
// Bytes that are not within it must not be sent.
type Gate interface {
	Decide(policy.Request) policy.Decision
	Check(context.Context, policy.Request) (policy.Decision, error)
	Send(host policy.Host, n, limit int64) bool
}

// Injector puts real credentials into a request for host in place of placeholders, or refuses the request with an
// error whose text goes to the agent, so it holds no secret. It changes req in place; req.URL is absolute. The name
// of the credential that was used, if any, is given back. overTLS says that the host's certificate will be verified.
type Injector interface {
	Inject(ctx context.Context, req *http.Request, host policy.Host, overTLS bool) (credential string, err error)
}

// Watcher is an Injector that looks at bodies. What it gives is told each piece of the body of a request to host as it
// passes, and says whether that holds something which has to be recorded, and of which credential, if that is known.
type Watcher interface {
	Watch(host policy.Host) (look func(piece []byte) (credential string, seen bool))
}

// Config is what a Proxy needs. CA, Gate and Events must be set.
type Config struct {
	CA       *CA
	Gate     Gate
	Events   event.Sink // fail-closed: an error denies what it was to record
	Injector Injector   // nil injects nothing
	Scrubber Scrubber   // nil takes nothing out of answers

	// GitRules says that Gate has rules about git: then pushes are read, and what could be one and is not in git's own form
	// is of no repository. Ancestry, unless nil, tells fast-forwards from other updates; without it none is one.
	GitRules bool
	Ancestry Ancestry

	// The person's own routing. ExtraRoots is PEM of certificates that are trusted beside the system's; Fixed gives
	// "ip:port" for hosts that are dialled there, without a look-up and without a check of the address. The server's
	// certificate is verified for the host's name all the same.
	ExtraRoots []byte
	Fixed      map[policy.Host]string

	// Suggest gives the rule that would allow a request, as a person would write it into a profile; nil and "" is none.
	Suggest func(policy.Request) string

	// Parent is a proxy that everything else goes through; nil dials from here. ClientCertificates are shown to the
	// hosts that each is for.
	Parent             *Parent
	ClientCertificates []ClientCertificate

	// Private gives the addresses that are not public and that a host may lead to all the same; nil gives none.
	Private func(policy.Host) []netip.Prefix

	Resolver Resolver     // nil asks the system's
	Canary   string       // a "host:port" whose CONNECT is refused with 403 and without an event; "" is none
	Logger   *slog.Logger // nil discards; gets goproxy's talk at debug level

	limits *limits // of tests; nil: the usual ones
}

// Proxy serves connections from inside a sandbox.
type Proxy struct {
	gate     Gate
	events   event.Sink
	injector Injector
	scrubber Scrubber
	current  func() *scrub.Set // values
	canary   string
	suggest  func(policy.Request) string
	limits   limits

	gitRules bool
	ancestry Ancestry
	gitHeld  atomic.Int64 // bytes

	engine    *goproxy.ProxyHttpServer
	transport *http.Transport
	plain2    *http.Transport // HTTP/2 without TLS
	swift     *swift
	dialer    *dialer
	clientTLS *tls.Config // for handshakes with programs inside

	conns   *registry
	streams atomic.Int64 // of HTTP/2, that are open
	buffers buffers
	opened  atomic.Int64 // codings that are read

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
}

// New gives a Proxy that serves nothing yet. Close it even if it never serves.
func New(config Config) (*Proxy, error) {
	if config.CA == nil || config.Gate == nil || config.Events == nil {
		return nil, errors.New("making the proxy: CA, Gate and Events must be set")
	}
	dial, err := dialerOf(config)
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		gate: config.Gate, events: config.Events, injector: config.Injector, scrubber: config.Scrubber, canary: config.Canary,
		suggest: config.Suggest, limits: config.waits(),
		gitRules: config.GitRules, ancestry: config.Ancestry,
		dialer: dial, transport: newTransport(dial), plain2: newPlainHTTP2(dial), clientTLS: newClientTLS(config.CA),
		conns: newRegistry(),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background()) //nolint:forbidigo // it ends with Close, and with no call
	logger := config.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	p.swift, p.current = newSwift(dial), p.values
	p.engine = p.newEngine(logger)
	return p, nil
}

// ServeProxy serves programs that honour proxy variables: CONNECT and requests in absolute form. It returns when l
// fails or the proxy is closed, which gives nil. It closes l.
func (p *Proxy) ServeProxy(l net.Listener) error {
	return p.serve(l, func(conn net.Conn) {
		p.newConn1(conn, target{via: viaProxy}, p.serveOuter).serve()
	})
}

// ServeDirect serves programs that connect to names by themselves: lookup gives the name that a connection's local
// address stands for, and port the port that they asked for. It returns like ServeProxy and closes l.
func (p *Proxy) ServeDirect(l net.Listener, port uint16, lookup func(netip.Addr) (policy.Host, bool)) error {
	return p.serve(l, func(conn net.Conn) { p.direct(conn, port, lookup) })
}

// serve accepts connections and has each served in a goroutine of its own; to serve it is to close it.
func (p *Proxy) serve(l net.Listener, one func(net.Conn)) error {
	if !p.conns.add(l) {
		return nil
	}
	defer p.conns.remove(l)
	accepted := &listener{Listener: l, registry: p.conns}
	for {
		conn, err := accepted.Accept()
		if p.passing(err) {
			continue
		}
		if err != nil {
			_ = l.Close()
			return p.ended(err)
		}
		if !p.conns.enter() {
			_ = conn.Close()
			return nil
		}
		go func() {
			defer p.conns.work.Done()
			one(conn)
		}()
	}
}

// passing reports whether accepting failed for now only (no descriptors left), after a pause as net/http makes it.
func (p *Proxy) passing(err error) bool {
	if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) && !errors.Is(err, syscall.ECONNABORTED) {
		return false
	}
	pause := time.NewTimer(acceptPause)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// Close stops serving, ends every connection and waits for what serves them.
func (p *Proxy) Close() error {
	p.cancel()
	p.conns.closeAll()
	p.closeIdle()
	p.conns.work.Wait()
	p.closeIdle()
	return nil
}

func (p *Proxy) closeIdle() {
	p.swift.close()
	p.transport.CloseIdleConnections()
	p.plain2.CloseIdleConnections()
}

func (p *Proxy) ended(err error) error {
	if p.ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("accepting connections from inside: %w", err)
}

// newEngine makes goproxy, with every default of it that matters here set.
func (p *Proxy) newEngine(logger *slog.Logger) *goproxy.ProxyHttpServer {
	engine := goproxy.NewProxyHttpServer()
	engine.Verbose = false
	engine.Logger = debugLogger{logger}
	engine.Tr = p.transport
	// Both would dial for tunnels that goproxy itself opens, the first by way of HTTPS_PROXY. There are none.
	engine.ConnectDial = func(string, string) (net.Conn, error) { return nil, errNoTunnel }
	engine.ConnectDialWithReq = func(*http.Request, string, string) (net.Conn, error) { return nil, errNoTunnel }
	engine.ConnectionErrHandler = func(io.Writer, *goproxy.ProxyCtx, error) {}
	engine.NonproxyHandler = http.HandlerFunc(p.serveItself)
	engine.CertStore = nil // certificates are the CA's, which keeps them
	engine.AllowHTTP2 = false
	engine.KeepHeader = false
	engine.KeepAcceptEncoding = true // bodies pass as the server sent them
	engine.KeepDestinationHeaders = false
	engine.PreventCanonicalization = false
	engine.OnRequest().HandleConnectFunc(p.onConnect)
	engine.OnRequest().DoFunc(noRequest)
	return engine
}

var errNoTunnel = errors.New("goproxy opens no tunnels here")

// noRequest answers requests that goproxy would forward by itself: none goes that way.
func noRequest(req *http.Request, _ *goproxy.ProxyCtx) (*http.Request, *http.Response) {
	return req, denied(http.StatusForbidden, req.URL.Host, "the request did not come by a way that is open").response(req)
}

// debugLogger takes what goproxy has to say, which can hold parts of URLs, off standard error.
type debugLogger struct{ logger *slog.Logger }

func (l debugLogger) Printf(format string, args ...any) {
	l.logger.Debug(fmt.Sprintf(format, args...))
}

func newTransport(d *dialer) *http.Transport {
	t := &http.Transport{
		Proxy:                  nil,
		DialContext:            d.dialContext,
		TLSClientConfig:        &tls.Config{RootCAs: d.roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    upstreamTLS,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           maxUpstreamIdle,
		MaxIdleConnsPerHost:    maxUpstreamIdle / 2,
		IdleConnTimeout:        upstreamIdle,
		ResponseHeaderTimeout:  upstreamHead,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxAnswerHead,
		HTTP2:                  upstreamHTTP2(),
	}
	if len(d.certificates) > 0 {
		t.DialTLSContext = d.dialTLS
	}
	return t
}

// newPlainHTTP2 makes the transport for servers that are spoken to over HTTP/2 without TLS.
func newPlainHTTP2(d *dialer) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Proxy:                 nil,
		DialContext:           d.dialContext,
		DisableCompression:    true,
		MaxIdleConns:          maxUpstreamIdle,
		IdleConnTimeout:       upstreamIdle,
		ResponseHeaderTimeout: upstreamHead,
		Protocols:             protocols,
		HTTP2:                 upstreamHTTP2(),

		MaxResponseHeaderBytes: maxAnswerHead,
	}
}

func upstreamHTTP2() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxReceiveBufferPerStream:     1 << 20, // what a server may send that nobody inside has read yet
		MaxReceiveBufferPerConnection: 16 << 20,
		SendPingTimeout:               30 * time.Second,
		PingTimeout:                   15 * time.Second,
	}
}

// dialerOf makes the dialer that config's routing and certificates ask for.
func dialerOf(config Config) (*dialer, error) {
	roots, err := rootPool(config.ExtraRoots)
	if err != nil {
		return nil, err
	}
	return newDialer(config, roots)
}

// rootPool is nil, which means the system's certificates, read when the first one is needed, unless there are more.
func rootPool(extra []byte) (*x509.CertPool, error) {
	if len(extra) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("reading the system's certificates: %w", err)
	}
	if !pool.AppendCertsFromPEM(extra) {
		return nil, errors.New("reading the extra certificates: no PEM certificate in them")
	}
	return pool, nil
}
