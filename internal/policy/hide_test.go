package policy

import (
	pathpkg "path"
	"slices"
	"strings"
	"testing"
)

// slowly is what segments mean, word for word.
func slowly(pattern, name []string) bool {
	switch {
	case len(pattern) == 0:
		return len(name) == 0
	case pattern[0] == "**":
		return slowly(pattern[1:], name) || len(name) > 0 && slowly(pattern, name[1:])
	case len(name) == 0:
		return false
	}
	ok, _ := pathpkg.Match(pattern[0], name[0])
	return ok && slowly(pattern[1:], name[1:])
}

func TestSegmentsMeanWhatTheySay(t *testing.T) {
	words := func(alphabet []string, most int) (all [][]string) {
		all = [][]string{{}}
		for from := 0; most > 0; most-- {
			level := all[from:]
			from = len(all)
			for _, w := range level {
				for _, s := range alphabet {
					all = append(all, append(slices.Clone(w), s))
				}
			}
		}
		return all
	}
	names := words([]string{"a", "b"}, 5)
	for _, p := range words([]string{"**", "*", "a", "b"}, 5) {
		for _, n := range names {
			if got, want := MatchSegments(p, n), slowly(p, n); got != want {
				t.Fatalf("%q names %q: %v, want %v", strings.Join(p, "/"), strings.Join(n, "/"), got, want)
			}
		}
	}
}
