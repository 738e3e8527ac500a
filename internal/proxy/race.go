package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// stagger is how long one address is waited for before the next is tried beside it (RFC 8305, section 5).
const stagger = 250 * time.Millisecond

// connect opens a connection to one address.
type connect func(ctx context.Context, to netip.AddrPort) (net.Conn, error)

// interleave changes families from one address to the next, beginning with that of the first: the resolver puts first
// what this machine reaches best, IPv6 where it has that (RFC 8305, section 4, and RFC 6724).
func interleave(addrs []netip.Addr, port uint16, most int) []netip.AddrPort {
	var families [2][]netip.Addr
	for _, addr := range addrs {
		addr = addr.Unmap()
		family := 0
		if addr.Is4() != addrs[0].Unmap().Is4() {
			family = 1
		}
		families[family] = append(families[family], addr)
	}
	out := make([]netip.AddrPort, 0, min(len(addrs), most))
	for turn := 0; len(out) < most && len(families[0])+len(families[1]) > 0; turn = 1 - turn {
		if list := families[turn]; len(list) > 0 {
			out, families[turn] = append(out, netip.AddrPortFrom(list[0], port)), list[1:]
		}
	}
	return out
}

// attempt is how one connect ended.
type attempt struct {
	conn net.Conn
	err  error
}

// race tries addresses one after another, the next as soon as one fails or has kept it waiting, and gives the
// connection that is there first. When it returns no attempt goes on, and every other connection is closed.
func race(ctx context.Context, to []netip.AddrPort, open connect) (net.Conn, error) {
	if len(to) == 0 {
		return nil, errors.New("there is no address to connect to")
	}
	ctx, cancel := context.WithCancel(ctx)
	ends := make(chan attempt, len(to))
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			if late := <-ends; late.conn != nil {
				_ = late.conn.Close()
			}
		}
	}()
	var errs []error
	patience := time.NewTimer(stagger)
	defer patience.Stop()
	for next := 0; next < len(to) || running > 0; {
		if next < len(to) {
			addr := to[next]
			go func() { conn, err := open(ctx, addr); ends <- attempt{conn, err} }()
			next, running = next+1, running+1
			patience.Reset(stagger)
		}
		won, err := wait(ends, &running, patience, next < len(to))
		if won != nil {
			return won, nil
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return nil, errors.Join(errs...)
}

// wait gives how the next attempt ended, or nothing when another should be begun beside it.
func wait(ends <-chan attempt, running *int, patience *time.Timer, more bool) (net.Conn, error) {
	timeout := patience.C
	if !more {
		timeout = nil
	}
	select {
	case end := <-ends:
		*running--
		return end.conn, end.err
	case <-timeout:
		return nil, nil
	}
}
