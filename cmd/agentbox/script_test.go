package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"agentbox": func() { os.Exit(Main(os.Args[1:])) }})
}

// Each script drives the real verbs as processes, in a home and a repository of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"), RequireExplicitExec: true, RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"left": leftByRun},
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			for name, value := range map[string]string{
				"HOME": home, "XDG_CONFIG_HOME": "", "XDG_RUNTIME_DIR": "", "GITHUB_ACTIONS": "",
				"GIT_CONFIG_GLOBAL": filepath.Join(home, ".gitconfig"), "GIT_CONFIG_NOSYSTEM": "1",
				"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.com",
			} {
				env.Setenv(name, value)
			}
			return os.MkdirAll(home, 0o700)
		},
	})
}

// The examples of the verbs that look at profiles are in a script, word for word, and each verb tells its exit codes.
func TestHelpHasExamplesThatRun(t *testing.T) {
	script, err := os.ReadFile(filepath.Join("testdata", "script", "examples.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	a := &app{getenv: func(string) string { return "" }}
	for _, verb := range []*cobra.Command{newCheck(a), newManifest(a), newWhy(a), newDiffPlan(a), newReplay(a), newLearn(a), newProfileList(a), newProfileShow(a)} {
		if !strings.Contains(verb.Long, "Exit codes: ") {
			t.Errorf("the help of %s does not tell its exit codes", verb.Name())
		}
		if verb.Example == "" {
			t.Errorf("the help of %s has no example", verb.Name())
		}
		for line := range strings.Lines(verb.Example) {
			if line = strings.TrimSpace(line); !strings.Contains(string(script), line) {
				t.Errorf("the example %q of %s is not tried", line, verb.Name())
			}
		}
	}
}
