package e2e

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// kind is a kind of repository: how the box's own is made one, and what is to be said of it. Where nothing refuses it, git
// works in it.
type kind struct {
	name  string
	make  func(b *box)
	dir   string   // where the person stands, below the repository
	shows string   // what of the directory around the repository is there, as a pattern of the shell; "" is the repository
	at    string   // the branch, "" is main
	says  []string // that it is refused, and what to do instead; or what is warned of
	exits int
}

// kinds are those that git knows.
func kinds() []kind {
	return []kind{
		{name: "a linked work tree", dir: "../tree", shows: "*/repo|*/tree", at: "tree",
			make: func(b *box) { b.git("worktree", "add", "-q", "../tree") }},
		{name: "the main work tree of others", make: func(b *box) { b.git("worktree", "add", "-q", "../tree") }},
		{name: "a submodule", dir: "sub", make: submodule},
		{name: "one with a submodule", make: submodule, says: []string{"submodules are read-only"}},
		{name: "one that borrows objects", make: func(b *box) {
			b.git("clone", "-q", "--bare", ".", "../lender.git")
			b.write(".git/objects/info/alternates", filepath.Join(filepath.Dir(b.repo), "lender.git/objects")+"\n")
		}, says: []string{"borrows objects from", "lender.git/objects", "[[mount]]"}},
		{name: "a sparse one", make: func(b *box) {
			b.write("kept/a", "a\n")
			b.write("left/b", "b\n")
			b.git("add", "-A")
			b.git("commit", "-qm", "more")
			b.git("sparse-checkout", "set", "kept")
		}},
		{name: "a directory of a large one", dir: "services/billing", make: func(b *box) {
			b.write("services/billing/a", "a\n")
			b.git("add", "-A")
			b.git("commit", "-qm", "more")
		}},
		{name: "a bare one", dir: "../bare.git", shows: "*/bare.git", make: func(b *box) {
			b.git("clone", "-q", "--bare", ".", "../bare.git")
			b.named("../bare.git")
		}},
		{name: "one whose git directory is elsewhere", dir: "../apart", exits: 126, says: []string{"does not say that this is its work tree", "git config core.worktree"},
			make: func(b *box) { b.git("init", "-q", "--separate-git-dir", "../apart.git", "../apart") }},
		{name: "one whose git file leads to the person's files", dir: "../lies", exits: 126, says: []string{"which is not a git directory"}, make: func(b *box) {
			b.write("../lies/.git", "gitdir: "+filepath.Join(filepath.Dir(b.repo), "config")+"\n")
		}},
		{name: "one of SHA-256", make: func(b *box) {
			must(b.t, os.RemoveAll(filepath.Join(b.repo, ".git")))
			b.git("init", "-q", "-b", "main", "--object-format=sha256", ".")
			b.git("config", "user.name", "A Person")
			b.git("config", "user.email", "person@example.com")
			b.git("add", "-A")
			b.git("commit", "-qm", "start")
		}},
		{name: "a shallow one", make: func(b *box) {
			b.git("commit", "-q", "--allow-empty", "-m", "two")
			b.git("clone", "-q", "--bare", ".", "../full.git")
			must(b.t, os.RemoveAll(filepath.Join(b.repo, ".git")))
			b.git("clone", "-q", "--depth=1", "--no-checkout", "file://"+filepath.Join(filepath.Dir(b.repo), "full.git"), "../shallow")
			must(b.t, os.Rename(filepath.Join(filepath.Dir(b.repo), "shallow/.git"), filepath.Join(b.repo, ".git")))
			b.git("config", "user.name", "A Person")
			b.git("config", "user.email", "person@example.com")
			b.git("reset", "-q")
		}},
		{name: "one before its first commit", make: func(b *box) {
			must(b.t, os.RemoveAll(filepath.Join(b.repo, ".git")))
			b.git("init", "-q", "-b", "main", ".")
			b.git("config", "user.name", "A Person")
			b.git("config", "user.email", "person@example.com")
		}},
	}
}

func submodule(b *box) {
	b.git("init", "-q", "-b", "main", "../other")
	b.git("-C", "../other", "-c", "user.name=p", "-c", "user.email=p@example.com", "commit", "-q", "--allow-empty", "-m", "x")
	b.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", filepath.Join(filepath.Dir(b.repo), "other"), "sub")
	b.git("commit", "-qm", "with a submodule")
	b.named("sub")
}

// named gives a repository the person's name.
func (b *box) named(dir string) {
	b.git("-C", dir, "config", "user.name", "A Person")
	b.git("-C", dir, "config", "user.email", "person@example.com")
}

