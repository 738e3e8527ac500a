//go:build linux

package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"agentbox/internal/policy"
)

// A FIFO in the place of one of git's files, which an archive can bring and an agent can leave, is not waited for. A
// reader that waits hangs this test.
func TestNoFIFOIsWaitedFor(t *testing.T) {
	for _, name := range []string{"config", "index", "commondir", "objects/info/alternates", "info/exclude", "info/grafts"} {
		repo := newRepo(t)
		survey, err := Look(repo, nil)
		if err != nil {
			t.Fatal(err)
		}
		before, err := Remember(repo, survey)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(repo.Git, name)
		_ = os.Remove(path) // it may not be there
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		_, findErr := Find(repo.Root, Person{UID: os.Getuid(), Home: realTemp(t)})
		_, lookErr := Look(repo, nil)
		planted, plantedErr := Planted(repo, before)
		told := len(planted) > 0 || findErr != nil || lookErr != nil || plantedErr != nil
		if _, _, err := Mounts(repo, Direct, survey, nil, realTemp(t)); err != nil {
			told = true
		}
		if !told && name != "objects/info/alternates" { // which is only looked at to warn
			t.Errorf("nobody noticed that %s is a FIFO", name)
		}
	}
}

// A pattern with many "**" takes the time of its length, not of all the ways in which they could share a path. Where it
// takes those, this test does not end.
func TestHidePatternsMatchInBoundedTime(t *testing.T) {
	g, err := policy.ParseHidePattern(strings.Repeat("**/a/", 40) + "b")
	if err != nil {
		t.Fatal(err)
	}
	if g.Match(strings.Repeat("a/", 200)+"c", false) {
		t.Error("it matched")
	}
	if !g.Match(strings.Repeat("a/", 200)+"b", false) {
		t.Error("it did not match")
	}
}
