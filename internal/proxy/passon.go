package proxy

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// directRaw serves a connection made straight to a name to which connections are passed on as they are. It owns conn.
func (p *Proxy) directRaw(conn net.Conn, t target) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	resume := attend(conn, cancel)
	d, err := p.gate.Check(ctx, t.request())
	conn = resume()
	if err != nil || !d.Allowed() {
		_ = conn.Close()
		return
	}
	p.passOn(conn, t, d, func(err error) bool { return err == nil })
}

// attend reads ahead while a connection has to wait, and calls gone when it ends meanwhile. What it gives stops that,
// and gives the connection with what was read.
func attend(conn net.Conn, gone func()) (resume func() net.Conn) {
	in := &input{conn: conn}
	var reading sync.WaitGroup
	reading.Go(func() {
		for len(in.ahead()) < inputSize {
			if in.fill() != nil {
				gone()
				return
			}
		}
	})
	return func() net.Conn {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		reading.Wait()
		_ = conn.SetReadDeadline(time.Time{})
		return replay(conn, in.ahead())
	}
}

// relay is a connection whose bytes are passed on as they are.
type relay struct {
	proxy    *Proxy
	target   target
	decision policy.Decision
	inside   net.Conn
	outside  net.Conn
	up, down atomic.Int64
	reason   atomic.Pointer[string] // why it was cut
}

// passOn dials t and copies both ways; bytes are counted, and held against the limit before they leave. dialled is
// told how dialling went, and decides whether anything is copied. It owns conn, and records how it ended.
func (p *Proxy) passOn(conn net.Conn, t target, d policy.Decision, dialled func(error) bool) {
	defer func() { _ = conn.Close() }()
	began := time.Now()
	done := event.Event{Kind: event.NetResponse, Host: t.host.String(), Port: t.port, Via: t.via}
	outside, err := p.dialer.dial(p.ctx, t.host, t.port)
	if err != nil {
		done.Status, done.Reason = http.StatusBadGateway, reasonOf(err)
	}
	open := dialled(err)
	if err == nil {
		r := &relay{proxy: p, target: t, decision: d, inside: conn, outside: outside}
		if open && conn.SetDeadline(time.Time{}) == nil && p.conns.add(outside) {
			r.run()
			p.conns.remove(outside)
		}
		_ = outside.Close()
		done.BytesUp, done.BytesDown = r.up.Load(), r.down.Load()
		if reason := r.reason.Load(); reason != nil {
			done.Reason = *reason
		}
	}
	done.Millis = time.Since(began).Milliseconds()
	_ = p.events.Emit(done)
}

// run copies both ways until both are done, or one fails. A direction that ends is closed for its receiver, and the
// other goes on.
func (r *relay) run() {
	stop := whenIdle(r.proxy.limits.stream, func() int64 { return r.up.Load() + r.down.Load() }, func() {
		r.cut("nothing moved for " + r.proxy.limits.stream.String())
	})
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { r.half(r.outside, r.inside, r.maySend) })
	both.Go(func() { r.half(r.inside, r.outside, func(n int64) bool { r.down.Add(n); return true }) })
	both.Wait()
}

func (r *relay) half(to, from net.Conn, may func(int64) bool) {
	if !r.proxy.passBytes(to, from, may) || closeWrite(to) != nil {
		r.end()
	}
}

func (r *relay) end() {
	_ = r.inside.Close()
	_ = r.outside.Close()
}

func (r *relay) cut(reason string) {
	r.reason.CompareAndSwap(nil, &reason)
	r.end()
}

func (r *relay) maySend(n int64) bool {
	if !r.proxy.gate.Send(r.target.host, n, r.decision.MaxSent) {
		r.cut(spent(r.target.host.String(), r.decision).Reason)
		return false
	}
	r.up.Add(n)
	return true
}
