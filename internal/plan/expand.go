package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"agentbox/internal/profiles"
)

// Expand puts the values of vars in the place of the templates of s: {repo}, {home}, {user}, {placeholder.NAME} and
// {placeholder.NAME.last20}, whose keys are those words, the last one under "placeholder.NAME". Every other brace is
// text, and "{{word}" is the text "{word}". With jsonEscape a value becomes what may stand between the quotes of a
// JSON string, which is also right in a TOML string. A template that vars does not have is an error.
// Values are never looked at for templates again.
func Expand(s string, vars map[string]string, jsonEscape bool) (string, error) {
	var missing string
	out := profiles.Substitute(s, func(name string) string {
		value, ok := lookup(name, vars)
		if !ok {
			missing = name
		}
		if jsonEscape {
			value = escape(value)
		}
		return value
	})
	if missing != "" {
		return "", fmt.Errorf("template {%s} has no value", missing)
	}
	return out, nil
}

func lookup(name string, vars map[string]string) (string, bool) {
	if value, ok := vars[name]; ok {
		return value, true
	}
	placeholder, last20, _ := profiles.PlaceholderName(name)
	value, ok := vars["placeholder."+placeholder]
	if !ok || !last20 {
		return "", false
	}
	return value[max(0, len(value)-20):], true
}

func escape(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes
	quoted := strings.TrimSuffix(b.String(), "\n")
	return quoted[1 : len(quoted)-1]
}

func holdsPlaceholder(s string) bool {
	return slices.ContainsFunc(profiles.Templates(s), func(t string) bool { return strings.HasPrefix(t, "placeholder.") })
}
