package synthdns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

type recorder struct {
	mu     sync.Mutex
	events []event.Event
	err    error
}

func (r *recorder) Emit(e event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	r.events = append(r.events, e)
	return nil
}

func (r *recorder) all() []event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func allowed(h policy.Host) bool {
	return h.String() == "good.test" || strings.HasSuffix(h.String(), ".wild.test")
}

func host(t testing.TB, name string) policy.Host {
	t.Helper()
	h, err := policy.ParseHost(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

type lab struct {
	t      *testing.T
	log    *recorder
	table  *Table
	server *Server
	addr   map[string]string // by network
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, log: &recorder{}, table: NewTable()}
	l.server = NewServer(l.table, allowed, l.log)
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.addr = map[string]string{"udp": packets.LocalAddr().String(), "tcp": stream.Addr().String()}
	done := make(chan error, 2)
	go func() { done <- l.server.ServeUDP(packets) }()
	go func() { done <- l.server.ServeTCP(stream) }()
	t.Cleanup(func() {
		_ = l.server.Close()
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("serving: %v", err)
			}
		}
	})
	return l
}

func (l *lab) ask(network, name string, kind uint16, edns bool) *dns.Msg {
	l.t.Helper()
	query := new(dns.Msg)
	query.SetQuestion(dns.Fqdn(name), kind)
	if edns {
		query.SetEdns0(4096, true)
	}
	client := &dns.Client{Net: network, Timeout: 20 * time.Second}
	reply, _, err := client.Exchange(query, l.addr[network])
	if err != nil {
		l.t.Fatalf("asking %s for %s: %v", network, name, err)
	}
	return reply
}

func TestAnswers(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		name  string
		kind  uint16
		rcode int
		want  string // of the answer's last field, "" for none
	}{
		{"good.test", dns.TypeA, dns.RcodeSuccess, "127.64.0.1"},
		{"GOOD.Test", dns.TypeA, dns.RcodeSuccess, "127.64.0.1"},
		{"x.wild.test", dns.TypeA, dns.RcodeSuccess, "127.64.0.2"},
		{"good.test", dns.TypeA, dns.RcodeSuccess, "127.64.0.1"},
		{"good.test", dns.TypeANY, dns.RcodeSuccess, "127.64.0.1"},
		{"good.test", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"good.test", dns.TypeHTTPS, dns.RcodeSuccess, ""},
		{"good.test", dns.TypeSVCB, dns.RcodeSuccess, ""},
		{"good.test", dns.TypeMX, dns.RcodeSuccess, ""},
		{"localhost", dns.TypeA, dns.RcodeSuccess, "127.0.0.1"},
		{"db.localhost", dns.TypeA, dns.RcodeSuccess, "127.0.0.1"},
		{"localhost", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"_https._tcp.good.test", dns.TypeSRV, dns.RcodeNameError, ""},
		{"1.0.64.127.in-addr.arpa", dns.TypePTR, dns.RcodeSuccess, "good.test."},
		{"1.0.0.127.in-addr.arpa", dns.TypePTR, dns.RcodeSuccess, "localhost."},
		{"9.9.64.127.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, ""},
		{"x.1.0.64.127.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, ""},
	} {
		for _, network := range []string{"udp", "tcp"} {
			for _, edns := range []bool{false, true} {
				reply := l.ask(network, c.name, c.kind, edns)
				got := ""
				if len(reply.Answer) > 0 {
					fields := strings.Fields(reply.Answer[0].String())
					got = fields[len(fields)-1]
				}
				if reply.Rcode != c.rcode || got != c.want || (reply.IsEdns0() != nil) != edns {
					t.Errorf("%s %s %s: %s %q, want %s %q", network, c.name, dns.TypeToString[c.kind], dns.RcodeToString[reply.Rcode], got, dns.RcodeToString[c.rcode], c.want)
				}
				for _, rr := range reply.Answer {
					if rr.Header().Ttl > 60 {
						t.Errorf("ttl of %s", rr)
					}
				}
			}
		}
	}
	if events := l.log.all(); len(events) != 0 {
		t.Errorf("events for allowed names: %+v", events)
	}
}

func TestRefusedNameIsOneEvent(t *testing.T) {
	l := newLab(t)
	for _, name := range []string{"c2VjcmV0.evil.test", "C2VJCMV0.evil.TEST"} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeTXT} {
			if reply := l.ask("udp", name, kind, false); reply.Rcode != dns.RcodeNameError || len(reply.Answer) != 0 {
				t.Errorf("%s: %v", name, reply)
			}
		}
	}
	for _, name := range []string{"wild.test", "intranet", "good.test.evil.test", "8.8.8.8.in-addr.arpa", "_x._y._z.good.test", `evil.test\000.good.test`} {
		if reply := l.ask("tcp", name, dns.TypeA, false); reply.Rcode != dns.RcodeNameError {
			t.Errorf("%s: %v", name, reply)
		}
	}
	events := l.log.all()
	if len(events) != 7 {
		t.Fatalf("%d events: %+v", len(events), events)
	}
	if e := events[0]; e.Kind != event.DNSRefused || e.Decision != event.Deny || e.Host != "c2vjcmv0.evil.test" || e.Reason == "" {
		t.Errorf("event %+v", e)
	}
	if _, ok := l.table.Lookup(netip.MustParseAddr("127.64.0.1")); ok {
		t.Error("a refused name has an address")
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	log := &recorder{}
	a := &answerer{table: NewTable(), allowed: allowed, events: log, refused: map[string]bool{}}
	for i := range maxRefused + 500 {
		if !a.refuse(fmt.Sprintf("n%d.evil.test", i), "no") {
			t.Fatal("the log took no event")
		}
	}
	if n := len(log.all()); n != maxRefused+1 || len(a.refused) != maxRefused+1 {
		t.Errorf("%d events, %d names kept", n, len(a.refused))
	}
}

