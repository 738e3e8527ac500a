package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"agentbox/internal/policy"
)

// pretending is a connection that says that it leads to an address which a test can't really have.
type pretending struct {
	net.Conn
	to netip.AddrPort
}

func (c pretending) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.to) }

// landing opens connections to one server on loopback in the place of every address, and remembers the addresses.
type landing struct {
	mu     sync.Mutex
	server string
	opened []netip.AddrPort
	guard  func(netip.AddrPort) netip.AddrPort // what the socket is about to connect to
	remote func(netip.AddrPort) netip.AddrPort // what it connected to
}

func (l *landing) open(ctx context.Context, to netip.AddrPort, guard func(netip.AddrPort) error) (net.Conn, error) {
	l.mu.Lock()
	l.opened = append(l.opened, to)
	l.mu.Unlock()
	got := to
	if l.guard != nil {
		got = l.guard(to)
	}
	if err := guard(got); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.server)
	if err != nil {
		return nil, err
	}
	if l.remote != nil {
		to = l.remote(to)
	}
	return pretending{conn, to}, nil
}

func (l *landing) count() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.opened) }

// sink is a server on loopback that counts connections; what it sends is its greeting.
func sink(t testing.TB, serve func(net.Conn)) (addr string, connections func() int) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	n, open := 0, map[net.Conn]bool{}
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			n, open[conn] = n+1, true
			mu.Unlock()
			all.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String(), func() int { mu.Lock(); defer mu.Unlock(); return n }
}

func echo(conn net.Conn) { _, _ = io.Copy(conn, conn) }

