package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/elazarl/goproxy"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// serveOuter serves requests to the proxy's own port.
func (p *Proxy) serveOuter(w http.ResponseWriter, r *http.Request) {
	if !p.conns.enter() {
		panic(http.ErrAbortHandler)
	}
	defer p.conns.work.Done()
	conn := connOf(r)
	conn.reached()
	defer p.surviveHandler(target{via: viaProxy}, conn)
	switch {
	case r.Method == http.MethodConnect:
		p.engine.ServeHTTP(&tunnelWriter{w}, r)
	case !r.URL.IsAbs():
		p.engine.ServeHTTP(w, r)
	default:
		p.serveAbsolute(w, r)
	}
}

// serveItself answers requests that are meant for the proxy as if it were a server.
func (p *Proxy) serveItself(w http.ResponseWriter, r *http.Request) {
	p.refused(target{via: viaProxy}, "a request for the proxy itself")
	denied(http.StatusForbidden, r.Host, "this is agentbox's proxy: it serves nothing of its own").write(w)
}

// serveAbsolute serves "GET http://name/ HTTP/1.1".
func (p *Proxy) serveAbsolute(w http.ResponseWriter, r *http.Request) {
	if r.URL.Scheme != "http" || r.URL.User != nil {
		p.refused(target{via: viaProxy}, "a request in absolute form that is not plain http")
		denied(http.StatusBadRequest, r.URL.Host, "use CONNECT for anything but http:// URLs, and no user in URLs").write(w)
		return
	}
	authority := r.URL.Host
	if r.URL.Port() == "" {
		authority = strings.TrimSuffix(authority, ":") + ":80"
	}
	host, port, err := splitAuthority(authority)
	if err == nil && port == portHTTPS {
		err = errors.New("port 443 is for TLS: use CONNECT")
	}
	if err != nil {
		if p.refusedName(r.URL.Host, port, r.Method, err.Error()) != nil {
			unrecorded(r.URL.Host).write(w)
			return
		}
		denied(http.StatusForbidden, r.URL.Host, shorten(err.Error())).write(w)
		return
	}
	p.exchange(w, r, target{host: host, port: port, scheme: "http", via: viaProxy})
}

// serveInner serves requests in tunnels.
func (p *Proxy) serveInner(w http.ResponseWriter, r *http.Request) {
	if !p.conns.enter() {
		panic(http.ErrAbortHandler)
	}
	defer p.conns.work.Done()
	conn := connOf(r)
	conn.reached()
	t := conn.to
	defer p.surviveHandler(t, conn)
	if r.Method == http.MethodConnect {
		p.refused(t, "a CONNECT inside a tunnel")
		denied(http.StatusBadRequest, t.host.String(), "a tunnel holds requests, not further tunnels").write(w)
		return
	}
	if r.URL.IsAbs() && r.URL.Scheme != t.scheme || !names(r.Host, t) {
		p.refused(t, "a request for another host ("+shorten(r.Host)+") inside the tunnel")
		denied(http.StatusMisdirectedRequest, r.Host, "this connection leads to "+t.authority()+" and to nothing else").write(w)
		return
	}
	p.exchange(w, r, t)
}

// names reports whether a Host header stands for t; without a port it does.
func names(authority string, t target) bool {
	if name, digits, err := net.SplitHostPort(authority); err == nil {
		port, err := parsePort(digits)
		if err != nil || port != t.port {
			return false
		}
		authority = name
	}
	host, err := policy.ParseHost(authority)
	return err == nil && host == t.host
}

// surviveHandler turns a panic of a handler into an event and an ended connection; net/http's own way to end one
// passes.
func (p *Proxy) surviveHandler(t target, conn net.Conn) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
		p.refused(t, "agentbox failed while it served a request, and closed the connection")
		_ = conn.Close()
	}
	panic(http.ErrAbortHandler)
}

// tunnelWriter gives goproxy a connection that begins with what net/http had read ahead; goproxy drops that.
type tunnelWriter struct{ http.ResponseWriter }

func (w *tunnelWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	ahead, _ := rw.Reader.Peek(rw.Reader.Buffered())
	return replay(conn, ahead), rw, nil
}

// exchange is one request and its answer, on their way through goproxy.
type exchange struct {
	proxy   *Proxy
	target  target
	method  string
	path    string
	upgrade bool // the request asks for a WebSocket
	began   time.Time

	allowed bool // the gate let it through, so its end is recorded
	status  int
	reason  string
	up      atomic.Int64
	down    atomic.Int64
	cut     atomic.Bool // the answer broke off
}

// exchangeKey is the context key of a request's *exchange.
type exchangeKey struct{}

// exchange passes r, which came for t, through goproxy and records how that ended.
func (p *Proxy) exchange(w http.ResponseWriter, r *http.Request, t target) {
	x := &exchange{
		proxy: p, target: t, method: r.Method, path: shorten(pathOf(r)), began: time.Now(),
		upgrade: isWebSocket(r.Header),
	}
	r.URL.Scheme, r.URL.Host, r.Host = t.scheme, t.authority(), t.authority()
	r.URL.User, r.URL.Opaque = nil, "" // so that what is sent is pathOf
	answer := &answerWriter{ResponseWriter: w, upgrade: x.upgrade}
	defer answer.end()
	defer x.finish()
	p.engine.ServeHTTP(answer, r.WithContext(contextWith(r, x)))
	if x.cut.Load() {
		panic(http.ErrAbortHandler)
	}
}

