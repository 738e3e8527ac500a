package plan

import (
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
