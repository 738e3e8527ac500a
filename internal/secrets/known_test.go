package secrets

import (
	"errors"
	"strings"
	"testing"

	"agentbox/internal/policy"
)

func TestValuesAreKnownBeforeTheyAreUsed(t *testing.T) {
	const mine = "mine-0123456789"
	b := broker(t, &counting{value: real}, map[string]string{"MAIN": mine})
	if !b.Values().Empty() {
		t.Error("a value is known before it was read")
	}
	req := request(t, "https://good.test/", "X-Api-Key", b.Placeholder("main"))
	if _, err := b.Inject(t.Context(), req, host(t, "good.test"), true); err != nil || req.Header.Get("X-Api-Key") != mine {
		t.Fatalf("the request has %v, %v", req.Header, err)
	}
	before := b.Values()
	if got := before.Text("you sent " + mine); got != "you sent "+b.Placeholder("main") {
		t.Errorf("an answer became %q", got)
	}
	b.known("", New("another-0123456789"))
	if got := b.Values().Text(mine + " another-0123456789"); strings.Contains(got, "0123456789") {
		t.Errorf("after another was learned an answer became %q", got)
	}
	if got := before.Text("another-0123456789"); got != "another-0123456789" {
		t.Errorf("a set changed: %q", got)
	}
}

func TestHostsThatCredentialsAreFor(t *testing.T) {
	b := broker(t, &counting{value: real}, nil)
	if !b.Uses(host(t, "good.test")) || !b.Uses(host(t, "git.test")) || b.Uses(host(t, "other.test")) || b.Uses(policy.Host{}) {
		t.Error("hosts are not told apart")
	}
}

func TestShortValuesAreRefused(t *testing.T) {
	for value, refused := range map[string]bool{"12345678901": true, "123456789012": false, "aaaaaaaaaaaa": false} {
		b := broker(t, &counting{value: value}, nil)
		req := request(t, "https://git.test/", "Authorization", "Bearer "+b.Placeholder("git"))
		_, err := b.Inject(t.Context(), req, host(t, "git.test"), true)
		var said *Refused
		switch {
		case !refused && (err != nil || req.Header.Get("Authorization") != "Bearer "+value):
			t.Errorf("%s: %v, %v", value, req.Header, err)
		case refused && (!errors.As(err, &said) || said.Credential != "git" || !strings.Contains(said.Reason, "can't be used: it has 11 characters, and a credential needs 12") || said.Tip == ""):
			t.Errorf("%s: %v", value, err)
		case refused && (strings.Contains(err.Error(), value) || !b.Values().Empty()):
			t.Errorf("%s is said or known: %v", value, err)
		}
	}
	ring := &counting{value: "pa55"}
	b := broker(t, ring, map[string]string{"MAIN": real})
	if v, err := b.Value("upstream.proxy_password", storedIn(ring, nil)("", "p"))(t.Context()); err != nil || v.Reveal() != "pa55" {
		t.Errorf("a value that no request gets is refused: %v", err)
	}
}