func TestFailingLogFailsTheQuery(t *testing.T) {
	l := newLab(t)
	l.log.mu.Lock()
	l.log.err = errors.New("full")
	l.log.mu.Unlock()
	for range 2 {
		if reply := l.ask("udp", "evil.test", dns.TypeA, false); reply.Rcode != dns.RcodeServerFailure {
			t.Errorf("got %v", reply)
		}
	}
}

func TestFullTable(t *testing.T) {
	l := newLab(t)
	l.table.mu.Lock()
	l.table.limit = 2
	l.table.mu.Unlock()
	l.ask("udp", "a.wild.test", dns.TypeA, false)
	l.ask("udp", "b.wild.test", dns.TypeA, false)
	for range 2 {
		if reply := l.ask("udp", "c.wild.test", dns.TypeA, false); reply.Rcode != dns.RcodeServerFailure || len(reply.Answer) != 0 {
			t.Errorf("got %v", reply)
		}
	}
	if reply := l.ask("udp", "a.wild.test", dns.TypeA, false); len(reply.Answer) != 1 {
		t.Errorf("a known name: %v", reply)
	}
	if events := l.log.all(); len(events) != 1 || !strings.Contains(events[0].Reason, "too many names") {
		t.Errorf("events %+v", events)
	}
}

func TestTable(t *testing.T) {
	table := NewTable()
	var all sync.WaitGroup
	addrs := make([]netip.Addr, 300)
	for i := range addrs {
		all.Go(func() { addrs[i] = table.Assign(host(t, fmt.Sprintf("h%d.test", i%150))) })
	}
	all.Wait()
	seen := map[netip.Addr]bool{}
	for i, addr := range addrs {
		if addr != addrs[i%150] || !addr.IsLoopback() || addr.As4()[1] < 64 {
			t.Errorf("address %d is %s", i, addr)
		}
		seen[addr] = true
		for _, form := range []netip.Addr{addr, netip.AddrFrom16(addr.As16())} {
			if h, ok := table.Lookup(form); !ok || h != host(t, fmt.Sprintf("h%d.test", i%150)) {
				t.Errorf("Lookup(%s) = %s, %v", form, h, ok)
			}
		}
	}
	if len(seen) != 150 {
		t.Errorf("%d addresses for 150 names", len(seen))
	}
	for _, other := range []string{"127.0.0.1", "127.0.0.53", "127.64.0.0", "127.64.0.151", "10.64.0.1", "::1", "255.255.255.255"} {
		if h, ok := table.Lookup(netip.MustParseAddr(other)); ok {
			t.Errorf("Lookup(%s) = %s", other, h)
		}
	}
	if addr := table.Assign(policy.Host{}); addr.IsValid() {
		t.Errorf("no name got %s", addr)
	}
}

