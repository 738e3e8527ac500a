package secrets

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"time"
)

// marker stands in every placeholder of every run. So one that is out of its place is known for what it is even when
// it belongs to another run; in a real token it stands by accident once in 10^12.
const (
	marker       = "agbx0Ph"
	minRandom    = 40 // characters, where no length is usual
	enoughRandom = 22 // … for 128 bits
	minFront     = 8  // behind the marker, before what stands in the middle of some tokens: the scanner wants 16 letters and digits
	alphabet     = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// newPlaceholder is shape, marker and randomness, as a real token of that shape looks: of its length, unless that leaves
// no room for 128 bits of randomness. Claims are for the shape JWT alone: a JSON object, or "".
func newPlaceholder(shape, claims string) (string, error) {
	if shape == JWT {
		said, err := readClaims(claims)
		if err != nil {
			return "", err
		}
		return newJWT(said)
	}
	k := kindOf(shape)
	n := minRandom
	if k.length > 0 {
		n = max(enoughRandom, k.length-len(shape)-len(marker)-len(k.middle)-len(k.end))
	}
	random, err := randomOf(alphabet, n)
	if err != nil {
		return "", err
	}
	front := n
	if k.middle != "" {
		front = max(minFront, n-(k.length-len(shape)-len(k.middle))/2)
	}
	return shape + marker + random[:front] + k.middle + random[front:] + k.end, nil
}

func randomOf(letters string, n int) (string, error) {
	out := make([]byte, n)
	for i := range out {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(letters))))
		if err != nil {
			return "", err
		}
		out[i] = letters[k.Int64()]
	}
	return string(out), nil
}

// kind is how tokens of one issuer look, by what they begin with.
type kind struct {
	start  string
	length int    // of the whole token
	middle string // what stands in its middle
	end    string
}

// kindOf is the kind of tokens that begin so; the zero kind for what nobody knows.
func kindOf(shape string) (known kind) {
	for _, k := range []kind{
		{start: "sk-ant-", length: 108}, {start: "sk-ant-api03-", length: 108, end: "AA"}, {start: "sk-ant-oat01-", length: 108, end: "AA"},
		{start: "sk-proj-", length: 164, middle: "T3BlbkFJ"}, {start: "sk-svcacct-", length: 167, middle: "T3BlbkFJ"},
		{start: "ghp_", length: 40}, {start: "gho_", length: 40}, {start: "ghu_", length: 40}, {start: "ghs_", length: 40},
		{start: "ghr_", length: 80}, {start: "github_pat_", length: 93},
		{start: "npm_", length: 40}, {start: "glpat-", length: 26}, {start: "AIza", length: 39}, {start: "xoxb-", length: 57},
		{start: "hf_", length: 37}, {start: "dckr_pat_", length: 36},
	} {
		if strings.HasPrefix(shape, k.start) && len(k.start) > len(known.start) {
			known = k
		}
	}
	if shape == "sk-" {
		return kind{start: shape, length: 51, middle: "T3BlbkFJ"}
	}
	return known
}

// JWT is the shape of a JSON Web Token.
const JWT = "jwt"

// lasts is how long a placeholder says that it lasts, for programs that look: longer than any run.
const lasts = 10 * 365 * 24 * time.Hour

// newJWT is a token that programs can take apart, with these claims beside the usual ones. Nothing signed it: what stands
// in the place of the signature is the randomness.
func newJWT(claims map[string]any) (string, error) {
	random, err := randomOf(alphabet, 85-len(marker))
	if err != nil {
		return "", err
	}
	now := time.Now()
	payload := map[string]any{"iat": now.Unix(), "exp": now.Add(lasts).Unix()}
	maps.Copy(payload, claims)
	payload["agentbox"] = marker + random[:16]
	body, err := json.Marshal(payload)
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding.EncodeToString
	// A signature of ES256 is 64 bytes, so that two bits of its last character are for the byte's end and are not set.
	return enc([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + enc(body) + "." + marker + random + "A", nil
}

// readClaims reads a JSON object, or "" as none.
func readClaims(text string) (claims map[string]any, err error) {
	if text == "" {
		return nil, nil
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&claims); err != nil {
		return nil, fmt.Errorf("claims are not a JSON object: %w", err)
	}
	return claims, nil
}

// scanner finds placeholders of any run, in the forms in which they travel.
type scanner struct {
	sieve *sieve // for bodies
	loose *sieve // for what may be spelled in any case
}

func newScanner() scanner {
	forms := []string{hex.EncodeToString([]byte(marker)), strings.ToUpper(hex.EncodeToString([]byte(marker)))}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			forms = append(forms, shifted(enc, shift))
		}
	}
	slices.Sort(forms)
	forms = slices.Compact(forms)
	forms = append(forms, marker)
	return scanner{sieve: newSieve(forms, false), loose: newSieve(forms, true)}
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
		if c.plainly(s) {
			return true
		}
		if strings.IndexByte(s, '%') < 0 {
			return false
		}
		s = unescape(s)
	}
	return false
}

// plainly leaves out what is percent-encoded. Behind the marker itself there have to be as many letters and digits as
// every placeholder has.
func (c scanner) plainly(s string) bool {
	for {
		at, form := next(c.loose, s)
		if at < 0 || form != marker {
			return at >= 0
		}
		behind := s[at+len(marker):]
		if len(behind) >= idLength-len(marker) && strings.IndexFunc(behind[:idLength-len(marker)], isNoAlphanumeric) < 0 {
			return true
		}
		s = s[at+1:]
	}
}

func isNoAlphanumeric(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
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