func testDialer(t testing.TB, config Config) *dialer {
	t.Helper()
	roots, err := rootPool(config.ExtraRoots)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDialer(config, roots)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// forbiddenAddrs has one of each class that is never dialled, in every form that carries one.
func forbiddenAddrs() []string {
	out := []string{
		"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.1.1", "169.254.169.254",
		"100.64.0.1", "100.127.255.255", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
		"100.100.100.200", "168.63.129.16", "::", "::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1", "fd00:ec2::254", "100::1", "4000::1",
	}
	for _, inner := range []string{"10.0.0.1", "127.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1"} {
		b := netip.MustParseAddr(inner).As4()
		out = append(out,
			"::ffff:"+inner, "::"+inner, "64:ff9b::"+inner, "64:ff9b:1::"+inner,
			fmt.Sprintf("2002:%02x%02x:%02x%02x::1", b[0], b[1], b[2], b[3]),
			fmt.Sprintf("2001:0:4136:e378:8000:63bf:%02x%02x:%02x%02x", b[0]^0xff, b[1]^0xff, b[2]^0xff, b[3]^0xff))
	}
	// Public inside, but where translation leads is not for this machine to know.
	return append(out, "64:ff9b::8.8.8.8", "2002:808:808::1")
}

// Each class alone, behind and before a public address, as an answer of a real server.
func TestEveryForbiddenClassIsRefusedFromRealAnswers(t *testing.T) {
	for _, addr := range forbiddenAddrs() {
		kind := "A"
		if parsed := netip.MustParseAddr(addr); !parsed.Is4() {
			kind = "AAAA"
		}
		for place, lines := range map[string][]string{
			"alone":           {"x.names.test. 60 IN " + kind + " " + addr},
			"second":          {"x.names.test. 60 IN A 1.1.1.1", "x.names.test. 60 IN " + kind + " " + addr},
			"first":           {"x.names.test. 60 IN " + kind + " " + addr, "x.names.test. 60 IN A 1.1.1.1", "x.names.test. 60 IN AAAA 2606:4700::1"},
			"behind an alias": {"x.names.test. 60 IN CNAME y.names.test.", "y.names.test. 60 IN AAAA 2606:4700::1", "y.names.test. 60 IN " + kind + " " + addr},
		} {
			t.Run(addr+" "+place, func(t *testing.T) {
				s := newNameserver(t, map[string][]string{"x.names.test.": lines})
				to := &landing{}
				d := testDialer(t, Config{})
				d.names, d.open = newNameCache(s.system(), time.Now), to.open
				for range 2 { // from the server, and as it was kept
					var private *addressError
					if conn, err := d.dial(t.Context(), mustHost(t, "x.names.test"), 443); !errors.As(err, &private) {
						t.Errorf("got %v, %v", conn, err)
					}
				}
				if to.count() != 0 {
					t.Errorf("dialled %v", to.opened)
				}
			})
		}
	}
}

func TestPublicAnswersAreDialled(t *testing.T) {
	s := newNameserver(t, map[string][]string{"x.names.test.": {"x.names.test. 60 IN A 1.1.1.1", "x.names.test. 60 IN AAAA 2606:4700::1"}})
	server, _ := sink(t, echo)
	to := &landing{server: server}
	d := testDialer(t, Config{})
	d.names, d.open = newNameCache(s.system(), time.Now), to.open
	for range 3 {
		conn, err := d.dial(t.Context(), mustHost(t, "x.names.test"), 443)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	if got := s.count("udp A x"); got != 1 {
		t.Errorf("asked %d times", got)
	}
}

// The answer changes to an address inside while the first is still kept, and after it.
func TestARebindingNameNeverLeadsInside(t *testing.T) {
	s := newNameserver(t, map[string][]string{"x.names.test.": {"x.names.test. 1 IN A 1.1.1.1"}})
	server, _ := sink(t, echo)
	to, c := &landing{server: server}, &clock{now: time.Now()}
	d := testDialer(t, Config{})
	d.names, d.open = newNameCache(s.system(), c.Now), to.open
	host := mustHost(t, "x.names.test")
	dial := func() error {
		conn, err := d.dial(t.Context(), host, 443)
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	if err := dial(); err != nil {
		t.Fatal(err)
	}
	s.set("x.names.test.", "x.names.test. 1 IN A 127.0.0.1")
	if err := dial(); err != nil { // as it was kept, and checked again
		t.Fatal(err)
	}
	c.forward(time.Second)
	var private *addressError
	if err := dial(); !errors.As(err, &private) || private.class != policy.Loopback {
		t.Errorf("got %v", err)
	}
	for _, addr := range to.opened {
		if addr.String() != "1.1.1.1:443" {
			t.Errorf("dialled %s", addr)
		}
	}
}

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

func TestPrivateAddressesAreGrantedHostByHost(t *testing.T) {
	granted := map[string][]netip.Prefix{
		"db.names.test":  prefixes("10.1.0.0/16", "fd00:1::/32"),
		"any.names.test": prefixes("0.0.0.0/0", "::/0"),
	}
	for _, c := range []struct {
		host, addr string
		dialled    bool
	}{
		{"db.names.test", "10.1.2.3", true}, {"db.names.test", "::ffff:10.1.2.3", true}, {"db.names.test", "fd00:1::5", true}, {"db.names.test", "1.1.1.1", true},
		{"db.names.test", "10.2.0.1", false}, {"db.names.test", "192.168.0.1", false}, {"db.names.test", "64:ff9b::10.1.2.3", false}, {"db.names.test", "fd00:2::5", false},
		{"db.names.test", "127.0.0.1", false},
		{"other.names.test", "10.1.2.3", false}, {"sub.db.names.test", "10.1.2.3", false},
		{"any.names.test", "10.9.9.9", true}, {"any.names.test", "169.254.169.254", false}, {"any.names.test", "fd00:ec2::254", false},
		{"any.names.test", "::ffff:169.254.169.254", false}, {"any.names.test", "100.100.100.200", false}, {"any.names.test", "168.63.129.16", false},
		{"any.names.test", "0.0.0.0", false}, {"any.names.test", "224.0.0.1", false},
		{"any.names.test", "64:ff9b::a9fe:a9fe", false}, {"any.names.test", "2002:a9fe:a9fe::1", false},
	} {
		t.Run(c.host+" "+c.addr, func(t *testing.T) {
			server, _ := sink(t, echo)
			to := &landing{server: server}
			resolver := &lying{answers: [][]netip.Addr{addrsOf("1.1.1.1", c.addr)}}
			d := testDialer(t, Config{Resolver: resolver, Private: func(h policy.Host) []netip.Prefix { return granted[h.String()] }})
			d.open = to.open
			conn, err := d.dial(t.Context(), mustHost(t, c.host), 5432)
			if conn != nil {
				_ = conn.Close()
			}
			if dialled := err == nil; dialled != c.dialled || !c.dialled && to.count() != 0 {
				t.Errorf("got %v, dialled %v", err, to.opened)
			}
		})
	}
}

// Whatever stands between the check and the socket, the socket's own address is what is held against the rules.
func TestAnAddressThatChangesAfterTheCheck(t *testing.T) {
	inside := netip.MustParseAddrPort("127.0.0.1:443")
	public := netip.MustParseAddrPort("1.1.1.2:443")
	for name, change := range map[string]func(*landing){
		"before it connects, inside":      func(l *landing) { l.guard = func(netip.AddrPort) netip.AddrPort { return inside } },
		"before it connects, elsewhere":   func(l *landing) { l.guard = func(netip.AddrPort) netip.AddrPort { return public } },
		"once it is connected, inside":    func(l *landing) { l.remote = func(netip.AddrPort) netip.AddrPort { return inside } },
		"once it is connected, elsewhere": func(l *landing) { l.remote = func(netip.AddrPort) netip.AddrPort { return public } },
		"once it is connected, another port": func(l *landing) {
			l.remote = func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), 22) }
		},
		"once it is connected, to who knows": func(l *landing) { l.remote = func(netip.AddrPort) netip.AddrPort { return netip.AddrPort{} } },
	} {
		t.Run(name, func(t *testing.T) {
			server, connections := sink(t, echo)
			to := &landing{server: server}
			change(to)
			d := testDialer(t, Config{Resolver: &lying{answers: [][]netip.Addr{addrsOf("1.1.1.1")}}})
			d.open = to.open
			conn, err := d.dial(t.Context(), mustHost(t, "x.names.test"), 443)
			var moved *movedError
			if conn != nil || !errors.As(err, &moved) || strings.HasPrefix(name, "before") && connections() != 0 {
				t.Errorf("got %v, %v after %d connections", conn, err, connections())
			}
		})
	}
}