// A real stub resolver, as Go programs inside use it.
func TestGoResolver(t *testing.T) {
	l := newLab(t)
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, l.addr[network[:3]])
	}}
	addrs, err := resolver.LookupHost(t.Context(), "good.test.")
	if err != nil || !slices.Equal(addrs, []string{"127.64.0.1"}) {
		t.Errorf("good: %v, %v", addrs, err)
	}
	var dnsErr *net.DNSError
	if _, err := resolver.LookupHost(t.Context(), "evil.test."); !errors.As(err, &dnsErr) || !dnsErr.IsNotFound {
		t.Errorf("evil: %v", err)
	}
	if n := len(l.log.all()); n != 1 {
		t.Errorf("%d events", n)
	}
}

func TestGarbageIsSurvived(t *testing.T) {
	l := newLab(t)
	conn, err := net.Dial("udp", l.addr["udp"])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, packet := range [][]byte{{}, {0}, make([]byte, 12), make([]byte, 9000), []byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01")} {
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := net.Dial("tcp", l.addr["tcp"])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close() }()
	if _, err := stream.Write([]byte("\x00\x05hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Read(make([]byte, 1)); err == nil {
		t.Error("garbage over TCP got an answer")
	}
	if reply := l.ask("udp", "good.test", dns.TypeA, false); len(reply.Answer) != 1 {
		t.Errorf("afterwards: %v", reply)
	}
}

func TestOddQueries(t *testing.T) {
	a := &answerer{table: NewTable(), allowed: allowed, events: &recorder{}, refused: map[string]bool{}}
	for name, c := range map[string]struct {
		change func(*dns.Msg)
		rcode  int // -1: no answer
	}{
		"update":      {func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		"chaos":       {func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeNotImplemented},
		"two":         {func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError},
		"none":        {func(m *dns.Msg) { m.Question = nil }, dns.RcodeFormatError},
		"an answer":   {func(m *dns.Msg) { m.Response = true }, -1},
		"plain query": {func(*dns.Msg) {}, dns.RcodeSuccess},
	} {
		query := new(dns.Msg)
		query.SetQuestion("good.test.", dns.TypeA)
		c.change(query)
		packed, err := query.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out := a.answer(packed, true)
		if c.rcode < 0 {
			if out != nil {
				t.Errorf("%s: got an answer", name)
			}
			continue
		}
		var reply dns.Msg
		if err := reply.Unpack(out); err != nil || reply.Rcode != c.rcode || reply.Id != query.Id {
			t.Errorf("%s: %v, %v", name, reply, err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"good.test.", "evil.test.", "localhost.", "1.0.64.127.in-addr.arpa."} {
		query := new(dns.Msg)
		query.SetQuestion(name, dns.TypeA)
		query.SetEdns0(1232, false)
		packed, err := query.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed, true)
	}
	f.Fuzz(func(t *testing.T, packet []byte, udp bool) {
		a := &answerer{table: NewTable(), allowed: allowed, events: &recorder{}, refused: map[string]bool{}}
		out := a.answer(packet, udp)
		if out == nil {
			return
		}
		var reply dns.Msg
		if err := reply.Unpack(out); err != nil || !reply.Response {
			t.Fatalf("the answer to %x is no answer: %v", packet, err)
		}
		if udp && len(out) > maxUDP {
			t.Fatalf("an answer of %d bytes over UDP", len(out))
		}
		for _, rr := range reply.Answer {
			if a, ok := rr.(*dns.A); ok && !a.A.IsLoopback() {
				t.Fatalf("answered %s", rr)
			}
		}
	})
}

func TestCloseStopsEverything(t *testing.T) {
	l := newLab(t)
	conn, err := net.Dial("tcp", l.addr["tcp"])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := l.server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a connection is open")
	}
	if err := l.server.ServeUDP(nopPackets{}); err != nil {
		t.Errorf("serving after Close: %v", err)
	}
}

type nopPackets struct{ net.PacketConn }

func (nopPackets) Close() error { return nil }
