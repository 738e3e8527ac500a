package policy

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPathPatternMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"/", "/", true},
		{"/", "/a", false},
		{"/a", "/a", true},
		{"/a", "/A", false},
		{"/a", "/a/", false},
		{"/a/", "/a", false},
		{"/api/**", "/api/", true},
		{"/api/**", "/api/x", true},
		{"/api/**", "/api/x/y/", true},
		{"/api/**", "/api", false},
		{"/api/**", "/apix", false},
		{"/api**", "/api", true},
		{"/api**", "/apix/y", true},
		{"/**", "/", true},
		{"/**", "/a/b%2Fc", true},
		{"/**/x", "/a/x", true},
		{"/**/x", "/a/b/x", true},
		{"/**/x", "/x", false},
		{"/**/x", "/a/x/y", false},
		{"/**x", "/x", true},
		{"/*", "/", true},
		{"/*", "/a", true},
		{"/*", "/a/", false},
		{"/*", "/a/b", false},
		{"/*", "/a%2Fb", false},
		{"/*", "/a%5cb", false},
		{"/repos/*/*/issues", "/repos/acme/billing/issues", true},
		{"/repos/*/*/issues", "/repos/acme/issues", false},
		{"/repos/*/*/issues", "/repos/a/b/c/issues", false},
		{"/*.json", "/a.json", true},
		{"/*.json", "/.json", true},
		{"/*.json", "/a.json.json", true},
		{"/*.json", "/a/b.json", false},
		{"/a*b*c", "/abbc", true},
		{"/a*b*c", "/abb", false},
		{"/**/a/*/b", "/x/a/y/a/z/b", true},
		{"/**a*/b", "/aa/a/b", true},
		{"/**/*/end", "/1/2/end", true},
		{"/**/*/end", "/1/end", false},
		{"/@scope%2Fname", "/@scope%2fname", true},
		{"/@scope%2Fname", "/@scope%2Fname", true},
		{"/@scope%2Fname", "/%40scope%2Fname", true},
		{"/@scope%2Fname", "/@scope/name", false},
		{"/@scope%2Fname", "/@scope%5Cname", false},
		{"/@scope/name", "/@scope%2fname", false},
		{"/**", "/@scope%2fname", true},
		{"/a%2Ab", "/a*b", true},
		{"/a%2Ab", "/a%2ab", true},
		{"/a%2Ab", "/axb", false},
		{"/h%C3%A9", "/h%c3%a9", true},
		{"/100%25", "/100%25", true},
		{"/a%20b", "/a%20b", true},
		{"/admin", "/%61dmin", true},
		{"/[id]", "/%5Bid%5d", true},
		{"/**", "/a/../b", false},
		{"/**", "", false},
		{"/**", "*", false},
		{"/**", "a", false},
	} {
		if got := pathPattern(t, c.pattern).Match(c.path); got != c.want {
			t.Errorf("%q matches %q = %v, want %v", c.pattern, c.path, got, c.want)
		}
	}
	if (PathPattern{}).Match("/") || (PathPattern{}).Match("") {
		t.Error("the zero pattern matches")
	}
}

func TestParsePathPatternRefusesWhatIsNone(t *testing.T) {
	for _, in := range []string{
		"", "a", "*", "**", "api/**", " /a", "/a b", "/a\n", "/a\x00", "/a\x7f", "/é", "/a?b", "/a#b", "/a;b", `/a\b`, `/a"b`, "/a<b", "/{id}", "/a|b", "/a^b", "/a`b",
		"//", "//a", "/a//b", "/a//", "/.", "/..", "/a/.", "/a/../b", "/./a", "/..%2Fa", "/a%2F..", "/a%5C..%5Cb", "/a%2F%2Fb", "/%2Fa", "/a/%2F",
		"/***", "/a***", "/****", "/%", "/%2", "/%zz", "/%2f", "/%c3%A9", "/%61", "/%2E", "/%2e%2e", "/%40", "/%7E", "/%00", "/%0A", "/%7F", "/%3B", "/%2561", "/%25%36", "/%C3", "/%C3*%A9", "/%C0%AF", "/%FF",
		"/" + strings.Repeat("a", maxPathPattern), "http://good.test/a", "/a/**/b/../c",
	} {
		if p, err := ParsePathPattern(in); err == nil {
			t.Errorf("ParsePathPattern(%q) = %q, want an error", in, p)
		} else if p != (PathPattern{}) {
			t.Errorf("ParsePathPattern(%q) gave %q with an error", in, p)
		}
	}
}

