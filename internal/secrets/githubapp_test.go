package secrets

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// github answers as GitHub does for an app. Ahead is how much its clock is ahead of this machine's.
type github struct {
	*httptest.Server
	key   *rsa.PublicKey
	ahead time.Duration

	mu    sync.Mutex
	asks  []string // "POST /app/installations/7/access_tokens"
	body  map[string]any
	good  map[string]bool // tokens
	fails map[string]int  // the status that a path is answered with
}

// appKeys are made once: that takes long.
var appKeys = sync.OnceValue(func() (keys [2]*rsa.PrivateKey) {
	for i := range keys {
		keys[i], _ = rsa.GenerateKey(rand.Reader, 2048) // it never fails
	}
	return keys
})

func newGitHub(t *testing.T) (*github, string) { return newGitHubOf(t, appKeys()[0]) }

func newGitHubOf(t *testing.T, key *rsa.PrivateKey) (*github, string) {
	t.Helper()
	g := &github{key: &key.PublicKey, good: map[string]bool{}, fails: map[string]int{}}
	g.Server = httptest.NewTLSServer(g)
	t.Cleanup(g.Close)
	return g, string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

func (g *github) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asks = append(g.asks, r.Method+" "+r.URL.Path)
	now := time.Now().Add(g.ahead)
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	if code := g.fails[r.URL.Path]; code != 0 {
		w.WriteHeader(code)
		fmt.Fprint(w, `{"message":"not today"}`)
		return
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if r.URL.Path == "/installation/token" {
		if !g.good[token] {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		delete(g.good, token)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if !g.isApp(token, now) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"message":"'Expiration time' claim ('exp') is too far in the future"}`)
		return
	}
	switch r.URL.Path {
	case "/repos/acme/billing/installation":
		fmt.Fprint(w, `{"id":7}`)
	case "/app/installations/7/access_tokens":
		if err := json.NewDecoder(r.Body).Decode(&g.body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		minted := fmt.Sprintf("ghs_minted_token_%d", len(g.asks))
		g.good[minted] = true
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"token":%q,"expires_at":%q}`, minted, now.Add(time.Hour).UTC().Format(time.RFC3339))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// isApp checks an app's word as GitHub does.
func (g *github) isApp(token string, now time.Time) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || rsa.VerifyPKCS1v15(g.key, crypto.SHA256, sum[:], signature) != nil {
		return false
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Iat, Exp int64
		Iss      string
	}
	if err != nil || json.Unmarshal(text, &claims) != nil {
		return false
	}
	return claims.Iss == "42" && claims.Iat <= now.Unix() && claims.Exp > now.Unix() && claims.Exp <= now.Add(10*time.Minute).Unix()
}

func (g *github) app(ring Getter) *GitHubApp {
	client := g.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return NewGitHubApp(GitHubApp{ID: 42, Account: "app-key", Repos: []string{"acme/billing"}, Permissions: map[string]string{"contents": "read"}, Keyring: ring, Client: client, API: g.URL})
}

func TestAGitHubAppMintsAndRevokes(t *testing.T) {
	// A clock that is wrong by hours, in either direction, is no hindrance, and the lease ends by this machine's clock.
	for _, ahead := range []time.Duration{0, 3 * time.Hour, -3 * time.Hour} {
		g, key := newGitHub(t)
		g.ahead = ahead
		ring := &counting{value: key}
		app := g.app(ring)
		lease, err := app.Fetch(t.Context())
		if err != nil {
			t.Fatalf("%s ahead: %v", ahead, err)
		}
		if left := time.Until(lease.Expires); left < 50*time.Minute || left > 61*time.Minute || !g.good[lease.Value.Reveal()] {
			t.Errorf("%s ahead: %s left of %q", ahead, left, lease.Value.Reveal())
		}
		if fmt.Sprint(g.body) != "map[permissions:map[contents:read] repositories:[billing]]" {
			t.Errorf("asked for %v", g.body)
		}
		if len(lease.Also) != 1 || lease.Also[0].Reveal() != key {
			t.Error("the key is not told of")
		}
		if _, err := app.Fetch(t.Context()); err != nil || ring.asked.Load() != 1 {
			t.Errorf("the keyring was asked %d times, %v", ring.asked.Load(), err)
		}
		for range 2 { // what is revoked already is no failure
			if err := lease.Revoke(t.Context()); err != nil || g.good[lease.Value.Reveal()] {
				t.Errorf("revoking: %v", err)
			}
		}
	}
}

func TestAGitHubAppThatGetsNoToken(t *testing.T) {
	const install, mint = "/repos/acme/billing/installation", "/app/installations/7/access_tokens"
	for _, tc := range []struct {
		path       string
		code       int
		want, hint string
		passing    bool
	}{
		{install, 404, "app 42 is not installed for acme/billing", "Install App", false},
		{install, 401, `does not accept the key "app-key" as that of app 42`, "id and key belong together", false},
		{mint, 422, "may not give a token for acme/billing with these permissions", "ask for less", false},
		{mint, 503, "gives no token now (503)", "later", true},
		{mint, 429, "gives no token now (429)", "later", true},
		{mint, 302, "gave no token (302)", "agentbox secret set app-key --file", false},
		{mint, 200, "without a token", "status", true},
	} {
		g, key := newGitHub(t)
		g.fails[tc.path] = tc.code
		_, err := g.app(&counting{value: key}).Fetch(t.Context())
		var said *GitHubError
		if !errors.As(err, &said) || !strings.Contains(said.Text, tc.want) || !strings.Contains(said.Tip, tc.hint) || said.Temporary() != tc.passing {
			t.Errorf("%s %d: %v (%+v)", tc.path, tc.code, err, said)
		}
	}
	g, key := newGitHub(t)
	other, _ := newGitHubOf(t, appKeys()[1])
	for name, value := range map[string]string{"a word": "hello", "no key": "-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----\n", "broken": strings.Replace(key, "MII", "MIX", 1)} {
		_, err := g.app(&counting{value: value}).Fetch(t.Context())
		var hinted interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), `"app-key" in the keyring is not the private key`) || strings.Contains(err.Error(), value[:5]) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "--file") {
			t.Errorf("%s: %v", name, err)
		}
	}
	stranger := other.app(&counting{value: key}) // another app's key
	if _, err := stranger.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "does not accept the key") {
		t.Errorf("another app's key: %v", err)
	}
	two := g.app(&counting{value: key})
	two.Repos = append(two.Repos, "other/thing")
	if _, err := two.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "both acme and other") {
		t.Errorf("two owners: %v", err)
	}
	g.Close()
	_, err := g.app(&counting{value: key}).Fetch(t.Context())
	var said *GitHubError
	if !errors.As(err, &said) || !said.Temporary() || strings.Contains(err.Error(), "/repos/") {
		t.Errorf("nobody there: %v", err)
	}
}

