package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// wire is servers that keep the heads of requests as they arrived, byte by byte.
type wire struct {
	mu   sync.Mutex
	seen []string
}

// listen serves until the test ends, with TLS when there is a configuration for it, and gives the address.
func (w *wire) listen(t testing.TB, config *tls.Config) string {
	t.Helper()
	li, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := li.Addr().String()
	if config != nil {
		li = tls.NewListener(li, config)
	}
	var serving sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		_ = li.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := li.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
				defer func() { _ = conn.Close() }()
				w.serve(conn)
			})
		}
	})
	return addr
}

func (w *wire) serve(conn net.Conn) {
	br := bufio.NewReader(conn)
	for {
		var head strings.Builder
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
			if line == "\r\n" {
				break
			}
		}
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head.String())))
		if err == nil && req.ContentLength > 0 {
			if _, err := io.CopyN(io.Discard, br, req.ContentLength); err != nil {
				return
			}
		}
		w.mu.Lock()
		w.seen = append(w.seen, head.String())
		w.mu.Unlock()
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"); err != nil {
			return
		}
	}
}

// lines are the request lines that arrived, without the version.
func (w *wire) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := []string{}
	for _, head := range w.seen {
		line, _, _ := strings.Cut(head, " HTTP/1.1\r\n")
		out = append(out, line)
	}
	return out
}

// newWireLab is a lab before a wire in the place of its servers: good.test:443, pinned.wild.test:443, plain.test:80.
func newWireLab(t testing.TB, rules ...policy.Rule) (*lab, *wire) {
	t.Helper()
	w := &wire{}
	l := newLabOf(t, nil, rules, func(c *Config) {
		a := newAuthority(t)
		c.ExtraRoots = append(c.ExtraRoots, a.pem()...)
		secure := w.listen(t, &tls.Config{Certificates: []tls.Certificate{a.issue(t, time.Now().Add(time.Hour), "good.test", "pinned.wild.test")}})
		c.Fixed[mustHost(t, "good.test")], c.Fixed[mustHost(t, "pinned.wild.test")] = secure, secure
		c.Fixed[mustHost(t, "plain.test")] = w.listen(t, nil)
	})
	return l, w
}

// limited makes a rule go by methods ("GET HEAD", "" for all) and paths.
func limited(t testing.TB, r policy.Rule, methods string, paths ...string) policy.Rule {
	t.Helper()
	r.Methods = strings.Fields(methods)
	for _, text := range paths {
		p, err := policy.ParsePathPattern(text)
		if err != nil {
			t.Fatal(err)
		}
		r.Paths = append(r.Paths, p)
	}
	return r
}

// apiOnly allows GET and POST below /api/ of both hosts.
func apiOnly(t testing.TB) []policy.Rule {
	return []policy.Rule{
		limited(t, rule(t, policy.Allow, "good.test", true, 443), "GET POST", "/api/**", "/@scope%2Fname"),
		limited(t, rule(t, policy.Allow, "plain.test", true, 80), "GET POST", "/api/**", "/@scope%2Fname"),
	}
}

// ways are all ways for requests to a host: how to connect, the host, and what stands before a path in a target.
var ways = map[string]struct {
	open        func(l *lab) net.Conn
	host, front string
}{
	"CONNECT":          {func(l *lab) net.Conn { return l.tunnel("good.test:443", "good.test") }, "good.test", ""},
	"CONNECT absolute": {func(l *lab) net.Conn { return l.tunnel("good.test:443", "good.test") }, "good.test", "https://good.test"},
	"CONNECT plain":    {func(l *lab) net.Conn { return l.connect("plain.test:80") }, "plain.test", ""},
	"direct": {func(l *lab) net.Conn {
		return tls.Client(l.dial(l.synthetic("good.test", l.direct)), &tls.Config{RootCAs: l.roots, ServerName: "good.test"})
	}, "good.test", ""},
	"direct plain": {func(l *lab) net.Conn { return l.dial(l.synthetic("plain.test", l.direct80)) }, "plain.test", ""},
	"absolute":     {func(l *lab) net.Conn { return l.dial(l.addr) }, "plain.test", "http://plain.test"},
}

