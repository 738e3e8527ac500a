package proxy

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"agentbox/internal/policy"
)

// agentbox's own calls go the person's way and no other: to the server that was routed, whose certificate is verified,
// without the environment's proxy and without following where an answer leads.
func TestAgentboxsOwnClient(t *testing.T) {
	elsewhere := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere = true }))
	defer other.Close()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusFound)
	}))
	defer s.Close()
	t.Setenv("HTTPS_PROXY", other.URL)
	t.Setenv("HTTP_PROXY", other.URL)
	host, err := policy.ParseHost("example.com") // the name in httptest's certificate
	if err != nil {
		t.Fatal(err)
	}
	config := Config{Fixed: map[policy.Host]string{host: s.Listener.Addr().String()}}
	get := func(url string) (*http.Response, error) {
		c, err := NewClient(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.CloseIdleConnections)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Do(req)
	}
	if resp, err := get("https://example.com/"); err == nil {
		_ = resp.Body.Close()
		t.Error("a certificate of nobody's was taken")
	}
	config.ExtraRoots = pemOf(s.Certificate().Raw)
	resp, err := get("https://example.com/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusFound || elsewhere {
		t.Errorf("it was answered with %d; somebody else was asked: %v", resp.StatusCode, elsewhere)
	}
	if resp, err := get("https://localhost/"); err == nil || !strings.Contains(err.Error(), "this machine itself") {
		if err == nil {
			_ = resp.Body.Close()
		}
		t.Errorf("this machine itself was dialled: %v", err)
	}
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
