package starter

import (
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	builtin "agentbox/profiles"
)

// builtInSets names the named sets that agentbox ships.
func builtInSets(t testing.TB) (names []string) {
	t.Helper()
	files, err := fs.Glob(builtin.Files(), "sets/*.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, strings.TrimSuffix(path.Base(f), ".toml"))
	}
	return names
}

func claudeOptions(t testing.TB) ImportOptions {
	t.Helper()
	return ImportOptions{Ground: Ground{Repo: "/home/you/acme", Home: "/home/you"}, Base: "claude"}
}

func loads(t testing.TB, data []byte, quiet bool) {
	t.Helper()
	var any map[string]any
	if err := toml.Unmarshal(data, &any); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	_ = quiet
}
