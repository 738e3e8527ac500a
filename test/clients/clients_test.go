// Package clients_test shows that the programs beside it do what they are for: they fetch a page without asking the
// proxy that the environment names. It owns the servers that it starts.
package clients_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"agentbox/internal/modelserver"
)

func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("./build", dir).CombinedOutput(); err != nil {
		t.Fatalf("building the clients: %v\n%s", err, out)
	}
	return dir
}

func TestIgnoreProxyVariables(t *testing.T) {
	dir := build(t)
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "refused", http.StatusForbidden)
	}))
	defer proxy.Close()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"message":"hello"}`))
	}))
	defer plain.Close()
	server, err := modelserver.Start(modelserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, server.CAPEM(), 0o644); err != nil {
		t.Fatal(err)
	}

	url := "https://127.0.0.1:" + port(t, server.Addr()) + "/api/hello"
	for name, args := range map[string][]string{
		"goclient":        {url},
		"nodeclient.js":   {url},
		"pythonclient.py": {url},
		"cclient":         {"127.0.0.1", port(t, plain.Listener.Addr().String())},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(filepath.Join(dir, name), args...)
			cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+ca, "SSL_CERT_FILE="+ca, "NO_PROXY=", "no_proxy=")
			for _, v := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
				cmd.Env = append(cmd.Env, v+"="+proxy.URL)
			}
			out, err := cmd.CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != `{"message":"hello"}` {
				t.Fatalf("it says %q (%v)", out, err)
			}
		})
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the proxy was asked %d times, want never", n)
	}
}

func TestFailOnErrors(t *testing.T) {
	dir := build(t)
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	for name, args := range map[string][]string{
		"goclient":        {server.URL},
		"nodeclient.js":   {server.URL},
		"pythonclient.py": {server.URL},
		"cclient":         {"127.0.0.1", port(t, server.Listener.Addr().String())},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := exec.Command(filepath.Join(dir, name), args...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "404") {
				t.Errorf("it says %q (%v), want the 404 and a failure", out, err)
			}
		})
	}
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