// The guard is asked about the real socket: it stops a connection to a real server before the server hears of it.
func TestTheSocketItselfIsGuarded(t *testing.T) {
	server, connections := sink(t, echo)
	to := netip.MustParseAddrPort(server)
	refused := errors.New("no")
	var asked []netip.AddrPort
	for _, form := range []netip.AddrPort{to, netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())} {
		conn, err := openTCP(t.Context(), form, func(got netip.AddrPort) error { asked = append(asked, got); return refused })
		if conn != nil || !errors.Is(err, refused) {
			t.Errorf("got %v, %v", conn, err)
		}
	}
	d := testDialer(t, Config{})
	var private *addressError
	if conn, err := d.connectTo(mustHost(t, "x.names.test"))(t.Context(), to); conn != nil || !errors.As(err, &private) {
		t.Errorf("an address that nobody checked: %v, %v", conn, err)
	}
	if connections() != 0 || len(asked) != 2 || asked[0] != to || asked[1] != to {
		t.Errorf("asked about %v, %d connections", asked, connections())
	}
	conn, err := openTCP(t.Context(), to, func(netip.AddrPort) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if got := plainAddr(conn.RemoteAddr()); got != to {
		t.Errorf("led to %s", got)
	}
	_ = conn.Close()
}

// Granted, the whole way through the proxy to a real server.
func TestAGrantedPrivateAddressServes(t *testing.T) {
	resolver := &lying{answers: [][]netip.Addr{addrsOf("127.0.0.1")}}
	l := newLab(t, nil, func(c *Config) {
		c.Resolver = resolver
		c.Private = func(h policy.Host) []netip.Prefix {
			if h.String() == "rebind.test" {
				return prefixes("127.0.0.0/8")
			}
			return nil
		}
	})
	port := portOf(t, l.upstream.plain.Listener.Addr().String())
	if resp, body := get(t, l.client(), fmt.Sprintf("http://rebind.test:%d/", port)); resp.StatusCode != http.StatusOK {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

func TestFamiliesTakeTurns(t *testing.T) {
	for in, want := range map[string]string{
		"2606::1 2606::2 1.1.1.1 1.1.1.2":                                         "2606::1 1.1.1.1 2606::2 1.1.1.2",
		"1.1.1.1 2606::1 2606::2":                                                 "1.1.1.1 2606::1 2606::2",
		"1.1.1.1 1.1.1.2 ::ffff:1.1.1.3":                                          "1.1.1.1 1.1.1.2 1.1.1.3",
		"2606::1 2606::2 2606::3 2606::4 2606::5 2606::6 2606::7 2606::8 1.1.1.1": "2606::1 1.1.1.1 2606::2 2606::3 2606::4 2606::5 2606::6 2606::7",
	} {
		var got []string
		for _, a := range interleave(addrsOf(strings.Fields(in)...), 443, maxAddresses) {
			got = append(got, a.Addr().String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

// runner says how long each address takes to connect, and whether it does.
type runner struct {
	takes map[string]time.Duration
	fails map[string]bool
	deaf  bool // to being called off

	mu     sync.Mutex
	began  map[string]time.Duration
	start  time.Time
	open   int // connections that nobody closed
	called int // attempts that were called off
}

// tracked is a connection that knows when it is closed.
type tracked struct {
	net.Conn
	r    *runner
	name string
}

func (c *tracked) Close() error { c.r.mu.Lock(); defer c.r.mu.Unlock(); c.r.open--; return nil }

func (r *runner) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	name := to.Addr().String()
	r.mu.Lock()
	r.began[name] = time.Since(r.start)
	r.mu.Unlock()
	timer := time.NewTimer(r.takes[name])
	defer timer.Stop()
	done := ctx.Done()
	if r.deaf {
		done = nil
	}
	select {
	case <-timer.C:
	case <-done:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.called++
		return nil, ctx.Err()
	}
	if r.fails[name] {
		return nil, syscall.ECONNREFUSED
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open++
	return &tracked{r: r, name: name}, nil
}

func TestTheFirstAddressThatAnswersWins(t *testing.T) {
	for _, c := range []struct {
		name  string
		to    string
		takes map[string]time.Duration
		fails string
		won   string
		after time.Duration
		began map[string]time.Duration
	}{
		{"the first answers at once", "a::1 1.1.1.1", nil, "", "a::1", 0, map[string]time.Duration{"a::1": 0}},
		{"the first is slow", "a::1 1.1.1.1", map[string]time.Duration{"a::1": time.Hour}, "", "1.1.1.1", stagger, map[string]time.Duration{"a::1": 0, "1.1.1.1": stagger}},
		{"the first is slow, and wins", "a::1 1.1.1.1", map[string]time.Duration{"a::1": 300 * time.Millisecond, "1.1.1.1": 200 * time.Millisecond}, "", "a::1", 300 * time.Millisecond, nil},
		{"the first fails at once", "a::1 1.1.1.1", nil, "a::1", "1.1.1.1", 0, map[string]time.Duration{"a::1": 0, "1.1.1.1": 0}},
		{"the first fails later", "a::1 1.1.1.1", map[string]time.Duration{"a::1": 100 * time.Millisecond}, "a::1", "1.1.1.1", 100 * time.Millisecond, nil},
		{"one after another", "a::1 1.1.1.1 a::2 1.1.1.2", map[string]time.Duration{"a::1": time.Hour, "1.1.1.1": time.Hour, "a::2": time.Hour}, "", "1.1.1.2", 3 * stagger, nil},
		{"all fail", "a::1 1.1.1.1", map[string]time.Duration{"1.1.1.1": time.Second}, "a::1 1.1.1.1", "", time.Second, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &runner{takes: c.takes, fails: map[string]bool{}, began: map[string]time.Duration{}, start: time.Now()}
				for name := range strings.FieldsSeq(c.fails) {
					r.fails[name] = true
				}
				var to []netip.AddrPort
				for _, a := range addrsOf(strings.Fields(c.to)...) {
					to = append(to, netip.AddrPortFrom(a, 443))
				}
				conn, err := race(t.Context(), to, r.connect)
				took := time.Since(r.start)
				if c.won == "" {
					if conn != nil || !errors.Is(err, syscall.ECONNREFUSED) {
						t.Errorf("got %v, %v", conn, err)
					}
				} else if err != nil || conn.(*tracked).name != c.won || r.open != 1 {
					t.Errorf("got %v, %v with %d open", conn, err, r.open)
				}
				if took != c.after {
					t.Errorf("after %s, want %s", took, c.after)
				}
				for name, at := range c.began {
					if got, ok := r.began[name]; !ok || got != at {
						t.Errorf("%s was tried after %s, want %s", name, got, at)
					}
				}
				if c.began != nil && len(r.began) != len(c.began) {
					t.Errorf("tried %v", r.began)
				}
			})
		})
	}
}

// Who comes second in the same moment is closed, not left open.
func TestTheSecondConnectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{deaf: true, takes: map[string]time.Duration{"1.1.1.1": 2 * stagger, "1.1.1.2": 2 * stagger}, began: map[string]time.Duration{}, start: time.Now()}
		to := []netip.AddrPort{netip.MustParseAddrPort("1.1.1.1:1"), netip.MustParseAddrPort("1.1.1.2:1")}
		if conn, err := race(t.Context(), to, r.connect); err != nil || conn.(*tracked).name != "1.1.1.1" || r.open != 1 || len(r.began) != 2 {
			t.Errorf("got %v, %v with %d open of %v", conn, err, r.open, r.began)
		}
	})
}

func TestARaceThatIsCalledOffLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{takes: map[string]time.Duration{"1.1.1.1": time.Hour, "1.1.1.2": time.Hour}, began: map[string]time.Duration{}, start: time.Now()}
		ctx, cancel := context.WithTimeout(t.Context(), 2*stagger)
		defer cancel()
		to := []netip.AddrPort{netip.MustParseAddrPort("1.1.1.1:1"), netip.MustParseAddrPort("1.1.1.2:1")}
		if conn, err := race(ctx, to, r.connect); conn != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, %v", conn, err)
		}
		if r.called != 2 || r.open != 0 {
			t.Errorf("%d called off, %d open", r.called, r.open)
		}
	})
	if conn, err := race(t.Context(), nil, nil); conn != nil || err == nil {
		t.Errorf("no address: %v, %v", conn, err)
	}
}
