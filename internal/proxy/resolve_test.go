package proxy

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
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"agentbox/internal/policy"
)

// nameserver is a real DNS server on loopback, over UDP and TCP, that counts what it is asked.
type nameserver struct {
	t    testing.TB
	addr string

	mu    sync.Mutex
	zone  map[string][]string // name → lines of a zone file
	code  map[string]int
	cut   map[string]bool // over UDP
	raw   func(*dns.Msg) []byte
	asked []string // "udp A name."
}

func newNameserver(t testing.TB, zone map[string][]string) *nameserver {
	t.Helper()
	s := &nameserver{t: t, zone: zone, code: map[string]int{}, cut: map[string]bool{}}
	packets, stream := samePort(t)
	s.addr = stream.Addr().String()
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: s}, {Listener: stream, Handler: s}} {
		ready := make(chan struct{})
		server.NotifyStartedFunc = func() { close(ready) }
		done := make(chan error, 1)
		go func() { done <- server.ActivateAndServe() }()
		<-ready
		t.Cleanup(func() {
			_ = server.Shutdown()
			if err := <-done; err != nil {
				t.Errorf("serving names: %v", err)
			}
		})
	}
	return s
}

// samePort listens on one port for both kinds of messages.
func samePort(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		stream, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		packets, err := net.ListenPacket("udp4", stream.Addr().String())
		if err == nil {
			return packets, stream
		}
		_ = stream.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

func (s *nameserver) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	network := w.RemoteAddr().Network()
	question := r.Question[0]
	name := strings.ToLower(question.Name)
	s.mu.Lock()
	s.asked = append(s.asked, network+" "+dns.TypeToString[question.Qtype]+" "+name)
	lines, code, cut, raw := s.zone[name], s.code[name], s.cut[name] && network == "udp", s.raw
	s.mu.Unlock()
	if raw != nil {
		_, _ = w.Write(raw(r))
		return
	}
	m := new(dns.Msg).SetRcode(r, code)
	m.RecursionAvailable = true
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			s.t.Errorf("zone: %v", err)
			return
		}
		if kind := rr.Header().Rrtype; kind == question.Qtype || kind == dns.TypeCNAME {
			m.Answer = append(m.Answer, rr)
		}
	}
	if len(lines) == 0 && code == 0 {
		m.Rcode = dns.RcodeNameError
	}
	if cut {
		m.Answer, m.Truncated = nil, true
	}
	_ = w.WriteMsg(m)
}

// answers changes what it answers, while it serves.
func (s *nameserver) answers(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *nameserver) set(name string, lines ...string) {
	s.answers(func() { s.zone[name] = lines })
}

func (s *nameserver) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, asked := range s.asked {
		if strings.Contains(asked, what) {
			n++
		}
	}
	return n
}