func TestPathFlaws(t *testing.T) {
	for path, want := range map[string]string{
		"/": "", "/a": "", "/a/": "", "/a/b.c/...": "", "/@scope%2fname": "", "/a%2F": "", "/a%20b": "", "/h%C3%A9": "", "/100%25": "", "/%25x": "", "/a,b:c@d!$&'()*+=~": "", "/[a]": "", "/.a": "", "/..a": "", "/a..": "",
		"/" + strings.Repeat("a", maxPath-1): "", "/" + strings.Repeat("%61", maxPath-1): "",
		"/" + strings.Repeat("a", maxPath): "longer", "/" + strings.Repeat("%61", maxPath): "longer",
		"": "begin", "*": "begin", "a": "begin", "http://x/": "begin",
		"//": "empty", "//a": "empty", "/a//": "empty", "/a//b": "empty", "/a%2f/b": "empty", "/%2Fa": "empty", "/%5ca": "empty", "/a%2F%5Cb": "empty",
		"/.": `"."`, "/..": `"."`, "/a/..": `"."`, "/a/../b": `"."`, "/./a": `"."`, "/%2e": `"."`, "/%2E%2e/a": `"."`, "/.%2e": `"."`, "/a%2f..": `"."`, "/..%2fa": `"."`, "/a%5c..%5cb": `"."`, "/..%5Ca": `"."`,
		`/a\b`: "backslash", "/a;b": ";", "/;": ";", "/..;/": ";", "/a%3bb": ";", "/a%3B": ";",
		"/\x00": "control", "/%00": "control", "/%0a": "control", "/%1F": "control", "/%7f": "control", "/a\r\n": "control",
		"/%": "hexadecimal", "/%4": "hexadecimal", "/%4g": "hexadecimal", "/%u002e": "hexadecimal",
		"/%2561": "escape of an escape", "/%25%36%31": "escape of an escape", "/%252e%252e/": "escape of an escape", "/%25%32e": "escape of an escape",
		"/a b": "has to be escaped", "/é": "has to be escaped", "/a?b": "has to be escaped", "/a#b": "has to be escaped", "/a\"b": "has to be escaped", "/{a}": "has to be escaped",
		"/%ff": "UTF-8", "/%c0%ae%c0%ae": "UTF-8", "/%c0%af": "UTF-8", "/%c3": "UTF-8", "/%ed%a0%80": "UTF-8",
	} {
		got := PathFlaw(path)
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("PathFlaw(%.40q) = %q, want %q in it", path, got, want)
		}
		if CanonicalPath(path) != (want == "") {
			t.Errorf("CanonicalPath(%.40q) = %v", path, want != "")
		}
	}
}

