package secrets

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

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

// The sieve, which skips most of a text, finds what a plain search finds.
func TestTheSieveSkipsNothing(t *testing.T) {
	c := newScanner()
	r := rand.New(rand.NewPCG(3, 1)) //nolint:gosec // tests that can be run again
	forms := append(slices.Clone(c.forms), marker)
	for range 20_000 {
		var text []byte
		for range r.IntN(6) {
			f := forms[r.IntN(len(forms))]
			switch from := r.IntN(len(f)); r.IntN(3) {
			case 0:
				text = append(text, f...)
			case 1:
				text = append(text, f[:from]...)
			default:
				text = append(text, f[from:]...)
			}
		}
		want := -1
		for _, f := range forms {
			if i := bytes.Index(text, []byte(f)); i >= 0 && (want < 0 || i < want) {
				want = i
			}
		}
		if got, _ := c.sieve.next(text); got != want {
			t.Fatalf("in %q it is found at %d, and stands at %d", text, got, want)
		}
	}
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
