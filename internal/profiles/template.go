package profiles

import (
	"encoding/json"
	"slices"
	"strings"
)

// A template is {word}, or words with dots between; every other brace is text. "{{word}" is the text "{word}".
var template = lazily(`\{?\{([a-z][a-z0-9_-]*(?:\.[a-z0-9][a-z0-9_-]*)*)\}`)

// Templates names the templates in s, in order, without their braces.
func Templates(s string) (names []string) {
	for _, m := range template().FindAllStringSubmatch(s, -1) {
		if !strings.HasPrefix(m[0], "{{") {
			names = append(names, m[1])
		}
	}
	return names
}

// Substitute puts value(name) in the place of each template of s.
func Substitute(s string, value func(name string) string) string {
	return template().ReplaceAllStringFunc(s, func(m string) string {
		if strings.HasPrefix(m, "{{") {
			return m[1:]
		}
		return value(m[1 : len(m)-1])
	})
}

// PlaceholderName splits "placeholder.NAME" and "placeholder.NAME.last20"; ok is false for other templates.
func PlaceholderName(template string) (name string, last20, ok bool) {
	rest, ok := strings.CutPrefix(template, "placeholder.")
	name, last20 = strings.CutSuffix(rest, ".last20")
	return name, last20, ok && nameForm().MatchString(name)
}

// LoginPart splits "placeholder.NAME.PART", of what a login has beside its access token: the placeholders of its "refresh"
// token and of its "id" token, and which "account" and "plan" it is. Part is "" for other templates.
func LoginPart(template string) (name, part string) {
	rest, ok := strings.CutPrefix(template, "placeholder.")
	name, part, _ = strings.Cut(rest, ".")
	if !ok || !slices.Contains(LoginParts(), part) {
		return "", ""
	}
	return name, part
}

// LoginParts are the parts that LoginPart knows.
func LoginParts() []string { return []string{"account", "id", "plan", "refresh"} }

// validJSON reports whether s is JSON when its templates stand for plain text.
func validJSON(s string) bool {
	return json.Valid([]byte(Substitute(s, func(string) string { return "x" })))
}
