// Package registry is a container registry for tests: the distribution's own program (docker-registry), behind TLS of the test's
// and whatever goes wrong on the way. Images are made from nothing but what the test says.
package registry

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The login of a registry that has one, and its password's hash.
const (
	User     = "someone"
	Password = "a-password"
	hash     = "$2a$04$0QE4/Ms6CU9ULyvCw6LY/.qBf8khgvZ1ydU1NAIO6n48aVVa7jZtu"
)

// Registry serves over TLS at Addr.
type Registry struct {
	Addr string // "127.0.0.1:PORT": the registry's name in references

	t     testing.TB
	front *httptest.Server
	back  http.RoundTripper
	login bool

	mu      sync.Mutex
	asked   []string // "GET /v2/…"
	cut     map[string]bool
	changed map[string]bool
	slow    map[string]bool
	held    map[string]chan struct{}
}

// Start starts one that takes anybody, or only User. It ends with the test.
func Start(t testing.TB, login bool) *Registry {
	t.Helper()
	dir, err := os.MkdirTemp("", "abx") // short: a socket lies in it
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	socket := filepath.Join(dir, "s")
	serve(t, dir, socket, login)
	r := &Registry{t: t, login: login, cut: map[string]bool{}, changed: map[string]bool{}, slow: map[string]bool{}, held: map[string]chan struct{}{}}
	r.back = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "registry"})
	proxy.Transport, proxy.ModifyResponse, proxy.ErrorLog = r.back, r.spoil, log.New(io.Discard, "", 0)
	r.front = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.asked = append(r.asked, req.Method+" "+req.URL.Path)
		held := r.held[last(req.URL.Path)]
		r.mu.Unlock()
		if held != nil {
			select {
			case held <- struct{}{}:
			case <-req.Context().Done():
			}
			<-req.Context().Done()
			return
		}
		proxy.ServeHTTP(w, req)
	}))
	r.front.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.front.StartTLS()
	t.Cleanup(r.front.Close)
	r.Addr = r.front.Listener.Addr().String()
	return r
}

// serve starts docker-registry and waits until it says that it listens.
func serve(t testing.TB, dir, socket string, login bool) {
	t.Helper()
	config := fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {net: unix, addr: %s, relativeurls: true}\n",
		filepath.Join(dir, "data"), socket)
	if login {
		users := filepath.Join(dir, "users")
		must(t, os.WriteFile(users, []byte(User+":"+hash+"\n"), 0o600))
		config += "auth: {htpasswd: {realm: test, path: " + users + "}}\n"
	}
	file := filepath.Join(dir, "config.yml")
	must(t, os.WriteFile(file, []byte(config), 0o600))
	cmd := exec.Command("docker-registry", "serve", file)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	r, w, err := os.Pipe()
	must(t, err)
	cmd.Stdout, cmd.Stderr = w, w
	must(t, cmd.Start())
	must(t, w.Close())
	listening, said := make(chan bool, 1), make(chan string, 1)
	go func() {
		var all strings.Builder
		for s := bufio.NewScanner(r); s.Scan(); {
			if strings.Contains(s.Text(), "listening on") {
				listening <- true
			}
			if all.Len() < 1<<16 {
				all.WriteString(s.Text() + "\n")
			}
		}
		said <- all.String()
		close(listening)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = r.Close()
	})
	if !<-listening {
		t.Fatalf("docker-registry ended: %s", <-said)
	}
}

// CA is the certificate that its clients must trust.
func (r *Registry) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.front.Certificate().Raw})
}

// Trusted is a file with the registry's certificate and this machine's own, for SSL_CERT_FILE.
func (r *Registry) Trusted() string {
	r.t.Helper()
	all := r.CA()
	if own, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt"); err == nil {
		all = append(all, own...)
	}
	return r.file("ca.pem", all)
}

// Login is a file of containers-auth with a password for the registry, for REGISTRY_AUTH_FILE.
func (r *Registry) Login(password string) string {
	r.t.Helper()
	auth := base64.StdEncoding.EncodeToString([]byte(User + ":" + password))
	return r.file("auth.json", marshal(r.t, map[string]any{"auths": map[string]any{r.Addr: map[string]string{"auth": auth}}}))
}

func (r *Registry) file(name string, content []byte) string {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), name)
	must(r.t, os.WriteFile(path, content, 0o600))
	return path
}

// Asked takes what was asked since the last time.
func (r *Registry) Asked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.asked = nil
	return asked
}

// Cut has the connection die in the middle of a blob, as often as it is asked for.
func (r *Registry) Cut(digest string, on bool) { r.set(r.cut, digest, on) }

// Change has the registry answer with something else than what was pushed.
func (r *Registry) Change(digest string, on bool) { r.set(r.changed, digest, on) }

// Hold has everybody wait who asks for a digest, until they give up. The channel tells of each.
func (r *Registry) Hold(digest string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[digest] = make(chan struct{})
	return r.held[digest]
}

// Trickle has a blob come so slowly that its reader is asked how far it is.
func (r *Registry) Trickle(digest string) { r.set(r.slow, digest, true) }

// trickling gives a little at each tick.
type trickling struct {
	io.ReadCloser
	tick *time.Ticker
}

func (s *trickling) Read(p []byte) (int, error) {
	<-s.tick.C
	return s.ReadCloser.Read(p[:min(len(p), 4096)])
}

func (s *trickling) Close() error {
	s.tick.Stop()
	return s.ReadCloser.Close()
}

func last(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func (r *Registry) set(m map[string]bool, digest string, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m[digest] = on
}

// spoil is what goes wrong on the way.
func (r *Registry) spoil(resp *http.Response) error {
	digest := last(resp.Request.URL.Path)
	r.mu.Lock()
	cut, changed, slow := r.cut[digest], r.changed[digest], r.slow[digest]
	r.mu.Unlock()
	if resp.Request.Method != http.MethodGet || resp.StatusCode >= 300 {
		return nil
	}
	switch {
	case cut:
		resp.Body = &dying{resp.Body, resp.ContentLength / 2}
	case slow:
		resp.Body = &trickling{resp.Body, time.NewTicker(10 * time.Millisecond)}
	case changed:
		resp.Body = &flipped{resp.Body}
	}
	return nil
}

// dying ends in an error, which the proxy makes the end of the connection.
type dying struct {
	io.ReadCloser
	left int64
}

func (d *dying) Read(p []byte) (int, error) {
	if d.left <= 0 {
		return 0, errors.New("the line is dead")
	}
	n, err := d.ReadCloser.Read(p[:min(int64(len(p)), d.left)])
	d.left -= int64(n)
	return n, err
}

// flipped has other bytes: the blanks of JSON, or anything in a blob.
type flipped struct{ io.ReadCloser }

func (f *flipped) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if n > 0 {
		p[n-1] ^= 1
	}
	return n, err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
