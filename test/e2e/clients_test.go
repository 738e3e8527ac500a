package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/websocket"

	"agentbox/internal/event"
)

// The names that the profile "net" allows. Both are routed to servers of the test's own.
const (
	secureHost = "example.com"       // port 443; the name in httptest's certificate
	plainHost  = "plain.example.com" // port 80
)

// site is a box with a TLS server and a plain one behind its allowed names.
type site struct {
	*box
	secure, plain *httptest.Server
	usual         http.Handler // what secure answers
	instead       atomic.Value // of http.HandlerFunc; what it answers in its place, once there is one
	forms                      // in which bodies came to its git server
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{box: newBox(t)}
	s.usual = s.handler()
	s.secure = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if handler, ok := s.instead.Load().(http.HandlerFunc); ok {
			handler(w, r)
			return
		}
		s.usual.ServeHTTP(w, r)
	}))
	s.secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that hang up
	s.secure.StartTLS()
	t.Cleanup(s.secure.Close)
	s.plain = httptest.NewServer(http.HandlerFunc(hello))
	t.Cleanup(s.plain.Close)
	ca := filepath.Join(s.conf, "agentbox", "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.secure.Certificate().Raw}), 0o600))
	s.config(fmt.Sprintf("[upstream]\nca = %q\n[upstream.hosts]\n%q = %q\n%q = %q\n", ca,
		secureHost, s.secure.Listener.Addr(), plainHost, s.plain.Listener.Addr()))
	s.profile("net", `version = 1
description = "Two names, and whatever command is asked for"

[agent]
command = ["env", "--"]

[workspace]
mode = "direct"

[network]
default = "deny"

[[network.rule]]
action = "allow"
host = "`+secureHost+`"

[[network.rule]]
action = "allow"
host = "`+plainHost+`"
ports = [80]

[isolation]
runtime = "container"
`)
	return s
}

func (s *site) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", hello)
	mux.HandleFunc("/stream", s.stream)
	mux.HandleFunc("/down", down)
	mux.HandleFunc("/up", up)
	mux.Handle("/echo", websocket.Handler(func(c *websocket.Conn) { _, _ = io.Copy(c, c) }))
	mux.Handle("/git/", s.backend())
	return mux
}

func hello(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprintf(w, "hello %s\n", r.URL.Path) }

// stream sends an event only when the agent has written the one before into a file: an answer that is held back
// anywhere on its way would never end.
func (s *site) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range 5 {
		_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
		w.(http.Flusher).Flush()
		for r.Context().Err() == nil {
			if _, err := os.Stat(filepath.Join(s.repo, fmt.Sprintf("got-%d", i))); err == nil {
				break
			}
			pause()
		}
	}
}

const (
	downloadSize = 200_000_000
	uploadSize   = 100_000_000
)

// pattern is an endless text that shows lost and swapped blocks.
type pattern struct{ n uint64 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(p.n>>13) ^ byte(p.n)
		p.n++
	}
	return len(b), nil
}

func down(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.Copy(w, io.LimitReader(&pattern{}, downloadSize))
}

func up(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	_, _ = fmt.Fprintf(w, "%d %x %v\n", n, sum.Sum(nil), err)
}

func (s *site) run(script string) result {
	s.t.Helper()
	return s.agentbox("run", "net", "--", "sh", "-c", script)
}

// crossings are the events of the latest run's traffic, a line each, in the order of the lines.
func (s *site) crossings() []string {
	s.t.Helper()
	var out []string
	for _, e := range s.events() {
		if strings.HasPrefix(string(e.Kind), "net.") || strings.HasPrefix(string(e.Kind), "dns.") {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s:%d %s %s %d %s", e.Kind, e.Decision, e.Host, e.Port, e.Method, e.Path, e.Status, e.Via)))
		}
	}
	slices.Sort(out)
	return out
}

