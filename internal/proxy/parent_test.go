package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"agentbox/internal/policy"
)

const (
	parentUser     = "ann"
	parentPassword = "pa55:wörd"
)

// corporate is a real proxy of a corporate network, HTTP or SOCKS5: it resolves every name to one server, as a network would
// whose names nobody else knows.
type corporate struct {
	addr    string
	login   bool
	servers map[string]string // by target: "name:port", or "ip:port"

	mu    sync.Mutex
	asked []string // targets
	fails map[string]byte
	first string // is sent in one write with the answer
}

func (r *corporate) note(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, target)
}

func (r *corporate) targets() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.asked, " ")
}

func newCorporate(t testing.TB, serve func(*corporate, net.Conn)) *corporate {
	t.Helper()
	r := &corporate{servers: map[string]string{}, fails: map[string]byte{}}
	r.addr, _ = sink(t, func(conn net.Conn) { serve(r, conn) })
	return r
}

// join connects both ends, or answers how it failed.
func (r *corporate) join(conn net.Conn, rest io.Reader, target string, answer func(code byte) error) {
	r.note(target)
	server, ok := r.servers[target]
	code := r.fails[target]
	if code == 0 && !ok {
		code = 4
	}
	if code != 0 {
		_ = answer(code)
		return
	}
	out, err := net.Dial("tcp", server)
	if err != nil {
		_ = answer(5)
		return
	}
	defer out.Close()
	if answer(0) != nil {
		return
	}
	go func() { _, _ = io.Copy(out, rest); _ = closeWrite(out) }()
	_, _ = io.Copy(conn, out)
}

func serveHTTPProxy(r *corporate, conn net.Conn) {
	br := bufio.NewReader(conn)
	req, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(parentUser+":"+parentPassword))
	if r.login && req.Header.Get("Proxy-Authorization") != want {
		r.note("407")
		_, _ = io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 4\r\n\r\nwho?")
		return
	}
	if req.Method != http.MethodConnect || req.Host != req.RequestURI {
		_, _ = io.WriteString(conn, "HTTP/1.1 405 No\r\n\r\n")
		return
	}
	r.join(conn, br, req.RequestURI, func(code byte) error {
		head := "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + r.first
		if code != 0 {
			head = "HTTP/1.1 503 \x1b[2J evil words\r\n\r\n<html>"
		}
		_, err := io.WriteString(conn, head)
		return err
	})
}

func serveHTTPSProxy(cert tls.Certificate) func(*corporate, net.Conn) {
	return func(r *corporate, conn net.Conn) {
		secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
		serveHTTPProxy(r, secure)
		_ = secure.Close()
	}
}

// serveSOCKS reads its side of RFC 1928 by itself.
func serveSOCKS(r *corporate, conn net.Conn) {
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(conn, b); err != nil {
			return make([]byte, n)
		}
		return b
	}
	methods := read(int(read(2)[1]))
	if r.login {
		if !strings.ContainsRune(string(methods), 2) {
			r.note("none")
			_, _ = conn.Write([]byte{5, 0xff})
			return
		}
		_, _ = conn.Write([]byte{5, 2})
		user := string(read(int(read(2)[1])))
		if password := string(read(int(read(1)[0]))); user != parentUser || password != parentPassword {
			r.note("wrong")
			_, _ = conn.Write([]byte{1, 1})
			return
		}
		_, _ = conn.Write([]byte{1, 0})
	} else {
		_, _ = conn.Write([]byte{5, 0})
	}
	host := ""
	switch read(4)[3] {
	case 1:
		host = netip.AddrFrom4([4]byte(read(4))).String()
	case 4:
		host = netip.AddrFrom16([16]byte(read(16))).String()
	case 3:
		host = string(read(int(read(1)[0])))
	}
	port := strconv.Itoa(int(binary.BigEndian.Uint16(read(2))))
	r.join(conn, conn, net.JoinHostPort(host, port), func(code byte) error {
		_, err := conn.Write(append(append([]byte{5, code, 0, 3, 4}, "host"...), 0, 80))
		if err == nil && code == 0 && r.first != "" {
			_, err = io.WriteString(conn, r.first)
		}
		return err
	})
}

