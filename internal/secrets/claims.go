package secrets

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

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
