package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"agentbox/internal/profiles"
)

// The list is what can be run: a profile under the organisation's floor, or with what this version can't do, says so.
func TestTheListTellsWhatCannotBeUsed(t *testing.T) {
	floors, err := profiles.LoadFloors([]byte("version = 1\n[budget]\ntime = '1h'\n"), policyFile)
	if err != nil {
		t.Fatal(err)
	}
	f := builtInFiles()
	f.Repo = fstest.MapFS{
		".agentbox/long.toml":   {Data: []byte("version = 1\nextends = 'shell'\nbudget.time = '2h'\n")},
		".agentbox/high.toml":   {Data: []byte("version = 1\nextends = 'shell'\ntier = 'high'\n")},
		".agentbox/loose.toml":  {Data: []byte("version = 1\nextends = 'shell'\ntier = 'medium'\nworkspace.mode = 'direct'\nnetwork.default = 'allow'\n")},
		".agentbox/broken.toml": {Data: []byte("version = 1\nextends = 'shell'\nx = 1\n")},
		".agentbox/fine.toml":   {Data: []byte("version = 1\nextends = 'shell'\n")},
	}
	for name, want := range map[string]string{
		"long": policyFile + ":3", "high": "this version can't carry out", "loose": "workspace.mode", "broken": ".agentbox/broken.toml:3:1", "fine": "", "shell": "",
	} {
		row := list(name, f, floors)
		if (row.Problem == "") != (want == "") || !strings.Contains(row.Problem, want) {
			t.Errorf("%s: %q, want %q", name, row.Problem, want)
		}
	}
}

// In somebody else's clone the repository's profiles can't be run: they are left out, and it is said why.
func TestSomebodyElsesProfilesAreNotListed(t *testing.T) {
	root, home := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, repoDir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, repoDir, "theirs.toml"), []byte("version = 1\nextends = 'shell'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	talk, err := os.Create(filepath.Join(home, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = talk.Close() }()
	for _, tc := range []struct {
		uid   int
		shown bool
	}{{os.Getuid(), true}, {os.Getuid() + 1, false}} {
		a := &app{err: talk, uid: tc.uid, getenv: func(name string) string { return map[string]string{"HOME": home}[name] }}
		f, err := a.usable(root)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(f.Names(), "theirs"); got != tc.shown {
			t.Errorf("as %d: %v", tc.uid, f.Names())
		}
		said, err := os.ReadFile(talk.Name())
		if told := strings.Contains(string(said), "belongs to another user"); err != nil || told == tc.shown {
			t.Errorf("as %d: %q, %v", tc.uid, said, err)
		}
	}
}

// A profile that only the repository has can't be run without the repository's layers: nobody is told to.
func TestTheWayWithoutTheRepositoryIsOfferedWhereThereIsOne(t *testing.T) {
	repo, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l := layers{files: builtInFiles(), repo: repo, state: t.TempDir(), uid: os.Getuid()}
	l.files.Repo = fstest.MapFS{
		".agentbox/own.toml":   {Data: []byte("version = 1\nextends = 'claude'\nnetwork.use = ['...', 'npm']\n")},
		".agentbox/shell.toml": {Data: []byte("version = 1\nnetwork.use = ['npm']\n")},
	}
	for name, want := range map[string]bool{"own": false, "shell": true} {
		d, err := l.decide(name, profiles.Floors{}, flags{})
		if err != nil || d.consent.alone != want {
			t.Errorf("%s: %v, %v", name, d.consent.alone, err)
		}
		if got := strings.Contains(untrusted(d.consent.alone).Hint, "--no-repo-profile"); got != want {
			t.Errorf("%s: the hint is %q", name, untrusted(d.consent.alone).Hint)
		}
	}
}
