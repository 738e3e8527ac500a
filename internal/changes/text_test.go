package changes

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// Whatever two texts are, their hunks turn the one into the other, none of them leaves it, and each alone changes what it
// shows.
func TestHunksPutTogetherMakeTheText(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		old, now := someText(rnd), someText(rnd)
		if rnd.IntN(2) == 0 {
			now = mutate(rnd, old)
		}
		l, n := lines([]byte(old)), lines([]byte(now))
		all := hunks(l, n, compare(l, n))
		var ids []string
		added, removed := 0, 0
		for _, h := range all {
			ids = append(ids, h.ID)
			for _, line := range h.Lines {
				if line.Op == '+' {
					added++
				} else if line.Op == '-' {
					removed++
				}
			}
		}
		if got, err := Pick([]byte(old), []byte(now), ids); err != nil || string(got) != now {
			t.Fatalf("seed %d: all hunks make %q of %q, want %q (%v)", seed, got, old, now, err)
		}
		if got, err := Pick([]byte(old), []byte(now), nil); err != nil || string(got) != old {
			t.Fatalf("seed %d: no hunks make %q (%v)", seed, got, err)
		}
		if len(n)-len(l) != added-removed {
			t.Fatalf("seed %d: %d lines added, %d removed", seed, added, removed)
		}
		for i := range all {
			if _, err := Pick([]byte(old), []byte(now), []string{all[i].ID}); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
	if _, err := Pick([]byte("a\n"), []byte("b\n"), []string{"nonsense"}); !NoSuchHunk(err) {
		t.Errorf("a hunk that is not there: %v", err)
	}
}

func someText(rnd *rand.Rand) string {
	var b strings.Builder
	for range rnd.IntN(60) {
		fmt.Fprintf(&b, "%d\n", rnd.IntN(20))
	}
	return b.String() + strings.Repeat("x", rnd.IntN(2))
}

func mutate(rnd *rand.Rand, text string) string {
	l := strings.SplitAfter(text, "\n")
	for range 1 + rnd.IntN(3) {
		i := rnd.IntN(len(l))
		l[i] = []string{"", "new\n", l[i] + "more\n"}[rnd.IntN(3)]
	}
	return strings.Join(l, "")
}

// A rewrite of a large file is compared in bounded time and memory, and its lines are counted as git counts them.
func TestLargeTexts(t *testing.T) {
	var old, now strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&old, "line %d\n", i)
		if i%10 == 0 {
			fmt.Fprintf(&now, "changed %d\n", i)
		} else {
			fmt.Fprintf(&now, "line %d\n", i)
		}
	}
	l, n := lines([]byte(old.String())), lines([]byte(now.String()))
	if edits := compare(l, n); len(edits) != 20_000 {
		t.Errorf("%d edits", len(edits))
	}
}