// Every kind of repository works, in the review mode and in the direct one, or is refused with what to do instead. What lies
// outside is never there inside, whatever the repository says.
func TestEveryKindOfRepository(t *testing.T) {
	for _, mode := range []string{"review", "direct"} {
		for _, k := range kinds() {
			t.Run(mode+", "+k.name, func(t *testing.T) {
				b := newBox(t)
				k.make(b)
				root := filepath.Dir(b.repo)
				b.write("../outside/secret", "secret\n")
				dir := filepath.Join(b.repo, k.dir)
				cmd := b.command("run", "shell", "--workspace", mode, "--", "sh", "-c", fmt.Sprintf(`set -e
for f in %[1]s/*; do case "$f" in %[2]s|%[1]s/'*') ;; *) echo "seen $f" ;; esac; done
if [ "$(git rev-parse --is-bare-repository)" = true ]; then
  git update-ref refs/heads/main "$(git commit-tree -p HEAD -m 'the work' 'HEAD^{tree}')"
else
  git status --short >/dev/null
  echo work >work.txt; git add work.txt; git commit -qm 'the work'
fi
git fsck --no-progress --no-dangling 2>&1 | grep -v -e '^notice: HEAD' -e 'unable to normalize alternate' || true; git rev-parse HEAD`, root, cmp.Or(k.shows, "*/repo")))
				cmd.Dir = dir
				r := finish(t, cmd).exits(k.exits).says(k.says...)
				if k.exits != 0 {
					if strings.Count(r.err, "\n") != 2 || !strings.Contains(r.err, "hint: ") {
						t.Errorf("it is not refused with one sentence and a hint:\n%s", r.err)
					}
					return
				}
				lines := strings.Split(strings.TrimSpace(r.out), "\n")
				if len(lines) != 1 {
					t.Errorf("inside: %s", r.out)
				}
				var got string
				if mode == "review" {
					got = b.agentRefsIn(dir)["heads/"+cmp.Or(k.at, "main")]
				} else {
					got = strings.TrimSpace(b.git("-C", dir, "rev-parse", "HEAD"))
				}
				if id := lines[len(lines)-1]; got != id {
					t.Errorf("%s was committed, and here is %q\n%s", id, got, r.err)
				}
			})
		}
	}
}

// bury is what an agent leaves in a work tree that git could take for a repository of its own, or obey; %[1]s is the program.
const bury = `
p='%[1]s'
repo() { mkdir -p "$1/objects" "$1/refs/heads" && echo 'ref: refs/heads/main' >"$1/HEAD" &&
  printf "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = ..\n\tfsmonitor = $p\n\tpager = $p\n[alias]\n\tx = !$p\n\tst = !$p\n[diff]\n\texternal = $p\n[diff \"evil\"]\n\ttextconv = $p\n\tcommand = $p\n" >"$1/config" &&
  printf "[core]\n\tsshCommand = $p\n\teditor = $p\n\taskPass = $p\n\thooksPath = hooks\n[sequence]\n\teditor = $p\n[credential]\n\thelper = !$p\n[merge \"evil\"]\n\tdriver = $p\n[filter \"evil\"]\n\tclean = $p\n\tsmudge = $p\n\tprocess = $p\n[gpg]\n\tprogram = $p\n[submodule \"e\"]\n\turl = .\n\tupdate = !$p\n" >>"$1/config" &&
  mkdir -p "$1/hooks" && printf "#!/bin/sh\n$p\n" >"$1/hooks/post-checkout" && chmod +x "$1/hooks/post-checkout" && : >"$1/index.x"; }
repo nested/.git; echo x >nested/file
repo odd/.GIT; repo 'odd2/git~1'; repo "odd3/$(printf '.g\342\200\214it')"; repo 'odd4/.git '; repo 'odd5/.git.'
mkdir -p docs; repo docs; echo y >docs/file
mkdir -p filed; echo "gitdir: ../docs" >filed/.git
printf '[submodule "e"]\n\tpath = e\n\turl = ext::sh -c %%s\n\tupdate = !%%s\n' "$p" "$p" >.gitmodules
printf '* filter=evil diff=evil merge=evil\n' >.gitattributes
`

// prompt is what a shell's prompt, an editor and a person ask of git in a directory.
var promptCalls = [][]string{
	{"status", "--porcelain=v2", "--branch"}, {"rev-parse", "--git-dir", "--is-inside-work-tree"}, {"describe", "--all", "--always"}, {"stash", "list"},
	{"status"}, {"diff"}, {"diff", "--cached"}, {"log", "-p", "-2"}, {"branch", "-vv"}, {"submodule", "status"},
}

