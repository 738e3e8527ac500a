package e2e

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What an agent changes in the review mode waits, is looked at, taken, taken back and thrown away.
func TestChangesAreLookedAtAppliedUndoneAndDiscarded(t *testing.T) {
	b := newBox(t)
	b.write("gone.txt", "gone\n")
	b.write("docs/a.md", "one\ntwo\n")
	b.git("add", ".")
	b.git("commit", "-q", "-m", "more")
	before := b.git("status", "--porcelain")
	r := b.agentbox("run", "shell", "--workspace", "review", "--", "sh", "-c",
		`echo more >> README.md; rm gone.txt; echo three >> docs/a.md; mkdir new; echo x > new/file; printf 'all:\n\tevil\n' > Makefile; mkfifo pipe; ln -s README.md link`).exits(0)
	id := runID(r)
	r.says("are kept apart from your files: agentbox diff "+id, "agentbox apply "+id, "agentbox discard "+id)
	if now := b.git("status", "--porcelain"); now != before {
		t.Fatalf("before anything is applied the repository is changed: %s", now)
	}

	patch := b.agentbox("diff").exits(0).out
	for _, want := range []string{"diff --git a/README.md b/README.md\n", "\n+more\n", "deleted file mode 100644\n--- a/gone.txt\n", "# Makefile: would execute later: ",
		"# pipe: never applied: ", "new file mode 120000\n", "+README.md\n\\ No newline at end of file\n"} {
		if !strings.Contains(patch, want) {
			t.Errorf("the patch lacks %q:\n%s", want, patch)
		}
	}
	b.gitApplies(patch)
	if stat := b.agentbox("diff", "--stat", id, "docs").exits(0).out; !strings.Contains(stat, "M docs/a.md") || strings.Contains(stat, "README") {
		t.Errorf("of docs alone: %s", stat)
	}

	b.agentbox("apply", id, "docs", "gone.txt").exits(0).says("2 applied")
	if b.read("docs/a.md") != "one\ntwo\nthree\n" || b.read("README.md") != "# a repository\n" {
		t.Error("not what was named is applied")
	}
	all := b.agentbox("apply", "--all").exits(0)
	if !strings.Contains(all.out, "left out       Makefile: ") || !strings.Contains(all.out, "never applied  pipe: ") {
		t.Errorf("what was left out is not told: %s", all.out)
	}
	if _, err := os.Lstat(filepath.Join(b.repo, "Makefile")); err == nil {
		t.Error("the Makefile was applied with the rest")
	}
	if b.read("README.md") != "# a repository\nmore\n" || b.read("new/file") != "x\n" {
		t.Error("not all is applied")
	}
	b.agentbox("undo").exits(0)
	if now := b.git("status", "--porcelain"); now != before {
		t.Errorf("after the undo the repository is changed: %s", now)
	}
	b.agentbox("discard", "--yes").exits(0)
	b.agentbox("diff").exits(1).says("left anything")
	if b.hasWork() {
		t.Error("the work is still there")
	}
}

// gitApplies has git check a patch.
func (b *box) gitApplies(patch string) {
	b.t.Helper()
	cmd := b.command()
	cmd.Path, cmd.Args = "/usr/bin/git", []string{"git", "apply", "--check", "-"}
	cmd.Stdin = strings.NewReader(patch)
	finish(b.t, cmd).exits(0)
}

// runID is the short id of the run that a summary names.
func runID(r result) string {
	r.t.Helper()
	_, rest, found := strings.Cut(r.err, " · run ")
	if !found {
		r.t.Fatalf("no run is named: %s", r.err)
	}
	id, _, _ := strings.Cut(rest, "\n")
	return id[strings.LastIndexByte(id, '-')+1:]
}

// While the agent works its changes can be looked at and taken, and it sees nothing of that; only throwing them away waits.
func TestChangesAreTakenWhileTheAgentWorks(t *testing.T) {
	b := newBox(t)
	cmd := b.command("run", "shell", "--workspace", "review", "--", "sh", "-c",
		`echo one > a.txt; echo ready; read x; cat a.txt README.md; echo two >> a.txt; echo b > b.txt`)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	var errs strings.Builder
	cmd.Stderr = &errs
	must(t, cmd.Start())
	buf := make([]byte, 6)
	if _, err := out.Read(buf); err != nil || string(buf) != "ready\n" {
		t.Fatalf("%q, %v", buf, err)
	}
	if patch := b.agentbox("diff").exits(0).out; !strings.Contains(patch, "+one\n") {
		t.Errorf("while it runs: %s", patch)
	}
	b.agentbox("apply", "--all", "--will-execute").exits(1).says("the agent still works")
	b.agentbox("apply", "a.txt").exits(0).says("1 applied")
	if b.read("a.txt") != "one\n" {
		t.Error("it was not applied")
	}
	b.agentbox("discard", "--yes").exits(1).says("goes on")
	must(t, in.Close())
	rest, err := io.ReadAll(out)
	must(t, err)
	if got := string(rest); got != "one\n# a repository\n" {
		t.Errorf("inside: %q", got)
	}
	must(t, cmd.Wait())
	b.agentbox("apply", "--all").exits(0)
	if b.read("a.txt") != "one\ntwo\n" || b.read("b.txt") != "b\n" {
		t.Errorf("a.txt is %q, b.txt %q", b.read("a.txt"), b.read("b.txt"))
	}
	b.agentbox("undo").exits(0)
	if status := b.git("status", "--porcelain"); status != "" {
		t.Errorf("after the undo: %s", status)
	}
}

// Without a terminal the end of a run does what --on-exit says, and keeps without it.
func TestOnExit(t *testing.T) {
	b := newBox(t)
	const edit = "echo new > new.txt; exit 3"
	b.review(edit, "--on-exit", "discard").exits(3)
	if b.hasWork() {
		t.Error("discarded work is still there")
	}
	b.review(edit, "--on-exit", "keep").exits(3)
	if !b.hasWork() {
		t.Error("work was not kept")
	}
	b.review(edit, "--on-exit", "apply").exits(3).says("1 applied")
	if b.read("new.txt") != "new\n" {
		t.Error("it was not applied")
	}
	b.write("README.md", "mine\n")
	b.agentbox("undo").exits(0)
	b.agentbox("run", "shell", "--workspace", "direct", "--on-exit", "apply", "--", "true").exits(126).says("--on-exit is for the review mode")
	b.agentbox("run", "shell", "--workspace", "review", "--on-exit", "ask", "--", "true").exits(126).says("apply, keep or discard")
}

// On a terminal the run ends in the review, whatever the agent left the terminal like.
func TestARunEndsInTheReview(t *testing.T) {
	b := newBox(t)
	l := b.terminal("run", "shell", "--workspace", "review", "--", "sh", "-c",
		`echo more >> README.md; echo x > other.txt; printf '\033[?1049h\033[?1003h\033[8m\033]0;t'; exit 4`)
	l.expect("a apply selected").send(" a").expect("1 applied")
	l.ends(4)
	if b.read("README.md") != "# a repository\n" || b.read("other.txt") != "x\n" {
		t.Error("not what was picked is applied")
	}
	b.terminal("apply").expect("a apply selected").send("q").expect("kept apart").ends(0)
	b.terminal("apply").expect("a apply selected").send("d").expect("throw away").send("D").expect("is thrown away").ends(0)
	b.agentbox("diff").exits(1)
}
