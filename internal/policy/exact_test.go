package policy

import "testing"

func TestExactPathNamesThatPathAlone(t *testing.T) {
	for path, want := range map[string]string{
		"/": "/", "/a/b": "/a/b", "/%61": "/a", "/a%2fb": "/a%2Fb", "/a%5cb": "/a%5Cb", "/a*b": "/a%2Ab", "/%2A%2a": "/%2A%2A",
		"/%c3%a9": "/%C3%A9", "/100%25": "/100%25", "/a%20b/": "/a%20b/", "/@scope/x": "/@scope/x",
	} {
		p, ok := ExactPath(path)
		if !ok || p.String() != want {
			t.Errorf("ExactPath(%q) = %q, %t; want %q", path, p, ok, want)
		}
	}
	for _, path := range []string{"", "a", "/a/../b", "/a//b", "/a;b", "/%zz", "/\x1b", "/a\"b"} {
		if p, ok := ExactPath(path); ok {
			t.Errorf("ExactPath(%q) = %q", path, p)
		}
	}
}

func TestExactPathAtRandom(t *testing.T) {
	r := newRandom(t, 7)
	named := 0
	for range 20_000 {
		path, other := r.path(), r.path()
		p, ok := ExactPath(path)
		if ok != CanonicalPath(path) {
			t.Fatalf("%q: named %t", path, ok)
		}
		if !ok {
			continue
		}
		named++
		q, same := ExactPath(other)
		if !p.Match(path) || p.Match(other) != (same && p.String() == q.String()) {
			t.Fatalf("%q and %q: %q, %q", path, other, p, q)
		}
	}
	if named < 1000 {
		t.Errorf("only %d paths had a name", named)
	}
}