// What an agent planted in its copy does not come along into the person's repository, neither with all its changes nor with
// its commits: whatever the person's git is asked then, in every directory, runs nothing.
func TestNothingPlantedComesWithAnApply(t *testing.T) {
	for _, take := range [][]string{{"apply", "--all"}, {"apply", "--commits", "--yes", "--will-execute", "--", "main"}} {
		b := newBox(t)
		b.write("fixture/HEAD", "ref: refs/heads/main\n") // what is missing to make it a repository, the agent adds
		b.git("add", "fixture")
		b.git("commit", "-qm", "fixture")
		canary := filepath.Join(filepath.Dir(b.repo), "canary")
		script := fmt.Sprintf(plant, "touch "+canary) + "\n" + fmt.Sprintf(bury, "touch "+canary)
		if take[1] == "--commits" { // which would not come in with this
			script = strings.ReplaceAll(script, "update = !", "branch = ")
		}
		script += "\nrepo fixture\n"
		b.review(script + "\ngit add README.md nested odd .gitattributes >/dev/null 2>&1; git commit -qm more >/dev/null 2>&1; git checkout -q -b buried; git add docs; git commit -qm buried; exit 0").exits(0)
		if take[1] != "--commits" {
			b.gitRunsNothing(canary)
			b.alone("apply", "--commits", "--yes", "--will-execute", "--", "main").exits(1).says("git refuses what was committed", "submodule update")
			refs := b.agentRefs()
			if delete(refs, "heads/other"); len(refs) > 0 { // that one is the person's own, made since
				t.Errorf("refs %v", refs)
			}
		} else if r := b.alone("apply", "--commits", "--yes", "--", "buried").exits(1).says("--will-execute"); !strings.Contains(r.out, "docs/HEAD") {
			// What is a repository by its content alone can't be told from a person's fixture: it is named, and needs its own yes.
			t.Errorf("the repository in docs is not named:\n%s", r.out)
		}
		r := b.alone(take...)
		if r.code != 0 || !strings.Contains(r.err, "applied") && !strings.Contains(r.err, "is now at") {
			t.Errorf("%s: %d\n%s", strings.Join(take, " "), r.code, r.err)
		}
		for _, name := range []string{"nested/.git", "filed/.git", "docs/HEAD", "fixture/config", "odd/.GIT", "odd2/git~1", "odd4/.git ", "odd5/.git."} {
			if _, err := os.Lstat(filepath.Join(b.repo, name)); err == nil {
				t.Errorf("%s has come along", name)
			}
		}
		b.gitRunsNothing(canary)
		if take[1] == "--commits" {
			b.git("checkout", "-q", "--detach", b.agentRefs()["heads/main"])
		} else {
			b.alone("apply", "--will-execute", ".gitattributes", ".gitmodules", "evilhooks", "evilgit", "nested", "filed", "odd") // but for the repositories
			if b.gitRunsNothing(canary); !strings.Contains(b.read(".gitmodules"), canary) {
				t.Error("what executes did not come with a yes")
			}
			b.alone("undo").says("restored")
		}
		b.gitRunsNothing(canary)
	}
}

// gitRunsNothing has the host's git do everything, in every directory, and looks for the canary.
func (b *box) gitRunsNothing(canary string) {
	b.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(b.repo, "*/"))
	must(b.t, err)
	for _, dir := range append(dirs, b.repo) {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		for _, args := range promptCalls {
			cmd := exec.Command("git", args...)
			cmd.Dir, cmd.Env = dir, append(slices.Clone(b.env), "GIT_CONFIG_NOSYSTEM=1", "GIT_PAGER=cat")
			_ = cmd.Run() // that nothing ran is what counts
			if _, err := os.Lstat(canary); err == nil {
				b.t.Fatalf("git %v in %s ran what the agent planted", args, dir)
			}
		}
	}
	b.write("README.md", "# the host's "+b.t.Name()+"\n")
	for _, args := range [][]string{{"add", "README.md"}, {"commit", "-q", "-m", "host"}, {"checkout", "-q", "-B", "other"}, {"checkout", "-q", "main"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir, cmd.Env = b.repo, append(slices.Clone(b.env), "GIT_CONFIG_NOSYSTEM=1")
		_ = cmd.Run()
		if _, err := os.Lstat(canary); err == nil {
			b.t.Fatalf("git %v ran what the agent planted", args)
		}
	}
}