// forEachWay runs a test on each way with rules for good.test:443 and plain.test:80.
func forEachWay(t *testing.T, rules func(testing.TB) []policy.Rule, test func(t *testing.T, l *lab, w *wire, conn net.Conn, host, front string)) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			l, w := newWireLab(t, rules(t)...)
			test(t, l, w, way.open(l), way.host, way.front)
		})
	}
}

// exchangeOn sends a request on a connection that stays open and gives the status and the body.
func exchangeOn(t testing.TB, conn net.Conn, br *bufio.Reader, raw string) (int, string) {
	t.Helper()
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestRulesHoldForEveryRequestOfAConnection(t *testing.T) {
	forEachWay(t, apiOnly, func(t *testing.T, l *lab, w *wire, conn net.Conn, host, front string) {
		steps := []struct {
			method, path string
			status       int
			reason       string
		}{
			{"GET", "/api/1", 200, ""},
			{"DELETE", "/api/1", 403, "names DELETE /api/1"},
			{"GET", "/admin", 403, "names GET /admin"},
			{"POST", "/api/2?x=/../admin", 200, ""},
			{"get", "/api/3", 403, "names get /api/3"},
			{"GET", "/api", 403, ""},
			{"GET", "/api/../admin", 403, "so servers may take it for another one"},
			{"GET", "/@scope%2fname", 200, ""},
		}
		br := bufio.NewReader(conn)
		for _, s := range steps {
			raw := s.method + " " + front + s.path + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 0\r\n\r\n"
			if status, body := exchangeOn(t, conn, br, raw); status != s.status || !strings.Contains(body, s.reason) {
				t.Errorf("%s %s: got %d %s", s.method, s.path, status, body)
			}
		}
		if got, want := w.lines(), []string{"GET /api/1", "POST /api/2?x=/../admin", "GET /@scope%2fname"}; !slices.Equal(got, want) {
			t.Errorf("the server got %q, want %q", got, want)
		}
		for _, e := range l.only(11) {
			if allowed := e.Decision == event.Allow; e.Kind == event.NetRequest && allowed != slices.Contains([]string{"/api/1GET", "/api/2POST", "/@scope%2fnameGET"}, e.Path+e.Method) {
				t.Errorf("event %+v", e)
			}
		}
	})
}

func TestPipelinedRequestsAreEachJudged(t *testing.T) {
	forEachWay(t, apiOnly, func(t *testing.T, l *lab, w *wire, conn net.Conn, host, front string) {
		request := func(method, path, more string) string {
			return method + " " + front + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + more + "\r\n"
		}
		answer := l.sayOn(conn, request("GET", "/api/1", "")+request("GET", "/admin", "")+request("HEAD", "/api/2", "")+
			request("POST", "/api/3", "Content-Length: 25\r\n")+"GET /admin HTTP/1.1\r\n\r\n\r\n"+request("PUT", "/api/4", "Connection: close\r\n"))
		if n := strings.Count(answer, "HTTP/1.1 403"); n != 3 || strings.Count(answer, "HTTP/1.1 ") != 5 {
			t.Errorf("got %q", answer)
		}
		if got, want := w.lines(), []string{"GET /api/1", "POST /api/3"}; !slices.Equal(got, want) {
			t.Errorf("the server got %q, want %q", got, want)
		}
		l.only(7)
	})
}

// Other spellings of what is not allowed, and of what is.
func TestNoSpellingOfAPathWidensARule(t *testing.T) {
	targets := []string{
		"/api/../admin", "/api/..", "/api/./x", "/./api/x", "/api/%2e%2e/admin", "/api/%2E%2e/admin", "/api/.%2e/admin", "/api/..%2fadmin", "/api/..%2Fadmin",
		"/api/x%2f..%2f..%2fadmin", "/api/..%5cadmin", "/api/..\\admin", "/api/%5c../admin", "/api//x", "//api/x", "//good.test/api/x", "/api/%2fx", "/api/x%2f%2fy", "/api/x;v=1",
		"/api/..;/admin", "/api;/x", "/api/x%3bv", "/api/%252e%252e/admin", "/api/%25%32%65%25%32%65/admin", "/api/%c0%ae%c0%ae/admin", "/api/%c0%afadmin", "/api/%00", "/api/x%0d%0aHost:%20evil",
		"/api/%09", "/api/%7f", "/api/%ff", "/Api/x", "/API/x", "/ap%69", "/%2fapi/x", "/api%2fx", "/api%5cx", "/@scope/name", "/@scope%2Fname/", "/@scope%5Cname", "/@scope%252fname", "*", "/*",
		"/" + strings.Repeat("a", 5000), "/api/" + strings.Repeat("a", 5000), "/?/api/x", "/#/api/x", "/admin?/api/", "/admin#/api/",
	}
	l, w := newWireLab(t, apiOnly(t)...)
	for _, target := range targets {
		method := "GET"
		if target == "*" {
			method = "OPTIONS"
		}
		for _, c := range []struct {
			conn         net.Conn
			host, target string
		}{{l.tunnel("good.test:443", "good.test"), "good.test", target}, {l.dial(l.addr), "plain.test", "http://plain.test" + target}} {
			answer := l.sayOn(c.conn, method+" "+c.target+" HTTP/1.1\r\nHost: "+c.host+"\r\nConnection: close\r\n\r\n")
			if status := statusOf(answer); status != "403 Forbidden" && !strings.HasPrefix(status, "400 Bad Request") {
				t.Errorf("%s: got %q", c.target, answer)
			}
		}
	}
	if got := w.lines(); len(got) > 0 {
		t.Errorf("the server got %q", got)
	}
	l.only(2 * len(targets))
}

// Each form of a request's target that is no path and no URL, which net/http takes for a URL with an empty path.
func TestTargetsThatAreNoPath(t *testing.T) {
	targets := []string{"https:admin", "https:admin/x", "HTTPS:admin", "https:/admin", "https:", "admin", "admin/x", "api/x", "good.test:443", "?/api/x", "https:%2fadmin", "*", "https:///api/x", "https://good.test", "https://good.test?/api/x"}
	l, w := newWireLab(t, apiOnly(t)...)
	for _, target := range targets {
		answer := l.sayOn(l.tunnel("good.test:443", "good.test"), "GET "+target+" HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n")
		if status := statusOf(answer); !strings.HasPrefix(status, "40") {
			t.Errorf("%s: got %q", target, answer)
		}
	}
	if got := w.lines(); len(got) > 0 {
		t.Errorf("the server got %q", got)
	}
	l.only(len(targets))
}

func TestWhatIsJudgedIsWhatIsSent(t *testing.T) {
	everything := func(t testing.TB) []policy.Rule {
		return []policy.Rule{limited(t, rule(t, policy.Allow, "good.test", true, 443), "", "/**"), limited(t, rule(t, policy.Allow, "plain.test", true, 80), "", "/**")}
	}
	sent := map[string]string{ // to what arrives at the server, without the query; "" where nothing does
		"/":                   "/",
		"/a/b/":               "/a/b/",
		"/@scope%2fname":      "/@scope%2fname",
		"/%40scope%2Fname":    "/%40scope%2Fname",
		"/%61dmin":            "/%61dmin",
		"/a%2Fb/c%5Cd":        "/a%2Fb/c%5Cd",
		"/x?q=/../;a//&%zz":   "/x",
		"/a+b,c:d=e!$'()*~":   "/a+b,c:d=e!$'()*~",
		"/[id]":               "/[id]",
		"/h%C3%A9":            "/h%C3%A9",
		"/h\xc3\xa9":          "/h%C3%A9",
		"/a\"b<c>^`{|}":       "/a%22b%3Cc%3E%5E%60%7B%7C%7D",
		"/a#b":                "/a%23b",
		"/a\\b":               "/a%5Cb",
		"/a%2Fb\\c":           "/a/b%5Cc",
		"/100%25":             "/100%25",
		"/x%2f..\\..%2fadmin": "",
	}
	forEachWay(t, everything, func(t *testing.T, l *lab, w *wire, conn net.Conn, host, front string) {
		br := bufio.NewReader(conn)
		for target, arrives := range sent {
			before := len(w.lines())
			status, body := exchangeOn(t, conn, br, "GET "+front+target+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
			if arrives == "" {
				if status != 403 || len(w.lines()) != before {
					t.Errorf("%s: got %d %s", target, status, body)
				}
				continue
			}
			lines := w.lines()
			if status != 200 || len(lines) != before+1 {
				t.Errorf("%s: got %d %s", target, status, body)
				continue
			}
			path, _, _ := strings.Cut(strings.TrimPrefix(lines[before], "GET "), "?")
			if path != arrives {
				t.Errorf("%s: the server got %s, want %s", target, path, arrives)
			}
			if !slices.ContainsFunc(l.log.await(t, 2*before+1), func(e event.Event) bool { return e.Kind == event.NetRequest && e.Path == path }) {
				t.Errorf("%s: %s was not what was judged", target, path)
			}
		}
	})
}

func TestRequestsThatAskForAnotherMethodOrPath(t *testing.T) {
	byMethod := func(t testing.TB) []policy.Rule {
		return []policy.Rule{limited(t, rule(t, policy.Allow, "good.test", true, 443), "GET POST"), limited(t, rule(t, policy.Allow, "plain.test", true, 80), "GET POST")}
	}
	byPath := func(t testing.TB) []policy.Rule {
		return []policy.Rule{limited(t, rule(t, policy.Allow, "good.test", true, 443), "", "/api/**"), limited(t, rule(t, policy.Allow, "plain.test", true, 80), "", "/api/**")}
	}
	unlimited := func(t testing.TB) []policy.Rule {
		return []policy.Rule{rule(t, policy.Allow, "good.test", true, 443), rule(t, policy.Allow, "plain.test", true, 80)}
	}
	methods := []string{
		"/api/x\nX-HTTP-Method-Override: DELETE", "/api/x\nx-http-method-override: delete", "/api/x\nX-Method-Override: PUT", "/api/x\nX-HTTP-Method: DELETE", "/api/x\nX_HTTP_METHOD_OVERRIDE: DELETE",
		"/api/x\nX-Http_Method-Override: DELETE", "/api/x\nX-HTTP-Method-Override: GET\nX-HTTP-Method-Override: DELETE", "/api/x\nConnection: X-HTTP-Method-Override\nX-HTTP-Method-Override: DELETE",
		"/api/x\nX-Original-Method: DELETE", "/api/x\nX-HTTP-Method-Override:", "/api/x?_method=DELETE", "/api/x?a=1&%5fmethod=DELETE", "/api/x?_METHOD=delete", "/api/x?.method=DELETE", "/api/x?a;_method=DELETE", "/api/x?X-HTTP-Method-Override=DELETE",
	}
	paths := []string{
		"/api/x\nX-Original-URL: /admin", "/api/x\nx-rewrite-url: /admin", "/api/x\nX_Original_URL: /admin", "/api/x\nX-Forwarded-Uri: /admin", "/api/x\nX-Original-URI: /admin", "/api/x\nX-Forwarded-Prefix: /admin",
		"/api/x\nDestination: https://good.test/admin", "/api/x\nx-amz-copy-source: /admin",
	}
	for name, c := range map[string]struct {
		rules   func(testing.TB) []policy.Rule
		refused []string
		passed  []string
		reason  string
	}{
		"methods": {byMethod, methods, paths, "for one with another method"},
		"paths":   {byPath, paths, methods, "names another path"},
		"neither": {unlimited, nil, slices.Concat(paths, methods), ""},
	} {
		t.Run(name, func(t *testing.T) {
			forEachWay(t, c.rules, func(t *testing.T, _ *lab, w *wire, conn net.Conn, host, front string) {
				br := bufio.NewReader(conn)
				send := func(request string) (int, string) {
					target, headers, _ := strings.Cut(request, "\n")
					if headers != "" {
						headers = strings.ReplaceAll(headers, "\n", "\r\n") + "\r\n"
					}
					return exchangeOn(t, conn, br, "POST "+front+target+" HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 0\r\n"+headers+"\r\n")
				}
				for _, request := range c.refused {
					if status, body := send(request); status != 403 || !strings.Contains(body, c.reason) {
						t.Errorf("%q: got %d %s", request, status, body)
					}
				}
				if got := w.lines(); len(got) > 0 {
					t.Errorf("the server got %q", got)
				}
				for _, request := range c.passed {
					if status, body := send(request); status != 200 {
						t.Errorf("%q: got %d %s", request, status, body)
					}
				}
				if got := w.lines(); len(got) != len(c.passed) {
					t.Errorf("the server got %d requests, want %d", len(got), len(c.passed))
				}
			})
		})
	}
}

// Everything is allowed but one path: there, too, no spelling helps.
func TestNoSpellingOfAPathGetsPastADenial(t *testing.T) {
	rules := func(t testing.TB) []policy.Rule {
		return []policy.Rule{
			rule(t, policy.Allow, "good.test", true, 443), limited(t, rule(t, policy.Deny, "good.test", true, 443), "", "/admin", "/admin/**"),
			rule(t, policy.Allow, "plain.test", true, 80), limited(t, rule(t, policy.Deny, "plain.test", true, 80), "", "/admin", "/admin/**"),
		}
	}
	forEachWay(t, rules, func(t *testing.T, _ *lab, w *wire, conn net.Conn, host, front string) {
		br := bufio.NewReader(conn)
		for _, path := range []string{
			"/admin", "/admin/", "/admin/x", "/admin?x", "/%61dmin/x", "/admi%6E", "/admin%2Fx", "/admin%2fx", "/admin%5Cx", "/admin\\x", "/x/../admin/y", "//admin/x", "/./admin", "/%2e/admin", "/x%2f..%2fadmin",
			"/admin;x/y", "/admin%3bx", "/%2561dmin", "/%2fadmin/x", "/\\admin/x", "/%5cadmin", "/admin%00", "/admin%2f%2fx", "/x/..%5cadmin", "/%c0%afadmin",
		} {
			if status, body := exchangeOn(t, conn, br, "GET "+front+path+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); status != 403 {
				t.Errorf("%s: got %d %s", path, status, body)
			}
		}
		if status, body := exchangeOn(t, conn, br, "GET "+front+"/administrator HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); status != 200 {
			t.Errorf("what is not denied: got %d %s", status, body)
		}
		if got, want := w.lines(), []string{"GET /administrator"}; !slices.Equal(got, want) {
			t.Errorf("the server got %q", got)
		}
	})
}

// A URL without a path asks for "/", which rules are held against like any other path.
func TestURLWithoutAPath(t *testing.T) {
	l, w := newWireLab(t, apiOnly(t)...)
	for _, target := range []string{"http://plain.test", "http://plain.test?/api/x"} {
		if answer := l.say("GET " + target + " HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n\r\n"); statusOf(answer) != "403 Forbidden" {
			t.Errorf("%s: got %q", target, answer)
		}
	}
	if got := w.lines(); len(got) > 0 {
		t.Errorf("the server got %q", got)
	}
	for _, e := range l.only(2) {
		if e.Kind != event.NetRequest || e.Decision != event.Deny || e.Path != "/" || e.Method != "GET" {
			t.Errorf("event %+v", e)
		}
	}
}

// inspect = false says that a host's connections are copied as they are; a rule with methods or paths for the same
// place outweighs that, or it could not hold.
func TestNothingIsSplicedWhereRulesGoByMethodOrPath(t *testing.T) {
	for name, more := range map[string]policy.Rule{
		"deny by method":      limited(t, rule(t, policy.Deny, "pinned.wild.test", true, 443), "DELETE"),
		"deny by path":        limited(t, rule(t, policy.Deny, "*.wild.test", true, 443), "", "/x"),
		"allow by both":       limited(t, rule(t, policy.Allow, "*.wild.test", true, 443, 80), "GET", "/y"),
		"ask by method":       limited(t, rule(t, policy.Ask, "pinned.wild.test", false, 443), "DELETE"),
		"deny uninspected":    limited(t, rule(t, policy.Deny, "pinned.wild.test", false, 443), "DELETE", "/x"),
		"allow, another path": limited(t, rule(t, policy.Allow, "pinned.wild.test", false, 443), "", "/never"),
	} {
		t.Run(name, func(t *testing.T) {
			l, w := newWireLab(t, rule(t, policy.Allow, "pinned.wild.test", false, 443), more)
			conn := l.tunnel("pinned.wild.test:443", "pinned.wild.test") // fails unless the run's own CA signed
			answer := l.sayOn(conn, "DELETE /x HTTP/1.1\r\nHost: pinned.wild.test\r\nConnection: close\r\n\r\n")
			denies := more.Action != policy.Allow
			if status := statusOf(answer); denies != (status == "403 Forbidden") || denies == (status == "200 OK") {
				t.Errorf("got %q", answer)
			}
			if got := w.lines(); denies != (len(got) == 0) {
				t.Errorf("the server got %q", got)
			}
		})
	}
}

// fickle is a gate that changes its mind about inspection between a tunnel's opening and its end.
type fickle struct{ Gate }

func (f fickle) Decide(r policy.Request) policy.Decision {
	d := f.Gate.Decide(r)
	d.Inspect = false
	return d
}

func TestASpliceIsJudgedAgain(t *testing.T) {
	l := newLab(t, nil, func(c *Config) { c.Gate = fickle{c.Gate} })
	client := tls.Client(l.connect("good.test:443"), &tls.Config{InsecureSkipVerify: true, ServerName: "good.test"})
	if err := client.HandshakeContext(t.Context()); err == nil {
		t.Error("the connection was copied")
	}
	l.untouched()
	check(t, l.only(2), want{event.NetRequest, event.Allow, "good.test", ""}, want{event.NetRefused, event.Deny, "good.test", "has to be inspected"})
}

func TestNobodyCanBeAsked(t *testing.T) {
	l, w := newWireLab(t, rule(t, policy.Allow, "plain.test", true, 80), limited(t, rule(t, policy.Ask, "plain.test", true, 80), "POST"), rule(t, policy.Ask, "good.test", true, 443))
	if answer := l.say(connectLine("good.test:443")); statusOf(answer) != "403 Forbidden" || !strings.Contains(answer, "nobody can be asked") {
		t.Errorf("a tunnel: got %q", answer)
	}
	for method, status := range map[string]string{"GET": "200 OK", "POST": "403 Forbidden"} {
		answer := l.say(method + " http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if statusOf(answer) != status || (method == "POST") != strings.Contains(answer, "nobody can be asked") {
			t.Errorf("%s: got %q", method, answer)
		}
	}
	if got := w.lines(); !slices.Equal(got, []string{"GET /"}) {
		t.Errorf("the server got %q", got)
	}
	for _, e := range l.only(4) {
		if denied := e.Decision == event.Deny; e.Kind == event.NetRequest && denied != (e.Method != "GET") {
			t.Errorf("event %+v", e)
		}
	}
}