// system asks the nameserver in the place of those of resolv.conf.
func (s *nameserver) system() system {
	return system{dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.addr)
	}}
}

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) forward(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

func addrsOf(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, s := range list {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

func sameAddrs(got []netip.Addr, want ...string) bool {
	plain := make([]netip.Addr, len(got))
	for i, a := range got {
		plain[i] = a.Unmap()
	}
	slices.SortFunc(plain, netip.Addr.Compare)
	wanted := addrsOf(want...)
	slices.SortFunc(wanted, netip.Addr.Compare)
	return slices.Equal(plain, wanted)
}

func TestAnswersAreReadAlongWithTheirTimes(t *testing.T) {
	s := newNameserver(t, map[string][]string{
		"a.names.test.":    {"a.names.test. 77 IN A 1.1.1.1", "a.names.test. 55 IN AAAA 2606:4700::1111"},
		"many.names.test.": {"many.names.test. 300 IN A 1.1.1.1", "many.names.test. 20 IN A 1.1.1.2"},
		"chain.names.test.": {"chain.names.test. 200 IN CNAME b.names.test.", "b.names.test. 9 IN CNAME c.names.test.",
			"c.names.test. 100 IN A 1.1.1.3", "c.names.test. 100 IN AAAA 2606:4700::3"},
		"now.names.test.":   {"now.names.test. 0 IN A 1.1.1.4"},
		"long.names.test.":  {"long.names.test. 86400 IN A 1.1.1.5"},
		"wrong.names.test.": {"wrong.names.test. 2147483648 IN A 1.1.1.6"},
		"big.names.test.":   {"big.names.test. 33 IN A 1.1.1.7"},
	})
	s.answers(func() { s.cut["big.names.test."] = true })
	for _, c := range []struct {
		name     string
		lifetime time.Duration
		addrs    []string
	}{
		{"a.names.test", 55 * time.Second, []string{"1.1.1.1", "2606:4700::1111"}},
		{"many.names.test", 20 * time.Second, []string{"1.1.1.1", "1.1.1.2"}},
		{"chain.names.test", 9 * time.Second, []string{"1.1.1.3", "2606:4700::3"}},
		{"now.names.test", 0, []string{"1.1.1.4"}},
		{"long.names.test", 24 * time.Hour, []string{"1.1.1.5"}},
		{"wrong.names.test", 0, []string{"1.1.1.6"}},
		{"big.names.test", 33 * time.Second, []string{"1.1.1.7"}},
	} {
		got, err := s.system().find(t.Context(), mustHost(t, c.name))
		if err != nil || got.lifetime != c.lifetime || !sameAddrs(got.addrs, c.addrs...) {
			t.Errorf("%s: got %v for %s, %v; want %v for %s", c.name, got.addrs, got.lifetime, err, c.addrs, c.lifetime)
		}
	}
	if s.count("tcp A big.names.test.") != 1 || s.count("udp A big.names.test.") != 1 {
		t.Errorf("asked %q", s.asked)
	}
	if s.count("search") != 0 || s.count("local") != 0 {
		t.Errorf("asked %q", s.asked)
	}
}

func TestNamesThatDoNotExist(t *testing.T) {
	s := newNameserver(t, map[string][]string{"text.names.test.": {"text.names.test. 5 IN TXT x"}})
	s.answers(func() { s.code["broken.names.test."] = dns.RcodeServerFailure })
	for name, lifetime := range map[string]time.Duration{"none.names.test": missingKept, "text.names.test": missingKept, "broken.names.test": 0} {
		got, err := s.system().find(t.Context(), mustHost(t, name))
		var said *net.DNSError
		if !errors.As(err, &said) || got.lifetime != lifetime || len(got.addrs) != 0 {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

// The names of /etc/hosts are found without asking a server.
func TestWhatNoServerWasAskedForIsNotKept(t *testing.T) {
	if seen := new(observation); seen.lifetime() != 0 || seen.answered() {
		t.Errorf("kept for %s", seen.lifetime())
	}
	asked := 0
	n := newNameCache(finding(func(context.Context, policy.Host) (found, error) {
		asked++
		return found{addrs: addrsOf("1.1.1.1")}, nil
	}), time.Now)
	for range 3 {
		if _, err := n.lookup(t.Context(), mustHost(t, "good.test")); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 3 || len(n.kept) != 0 {
		t.Errorf("asked %d times, and %d are kept", asked, len(n.kept))
	}
}

// kept keeps the nameserver's answers by a clock.
func (s *nameserver) kept(c *clock) *nameCache { return newNameCache(s.system(), c.Now) }

func TestAnswersAreKeptAsLongAsTheyHold(t *testing.T) {
	s := newNameserver(t, map[string][]string{
		"a.names.test.":    {"a.names.test. 60 IN A 1.1.1.1"},
		"long.names.test.": {"long.names.test. 86400 IN A 1.1.1.5"},
		"now.names.test.":  {"now.names.test. 0 IN A 1.1.1.4"},
	})
	c := &clock{now: time.Now()}
	n := s.kept(c)
	for _, step := range []struct {
		forward time.Duration
		name    string
		asked   int // so far
	}{
		{0, "a.names.test", 1}, {0, "a.names.test", 1}, {59 * time.Second, "a.names.test", 1}, {time.Second, "a.names.test", 2},
		{0, "long.names.test", 1}, {longestKept - 1, "long.names.test", 1}, {1, "long.names.test", 2},
		{0, "now.names.test", 1}, {0, "now.names.test", 2},
	} {
		c.forward(step.forward)
		if _, err := n.lookup(t.Context(), mustHost(t, step.name)); err != nil {
			t.Fatal(err)
		}
		if got := s.count("udp A " + step.name + "."); got != step.asked {
			t.Errorf("%s, %s later: asked %d times, want %d", step.name, step.forward, got, step.asked)
		}
	}
	missing := mustHost(t, "none.names.test")
	for range 2 {
		if _, err := n.lookup(t.Context(), missing); err == nil {
			t.Error("a name that does not exist was found")
		}
	}
	if got := s.count("udp A none"); got != 1 {
		t.Errorf("asked %d times for what does not exist", got)
	}
	s.set("none.names.test.", "none.names.test. 60 IN A 1.1.1.9")
	c.forward(missingKept)
	if addrs, err := n.lookup(t.Context(), missing); err != nil || !sameAddrs(addrs, "1.1.1.9") {
		t.Errorf("got %v, %v", addrs, err)
	}
	n.forget(missing)
	if _, err := n.lookup(t.Context(), missing); err != nil || s.count("udp A none") != 3 {
		t.Errorf("asked %d times after it was forgotten, %v", s.count("udp A none"), err)
	}
}

// finding is a finder that a test decides on.
type finding func(context.Context, policy.Host) (found, error)

func (f finding) find(ctx context.Context, host policy.Host) (found, error) { return f(ctx, host) }

func TestManyWhoWantTheSameAskOnce(t *testing.T) {
	began, let := make(chan struct{}), make(chan struct{})
	asked := 0
	n := newNameCache(finding(func(context.Context, policy.Host) (found, error) {
		asked++
		close(began)
		<-let
		return found{addrs: addrsOf("1.1.1.1")}, nil
	}), time.Now)
	host := mustHost(t, "good.test")
	var all sync.WaitGroup
	all.Go(func() { _, _ = n.lookup(t.Context(), host) })
	<-began
	for range 20 {
		_, q, mine := n.begin(host)
		if mine {
			t.Fatal("a second question")
		}
		all.Go(func() {
			<-q.done
			if !sameAddrs(q.addrs, "1.1.1.1") {
				t.Errorf("got %v", q.addrs)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.lookup(ctx, host); !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up got %v", err)
	}
	close(let)
	all.Wait()
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// Whoever asks on behalf of others and gives up must not make them fail, nor be remembered.
func TestWhoGivesUpSpoilsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		n := newNameCache(finding(func(ctx context.Context, _ policy.Host) (found, error) {
			if asked++; asked == 1 {
				<-ctx.Done()
				return found{lifetime: time.Minute}, ctx.Err()
			}
			return found{addrs: addrsOf("1.1.1.1")}, nil
		}), time.Now)
		host := mustHost(t, "good.test")
		first, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := n.lookup(first, host); !errors.Is(err, context.Canceled) {
				t.Errorf("who gave up got %v", err)
			}
		})
		synctest.Wait()
		for range 3 {
			all.Go(func() {
				if addrs, err := n.lookup(t.Context(), host); err != nil || !sameAddrs(addrs, "1.1.1.1") {
					t.Errorf("who waited got %v, %v", addrs, err)
				}
			})
		}
		synctest.Wait() // they wait for the first
		cancel()
		all.Wait()
	})
}

func TestWhatIsKeptOfNamesIsBounded(t *testing.T) {
	n := newNameCache(finding(func(_ context.Context, host policy.Host) (found, error) {
		if strings.HasPrefix(host.String(), "crowded-") {
			return found{make([]netip.Addr, maxKept+1), time.Hour}, nil
		}
		return found{addrsOf("1.1.1.1"), time.Hour}, nil
	}), time.Now)
	for i := range 10_000 {
		for _, name := range []string{"host-%d.wild.test", "crowded-%d.wild.test"} {
			if _, err := n.lookup(t.Context(), mustHost(t, fmt.Sprintf(name, i))); err != nil {
				t.Fatal(err)
			}
		}
		if i == 5000 {
			_, _ = n.lookup(t.Context(), mustHost(t, "host-5000.wild.test"))
		}
	}
	if len(n.kept) != maxNames || n.recent.Len() != maxNames || len(n.asked) != 0 {
		t.Errorf("%d names, %d in order, %d questions", len(n.kept), n.recent.Len(), len(n.asked))
	}
	for element := n.recent.Front(); element != nil; element = element.Next() {
		if a := element.Value.(*answer); len(a.addrs) > maxKept {
			t.Errorf("%d addresses of %s are kept", len(a.addrs), a.host)
		}
	}
}

// What a server answers can end the keeping of an answer, and nothing else.
func TestHostileRepliesAreNotKept(t *testing.T) {
	s := newNameserver(t, nil)
	for name, raw := range map[string]func(*dns.Msg) []byte{
		"an alias that is cut off": func(r *dns.Msg) []byte {
			m := new(dns.Msg).SetReply(r)
			a, _ := dns.NewRR("x.names.test. 300 IN A 1.1.1.1")
			m.Answer = []dns.RR{a}
			packed, _ := m.Pack()
			packed[7]++ // one answer more than there is
			return packed
		},
		"nothing": func(*dns.Msg) []byte { return []byte{0} },
	} {
		t.Run(name, func(t *testing.T) {
			s.mu.Lock()
			s.raw = raw
			s.mu.Unlock()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if got, _ := s.system().find(ctx, mustHost(t, "x.names.test")); got.lifetime != 0 {
				t.Errorf("kept for %s", got.lifetime)
			}
		})
	}
}

// One reply that can't be read is enough, whatever the others say.
func TestAReplyThatCannotBeReadEndsTheKeeping(t *testing.T) {
	m := new(dns.Msg).SetQuestion("good.test.", dns.TypeA)
	rr, err := dns.NewRR("good.test. 60 IN A 1.1.1.1")
	if err != nil {
		t.Fatal(err)
	}
	m.Answer = []dns.RR{rr}
	good, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"empty": {}, "a head": good[:11], "cut off": good[:len(good)-2], "noise": []byte(strings.Repeat("\x81", 40))} {
		for _, order := range [][][]byte{{good, bad}, {bad, good}} {
			o := &observation{}
			o.reply(good)
			if o.lifetime() != time.Minute || !o.answered() {
				t.Fatalf("kept for %s", o.lifetime())
			}
			o = &observation{}
			for _, message := range order {
				o.reply(message)
			}
			if o.lifetime() != 0 || o.answered() {
				t.Errorf("%s: kept for %s", name, o.lifetime())
			}
		}
	}
}

// FuzzObservation feeds what is read along with hostile replies, whole and in pieces.
func FuzzObservation(f *testing.F) {
	m := new(dns.Msg).SetQuestion("good.test.", dns.TypeA)
	for _, line := range []string{"good.test. 60 IN CNAME b.test.", "b.test. 30 IN A 1.1.1.1", "b.test. 30 IN AAAA ::1", "b.test. 5 IN TXT \"x\""} {
		rr, err := dns.NewRR(line)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
		packed, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed, uint8(3))
		f.Add(append([]byte{0, byte(len(packed))}, packed...), uint8(1))
		f.Add(packed[:len(packed)-3], uint8(7))
	}
	f.Add([]byte{0xff, 0xff, 0, 0}, uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		lowest, records, err := lowestTTL(data)
		if err != nil && (lowest != 0 || records != 0) || lowest > 1<<31-1 || records > len(data) {
			t.Errorf("%d, %d, %v", lowest, records, err)
		}
		o := &observation{}
		conn := &watchedStream{seen: o}
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			for piece := rest[:n]; len(piece) > 0; {
				before := len(piece)
				if piece = conn.take(piece); len(piece) >= before {
					t.Fatal("nothing was taken")
				}
			}
			if len(conn.held) > 2+65535 {
				t.Fatalf("%d bytes are held", len(conn.held))
			}
			rest = rest[n:]
		}
		if o.broken && o.lifetime() != 0 {
			t.Error("a broken reply is kept")
		}
	})
}
