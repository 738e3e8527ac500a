package secrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"agentbox/internal/logins"
	"agentbox/internal/policy"
)

// endpoint is a token endpoint, over TLS, where a refresh token is good once.
type endpoint struct {
	*httptest.Server
	mu     sync.Mutex
	good   string // refresh token
	n      int
	asked  []map[string]string
	answer func(http.ResponseWriter) // in place of the usual one
}

func newEndpoint(t *testing.T, good string) *endpoint {
	t.Helper()
	e := &endpoint{good: good}
	e.Server = httptest.NewTLSServer(e)
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var asked map[string]string
	_ = json.NewDecoder(r.Body).Decode(&asked) // what is no JSON is seen by what is missing
	e.asked = append(e.asked, asked)
	switch {
	case e.answer != nil:
		e.answer(w)
	case asked["refresh_token"] != e.good:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"invalid_grant","error_description":"no `+asked["refresh_token"]+`"}`)
	default:
		e.n++
		e.good = fmt.Sprintf("refresh-%d", e.n)
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprintf("access-token-%d", e.n), "refresh_token": e.good, "expires_in": 3600})
	}
}

func (e *endpoint) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.asked)
}

const (
	later   = 4000000000000
	earlier = 1700000000000
)

func claudeLogin(access, refresh string, expires int64) string {
	return fmt.Sprintf(`{"claudeAiOauth":{"accessToken":%q,"refreshToken":%q,"expiresAt":%d,"scopes":["user:inference","user:profile"],"subscriptionType":"max"},"other":{"big":1234567890123456789,"html":"<&>"}}`,
		access, refresh, expires)
}

// loginAt makes a login in a file, whose endpoint is e.
func loginAt(t *testing.T, e *endpoint, text string) (*OAuth, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "claude", "login.json")
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	l, _ := logins.Find("claude")
	l.Host = strings.TrimPrefix(e.URL, "https://")
	return &OAuth{Login: l, Store: LoginFile{Path: path, Locks: l.Locks, Tip: "log in"}, Client: e.Client()}, path
}

func contents(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func gives(t *testing.T, o *OAuth, want string) Lease {
	t.Helper()
	lease, err := o.Fetch(t.Context())
	if err != nil || lease.Value.Reveal() != want {
		t.Fatalf("the login gives %q and %v, want %q", lease.Value.Reveal(), err, want)
	}
	return lease
}

func TestALoginThatIsGoodIsUsedAsItIs(t *testing.T) {
	e := newEndpoint(t, "refresh-0")
	text := claudeLogin("access-token-0", "refresh-0", later)
	o, path := loginAt(t, e, text)
	lease := gives(t, o, "access-token-0")
	if !lease.Expires.Equal(time.UnixMilli(later)) || len(lease.Also) != 2 {
		t.Errorf("the lease is until %s, and %d more values are to be kept secret", lease.Expires, len(lease.Also))
	}
	if e.count() != 0 || contents(t, path) != text {
		t.Error("it was refreshed, or the file was written")
	}
}

func TestALoginIsRefreshedAndWrittenBack(t *testing.T) {
	e := newEndpoint(t, "refresh-0")
	o, path := loginAt(t, e, claudeLogin("access-token-0", "refresh-0", earlier))
	lease := gives(t, o, "access-token-1")
	if left := time.Until(lease.Expires); left < 50*time.Minute || left > time.Hour {
		t.Errorf("the lease is for %s", left)
	}
	for _, want := range []string{`"access-token-1"`, `"refresh-1"`, "1234567890123456789", `"<&>"`, `"max"`} {
		if !strings.Contains(contents(t, path), want) {
			t.Errorf("%s is not in the login after it was refreshed", want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the login has mode %v (%v)", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/.*"); len(left) > 0 {
		t.Errorf("something is left: %q", left)
	}
	asked := e.asked[0]
	if asked["grant_type"] != "refresh_token" || asked["client_id"] != o.Login.Client || asked["scope"] != "user:inference user:profile" {
		t.Errorf("the endpoint was asked %q", asked)
	}
	gives(t, o, "access-token-1")
	if e.count() != 1 {
		t.Errorf("it was refreshed %d times, want once", e.count())
	}
}

// TestALinkIsFollowed: people keep such files elsewhere and link to them.
func TestALinkIsFollowed(t *testing.T) {
	e := newEndpoint(t, "refresh-0")
	o, path := loginAt(t, e, claudeLogin("access-token-0", "refresh-0", earlier))
	link := filepath.Join(t.TempDir(), "link.json")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	o.Store = LoginFile{Path: link}
	gives(t, o, "access-token-1")
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 || !strings.Contains(contents(t, path), "refresh-1") {
		t.Errorf("the link is gone, or what it leads to was not written (%v)", err)
	}
}

// TestARefreshIsNotHalfDone: the issuer forgets the old refresh token when it gives the new one, so a login that can't be
// written is not refreshed.
func TestARefreshIsNotHalfDone(t *testing.T) {
	e := newEndpoint(t, "refresh-0")
	o, _ := loginAt(t, e, claudeLogin("access-token-0", "refresh-0", earlier))
	o.Store = full{o.Store}
	lease, err := o.Fetch(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no room") || e.count() != 0 {
		t.Errorf("a login that can't be written was refreshed: %q, %v", lease.Value.Reveal(), err)
	}
}

// full can't be written.
type full struct{ LoginStore }

func (full) Save(context.Context, []byte) error { return errors.New("no room") }

// TestARefreshThatWasNotWrittenIsKept: the place filled up while the issuer was asked.
func TestARefreshThatWasNotWrittenIsKept(t *testing.T) {
	e := newEndpoint(t, "refresh-0")
	o, path := loginAt(t, e, claudeLogin("access-token-0", "refresh-0", earlier))
	store := &fills{LoginStore: o.Store, room: 1}
	o.Store = store
	lease, err := o.Fetch(t.Context())
	if err == nil || !lease.Value.IsZero() || strings.Contains(contents(t, path), "refresh-1") {
		t.Fatalf("it was used before it was written: %v", err)
	}
	store.room = 9
	gives(t, o, "access-token-1")
	if !strings.Contains(contents(t, path), "refresh-1") || e.count() != 1 {
		t.Errorf("it was not written afterwards, or refreshed %d times", e.count())
	}
}

// fills can be written a number of times.
type fills struct {
	LoginStore
	room int
}

func (f *fills) Save(ctx context.Context, text []byte) error {
	if f.room--; f.room < 0 {
		return errors.New("no room")
	}
	return f.LoginStore.Save(ctx, text)
}

// TestARefreshOutlastsItsRun: the issuer has forgotten the old token by the time that a run is called off.
func TestARefreshOutlastsItsRun(t *testing.T) {
	e := newEndpoint(t, "refresh-0")
	o, path := loginAt(t, e, claudeLogin("access-token-0", "refresh-0", earlier))
	ctx, cancel := context.WithCancel(t.Context())
	e.answer = func(w http.ResponseWriter) {
		cancel()
		_, _ = io.WriteString(w, `{"access_token":"access-token-1","refresh_token":"refresh-1","expires_in":3600}`)
	}
	_, _ = o.Fetch(ctx) // whoever asked is gone
	if text := contents(t, path); !strings.Contains(text, `"refresh-1"`) {
		t.Errorf("the login is lost: %s", text)
	}
}

// TestTheAgentOnTheHostRefreshesToo: whoever comes second finds what the first one got.
func TestTheAgentOnTheHostRefreshesToo(t *testing.T) {
	e := newEndpoint(t, "refresh-0")
	o, path := loginAt(t, e, claudeLogin("access-token-0", "refresh-0", earlier))
	lock := filepath.Join(filepath.Dir(path), ".oauth_refresh.lock")
	if err := os.Mkdir(lock, 0o700); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	store := o.Store.(LoginFile)
	store.Busy = func() {
		once.Do(func() {
			if err := errors.Join(os.WriteFile(path, []byte(claudeLogin("access-of-the-host", "refresh-of-the-host", later)), 0o600), os.Remove(lock)); err != nil {
				t.Error(err)
			}
		})
	}
	o.Store = store
	gives(t, o, "access-of-the-host")
	if e.count() != 0 {
		t.Error("it was refreshed all the same, with a token that was spent")
	}
}

// TestALockOfTheDead: an agent that was killed while it refreshed left its lock.
func TestALockOfTheDead(t *testing.T) {
	e := newEndpoint(t, "refresh-0")
	o, path := loginAt(t, e, claudeLogin("access-token-0", "refresh-0", earlier))
	lock, old := filepath.Dir(path)+".lock", time.Now().Add(-2*lockStale)
	if err := errors.Join(os.Mkdir(lock, 0o700), os.Chtimes(lock, old, old)); err != nil {
		t.Fatal(err)
	}
	gives(t, o, "access-token-1")
}

func TestBadLogins(t *testing.T) {
	big := strings.Repeat("t0k3n", 8)
	for name, test := range map[string]struct {
		text   string
		spoil  func(t *testing.T, o *OAuth, path string)
		answer func(http.ResponseWriter)
		want   string
		tip    string
	}{
		"missing":       {spoil: func(_ *testing.T, _ *OAuth, path string) { _ = os.Remove(path) }, want: "there is no login", tip: "log in"},
		"not JSON":      {text: big, want: "it is not a JSON object", tip: "/login"},
		"a list":        {text: `["` + big + `"]`, want: "it is not a JSON object", tip: "/login"},
		"an API key":    {text: `{"primaryApiKey":"` + big + `"}`, want: "it holds no subscription login", tip: "/login"},
		"no refresh":    {text: claudeLogin(big, "", earlier), want: "it has expired and holds no refresh token", tip: "log in again"},
		"for others":    {spoil: func(_ *testing.T, _ *OAuth, path string) { _ = os.Chmod(path, 0o644) }, want: "can be read or changed by others (mode 644)", tip: "chmod 600"},
		"a directory":   {spoil: func(_ *testing.T, _ *OAuth, path string) { _, _ = os.Remove(path), os.Mkdir(path, 0o700) }, want: "is not a file", tip: "log in"},
		"in the repo":   {spoil: inTheRepo, want: "lies in the repository", tip: "keep the login out of it"},
		"revoked":       {answer: says(400, `{"error":"invalid_grant","error_description":"`+big+`"}`), want: "does not accept its refresh token (invalid_grant)", tip: "log in again"},
		"spent":         {answer: says(401, `{"error":{"code":"refresh_token_reused","message":"`+big+`"}}`), want: "(refresh_token_reused)", tip: "log in again"},
		"a token in it": {answer: says(400, `{"error":"`+big+`"}`), want: "(400)", tip: "log in again"},
		"junk":          {answer: says(200, `<html>`+big), want: "holds no token", tip: "a proxy of the network"},
		"no token":      {answer: says(200, `{"refresh_token":"`+big+`"}`), want: "holds no token", tip: "a proxy of the network"},
		"broken":        {answer: says(500, big), want: "refreshes no login now (500)", tip: "later"},
		"a redirect":    {answer: func(w http.ResponseWriter) { w.Header().Set("Location", "https://evil.test/"); w.WriteHeader(307) }, want: "(307)", tip: "later"},
		"unreachable":   {spoil: func(_ *testing.T, o *OAuth, _ string) { o.Login.Host = "127.0.0.1:1" }, want: "can't be reached", tip: "answers from this machine"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, "refresh-0")
			e.answer = test.answer
			text := test.text
			if text == "" {
				text = claudeLogin(big, "refresh-"+big, earlier)
			}
			o, path := loginAt(t, e, text)
			o.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			if test.spoil != nil {
				test.spoil(t, o, path)
			}
			lease, err := o.Fetch(t.Context())
			if err == nil {
				t.Fatalf("it gives %q", lease.Value.Reveal())
			}
			hint := err.(interface{ Hint() string }).Hint()
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(hint, test.tip) {
				t.Errorf("it says %q with %q, want %q with %q", err, hint, test.want, test.tip)
			}
			if strings.Contains(err.Error()+hint, big) {
				t.Errorf("a token is repeated: %q with %q", err, hint)
			}
			if test.answer != nil && contents(t, path) != text && !strings.Contains(contents(t, path), "refresh-"+big) {
				t.Error("the refresh token is lost")
			}
		})
	}
}

func says(status int, text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { w.WriteHeader(status); _, _ = io.WriteString(w, text) }
}

func inTheRepo(t *testing.T, o *OAuth, path string) {
	t.Helper()
	link := filepath.Join(t.TempDir(), "link.json")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	o.Store = LoginFile{Path: link, Outside: filepath.Dir(path)}
}

// TestADeadRefreshTokenIsNotSentAgain, but one that the person gets by logging in again is.
func TestADeadRefreshTokenIsNotSentAgain(t *testing.T) {
	e := newEndpoint(t, "refresh-9")
	o, path := loginAt(t, e, claudeLogin("access-token-0", "refresh-0", earlier))
	for range 3 {
		if _, err := o.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "is over") {
			t.Fatalf("it says %v", err)
		}
	}
	if e.count() != 1 {
		t.Errorf("it was sent %d times", e.count())
	}
	if err := os.WriteFile(path, []byte(claudeLogin("access-token-0", "refresh-9", earlier)), 0o600); err != nil {
		t.Fatal(err)
	}
	gives(t, o, "access-token-1")
}

// TestAClockThatIsWrong: this machine's is two hours ahead of the issuer's, whose tokens say that they have expired.
func TestAClockThatIsWrong(t *testing.T) {
	e := newEndpoint(t, "rt_0")
	issued := time.Now().Add(-2 * time.Hour)
	token, err := newJWT(map[string]any{"iat": issued.Unix(), "exp": issued.Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	e.answer = says(200, `{"access_token":"`+token+`","refresh_token":"rt_1","id_token":"e30.e30.e30"}`)
	o, path := loginAt(t, e, `{"tokens":{"access_token":"`+token+`","refresh_token":"rt_0","account_id":"a"},"last_refresh":"2026-01-01T00:00:00Z"}`)
	l, _ := logins.Find("codex")
	l.Host = o.Login.Host
	o.Login = l
	lease := gives(t, o, token)
	if left := time.Until(lease.Expires); left < 50*time.Minute {
		t.Errorf("the new token is used for %s", left)
	}
	if text := contents(t, path); !strings.Contains(text, `"rt_1"`) || !strings.Contains(text, `"e30.e30.e30"`) || strings.Contains(text, "2026-01-01") {
		t.Errorf("the login is %s", text)
	}
}

func TestALoginInTheKeyring(t *testing.T) {
	e := newEndpoint(t, "refresh-0")
	o, _ := loginAt(t, e, "")
	ring := ring{"login": claudeLogin("access-token-0", "refresh-0", earlier)}
	o.Store = LoginKeyring{Account: "login", Keyring: ring, State: t.TempDir()}
	gives(t, o, "access-token-1")
	if !strings.Contains(ring["login"], "refresh-1") {
		t.Error("the keyring still holds the old login")
	}
	delete(ring, "login")
	if _, err := o.Fetch(t.Context()); err == nil || !strings.Contains(err.(*LoginError).Tip, "/login") {
		t.Errorf("an account that is not there says %v", err)
	}
}

// ring is a keyring.
type ring map[string]string

func (r ring) Get(_ context.Context, name string) (Secret, error) {
	if v, ok := r[name]; ok {
		return New(v), nil
	}
	return Secret{}, &KeyringError{"there is none", "agentbox secret set", ErrNotFound}
}

func (r ring) Set(_ context.Context, name string, value Secret) error {
	r[name] = value.Reveal()
	return nil
}

// answering is a broker with a login, and what asks its token endpoint as an agent would.
func answering(t *testing.T, expires int64) (b *Broker, e *endpoint, ask func(grant, token string) (map[string]any, error)) {
	t.Helper()
	e = newEndpoint(t, "refresh-0")
	o, _ := loginAt(t, e, claudeLogin("access-token-0", "refresh-0", expires))
	b, err := NewBroker(t.Context(), []Credential{{Name: "claude", Source: o, Hosts: []policy.Host{host(t, "api.anthropic.com")}, Header: "Authorization: Bearer {token}"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	at := host(t, "platform.claude.com")
	ask = func(grant, token string) (map[string]any, error) {
		text, _ := json.Marshal(map[string]string{"grant_type": grant, "refresh_token": token})
		req := httptest.NewRequest(http.MethodPost, "https://platform.claude.com/v1/oauth/token", strings.NewReader(string(text)))
		o.Login.Host = at.String() // as the agent sees it
		body, _, err := b.Answer(req.WithContext(t.Context()), at, true)
		var answer map[string]any
		_ = json.Unmarshal(body, &answer) // none with an error
		return answer, err
	}
	o.Client = &http.Client{Transport: toward{e}}
	return b, e, ask
}

// toward leads to the endpoint, whatever the host.
type toward struct{ e *endpoint }

func (w toward) RoundTrip(r *http.Request) (*http.Response, error) {
	r.URL.Host = strings.TrimPrefix(w.e.URL, "https://")
	return w.e.Client().Transport.RoundTrip(r)
}

func TestARefreshOfTheAgentsIsAnsweredHere(t *testing.T) {
	b, e, ask := answering(t, later)
	if got, err := carried(t, b); err != nil || got != "access-token-0" {
		t.Fatalf("a request carries %q (%v)", got, err)
	}
	for range 5 { // as often as it likes
		answer, err := ask("refresh_token", b.Placeholder("claude.refresh"))
		if err != nil || answer["access_token"] != b.Placeholder("claude") || answer["refresh_token"] != b.Placeholder("claude.refresh") || answer["scope"] != "user:inference" {
			t.Fatalf("the agent is answered %v (%v)", answer, err)
		}
	}
	if got, err := carried(t, b); err != nil || got != "access-token-1" || e.count() != 1 {
		t.Errorf("then a request carries %q (%v), after %d refreshes, want one", got, err, e.count())
	}
}

// carried is the value that a request for a model gets, or the error.
func carried(t *testing.T, b *Broker) (string, error) {
	t.Helper()
	req := request(t, "https://api.anthropic.com/v1/messages", "Authorization", "Bearer "+b.Placeholder("claude"))
	_, err := b.Inject(t.Context(), req, host(t, "api.anthropic.com"), true)
	return strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "), err
}

func TestNothingElseIsAnswered(t *testing.T) {
	b, e, ask := answering(t, later)
	for name, test := range map[string]struct{ grant, token, want string }{
		"its own token":      {"refresh_token", "sk-ant-ort01-mine", "of the agent's own"},
		"none":               {"refresh_token", "", "of the agent's own"},
		"the access token":   {"refresh_token", b.Placeholder("claude"), "not of this run"},
		"of another run":     {"refresh_token", "sk-ant-ort01-" + marker + strings.Repeat("x", 40), "not of this run"},
		"another grant":      {"authorization_code", b.Placeholder("claude.refresh"), "something else than a refresh"},
		"a key for a token":  {"urn:ietf:params:oauth:grant-type:token-exchange", b.Placeholder("claude.refresh"), "something else"},
		"no grant":           {"", b.Placeholder("claude.refresh"), "something else"},
		"in another case":    {"refresh_token", strings.ToUpper(b.Placeholder("claude.refresh")), "not of this run"},
		"with more after it": {"refresh_token", b.Placeholder("claude.refresh") + "x", "not of this run"},
	} {
		if answer, err := ask(test.grant, test.token); err == nil || !strings.Contains(err.Error(), test.want) || answer != nil {
			t.Errorf("%s: answered %v, %v", name, answer, err)
		}
	}
	if e.count() != 0 {
		t.Errorf("the host refreshed %d times", e.count())
	}
	at := host(t, "platform.claude.com")
	o := b.held[0].Source.(*OAuth)
	o.Login.Host = at.String()
	for _, path := range []string{"/v1/oauth/token", "/v1/oauth/token?x=1", "/v1/OAuth/Token", "//v1/oauth/token/", "/v1/x/../oauth/token", "/v1/oauth/%74oken", "/v1/oauth/%2574oken", "/v1/oauth/token;x"} {
		if !b.Answers(at, path) {
			t.Errorf("%s goes to the host", path)
		}
	}
	for _, path := range []string{"/v1/oauth/tokens", "/v1/oauth", "/"} {
		if b.Answers(at, path) {
			t.Errorf("%s is answered here", path)
		}
	}
	if b.Answers(host(t, "api.anthropic.com"), "/v1/oauth/token") {
		t.Error("another host is answered for")
	}
}

func TestALoginThatIsOverIsToldToTheAgent(t *testing.T) {
	b, e, ask := answering(t, earlier)
	e.answer = says(400, `{"error":"invalid_grant"}`)
	answer, err := ask("refresh_token", b.Placeholder("claude.refresh"))
	var refused *Refused
	if !errors.As(err, &refused) || refused.Credential != "claude" || !strings.Contains(refused.Tip, "/login") || answer != nil {
		t.Errorf("answered %v, %v", answer, err)
	}
}

func TestWhatTheAgentIsToldOfALogin(t *testing.T) {
	b, _, _ := answering(t, later)
	for part, want := range map[string]string{"plan": "max", "account": "", "nonsense": ""} {
		if got := b.Placeholder("claude." + part); got != want {
			t.Errorf("%s is %q, want %q", part, got, want)
		}
	}
	id := jwtClaims(b.Placeholder("claude.id"))
	text, _ := json.Marshal(id)
	if exp := expiryOf(id); exp.Year() != 2100 || strings.Contains(string(text), "@") || !b.scan.found(b.Placeholder("claude.id")) {
		t.Errorf("the id token says %s", text)
	}
	if b.Placeholder("other.refresh") != "" {
		t.Error("there is a placeholder of no login")
	}
}

// Two runs that take a login from the keyring do not refresh it at once: the endpoint would take the second for a theft.
func TestALoginInTheKeyringIsLocked(t *testing.T) {
	state := t.TempDir()
	one, two := LoginKeyring{Account: "login", State: state}, LoginKeyring{Account: "login", State: state}
	unlock, err := one.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other, err := LoginKeyring{Account: "another", State: state}.Lock(t.Context())
	if err != nil {
		t.Fatalf("another login waits too: %v", err)
	}
	other()
	called, cancel := context.WithCancel(t.Context())
	cancel()
	var held *LoginError
	if _, err := two.Lock(called); !errors.As(err, &held) || !held.Passing || !strings.Contains(err.Error(), "somebody else is refreshing the login") {
		t.Fatalf("it was locked twice: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		unlock, err := two.Lock(t.Context())
		if err == nil {
			unlock()
		}
		got <- err
	}()
	unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A run that was killed while it refreshed keeps nobody out for longer than a minute.
func TestALockOfTheKeyringThatWasLeft(t *testing.T) {
	k := LoginKeyring{Account: "login", State: t.TempDir()}
	if _, err := k.Lock(t.Context()); err != nil { // and never unlocks
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * lockStale)
	if err := os.Chtimes(filepath.Join(k.State, "login-login.lock"), long, long); err != nil {
		t.Fatal(err)
	}
	unlock, err := k.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
