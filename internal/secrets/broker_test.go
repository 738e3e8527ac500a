package secrets

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"agentbox/internal/policy"
)

// counting is a keyring that counts how often it is asked.
type counting struct {
	asked atomic.Int32
	value string
	err   error
	wait  chan struct{} // nil, or what Get waits for
}

func (c *counting) Get(ctx context.Context, _ string) (Secret, error) {
	c.asked.Add(1)
	if c.wait != nil {
		select {
		case <-c.wait:
		case <-ctx.Done():
			return Secret{}, ctx.Err()
		}
	}
	return New(c.value), c.err
}

func host(t *testing.T, s string) policy.Host {
	t.Helper()
	h, err := policy.ParseHost(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// storedIn gives sources that read k and env.
func storedIn(k Getter, env map[string]string) func(name, account string) Source {
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	return func(name, account string) Source {
		return Stored{Env: name, Account: account, Lookup: lookup, Keyring: k}
	}
}

func broker(t *testing.T, k Getter, env map[string]string) *Broker {
	t.Helper()
	stored := storedIn(k, env)
	b, err := NewBroker(t.Context(), []Credential{
		{Name: "main", Source: stored("MAIN", "main"), Hosts: []policy.Host{host(t, "good.test")}, Header: "x-api-key: {token}", Shape: "sk-ant-api03-"},
		{Name: "git", Source: stored("", "git"), Hosts: []policy.Host{host(t, "git.test"), host(t, "good.test")}, Header: "Authorization: Bearer {token}"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func request(t *testing.T, target string, fields ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header[fields[i]] = append(req.Header[fields[i]], fields[i+1])
	}
	return req
}

func TestPlaceholders(t *testing.T) {
	a, b := broker(t, &counting{}, nil), broker(t, &counting{}, nil)
	ph := a.Placeholder("main")
	if !strings.HasPrefix(ph, "sk-ant-api03-") || len(ph) != 108 {
		t.Errorf("placeholder is %q (%d)", ph, len(ph))
	}
	if got := a.Placeholder("git"); len(got) < minRandom {
		t.Errorf("placeholder without a shape is %q", got)
	}
	if ph == b.Placeholder("main") || ph == a.Placeholder("git") || a.Placeholder("none") != "" {
		t.Error("placeholders are not one for each run and credential")
	}
}

func TestAValueWithoutAPlaceholder(t *testing.T) {
	ring := &counting{value: "pa55-and-more\n"}
	env := map[string]string{"SET": "from the variable"}
	b, in := broker(t, ring, env), storedIn(ring, env)
	set, stored, none := b.Value("upstream.proxy_password", in("SET", "p")), b.Value("stored", in("UNSET", "p")), b.Value("none", in("UNSET", ""))
	if ring.asked.Load() != 0 {
		t.Error("it was read before anybody wanted it")
	}
	for range 2 {
		if v, err := set(t.Context()); err != nil || v.Reveal() != "from the variable" {
			t.Errorf("got %v, %v", v, err)
		}
		if v, err := stored(t.Context()); err != nil || v.Reveal() != "pa55-and-more" || strings.Contains(fmt.Sprintf("%v %+v", v, v), "pa55") {
			t.Errorf("got %v, %v", v, err)
		}
		var said *Refused
		if v, err := none(t.Context()); !errors.As(err, &said) || !v.IsZero() || said.Hint() != "set UNSET before you start agentbox" {
			t.Errorf("got %v, %v", v, err)
		}
	}
	if ring.asked.Load() != 1 {
		t.Errorf("the keyring was asked %d times", ring.asked.Load())
	}
	if got := b.Problems(t.Context()); len(got) != 1 || !strings.Contains(got[0].Error(), "$UNSET is not set") {
		t.Errorf("problems are %v", got)
	}
	if b.Placeholder("stored") != "" {
		t.Error("it has a placeholder")
	}
	b.Close()
	if v, err := b.Value("late", in("SET", ""))(t.Context()); err == nil || !v.IsZero() {
		t.Errorf("after the run: %v, %v", v, err)
	}
}

func TestInjectSwapsInItsOwnSlot(t *testing.T) {
	b := broker(t, &counting{value: real}, nil)
	for name, tc := range map[string]struct {
		host   string
		fields []string
		want   string // the credentials
		header http.Header
	}{
		"placeholder":       {"good.test", []string{"X-Api-Key", b.Placeholder("main")}, "main", http.Header{"X-Api-Key": {real}}},
		"any case":          {"good.test", []string{"x-aPi-kEy", b.Placeholder("main")}, "main", http.Header{"X-Api-Key": {real}}},
		"own key":           {"good.test", []string{"X-Api-Key", "sk-attacker"}, "main", http.Header{"X-Api-Key": {real}}},
		"own key beside":    {"good.test", []string{"X-Api-Key", b.Placeholder("main"), "x-api-key", "sk-attacker"}, "main", http.Header{"X-Api-Key": {real}}},
		"two values":        {"good.test", []string{"X-Api-Key", "sk-attacker", "X-Api-Key", b.Placeholder("main")}, "main", http.Header{"X-Api-Key": {real}}},
		"own sibling":       {"git.test", []string{"Authorization", "Bearer " + b.Placeholder("git"), "X-Goog-Api-Key", "AIza", "Api-Key", "k"}, "git", http.Header{"Authorization": {"Bearer " + real}}},
		"basic":             {"git.test", []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("u:own"))}, "git", http.Header{"Authorization": {"Bearer " + real}}},
		"absent":            {"good.test", []string{"Accept", "*/*"}, "", http.Header{"Accept": {"*/*"}}},
		"sibling alone":     {"git.test", []string{"X-Api-Key", "sk-attacker"}, "", http.Header{}},
		"host without one":  {"other.test", []string{"Authorization", "Bearer own"}, "", http.Header{"Authorization": {"Bearer own"}}},
		"name below a host": {"x.good.test", []string{"X-Api-Key", "own"}, "", http.Header{"X-Api-Key": {"own"}}},
	} {
		req := request(t, "https://"+tc.host+"/v1?a=1", tc.fields...)
		got, err := b.Inject(t.Context(), req, host(t, tc.host), true)
		if err != nil || got != tc.want || fmt.Sprint(req.Header) != fmt.Sprint(tc.header) {
			t.Errorf("%s: %q, %v, %v", name, got, err, req.Header)
		}
	}
}

// The agent sends the placeholder everywhere it should not go, in every spelling.
func TestAMisplacedPlaceholderIsRefused(t *testing.T) {
	k := &counting{value: real}
	b := broker(t, k, nil)
	ph, other := b.Placeholder("main"), broker(t, k, nil).Placeholder("main")
	b64 := base64.StdEncoding.EncodeToString
	for name, tc := range map[string]struct {
		target string
		plain  bool
		fields []string
	}{
		"another host":           {"https://evil.test/", false, []string{"X-Api-Key", ph}},
		"another credential's":   {"https://git.test/", false, []string{"X-Api-Key", ph}},
		"another slot":           {"https://good.test/", false, []string{"Authorization", "Bearer " + ph}},
		"a sibling slot":         {"https://good.test/", false, []string{"Api-Key", ph}},
		"plain HTTP":             {"http://good.test/", true, []string{"X-Api-Key", ph}},
		"path":                   {"https://good.test/" + ph, false, nil},
		"query":                  {"https://good.test/?key=" + ph, false, nil},
		"query, escaped":         {"https://good.test/?key=" + percent(ph), false, nil},
		"query, escaped twice":   {"https://good.test/?key=" + url.QueryEscape(percent(ph)), false, nil},
		"query, badly escaped":   {"https://good.test/?x=%zz&key=" + percent(ph), false, nil},
		"fragment":               {"https://good.test/#" + ph, false, nil},
		"user":                   {"https://" + ph + "@good.test/", false, nil},
		"referer":                {"https://good.test/", false, []string{"X-Api-Key", ph, "Referer", "https://x.test/" + ph}},
		"user agent":             {"https://good.test/", false, []string{"User-Agent", ph}},
		"header name":            {"https://good.test/", false, []string{"X-" + ph, "1"}},
		"cookie":                 {"https://good.test/", false, []string{"Cookie", "a=" + ph}},
		"twice in its slot":      {"https://good.test/", false, []string{"X-Api-Key", ph + "," + ph}},
		"lower case":             {"https://good.test/", false, []string{"X-Other", strings.ToLower(ph)}},
		"basic":                  {"https://good.test/", false, []string{"Authorization", "Basic " + b64([]byte("user:"+ph))}},
		"basic, shifted by one":  {"https://good.test/", false, []string{"Authorization", "Basic " + b64([]byte("u:"+ph+":x"))}},
		"basic, shifted by two":  {"https://good.test/", false, []string{"Authorization", "Basic " + b64([]byte("us:"+ph))}},
		"basic, shifted by 3":    {"https://good.test/", false, []string{"Authorization", "Basic " + b64([]byte("usr:"+ph))}},
		"base64url in a cookie":  {"https://good.test/", false, []string{"Cookie", base64.RawURLEncoding.EncodeToString([]byte(ph))}},
		"hex":                    {"https://good.test/", false, []string{"X-Other", hex.EncodeToString([]byte(ph))}},
		"of another run":         {"https://good.test/", false, []string{"X-Api-Key", other}},
		"of another run in path": {"https://evil.test/" + other, false, nil},
	} {
		req := request(t, tc.target, tc.fields...)
		h := host(t, req.URL.Hostname())
		got, err := b.Inject(t.Context(), req, h, !tc.plain)
		var refused *Refused
		if !errors.As(err, &refused) || got != refused.Credential {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if strings.Contains(fmt.Sprintf("%v %+v", err, err), real) || strings.Contains(fmt.Sprint(req.Header), real) {
			t.Errorf("%s: the real value is out", name)
		}
		if refused != nil && refused.Credential == "" && tc.fields != nil && len(tc.fields) == 2 && tc.fields[1] == ph {
			t.Errorf("%s: the credential is not named: %v", name, err)
		}
	}
	if n := k.asked.Load(); n != 0 {
		t.Errorf("the value was read %d times for requests that may not have it", n)
	}
}

// percent escapes every byte, which url.QueryEscape does not do to letters.
func percent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02x", s[i])
	}
	return b.String()
}

func TestAPlaceholderInATrailerIsRefused(t *testing.T) {
	b := broker(t, &counting{value: real}, nil)
	req := request(t, "https://good.test/")
	for name, trailer := range map[string]http.Header{
		"elsewhere": {"X-Api-Key": {b.Placeholder("git")}}, "its own header": {"X-Api-Key": {b.Placeholder("main")}},
		"a name, not sent yet": {b.Placeholder("main"): nil},
	} {
		req.Trailer = trailer
		if _, err := b.Inject(t.Context(), req, host(t, "good.test"), true); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

func TestTrailersDoNotAuthenticate(t *testing.T) {
	b := broker(t, &counting{value: real}, nil)
	req := request(t, "https://good.test/")
	req.Trailer = http.Header{"X-Api-Key": {"own"}, "Authorization": nil, "X-Kept": {"1"}}
	if got, err := b.Inject(t.Context(), req, host(t, "good.test"), true); err != nil || got != "" || len(req.Trailer) != 1 {
		t.Errorf("%q, %v, %v", got, err, req.Trailer)
	}
}

func TestPlainHTTPGetsNothing(t *testing.T) {
	k := &counting{value: real}
	b := broker(t, k, nil)
	req := request(t, "http://good.test/", "X-Api-Key", "own")
	got, err := b.Inject(t.Context(), req, host(t, "good.test"), false)
	if err != nil || got != "" || len(req.Header) != 0 || k.asked.Load() != 0 {
		t.Errorf("%q, %v, %v", got, err, req.Header)
	}
}

func TestKeysInTheAddressAreStripped(t *testing.T) {
	b := broker(t, &counting{value: real}, nil)
	req := request(t, "https://me:pw@good.test/v1?alt=sse&key=AIzaOwn&KEY=AIzaOwn&key=word&access_token=x&%61pi_key=y&q=%zz")
	if _, err := b.Inject(t.Context(), req, host(t, "good.test"), true); err != nil {
		t.Fatal(err)
	}
	if got := req.URL.String(); got != "https://good.test/v1?alt=sse&key=word&q=%zz" {
		t.Errorf("got %s", got)
	}
}

func TestTheVariableGoesBeforeTheKeyring(t *testing.T) {
	k := &counting{value: "from the keyring"}
	b := broker(t, k, map[string]string{"MAIN": real + "\n"})
	req := request(t, "https://good.test/", "X-Api-Key", b.Placeholder("main"))
	if _, err := b.Inject(t.Context(), req, host(t, "good.test"), true); err != nil {
		t.Fatal(err)
	}
	if got := req.Header.Get("X-Api-Key"); got != real || k.asked.Load() != 0 {
		t.Errorf("got %q after asking the keyring %d times", got, k.asked.Load())
	}
}

func TestAValueIsReadOnce(t *testing.T) {
	for name, k := range map[string]*counting{
		"value": {value: real, wait: make(chan struct{})}, "failure": {err: errors.New("locked"), wait: make(chan struct{})},
	} {
		b := broker(t, k, nil)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				req := request(t, "https://good.test/", "X-Api-Key", b.Placeholder("main"))
				_, err := b.Inject(t.Context(), req, host(t, "good.test"), true)
				if (err != nil) != (k.err != nil) {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		close(k.wait)
		wg.Wait()
		if n := k.asked.Load(); n != 1 {
			t.Errorf("%s: asked %d times", name, n)
		}
	}
}

func TestARequestThatGivesUpDoesNotEndTheReading(t *testing.T) {
	k := &counting{value: real, wait: make(chan struct{})}
	b := broker(t, k, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := request(t, "https://good.test/", "X-Api-Key", b.Placeholder("main"))
	if _, err := b.Inject(ctx, req, host(t, "good.test"), true); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	close(k.wait)
	req = request(t, "https://good.test/", "X-Api-Key", b.Placeholder("main"))
	if _, err := b.Inject(t.Context(), req, host(t, "good.test"), true); err != nil {
		t.Error(err)
	}
}

func TestASourceThatFailsForwardsNothing(t *testing.T) {
	for name, k := range map[string]*counting{
		"error":   {value: real, err: errors.New("dbus is gone")},
		"empty":   {value: " \n"},
		"newline": {value: real + "\r\nX-Evil: 1"},
	} {
		b := broker(t, k, nil)
		for _, fields := range [][]string{{"X-Api-Key", b.Placeholder("main")}, {"X-Api-Key", "own"}} {
			req := request(t, "https://good.test/", fields...)
			_, err := b.Inject(t.Context(), req, host(t, "good.test"), true)
			var refused *Refused
			if !errors.As(err, &refused) || refused.Credential != "main" || refused.Hint() == "" {
				t.Errorf("%s: %v", name, err)
			}
			if strings.Contains(fmt.Sprint(err, req.Header), real) {
				t.Errorf("%s: the value is out: %v", name, err)
			}
		}
		if problems := b.Problems(t.Context()); len(problems) != 2 {
			t.Errorf("%s: problems %v", name, problems)
		}
	}
}

func TestPreloadReadsAhead(t *testing.T) {
	k := &counting{value: real}
	b := broker(t, k, nil)
	b.Preload()
	if problems := b.Problems(t.Context()); len(problems) != 0 || k.asked.Load() != 2 {
		t.Errorf("%v, asked %d times", problems, k.asked.Load())
	}
}

func TestCloseEndsReadingsAndRefuses(t *testing.T) {
	b := broker(t, &counting{value: real, wait: make(chan struct{})}, nil)
	b.Preload()
	b.Close()
	b.Preload()
	req := request(t, "https://good.test/", "X-Api-Key", b.Placeholder("main"))
	if _, err := b.Inject(t.Context(), req, host(t, "good.test"), true); err == nil {
		t.Error("a placeholder outlived its run")
	}
}

func TestHeaderForms(t *testing.T) {
	for _, bad := range []string{"", "x-api-key", "x-api-key: token", "x api: {token}"} {
		if _, err := NewBroker(t.Context(), []Credential{{Name: "x", Header: bad}}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
