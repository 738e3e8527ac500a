package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agentbox/internal/event"
	"agentbox/internal/modelserver"
)

// committing is a shell script's beginning: an agent's identity.
const committing = `set -e
export GIT_AUTHOR_NAME='An Agent' GIT_AUTHOR_EMAIL=agent@example.com GIT_COMMITTER_NAME='An Agent' GIT_COMMITTER_EMAIL=agent@example.com
`

// agentRefs are the refs below refs/agentbox, without the run's name, and what they name.
func (b *box) agentRefs() map[string]string {
	b.t.Helper()
	return b.agentRefsIn(b.repo)
}

func (b *box) agentRefsIn(dir string) map[string]string {
	b.t.Helper()
	refs := map[string]string{}
	for line := range strings.Lines(b.git("-C", dir, "for-each-ref", "--format=%(refname) %(objectname)", "refs/agentbox")) {
		name, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		parts := strings.SplitN(name, "/", 4)
		refs[parts[3]] = id
	}
	return refs
}

// commitsOf is a run in the review mode that commits; its summary says so.
func (b *box) commitsOf(script string, more ...string) result {
	b.t.Helper()
	return b.agentbox(append(append([]string{"run", "shell", "--workspace", "review"}, more...), "--", "sh", "-c", committing+script)...)
}

// Commits that are made inside arrive, and change nothing else: with either back end.
func TestCommitsComeBack(t *testing.T) {
	for _, backend := range []string{"overlay", "copy"} {
		b := newBox(t)
		b.profile("work", "version = 1\nextends = \"shell\"\n[workspace]\nmode = \"review\"\nbackend = \""+backend+"\"\n")
		before := b.git("rev-parse", "HEAD")
		r := b.agentbox("run", "work", "--", "sh", "-c", committing+`
echo work >work.txt; git add work.txt; git commit -qm 'the work'; git rev-parse HEAD
git checkout -qb side; git commit -q --allow-empty -m aside; git checkout -q main; git tag v9; git gc -q --prune=now`).exits(0).says("1 commit on main: the work", "--commits")
		refs := b.agentRefs()
		if len(refs) != 3 || refs["heads/main"] != strings.TrimSpace(r.out) || refs["HEAD"] != refs["heads/main"] || refs["heads/side"] == "" {
			t.Errorf("%s: arrived %v, made %s\n%s", backend, refs, r.out, r.err)
		}
		if b.git("rev-parse", "HEAD") != before || b.git("status", "--porcelain") != "" || b.git("tag") != "" {
			t.Errorf("%s: more changed than that", backend)
		}
		if got := b.git("show", "refs/agentbox/"+b.latest()+"/heads/main:work.txt"); got != "work\n" {
			t.Errorf("%s: the file is %q", backend, got)
		}
		b.git("fsck", "--full", "--strict")
		e := ofKind(b.events(), event.CommitsFetched)
		if len(e) != 1 || e[0].Decision != event.Allow || e[0].Detail["heads/main"] != refs["heads/main"] {
			t.Errorf("%s: events %+v", backend, e)
		}
	}
}

// latest is the id of the latest run.
func (b *box) latest() string {
	b.t.Helper()
	e := b.events()
	return e[len(e)-1].Run
}

// A run that commits nothing costs no second container, and leaves no ref.
func TestARunWithoutCommits(t *testing.T) {
	b := newBox(t)
	b.commitsOf("echo x >x").exits(0)
	if refs := b.agentRefs(); len(refs) > 0 {
		t.Errorf("refs %v", refs)
	}
	if e := ofKind(b.events(), event.CommitsFetched); len(e) > 0 {
		t.Errorf("events %+v", e)
	}
}

