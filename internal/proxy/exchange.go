package proxy

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// serveOuter serves requests to the proxy's own port.
func (p *Proxy) serveOuter(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		p.engine.ServeHTTP(w, r)
	case !r.URL.IsAbs():
		p.engine.ServeHTTP(w, r)
	default:
		p.serveAbsolute(w, r)
	}
}

// serveItself answers requests that are meant for the proxy as if it were a server.
func (p *Proxy) serveItself(w http.ResponseWriter, r *http.Request) {
	p.refused(target{via: viaProxy}, "a request for the proxy itself")
	denied(http.StatusForbidden, r.Host, "this is agentbox's proxy: it serves nothing of its own").end(w, r)
}

// serveAbsolute serves "GET http://name/ HTTP/1.1".
func (p *Proxy) serveAbsolute(w http.ResponseWriter, r *http.Request) {
	if r.URL.Scheme != "http" || r.URL.User != nil {
		p.refused(target{via: viaProxy}, "a request in absolute form that is not plain http")
		denied(http.StatusBadRequest, r.URL.Host, "use CONNECT for anything but http:// URLs, and no user in URLs").end(w, r)
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
			unrecorded(r.URL.Host).end(w, r)
			return
		}
		denied(http.StatusForbidden, r.URL.Host, shorten(err.Error())).end(w, r)
		return
	}
	p.exchange(w, r, target{host: host, port: port, scheme: "http", via: viaProxy})
}

// serveInner serves requests in the tunnel to t, over either version of HTTP.
func (p *Proxy) serveInner(w http.ResponseWriter, r *http.Request, t target) {
	switch {
	case r.Method == http.MethodConnect:
		p.refused(t, "a CONNECT inside a tunnel")
		denied(http.StatusBadRequest, t.host.String(), "a tunnel holds requests, not further tunnels").end(w, r)
	case r.URL.IsAbs() && r.URL.Scheme != t.scheme || !names(r.Host, t):
		p.refused(t, "a request for another host ("+shorten(r.Host)+") inside the tunnel")
		denied(http.StatusMisdirectedRequest, r.Host, "this connection leads to "+t.authority()+" and to nothing else").end(w, r)
	default:
		p.exchange(w, r, t)
	}
}

