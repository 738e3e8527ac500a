package profiles

import (
	"fmt"
	"strings"
	"testing"
)

// Somebody writes "./.env" as in a shell, or an exception as in .gitignore: the answer is the pattern to write.
func TestAPatternThatCannotBeReadIsRefusedWithAHint(t *testing.T) {
	for pattern, want := range map[string]string{
		"./.env":       `write ".env"`,
		"a//b":         `write "a/b"`,
		"a/./b/":       `write "a/b"`,
		"!a/b/.env":    "list what is to be hidden in hide, and what of that is to be seen in show",
		"/":            "patterns are relative to the repo",
		"/etc/passwd":  "patterns are relative to the repo",
		"../x":         "patterns are relative to the repo",
		"a/../../b":    "patterns are relative to the repo",
		"./!a":         "patterns are relative to the repo",
		"~/.ssh":       "patterns are relative to the repo",
		"[a/b]":        `"[" begins a class`,
		"secrets/../.": "patterns are relative to the repo",
	} {
		_, err := Parse("x", fmt.Appendf(nil, "version = 1\nagent.command = ['x']\n[workspace]\nhide = ['%s']\n", pattern), "x.toml")
		problems, ok := err.(Problems)
		if !ok || len(problems) != 1 || problems[0].Line != 4 || problems[0].Col != 9 || !strings.Contains(problems[0].Hint, want) {
			t.Errorf("%q: %v, want the hint %s", pattern, err, want)
		}
	}
}
