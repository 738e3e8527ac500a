package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/elazarl/goproxy"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// Values of an event's Via.
const (
	viaProxy  = "proxy"
	viaDirect = "direct"
)

const (
	tlsHandshake = 0x16 // the first byte of a TLS connection
	portHTTPS    = 443
	portHTTP     = 80
)

// target is where a connection's requests lead, all of them.
type target struct {
	host   policy.Host
	port   uint16
	scheme string // "https" or "http"; "" while it is not known
	via    string
}

// authority is the target as URLs and Host headers write it.
func (t target) authority() string {
	if t.scheme == "https" && t.port == portHTTPS || t.scheme == "http" && t.port == portHTTP {
		return t.host.String()
	}
	return net.JoinHostPort(t.host.String(), strconv.Itoa(int(t.port)))
}

func (t target) request() policy.Request {
	return policy.Request{Host: t.host, Port: t.port, Scheme: t.scheme, Via: t.via}
}

// refused records a connection or request that never came as far as a decision of the gate. A failing log needs no
// answer here: nothing is forwarded either way.
func (p *Proxy) refused(t target, reason string) {
	_ = p.events.Emit(event.Event{
		Kind: event.NetRefused, Decision: event.Deny, Host: t.host.String(), Port: t.port, Via: t.via, Reason: reason,
	})
}

// refusedName records a request for something that is no name a rule could hold. Its port, where it has one, is told apart.
func (p *Proxy) refusedName(asked string, port uint16, method, reason string) error {
	if port != 0 {
		asked = strings.TrimSuffix(asked, ":"+strconv.Itoa(int(port)))
	}
	return p.events.Emit(event.Event{
		Kind: event.NetRequest, Decision: event.Deny, Host: shorten(asked), Port: port, Method: method, Via: viaProxy,
		Rule: "built-in", Reason: shorten(reason),
	})
}

// onConnect decides a CONNECT. It always gives an action of its own: goproxy's would open the tunnel unasked.
func (p *Proxy) onConnect(authority string, ctx *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
	t, d, no := p.judgeConnect(ctx.Req.Context(), authority)
	if no != nil {
		ctx.Resp = no.response(nil) //nolint:bodyclose // goproxy writes the answer, and writing closes its body
		return &goproxy.ConnectAction{Action: goproxy.ConnectReject, TLSConfig: noTLS}, authority
	}
	return &goproxy.ConnectAction{
		Action:    goproxy.ConnectHijack,
		TLSConfig: noTLS,
		Hijack: func(_ *http.Request, conn net.Conn, _ *goproxy.ProxyCtx) {
			if t.scheme == policy.TCP {
				p.passOn(conn, t, d, func(err error) bool { return answerConnect(conn, t, err) })
				return
			}
			if !answerConnect(conn, t, nil) {
				_ = conn.Close()
				return
			}
			p.tunnel(conn, t, d)
		},
	}, authority
}

// answerConnect says that the tunnel is open, or why it is not. It reports whether it is.
func answerConnect(conn net.Conn, t target, failure error) bool {
	if failure == nil {
		_, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
		return err == nil
	}
	_ = failed(t.host.String(), reasonOf(failure)).response(nil).Write(conn) //nolint:bodyclose // Write closes it
	return false
}

func noTLS(string, *goproxy.ProxyCtx) (*tls.Config, error) { return nil, errNoTunnel }

// judgeConnect gives the target of a CONNECT, or the answer that refuses it. What is refused is recorded; what is
// let through is not yet: its requests will be, or its one splice.
func (p *Proxy) judgeConnect(ctx context.Context, authority string) (target, policy.Decision, *refusal) {
	if p.canary != "" && authority == p.canary {
		no := denied(http.StatusForbidden, authority, "this is the canary of the launch self-test")
		return target{}, policy.Decision{}, &no
	}
	host, port, err := splitAuthority(authority)
	if err != nil {
		no := denied(http.StatusForbidden, authority, shorten(err.Error()))
		if p.refusedName(authority, port, http.MethodConnect, err.Error()) != nil {
			no = unrecorded(authority)
		}
		return target{}, policy.Decision{}, &no
	}
	t := target{host: host, port: port, via: viaProxy}
	if p.raw(&t) {
		return p.checkConnect(ctx, t, t.request())
	}
	d := p.gate.Decide(t.request())
	if opens(&d) {
		return t, d, nil
	}
	request := t.request()
	request.Method = http.MethodConnect
	return p.checkConnect(ctx, t, request)
}