// forge does to a .git what an agent may: all that git could follow or run.
const forge = `
mkdir -p /tmp/hooks; for h in reference-transaction post-checkout post-update pre-receive update fsmonitor-watchman; do
  printf '#!/bin/sh\necho $0 >>"$PWD/canary.ran"; touch '"$CANARY"'\n' >/tmp/hooks/$h; chmod +x /tmp/hooks/$h; cp /tmp/hooks/$h .git/ 2>/dev/null || true; done
cp /tmp/hooks/* .git/hooks/ 2>/dev/null || true
git config core.fsmonitor "touch $CANARY" 2>/dev/null || true
git config uploadpack.packObjectsHook "touch $CANARY" 2>/dev/null || true
printf '[core]\n\tfsmonitor = touch '"$CANARY"'\n' >.git/config.worktree 2>/dev/null || true
echo /tmp >.git/commondir 2>/dev/null || true
mkdir -p .git/info; printf '* filter=x diff=x merge=x\n' >.git/info/attributes
`

// An agent that forges its .git has the host's git run nothing and see nothing of the host: neither a repository that it
// names as alternates nor what a link leads to.
func TestAForgedRepositoryHarmsNobody(t *testing.T) {
	b := newBox(t)
	root := filepath.Dir(b.repo)
	must(t, os.MkdirAll(filepath.Join(root, "other"), 0o755))
	b.git("init", "-q", "../other")
	b.git("-C", "../other", "-c", "user.name=p", "-c", "user.email=p@example.com", "commit", "-q", "--allow-empty", "-m", "a secret of another repository")
	secret := strings.TrimSpace(b.git("-C", "../other", "rev-parse", "HEAD"))
	canary := filepath.Join(root, "canary")
	b.write(".git/info/grafts", "")
	r := b.commitsOf("CANARY='" + canary + "'\n" + forge + `
echo ` + root + `/other/.git/objects >.git/objects/info/alternates
echo ` + secret + ` >.git/refs/heads/stolen
ln -s ` + root + `/other/.git/refs/heads/main .git/refs/heads/linked
ln -s ../../config .git/refs/heads/config
echo 'ref: ` + root + `/other/.git/HEAD' >.git/refs/heads/symbolic
echo garbage >.git/refs/heads/garbage
git commit -q --allow-empty -m fine`)
	r.exits(0)
	refs := b.agentRefs()
	for _, name := range []string{"stolen", "linked", "config", "symbolic", "garbage"} {
		if id, ok := refs["heads/"+name]; ok {
			t.Errorf("%s arrived as %s", name, id)
		}
	}
	if len(refs) == 0 {
		t.Errorf("nothing arrived\n%s", r.err)
	}
	for _, command := range [][]string{{"status"}, {"log", "--all", "--oneline"}, {"diff"}, {"checkout", "-q", "-b", "x"}} {
		b.git(command...)
	}
	if _, err := os.Stat(canary); err == nil {
		t.Error("something planted was run on the host")
	}
}

// What a run committed is shown, and put onto the person's branch when they say so, by hand or by the flag.
func TestCommitsAreApplied(t *testing.T) {
	b := newBox(t)
	b.commitsOf(`echo work >work.txt; git add work.txt; git commit -qm 'the work'; printf '#!/bin/sh\n' >build.sh; chmod +x build.sh; git add build.sh; git commit -qm 'a script'`).exits(0)
	id := b.latest()
	before := b.git("rev-parse", "HEAD")
	b.alone("apply", id, "--commits").exits(1).says("no terminal", "--yes")
	b.alone("apply", id, "--commits", "--yes").exits(1).says("--will-execute")
	if b.git("rev-parse", "HEAD") != before {
		t.Error("it moved without a yes")
	}
	r := b.alone("apply", "--commits", "--yes", "--will-execute").exits(0).says("main is now at")
	for _, text := range []string{"2 commits on main", "the work", "An Agent <agent@example.com> · not signed", "build.sh  a build tool runs it"} {
		if !strings.Contains(r.out, text) {
			t.Errorf("it does not show %q:\n%s", text, r.out)
		}
	}
	if b.read("work.txt") != "work\n" || b.git("status", "--porcelain") != "" || b.git("log", "-1", "--format=%s") != "a script\n" {
		t.Errorf("the branch is not there: %s", b.git("log", "--oneline"))
	}
	b.alone("apply", id, "--commits").exits(0).says("no commit that is not on your branch")
	b.alone("discard", id, "--yes").exits(0)
	if refs := b.agentRefs(); len(refs) > 0 {
		t.Errorf("refs after discarding: %v", refs)
	}
}