// names reports whether a Host header stands for t; without a port it does.
func names(authority string, t target) bool {
	if authority == t.host.String() {
		return true
	}
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

// exchange is one request and its answer.
type exchange struct {
	proxy   *Proxy
	target  target
	method  string
	path    string
	upgrade bool // the request asks for a WebSocket
	began   time.Time

	decision policy.Decision
	allowed  bool // the gate let it through, so its end is recorded
	status   int
	reason   string
	up       atomic.Int64
	down     atomic.Int64
	over     atomic.Pointer[refusal] // the limit at which the request was cut off
	asked    atomic.Int64            // how often it was looked whether something moves, while somebody was asked
	asking   atomic.Bool

	scrubs bool // values are looked for in the answer
	fitted bool // … and what stands in their place is as long as they are

	credential string          // that it carries, or ""
	life       context.Context // of the request once it carries one; nil before

	own Answerer // that answers it in the place of its host; nil where the host does

	git  *gitExchange // what it does to a repository; nil where it is no request of git's
	held *gitExchange // what was read ahead to find that out; nil where nothing was
}

// exchange judges r, which came for t, carries it out and records how that ended.
func (p *Proxy) exchange(w http.ResponseWriter, r *http.Request, t target) {
	x := &exchange{
		proxy: p, target: t, method: r.Method, path: p.shown(pathOf(r)), began: time.Now(),
		upgrade: r.ProtoMajor == 1 && isWebSocket(r.Header),
	}
	r.URL.Scheme, r.URL.Host, r.Host = t.scheme, t.authority(), t.authority()
	r.URL.User, r.URL.Opaque = nil, "" // so that what is sent is pathOf
	defer x.finish()
	defer func() { x.held.done() }()
	if r.ProtoMajor == 2 { // over HTTP/1 the connection sees to it
		stop := whenIdle(p.limits.stream, x.moved, x.abandon(w))
		defer stop()
	}
	no := x.judge(w, r)
	switch {
	case no != nil:
	case x.own != nil:
		no = x.instead(w, r)
	default:
		no = x.forward(w, r)
	}
	if no != nil {
		x.status, x.reason = no.Status, no.Reason
		x.refuseGit(r, no)
		no.write(w, r)
	}
}

// moved changes while something moves, and while somebody is asked.
func (x *exchange) moved() int64 {
	if x.asking.Load() {
		x.asked.Add(1)
	}
	return x.up.Load() + x.down.Load() + x.asked.Load()
}

// abandon gives what ends an exchange of which nothing moves: its reads and writes fail from then on.
func (x *exchange) abandon(w http.ResponseWriter) func() {
	control := http.NewResponseController(w)
	return func() {
		_ = control.SetReadDeadline(time.Unix(1, 0))
		_ = control.SetWriteDeadline(time.Unix(1, 0))
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

// judge asks the gate, then the injector. It gives the answer that refuses the request, or nil when it may go.
func (x *exchange) judge(w http.ResponseWriter, req *http.Request) *refusal {
	request := x.target.request()
	request.Method, request.Path = x.method, pathOf(req)
	request.MethodBy, request.PathBy = overrides(req)
	request.Git = x.gitRequest(req) // first: it may unpack the body
	request.WebSocket, request.Size = x.upgrade, req.ContentLength
	d, err := x.check(req.Context(), w, request)
	if err != nil {
		no := unrecorded(x.target.host.String())
		return &no
	}
	if !d.Allowed() {
		no := x.proxy.deniedBy(d, request)
		return &no
	}
	x.allowed, x.decision = true, d
	x.prepare(req)
	if x.own = x.answerer(req); x.own != nil {
		return x.withinLimits(req)
	}
	if no := x.inject(req); no != nil {
		return no
	}
	x.watch(req)
	return x.withinLimits(req)
}

// check asks the gate. Where that asks a person, it is the gate that bounds the wait: the limit on what stands still may
// be shorter.
func (x *exchange) check(ctx context.Context, w http.ResponseWriter, r policy.Request) (policy.Decision, error) {
	x.asking.Store(true)
	defer x.asking.Store(false)
	if a, ok := w.(*answer1); ok {
		a.asking.Store(true)
		defer a.asking.Store(false)
	}
	return x.proxy.gate.Check(ctx, r)
}

// inject lets the injector change the request and records what it did, before anything is forwarded.
func (x *exchange) inject(req *http.Request) *refusal {
	if x.proxy.injector == nil {
		return nil
	}
	credential, err := x.proxy.injector.Inject(req.Context(), req, x.target.host, x.target.scheme == "https")
	if credential != "" { // trailers, which come later, carry none
		x.credential = credential
	}
	if err == nil && credential == "" {
		return nil
	}
	if over := x.over.Load(); err != nil && over != nil {
		return over // it was reading the body, which came to a limit
	}
	return x.noteUse(credential, err, event.Event{})
}

// noteUse records that a credential was used, as e says, or why it was not: then it gives the answer that says so.
func (x *exchange) noteUse(credential string, err error, e event.Event) (no *refusal) {
	e.Kind, e.Decision, e.Host, e.Port = event.CredentialUse, event.Allow, x.target.host.String(), x.target.port
	e.Method, e.Path, e.Via, e.Credential, e.Who = x.method, x.path, x.target.via, credential, event.Agent
	if r, ok := x.proxy.injector.(Ruler); ok {
		e.Rule = r.Rule(credential)
	}
	if err != nil {
		e.Kind, e.Decision, e.Reason = event.CredentialRefused, event.Deny, x.proxy.shown(err.Error())
		a := (interface{ Alarm() bool })(nil)
		e.Alarm = errors.As(err, &a) && a.Alarm()
		refused := denied(http.StatusForbidden, x.target.host.String(), e.Reason)
		if h := (interface{ Hint() string })(nil); errors.As(err, &h) && h.Hint() != "" {
			refused.ToDo = "tell the person: " + x.proxy.shown(h.Hint())
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
	trailers := lists(req.Header, "Te", "trailers")
	removeHopByHop(req.Header)
	if trailers {
		req.Header["Te"] = []string{"trailers"}
	}
	if x.upgrade {
		req.Header["Connection"] = []string{"Upgrade"}
		req.Header["Upgrade"] = []string{"websocket"}
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header["User-Agent"] = []string{""} // or the transport would add its own
	}
	x.askReadable(req.Header)
	req.Close = false
	if req.ContentLength == 0 {
		req.Body, req.Trailer = http.NoBody, nil // a server that was told of trailers would wait for them
	} else {
		req.Body = &upload{ReadCloser: req.Body, x: x, trailed: trailed(req)}
	}
}

// trailed gives the trailers of req as a request without anything else, for them to be judged when they have come: values
// are put into the same map. What may not stand behind a body is taken out of it.
func trailed(req *http.Request) *http.Request {
	maps.DeleteFunc(req.Trailer, func(name string, _ []string) bool { return !mayTrail(name) })
	if len(req.Trailer) == 0 {
		req.Trailer = nil
		return nil
	}
	alone := (&http.Request{
		Method: req.Method, URL: &url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: "/"}, Host: req.Host,
		Header: http.Header{}, Body: http.NoBody, Trailer: req.Trailer,
	})
	return alone.WithContext(req.Context())
}

// forward carries the request out. It gives the answer that says what went wrong, nil once the server has answered.
func (x *exchange) forward(w http.ResponseWriter, req *http.Request) *refusal {
	req, done := x.mortal(req)
	defer done()
	resp, err := x.roundTrip(req)
	if err == nil {
		err = x.checkAnswer(resp)
	}
	if over := x.over.Load(); over != nil && err != nil {
		return over
	}
	if err != nil {
		return x.unreached(err)
	}
	defer func() { _ = resp.Body.Close() }() // which may be another by then
	x.status = resp.StatusCode
	removeHopByHop(resp.Header)
	if no := x.clean(resp); no != nil {
		return no
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		x.webSocket(w, resp)
		return nil
	}
	err = x.answer(w, req, resp)
	if err == nil && x.cut() {
		err = errCut // the server may have ended its answer well because we hung up
	}
	if err != nil {
		if over := x.over.Load(); over != nil {
			x.reason = over.Reason
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}

// roundTrip forwards the request. Where a program speaks HTTP/2 without TLS, the server has to.
func (x *exchange) roundTrip(req *http.Request) (*http.Response, error) {
	if req.ProtoMajor == 2 && x.target.scheme == "http" {
		return x.proxy.plain2.RoundTrip(req)
	}
	swift, o := x.proxy.swift, originOf(x.target)
	if req.Body == http.NoBody && !x.upgrade && swift.knows(o) {
		resp, err := swift.roundTrip(req, x.target)
		if !errors.Is(err, errNotReached) {
			return resp, err
		}
		swift.learn(o, false)
	}
	resp, err := x.proxy.transport.RoundTrip(req)
	if err == nil {
		swift.learn(o, resp.ProtoMajor == 1)
	}
	return resp, err
}

func (x *exchange) unreached(err error) *refusal {
	if x.cut() {
		no := denied(http.StatusForbidden, x.target.host.String(), errCut.Error())
		return &no
	}
	err = &cleanError{err, x.proxy.values()}
	no := failed(x.target.host.String(), reasonOf(err))
	var private *addressError
	if errors.As(err, &private) {
		no = denied(http.StatusForbidden, x.target.host.String(), reasonOf(err))
	}
	return &no
}

var errUnaskedUpgrade = errors.New("the server switched to a protocol that was not asked for")

func (x *exchange) checkAnswer(resp *http.Response) error {
	if resp.StatusCode != http.StatusSwitchingProtocols || x.upgrade && isWebSocket(resp.Header) {
		return nil
	}
	_ = resp.Body.Close()
	return errUnaskedUpgrade
}

// answer passes the server's answer on, as it comes. An error means that one of the two broke off.
func (x *exchange) answer(w http.ResponseWriter, req *http.Request, resp *http.Response) error {
	a, ours := w.(*answer1)
	bodiless := resp.ContentLength == 0 || resp.Body == http.NoBody // HTTP/2's is another empty body
	if ours && bodiless && req.Method != http.MethodHead && resp.StatusCode != http.StatusNotModified && resp.StatusCode != http.StatusNoContent {
		resp.Header["Content-Length"] = []string{"0"}
	}
	if x.scrubs && !x.fitted && !bodiless && req.Method != http.MethodHead {
		delete(resp.Header, "Content-Length")
	}
	if x.upgrade {
		// The client may have gone on as if its upgrade were granted, so the connection must not be used on.
		resp.Header["Connection"] = []string{"close"}
	}
	if ours {
		a.header, a.trailer = resp.Header, resp.Trailer
	} else {
		header := w.Header()
		header["Date"], header["Content-Type"] = nil, nil // the server's own, or none
		maps.Copy(header, resp.Header)
		announceTrailers(header, resp.Trailer)
	}
	w.WriteHeader(resp.StatusCode)
	pass := x.copyBody
	if x.scrubs {
		pass = x.copyScrubbed
	}
	if err := pass(w, resp.Body, !ours && !bodiless); err != nil {
		return err
	}
	scrubFields(x.proxy.values(), resp.Trailer)
	if ours {
		a.trailer = resp.Trailer
	} else {
		addTrailers(w.Header(), resp.Trailer)
	}
	return nil
}

func announceTrailers(header, trailer http.Header) {
	for name := range trailer {
		header["Trailer"] = append(header["Trailer"], name)
	}
}

// addTrailers puts trailers where net/http finds them, announced or not.
func addTrailers(header, trailer http.Header) {
	for name, values := range trailer {
		if _, ok := header[name]; ok || !slices.Contains(header["Trailer"], name) {
			name = http.TrailerPrefix + name
		}
		header[name] = values
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
	for name := range h {
		switch name {
		case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings":
			delete(h, name)
		default:
			if len(name) >= 6 && strings.EqualFold(name[:6], "proxy-") {
				delete(h, name)
			}
		}
	}
}

// webSocket passes a WebSocket's bytes both ways until one side ends it.
func (x *exchange) webSocket(w http.ResponseWriter, resp *http.Response) {
	server, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		return
	}
	resp.Header["Connection"] = []string{"Upgrade"}
	resp.Header["Upgrade"] = []string{"websocket"}
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	stop := whenIdle(x.proxy.limits.stream, x.moved, func() { _ = conn.Close() })
	defer stop()
	if x.life != nil {
		defer context.AfterFunc(x.life, func() { _, _ = conn.Close(), server.Close() })()
	}
	x.copyBoth(conn, server)
}

// overrides names what asks the server for another method or path, short enough to be shown.
func overrides(req *http.Request) (method, path string) {
	method, path = policy.Overrides(req.Header, req.URL.RawQuery)
	return shorten(method), path
}

// pathOf is the path that is judged, and that is sent.
func pathOf(req *http.Request) string {
	if path := req.URL.EscapedPath(); path != "" {
		return path
	}
	return "/"
}
