//go:build linux

package workspace

import (
	"fmt"
	"strings"
	"testing"

	"agentbox/internal/profiles"

	"agentbox/internal/policy"
)

// somePatterns are all of up to three segments of an alphabet with everything that means something.
func somePatterns() []string {
	words := []string{"", ".", "..", "a", "*", "**", "!a", "!", "~", "~a", "[a", "a]", "[!a]", "\\", "\\!a", "a**", ".env*", " "}
	all := []string{}
	level := []string{""}
	for depth := range 3 {
		next := make([]string, 0, len(level)*len(words))
		for _, before := range level {
			for _, w := range words {
				if depth > 0 {
					w = before + "/" + w
				}
				next = append(next, w)
			}
		}
		all, level = append(all, next...), next
	}
	return all
}

// A profile that "agentbox check" passes has no pattern that a run can't read; and none is refused for nothing: only "/"
// and "~" in front are matched here and refused there, because they look like places outside of the repository.
func TestProfilesRefuseThePatternsThatCannotBeRead(t *testing.T) {
	for _, pattern := range somePatterns() {
		_, err := policy.ParseHidePattern(pattern)
		_, refused := profiles.LoadFloors(fmt.Appendf(nil, "version = 1\n[workspace]\nhide = ['%s']\n", pattern), "policy.toml")
		switch {
		case err != nil && refused == nil:
			t.Errorf("%q passes, and then: %v", pattern, err)
		case err == nil && refused != nil && !strings.HasPrefix(pattern, "/") && !strings.HasPrefix(pattern, "~"):
			t.Errorf("%q could be matched, and is refused: %v", pattern, refused)
		case refused != nil && !strings.HasPrefix(refused.Error(), "policy.toml:3:9: "):
			t.Errorf("%q: %v", pattern, refused)
		}
	}
}
