//go:build linux

package workspace

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// place is what git's ways of laying out a repository are tried in: a directory with one plain repository, main.
type place struct {
	t    *testing.T
	dir  string
	main Repo
}

func newPlace(t *testing.T) place {
	t.Helper()
	main := newRepo(t)
	return place{t, filepath.Dir(main.Root), main}
}

func (p place) at(name string) string { return filepath.Join(p.dir, name) }

func (p place) git(args ...string) { p.t.Helper(); git(p.t, p.main.Root, args...) }

func (p place) submodule() string {
	p.t.Helper()
	p.git("clone", "-q", ".", p.at("other"))
	p.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", p.at("other"), "sub")
	p.git("commit", "-qm", "with a submodule")
	return filepath.Join(p.main.Root, "sub")
}

// layouts give the directory to stand in.
var layouts = map[string]func(p place) string{
	"a linked worktree": func(p place) string {
		p.git("worktree", "add", "-q", "../tree")
		return p.at("tree")
	},
	"a linked worktree below the main one": func(p place) string {
		p.git("worktree", "add", "-q", "work/tree")
		return filepath.Join(p.main.Root, "work/tree")
	},
	"a directory of a linked worktree": func(p place) string {
		write(p.t, filepath.Join(p.main.Root, "x/y"), "y\n")
		p.git("add", ".")
		p.git("commit", "-qm", "more")
		p.git("worktree", "add", "-q", "../tree")
		return p.at("tree/x")
	},
	"a linked worktree with a configuration of its own": func(p place) string {
		p.git("worktree", "add", "-q", "../tree")
		p.git("config", "extensions.worktreeConfig", "true")
		p.git("-C", p.at("tree"), "config", "--worktree", "core.fsmonitor", "touch "+p.at("canary"))
		return p.at("tree")
	},
	"a worktree of a bare repository": func(p place) string {
		p.git("clone", "-q", "--bare", ".", "../.bare")
		p.git("--git-dir", p.at(".bare"), "worktree", "add", "-q", p.at("tree"))
		return p.at("tree")
	},
	"a submodule": place.submodule,
	"a worktree of a submodule": func(p place) string {
		sub := p.submodule()
		git(p.t, sub, "worktree", "add", "-q", p.at("tree"))
		return p.at("tree")
	},
	"one whose git directory is elsewhere and says so": func(p place) string {
		p.git("clone", "-q", "--separate-git-dir", "../apart.git", ".", "../apart")
		git(p.t, p.at("apart"), "config", "core.worktree", p.at("apart"))
		return p.at("apart")
	},
	"a sparse one": func(p place) string {
		write(p.t, filepath.Join(p.main.Root, "kept/a"), "a\n")
		write(p.t, filepath.Join(p.main.Root, "left/b"), "b\n")
		p.git("add", ".")
		p.git("commit", "-qm", "more")
		p.git("sparse-checkout", "set", "kept")
		return p.main.Root
	},
	"a shallow one": func(p place) string {
		p.git("commit", "-q", "--allow-empty", "-m", "two")
		p.git("clone", "-q", "--depth=1", "file://"+p.main.Root, "../shallow")
		return p.at("shallow")
	},
	"a partial one": func(p place) string {
		p.git("config", "uploadpack.allowFilter", "true")
		p.git("clone", "-q", "--filter=blob:none", "file://"+p.main.Root, "../partial")
		return p.at("partial")
	},
	"one that borrows from what is shown": func(p place) string {
		p.git("clone", "-q", "--bare", ".", "lender.git")
		p.git("clone", "-q", "--shared", "lender.git", "inner")
		if err := os.Rename(filepath.Join(p.main.Root, "lender.git"), filepath.Join(p.main.Root, "inner/.git/lender.git")); err != nil {
			p.t.Fatal(err)
		}
		write(p.t, filepath.Join(p.main.Root, "inner/.git/objects/info/alternates"), "../lender.git/objects\n")
		return filepath.Join(p.main.Root, "inner")
	},
}

