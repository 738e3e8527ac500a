package starter

import (
	"strings"
	"testing"
	"testing/fstest"

	"agentbox/internal/profiles"
	builtin "agentbox/profiles"
)

// builtInSets names the named sets that agentbox ships.
func builtInSets(t testing.TB) (names []string) {
	t.Helper()
	for _, name := range (profiles.Files{BuiltIn: builtin.Files()}).SetNames() {
		if name != "origin" {
			names = append(names, name)
		}
	}
	if len(names) < 5 {
		t.Fatalf("there are only the sets %v", names)
	}
	return names
}

func claudeOptions(t testing.TB) ImportOptions {
	t.Helper()
	base, err := profiles.Load("claude", profiles.Files{BuiltIn: builtin.Files()})
	if err != nil {
		t.Fatal(err)
	}
	return ImportOptions{Ground: Ground{Repo: "/home/you/acme", Home: "/home/you"}, Base: "claude", Merged: &base.Profile}
}

// loads reads a profile as a repository's, on the built-in ones.
func loads(t testing.TB, data []byte) profiles.Loaded {
	t.Helper()
	repo := fstest.MapFS{".agentbox/acme.toml": {Data: data, Mode: 0o644}}
	loaded, err := profiles.Load("acme", profiles.Files{BuiltIn: builtin.Files(), Repo: repo})
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	if len(loaded.Warnings) > 0 {
		t.Fatalf("%v\n%s", loaded.Warnings, data)
	}
	return loaded
}

// What is shown commented out would load too, once its # is taken away.
func TestCommentedRulesLoad(t *testing.T) {
	for path, archive := range archives(t, "testdata/layouts/*.txtar", 8) {
		profile := string(Profile(Survey(layout(archive)), Options{Name: "acme", Base: "claude", Sets: builtInSets(t)}))
		var b strings.Builder
		taking := false
		for line := range strings.Lines(profile) {
			code, commented := strings.CutPrefix(line, "# ")
			taking = commented && (taking || strings.HasPrefix(code, "[[network.rule]]") || strings.HasPrefix(code, "[[git]]") || strings.HasPrefix(code, "[limits]"))
			if taking {
				line = code
			}
			b.WriteString(line)
		}
		t.Log(path)
		loads(t, []byte(b.String()))
	}
}