// Where the person has gone on meanwhile, copies are made; what is not committed stays.
func TestCommitsArePicked(t *testing.T) {
	b := newBox(t)
	b.commitsOf(`echo work >work.txt; git add work.txt; git commit -qm 'the work'`).exits(0)
	b.write("mine.txt", "mine\n")
	b.git("add", "mine.txt")
	b.git("commit", "-qm", "mine")
	b.write("README.md", "not committed\n")
	b.alone("apply", "--commits", "--yes").exits(0)
	if got := b.git("log", "--format=%s"); got != "the work\nmine\nstart\n" || b.read("work.txt") != "work\n" || b.read("README.md") != "not committed\n" {
		t.Errorf("%s", got)
	}
}

// In the direct mode what would execute later is listed, and put back.
func TestDirectModeTellsWhatExecutes(t *testing.T) {
	b := newBox(t)
	b.write("Makefile", "all:\n")
	b.write("notes.txt", "a\n")
	r := b.agentbox("run", "shell", "--workspace", "direct", "--", "sh", "-c", `printf 'all:\n\tevil\n' >Makefile; mkdir .vscode; echo '{}' >.vscode/tasks.json; echo b >notes.txt`)
	r.exits(0).says("changed Makefile: ", "made .vscode/tasks.json: ", "agentbox undo")
	if strings.Contains(r.err, "notes.txt") {
		t.Errorf("it tells of what does not execute:\n%s", r.err)
	}
	e := ofKind(b.events(), event.LaterChanged)
	if len(e) != 2 || e[0].Path != ".vscode/tasks.json" || e[1].Path != "Makefile" || e[1].Reason == "" {
		t.Errorf("events %+v", e)
	}
	b.alone("undo", b.latest()).exits(0)
	if b.read("Makefile") != "all:\n" || b.read("notes.txt") != "b\n" {
		t.Errorf("after it: %q %q", b.read("Makefile"), b.read("notes.txt"))
	}
	if _, err := os.Stat(filepath.Join(b.repo, ".vscode/tasks.json")); err == nil {
		t.Error("what was made is still there")
	}
}

// Each of the real agents commits with its shell tool, and the commit arrives.
func TestRealAgentsCommit(t *testing.T) {
	for _, a := range realAgents() {
		t.Run(a.Profile, func(t *testing.T) {
			b := newBox(t)
			b.agentsPath()
			b.model(modelserver.Config{Task: modelserver.Task{File: "hello.txt", Content: "hello from the model\n", Final: "The task is complete.",
				Command: "git add hello.txt && git -c commit.verbose=false commit -q -m 'work of the agent'"}}) // as agents write it
			b.keyOf(a)
			r := b.agentbox(append([]string{"run", a.Profile, "--workspace", "review", "--"}, a.Task...)...).exits(0)
			id := b.agentRefs()["heads/main"]
			if id == "" {
				t.Fatalf("nothing arrived\n%s", r.err)
			}
			if got := b.git("show", "--format=%s %an", id); !strings.HasPrefix(got, "work of the agent A Person\n") || !strings.Contains(got, "+hello from the model") {
				t.Errorf("it is %s", got)
			}
			if _, err := os.Stat(filepath.Join(b.repo, "hello.txt")); err == nil {
				t.Error("the host's tree has changed")
			}
			b.alone("apply", "--commits", "--yes").exits(0)
			if got := b.read("hello.txt"); got != "hello from the model\n" {
				t.Errorf("applied: %q", got)
			}
		})
	}
}