// In every layout git inside sees what git outside sees, can commit in the direct mode so that the host has the commit, and
// can change nothing of what the host's git obeys.
func TestEveryLayoutWorks(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			dir := layout(newPlace(t))
			repo := find(t, dir)
			before := git(t, dir, "log", "--format=%H")
			script := fmt.Sprintf("cd %q && git status --short && git log --format=%%H", dir)
			out, err := enter(t, show(t, repo, ReadOnly), script)
			if err != nil || out != before {
				t.Errorf("read-only: %v\n%s\nwant\n%s", err, out, before)
			}
			out, err = enter(t, show(t, repo, Direct), fmt.Sprintf("cd %q && echo work >work && git add work && git commit -qm work && git log --format=%%H", dir))
			if after := git(t, dir, "log", "--format=%H"); err != nil || out != after || len(after) == len(before) {
				t.Errorf("direct: %v\n%s\nand on the host\n%s", err, out, after)
			}
			obeyed(t, repo)
			git(t, dir, "fsck", "--no-dangling")
			git(t, dir, "status")
		})
	}
}

// obeyed tries to change what the host's git obeys.
func obeyed(t *testing.T, repo Repo) {
	t.Helper()
	paths := []string{repo.Common + "/config", repo.Common + "/hooks/pre-commit", repo.Common + "/commondir", repo.Common + "/config.worktree"}
	if repo.Outside() != "" {
		paths = append(paths, repo.Root+"/.git")
	}
	if repo.Git != repo.Common {
		paths = append(paths, repo.Git+"/gitdir", repo.Git+"/commondir", repo.Git+"/config.worktree", repo.Common+"/worktrees/new")
	}
	for _, mode := range []Mode{Direct, ReadOnly} {
		script := ""
		for _, path := range paths {
			script += fmt.Sprintf("{ echo x >>%[1]q || mv %[1]q %[1]q.away || rm %[1]q; } 2>/dev/null && echo %[1]q\n", path)
		}
		if out, _ := enter(t, show(t, repo, mode), script); out != "" {
			t.Errorf("%s: these can be changed:\n%s", mode, out)
		}
	}
	if _, err := os.Lstat(filepath.Join(filepath.Dir(repo.Root), "canary")); err == nil {
		t.Error("a program of the worktree's configuration ran")
	}
}

func TestTheConfigurationOfAWorktreeIsFiltered(t *testing.T) {
	p := newPlace(t)
	dir := layouts["a linked worktree with a configuration of its own"](p)
	p.git("-C", dir, "config", "--worktree", "http.extraheader", "Authorization: token-of-mine")
	p.git("config", "remote.origin.url", "https://me:token-of-mine@example.com/x")
	for _, mode := range []Mode{Direct, ReadOnly} {
		out, _ := enter(t, show(t, find(t, dir), mode), fmt.Sprintf("grep -r token-of-mine %q %q; git config --list", p.main.Git, dir))
		if strings.Contains(out, "token-of-mine") || strings.Contains(out, "fsmonitor") {
			t.Errorf("%s: %s", mode, out)
		}
	}
}

// Another worktree's index and HEAD are not this one's to write.
func TestTheOtherWorktreesAreReadOnly(t *testing.T) {
	p := newPlace(t)
	p.git("worktree", "add", "-q", "../tree")
	p.git("worktree", "add", "-q", "../other")
	head := filepath.Join(p.main.Git, "worktrees/other/HEAD")
	before := read(t, head)
	if out, err := enter(t, show(t, find(t, p.at("tree")), Direct), fmt.Sprintf("echo x >%q", head)); err == nil || read(t, head) != before {
		t.Errorf("the other worktree's HEAD was written: %s", out)
	}
}

func TestABareRepositoryWorks(t *testing.T) {
	p := newPlace(t)
	p.git("clone", "-q", "--bare", ".", "../bare.git")
	repo := find(t, p.at("bare.git/refs"))
	if repo.Root != p.at("bare.git") || !repo.Bare() {
		t.Fatalf("%+v", repo)
	}
	out, err := enter(t, show(t, repo, ReadOnly), "git log --oneline && git rev-parse --is-bare-repository && ! git branch x")
	if err != nil || !strings.Contains(out, "first\ntrue\n") {
		t.Errorf("read-only: %v %s", err, out)
	}
	if out, err := enter(t, show(t, repo, Direct), "git branch made && git worktree list && ! touch hooks/x && ! git config a.b c && ! mv config c"); err != nil {
		t.Errorf("direct: %v %s", err, out)
	}
	git(t, repo.Root, "rev-parse", "--verify", "made")
	git(t, repo.Root, "worktree", "add", "-q", "../tree", "made") // with what was left in it, it is a bare one still
	find(t, p.at("tree"))
}

