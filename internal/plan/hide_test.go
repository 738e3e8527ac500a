package plan

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// A cloned repository brings the pattern and the directories: asking about a path in it takes no longer for that.
func TestManyStarsAreMatchedQuickly(t *testing.T) {
	pattern := "**" + strings.Repeat("/a/**", 200) + "/b"
	deep := strings.Repeat("a/", 1000)
	if hides(pattern, deep+"x") {
		t.Error("the pattern names what it does not end in")
	}
	if !hides(pattern, deep+"b") {
		t.Error("the pattern does not name what it ends in")
	}
}

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
	ok, _ := path.Match(pattern[0], name[0])
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
			if got, want := matchSegments(p, n), slowly(p, n); got != want {
				t.Fatalf("%q names %q: %v, want %v", strings.Join(p, "/"), strings.Join(n, "/"), got, want)
			}
		}
	}
}
