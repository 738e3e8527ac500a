package secrets

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"net/url"
	"regexp"
	"strings"
)

// marker stands in every placeholder of every run. So one that is out of its place is known for what it is even when
// it belongs to another run; in a real token it stands by accident once in 10^12.
const (
	marker    = "agbx0Ph"
	minRandom = 40
	alphabet  = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// newPlaceholder is shape, marker and randomness, as long as a real token of that shape usually is.
func newPlaceholder(shape string) (string, error) {
	n := max(minRandom, usualLength(shape)-len(shape)-len(marker))
	random := make([]byte, n)
	for i := range random {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", err
		}
		random[i] = alphabet[k.Int64()]
	}
	return shape + marker + string(random), nil
}

// usualLength is the whole length of tokens that begin so. Agents that check a length check at least this.
func usualLength(shape string) int {
	switch shape {
	case "sk-ant-api03-", "sk-ant-oat01-":
		return 108
	case "sk-proj-":
		return 164
	case "github_pat_":
		return 93
	}
	return 0
}

// scanner finds placeholders of any run, in the forms in which they travel.
type scanner struct {
	plain *regexp.Regexp
	forms []string // of the marker, in encodings that keep the case
}

func newScanner() scanner {
	forms := []string{hex.EncodeToString([]byte(marker)), strings.ToUpper(hex.EncodeToString([]byte(marker)))}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			forms = append(forms, shifted(enc, shift))
		}
	}
	return scanner{plain: regexp.MustCompile(`(?i)` + marker + `[a-z0-9]{16}`), forms: forms}
}

// shifted is how the marker looks in base64 when shift bytes, modulo 3, stand before it: only those characters that
// the bytes around it do not change.
func shifted(enc *base64.Encoding, shift int) string {
	s := enc.EncodeToString([]byte(strings.Repeat("\x00", shift) + marker))
	return s[(shift*8+5)/6 : (shift+len(marker))*8/6]
}

// found reports whether s holds a placeholder: plain in any case, percent-encoded up to three times, base64, hex.
func (c scanner) found(s string) bool {
	for range 4 {
		if c.plain.MatchString(s) {
			return true
		}
		for _, form := range c.forms {
			if strings.Contains(s, form) {
				return true
			}
		}
		decoded := unescape(s)
		if decoded == s {
			return false
		}
		s = decoded
	}
	return false
}

// unescape decodes what is percent-encoded and leaves what is not, where url.PathUnescape gives up as a whole.
func unescape(s string) string {
	if out, err := url.PathUnescape(s); err == nil {
		return out
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if i+2 < len(s) && s[i] == '%' {
			if c, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				b.Write(c)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