func TestPathPatternTextForms(t *testing.T) {
	var v struct{ Paths []PathPattern }
	if err := json.Unmarshal([]byte(`{"Paths":["/a/**","/@s%2Fn"]}`), &v); err != nil {
		t.Fatal(err)
	}
	if out, err := json.Marshal(v); err != nil || string(out) != `{"Paths":["/a/**","/@s%2Fn"]}` {
		t.Errorf("round trip gave %s, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"Paths":["/a/../b"]}`), &v); err == nil {
		t.Error("a bad pattern was taken")
	}
}

// plainMatch is the meaning of a pattern, said in another way: as a regular expression over the path's text in one
// spelling.
func plainMatch(t testing.TB, p PathPattern, path string) bool {
	t.Helper()
	var b strings.Builder
	for rest := p.String(); rest != ""; {
		switch {
		case strings.HasPrefix(rest, "**"):
			b.WriteString("(?s:.)*")
			rest = rest[2:]
		case rest[0] == '*':
			b.WriteString("[^/\x00\x01]*")
			rest = rest[1:]
		default:
			n := 1
			if rest[0] == '%' {
				n = 3
			}
			b.WriteString(regexp.QuoteMeta(oneSpelling(t, rest[:n])))
			rest = rest[n:]
		}
	}
	// Bytes stand as the runes of the same number, so that "." is a byte.
	return regexp.MustCompile("^" + b.String() + "$").MatchString(oneSpelling(t, path))
}

func oneSpelling(t testing.TB, escaped string) string {
	t.Helper()
	escaped = strings.NewReplacer("%2F", "%00", "%2f", "%00", "%5C", "%01", "%5c", "%01").Replace(escaped)
	plain, err := url.PathUnescape(escaped)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i := range len(plain) {
		b.WriteRune(rune(plain[i]))
	}
	return b.String()
}

func TestMatchIsWhatItSays(t *testing.T) {
	matched := 0
	for seed := range uint64(10_000) {
		r := newRandom(t, seed)
		p, path := r.pathPattern(), r.path()
		if !CanonicalPath(path) {
			if p.Match(path) {
				t.Fatalf("%q matches %q, which is not in normal form", p, path)
			}
			continue
		}
		want := plainMatch(t, p, path)
		if got := p.Match(path); got != want {
			t.Fatalf("%q matches %q = %v, want %v", p, path, got, want)
		}
		if want {
			matched++
			var buf [maxPath]byte
			if units, _ := normalPath(buf[:0], path); !matchUnits(p.units, units, true) {
				t.Fatalf("%q matches %q, but not when it is read more widely", p, path)
			}
		}
	}
	if matched < 200 {
		t.Errorf("%d matches say too little", matched)
	}
}

// Rules that deny or ask name more: an escaped slash is a slash there too, as some servers have it.
func TestDenialsReadPathsMoreWidely(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"/admin/**", "/admin%2Fx", true},
		{"/admin/**", "/admin%5cx", true},
		{"/admin/*", "/admin/a%2Fb", true},
		{"/admin/*", "/admin/a/b", false},
		{"/@scope%2Fname", "/@scope/name", true},
		{"/@scope/name", "/@scope%2fname", true},
		{"/*/x", "/a%2Fb/x", true},
		{"/*/x", "/a%2Fx", true},
		{"/*/*/x", "/a%2Fb%5Cx", true},
		{"/admin/**", "/administrator", false},
	} {
		rule := Rule{Host: pattern(t, "good.test"), Ports: []uint16{443}, Paths: []PathPattern{pathPattern(t, c.pattern)}}
		for _, action := range []Action{Deny, Ask} {
			rule.Action = action
			set := Set{Default: Allow, Rules: []Rule{rule}}
			q := Request{Host: host(t, "good.test"), Port: 443, Method: "GET", Path: c.path}
			for _, d := range []Decision{set.Decide(q), set.Compile().Decide(q)} {
				if got := d.Action == action; got != c.want {
					t.Errorf("%s %q with %q: %s (%s)", action, c.pattern, c.path, d.Action, d.Reason())
				}
			}
		}
	}
}

// A path and a pattern that would keep a backtracking matcher busy for good.
func TestMatchingIsBounded(t *testing.T) {
	p := pathPattern(t, "/"+strings.Repeat("**a*a", 90)+"b")
	path := "/" + strings.Repeat("a", maxPath-1)
	if p.Match(path) {
		t.Error("matched")
	}
	if !p.Match(path[:maxPath-1] + "b") {
		t.Error("did not match")
	}
}

