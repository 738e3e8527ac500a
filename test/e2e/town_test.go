package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agentbox/internal/event"
)

// town is a box whose names lead to servers of the test's own. They write down whatever reaches them: each
// connection, the name in each TLS greeting, and each request.
type town struct {
	*box
	roots    *authority
	handlers map[string]http.Handler // by host
	secure   *httptest.Server
	plain    *httptest.Server

	routes map[string]string // by host, the address that it leads to
	rules  string            // of the profile

	certificates map[string]func(*town) (*tls.Certificate, error) // bad ones, by name

	mu     sync.Mutex
	seen   []visit
	opened int      // connections
	named  []string // of TLS greetings
}

// visit is one request as a server saw it.
type visit struct{ host, method, path, proto, auth string }

// newTown starts the servers. handlers are by name; every name is routed there, over TLS save where it begins with
// "http://".
func newTown(t *testing.T, handlers map[string]http.Handler) *town {
	t.Helper()
	w := &town{box: newBox(t), roots: newAuthority(t), handlers: map[string]http.Handler{}, routes: map[string]string{}}
	w.plain = w.server()
	w.plain.Config.Protocols = new(http.Protocols)
	w.plain.Config.Protocols.SetHTTP1(true)
	w.plain.Config.Protocols.SetUnencryptedHTTP2(true)
	w.plain.Start()
	w.secure = w.server()
	w.secure.EnableHTTP2 = true
	w.secure.TLS = &tls.Config{GetCertificate: w.certificate}
	w.secure.StartTLS()
	t.Cleanup(w.secure.Close)
	t.Cleanup(w.plain.Close)
	for name, h := range handlers {
		host, isPlain := strings.CutPrefix(name, "http://")
		w.handlers[host], w.routes[host] = h, w.secure.Listener.Addr().String()
		if isPlain {
			w.routes[host] = w.plain.Listener.Addr().String()
		}
	}
	must(t, os.WriteFile(w.caFile(), w.roots.pem, 0o600))
	w.writeRoutes()
	return w
}

func (w *town) caFile() string { return filepath.Join(w.conf, "agentbox", "town-ca.pem") }

func (w *town) server() *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(w.serve))
	s.Listener = &counting{s.Listener, w}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that hang up
	return s
}

// route leads one more name to an address.
func (w *town) route(host, addr string) {
	w.routes[host] = addr
	w.writeRoutes()
}

func (w *town) writeRoutes() {
	text := fmt.Sprintf("[upstream]\nca = %q\n[upstream.hosts]\n", w.caFile())
	for host, addr := range w.routes {
		text += fmt.Sprintf("%q = %q\n", host, addr)
	}
	w.config(text)
}

// lets writes the profile "town": any command, and these rules.
func (w *town) lets(rules string) {
	w.t.Helper()
	w.rules = rules
	w.profile("town", "version = 1\nextends = \"shell\"\n"+rules)
}

// allow is a rule for one name, with more keys if more are given.
func allow(host string, more ...string) string {
	return "[[network.rule]]\naction = \"allow\"\nhost = \"" + host + "\"\n" + strings.Join(more, "\n") + "\n"
}

func (w *town) run(script string) result {
	w.t.Helper()
	return w.agentbox("run", "town", "-q", "--", "sh", "-c", script)
}

func (w *town) serve(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	w.seen = append(w.seen, visit{host, r.Method, r.RequestURI, r.Proto, r.Header.Get("Authorization")})
	h := w.handlers[host]
	w.mu.Unlock()
	if h == nil {
		http.Error(rw, "no such host here", http.StatusMisdirectedRequest)
		return
	}
	h.ServeHTTP(rw, r)
}

func (w *town) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	w.mu.Lock()
	w.named = append(w.named, hello.ServerName)
	w.mu.Unlock()
	if bad := w.certificates[hello.ServerName]; bad != nil {
		return bad(w)
	}
	return w.roots.issue(hello.ServerName, time.Now().Add(time.Hour))
}

// visits are the requests that reached a server, and forgets them.
func (w *town) visits() []visit {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.seen
	w.seen = nil
	return out
}

// visited are the visits as "METHOD host/path".
func visited(visits []visit) (out []string) {
	for _, v := range visits {
		out = append(out, v.method+" "+v.host+v.path)
	}
	return out
}

// counting counts connections.
type counting struct {
	net.Listener
	town *town
}

func (l *counting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.town.mu.Lock()
		l.town.opened++
		l.town.mu.Unlock()
	}
	return conn, err
}

// authority signs the certificates of a town.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	draft := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "town"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, draft, draft, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{t, cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// itself gives a certificate for a name that nobody else signed.
func (a *authority) itself(name string) (*tls.Certificate, error) {
	draft := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, draft, draft, a.key.Public(), a.key)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}, err
}

// issue gives a certificate for a name, until a time.
func (a *authority) issue(name string, until time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	draft := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, draft, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// refusals are the denials of the latest run, as "kind host:port reason".
func (w *town) refusals() (out []string) {
	w.t.Helper()
	for _, e := range w.events() {
		if e.Decision == event.Deny {
			out = append(out, fmt.Sprintf("%s %s:%d %s", e.Kind, e.Host, e.Port, e.Reason))
		}
	}
	return out
}

// only checks that the servers saw these requests and no other, and that nothing was refused.
func (w *town) only(visits []visit, want ...string) {
	w.t.Helper()
	got := visited(visits)
	slices.Sort(got)
	slices.Sort(want)
	if got = slices.Compact(got); !slices.Equal(got, want) {
		w.t.Errorf("the servers were visited for\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r := w.refusals(); len(r) > 0 {
		w.t.Errorf("refused: %q", r)
	}
}

// clientModules is where npm's programs of test/clients are.
func clientModules(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{os.Getenv("AGENTBOX_TEST_CLIENTS"), "/var/cache/agentbox-test/clients", "../../.cache/clients"} {
		if dir == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "node_modules", "npm")); err == nil {
			return filepath.Join(dir, "node_modules")
		}
	}
	t.Fatal("the client programs are not installed: run test/clients/install")
	return ""
}

// bring copies client programs of npm's into the repository, below node_modules.
func (b *box) bring(names ...string) {
	b.t.Helper()
	from, to := clientModules(b.t), filepath.Join(b.repo, "node_modules")
	must(b.t, os.MkdirAll(to, 0o755))
	for _, name := range names {
		if out, err := exec.Command("cp", "-a", filepath.Join(from, name), to).CombinedOutput(); err != nil {
			b.t.Fatalf("copying %s: %v\n%s", name, err, out)
		}
	}
}

// gitServer serves one git repository with these files below /name.
func (b *box) gitServer(name string, files map[string]string) http.Handler {
	b.t.Helper()
	top := filepath.Join(filepath.Dir(b.repo), "served")
	dir := filepath.Join(top, name)
	for file, text := range files {
		must(b.t, os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755))
		must(b.t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644))
	}
	for _, args := range [][]string{{"init", "-q", "-b", "master"}, {"add", "."}, {"-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "-m", "start"}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			b.t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	return &cgi.Handler{Path: "/usr/bin/env", Args: []string{"git", "http-backend"}, Dir: top,
		Env: []string{"GIT_PROJECT_ROOT=" + top, "GIT_HTTP_EXPORT_ALL=1"}}
}
