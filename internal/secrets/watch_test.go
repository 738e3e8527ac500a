package secrets

import (
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"agentbox/internal/policy"
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

// The sieves, which skip most of a text, find what a plain search finds.
func TestTheSieveSkipsNothing(t *testing.T) {
	c := newScanner()
	r := rand.New(rand.NewPCG(3, 1)) //nolint:gosec // tests that can be run again
	forms := c.sieve.forms
	for range 20_000 {
		var text []byte
		for range r.IntN(6) {
			f := anyCase(r, forms[r.IntN(len(forms))])
			switch from := r.IntN(len(f)); r.IntN(3) {
			case 0:
				text = append(text, f...)
			case 1:
				text = append(text, f[:from]...)
			default:
				text = append(text, f[from:]...)
			}
		}
		first := func(loosely string) int {
			var all []string
			for _, f := range forms {
				if f = regexp.QuoteMeta(f); f == marker {
					f = loosely + f
				}
				all = append(all, "(?:"+f+")")
			}
			if at := regexp.MustCompile(strings.Join(all, "|")).FindIndex(text); at != nil {
				return at[0]
			}
			return -1
		}
		if got, _ := next(c.sieve, text); got != first("") {
			t.Fatalf("in %q it is found at %d, and stands at %d", text, got, first(""))
		}
		if got, _ := next(c.loose, string(text)); got != first("(?i)") {
			t.Fatalf("in %q it is found in any case at %d, and stands at %d", text, got, first("(?i)"))
		}
	}
}

// anyCase spells the marker in some other case, every second time.
func anyCase(r *rand.Rand, form string) string {
	if form != marker || r.IntN(2) == 0 {
		return form
	}
	return strings.Map(func(c rune) rune {
		if r.IntN(2) == 0 {
			return unicode.ToUpper(c)
		}
		return unicode.ToLower(c)
	}, form)
}

// BenchmarkWatch is a body of 1 MiB, all of which is looked at.
func BenchmarkWatch(b *testing.B) {
	broker, err := NewBroker(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(broker.Close)
	body := make([]byte, maxWatched)
	for i := range body {
		body[i] = byte(' ' + rand.IntN(90)) //nolint:gosec // any text
	}
	b.SetBytes(maxWatched)
	for b.Loop() {
		look := broker.Watch(policy.Host{})
		for i := 0; i < len(body); i += 16 << 10 {
			look(body[i : i+16<<10])
		}
	}
}
