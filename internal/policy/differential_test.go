package policy

import (
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/idna"
)

// FuzzHostLikeOthers holds the one reading of names against other readers': where two programs on a request's way read
// the same bytes as different names, one is judged and the other is reached.
func FuzzHostLikeOthers(f *testing.F) {
	for _, seed := range []string{"good.test", "GOOD.TEST.", "bücher.example", "BU\u0308CHER.example", "faß.example", "xn--fa-hia.example", "a_b.test", "good。test", "ＧＯＯＤ.test", "g\u200dd.test", "1.2.3.4", "a@b.test", "a%2eb.test", "-a.test", "ab--c.test"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		h, err := ParseHost(in)
		if err != nil {
			return
		}
		asURL(t, in, h)
		asIDNA(t, in, h)
	})
}

// asURL holds a name against net/url's reading of it, alone and in a URL that has everything.
func asURL(t *testing.T, in string, h Host) {
	t.Helper()
	for _, text := range []string{"https://" + h.String() + "/", "https://" + h.String() + ":443/p?q#f"} {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() != h.String() || u.User != nil {
			t.Fatalf("ParseHost(%q) = %q, which a URL reads as %v, %v", in, h, u, err)
		}
	}
	u, err := url.Parse("https://" + in + "/")
	if err != nil {
		return
	}
	if again, err := ParseHost(u.Hostname()); err != nil || again != h {
		t.Fatalf("ParseHost(%q) = %q, and in a URL the name is %q, which is %q, %v", in, h, u.Hostname(), again, err)
	}
}

// asIDNA holds a name against the rules of UTS 46 as other programs set them: those that take the name must read it
// as we do, and its Unicode form must lead back to it.
func asIDNA(t *testing.T, in string, h Host) {
	t.Helper()
	for which, profile := range map[string]*idna.Profile{"Lookup": idna.Lookup, "Display": idna.Display, "Registration": idna.Registration} {
		other, err := profile.ToASCII(in)
		if err != nil || !ascii(other) {
			continue
		}
		if other = strings.ToLower(strings.TrimSuffix(other, ".")); other != h.String() {
			t.Fatalf("ParseHost(%q) = %q, and idna.%s reads it as %q", in, h, which, other)
		}
	}
	plain, err := idna.Lookup.ToUnicode(h.String())
	if err != nil {
		return
	}
	if again, err := ParseHost(plain); err != nil || again != h {
		t.Fatalf("ParseHost(%q) = %q, whose Unicode form is %q, which is %q, %v", in, h, plain, again, err)
	}
}

func ascii(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7e }) }

// FuzzPatternLikeSuffixes holds a pattern's matching against what it says in words: the name itself, or anything that
// ends in a dot and the name.
func FuzzPatternLikeSuffixes(f *testing.F) {
	for _, seed := range [][2]string{{"good.test", "good.test"}, {"*.good.test", "a.b.good.test"}, {"*.good.test", "xgood.test"}, {"*.good.test", "good.test.evil.test"}, {"*.bücher.example", "A.XN--BCHER-KVA.example."}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p, err := ParsePattern(pattern)
		if err != nil {
			return
		}
		h, err := ParseHost(name)
		if err != nil {
			return
		}
		below, wild := strings.CutPrefix(p.String(), "*")
		want := h.String() == p.String()
		if wild {
			want = strings.HasSuffix(h.String(), below) && len(h.String()) > len(below)
		}
		if got := p.Match(h); got != want {
			t.Fatalf("%q matches %q = %v, want %v", p, h, got, want)
		}
	})
}
