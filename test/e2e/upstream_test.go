package e2e

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const (
	corpUser     = "ann"
	corpPassword = "c0rp-pa55word"
)

// corporate is the proxy of a network that nothing leaves without it: it wants a password, and alone knows where the
// site's names lead.
type corporate struct {
	addr    string
	servers map[string]string

	mu    sync.Mutex
	asked []string
}

func newCorporate(t *testing.T, s *site) *corporate {
	t.Helper()
	c := &corporate{servers: map[string]string{secureHost + ":443": s.secure.Listener.Addr().String(), plainHost + ":80": s.plain.Listener.Addr().String()}}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	c.addr = l.Addr().String()
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				c.serve(conn)
			})
		}
	})
	return c
}

func (c *corporate) serve(conn net.Conn) {
	br := bufio.NewReader(conn)
	req, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(corpUser+":"+corpPassword))
	known := req.Header.Get("Proxy-Authorization") == want
	c.mu.Lock()
	c.asked = append(c.asked, fmt.Sprintf("%s %s %t", req.Method, req.RequestURI, known))
	c.mu.Unlock()
	server, ok := c.servers[req.RequestURI]
	switch {
	case !known:
		_, _ = io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"corp\"\r\nContent-Length: 0\r\n\r\n")
		return
	case !ok:
		_, _ = io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
		return
	}
	out, err := net.Dial("tcp4", server)
	if err != nil {
		return
	}
	defer out.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() { _, _ = io.Copy(out, br); _ = out.Close() }()
	_, _ = io.Copy(conn, out)
}

// only checks what the proxy was asked since the last time.
func (c *corporate) only(t *testing.T, want ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := strings.Join(c.asked, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the proxy was asked\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	c.asked = nil
}

func (c *corporate) config(s *site, password string) {
	s.config(fmt.Sprintf("[upstream]\nca = [%q]\nproxy = \"http://%s\"\nproxy_user = %q\nproxy_password = %s\n",
		filepath.Join(s.conf, "agentbox", "ca.pem"), c.addr, corpUser, password))
}

// fetchBoth shows what inside came of both names: the status, or what curl said.
const fetchBoth = `curl -sS -o /dev/null -w '%{http_code}\n' https://` + secureHost + `/a; curl -sS -o /dev/null -w '%{http_code}\n' http://` + plainHost + `/b`

func (s *site) holdsNot(t *testing.T, r result, secret string) {
	t.Helper()
	if strings.Contains(r.out+r.err, secret) {
		t.Error("the password was printed")
	}
	must(t, filepath.WalkDir(filepath.Dir(s.repo), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // what can't be read by us holds nothing of ours
		}
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), secret) && !strings.Contains(path, "keyring") {
			t.Errorf("%s holds the password", path)
		}
		return nil
	}))
}

func TestEverythingGoesThroughTheUpstreamProxy(t *testing.T) {
	s := newSite(t)
	c := newCorporate(t, s)
	c.config(s, `{ env = "CORP_PROXY_PASSWORD" }`)

	shown := s.agentbox("run", "net", "--dry-run").exits(0).out
	for _, text := range []string{"goes through the proxy", "http://" + c.addr, "NOT"} {
		if !strings.Contains(shown, text) {
			t.Errorf("the plan does not say %q:\n%s", text, shown)
		}
	}
	s.run(fetchBoth).exits(0).prints("502\n502\n").says("$CORP_PROXY_PASSWORD is not set")
	c.only(t)

	s.setenv("CORP_PROXY_PASSWORD", corpPassword)
	r := s.run(fetchBoth + `; env | grep -c CORP_PROXY`).prints("200\n200\n0\n")
	c.only(t, "CONNECT "+secureHost+":443 true", "CONNECT "+plainHost+":80 true")
	s.holdsNot(t, r, corpPassword)
	s.crossed(append(fetched(secureHost, 443, "/a", "proxy"), fetched(plainHost, 80, "/b", "proxy")...)...)

	s.setenv("CORP_PROXY_PASSWORD", "wr0ng")
	s.run(fetchBoth).exits(0).prints("502\n502\n")
	c.only(t, "CONNECT "+secureHost+":443 false") // once: accounts are locked after a few
	reasons := ""
	for _, e := range s.events() {
		reasons += e.Reason + "\n"
	}
	if !strings.Contains(reasons, "does not take the name and the password") || strings.Contains(reasons, "wr0ng") {
		t.Errorf("the reasons are %q", reasons)
	}
}

func TestThePasswordOfTheUpstreamProxyIsOfTheKeyring(t *testing.T) {
	s := newSite(t)
	c := newCorporate(t, s)
	c.config(s, `{ keyring = "corp-proxy" }`)
	lock := s.keyring()
	s.run(fetchBoth).exits(0).prints("502\n502\n").says("agentbox secret set corp-proxy")
	c.only(t)
	set := s.command("secret", "set", "corp-proxy")
	set.Stdin = strings.NewReader(corpPassword + "\n")
	must(t, set.Run())
	r := s.run(fetchBoth).exits(0).prints("200\n200\n")
	c.only(t, "CONNECT "+secureHost+":443 true", "CONNECT "+plainHost+":80 true")
	s.holdsNot(t, r, corpPassword)
	lock()
	s.run(fetchBoth).exits(0).prints("502\n502\n")
	c.only(t)
}

// A repository has no say in where agentbox dials.
func TestARepositoryNamesNoUpstreamProxy(t *testing.T) {
	s := newSite(t)
	for _, file := range []string{"config.toml", ".agentbox/config.toml"} {
		s.write(file, "[upstream]\nproxy = \"http://127.0.0.1:1\"\n")
	}
	s.run(fetchBoth).exits(0).prints("200\n200\n")
	s.write("agentbox.toml", "version = 1\n[upstream]\nproxy = \"http://127.0.0.1:1\"\n")
	s.agentbox("run", "net", "--", "true").exits(126).says(`unknown key "upstream"`)
}
