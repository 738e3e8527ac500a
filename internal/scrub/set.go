// Package scrub takes secret values out of what passes and puts their placeholders there.
//
// A Set is what is looked for: each value plain, in hex, and in base64 at each of the three places that a value can
// have in it; all of them also with any of their characters escaped as URLs and JSON escape. It never changes: who learns
// of another value makes another Set. Text is for what is there as a whole, a Stream for what comes in pieces; both find a
// value wherever it begins and however it is cut, take the leftmost and of several there the longest, and go on behind it.
//
// Nothing here starts a goroutine or knows the time: who has a Stream decides when to Release what it holds.
package scrub

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"unsafe"
)

// MinLength is how many bytes a value must have. A shorter one is too easily a part of ordinary text.
const MinLength = 12

// Pair is a value and what stands in its place; "" is a text that says so.
type Pair struct{ Value, Placeholder string }

const (
	withheld   = "withheld-by-agentbox" // where there is no placeholder
	padding    = 'x'                    // of placeholders that are shorter than what they replace
	gram       = 8                      // bytes that are looked at at once
	maxAnchor  = 71                     // bytes of a form whose grams are known
	minBits    = 13
	maxBits    = 18 // of the filter, which has to stay near the processor
	untold     = 3  // characters of a value that tell nothing of it
	multiplier = 0x9E3779B97F4A7C15
)

// Set is a number of values in all their forms. Use it concurrently. Nil is empty.
type Set struct {
	forms   []form
	starts  [256][]int32 // forms by their first byte
	escaped [256][]place // where a byte stands in a form
	grams   map[uint64][]place
	filter  []uint64 // bits: of a gram's hash, whether there may be one
	shift   uint
	stride  int
	beyond  uint64 // the bits that no gram of a form has: those of bytes that are not ASCII
	shorter int    // the shortest form
	longest int
	even    bool // every placeholder is as long as its value
	values  []string
}

// form is a value as it travels.
type form struct {
	text        string
	placeholder string // in the same form
	tells       int    // a beginning that is longer tells something of the value
}

// place is a byte of a form.
type place struct {
	form int32
	at   int32
}

// New makes a set. Of pairs with the same value the first counts; values shorter than MinLength are left out, so refuse
// them before.
func New(pairs []Pair) *Set {
	s := &Set{even: true}
	known := map[string]bool{}
	for _, p := range pairs {
		if len(p.Value) < MinLength {
			continue
		}
		s.values = append(s.values, p.Value)
		if p.Placeholder == "" {
			p.Placeholder = withheld
		}
		s.even = s.even && len(p.Placeholder) == len(p.Value)
		for _, f := range formsOf(p) {
			if !known[f.text] {
				known[f.text] = true
				s.forms = append(s.forms, f)
			}
		}
	}
	s.index()
	return s
}

func formsOf(p Pair) []form {
	forms := []form{{text: p.Value, placeholder: p.Placeholder}}
	same := fit(p.Placeholder, len(p.Value))
	for _, change := range []func(string) string{strings.ToLower, strings.ToUpper} {
		forms = append(forms, form{text: change(hex.EncodeToString([]byte(p.Value))), placeholder: change(hex.EncodeToString([]byte(same)))})
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			forms = append(forms, form{text: shifted(enc, p.Value, shift), placeholder: shifted(enc, same, shift)})
		}
	}
	for i := range forms {
		forms[i].tells = min(common(forms[i].text, forms[i].placeholder)+untold, len(forms[i].text)-1)
	}
	return forms
}

// shifted is how a text looks in base64 when shift bytes, modulo 3, stand before it: only those characters that the
// bytes around it do not change.
func shifted(enc *base64.Encoding, text string, shift int) string {
	s := enc.EncodeToString([]byte(strings.Repeat("\x00", shift) + text))
	return s[(shift*8+5)/6 : (shift+len(text))*8/6]
}

// fit cuts or pads a placeholder.
func fit(placeholder string, n int) string {
	if len(placeholder) >= n {
		return placeholder[:n]
	}
	return placeholder + strings.Repeat(string(padding), n-len(placeholder))
}

// common is how many bytes two texts begin with alike.
func common(a, b string) (n int) {
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func (s *Set) index() {
	if len(s.forms) == 0 {
		return
	}
	s.shorter, s.beyond = len(s.forms[0].text), 0x8080808080808080
	for i, f := range s.forms {
		s.shorter, s.longest = min(s.shorter, len(f.text)), max(s.longest, len(f.text))
		s.starts[f.text[0]] = append(s.starts[f.text[0]], int32(i))
		for at := range len(f.text) {
			if f.text[at] >= 0x80 {
				s.beyond = 0
			}
			s.escaped[f.text[at]] = append(s.escaped[f.text[at]], place{int32(i), int32(at)})
		}
	}
	s.stride = min(s.shorter, maxAnchor) - gram + 1
	s.grams = map[uint64][]place{}
	for i, f := range s.forms {
		for at := range s.stride {
			g := binary.LittleEndian.Uint64([]byte(f.text[at : at+gram]))
			s.grams[g] = append(s.grams[g], place{int32(i), int32(at)})
		}
	}
	bits := minBits
	for 1<<bits < 64*len(s.grams) && bits < maxBits {
		bits++
	}
	s.shift = uint(64 - bits)
	s.filter = make([]uint64, 1<<(bits-6))
	for g := range s.grams {
		h := g * multiplier >> s.shift
		s.filter[h>>6] |= 1 << (h & 63)
	}
}

// Empty reports whether there is nothing to look for.
func (s *Set) Empty() bool { return s == nil || len(s.forms) == 0 }

// Even reports whether taking out never changes a length, but for what is escaped.
func (s *Set) Even() bool { return s.Empty() || s.even }

// Text gives a text without values.
func (s *Set) Text(text string) string { return s.text(text, false) }

// Fit gives a text without values that is as long as it was.
func (s *Set) Fit(text string) string { return s.text(text, true) }

func (s *Set) text(text string, fitted bool) string {
	if s.Empty() || len(text) < s.shorter {
		return text
	}
	// Nothing writes to it.
	c := scan{set: s, data: unsafe.Slice(unsafe.StringData(text), len(text)), final: true}
	out := c.run(nil, 0, fitted)
	if !c.changed {
		return text
	}
	return string(out)
}

// Within reports whether a text holds a value when no heed is paid to the case of letters: names of header fields lose
// theirs.
func (s *Set) Within(text string) bool {
	return s != nil && slices.ContainsFunc(s.values, func(value string) bool {
		for i := range len(text) - len(value) + 1 {
			if strings.EqualFold(text[i:i+len(value)], value) {
				return true
			}
		}
		return false
	})
}

// Format shows nothing of a set.
func (s *Set) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[values]") }