// finish records the end of an exchange that the gate let through.
func (x *exchange) finish() {
	if !x.allowed {
		return
	}
	_ = x.proxy.events.Emit(event.Event{
		Kind: event.NetResponse, Host: x.target.host.String(), Port: x.target.port, Method: x.method, Path: x.path,
		Status: x.status, BytesUp: x.up.Load(), BytesDown: x.down.Load(), Millis: time.Since(x.began).Milliseconds(),
		Reason: x.reason, Via: x.target.via,
	})
}

// onRequest is goproxy's handler for every request: the exchange judges it, and carries it out.
func onRequest(req *http.Request, ctx *goproxy.ProxyCtx) (*http.Request, *http.Response) {
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return req, denied(http.StatusForbidden, req.URL.Host, "the request did not come by a way that is open").response(req)
	}
	if no := x.judge(req); no != nil {
		x.status, x.reason = no.Status, no.Reason
		return req, no.response(req)
	}
	ctx.RoundTripper = goproxy.RoundTripperFunc(func(req *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
		return x.roundTrip(req), nil
	})
	return req, nil
}

// judge asks the gate, then the injector. It gives the answer that refuses the request, or nil when it may go.
func (x *exchange) judge(req *http.Request) *refusal {
	request := x.target.request()
	request.Method, request.Path = x.method, pathOf(req)
	request.MethodBy, request.PathBy = overrides(req)
	request.WebSocket, request.Size = x.upgrade, req.ContentLength
	request.Git = x.gitRequest(req)
	d, err := x.proxy.gate.Check(req.Context(), request)
	if err != nil {
		no := unrecorded(x.target.host.String())
		return &no
	}
	if !d.Allowed() {
		no := denied(http.StatusForbidden, x.target.host.String(), d.Reason())
		return &no
	}
	x.allowed = true
	x.prepare(req)
	return x.inject(req)
}

// inject lets the injector change the request and records what it did, before anything is forwarded.
func (x *exchange) inject(req *http.Request) *refusal {
	if x.proxy.injector == nil {
		return nil
	}
	e := event.Event{
		Kind: event.CredentialUse, Decision: event.Allow, Host: x.target.host.String(), Port: x.target.port,
		Method: x.method, Path: x.path, Via: x.target.via,
	}
	credential, err := x.proxy.injector.Inject(req.Context(), req, x.target.host, x.target.scheme == "https")
	if err == nil && credential == "" {
		return nil
	}
	e.Credential = credential
	var no *refusal
	if err != nil {
		e.Kind, e.Decision, e.Reason = event.CredentialRefused, event.Deny, shorten(err.Error())
		refused := denied(http.StatusForbidden, x.target.host.String(), shorten(err.Error()))
		if h := (interface{ Hint() string })(nil); errors.As(err, &h) && h.Hint() != "" {
			refused.ToDo = "tell the person: " + shorten(h.Hint())
		}
		no = &refused
	}
	if x.proxy.events.Emit(e) != nil {
		refused := unrecorded(x.target.host.String())
		no = &refused
	}
	return no
}

// prepare takes away what is between the program and the proxy alone, before credentials are put in, so that no
// Connection header can name one of them away.
func (x *exchange) prepare(req *http.Request) {
	trailers := slices.ContainsFunc(req.Header["Te"], func(v string) bool { return hasToken(v, "trailers") })
	removeHopByHop(req.Header)
	if trailers {
		req.Header.Set("Te", "trailers")
	}
	if x.upgrade {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "websocket")
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", "") // or the transport would add its own
	}
	req.Trailer = nil
	req.Close = false
	if req.ContentLength == 0 {
		req.Body = http.NoBody
	} else {
		req.Body = &countedBody{ReadCloser: req.Body, count: &x.up}
	}
}

// roundTrip forwards the request; whatever goes wrong becomes an answer that says so.
func (x *exchange) roundTrip(req *http.Request) *http.Response {
	resp, err := x.proxy.transport.RoundTrip(req)
	if err == nil {
		err = x.checkAnswer(resp)
	}
	if err != nil {
		no := failed(x.target.host.String(), reasonOf(err))
		var private *addressError
		if errors.As(err, &private) {
			no = denied(http.StatusForbidden, x.target.host.String(), reasonOf(err))
		}
		x.status, x.reason = no.Status, no.Reason
		return no.response(req)
	}
	x.status = resp.StatusCode
	x.prepareAnswer(resp)
	return resp
}

var errUnaskedUpgrade = errors.New("the server switched to a protocol that was not asked for")

func (x *exchange) checkAnswer(resp *http.Response) error {
	if resp.StatusCode != http.StatusSwitchingProtocols || x.upgrade && isWebSocket(resp.Header) {
		return nil
	}
	_ = resp.Body.Close()
	return errUnaskedUpgrade
}

func (x *exchange) prepareAnswer(resp *http.Response) {
	removeHopByHop(resp.Header)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body = &countedBody{ReadCloser: resp.Body, count: &x.down, cut: &x.cut}
		return
	}
	resp.Header.Set("Connection", "Upgrade")
	resp.Header.Set("Upgrade", "websocket")
	if stream, ok := resp.Body.(io.ReadWriteCloser); ok {
		resp.Body = &countedStream{stream, &x.up, &x.down}
	}
}

// removeHopByHop removes what concerns one connection only: what Connection names, the standard headers of that
// kind, and everything meant for proxies.
func removeHopByHop(h http.Header) {
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			h.Del(strings.Trim(name, " \t"))
		}
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings"} {
		h.Del(name)
	}
	for name := range h {
		if strings.HasPrefix(strings.ToLower(name), "proxy-") {
			delete(h, name)
		}
	}
}

func isWebSocket(h http.Header) bool {
	lists := func(name, token string) bool {
		return slices.ContainsFunc(h[name], func(v string) bool { return hasToken(v, token) })
	}
	return lists("Connection", "upgrade") && lists("Upgrade", "websocket")
}