func (r *corporate) parent(scheme string) *Parent {
	p := &Parent{Scheme: scheme, Address: r.addr}
	if r.login {
		p.User, p.Password = parentUser, func(context.Context) (string, error) { return parentPassword, nil }
	}
	return p
}

// behind is a lab all of whose servers are reached through r, which knows them by name.
func behind(t *testing.T, r *corporate, scheme string, options ...option) *lab {
	t.Helper()
	l := newLab(t, nil, append([]option{func(c *Config) { c.Fixed, c.Parent = nil, r.parent(scheme) }}, options...)...)
	secure, plain := l.upstream.server.Listener.Addr().String(), l.upstream.plain.Listener.Addr().String()
	for target, server := range map[string]string{"good.test:443": secure, "spliced.test:443": secure, "plain.test:80": plain, "1.1.1.1:443": secure, "1.1.1.1:80": plain} {
		r.servers[target] = server
	}
	return l
}

func TestEverythingGoesThroughTheUpstreamProxy(t *testing.T) {
	a := newAuthority(t)
	cert := a.issue(t, time.Now().Add(time.Hour), "localhost")
	for _, c := range []struct {
		scheme string
		serve  func(*corporate, net.Conn)
	}{{"http", serveHTTPProxy}, {"https", serveHTTPSProxy(cert)}, {"socks5h", serveSOCKS}, {"socks5", serveSOCKS}} {
		for _, login := range []bool{false, true} {
			t.Run(c.scheme+map[bool]string{true: " with login"}[login], func(t *testing.T) {
				r := newCorporate(t, c.serve)
				r.login = login
				named, resolver := "good.test:443 plain.test:80 spliced.test:443", &lying{answers: [][]netip.Addr{addrsOf("1.1.1.1")}}
				if c.scheme == "socks5" {
					named = "1.1.1.1:443 1.1.1.1:80 1.1.1.1:443"
				}
				l := behind(t, r, c.scheme, func(config *Config) {
					config.ExtraRoots = append(config.ExtraRoots, a.pem()...)
					config.Parent.Address = strings.Replace(config.Parent.Address, "127.0.0.1", "localhost", 1)
					if c.scheme == "socks5" {
						config.Resolver = resolver
					}
				})
				for _, url := range []string{"https://good.test/a", "http://plain.test/b"} {
					if resp, body := get(t, l.client(), url); resp.StatusCode != 200 || !strings.HasPrefix(body, "hello from ") {
						t.Errorf("%s: got %d %q", url, resp.StatusCode, body)
					}
				}
				spliced := tls.Client(l.connect("spliced.test:443"), &tls.Config{RootCAs: poolOf(l.authority), ServerName: "spliced.test"})
				if answer := l.sayOn(spliced, "GET /c HTTP/1.1\r\nHost: spliced.test\r\nConnection: close\r\n\r\n"); statusOf(answer) != "200 OK" {
					t.Errorf("spliced: got %q", answer)
				}
				if got := r.targets(); got != named {
					t.Errorf("the proxy was asked for %q, want %q", got, named)
				}
			})
		}
	}
}

