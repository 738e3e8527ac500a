package plan

import (
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

// withRepo is what a profile grants with these files of a repository.
func withRepo(t *testing.T, files map[string]string) Grants {
	t.Helper()
	repo := fstest.MapFS{}
	for name, text := range files {
		repo[name] = &fstest.MapFile{Data: []byte("version = 1\n" + text)}
	}
	built := fstest.MapFS{"base.toml": &fstest.MapFile{Data: []byte("version = 1\ndescription = 'd'\n[agent]\ncommand = ['x']\n")}}
	loaded, err := profiles.Load("base", profiles.Files{BuiltIn: built, Repo: repo})
	if err != nil {
		t.Fatal(err)
	}
	g, err := Grant(GrantInputs{Profile: loaded.Profile})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Of two patterns that hide a file one is taken out, and the other stays: nothing is shown.
func TestAPatternThatAnotherOneCoversShowsNothing(t *testing.T) {
	was := withRepo(t, map[string]string{"agentbox.toml": "[workspace]\nhide = [\".env\", \".env*\"]\n"})
	is := withRepo(t, map[string]string{"agentbox.toml": "[workspace]\nhide = [\".env*\"]\n"})
	for _, c := range Diff(was, is) {
		if c.Kind != Other || c.Origin != "was agentbox.toml:3" || c.Text != "no longer names .env to be hidden, which .env* hides" {
			t.Errorf("%+v", c)
		}
	}
	if len(Diff(was, is)) != 1 {
		t.Error("the change is not told")
	}
}

func TestAPatternThatIsTakenOutSaysWhereItWas(t *testing.T) {
	was := withRepo(t, map[string]string{"agentbox.toml": "[workspace]\nhide = [\"salt\", \"key\"]\n"})
	for _, text := range []string{"[workspace]\nhide = [\"key\"]\n", "[workspace]\nhide = []\n", ""} {
		i := slices.IndexFunc(Diff(was, withRepo(t, map[string]string{"agentbox.toml": text})), func(c Change) bool {
			return c.Kind == Wider && c.Text == "shows salt, which was hidden" && c.Origin == "was agentbox.toml:3"
		})
		if i < 0 {
			t.Errorf("with %q: %+v", text, Diff(was, withRepo(t, map[string]string{"agentbox.toml": text})))
		}
	}
}

// A repository's file shows a key, or drops what the file below it hides: both are asked about, in plain words, and the list
// of what every profile hides cannot be dropped by a list.
func TestWhatARepositoryShowsIsAskedAbout(t *testing.T) {
	none := withRepo(t, nil)
	for text, want := range map[string]string{
		"[workspace]\nshow = [\".env\"]\n":                           "workspace.show: shows .env, whatever else hides it (agentbox.toml:3)",
		"[workspace]\nhide = [\"salt\"]\nshow = [\"...\", \"**\"]\n": "workspace.show: shows **, whatever else hides it (agentbox.toml:4)",
		"[workspace]\nhide = [\"salt\"]\n":                           "",
		"[workspace]\nhide = []\nshow = []\n":                        "",
	} {
		g := withRepo(t, map[string]string{"agentbox.toml": text})
		got := ""
		for _, c := range Widenings(Diff(none, g)) {
			got += c.Path + ": " + c.Text + " (" + c.Origin + ")"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
		if shown := g.WhyPath(".env").Decision != "hidden"; shown != (want != "") || g.Hash() == none.Hash() && text != "[workspace]\nhide = []\nshow = []\n" {
			t.Errorf("%s: shown: %v", text, shown)
		}
	}
}

func TestCoveringIsToldWhereItIsPlain(t *testing.T) {
	for _, tc := range []struct {
		by, pattern string
		want        bool
	}{
		{".env*", ".env", true}, {".env*", ".env.*", true}, {".env*", "a/.env", true}, {".env", ".env", true}, {"**/.env", ".env", true},
		{"secrets", "secrets/key", true}, {"secrets/**", "secrets/a/b", true}, {"secrets/**", "secrets/**", true}, {"*", "x?", true}, {"**", "a/b", false},
		{".env", ".env*", false}, {"a/.env", ".env", false}, {"secrets/", "secrets", false}, {"secrets/**", "secrets", false}, {"secrets", "secrets/", true},
		{"[a-z]", "b", false}, {"a*", "[a]", false}, {"x/**", "**/x/y", false}, {"**/x/**", "x/y", true}, {"a?", "a*", false}, {"*a", "a*", false},
	} {
		if got := covers(tc.by, tc.pattern); got != tc.want {
			t.Errorf("%q covers %q: %v", tc.by, tc.pattern, got)
		}
	}
}

// Whatever is said to be covered is: no name is found that only the covered pattern hides.
func TestWhatIsCoveredIsHidden(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	words := []string{"a", "b", "ab", "*", "a*", "*b", "?", "**", "[a]"}
	pattern := func() string {
		p := make([]string, 1+r.IntN(3))
		for i := range p {
			p[i] = words[r.IntN(len(words))]
		}
		return strings.Join(p, "/") + []string{"", "", "/", "/**"}[r.IntN(4)]
	}
	var names []string
	level := []string{"."}
	for range 3 {
		var next []string
		for _, dir := range level {
			for _, n := range []string{"a", "b", "ab", "c"} {
				next = append(next, path.Join(dir, n))
			}
		}
		names, level = append(names, next...), next
	}
	found := 0
	for range 30_000 {
		by, p := pattern(), pattern()
		if by == p || !covers(by, p) {
			continue
		}
		found++
		for _, name := range names {
			for _, dir := range []bool{false, true} {
				if hiddenAs(p, name, dir) && !hiddenAs(by, name, dir) {
					t.Fatalf("%q covers %q, and not %q (directory: %v)", by, p, name, dir)
				}
			}
		}
	}
	if found < 1000 {
		t.Errorf("only %d pairs were tried", found)
	}
}

// hiddenAs is hides where it is known whether the path is a directory.
func hiddenAs(pattern, rel string, dir bool) bool {
	only := shapeOf(pattern).dir
	for at := rel; at != "."; at, dir = path.Dir(at), true {
		p, err := policy.ParseHidePattern(pattern)
		if err == nil && p.Match(at, true) && (dir || !only) {
			return true
		}
	}
	return false
}
