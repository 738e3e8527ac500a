package policy

import "testing"

func TestPatternsOverlapWhereAPathIsInBoth(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"/a", "/a", true}, {"/a", "/b", false}, {"/a/**", "/a", false}, {"/a/**", "/a/", true}, {"/a/**", "/a/b/c", true},
		{"/a/*", "/a/b/c", false}, {"/a/*/c", "/a/b/*", true}, {"/*/b", "/a/*", true}, {"/*/b", "/a/*/c", false},
		{"/**/b", "/a/**", true}, {"/**.json", "/v1/*", true}, {"/**.json", "/**.xml", false}, {"/a*", "/*b", true}, {"/a*c", "/ab*", true},
		{"/a*c", "/b*c", false}, {"/repos/acme/**", "/repos/*/issues", true}, {"/repos/acme/**", "/repos/other/**", false},
		{"/a%2Fb", "/a/b", false}, {"/a%2Fb", "/*", false}, {"/a%2Fb", "/**", true}, {"/%2A", "/*", true}, {"/%2A", "/a", false},
		{"/**", "/", true}, {"/*", "/", true}, {"/a/**/z", "/**", true},
	} {
		a, b := mustPath(t, tc.a), mustPath(t, tc.b)
		if a.Overlaps(b) != tc.want || b.Overlaps(a) != tc.want {
			t.Errorf("%s and %s: %t, %t; want %t", a, b, a.Overlaps(b), b.Overlaps(a), tc.want)
		}
	}
	if (PathPattern{}).Overlaps(PathPattern{}) {
		t.Error("patterns of nothing overlap")
	}
}

func mustPath(t *testing.T, s string) PathPattern {
	t.Helper()
	p, err := ParsePathPattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What is said of two patterns is held against paths: where a path is in both, they overlap; and what lies within
// another names no path that the other does not.
func TestOverlapsAtRandom(t *testing.T) {
	r := newRandom(t, 11)
	var met, apart, within int
	for range 20_000 {
		a, b := r.pathPattern(), r.pathPattern()
		overlaps, inside := a.Overlaps(b), a.Within(b)
		if overlaps {
			met++
		} else {
			apart++
		}
		if inside {
			within++
		}
		for range 20 {
			path := r.path()
			if a.Match(path) && b.Match(path) && !overlaps {
				t.Fatalf("%q is in %s and in %s, which do not overlap", path, a, b)
			}
			if inside && a.Match(path) && !b.Match(path) {
				t.Fatalf("%s lies within %s, and %q does not", a, b, path)
			}
		}
	}
	if met < 500 || apart < 500 || within < 50 {
		t.Errorf("%d met, %d were apart, %d lay within", met, apart, within)
	}
}