func FuzzPathPattern(f *testing.F) {
	for _, seed := range []string{"/", "/api/**", "/repos/*/*/issues", "/@scope%2Fname", "/a%2Ab", "/**/x", "/a/../b", "/%2f", "/h%C3%A9", "/***", "/%2561"} {
		f.Add(seed, "/api/x")
	}
	f.Add("/@scope%2Fname", "/@scope%2fname")
	f.Add("/**", "/%2e%2e/")
	f.Add("/*", "/a%5c")
	f.Fuzz(func(t *testing.T, in, path string) {
		flaw := PathFlaw(path)
		if flaw == "" {
			checkNormal(t, path)
		}
		p, err := ParsePathPattern(in)
		if err != nil {
			if p != (PathPattern{}) {
				t.Fatalf("ParsePathPattern(%q) gave %q with an error", in, p)
			}
			return
		}
		if again, err := ParsePathPattern(p.String()); err != nil || again != p || p.String() != in {
			t.Fatalf("ParsePathPattern(%q) = %q, which parses to %q, %v", in, p, again, err)
		}
		if plain := strings.ReplaceAll(in, "*", "x"); PathFlaw(plain) != "" && !strings.Contains(PathFlaw(plain), "escape of an escape") && !strings.Contains(PathFlaw(plain), "UTF-8") {
			t.Fatalf("ParsePathPattern(%q) was taken, where %q %s", in, plain, PathFlaw(plain))
		}
		if got, want := p.Match(path), flaw == "" && plainMatch(t, p, path); got != want {
			t.Fatalf("%q matches %q = %v, want %v", p, path, got, want)
		}
	})
}

// checkNormal holds a path that is said to be in normal form against what that promises, by other means.
func checkNormal(t *testing.T, path string) {
	plain, err := url.PathUnescape(path)
	if err != nil || !utf8.ValidString(plain) || !strings.HasPrefix(path, "/") || len(plain) > maxPath {
		t.Fatalf("%q is not in normal form: %v", path, err)
	}
	if strings.ContainsFunc(plain, func(r rune) bool { return r < ' ' || r == 0x7f || r == ';' }) || strings.ContainsAny(path, "\\?# ") {
		t.Fatalf("%q holds what no path does", path)
	}
	if twice, err := url.PathUnescape(plain); err == nil && twice != plain {
		t.Fatalf("%q is escaped twice", path)
	}
	segments := strings.FieldsFunc(plain, func(r rune) bool { return r == '/' || r == '\\' })
	separators := strings.Count(plain, "/") + strings.Count(plain, `\`)
	if last := plain[len(plain)-1]; separators != len(segments) && !((last == '/' || last == '\\') && separators == len(segments)+1) {
		t.Fatalf("%q has an empty segment", path)
	}
	for _, s := range segments {
		if s == "." || s == ".." {
			t.Fatalf("%q has a segment %q", path, s)
		}
	}
}

func FuzzParsePattern(f *testing.F) {
	for _, seed := range []string{"good.test", "*.good.test", "*", "*.com", "*.github.io", "a.*.com", "*.*.good.test", "*.BÜCHER.example.", "*.co.uk", "[::1]:443", "*.0x7f.1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		p, err := ParsePattern(in)
		if err != nil {
			if p != (Pattern{}) {
				t.Fatalf("ParsePattern(%q) gave %q with an error", in, p)
			}
			return
		}
		if again, err := ParsePattern(p.String()); err != nil || again != p {
			t.Fatalf("ParsePattern(%q) = %q, which parses to %q, %v", in, p, again, err)
		}
		rest, wild := strings.CutPrefix(p.String(), "*.")
		base, err := ParseHost(rest)
		if err != nil || strings.Contains(rest, "*") || p.Match(base) == wild {
			t.Fatalf("ParsePattern(%q) = %q: %v", in, p, err)
		}
		if h, err := ParseHost("x." + rest); err == nil && p.Match(h) != wild {
			t.Fatalf("%q matches %s = %v", p, h, !wild)
		}
		if wild && strings.Count(rest, ".") == 0 {
			t.Fatalf("ParsePattern(%q) = %q names a whole top-level domain", in, p)
		}
	})
}