// vault is a keyring in memory.
type vault struct {
	mu     sync.Mutex
	values map[string]string
	fails  error
}

func (v *vault) Get(_ context.Context, name string) (Secret, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if value, ok := v.values[name]; ok {
		return New(value), v.fails
	}
	return Secret{}, ErrNotFound
}

func (v *vault) Set(_ context.Context, name string, value Secret) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.values[name] = value.Reveal()
	return v.fails
}

func (v *vault) Delete(_ context.Context, name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.values, name)
	return v.fails
}

// A run that is killed leaves a record without the value, and the next command takes the token back.
func TestWhatADeadRunOwesIsTakenBack(t *testing.T) {
	g, key := newGitHub(t)
	ring, dir := &vault{values: map[string]string{"app-key": key}}, t.TempDir()
	b, l := leasing(t, g.app(ring), 0)
	b.Record(l, &Debts{Dir: dir, Run: "20260102-150405-x7k2", Vault: ring})
	token, err := used(t, b)
	if err != nil || !g.good[token] || !Owes(dir) {
		t.Fatalf("%q, %v", token, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, DebtsFile))
	if err != nil || strings.Contains(string(text), token) || !strings.Contains(string(text), "lease/20260102-150405-x7k2/app/1") {
		t.Fatalf("written down: %s, %v", text, err)
	}
	// It is dead now: nobody calls Release.
	revokeOne := func(ctx context.Context, claim Claim, value Secret) error {
		return RevokeClaim(ctx, g.Client(), claim, value)
	}
	g.fails["/installation/token"] = 500
	var said *Unrevoked
	if done, err := Settle(t.Context(), dir, ring, revokeOne); len(done) != 0 || !errors.As(err, &said) || !Owes(dir) || !strings.Contains(err.Error(), "GitHub answered 500") {
		t.Errorf("GitHub is down: %v, %v", done, err)
	}
	delete(g.fails, "/installation/token")
	done, err := Settle(t.Context(), dir, ring, revokeOne)
	if err != nil || !slices.Equal(done, []string{"app"}) || g.good[token] || Owes(dir) || len(ring.values) != 1 {
		t.Errorf("%v, %v; the token is good: %v; in the keyring: %d", done, err, g.good[token], len(ring.values))
	}
	if done, err := Settle(t.Context(), dir, ring, revokeOne); err != nil || len(done) != 0 {
		t.Errorf("again: %v, %v", done, err)
	}
}

func TestARunThatEndsOwesNothing(t *testing.T) {
	g, key := newGitHub(t)
	ring, dir := &vault{values: map[string]string{"app-key": key}}, t.TempDir()
	b, l := leasing(t, g.app(ring), 0)
	b.Record(l, &Debts{Dir: dir, Run: "r", Vault: ring})
	token, err := used(t, b)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Release(t.Context()); err != nil || g.good[token] || Owes(dir) || len(ring.values) != 1 {
		t.Errorf("%v; the token is good: %v; in the keyring: %d", err, g.good[token], len(ring.values))
	}
}

// A record that somebody changed sends the value nowhere in plain.
func TestAClaimIsRevokedOverTLSOnly(t *testing.T) {
	for _, c := range []Claim{{"github_app", "http://api.github.com"}, {"other", "https://api.github.com"}, {}} {
		if err := RevokeClaim(t.Context(), nil, c, New("x")); err == nil || !strings.Contains(err.Error(), "does not know how") {
			t.Errorf("%v: %v", c, err)
		}
	}
}
