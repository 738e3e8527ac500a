package secrets

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// jwtPlaceholder is a placeholder in the form of a JSON Web Token, for agents that read what a token says without a check
// of who signed it. Its signature is the placeholder proper: marker and randomness, and the signature of nobody.
func jwtPlaceholder(claims map[string]any) (string, error) {
	signature, err := newPlaceholder("")
	if err != nil {
		return "", err
	}
	signature = signature[:len(signature)/4*4] // base64 knows no length of one more
	var parts []string
	for _, part := range []any{map[string]string{"alg": "RS256", "typ": "JWT"}, claims} {
		text, err := json.Marshal(part)
		if err != nil {
			return "", err
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(text))
	}
	return strings.Join(append(parts, signature), "."), nil
}

// jwtClaims reads what a JSON Web Token says, without a check of who signed it: nil for what is none.
func jwtClaims(token string) map[string]any {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, ok := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.DecodeString(payload)
	var claims map[string]any
	if !ok || err != nil || json.Unmarshal(text, &claims) != nil {
		return nil
	}
	return claims
}
