package secrets

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

// Wherever the body is cut into pieces, a placeholder in it is seen, once, and it is known whose it is.
func TestAPlaceholderInABodyIsSeen(t *testing.T) {
	for cut := range 160 {
		b := slotted(t)
		body := strings.Repeat("x", 40) + b.Placeholder("both") + strings.Repeat("y", 60)
		look, told := b.Watch(host(t, "elsewhere.test")), []string(nil)
		for _, piece := range []string{body[:min(cut, len(body))], "", body[min(cut, len(body)):]} {
			if name, seen := look([]byte(piece)); seen {
				told = append(told, name)
			}
		}
		if len(told) != 1 || told[0] != "both" {
			t.Errorf("cut at %d: told of %q", cut, told)
		}
	}
}

func TestAPlaceholderIsSeenByteByByte(t *testing.T) {
	b := slotted(t)
	look, told := b.Watch(host(t, "elsewhere.test")), 0
	for _, c := range []byte("prompt: " + b.Placeholder("query") + " and so on") {
		if name, seen := look([]byte{c}); seen {
			if told++; name != "query" {
				t.Errorf("told of %q", name)
			}
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

func TestAnEncodedPlaceholderIsSeen(t *testing.T) {
	for _, shift := range []string{"", "a", "ab"} {
		b := slotted(t)
		text := []byte(shift + b.Placeholder("both"))
		for name, body := range map[string]string{"base64": base64.StdEncoding.EncodeToString(text), "hex": hex.EncodeToString(text)} {
			if _, seen := b.Watch(host(t, name+".test"))([]byte("data: " + body)); !seen {
				t.Errorf("%s, shifted by %d: not seen", name, len(shift))
			}
		}
	}
}

func TestABodyIsToldOfOnce(t *testing.T) {
	b := slotted(t)
	one, other := b.Placeholder("both"), b.Placeholder("query")
	count := func(hostName string, bodies ...string) (told int) {
		for _, body := range bodies {
			if _, seen := b.Watch(host(t, hostName))([]byte(body)); seen {
				told++
			}
		}
		return told
	}
	if got := count("a.test", one, one, one, other, "nothing"); got != 2 {
		t.Errorf("told %d times of two credentials", got)
	}
	if got := count("b.test", one); got != 1 {
		t.Errorf("told %d times of another host", got)
	}
	if _, seen := b.Watch(host(t, "c.test"))([]byte(strings.Repeat("x", maxWatched) + one)); seen {
		t.Error("more than the first MiB is looked at")
	}
}
