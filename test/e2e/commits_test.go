package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agentbox/internal/event"
)

// committing is a shell script's beginning: an agent's identity.
const committing = `set -e
export GIT_AUTHOR_NAME='An Agent' GIT_AUTHOR_EMAIL=agent@example.com GIT_COMMITTER_NAME='An Agent' GIT_COMMITTER_EMAIL=agent@example.com
`

// agentRefs are the refs below refs/agentbox, without the run's name, and what they name.
func (b *box) agentRefs() map[string]string {
	b.t.Helper()
	refs := map[string]string{}
	for line := range strings.Lines(b.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/agentbox")) {
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
