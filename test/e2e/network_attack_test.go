package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"agentbox/internal/event"
)

// attempt is one attack from inside, what becomes of it, and the events that it leaves but for answers.
type attempt struct {
	name    string
	connect string   // the authority of a CONNECT
	direct  string   // or a name to look up, and its port after a colon
	tls     string   // the name in the TLS greeting; "-" for a greeting without one; "" for no TLS
	send    string   // the bytes, to the proxy itself where no connection was named
	want    string   // as test/clients/inside/attacker.py says it
	events  []string // "kind decision host:port"
}

func (a attempt) MarshalJSON() ([]byte, error) {
	out := map[string]any{"send": latin1(a.send)}
	if a.connect != "" {
		out["connect"] = latin1(a.connect)
	}
	if host, port, ok := strings.Cut(a.direct, ":"); ok {
		out["direct"] = host
		number, err := strconv.Atoi(port)
		if err != nil {
			return nil, err
		}
		out["port"] = number
	}
	if a.tls != "" {
		out["tls"] = strings.TrimPrefix(a.tls, "-")
	}
	return json.Marshal(out)
}

// latin1 gives a text whose characters are the bytes of s.
func latin1(s string) string {
	out := make([]rune, 0, len(s))
	for _, b := range []byte(s) {
		out = append(out, rune(b))
	}
	return string(out)
}

// request is a whole request for a host, which ends its connection.
func request(method, target, host string, more ...string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n" + strings.Join(more, "") + "\r\n"
}

// carriedOut runs the attempts, all in one run, and checks what became of each, what is recorded of it, and that
// nothing reached a server but what the attempts name as reached.
func (w *town) carriedOut(attempts []attempt, reached ...string) {
	w.t.Helper()
	text, err := json.Marshal(attempts)
	must(w.t, err)
	w.write("attempts.json", string(text))
	w.program("attacker.py")
	r := w.run("python3 attacker.py attempts.json").exits(0)
	said := strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
	if len(said) != len(attempts) {
		w.t.Fatalf("%d answers to %d attempts:\n%s%s", len(said), len(attempts), r.out, r.err)
	}
	var want []string
	for i, a := range attempts {
		if said[i] != a.want {
			w.t.Errorf("%s: %s, want %s", a.name, said[i], a.want)
		}
		want = append(want, a.events...)
	}
	if r.err != "" {
		w.t.Log(r.err)
	}
	w.recorded(want)
	w.arrived(reached)
}

