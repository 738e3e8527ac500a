package realagents

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"agentbox/internal/profiles"
	builtin "agentbox/profiles"
)

// Every built-in profile of an agent from npm is run for real, at a version that is pinned; logins have tests of their own.
func TestEveryAgentIsListedAndPinned(t *testing.T) {
	text, err := os.ReadFile("../agents/package.json")
	if err != nil {
		t.Fatal(err)
	}
	var pinned struct{ Dependencies map[string]string }
	if err := json.Unmarshal(text, &pinned); err != nil {
		t.Fatal(err)
	}
	files := profiles.Files{BuiltIn: builtin.Files()}
	for _, name := range files.Names() {
		l, err := profiles.Load(name, files)
		if err != nil {
			t.Fatal(err)
		}
		program, found := strings.CutPrefix(l.Profile.Agent.Install, "npm install -g ")
		if !found {
			continue
		}
		if v := pinned.Dependencies[program]; v == "" || strings.ContainsAny(v, "^~*") {
			t.Errorf("test/agents/package.json pins %s at %q", program, v)
		}
		listed := slices.ContainsFunc(All(), func(a Agent) bool { return a.Profile == name })
		if !listed && !strings.HasSuffix(name, "-login") {
			t.Errorf("no line says how the tests run %s", name)
		}
		if i, ok := builtin.FindImage(name); !ok || i.Args["PACKAGE"] != program || i.Args["VERSION"] != pinned.Dependencies[program] {
			t.Errorf("the image of %s installs %v, want %s at the version that is tested", name, i.Args, program)
		}
	}
}
