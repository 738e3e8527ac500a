package secrets

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Placeholders are as long as the real thing, where that leaves room, and of its letters.
func TestShapesOfPlaceholders(t *testing.T) {
	for shape, form := range map[string]string{
		"ghp_":          `^ghp_[A-Za-z0-9]{36}$`,
		"gho_":          `^gho_[A-Za-z0-9]{36}$`,
		"ghs_":          `^ghs_[A-Za-z0-9]{36}$`,
		"github_pat_":   `^github_pat_[A-Za-z0-9]{82}$`,
		"npm_":          `^npm_[A-Za-z0-9]{36}$`,
		"glpat-":        `^glpat-[A-Za-z0-9_-]{20,40}$`, // longer than the usual 26, which has no room for 128 bits
		"AIza":          `^AIza[A-Za-z0-9_-]{35}$`,
		"xoxb-":         `^xoxb-[A-Za-z0-9-]{50,}$`,
		"sk-ant-api03-": `^sk-ant-api03-[A-Za-z0-9_-]{93}AA$`,
		"sk-ant-oat01-": `^sk-ant-oat01-[A-Za-z0-9_-]{93}AA$`,
		"sk-proj-":      `^sk-proj-[A-Za-z0-9_-]{74}T3BlbkFJ[A-Za-z0-9_-]{74}$`,
		"sk-":           `^sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}$`,
		"sk-demo-":      `^sk-demo-[A-Za-z0-9]{40,}$`,
		"":              `^[A-Za-z0-9]{40,}$`,
	} {
		ph, err := newPlaceholder(shape, "")
		if err != nil || !regexp.MustCompile(form).MatchString(ph) {
			t.Errorf("%q: %q, %v", shape, ph, err)
		}
		fixed := len(shape) + len(marker) + len(kindOf(shape).middle) + len(kindOf(shape).end)
		if len(ph)-fixed < enoughRandom {
			t.Errorf("%q: %q has %d random characters", shape, ph, len(ph)-fixed)
		}
		if again, err := newPlaceholder(shape, ""); err != nil || again == ph {
			t.Errorf("%q: twice the same, %v", shape, err)
		}
		foundInEachForm(t, ph)
	}
}

func foundInEachForm(t *testing.T, ph string) {
	t.Helper()
	c := newScanner()
	for _, form := range []string{
		ph, strings.ToUpper(ph), percent(ph), hex.EncodeToString([]byte(ph)), base64.StdEncoding.EncodeToString([]byte(ph)),
		base64.RawURLEncoding.EncodeToString([]byte("u:" + ph)), base64.StdEncoding.EncodeToString([]byte("us:" + ph)),
	} {
		if !c.found("before " + form + " behind") {
			t.Errorf("%q is not found", form)
		}
	}
}

// A token that programs take apart, and that nobody signed.
func TestAPlaceholderCanBeAJWT(t *testing.T) {
	ph, err := newPlaceholder(JWT, `{"email": "ann@example.com", "n": 12345678901234567890, "https://api.example.com/auth": {"account_id": "a-1"}}`)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(ph, ".")
	if len(parts) != 3 {
		t.Fatalf("%q has %d parts", ph, len(parts))
	}
	var payload struct {
		Exp   int64
		Email string
		N     json.Number
		Auth  struct {
			ID string `json:"account_id"`
		} `json:"https://api.example.com/auth"`
	}
	var header struct{ Alg, Typ string }
	for i, v := range []any{&header, &payload, nil} {
		text, err := base64.RawURLEncoding.Strict().DecodeString(parts[i])
		if err != nil {
			t.Errorf("part %d: %v", i, err)
		}
		if v != nil && json.Unmarshal(text, v) != nil {
			t.Errorf("part %d is %s", i, text)
		}
		if i == 2 && len(text) != 64 {
			t.Errorf("the signature has %d bytes", len(text))
		}
	}
	if header.Alg != "ES256" || header.Typ != "JWT" || payload.Email != "ann@example.com" || payload.N != "12345678901234567890" || payload.Auth.ID != "a-1" {
		t.Errorf("it says %+v, %+v", header, payload)
	}
	if time.Until(time.Unix(payload.Exp, 0)) < 365*24*time.Hour {
		t.Errorf("it ends at %d", payload.Exp)
	}
	foundInEachForm(t, ph)
	for i, part := range parts[1:] {
		if !newScanner().found(part) {
			t.Errorf("part %d alone is not known for what it is: %s", i+1, part)
		}
	}
	if _, err := newPlaceholder(JWT, `["x"]`); err == nil {
		t.Error("claims that are no object were taken")
	}
}
