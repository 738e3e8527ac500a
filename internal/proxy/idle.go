package proxy

import (
	"sync"
	"time"
)

// limits are the times after which something is given up, and how much there may be of what many connections share; tests
// have lower ones.
type limits struct {
	head      time.Duration // for a request's head, once it has begun
	handshake time.Duration // for the first bytes of a tunnel and its TLS handshake
	idle      time.Duration // between requests of a connection from inside
	stream    time.Duration // for exchanges and tunnels in which nothing moves in either direction
	streams   int64         // of HTTP/2 that are open at once, over all connections

	pause func(time.Duration, func()) (stop func() bool) // calls a function after that time
}

func (c Config) waits() limits {
	if c.limits != nil {
		return *c.limits
	}
	return usualLimits()
}

func usualLimits() limits {
	return limits{head: 30 * time.Second, handshake: 30 * time.Second, idle: 5 * time.Minute, stream: 2 * time.Hour, streams: 2048,
		pause: func(d time.Duration, then func()) func() bool { return time.AfterFunc(d, then).Stop }}
}

// idleParts is into how many parts an idle limit is cut: something is looked at that often, and may last one longer.
const idleParts = 8

// whenIdle calls end once progress has not changed for about limit. The function that it gives stops that; it does
// not wait for end.
func whenIdle(limit time.Duration, progress func() int64, end func()) (stop func()) {
	g := &idleGuard{part: limit / idleParts, progress: progress, end: end, last: progress()}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timer = time.AfterFunc(g.part, g.look)
	return g.stop
}

type idleGuard struct {
	part     time.Duration
	progress func() int64
	end      func()

	mu    sync.Mutex
	timer *time.Timer
	over  bool
	last  int64
	still int // looks without a change
}

func (g *idleGuard) look() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return
	}
	if now := g.progress(); now != g.last {
		g.last, g.still = now, 0
	} else if g.still++; g.still >= idleParts {
		g.over = true
		g.end()
		return
	}
	g.timer.Reset(g.part)
}

func (g *idleGuard) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	g.timer.Stop()
}
