package proxy

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"agentbox/internal/policy"
)

const (
	maxNames    = 4096            // whose addresses are kept
	maxKept     = 64              // addresses of one name that are kept; a name with more is asked for each time
	longestKept = 5 * time.Minute // whatever a server says
	missingKept = 3 * time.Second // that a name does not exist
)

// found is what asking for a name gave, and for how long that may be kept.
type found struct {
	addrs    []netip.Addr
	lifetime time.Duration
}

// finder asks for the addresses of a name.
type finder interface {
	find(ctx context.Context, host policy.Host) (found, error)
}

// system asks as this machine is set up to: /etc/hosts, nsswitch.conf, resolv.conf. Names are asked for with their
// trailing dot, so that no search domain is tried. A resolver is made for each question, so that what is read along
// belongs to that question alone. dial reaches the servers.
type system struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (s system) find(ctx context.Context, host policy.Host) (found, error) {
	seen := &observation{}
	resolver := net.Resolver{
		// Elsewhere Go's own resolver would not know what the system does with some names (VPNs), so that the system's
		// is used, nothing is seen, and nothing is kept.
		PreferGo: runtime.GOOS == "linux",
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := s.dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return seen.watch(conn), nil
		},
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip", host.String()+".")
	var dns *net.DNSError
	switch {
	case err == nil:
		return found{addrs, seen.lifetime()}, nil
	case errors.As(err, &dns) && dns.IsNotFound && seen.answered():
		return found{lifetime: missingKept}, err
	}
	return found{}, err
}

// given asks a Resolver that was handed in. It says nothing about how long its answers hold.
type given struct{ resolver Resolver }

func (g given) find(ctx context.Context, host policy.Host) (found, error) {
	addrs, err := g.resolver.LookupNetIP(ctx, "ip", host.String())
	return found{addrs: addrs}, err
}

// nameCache keeps what names led to for as long as that holds, and asks once where many want the same. What it gives was
// not checked: whoever uses it checks, each time.
type nameCache struct {
	finder finder
	now    func() time.Time

	mu     sync.Mutex
	kept   map[policy.Host]*list.Element // of *answer
	recent *list.List                    // the last used first
	asked  map[policy.Host]*question
}

// answer is what is kept of one name.
type answer struct {
	host  policy.Host
	addrs []netip.Addr
	err   error
	until time.Time
}

// question is being asked by one caller, on behalf of all who want the same.
type question struct {
	done   chan struct{} // closed when the rest is set
	addrs  []netip.Addr
	err    error
	called bool // off: by the end of the asker's own context
}

func newNameCache(f finder, now func() time.Time) *nameCache {
	return &nameCache{finder: f, now: now, kept: map[policy.Host]*list.Element{}, recent: list.New(), asked: map[policy.Host]*question{}}
}

// lookup gives the addresses of a name. They are shared: nobody may change them.
func (n *nameCache) lookup(ctx context.Context, host policy.Host) ([]netip.Addr, error) {
	for {
		known, q, mine := n.begin(host)
		if known != nil {
			return known.addrs, known.err
		}
		if mine {
			n.ask(ctx, host, q)
			return q.addrs, q.err
		}
		select {
		case <-q.done:
			if !q.called {
				return q.addrs, q.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// begin gives what is known, or the question that is being asked; mine says that the caller has to ask it.
func (n *nameCache) begin(host policy.Host) (known *answer, q *question, mine bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if element, ok := n.kept[host]; ok {
		if a := element.Value.(*answer); n.now().Before(a.until) {
			n.recent.MoveToFront(element)
			return a, nil, false
		}
		n.drop(element)
	}
	if q, ok := n.asked[host]; ok {
		return nil, q, false
	}
	q = &question{done: make(chan struct{}), err: errors.New("the look-up came to nothing")}
	n.asked[host] = q
	return nil, q, true
}

func (n *nameCache) ask(ctx context.Context, host policy.Host, q *question) {
	began, kept := n.now(), time.Duration(0)
	defer func() {
		n.mu.Lock()
		delete(n.asked, host)
		if kept > 0 && !q.called {
			n.keep(&answer{host, q.addrs, q.err, began.Add(kept)})
		}
		n.mu.Unlock()
		close(q.done)
	}()
	var f found
	f, q.err = n.finder.find(ctx, host)
	q.addrs, q.called = f.addrs, q.err != nil && ctx.Err() != nil
	if len(f.addrs) <= maxKept {
		kept = min(f.lifetime, longestKept)
	}
}

func (n *nameCache) keep(a *answer) {
	n.kept[a.host] = n.recent.PushFront(a)
	if n.recent.Len() > maxNames {
		n.drop(n.recent.Back())
	}
}

func (n *nameCache) drop(element *list.Element) {
	delete(n.kept, n.recent.Remove(element).(*answer).host)
}

// forget makes the next look-up of a name ask again: nothing answered where it led.
func (n *nameCache) forget(host policy.Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if element, ok := n.kept[host]; ok {
		n.drop(element)
	}
}
