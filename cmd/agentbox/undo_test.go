package main

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentbox/internal/direct"
	"agentbox/internal/plan"
	"agentbox/internal/session"
)

// directly makes a run in the direct mode that wrote a Makefile.
func (h home) directly(content string) *session.Session {
	h.t.Helper()
	paths, err := session.FindPaths(func(name string) (string, bool) { return h.dir, name == "HOME" }, os.Getuid())
	must(h.t, err)
	s, err := session.Create(paths, session.Meta{Profile: "claude", Repo: h.repo, Started: time.Now().UTC()}, rand.Reader)
	must(h.t, err)
	dir := filepath.Join(s.Dir, directDir)
	must(h.t, direct.Remember(h.t.Context(), h.repo, nil, dir))
	h.write("repo/Makefile", content)
	if _, err := direct.Compare(h.t.Context(), nil, dir); err != nil {
		h.t.Fatal(err)
	}
	must(h.t, s.End(session.End{Time: time.Now().UTC()}))
	return s
}

// Without a name each undo takes back the latest that stands, whatever the mode was, and says what it is; what has been taken
// back is passed over.
func TestUndoTakesTheLatestBack(t *testing.T) {
	h := newHome(t)
	h.write("repo/Makefile", "all:\n")
	h.write("upper/main.go", "package main\n\nfunc new() {}\n")
	reviewed, end := h.left()
	end()
	h.command("agentbox", "apply", "--all").run()
	first, second := h.directly("all:\n\tone\n"), h.directly("all:\n\ttwo\n")
	for _, step := range []struct{ run, mode, makefile, main string }{
		{second.Meta.ID, "direct", "all:\n\tone\n", "new"}, {first.Meta.ID, "direct", "all:\n", "new"}, {reviewed.Meta.ID, "review", "all:\n", "old"},
	} {
		out := h.command("agentbox", "undo").run()
		if want := "agentbox: run " + shortRun(step.run) + " (claude, " + step.mode + " mode): "; !strings.Contains(out, want) {
			t.Errorf("%q lacks %q", out, want)
		}
		if got := h.read("repo/Makefile"); got != step.makefile || !strings.Contains(h.read("repo/main.go"), step.main) {
			t.Errorf("after %q: Makefile %q, main.go %q", out, got, h.read("repo/main.go"))
		}
	}
	out, err := h.command("agentbox", "undo").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "left anything that can be taken back") {
		t.Errorf("%v: %s", err, out)
	}
}

// What a person changed since stays, and is no reason to call the run the latest that can be taken back.
func TestUndoPassesOverWhatChangedSince(t *testing.T) {
	h := newHome(t)
	h.write("repo/Makefile", "all:\n")
	s := h.directly("all:\n\tone\n")
	h.write("repo/Makefile", "all:\n\tmine\n")
	for _, args := range [][]string{{"undo"}, {"undo", shortRun(s.Meta.ID)}} {
		if out, err := h.command("agentbox", args...).CombinedOutput(); err == nil || h.read("repo/Makefile") != "all:\n\tmine\n" {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
}

// What a run may write bounds what is taken of its commits.
func TestTheLimitOfCommits(t *testing.T) {
	for disk, want := range map[int64]int64{0: maxPack, 5 << 20: 5 << 20, 20 << 30: 20 << 30} {
		dir := t.TempDir()
		var p plan.Plan
		p.Grants.Limits.Disk = disk
		text, err := json.Marshal(p)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, session.PlanFile), text, 0o600))
		read, err := planOf(dir)
		must(t, err)
		if got := read.packLimit(); got != want {
			t.Errorf("with a disk of %d it is %d, want %d", disk, got, want)
		}
	}
}