// checkConnect asks the gate about a CONNECT, which records it.
func (p *Proxy) checkConnect(ctx context.Context, t target, request policy.Request) (target, policy.Decision, *refusal) {
	d, err := p.gate.Check(ctx, request)
	var no refusal
	switch {
	case err != nil:
		no = unrecorded(t.host.String())
	case !d.Allowed():
		no = p.deniedBy(d, request)
	default:
		return t, d, nil
	}
	return target{}, d, &no
}

// opens reports whether a tunnel may be opened. Where a person has to be asked it may, for its requests to be seen: it
// is they that are asked about.
func opens(d *policy.Decision) bool {
	if d.Action == policy.Ask {
		d.Inspect = true
		return true
	}
	return d.Allowed()
}

// raw reports whether connections to t are passed on without a look at them, and says so in t.
func (p *Proxy) raw(t *target) bool {
	whole := *t
	whole.scheme = policy.TCP
	d := p.gate.Decide(whole.request())
	if !opens(&d) {
		return false
	}
	*t = whole
	return true
}

// direct serves a connection that was made straight to the synthetic address of a name. What policy denies is let in
// as far as its first request, so that the program inside gets an answer it can read; the gate denies that request.
func (p *Proxy) direct(conn net.Conn, port uint16, lookup func(netip.Addr) (policy.Host, bool)) {
	t := target{port: port, via: viaDirect}
	defer p.survive(t, func() { _ = conn.Close() })
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		p.refused(t, "the connection's local address is not known")
		_ = conn.Close()
		return
	}
	host, ok := lookup(local.Addr().Unmap())
	if !ok {
		p.refused(t, fmt.Sprintf("a connection to %s, an address that stands for no name", local.Addr().Unmap()))
		_ = conn.Close()
		return
	}
	t.host = host
	if p.raw(&t) {
		p.directRaw(conn, t)
		return
	}
	d := p.gate.Decide(t.request())
	if t.port == portSSH && !d.Allowed() { // nobody is asked about HTTP where ssh is spoken
		p.refuseSSH(conn, t)
		return
	}
	if !opens(&d) {
		d.Inspect = true
	}
	p.tunnel(conn, t, d)
}

// tunnel serves a connection whose bytes are meant for t: it ends its TLS and hands it on to be read as requests, or
// splices it when d says so. It owns conn.
func (p *Proxy) tunnel(conn net.Conn, t target, d policy.Decision) {
	if err := conn.SetDeadline(time.Now().Add(p.limits.handshake)); err != nil {
		_ = conn.Close()
		return
	}
	var first [1]byte
	n, err := conn.Read(first[:])
	if n == 0 {
		if err != nil && !errors.Is(err, io.EOF) && p.ctx.Err() == nil {
			p.refused(t, "nothing was sent after the connection was opened: where the server speaks first, the port needs a rule with protocol = \"tcp\"")
		}
		_ = conn.Close()
		return
	}
	conn = replay(conn, first[:])
	switch {
	case first[0] != tlsHandshake:
		p.tunnelPlain(conn, t, d)
	case d.Inspect:
		p.tunnelTLS(conn, t)
	default:
		p.tunnelSplice(conn, t)
	}
}

func (p *Proxy) tunnelPlain(conn net.Conn, t target, d policy.Decision) {
	if t.port == portHTTPS || d.Allowed() && !d.Inspect {
		p.refused(t, "the connection does not speak TLS")
		_ = conn.Close()
		return
	}
	t.scheme = "http"
	p.serveTunnel(conn, t)
}