// recorded checks the decisions of the latest run.
func (w *town) recorded(want []string) {
	w.t.Helper()
	var got []string
	for _, e := range w.events() {
		if e.Decision != "" && e.Kind != event.RunSelfTest {
			host := strings.TrimSuffix(e.Host, ":"+strconv.Itoa(int(e.Port))) // what is no name is recorded as it was asked for
			for range max(e.Count, 1) {
				got = append(got, fmt.Sprintf("%s %s %s:%d", e.Kind, e.Decision, host, e.Port))
			}
			if e.Decision == event.Deny && e.Reason == "" {
				w.t.Errorf("a denial without a reason: %+v", e)
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	for _, e := range without(got, want) {
		w.t.Errorf("recorded, and not expected: %q", e)
	}
	for _, e := range without(want, got) {
		w.t.Errorf("expected, and not recorded: %q", e)
	}
}

// without is what a has more often than b; both are sorted.
func without(a, b []string) []string {
	left := slices.Clone(b)
	return slices.DeleteFunc(slices.Clone(a), func(e string) bool {
		i := slices.Index(left, e)
		if i >= 0 {
			left = slices.Delete(left, i, i+1)
		}
		return i >= 0
	})
}

// arrived checks what reached the servers: these requests, and connections for their hosts alone.
func (w *town) arrived(want []string) {
	w.t.Helper()
	got := visited(w.visits())
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Errorf("the servers were asked for %q, want %q", got, want)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range w.named {
		if !slices.ContainsFunc(want, func(r string) bool { return strings.HasPrefix(strings.SplitN(r, " ", 2)[1], name+"/") }) {
			w.t.Errorf("a connection for %q reached a server", name)
		}
	}
	if w.opened > len(want) {
		w.t.Errorf("%d connections reached the servers, for %d requests", w.opened, len(want))
	}
}

// The names of the attacks, each led to the recording servers, so that whatever is let through is seen.
const (
	good = "good.example.com"
	wild = "wild.example.com" // below it all is allowed, but for bad.wild.example.com
	evil = "evil.example.com" // no rule names it
)

func attackedTown(t *testing.T) *town {
	w := newTown(t, map[string]http.Handler{good: http.HandlerFunc(hello), evil: http.HandlerFunc(hello), "a." + wild: http.HandlerFunc(hello),
		"bad." + wild: http.HandlerFunc(hello), "http://" + plainHost: http.HandlerFunc(hello), "github.com": http.HandlerFunc(hello), "gist.github.com": http.HandlerFunc(hello)})
	w.lets(attackRules)
	return w
}

const attackRules = `[[network.rule]]
action = "allow"
host = "` + good + `"
[[network.rule]]
action = "allow"
host = "*.` + wild + `"
[[network.rule]]
action = "deny"
host = "bad.` + wild + `"
[[network.rule]]
action = "allow"
host = "bad.` + wild + `"
[[network.rule]]
action = "allow"
host = "` + plainHost + `"
ports = [80]
[[network.rule]]
action = "allow"
host = "github.com"
`

func denied(host string, port int) []string {
	return []string{fmt.Sprintf("net.request deny %s:%d", host, port)}
}

func allowed(host string, port int) []string {
	return []string{fmt.Sprintf("net.request allow %s:%d", host, port)}
}

func refused(host string, port int) []string {
	return []string{fmt.Sprintf("net.refused deny %s:%d", host, port)}
}

func notLookedUp(host string) []string { return []string{"dns.refused deny " + host + ":0"} }

// Attacks on names, from inside.
func TestAttacksOnNames(t *testing.T) {
	w := attackedTown(t)
	all := []attempt{
		{name: "NUL in CONNECT", connect: evil + "\x00." + good + ":443", want: "CONNECT:400", events: refused("", 0)},
		{name: "NUL in an absolute URL", send: request("GET", "http://"+evil+"\x00."+plainHost+"/", plainHost), want: "HTTP:400", events: refused("", 0)},
		{name: "trailing dot", connect: good + ".:443", tls: good, send: request("GET", "/dot", good+"."), want: "CONNECT:200 TLS:ok HTTP:200", events: allowed(good, 443)},
		{name: "upper case", connect: "GOOD.EXAMPLE.COM:443", tls: good, send: request("GET", "/upper", "Good.Example.Com"), want: "CONNECT:200 TLS:ok HTTP:200", events: allowed(good, 443)},
		{name: "a denied name, upper case", connect: "BAD." + wild + ":443", want: "CONNECT:403", events: denied("bad."+wild, 443)},
		{name: "a denied name, trailing dot", connect: "bad." + wild + ".:443", want: "CONNECT:403", events: denied("bad."+wild, 443)},
		{name: "a denied name, by itself", direct: "BAD." + wild + ":443", send: request("GET", "/", "bad."+wild), want: "HTTP:closed", events: refused("bad."+wild, 443)},
		{name: "good as the beginning", connect: good + "." + evil + ":443", want: "CONNECT:403", events: denied(good+"."+evil, 443)},
		{name: "good as the beginning, looked up", direct: good + "." + evil + ":443", want: "no-name", events: notLookedUp(good + "." + evil)},
		{name: "good as the end of a label", connect: "x" + good + ":443", want: "CONNECT:403", events: denied("x"+good, 443)},
		{name: "the name that a wildcard hangs on", connect: wild + ":443", want: "CONNECT:403", events: denied(wild, 443)},
		{name: "below the wildcard", connect: "a." + wild + ":443", tls: "a." + wild, send: request("GET", "/below", "a."+wild), want: "CONNECT:200 TLS:ok HTTP:200", events: allowed("a."+wild, 443)},
		{name: "a name below good", connect: "a." + good + ":443", want: "CONNECT:403", events: denied("a."+good, 443)},
		{name: "user before the name", connect: good + "@" + evil + ":443", want: "CONNECT:400", events: refused("", 0)},
		{name: "percent in a name", connect: "evil%2eexample.com:443", want: "CONNECT:400", events: refused("", 0)},
	}
	w.carriedOut(append(all, literals(portOf(t, w.plain.Listener.Addr().String()))...), "GET "+good+"/dot", "GET "+good+"/upper", "GET a."+wild+"/below")
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	port, err := strconv.Atoi(addr[strings.LastIndexByte(addr, ':')+1:])
	must(t, err)
	return port
}

// literals are addresses of this machine and of clouds, in every notation, as what a CONNECT and an absolute URL name.
func literals(port int) (out []attempt) {
	for _, name := range []string{
		"127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "0", "0.0.0.0", "127.0.0.1.",
		"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[::127.0.0.1]", "[fe80::1%25lo]",
		"10.0.0.1", "169.254.169.254", "0xa9fea9fe", "2852039166", "[fd00:ec2::254]", "1.1.1.1", "[2606:4700:4700::1111]",
		"localhost", "LOCALHOST.", "a.localhost", "metadata.google.internal", "metadata", "instance-data.ec2.internal", "100.100.100.200",
	} {
		authority := fmt.Sprintf("%s:%d", name, port)
		recorded := denied(strings.Replace(name, "%25", "%", 1), port)
		out = append(out, attempt{name: "CONNECT " + name, connect: authority, want: "CONNECT:403", events: recorded},
			attempt{name: "GET " + name, send: request("GET", "http://"+authority+"/", authority), want: "HTTP:403", events: recorded})
	}
	for _, name := range []string{"127%2e0%2e0%2e1", "%31%32%37.0.0.1", "[::1%lo]"} { // no authorities
		authority := fmt.Sprintf("%s:%d", name, port)
		out = append(out, attempt{name: "CONNECT " + name, connect: authority, want: "CONNECT:400", events: refused("", 0)},
			attempt{name: "GET " + name, send: request("GET", "http://"+authority+"/", authority), want: "HTTP:400", events: refused("", 0)})
	}
	return out
}

// What a request inside a tunnel to good is like.
func inside(name, send, want string, events ...[]string) attempt {
	return attempt{name: name, connect: good + ":443", tls: good, send: send, want: "CONNECT:200 TLS:ok HTTP:" + want, events: slices.Concat(events...)}
}

// Attacks on the protocol, from inside.
func TestAttacksOnTheProtocol(t *testing.T) {
	w := attackedTown(t)
	w.handlers[good] = protocolServer()
	w.carriedOut(slices.Concat(sniAttacks(), hostAttacks(), framingAttacks(), switchAttacks()),
		"GET "+good+"/first", "GET "+good+"/redirect", "GET "+good+"/not-switched", "GET github.com/acme")
	switched := slices.DeleteFunc(w.events(), func(e event.Event) bool { return e.Kind != event.NetResponse || e.Status != http.StatusFound })
	if len(switched) != 1 || switched[0].Host != good {
		t.Errorf("the redirect is recorded as %+v", switched)
	}
}

// protocolServer redirects to evil, and agrees to no protocol.
func protocolServer() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", hello)
	mux.Handle("/redirect", http.RedirectHandler("https://"+evil+"/stolen", http.StatusFound))
	return mux
}

func sniAttacks() (out []attempt) {
	for name, sni := range map[string]string{"evil": evil, "none": "-", "a sibling": "a." + wild, "good as the beginning": good + "." + evil} {
		out = append(out,
			attempt{name: "CONNECT good, SNI " + name, connect: good + ":443", tls: sni, want: "CONNECT:200 TLS:closed", events: refused(good, 443)},
			attempt{name: "good by itself, SNI " + name, direct: good + ":443", tls: sni, want: "TLS:closed", events: refused(good, 443)})
	}
	return append(out,
		attempt{name: "plain HTTP to 443", connect: good + ":443", send: request("GET", "/", good), want: "CONNECT:200 HTTP:closed", events: refused(good, 443)},
		attempt{name: "SSH to 443", connect: good + ":443", send: "SSH-2.0-OpenSSH_9.2\r\n", want: "CONNECT:200 HTTP:closed", events: refused(good, 443)},
		attempt{name: "plain HTTP to 443, by itself", direct: good + ":443", send: request("GET", "/", good), want: "HTTP:closed", events: refused(good, 443)},
		attempt{name: "CONNECT :22", connect: good + ":22", want: "CONNECT:403", events: denied(good, 22)},
		attempt{name: "CONNECT :80", connect: good + ":80", want: "CONNECT:403", events: denied(good, 80)},
		attempt{name: "CONNECT, no port", connect: good, want: "CONNECT:403", events: denied(good, 0)},
		attempt{name: "CONNECT :0", connect: good + ":0", want: "CONNECT:403", events: denied(good, 0)},
		attempt{name: "CONNECT :65979, which is 443 in sixteen bits", connect: good + ":65979", want: "CONNECT:403", events: denied(good+":65979", 0)},
		attempt{name: "port 22, by itself", direct: good + ":22", send: "SSH-2.0-OpenSSH_9.2\r\n\r\n", want: "HTTP:closed", events: refused(good, 22)},
		attempt{name: "plain HTTP to port 80, by itself", direct: good + ":80", send: request("GET", "/", good), want: "HTTP:403", events: denied(good, 80)})
}

func hostAttacks() []attempt {
	first := "GET /first HTTP/1.1\r\nHost: " + good + "\r\n\r\n"
	return []attempt{
		inside("Host evil", request("GET", "/", evil), "421", refused(good, 443)),
		inside("Host evil in the second request", first+request("GET", "/second", evil), "200,421", allowed(good, 443), refused(good, 443)),
		inside("Host with another port", request("GET", "/", good+":8443"), "421", refused(good, 443)),
		inside("Host an address", request("GET", "/", "127.0.0.1"), "421", refused(good, 443)),
		inside("Host empty", request("GET", "/", ""), "421", refused(good, 443)),
		inside("Host with a user", request("GET", "/", good+"@"+evil), "400", refused(good, 443)),
		inside("an absolute URL", request("GET", "https://"+evil+"/", good), "400", refused(good, 443)),
		inside("CONNECT in a tunnel", "CONNECT "+evil+":443 HTTP/1.1\r\nHost: "+evil+":443\r\n\r\n", "400", refused(good, 443)),
		{name: "github.com with the Host of gists", connect: "github.com:443", tls: "github.com", send: request("GET", "/", "gist.github.com"), want: "CONNECT:200 TLS:ok HTTP:421", events: refused("github.com", 443)},
		{name: "github.com by itself with the Host of gists", direct: "github.com:443", tls: "github.com", send: request("GET", "/", "gist.github.com"), want: "TLS:ok HTTP:421", events: refused("github.com", 443)},
		{name: "github.com as it should be", direct: "github.com:443", tls: "github.com", send: request("GET", "/acme", "github.com"), want: "TLS:ok HTTP:200", events: allowed("github.com", 443)},
		{name: "plain, another Host than the URL's", send: request("GET", "http://"+plainHost+"/", evil), want: "HTTP:400", events: refused("", 0)},
		{name: "plain, by itself, Host evil", direct: plainHost + ":80", send: request("GET", "/", evil), want: "HTTP:421", events: refused(plainHost, 80)},
	}
}

func framingAttacks() (out []attempt) {
	smuggled := request("GET", "/smuggled", good)
	for name, head := range map[string]string{
		"both lengths":        "POST / HTTP/1.1\r\nHost: " + good + "\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"both, the other way": "POST / HTTP/1.1\r\nHost: " + good + "\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"two lengths":         "POST / HTTP/1.1\r\nHost: " + good + "\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n",
		"an obscured coding":  "POST / HTTP/1.1\r\nHost: " + good + "\r\nTransfer-Encoding: xchunked\r\n\r\n",
		"two Hosts":           "GET / HTTP/1.1\r\nHost: " + good + "\r\nHost: " + evil + "\r\n\r\n",
		"two Hosts alike":     "GET / HTTP/1.1\r\nHost: " + good + "\r\nHost: " + good + "\r\n\r\n",
		"a folded Host":       "GET / HTTP/1.1\r\nHost: " + good + "\r\n " + evil + "\r\n\r\n",
		"a folded header":     "GET / HTTP/1.1\r\nHost: " + good + "\r\nX-A: 1\r\n\tTransfer-Encoding: chunked\r\n\r\n",
		"bare LF":             "GET / HTTP/1.1\nHost: " + good + "\n\n",
		"a bare LF":           "GET / HTTP/1.1\r\nHost: " + good + "\nX-A: 1\r\n\r\n",
		"a bare CR":           "GET / HTTP/1.1\r\nHost: " + good + "\r\nX-A: 1\rX-B: 2\r\n\r\n",
		"space before colon":  "GET / HTTP/1.1\r\nHost : " + evil + "\r\nHost: " + good + "\r\n\r\n",
		"NUL in a header":     "GET / HTTP/1.1\r\nHost: " + good + "\r\nX-A: \x00\r\n\r\n",
		"no Host":             "GET / HTTP/1.1\r\n\r\n",
	} {
		out = append(out, inside(name, head+smuggled, "400", refused(good, 443)))
	}
	return out
}

// switchAttacks ask for another protocol, and go on as if they had it.
func switchAttacks() []attempt {
	const upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	head := "GET /not-switched HTTP/1.1\r\nHost: " + good + "\r\n"
	return []attempt{
		inside("a WebSocket that the server does not agree to", head+upgrade+request("GET", "/smuggled", good), "200", allowed(good, 443)),
		inside("a WebSocket for evil", "GET / HTTP/1.1\r\nHost: "+evil+"\r\n"+upgrade, "421", refused(good, 443)),
		inside("an upgrade with a body", "GET / HTTP/1.1\r\nHost: "+good+"\r\nContent-Length: 7\r\n"+upgrade+"GET / H", "400", refused(good, 443)),
		inside("a redirect to evil", request("GET", "/redirect", good), "302", allowed(good, 443)),
	}
}

// No spelling of a path, and no header, gets more out of a rule than its methods and paths.
func TestAttacksOnPaths(t *testing.T) {
	w := attackedTown(t)
	w.lets(allow(good, `methods = ["GET"]`, `paths = ["/public/**"]`) + "[[network.rule]]\naction = \"deny\"\nhost = \"" + good + "\"\npaths = [\"/public/secret/**\"]\n")
	attempts := []attempt{inside("as it should be", request("GET", "/public/a", good), "200", allowed(good, 443))}
	for _, path := range []string{
		"/public/../admin", "/public/./../admin", "/public/%2e%2e/admin", "/public/.%2E/admin", "/public/..%2fadmin", "/public%2f..%2fadmin", "/public/..;/admin",
		"/public/..\\admin", "/public/%5c../admin", "/public/%252e%252e/admin", "//public/a", "/public//a", "/./public/a", "/public;x/a", "/public/..%00/admin", "/PUBLIC/a",
		"/%70ublic/../admin", "/public/%c0%ae%c0%ae/admin", "/admin", "/public/secret/a", "/public/%73ecret/a", "/public/SECRET/../secret/a", "/public//secret/a", "/public/./secret/a",
	} {
		attempts = append(attempts, inside(path, request("GET", path, good), "403", denied(good, 443)))
	}
	for _, header := range []string{"X-HTTP-Method-Override: DELETE", "X-Method-Override: PUT", "X_HTTP_METHOD_OVERRIDE: DELETE", "X-Original-URL: /admin", "X-Rewrite-URL: /admin"} {
		attempts = append(attempts, inside(header, request("GET", "/public/a", good, header+"\r\n"), "403", denied(good, 443)))
	}
	for _, target := range []string{"/public/a?_method=DELETE", "/public/a?x=1&_method=PUT"} {
		attempts = append(attempts, inside(target, request("GET", target, good), "403", denied(good, 443)))
	}
	for _, method := range []string{"POST", "DELETE", "get", "PROPFIND"} {
		attempts = append(attempts, inside(method, request(method, "/public/a", good), "403", denied(good, 443)))
	}
	w.carriedOut(attempts, "GET "+good+"/public/a")
}