// trap is a repository whose directory leads to the person's, a victim.
type trap struct {
	place
	victim Repo
	evil   string
}

// plant writes a file of the trap.
func (p trap) plant(name, text string) { write(p.t, filepath.Join(p.evil, name), text) }

// fake makes a git directory in the trap.
func (p trap) fake(name, config string) string {
	p.t.Helper()
	git(p.t, p.evil, "init", "-q", "--bare", name)
	p.plant(filepath.Join(name, "config"), "[core]\n\trepositoryformatversion = 0\n"+config)
	return filepath.Join(p.evil, name)
}

func (p trap) link(target, name string) {
	p.t.Helper()
	path := filepath.Join(p.evil, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		p.t.Fatal(err)
	}
}

// traps lay what an archive or an earlier run can have laid, all of it in the directory evil. Each ends in a repository evil/r.
var traps = map[string]func(p trap){
	"another repository": func(p trap) { p.plant("r/.git", "gitdir: "+p.victim.Git+"\n") },
	"another one by dots": func(p trap) {
		p.plant("r/.git", "gitdir: ../../re po/.git\n")
	},
	"a worktree of another repository": func(p trap) {
		git(p.t, p.victim.Root, "worktree", "add", "-q", "../hers")
		p.plant("r/.git", "gitdir: "+p.victim.Git+"/worktrees/hers\n")
	},
	"a submodule of another repository": func(p trap) {
		p.submodule()
		p.plant("r/.git", "gitdir: "+p.victim.Git+"/modules/sub\n")
	},
	"keys": func(p trap) { p.plant("r/.git", "gitdir: "+p.at("home/.ssh")+"\n") },
	"a private directory that shares another repository": func(p trap) {
		own := p.fake("g/worktrees/x", "")
		p.plant("g/worktrees/x/commondir", p.victim.Git+"\n")
		p.plant("g/worktrees/x/gitdir", filepath.Join(p.evil, "r/.git")+"\n")
		p.plant("r/.git", "gitdir: "+own+"\n")
	},
	"a chain of shared directories": func(p trap) {
		own := p.fake("g/worktrees/x", "")
		p.plant("g/worktrees/x/commondir", "../..\n")
		p.plant("g/worktrees/x/gitdir", filepath.Join(p.evil, "r/.git")+"\n")
		p.fake("g", "")
		p.plant("g/commondir", p.victim.Git+"\n")
		p.plant("r/.git", "gitdir: "+own+"\n")
	},
	"a git directory that shares another one": func(p trap) {
		p.fake("g", "\tworktree = "+filepath.Join(p.evil, "r")+"\n")
		p.plant("g/commondir", p.victim.Git+"\n")
		p.plant("r/.git", "gitdir: ../g\n")
	},
	"a way through a link": func(p trap) {
		p.link(p.victim.Root, "way")
		p.plant("r/.git", "gitdir: "+filepath.Join(p.evil, "way/.git")+"\n")
	},
	"dots behind a link": func(p trap) {
		p.link(filepath.Join(p.victim.Git, "objects"), "way")
		p.fake("HEAD.git", "")
		p.plant("r/.git", "gitdir: ../way/..\n")
	},
	"a worktree that names a link to here": func(p trap) {
		git(p.t, p.victim.Root, "worktree", "add", "-q", "../hers")
		if err := os.Rename(p.at("hers"), p.at("moved")); err != nil {
			p.t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(p.evil, "r"), p.at("hers")); err != nil {
			p.t.Fatal(err)
		}
		p.plant("r/.git", "gitdir: "+p.victim.Git+"/worktrees/hers\n")
	},
	"a record that is a link": func(p trap) {
		git(p.t, p.victim.Root, "worktree", "add", "-q", "../hers")
		record := filepath.Join(p.victim.Git, "worktrees/hers/gitdir")
		if err := os.Remove(record); err != nil {
			p.t.Fatal(err)
		}
		p.plant("record", filepath.Join(p.evil, "r/.git")+"\n")
		if err := os.Symlink(filepath.Join(p.evil, "record"), record); err != nil {
			p.t.Fatal(err)
		}
		p.plant("r/.git", "gitdir: "+p.victim.Git+"/worktrees/hers\n")
	},
	"objects of another repository": func(p trap) {
		git(p.t, p.evil, "init", "-q", "r")
		p.plant("r/.git/objects/info/alternates", p.victim.Git+"/objects\n/etc\n../../../../re po/.git/objects\n")
	},
	"a configuration of the person's": func(p trap) {
		git(p.t, p.evil, "init", "-q", "r")
		git(p.t, filepath.Join(p.evil, "r"), "config", "include.path", p.at("home/.ssh/id"))
	},
}