func (p *Proxy) tunnelTLS(conn net.Conn, t target) {
	t.scheme = "https"
	heard := &lastWords{Conn: conn}
	secure := tls.Server(heard, p.clientTLS)
	if err := secure.HandshakeContext(context.WithValue(p.ctx, targetKey{}, t)); err != nil {
		if p.ctx.Err() == nil {
			p.refused(t, handshakeReason(err, heard))
		}
		_ = conn.Close()
		return
	}
	heard.over = true
	if secure.SetDeadline(time.Time{}) != nil {
		_ = secure.Close()
		return
	}
	if secure.ConnectionState().NegotiatedProtocol == protocolHTTP2 {
		p.serveHTTP2(secure, t)
		return
	}
	p.serveTunnel(secure, t)
}

// serveTunnel serves the requests in a tunnel. It closes conn.
func (p *Proxy) serveTunnel(conn net.Conn, t target) {
	if conn.SetDeadline(time.Time{}) != nil {
		_ = conn.Close()
		return
	}
	c := p.newConn1(conn, t, func(w http.ResponseWriter, r *http.Request) { p.serveInner(w, r, t) })
	c.serve()
	if c.hello2 {
		p.serveHTTP2(replay(conn, append([]byte(http2Hello), c.in.ahead()...)), t)
	}
}

// targetKey is the context key of a handshake's target.
type targetKey struct{}

// newClientTLS is for handshakes whose context holds their target: the name that is asked for must be its name.
func newClientTLS(ca *CA) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{protocolHTTP2, protocolHTTP11},
		// Answers are as long as they are: small records at first would only cost.
		DynamicRecordSizingDisabled: true,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return nil, checkSNI(hello)
		},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			t, ok := hello.Context().Value(targetKey{}).(target)
			if !ok {
				return nil, errors.New("the tunnel has no target")
			}
			return ca.leafFor(t.host)
		},
	}
}

func checkSNI(hello *tls.ClientHelloInfo) error {
	t, ok := hello.Context().Value(targetKey{}).(target)
	if !ok {
		return errors.New("the tunnel has no target")
	}
	if hello.ServerName == "" {
		return fmt.Errorf("the connection to %s names no server (SNI)", t.host)
	}
	name, err := policy.ParseHost(hello.ServerName)
	if err != nil || name != t.host {
		return fmt.Errorf("the connection to %s names another server (SNI %q)", t.host, shorten(hello.ServerName))
	}
	return nil
}

// tunnelSplice copies a TLS connection as it is, once its first message named the right server.
func (p *Proxy) tunnelSplice(conn net.Conn, t target) {
	t.scheme = "https"
	ahead, err := peekHello(context.WithValue(p.ctx, targetKey{}, t), conn)
	if err != nil {
		p.refused(t, shorten(err.Error()))
		_ = conn.Close()
		return
	}
	conn = replay(conn, ahead)
	d, err := p.gate.Check(p.ctx, t.request())
	if err != nil || !d.Allowed() {
		_ = conn.Close()
		return
	}
	if d.Inspect {
		p.refused(t, "the connection has to be inspected, and was about to be copied as it is")
		_ = conn.Close()
		return
	}
	p.passOn(conn, t, d, func(err error) bool { return err == nil })
}

var errPeeked = errors.New("the first message was read")

// peekHello reads a connection's first TLS message without answering it and gives the bytes that were read.
func peekHello(ctx context.Context, conn net.Conn) ([]byte, error) {
	listening := &recordingConn{Conn: conn}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return nil, errors.Join(checkSNI(hello), errPeeked)
		},
	}
	err := tls.Server(listening, config).HandshakeContext(ctx)
	if err == nil || !errors.Is(err, errPeeked) {
		return nil, fmt.Errorf("the connection does not begin with a TLS handshake: %w", err)
	}
	if errs, ok := err.(interface{ Unwrap() []error }); ok && len(errs.Unwrap()) > 1 {
		return nil, errs.Unwrap()[0]
	}
	return listening.read, nil
}

// recordingConn keeps what is read and sends nothing.
type recordingConn struct {
	net.Conn
	read []byte
}

func (c *recordingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read = append(c.read, p[:n]...)
	return n, err
}

func (c *recordingConn) Write(p []byte) (int, error) { return len(p), nil }

func (c *recordingConn) Close() error { return nil }

// survive turns a panic into an event and an ended connection.
func (p *Proxy) survive(t target, end func()) {
	cause := recover()
	if cause == nil {
		return
	}
	end()
	p.refused(t, "agentbox failed while it served the connection, and closed it")
}