// The proxy is believed for the way, and for nothing else.
func TestAServerBehindTheUpstreamProxyIsVerified(t *testing.T) {
	r := newCorporate(t, serveHTTPProxy)
	l := behind(t, r, "http")
	r.servers["x.wild.test:443"] = r.servers["plain.test:80"]
	other := newUpstream(t, newAuthority(t), nil)
	r.servers["good.test:443"] = other.server.Listener.Addr().String()
	if resp, body := get(t, l.client(), "https://good.test/"); resp.StatusCode != 502 || !strings.Contains(body, "certificate") {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	if len(other.requests()) != 0 {
		t.Error("the request was sent")
	}
	if resp, _ := get(t, l.client(), "https://x.wild.test/"); resp.StatusCode != 502 {
		t.Errorf("no TLS: got %d", resp.StatusCode)
	}
}

func TestAnUpstreamProxyMustProveItself(t *testing.T) {
	r := newCorporate(t, serveHTTPSProxy(newAuthority(t).issue(t, time.Now().Add(time.Hour), "localhost")))
	r.login = true
	l := behind(t, r, "https")
	if resp, body := get(t, l.client(), "https://good.test/"); resp.StatusCode != 502 || !strings.Contains(body, "upstream proxy was not trusted") {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	if got := r.targets(); got != "" {
		t.Errorf("it was asked for %q", got)
	}
}

// With socks5 names are resolved here, so all that holds of addresses holds.
func TestAddressesAreCheckedBeforeTheyAreHandedOver(t *testing.T) {
	for _, addr := range forbiddenAddrs() {
		r := newCorporate(t, serveSOCKS)
		d := testDialer(t, Config{Parent: r.parent("socks5"), Resolver: &lying{answers: [][]netip.Addr{addrsOf("1.1.1.1", addr)}}})
		var private *addressError
		if conn, err := d.dial(t.Context(), mustHost(t, "good.test"), 443); !errors.As(err, &private) {
			t.Errorf("%s: got %v, %v", addr, conn, err)
		}
		if got := r.targets(); got != "" {
			t.Errorf("%s: the proxy was asked for %q", addr, got)
		}
	}
}

func TestAnotherAddressIsHandedOverWhereOneCannotBeReached(t *testing.T) {
	server, _ := sink(t, echo)
	r := newCorporate(t, serveSOCKS)
	r.servers["[2606:4700::1]:443"] = server
	r.fails["1.1.1.1:443"] = 4
	d := testDialer(t, Config{Parent: r.parent("socks5"), Resolver: &lying{answers: [][]netip.Addr{addrsOf("1.1.1.1", "2606:4700::1")}}})
	conn, err := d.dial(t.Context(), mustHost(t, "good.test"), 443)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if got := r.targets(); got != "1.1.1.1:443 [2606:4700::1]:443" {
		t.Errorf("asked for %q", got)
	}
	r.fails["1.1.1.1:443"] = 2 // its rules
	if _, err := d.dial(t.Context(), mustHost(t, "good.test"), 443); err == nil || !strings.Contains(err.Error(), "rules do not allow") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsDialledDirectly(t *testing.T) {
	for _, scheme := range []string{"http", "socks5"} {
		for _, c := range []struct {
			host, addr string
			direct     bool
			refused    bool
		}{
			{"a.corp.test", "1.1.1.1", true, false}, {"corp.test", "1.1.1.1", false, false}, {"one.test", "1.1.1.1", true, false},
			{"else.test", "1.1.1.1", false, false}, {"else.test", "9.9.9.9", true, false},
			{"a.corp.test", "10.0.0.1", true, true},   // directly, so it is checked
			{"else.test", "10.0.0.1", true, true},     // 10.0.0.0/8 is said to be near, and is not allowed by that
			{"granted.test", "10.0.0.1", true, false}, // but here it is
		} {
			t.Run(scheme+" "+c.host+" "+c.addr, func(t *testing.T) {
				server, _ := sink(t, echo)
				r := newCorporate(t, map[string]func(*corporate, net.Conn){"http": serveHTTPProxy, "socks5": serveSOCKS}[scheme])
				r.servers[c.host+":443"], r.servers[c.addr+":443"] = server, server
				parent := r.parent(scheme)
				parent.Direct, parent.DirectTo = []string{"*.corp.test", "one.test"}, prefixes("10.0.0.0/8", "9.9.9.9/32")
				d := testDialer(t, Config{Parent: parent, Resolver: &lying{answers: [][]netip.Addr{addrsOf(c.addr)}}, Private: func(h policy.Host) []netip.Prefix {
					if h.String() == "granted.test" {
						return prefixes("10.0.0.0/8")
					}
					return nil
				}})
				to := &landing{server: server}
				d.open = to.open
				conn, err := d.dial(t.Context(), mustHost(t, c.host), 443)
				if conn != nil {
					_ = conn.Close()
				}
				if (err != nil) != c.refused || c.direct != (r.targets() == "") || (to.count() == 1) != (c.direct && !c.refused) {
					t.Errorf("got %v, directly %v, the proxy was asked for %q", err, to.opened, r.targets())
				}
			})
		}
	}
}

// A name that cannot be resolved here goes to the proxy, which may know it.
func TestNamesThatOnlyTheUpstreamProxyKnows(t *testing.T) {
	server, _ := sink(t, echo)
	r := newCorporate(t, serveHTTPProxy)
	r.servers["inner.test:443"] = server
	parent := r.parent("http")
	parent.DirectTo = prefixes("10.0.0.0/8")
	d := testDialer(t, Config{Parent: parent})
	d.names = newNameCache(newNameserver(t, map[string][]string{}).system(), time.Now)
	conn, err := d.dial(t.Context(), mustHost(t, "inner.test"), 443)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

func TestFixedHostsAreDialledWithoutTheUpstreamProxy(t *testing.T) {
	r := newCorporate(t, serveHTTPProxy)
	l := newLab(t, nil, func(c *Config) { c.Parent = r.parent("http") })
	if resp, _ := get(t, l.client(), "https://good.test/"); resp.StatusCode != 200 || r.targets() != "" {
		t.Errorf("got %d, the proxy was asked for %q", resp.StatusCode, r.targets())
	}
}

// Bytes that the server sends first come with the proxy's answer in one piece, and are not lost.
func TestBytesBehindTheAnswerOfTheUpstreamProxy(t *testing.T) {
	for scheme, serve := range map[string]func(*corporate, net.Conn){"http": serveHTTPProxy, "socks5h": serveSOCKS} {
		server, _ := sink(t, echo)
		r := newCorporate(t, serve)
		r.servers["good.test:22"], r.first = server, "SSH-2.0-early\r\n"
		d := testDialer(t, Config{Parent: r.parent(scheme)})
		conn, err := d.dial(t.Context(), mustHost(t, "good.test"), 22)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "hello")
		if err := closeWrite(conn); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != r.first+"hello" {
			t.Errorf("%s: got %q, %v", scheme, got, err)
		}
		_ = conn.Close()
	}
}

func TestRefusalsOfTheUpstreamProxyAreClear(t *testing.T) {
	wrong := func(context.Context) (string, error) { return "wr0ng-s3cret", nil }
	for _, c := range []struct {
		name, scheme string
		serve        func(*corporate, net.Conn)
		change       func(*corporate, *Parent)
		reason       string
	}{
		{"no login", "http", serveHTTPProxy, func(_ *corporate, p *Parent) { p.User = "" }, "the upstream proxy wants a name and a password (407)"},
		{"wrong login", "http", serveHTTPProxy, func(_ *corporate, p *Parent) { p.Password = wrong }, "the upstream proxy does not take the name and the password"},
		{"no password", "http", serveHTTPProxy, func(_ *corporate, p *Parent) {
			p.Password = func(context.Context) (string, error) { return "", errors.New("$CORP is not set") }
		}, "the upstream proxy can't be logged in to: $CORP is not set"},
		{"refused", "http", serveHTTPProxy, func(r *corporate, _ *Parent) { r.fails["good.test:443"] = 2 }, "the upstream proxy answered 503 Service Unavailable"},
		{"gone", "http", serveHTTPProxy, func(_ *corporate, p *Parent) { p.Address = "127.0.0.1:1" }, "the upstream proxy could not be reached"},
		{"no SOCKS login", "socks5h", serveSOCKS, func(_ *corporate, p *Parent) { p.User = "" }, "the upstream proxy wants a name and a password"},
		{"wrong SOCKS login", "socks5h", serveSOCKS, func(_ *corporate, p *Parent) { p.Password = wrong }, "the upstream proxy does not take the name and the password"},
		{"long SOCKS login", "socks5h", serveSOCKS, func(_ *corporate, p *Parent) { p.User = strings.Repeat("x", 256) }, "SOCKS5 takes names and passwords of 1 to 255 bytes"},
		{"SOCKS rules", "socks5h", serveSOCKS, func(r *corporate, _ *Parent) { r.fails["good.test:443"] = 2 }, "its rules do not allow the connection"},
		{"SOCKS, odd", "socks5h", serveSOCKS, func(r *corporate, _ *Parent) { r.fails["good.test:443"] = 77 }, "the upstream proxy refused: reason 77"},
		{"SOCKS spoken to HTTP", "socks5h", serveHTTPProxy, nil, "the upstream proxy"},
		{"HTTP spoken to SOCKS", "http", serveSOCKS, nil, "the upstream proxy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newCorporate(t, c.serve)
			r.login = true
			l := behind(t, r, c.scheme, func(config *Config) {
				if c.change != nil {
					c.change(r, config.Parent)
				}
			})
			if c.change == nil {
				l.proxy.dialer.parent.timeout = 100 * time.Millisecond // both wait for the other
			}
			resp, body := get(t, l.client(), "https://good.test/")
			if resp.StatusCode != 502 || !strings.Contains(body, c.reason) || strings.Contains(body, "evil") || strings.Contains(body, "\x1b") {
				t.Errorf("got %d %q", resp.StatusCode, body)
			}
			l.untouched()
			for _, e := range l.only(2) {
				if strings.Contains(e.Reason, "wr0ng") || strings.Contains(e.Reason, "evil") {
					t.Errorf("event %+v", e)
				}
			}
		})
	}
}

// An account is locked after a few wrong passwords: one is enough.
func TestAWrongPasswordIsGivenOnce(t *testing.T) {
	for scheme, serve := range map[string]func(*corporate, net.Conn){"http": serveHTTPProxy, "socks5": serveSOCKS} {
		r := newCorporate(t, serve)
		r.login = true
		p := r.parent(scheme)
		p.Password = func(context.Context) (string, error) { return "wr0ng", nil }
		d := testDialer(t, Config{Parent: p, Resolver: &lying{answers: [][]netip.Addr{addrsOf("1.1.1.1", "1.1.1.2")}}})
		for range 5 {
			if _, err := d.dial(t.Context(), mustHost(t, "good.test"), 443); err == nil || !strings.Contains(err.Error(), "does not take") {
				t.Errorf("got %v", err)
			}
		}
		if got := r.targets(); got != "407" && got != "wrong" {
			t.Errorf("%s: it was asked %q", scheme, got)
		}
	}
}

func TestAnUpstreamProxyThatWaversIsAskedAgain(t *testing.T) {
	server, _ := sink(t, echo)
	r := newCorporate(t, serveHTTPProxy)
	r.login = true
	r.servers["good.test:443"] = server
	p, password := r.parent("http"), parentPassword
	p.Password = func(context.Context) (string, error) { return password, nil }
	d := testDialer(t, Config{Parent: p})
	for _, password = range []string{parentPassword, "x", "y", parentPassword} {
		conn, err := d.dial(t.Context(), mustHost(t, "good.test"), 443)
		if (err == nil) != (password == parentPassword) {
			t.Errorf("%s: got %v", password, err)
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// endless sends the same bytes until nobody reads them, and says how many it could send.
func endless(sent *int64, mu *sync.Mutex, start, again string) func(net.Conn) {
	return func(conn net.Conn) {
		_, err := io.WriteString(conn, start)
		block := strings.Repeat(again, 1+4096/len(again))
		for err == nil {
			var n int
			n, err = io.WriteString(conn, block)
			mu.Lock()
			*sent += int64(n)
			mu.Unlock()
		}
	}
}

func TestAnUpstreamProxyThatAnswersEndlessly(t *testing.T) {
	for _, c := range []struct{ name, scheme, start, again string }{
		{"junk", "http", "", "x"}, {"a header", "http", "HTTP/1.1 200 OK\r\nX: ", "x"}, {"headers", "http", "HTTP/1.1 200 OK\r\n", "X: y\r\n"},
		{"interim answers", "http", "", "HTTP/1.1 100 Continue\r\n\r\n"}, {"a status", "http", "HTTP/1.1 200 ", "x"},
		{"junk", "socks5h", "", "x"}, {"methods", "socks5h", "\x05\x00\x05\x00\x00\x09", "x"}, {"TLS", "https", "", "x"},
	} {
		t.Run(c.scheme+" "+c.name, func(t *testing.T) {
			var mu sync.Mutex
			var sent int64
			addr, _ := sink(t, endless(&sent, &mu, c.start, c.again))
			d := testDialer(t, Config{Parent: &Parent{Scheme: c.scheme, Address: addr}})
			conn, err := d.dial(t.Context(), mustHost(t, "good.test"), 443)
			var said *parentError
			if conn != nil || !errors.As(err, &said) || len(said.reason) > 500 {
				t.Errorf("got %v, %v", conn, err)
			}
		})
	}
}

// What is read of an answer is bounded, whatever there is.
func TestTheAnswerOfTheUpstreamProxyIsReadWithinBounds(t *testing.T) {
	for _, start := range []string{"HTTP/1.1 200 OK\r\nX: ", "", "HTTP/1.1 200 "} {
		conn := &answeringOnce{answer: io.MultiReader(strings.NewReader(start), forever("x"))}
		if out, err := httpConnect(conn, "good.test:443", nil); out != nil || !errors.Is(err, errNotHTTP) || conn.read > maxParentHead {
			t.Errorf("%q: got %v, %v after %d bytes", start, out, err, conn.read)
		}
	}
	for _, start := range []string{"\x05\x00", "\x05\x00\x05\x00\x00\x03", "\x05\x00\x05\x00\x00\x04"} {
		conn := &answeringOnce{answer: io.MultiReader(strings.NewReader(start), forever("\xff"))}
		if _ = socks5(conn, "good.test:443", nil); conn.read > 2+4+1+255+2 {
			t.Errorf("%q: %d bytes were read", start, conn.read)
		}
	}
}

// forever is a reader without an end.
type forever string

func (f forever) Read(p []byte) (int, error) {
	return copy(p, strings.Repeat(string(f), 1+len(p))), nil
}

// answeringOnce is a connection whose other side says what it wants to.
type answeringOnce struct {
	net.Conn
	answer io.Reader
	read   int
}

func (c *answeringOnce) Read(p []byte) (int, error) {
	n, err := c.answer.Read(p)
	c.read += n
	return n, err
}

func (c *answeringOnce) Write(p []byte) (int, error) { return len(p), nil }

func TestAnUpstreamProxyThatNeverAnswers(t *testing.T) {
	for _, c := range []struct{ name, scheme, says string }{
		{"silent", "http", ""}, {"half an answer", "http", "HTTP/1.1 200 OK\r\nX"}, {"silent", "https", ""},
		{"silent", "socks5h", ""}, {"half an answer", "socks5h", "\x05\x00\x05"},
	} {
		t.Run(c.scheme+" "+c.name, func(t *testing.T) {
			addr, _ := sink(t, func(conn net.Conn) {
				_, _ = io.WriteString(conn, c.says)
				_, _ = io.Copy(io.Discard, conn)
			})
			d := testDialer(t, Config{Parent: &Parent{Scheme: c.scheme, Address: addr}})
			d.parent.timeout = 50 * time.Millisecond
			if conn, err := d.dial(t.Context(), mustHost(t, "good.test"), 443); conn != nil || err == nil || err.Error() != "the upstream proxy did not answer in time" {
				t.Errorf("got %v, %v", conn, err)
			}
		})
	}
}

func TestWhoGivesUpEndsTheUpstreamProxysConnection(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	addr, _ := sink(t, func(conn net.Conn) {
		close(began)
		_, _ = io.Copy(io.Discard, conn)
		close(ended)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	d := testDialer(t, Config{Parent: &Parent{Scheme: "http", Address: addr}})
	if conn, err := d.dial(ctx, mustHost(t, "good.test"), 443); conn != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", conn, err)
	}
	<-ended
}

// Whatever the environment says of proxies, it is not read.
func TestNoProxyOfTheEnvironmentIsUsed(t *testing.T) {
	r := newCorporate(t, serveHTTPProxy)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(name, "http://"+r.addr)
	}
	t.Setenv("NO_PROXY", "*")
	l := newLab(t, nil)
	for _, url := range []string{"https://good.test/", "http://plain.test/"} {
		if resp, _ := get(t, l.client(), url); resp.StatusCode != 200 {
			t.Errorf("%s: got %d", url, resp.StatusCode)
		}
	}
	asked := newCorporate(t, serveHTTPProxy)
	behind(t, asked, "http") // NO_PROXY does not lead past it either
	if r.targets() != "" {
		t.Errorf("the environment's proxy was asked for %q", r.targets())
	}
}

func TestParentsThatMakeNoSense(t *testing.T) {
	for _, p := range []Parent{{Scheme: "ftp", Address: "a:1"}, {Address: "a:1"}, {Scheme: "http", Address: "a"}, {Scheme: "http", Address: "a:1", User: "x"}} {
		if _, err := newDialer(Config{Parent: &p}, nil); err == nil {
			t.Errorf("%+v was taken", p)
		}
	}
}
