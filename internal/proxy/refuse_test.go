package proxy

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"agentbox/internal/policy"
)

func TestRefusalsHelp(t *testing.T) {
	suggested := "[[network.rule]]\naction = \"allow\"\nhost = \"good.test\"\n"
	l, _ := newWireLab(t, limited(t, rule(t, policy.Allow, "good.test", true, 443), "", "/open"))
	l.proxy.suggest = func(r policy.Request) string {
		if r.Path != "/closed" || r.Host.String() != "good.test" {
			return ""
		}
		return suggested
	}
	for _, version := range []int{1, 2} {
		for name, c := range map[string]struct {
			header map[string]string
			plain  bool
		}{
			"default": {nil, false}, "json": {map[string]string{"Accept": "application/json, text/plain"}, false}, "browser": {map[string]string{"Accept": "*/*, text/plain"}, false},
			"plain": {map[string]string{"Accept": "text/plain;q=1, */*"}, true}, "git": {map[string]string{"User-Agent": "git/2.39.2", "Accept": "*/*"}, true},
		} {
			client := l.client()
			if version == 2 {
				client = l.client2()
			}
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://good.test/closed", nil)
			for k, v := range c.header {
				req.Header.Set(k, v)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != 403 || resp.Header.Get("X-Agentbox") != "denied" || resp.ProtoMajor != version || !strings.Contains(string(body), "retrying will not help") {
				t.Errorf("%s: got %d %v %q", name, resp.StatusCode, resp.Header, body)
			}
			if c.plain {
				if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") || !strings.Contains(string(body), "rule: default\n") || !strings.HasSuffix(string(body), "\n"+suggested) {
					t.Errorf("%s: got %v %q", name, resp.Header, body)
				}
				continue
			}
			var fields map[string]string
			if err := json.Unmarshal(body, &fields); err != nil || fields["allow"] != suggested || fields["rule"] != "default" || fields["host"] != "good.test" || fields["reason"] == "" || fields["what to do"] == "" {
				t.Errorf("%s: got %q, %v", name, body, err)
			}
		}
	}
	resp, err := l.client().Head("https://good.test/closed")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); n != 0 || err != nil || resp.StatusCode != 403 || resp.ContentLength <= 0 {
		t.Errorf("HEAD: %d, %d bytes, %v", resp.StatusCode, n, err)
	}
	_ = resp.Body.Close()
}

// The connection of a refused request stays, with a body or without one, as long as the body is at hand.
func TestRefusalLeavesTheConnection(t *testing.T) {
	l, _ := newWireLab(t, limited(t, rule(t, policy.Allow, "good.test", true, 443), "", "/open"))
	conn := l.tunnel("good.test:443", "good.test")
	br := bufio.NewReader(conn)
	for range 3 {
		for _, raw := range []string{"GET /closed HTTP/1.1\r\nHost: good.test\r\n\r\n", "POST /closed HTTP/1.1\r\nHost: good.test\r\nContent-Length: 4\r\n\r\nbody"} {
			if status, _ := exchangeOn(t, conn, br, raw); status != 403 {
				t.Errorf("got %d", status)
			}
		}
	}
	if status, _ := exchangeOn(t, conn, br, "GET /open HTTP/1.1\r\nHost: good.test\r\n\r\n"); status != 200 {
		t.Errorf("got %d", status)
	}
}

func TestNothingInARefusalRedrawsAScreen(t *testing.T) {
	no := denied(403, "a\x1b[2Jb", "c\x07\u202e\u009bd")
	for _, plain := range []bool{true, false} {
		var fields map[string]string
		text := string(no.body(plain))
		if !plain {
			if err := json.Unmarshal([]byte(text), &fields); err != nil {
				t.Fatal(err)
			}
			text = fields["host"] + fields["reason"]
		}
		if strings.ContainsAny(strings.ReplaceAll(text, "\n", ""), "\x1b\x07\u202e\u009b") || !strings.Contains(text, `a\x1b[2Jb`) {
			t.Errorf("got %q", text)
		}
	}
}

// A rule is offered where one would help: not after a person's no, and not where a rule denies.
func TestARuleIsOfferedOnlyWhereItWouldHelp(t *testing.T) {
	p := &Proxy{suggest: func(policy.Request) string { return "[[network.rule]]" }}
	r := policy.Request{Host: mustHost(t, "good.test"), Port: 443}
	for name, c := range map[string]struct {
		d     policy.Decision
		offer bool
		toDo  string
	}{
		"no rule names it":   {policy.Denied("default", "no rule allows it"), true, "ask the person"},
		"a rule denies":      {policy.Denied("work.toml:3", "the rule denies it"), false, "ask the person"},
		"a person denied it": {policy.Denied("default", policy.PersonDenied+": use staging"), false, "do not ask them again"},
	} {
		no := p.deniedBy(c.d, r)
		if (no.Allow != "") != c.offer || !strings.Contains(no.ToDo, c.toDo) {
			t.Errorf("%s: %+v", name, no)
		}
	}
}