// Whatever a directory says that somebody else laid: it is refused, or nothing outside of it is shown.
func TestNothingOutsideIsShownOnARepositorysWord(t *testing.T) {
	for name, lay := range traps {
		t.Run(name, func(t *testing.T) {
			p := trap{place: newPlace(t)}
			p.victim, p.evil = p.main, p.at("evil")
			write(t, p.at("home/.ssh/id"), "[user]\n\tname = the key\n")
			if err := os.Mkdir(p.evil, 0o755); err != nil {
				t.Fatal(err)
			}
			lay(p)
			repo, err := Find(filepath.Join(p.evil, "r"), Person{UID: os.Getuid(), Home: p.at("home")})
			if err != nil {
				if Hint(err) == "" {
					t.Errorf("no hint: %v", err)
				}
				return
			}
			s, err := Look(repo, nil)
			if err != nil {
				t.Fatal(err)
			}
			scratch := realTemp(t)
			for _, mode := range []Mode{Direct, ReadOnly} {
				mounts, _, err := Mounts(repo, mode, s, nil, scratch)
				if err != nil {
					if Hint(err) == "" {
						t.Errorf("no hint: %v", err)
					}
					continue
				}
				for _, m := range mounts {
					if real := resolved(m.Source); !within(real, p.evil) && !within(real, scratch) {
						t.Errorf("%s: %s is shown", mode, m.Source)
					}
				}
			}
		})
	}
}

// A repository whose records a stranger could have written is not believed.
func TestAGitDirectoryOfSomebodyElseIsRefused(t *testing.T) {
	p := newPlace(t)
	p.git("worktree", "add", "-q", "../tree")
	_, err := Find(p.at("tree"), Person{UID: os.Getuid(), Home: "/nonexistent", OtherHomes: []string{p.main.Root}})
	if err == nil || !strings.Contains(err.Error(), "another user's home") {
		t.Errorf("got %v", err)
	}
	_, err = Find(p.at("tree"), Person{UID: os.Getuid(), Home: "/nonexistent", Own: []string{p.main.Root}})
	if err == nil || !strings.Contains(err.Error(), "agentbox's own directory") {
		t.Errorf("got %v", err)
	}
}

func TestBorrowedObjectsAreNamed(t *testing.T) {
	p := newPlace(t)
	p.git("clone", "-q", "--shared", ".", "../borrower")
	repo := find(t, p.at("borrower"))
	s, err := Look(repo, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, warnings, err := Mounts(repo, ReadOnly, s, nil, realTemp(t))
	want := filepath.Join(p.main.Git, "objects")
	if err != nil || !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, want) && strings.Contains(w, "[[mount]]") }) {
		t.Errorf("%v: %q", err, warnings)
	}
}

// What makes another directory a worktree of this repository is told of: a run there would be shown the git directory.
func TestANewWorktreeIsTold(t *testing.T) {
	repo := newRepo(t)
	before, err := Remember(repo, Survey{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(repo.Git, "worktrees/x/gitdir"), "/somewhere/.git\n")
	found, err := Planted(repo, before)
	if err != nil || !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, "makes /somewhere/.git a worktree") }) {
		t.Errorf("%v: %q", err, found)
	}
}
