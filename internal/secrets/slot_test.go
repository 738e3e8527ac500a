package secrets

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"agentbox/internal/policy"
)

func paths(t *testing.T, texts ...string) (out []policy.PathPattern) {
	t.Helper()
	for _, text := range texts {
		p, err := policy.ParsePathPattern(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// slotted is a broker with a credential of each kind, each for a host of its own, named after its slot.
func slotted(t *testing.T) *Broker {
	t.Helper()
	return slottedFrom(t, &counting{value: real})
}

func slottedFrom(t *testing.T, k Getter) *Broker {
	t.Helper()
	source := storedIn(k, nil)("", "x")
	at := func(name string) []policy.Host { return []policy.Host{host(t, name+".test")} }
	b, err := NewBroker(t.Context(), []Credential{
		{Name: "basic", Source: source, Hosts: at("basic"), Basic: "x-access-token:{token}"},
		{Name: "any", Source: source, Hosts: at("any"), Basic: "*:{token}"},
		{Name: "both", Source: source, Hosts: at("both"), Header: "Authorization: Bearer {token}", Basic: "x-access-token:{token}", Shape: "ghp_"},
		{Name: "query", Source: source, Hosts: at("query"), Query: "key", Shape: "AIza"},
		{Name: "body", Source: source, Hosts: at("body"), Body: "auth.refresh_token", Methods: []string{"POST"}, Paths: paths(t, "/token")},
		{Name: "form", Source: source, Hosts: at("form"), Body: "refresh_token"},
		{Name: "limited", Source: source, Hosts: at("limited"), Header: "X-Api-Key: {token}", Methods: []string{"GET", "POST"}, Paths: paths(t, "/v1/**"), Ports: []uint16{443, 8443}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// into injects into a request of a host, and gives what was left of it: "METHOD URL header… body".
func into(t *testing.T, b *Broker, req *http.Request) (string, error) {
	t.Helper()
	name, err := b.Inject(t.Context(), req, host(t, req.URL.Hostname()), req.URL.Scheme == "https")
	text := name + " " + req.Method + " " + req.URL.RequestURI()
	for _, h := range []string{"Authorization", "X-Api-Key"} {
		if v := req.Header.Get(h); v != "" {
			text += " " + v
		}
	}
	if req.Body != nil && err == nil {
		body, readErr := io.ReadAll(req.Body)
		if readErr != nil || int64(len(body)) != req.ContentLength {
			t.Errorf("the body has %d bytes and says %d, %v", len(body), req.ContentLength, readErr)
		}
		text += " " + string(body)
	}
	return text, err
}

func TestEachSlotIsFilled(t *testing.T) {
	b := slotted(t)
	for name, tc := range map[string]struct {
		target string
		fields []string
		want   string
	}{
		"basic":                {"https://basic.test/", []string{"Authorization", basic("x-access-token", b.Placeholder("basic"))}, "basic POST / " + basic("x-access-token", real)},
		"basic, another user":  {"https://basic.test/", []string{"Authorization", basic("ann", b.Placeholder("basic"))}, "basic POST / " + basic("x-access-token", real)},
		"basic, own key":       {"https://basic.test/", []string{"Authorization", basic("ann", "own")}, "basic POST / " + basic("x-access-token", real)},
		"basic, own bearer":    {"https://basic.test/", []string{"authorization", "Bearer own"}, "basic POST / " + basic("x-access-token", real)},
		"the agent's user":     {"https://any.test/", []string{"Authorization", basic("ann", b.Placeholder("any"))}, "any POST / " + basic("ann", real)},
		"no user":              {"https://any.test/", []string{"Authorization", basic("", b.Placeholder("any"))}, "any POST / " + basic("", real)},
		"both, as a bearer":    {"https://both.test/", []string{"Authorization", "token " + b.Placeholder("both")}, "both POST / Bearer " + real},
		"both, as basic":       {"https://both.test/", []string{"Authorization", basic("x", b.Placeholder("both"))}, "both POST / " + basic("x-access-token", real)},
		"nothing":              {"https://both.test/", nil, " POST /"},
		"query":                {"https://query.test/v1?a=1&key=" + b.Placeholder("query") + "&b=%zz", nil, "query POST /v1?a=1&b=%zz&key=" + real},
		"query, escaped":       {"https://query.test/v1?%6bey=" + percent(b.Placeholder("query")), nil, "query POST /v1?key=" + real},
		"query, own key":       {"https://query.test/v1?key=own", nil, "query POST /v1?key=" + real},
		"query, two own keys":  {"https://query.test/v1?key=own&key=word", nil, "query POST /v1?key=" + real},
		"query, another's key": {"https://query.test/v1?key=own", []string{"Authorization", basic("own", "own"), "Cookie", "session=own", "X-Auth-Token", "own"}, "query POST /v1?key=" + real},
		"query, none":          {"https://query.test/v1?a=b", nil, " POST /v1?a=b"},
		"limited":              {"https://limited.test:8443/v1/x", []string{"X-Api-Key", b.Placeholder("limited")}, "limited POST /v1/x " + real},
		"not on that path":     {"https://limited.test/v2/x", []string{"X-Api-Key", "own", "Authorization", basic("own", "own")}, " POST /v2/x"},
		"not on that port":     {"https://limited.test:444/v1/x", []string{"X-Api-Key", "own"}, " POST /v1/x"},
		"not as another":       {"https://limited.test/v1/x", []string{"X-Api-Key", "own", "X-Http-Method-Override", "DELETE"}, " POST /v1/x"},
	} {
		got, err := into(t, b, request(t, tc.target, tc.fields...))
		if err != nil || got != tc.want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, tc.want)
		}
	}
}

// Outside of its own slot, method, path and port a placeholder is refused, and the value is not even read.
func TestASlotIsNoOther(t *testing.T) {
	k := &counting{value: real}
	b := slottedFrom(t, k)
	for name, tc := range map[string]struct {
		method, target string
		fields         []string
	}{
		"basic's in a bearer":       {"GET", "https://basic.test/", []string{"X-Api-Key", b.Placeholder("basic")}},
		"basic's as the user":       {"GET", "https://basic.test/", []string{"Authorization", basic(b.Placeholder("basic"), "")}},
		"basic's twice":             {"GET", "https://basic.test/", []string{"Authorization", basic(b.Placeholder("basic"), b.Placeholder("basic"))}},
		"more behind it":            {"GET", "https://basic.test/", []string{"Authorization", basic("u", b.Placeholder("basic")+"x")}},
		"another's in basic":        {"GET", "https://basic.test/", []string{"Authorization", basic("u", b.Placeholder("any"))}},
		"query's in a header":       {"GET", "https://query.test/", []string{"X-Goog-Api-Key", b.Placeholder("query")}},
		"another parameter":         {"GET", "https://query.test/?k=" + b.Placeholder("query"), nil},
		"parameter of another case": {"GET", "https://query.test/?KEY=" + b.Placeholder("query"), nil},
		"its parameter twice":       {"GET", "https://query.test/?key=" + b.Placeholder("query") + "&key=" + b.Placeholder("query"), nil},
		"its parameter and path":    {"GET", "https://query.test/" + b.Placeholder("query") + "?key=" + b.Placeholder("query"), nil},
		"in clear":                  {"GET", "http://query.test/?key=" + b.Placeholder("query"), nil},
		"another method":            {"DELETE", "https://limited.test/v1/x", []string{"X-Api-Key", b.Placeholder("limited")}},
		"another path":              {"GET", "https://limited.test/v2/x", []string{"X-Api-Key", b.Placeholder("limited")}},
		"a path by dots":            {"GET", "https://limited.test/v1/../v2/x", []string{"X-Api-Key", b.Placeholder("limited")}},
		"another port":              {"GET", "https://limited.test:444/v1/x", []string{"X-Api-Key", b.Placeholder("limited")}},
		"as another method":         {"POST", "https://limited.test/v1/x", []string{"X-Api-Key", b.Placeholder("limited"), "X-Http-Method-Override", "DELETE"}},
		"as another path":           {"POST", "https://limited.test/v1/x", []string{"X-Api-Key", b.Placeholder("limited"), "X-Original-Url", "/admin"}},
		"as another by the query":   {"POST", "https://limited.test/v1/x?_method=DELETE", []string{"X-Api-Key", b.Placeholder("limited")}},
	} {
		req := request(t, tc.target, tc.fields...)
		req.Method = tc.method
		got, err := into(t, b, req)
		var refused *Refused
		if !errors.As(err, &refused) || strings.Contains(fmt.Sprint(got, err), real) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if n := k.asked.Load(); n != 0 {
		t.Errorf("the value was read %d times", n)
	}
}

// Two credentials for one request, by an agent that asks for both: neither goes out.
func TestTwoCredentialsNeverMeet(t *testing.T) {
	k := &counting{value: real}
	b := broker(t, k, nil)
	for name, fields := range map[string][]string{
		"two placeholders":      {"X-Api-Key", b.Placeholder("main"), "Authorization", "Bearer " + b.Placeholder("git")},
		"one, and the own key":  {"X-Api-Key", b.Placeholder("main"), "Authorization", "Bearer own"},
		"own keys in two slots": {"X-Api-Key", "own", "Authorization", "Bearer own"},
	} {
		got, err := into(t, b, request(t, "https://good.test/", fields...))
		if err == nil || !strings.Contains(err.Error(), `"main" and "git"`) || strings.Contains(got, real) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if n := k.asked.Load(); n != 0 {
		t.Errorf("the value was read %d times", n)
	}
}

func TestAFieldOfABodyIsFilled(t *testing.T) {
	b := slotted(t)
	const form, js = "application/x-www-form-urlencoded; charset=utf-8", "application/json"
	ph := b.Placeholder("body")
	for name, tc := range map[string]struct{ target, kind, body, want string }{
		"JSON":         {"https://body.test/token", js, `{"a": [1, {"x": "y"}], "auth" : { "refresh_token"  :  "` + ph + `" }, "z": 1.50}`, `body POST /token {"a": [1, {"x": "y"}], "auth" : { "refresh_token"  :  "` + real + `" }, "z": 1.50}`},
		"escaped JSON": {"https://body.test/token", js, `{"auth":{"refresh_token":"\u0061` + ph[1:] + `"}}`, `body POST /token {"auth":{"refresh_token":"` + real + `"}}`},
		"own key":      {"https://body.test/token", "application/vnd.x+json", `{"auth":{"refresh_token":"own"}}`, `body POST /token {"auth":{"refresh_token":"` + real + `"}}`},
		"no field":     {"https://body.test/token", js, `{"auth":{"other":"x"},"refresh_token":"own"}`, ` POST /token {"auth":{"other":"x"},"refresh_token":"own"}`},
		"no object":    {"https://body.test/token", js, `[1]`, ` POST /token [1]`},
		"another path": {"https://body.test/other", "text/plain", `not looked at`, ` POST /other not looked at`},
		"form":         {"https://form.test/", form, "a=%20&refresh_token=" + b.Placeholder("form") + "&b", "form POST / a=%20&refresh_token=" + real + "&b"},
		"form, own":    {"https://form.test/", form, "refresh%5Ftoken=own", "form POST / refresh%5Ftoken=" + real},
		"form without": {"https://form.test/", form, "a=b", " POST / a=b"},
	} {
		got, err := into(t, b, post(t, tc.target, tc.kind, tc.body))
		if err != nil || got != tc.want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, tc.want)
		}
	}
}

func post(t *testing.T, target, kind, body string) *http.Request {
	t.Helper()
	req := request(t, target, "Content-Type", kind)
	req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	return req
}

// What two readers could read in two ways, or hides a placeholder, goes nowhere.
func TestABodyThatIsNotPlainIsRefused(t *testing.T) {
	b := slotted(t)
	const form, js = "application/x-www-form-urlencoded", "application/json"
	ph := b.Placeholder("body")
	own := `{"auth":{"refresh_token":"` + ph + `"}`
	for name, tc := range map[string]struct{ target, kind, body string }{
		"twice":                  {"https://body.test/token", js, `{"auth":{"refresh_token":"` + ph + `","refresh_token":"x"}}`},
		"twice, in another case": {"https://body.test/token", js, `{"auth":{"refresh_token":"` + ph + `","Refresh_Token":"x"}}`},
		"twice, folded":          {"https://body.test/token", js, `{"auth":{"refresh_token":"` + ph + `","refreſh_token":"x"}}`},
		"twice elsewhere":        {"https://body.test/token", js, own + `,"b":{"c":1,"c":2}}`},
		"placeholder elsewhere":  {"https://body.test/token", js, own + `,"b":"` + ph + `"}`},
		"placeholder, no field":  {"https://body.test/token", js, `{"b":"` + ph + `"}`},
		"another's":              {"https://body.test/token", js, `{"auth":{"refresh_token":"` + b.Placeholder("form") + `"}}`},
		"encoded elsewhere":      {"https://body.test/token", js, own + `,"b":"` + base64.StdEncoding.EncodeToString([]byte(ph)) + `"}`},
		"no string":              {"https://body.test/token", js, `{"auth":{"refresh_token":["` + ph + `"]}}`},
		"more behind it":         {"https://body.test/token", js, own + `} {}`},
		"broken off":             {"https://body.test/token", js, own},
		"no JSON":                {"https://body.test/token", js, `{"auth":{"refresh_token":'` + ph + `'}}`},
		"no UTF-8":               {"https://body.test/token", js, own + ",\"x\":\"\xff\"}"},
		"deep":                   {"https://body.test/token", js, strings.Repeat("[", 70) + strings.Repeat("]", 70)},
		"long":                   {"https://body.test/token", js, own + `,"x":"` + strings.Repeat("x", maxBody) + `"}`},
		"another kind":           {"https://body.test/token", "text/plain", own + `}`},
		"form, twice":            {"https://form.test/", form, "refresh_token=" + b.Placeholder("form") + "&refresh_token=x"},
		"form, semicolon":        {"https://form.test/", form, "refresh_token=" + b.Placeholder("form") + ";a=b"},
		"form, badly escaped":    {"https://form.test/", form, "%zz=1&refresh_token=" + b.Placeholder("form")},
	} {
		got, err := into(t, b, post(t, tc.target, tc.kind, tc.body))
		var refused *Refused
		if !errors.As(err, &refused) || strings.Contains(got, real) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	packed := post(t, "https://body.test/token", js, own+"}")
	packed.Header.Set("Content-Encoding", "gzip")
	if _, err := into(t, b, packed); err == nil {
		t.Error("a compressed body was not refused")
	}
}

// A value with anything in it stands in each slot as what it is.
func TestValuesAreEscapedInTheirSlots(t *testing.T) {
	value := `a"b\c&d=e+f <%25>`
	source := storedIn(&counting{value: value}, nil)("", "x")
	hosts := []policy.Host{host(t, "good.test")}
	for name, c := range map[string]Credential{"query": {Query: "k"}, "body": {Body: "k"}} {
		c.Name, c.Source, c.Hosts = "c", source, hosts
		b, err := NewBroker(t.Context(), []Credential{c})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		for kind, body := range map[string]string{"application/json": `{"k":"own"}`, "application/x-www-form-urlencoded": "k=own"} {
			req := post(t, "https://good.test/?k=own", kind, body)
			if name == "query" {
				req = request(t, "https://good.test/?k=own")
			}
			if _, err := b.Inject(t.Context(), req, hosts[0], true); err != nil {
				t.Fatal(err)
			}
			got := req.URL.Query().Get("k")
			if name == "body" {
				got = fieldOf(t, req)
			}
			if got != value {
				t.Errorf("%s as %s: the server reads %q", name, kind, got)
			}
		}
	}
}

// fieldOf is the field k as servers read it.
func fieldOf(t *testing.T, req *http.Request) string {
	t.Helper()
	if req.Header.Get("Content-Type") != "application/json" {
		if err := req.ParseForm(); err != nil {
			t.Fatal(err)
		}
		return req.PostForm.Get("k")
	}
	var v struct{ K string }
	if err := json.NewDecoder(req.Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v.K
}

// On a host with a credential, keys of the agent's own are taken out of every request, whether or not it asks for the value.
func TestOwnKeysOfEveryKindAreStripped(t *testing.T) {
	b := slotted(t)
	for _, name := range []string{"Authorization", "cOOkie", "Private-Token", "X-Auth-Token", "X-Goog-Api-Key", "X-Shopify-Access-Token", "Apikey", "X-Writer-Key"} {
		req := request(t, "https://limited.test/v2/x?a=b&private_token=own&token=0123456789012345678901234&token=next", name, "own", "Accept", "*/*")
		if _, err := b.Inject(t.Context(), req, host(t, "limited.test"), true); err != nil {
			t.Fatal(err)
		}
		kept := "map[Accept:[*/*]]"
		if name == "X-Writer-Key" { // no name for a key that anybody is known to use
			kept = "map[Accept:[*/*] X-Writer-Key:[own]]"
		}
		if got := fmt.Sprint(req.Header); got != kept || req.URL.RawQuery != "a=b&token=next" {
			t.Errorf("%s: %s, %s are left", name, got, req.URL.RawQuery)
		}
	}
}

func TestKeysAmongWebSocketProtocolsAreStripped(t *testing.T) {
	b := slotted(t)
	req := request(t, "https://limited.test/v1/ws", "Sec-Websocket-Protocol", "realtime, openai-insecure-api-key.sk-own", "Sec-Websocket-Protocol", "v2")
	if _, err := b.Inject(t.Context(), req, host(t, "limited.test"), true); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(req.Header); got != "map[Sec-Websocket-Protocol:[realtime, v2]]" {
		t.Errorf("got %s", got)
	}
}

func TestSlotForms(t *testing.T) {
	for name, c := range map[string]Credential{
		"none": {}, "header": {Header: "x-api-key"}, "header without a token": {Header: "x-api-key: k"}, "basic": {Basic: "user"}, "basic with more": {Basic: "user:x{token}"},
	} {
		if b, err := NewBroker(t.Context(), []Credential{c}); err == nil {
			b.Close()
			t.Errorf("%s: no error", name)
		}
	}
}