// crossed checks that the latest run's traffic was this and nothing else.
func (s *site) crossed(want ...string) {
	s.t.Helper()
	slices.Sort(want)
	if got := s.crossings(); !slices.Equal(got, want) {
		s.t.Errorf("the events are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// fetched are the two events of one request that was allowed.
func fetched(host string, port int, path, via string) []string {
	return []string{
		fmt.Sprintf("net.request allow %s:%d GET %s 0 %s", host, port, path, via),
		fmt.Sprintf("net.response  %s:%d GET %s 200 %s", host, port, path, via),
	}
}

func TestProgramsThatKnowNoProxy(t *testing.T) {
	s := newSite(t)
	s.buildClients()
	for _, c := range []struct {
		name, command string
		want          []string
	}{
		{"go", "clients/goclient https://example.com/go", fetched(secureHost, 443, "/go", "direct")},
		{"go http", "clients/goclient http://plain.example.com/go", fetched(plainHost, 80, "/go", "direct")},
		{"node", "clients/nodeclient.js https://example.com/node", fetched(secureHost, 443, "/node", "direct")},
		{"python", "clients/pythonclient.py https://example.com/python", fetched(secureHost, 443, "/python", "direct")},
		{"static musl C", "clients/cclient plain.example.com", fetched(plainHost, 80, "/", "direct")},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := strings.Fields(c.want[0])[4]
			s.box.run(t, "net", c.command).exits(0).prints("hello " + path + "\n")
			s.crossed(c.want...)
		})
		t.Run(c.name+" to an unlisted name", func(t *testing.T) {
			command := strings.NewReplacer(secureHost, unlisted, plainHost, unlisted).Replace(c.command)
			r := s.box.run(t, "net", command).prints("")
			if r.code == 0 {
				t.Error("it says that it came through")
			}
			s.crossed("dns.refused deny " + unlisted + ":0   0 direct")
		})
	}
}

// buildClients puts the programs that know no proxy below clients, in the repository.
func (b *box) buildClients() {
	b.t.Helper()
	build := exec.Command("../clients/build", filepath.Join(b.repo, "clients"))
	if out, err := build.CombinedOutput(); err != nil {
		b.t.Fatalf("building the clients: %v\n%s", err, out)
	}
}

// run runs a command inside, for a subtest.
func (b *box) run(t *testing.T, profile, command string) result {
	t.Helper()
	r := b.agentbox("run", profile, "--", "sh", "-c", command)
	r.t = t
	return r
}

func TestProgramsTrustTheRunsAuthority(t *testing.T) {
	s := newSite(t)
	for name, command := range map[string]string{
		"curl":            "curl -sS --fail https://example.com/x",
		"curl, no proxy":  "curl -sS --fail --noproxy '*' https://example.com/x",
		"curl, system CA": "env -u SSL_CERT_FILE -u CURL_CA_BUNDLE curl -sS --fail https://example.com/x",
		"python":          `python3 -c 'import urllib.request as u; print(u.urlopen("https://example.com/x").read().decode(), end="")'`,
		"node fetch":      `node -e 'fetch("https://example.com/x").then(r => r.text()).then(t => process.stdout.write(t))'`,
		"openssl":         `printf 'GET /x HTTP/1.0\r\nHost: example.com\r\n\r\n' | openssl s_client -quiet -verify_return_error -verify_hostname example.com -connect example.com:443 -servername example.com 2>/tmp/err | grep hello`,
	} {
		t.Run(name, func(t *testing.T) {
			s.box.run(t, "net", command).exits(0).prints("hello /x\n")
			via := "proxy"
			if c := s.crossings(); len(c) > 0 && strings.HasSuffix(c[0], "direct") {
				via = "direct" // which of the two a program takes is its own affair
			}
			s.crossed(fetched(secureHost, 443, "/x", via)...)
		})
	}
}

func TestGitClone(t *testing.T) {
	s := newSite(t)
	s.git("clone", "-q", "--bare", ".", "../served.git")
	s.run("git clone -q https://example.com/git/served.git /tmp/clone && cat /tmp/clone/README.md && git -C /tmp/clone log --format=%s").
		exits(0).prints("# a repository\nstart\n")
	var methods []string
	for _, e := range ofKind(s.events(), event.NetResponse) {
		methods = append(methods, fmt.Sprintf("%s %s %d", e.Method, e.Path, e.Status))
	}
	want := []string{"GET /git/served.git/info/refs 200", "POST /git/served.git/git-upload-pack 200", "POST /git/served.git/git-upload-pack 200"}
	if !slices.Equal(methods, want) {
		t.Errorf("git asked for %q, want %q", methods, want)
	}
}

func TestUnlistedNames(t *testing.T) {
	s := newSite(t)
	s.run("curl -sS --noproxy '*' https://" + unlisted + "/ && exit 99; cat /proc/net/route | tail -n +2; tail -n +3 /proc/net/dev | cut -d: -f1; exit 3").
		exits(3).prints("    lo\n").says("refused     " + unlisted)
	s.crossed("dns.refused deny " + unlisted + ":0   0 direct")

	s.run("curl -sS https://" + unlisted + "/ && exit 99; curl -sS http://" + unlisted + "/ --fail && exit 99; exit 3").exits(3)
	s.crossed("net.request deny "+unlisted+":443 CONNECT  0 proxy", "net.request deny "+unlisted+":80 GET / 0 proxy")

	s.run("curl -sS https://" + plainHost + "/ && exit 99; curl -sS --noproxy '*' http://" + secureHost + "/ --fail && exit 99; exit 3").exits(3)
	if c := s.crossings(); len(c) != 2 || strings.Contains(strings.Join(c, "\n"), "allow") {
		t.Errorf("allowed names on other ports: %q, want two refusals", c)
	}
}

// around tries every way out that needs no name, and prints those that are open.
const around = `
import ctypes, errno, os, socket, sys
def attempt(name, action):
    try:
        action()
    except (OSError, socket.timeout) as e:
        print(name, errno.errorcode.get(e.errno, "timeout"))
    else:
        print(name, "OPEN")
def tcp(address, family=socket.AF_INET):
    def action():
        s = socket.socket(family, socket.SOCK_STREAM)
        s.settimeout(10)
        s.connect(address)
    return action
def udp(address, family=socket.AF_INET):
    def action():
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.settimeout(2)
        s.sendto(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01", address)
        s.recv(512)
    return action
def packet(family, kind, protocol, address):
    def action():
        s = socket.socket(family, kind, protocol)
        s.settimeout(2)
        s.sendto(b"\x08\x00\xf7\xff\x00\x00\x00\x00", address)
        s.recv(512)
    return action
attempt("udp-dns", udp(("1.1.1.1", 53)))
attempt("udp-dns6", udp(("2606:4700:4700::1111", 53), socket.AF_INET6))
attempt("udp-quic", udp(("1.1.1.1", 443)))
attempt("tcp-dns", tcp(("1.1.1.1", 53)))
attempt("tcp-public", tcp(("1.1.1.1", 443)))
attempt("tcp-private", tcp(("10.0.0.1", 80)))
attempt("tcp-metadata", tcp(("169.254.169.254", 80)))
attempt("tcp-six", tcp(("2606:4700:4700::1111", 443), socket.AF_INET6))
attempt("tcp-six-loopback", tcp(("::1", int(sys.argv[1])), socket.AF_INET6))
attempt("host-server", tcp(("127.0.0.1", int(sys.argv[1]))))
attempt("host-server-zero", tcp(("0.0.0.0", int(sys.argv[1]))))
attempt("host-abstract", tcp("\0" + sys.argv[2], socket.AF_UNIX))
attempt("raw-icmp", packet(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP, ("1.1.1.1", 0)))
attempt("ping", packet(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP, ("1.1.1.1", 0)))
attempt("link-layer", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM, 0))
`

func TestWaysAround(t *testing.T) {
	s := newSite(t)
	s.write("around.py", around)
	_, port, err := net.SplitHostPort(s.secure.Listener.Addr().String())
	must(t, err)
	name := "agentbox-e2e-" + filepath.Base(filepath.Dir(s.repo))
	abstract, err := net.Listen("unix", "@"+name)
	must(t, err)
	defer func() { must(t, abstract.Close()) }()
	probe := func() string { // outside, the host's own servers are there
		out, err := exec.Command("python3", filepath.Join(s.repo, "around.py"), port, name).Output()
		must(t, err)
		return string(out)
	}
	if out := probe(); !strings.Contains(out, "host-server OPEN") || !strings.Contains(out, "host-abstract OPEN") {
		t.Fatalf("outside, the attempts do not even reach this test's servers:\n%s", out)
	}
	out := s.run("python3 around.py " + port + " " + name).exits(0).out
	if got := strings.Count(out, "\n"); got != strings.Count(around, "\nattempt(") || strings.Contains(out, "OPEN") {
		t.Errorf("ways around:\n%s", out)
	}
	for _, attempt := range []string{"tcp-public ENETUNREACH", "tcp-private ENETUNREACH", "host-server ECONNREFUSED", "host-abstract ECONNREFUSED", "raw-icmp EPERM", "link-layer ENOSYS", "vsock ENOSYS"} {
		if !strings.Contains(out, attempt+"\n") {
			t.Errorf("no %q among\n%s", attempt, out)
		}
	}
	s.crossed()
}

func TestLiteralAddressesOfTheListeners(t *testing.T) {
	s := newSite(t)
	s.run("curl -sSk --noproxy '*' --max-time 20 https://127.0.0.1/ && exit 99; curl -sS --fail --noproxy '*' --max-time 20 http://127.9.9.9/ && exit 99; exit 3").exits(3)
	c := s.crossings()
	if len(c) == 0 || strings.Contains(strings.Join(c, "\n"), "allow") {
		t.Errorf("the events are %q, want refusals", c)
	}
}

func TestKeepAlive(t *testing.T) {
	s := newSite(t)
	s.run(`curl -sS -o /dev/null -o /dev/null -w '%{num_connects} %{http_code}\n' https://example.com/a https://example.com/b`).
		exits(0).prints("1 200\n0 200\n")
	s.crossed(append(fetched(secureHost, 443, "/a", "proxy"), fetched(secureHost, 443, "/b", "proxy")...)...)
}

func TestAStreamIsNotHeldBack(t *testing.T) {
	s := newSite(t)
	for _, way := range []string{"", "--noproxy '*' ", "--http1.1 "} {
		s.run("rm -f got-*; curl -sSN " + way + `https://example.com/stream | while read -r name value; do [ -z "$name" ] || : >"got-$value"; done; ls got-*`).
			exits(0).prints("got-0\ngot-1\ngot-2\ngot-3\ngot-4\n")
	}
}

func TestLargeTransfers(t *testing.T) {
	s := newSite(t)
	sum := func(n int64) string {
		h := sha256.New()
		_, _ = io.Copy(h, io.LimitReader(&pattern{}, n)) // neither side fails
		return hex.EncodeToString(h.Sum(nil))
	}
	s.run(fmt.Sprintf("curl -sS --fail https://example.com/down | sha256sum; "+
		"curl -sS --fail https://example.com/down | head -c %d | curl -sS --fail -T - https://example.com/up", uploadSize)).
		exits(0).prints(fmt.Sprintf("%s  -\n%d %s <nil>\n", sum(downloadSize), uploadSize, sum(uploadSize)))
	var down, up int64
	for _, e := range ofKind(s.events(), event.NetResponse) {
		down, up = max(down, e.BytesDown), max(up, e.BytesUp)
	}
	if down != downloadSize || up != uploadSize {
		t.Errorf("the log counts %d bytes down and %d up, want %d and %d", down, up, downloadSize, uploadSize)
	}
}

const webSocket = `
import base64, os, socket, ssl
raw = socket.create_connection(("example.com", 443), 20)
s = ssl.create_default_context().wrap_socket(raw, server_hostname="example.com")
f = s.makefile("rwb")
f.write(b"GET /echo HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://example.com\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(os.urandom(16)) + b"\r\n\r\n")
f.flush()
print(f.readline().decode().strip())
while f.readline().strip():
    pass
for text in [b"one", b"two", b"x" * 100]:
    mask = os.urandom(4)
    f.write(bytes([0x81, 0x80 | len(text)]) + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(text)))
    f.flush()
    f.read(1)
    print(f.read(f.read(1)[0]).decode())
`

func TestWebSocketEcho(t *testing.T) {
	s := newSite(t)
	s.write("ws.py", webSocket)
	s.run("python3 ws.py").exits(0).prints("HTTP/1.1 101 Switching Protocols\none\ntwo\n" + strings.Repeat("x", 100) + "\n")
	s.crossed("net.request allow example.com:443 GET /echo 0 direct", "net.response  example.com:443 GET /echo 101 direct")
}
