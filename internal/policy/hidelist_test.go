package policy

import (
	"fmt"
	"math/rand/v2"
	pathpkg "path"
	"slices"
	"strings"
	"testing"
)

func TestWhatIsShownAgain(t *testing.T) {
	for _, tc := range []struct {
		patterns string
		path     string
		dir      bool
		want     bool // it is hidden
	}{
		{".env*", ".env", false, true},
		{".env* !.env.test", ".env.test", false, false},
		{".env* !.env.test", "deep/.env.test", false, false},
		{".env* !.env.test", ".env", false, true},
		{"!.env.test .env*", ".env.test", false, true}, // what a layer above hides
		{".env* !.env.test .env.test", ".env.test", false, true},
		{"*.pem !testdata/*.pem", "testdata/a.pem", false, false},
		{"*.pem !testdata/*.pem", "testdata/deep/a.pem", false, true},
		{"*.pem !testdata/**", "testdata/deep/a.pem", false, false}, // what lies in a directory that is shown
		{"*.pem !testdata/** *.key", "testdata/deep/a.key", false, true},
		{"*.pem !testdata", "x/testdata/deep/a.pem", false, false},
		{"secrets/** !secrets/public.txt", "secrets/public.txt", false, true}, // the directory is not there
		{"secrets/** !secrets/**", "secrets/public.txt", false, false},
		{"secrets/** !secrets/** secrets/key", "secrets/key", false, true},
		{"*.pem !**", "a/b.pem", false, false},
		{"*.pem !*", "a/b.pem", false, false},
		{"x/", "x", false, false}, {"x/", "x", true, true}, {"x/", "x/y", false, true},
		// Another case is the same file on some file systems, and what is shown is shown to the letter.
		{".env*", ".ENV", false, true}, {"*.pem", "A.PEM", false, true}, {"*.PEM", "a.pem", false, true}, {"id_rsa", "ID_RSA", false, true},
		{"id_rsa", "id_r\u017fa", false, true}, {"*.key", "x.\u212aey", false, true}, {".env", ".e\u200cnv", false, true},
		{"Secrets/**", "secrets/x", false, true}, {"k[A-C]", "kb", false, true}, {"k[^a]", "kA", false, true},
		{".env* !.env.test", ".env.TEST", false, true},
		{"*.tfstate.*", "a.tfstate.backup", false, true}, {"*.", "a.", false, true}, {"*", ".x", false, true}, {"**/.aws/credentials", ".aws/credentials", false, true},
	} {
		l, err := ParseHideList(strings.Fields(tc.patterns))
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Hides(tc.path, tc.dir); got != tc.want {
			t.Errorf("%s: %s is hidden: %v", tc.patterns, tc.path, got)
		}
	}
	if _, err := ParseHideList([]string{"a", "!["}); err == nil || !strings.Contains(err.Error(), `"!["`) {
		t.Errorf("a pattern that is none: %v", err)
	}
}

// slowlyHidden is what a list means, word for word: the last pattern that names a path or a directory shown above it.
func slowlyHidden(patterns []string, rel string) bool {
	from := 0
	parts := strings.Split(rel, "/")
	for n := range parts {
		at := strings.Join(parts[:n+1], "/")
		for i := len(patterns) - 1; i >= from; i-- {
			bare, show := strings.CutPrefix(patterns[i], "!")
			p, _ := ParseHidePattern(bare)
			if !p.Match(at, true) && (show || !p.inAnyCase().Match(at, true)) {
				continue
			}
			if !show {
				return true
			}
			from = i
			break
		}
	}
	return false
}

// Names are looked up by what they end in; nothing is missed by that.
func TestListsAreLookedUpRightly(t *testing.T) {
	words := []string{"a", "A", ".e", "*.e", "x.e", "*.e.*", "x.e.y", "a*", "[ab]", `\a`, "*", "*.", "x.", "**"}
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // not a secret
	some := func(words []string, most int) string {
		out := make([]string, 1+r.IntN(most))
		for i := range out {
			out[i] = words[r.IntN(len(words))]
		}
		return strings.Join(out, "/")
	}
	names := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return strings.ContainsAny(w, `*[\`) })
	hidden := 0
	for range 20000 {
		var patterns []string
		for range 1 + r.IntN(5) {
			patterns = append(patterns, []string{"", "!"}[r.IntN(2)]+some(words, 3))
		}
		l, err := ParseHideList(patterns)
		if err != nil {
			t.Fatal(err)
		}
		rel := some(names, 4)
		if l.Hides(rel, true) != slowlyHidden(patterns, rel) {
			t.Fatalf("%q on %s: %v", patterns, rel, l.Hides(rel, true))
		}
		if l.Hides(rel, true) {
			hidden++
		}
	}
	if hidden < 2000 || hidden > 18000 {
		t.Errorf("%d are hidden, which shows little", hidden)
	}
}

func BenchmarkHideList(b *testing.B) {
	var patterns, names []string
	for i := range 30 {
		patterns = append(patterns, []string{fmt.Sprintf("id_%d", i), fmt.Sprintf("*.k%d", i), fmt.Sprintf("**/.d%d/credentials", i)}[i%3])
	}
	patterns = append(patterns, ".env*", "*account*.json")
	for i := range 1000 {
		names = append(names, pathpkg.Join("src", fmt.Sprintf("package%d", i%10), fmt.Sprintf("file%d.go", i)))
	}
	l, err := ParseHideList(patterns)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for _, name := range names {
			l.Step(name, false, 0)
		}
	}
}
