//go:build linux

package workspace

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// attacks are scripts that an agent runs in the repository. $EVIL is a program that leaves a mark; each attack tries
// to make the host's git run it.
var attacks = map[string]string{
	"write a hook":              `printf '#!/bin/sh\n%s\n' "$EVIL" >.git/hooks/pre-commit; chmod +x .git/hooks/pre-commit`,
	"replace the hooks":         `rm -rf .git/hooks; mv .git/hooks .git/h; mkdir .git/hooks; cp "$EVIL" .git/hooks/pre-commit; cp "$EVIL" .git/hooks/post-checkout`,
	"link a hook":               `ln -s "$EVIL" .git/hooks/pre-commit`,
	"git config":                `git config core.fsmonitor "$EVIL"`,
	"append to config":          `printf '[core]\n\tfsmonitor = %s\n' "$EVIL" >>.git/config`,
	"replace config":            `cp .git/config c; git config -f c core.fsmonitor "$EVIL"; cp c d; mv -f c .git/config; rm -f .git/config; cp d .git/config`,
	"link config":               `cp .git/config c; git config -f c core.fsmonitor "$EVIL"; ln -sf ../c .git/config`,
	"rename .git":               `mv .git g && cp -r g .git && git config -f .git/config core.fsmonitor "$EVIL"`,
	"remove .git":               `rm -rf .git; git init -q; git config core.fsmonitor "$EVIL"; git add .`,
	"commondir":                 `cp -r .git evil; rm -f evil/commondir; cp .git/config evil/c; git config -f evil/c core.fsmonitor "$EVIL"; mv -f evil/c evil/config; echo ../evil >.git/commondir`,
	"replace commondir":         `cp -r .git evil; rm -f evil/commondir; cp .git/config evil/c; git config -f evil/c core.fsmonitor "$EVIL"; mv -f evil/c evil/config; rm -f .git/commondir; echo ../evil >c; mv -f c .git/commondir`,
	"config.worktree":           `git config -f .git/config.worktree core.fsmonitor "$EVIL"; printf '[core]\n\tfsmonitor = %s\n' "$EVIL" >c; cp c d; mv -f c .git/config.worktree; cat d >.git/config.worktree`,
	"filter without its driver": `echo '* filter=evil' >.gitattributes; git config filter.evil.clean "$EVIL"; git config -f .git/config filter.evil.clean "$EVIL"; touch a`,
	"hooksPath":                 `cp "$EVIL" .githooks/pre-commit; mv .githooks x; mkdir .githooks; cp "$EVIL" .githooks/pre-commit`,
	"deep hooksPath":            `mv tools t; mkdir -p tools/hooks; cp "$EVIL" tools/hooks/pre-commit; mv tools/hooks tools/h; mkdir -p tools/hooks; cp "$EVIL" tools/hooks/post-checkout`,
	"husky":                     `echo "$EVIL" >>.husky/pre-commit; rm -f .husky/pre-commit; cp "$EVIL" .husky/pre-commit`,
	"hook is a link":            `cat "$EVIL" >scripts/check; rm -f scripts/check; cp "$EVIL" scripts/check; mv scripts s; mkdir scripts; cp "$EVIL" scripts/check`,
	"included configuration":    `printf '[core]\n\tfsmonitor = %s\n' "$EVIL" >>.gitconfig; rm -f .gitconfig; printf '[core]\n\tfsmonitor = %s\n' "$EVIL" >.gitconfig`,
	"named program":             `cat "$EVIL" >bin/fsmonitor; rm -f bin/fsmonitor; cp "$EVIL" bin/fsmonitor; mv bin b; mkdir bin; cp "$EVIL" bin/fsmonitor`,
	"submodule configuration":   `git -C sub config core.fsmonitor "$EVIL"; git config -f .git/modules/sub/config core.fsmonitor "$EVIL"`,
	"submodule commondir":       `cp -r .git/modules/sub evil; git config -f evil/config core.fsmonitor "$EVIL"; git config -f evil/config core.worktree "$PWD/sub"; echo "$PWD/evil" >.git/modules/sub/commondir`,
	"replaced submodule":        `rm -f sub/.git; mv sub s; mkdir sub; git init -q sub; git -C sub config core.fsmonitor "$EVIL"; echo x >sub/x; git -C sub add .; git -C sub commit -qm x`,
	"linked worktree": `printf '[core]\n\tfsmonitor = %s\n' "$EVIL" >evil; cp -r .git e; rm -f e/commondir; cp .git/config e/c; git config -f e/c core.fsmonitor "$EVIL"; mv -f e/c e/config
		for w in .git/worktrees/*; do echo "$PWD/e" >$w/commondir; done`,
}

// prepare gives a repository in which the attack of that name has something to attack.
func prepare(t *testing.T, name string) Repo {
	t.Helper()
	repo := newRepo(t)
	root := repo.Root
	program := func(path string) {
		write(t, filepath.Join(root, path), "#!/bin/sh\nexit 0\n")
		if err := os.Chmod(filepath.Join(root, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	switch name {
	case "hooksPath":
		git(t, root, "config", "core.hooksPath", ".githooks")
	case "deep hooksPath":
		program("tools/hooks/pre-push")
		git(t, root, "config", "Core.HooksPath", "./tools/hooks/")
	case "husky":
		program(".husky/pre-commit")
		program(".husky/_/h")
		write(t, filepath.Join(root, ".husky/_/pre-commit"), "#!/bin/sh\nexec sh .husky/pre-commit\n")
		if err := os.Chmod(filepath.Join(root, ".husky/_/pre-commit"), 0o755); err != nil {
			t.Fatal(err)
		}
		git(t, root, "config", "core.hooksPath", ".husky/_")
	case "hook is a link":
		program("scripts/check")
		if err := os.Symlink("../../scripts/check", filepath.Join(repo.Git, "hooks", "pre-commit")); err != nil {
			t.Fatal(err)
		}
	case "included configuration":
		write(t, filepath.Join(root, ".gitconfig"), "[user]\n\tname = x\n")
		git(t, root, "config", "include.path", "../.gitconfig")
	case "named program":
		program("bin/fsmonitor")
		git(t, root, "config", "core.fsmonitor", "bin/fsmonitor")
	case "submodule configuration", "submodule commondir", "replaced submodule":
		other := newRepo(t)
		git(t, root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", other.Root, "sub")
		git(t, root, "commit", "-qm", "sub")
	case "linked worktree":
		git(t, root, "worktree", "add", "-q", filepath.Join(filepath.Dir(root), "linked"))
	case "config.worktree":
		git(t, root, "config", "extensions.worktreeConfig", "true")
	}
	return repo
}

func TestHostGitRunsNothingThatAnAgentPlanted(t *testing.T) {
	for name, script := range attacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := prepare(t, name)
			dir := realTemp(t)
			canary, evil := filepath.Join(dir, "canary"), filepath.Join(dir, "evil")
			write(t, evil, "#!/bin/sh\ntouch '"+canary+"'\n")
			if err := os.Chmod(evil, 0o755); err != nil {
				t.Fatal(err)
			}
			before := read(t, filepath.Join(repo.Git, "config"))
			out, _ := enter(t, show(t, repo, Direct), "EVIL='"+evil+"'; "+script)
			t.Logf("inside: %s", out)

			if got := read(t, filepath.Join(repo.Git, "config")); got != before {
				t.Errorf("the configuration changed:\n%s", got)
			}
			useGit(t, repo)
			if _, err := os.Lstat(canary); err == nil {
				t.Error("the host's git ran the agent's program")
			}
		})
	}
}

// useGit does on the host what a person does after a run.
func useGit(t *testing.T, repo Repo) {
	t.Helper()
	tryGit(t, repo.Root, "status")
	tryGit(t, repo.Root, "add", "-A")
	tryGit(t, repo.Root, "commit", "--allow-empty", "-m", "x")
	tryGit(t, repo.Root, "checkout", "-b", "other")
	tryGit(t, repo.Root, "diff")
	if linked := filepath.Join(filepath.Dir(repo.Root), "linked"); isDir(linked) {
		tryGit(t, linked, "status")
	}
}

// The canary must be able to sing: without mounts the same scripts succeed.
func TestAttacksWorkWithoutGuards(t *testing.T) {
	for name := range attacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := prepare(t, name)
			dir := realTemp(t)
			canary, evil := filepath.Join(dir, "canary"), filepath.Join(dir, "evil")
			write(t, evil, "#!/bin/sh\ntouch '"+canary+"'\n")
			if err := os.Chmod(evil, 0o755); err != nil {
				t.Fatal(err)
			}
			out, _ := enter(t, []Mount{{Source: repo.Root, Target: repo.Root}}, "EVIL='"+evil+"'; "+attacks[name])
			t.Logf("inside: %s", out)
			useGit(t, repo)
			if _, err := os.Lstat(canary); err != nil {
				t.Error("the attack does not work even without guards: it proves nothing")
			}
		})
	}
}

func TestGitWorksInside(t *testing.T) {
	repo := newRepo(t)
	bare := filepath.Join(repo.Root, "up.git")
	git(t, repo.Root, "clone", "-q", "--bare", repo.Root, bare)
	git(t, repo.Root, "remote", "add", "origin", bare)
	git(t, repo.Root, "fetch", "-q")
	git(t, repo.Root, "branch", "-q", "topic")
	git(t, repo.Root, "push", "-q", "origin", "topic")
	git(t, repo.Root, "branch", "-q", "-D", "topic")
	git(t, repo.Root, "fetch", "-q")
	out, err := enter(t, show(t, repo, Direct), `set -e
		git status; git log --oneline
		echo b >b; git add b; git commit -m second
		git checkout -b topic origin/topic; git checkout main
		git branch side; git checkout side; echo c >c; git add c; git commit -m third
		git checkout main; git merge side
		echo d >>a; git stash; git stash pop; git checkout a
		git rebase HEAD~1; git tag t; git reset --hard HEAD
		git gc; git fsck; git fetch origin; git push origin main
		git worktree list; git reflog; git show --stat; git branch -d side`)
	if err != nil {
		t.Fatalf("git inside: %v: %s", err, out)
	}
	if log := git(t, repo.Root, "log", "--oneline", "main"); strings.Count(log, "\n") != 3 {
		t.Errorf("the host sees other commits than were made: %s", log)
	}
	if left := git(t, repo.Root, "status", "--porcelain"); left != "?? up.git/\n" {
		t.Errorf("git status on the host: %q", left)
	}
	git(t, repo.Root, "fsck", "--strict")
}

func TestGuardedPathsRefuseWritesAndRenames(t *testing.T) {
	repo := newRepo(t)
	mounts := show(t, repo, Direct)
	for _, m := range mounts {
		if m.Target == repo.Root {
			continue
		}
		out, err := enter(t, mounts, "mv '"+m.Target+"' '"+m.Target+".x'")
		if err == nil || !strings.Contains(out, "Device or resource busy") {
			t.Errorf("renaming %s: %v: %s", m.Target, err, out)
		}
		if m.Kind == Tree || m.Kind == Pin {
			continue
		}
		out, err = enter(t, mounts, "echo x >>'"+m.Target+"' || echo x >'"+m.Target+"/x'")
		if err == nil || !strings.Contains(out, "Read-only file system") {
			t.Errorf("writing %s: %v: %s", m.Target, err, out)
		}
	}
}

func TestReadOnlyModeChangesNothing(t *testing.T) {
	repo := newRepo(t)
	if err := os.RemoveAll(filepath.Join(repo.Git, "hooks")); err != nil {
		t.Fatal(err)
	}
	before := git(t, repo.Root, "rev-parse", "HEAD")
	out, err := enter(t, show(t, repo, ReadOnly), `git log --oneline; git status; echo x >x; echo x >>a; rm a; git commit --allow-empty -m x; mkdir .git/hooks; ls`)
	t.Logf("inside: %v: %s", err, out)
	if !strings.Contains(out, "nothing to commit, working tree clean") {
		t.Error("git status does not work inside")
	}
	if got := read(t, filepath.Join(repo.Root, "a")); got != "a\n" {
		t.Errorf("a file changed: %q", got)
	}
	if got := git(t, repo.Root, "rev-parse", "HEAD"); got != before {
		t.Error("a commit was made")
	}
	for _, name := range []string{"x", ".git/hooks", ".git/commondir", ".git/config.worktree"} {
		if _, err := os.Lstat(filepath.Join(repo.Root, name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
}

func TestTokensAreNotReadable(t *testing.T) {
	repo := newRepo(t)
	const token = "s3cr3tt0ken"
	root := repo.Root
	git(t, root, "remote", "add", "origin", "https://x-access-token:"+token+"@github.com/acme/billing.git")
	git(t, root, "config", "remote.origin.pushurl", "https://"+token+"@github.com/acme/billing.git")
	git(t, root, "config", "http.https://github.com/.extraheader", "AUTHORIZATION: basic "+token)
	git(t, root, "config", "url.https://u:"+token+"@github.com/.insteadOf", "https://github.com/")
	git(t, root, "config", "credential.helper", "!echo password="+token)
	git(t, root, "config", "branch.main.remote", "https://"+token+"@github.com/acme/x")
	git(t, root, "config", "submodule.s.url", "https://a:"+token+"@github.com/acme/s")
	git(t, root, "config", "alias.leak", "!echo "+token)
	git(t, root, "config", "sendemail.smtppass", token)
	git(t, root, "config", "credential.https://example.com.helper", "store --file creds/store")
	git(t, root, "config", "http.cookieFile", "cookies.txt")
	for _, path := range []string{"creds/store", "cookies.txt", ".git/config~", ".git/.config.swp", ".git/credentials", "sub/.git/config"} {
		write(t, filepath.Join(root, path), "[a]\n\tb = "+token+"\n")
	}
	git(t, root, "init", "-q", "nested")
	git(t, filepath.Join(root, "nested"), "remote", "add", "origin", "https://"+token+"@github.com/a/b")
	git(t, root, "worktree", "add", "-q", "linked")
	git(t, root, "config", "extensions.worktreeConfig", "true")
	git(t, root, "config", "--worktree", "http.extraheader", token)

	for _, mode := range []Mode{Direct, ReadOnly} {
		out, _ := enter(t, show(t, repo, mode), "grep -ra "+token+" . ; git config --list; git remote -v")
		if strings.Contains(out, token) {
			t.Errorf("%s: the token is readable inside:\n%s", mode, out)
		}
		if !strings.Contains(out, "remote.origin.url=https://github.com/acme/billing.git") {
			t.Errorf("%s: the remote is gone:\n%s", mode, out)
		}
	}
}

func TestRefusesWhatCannotBeGuarded(t *testing.T) {
	cases := map[string]func(t *testing.T, repo Repo){
		"symbolic link": func(t *testing.T, repo Repo) {
			if err := os.RemoveAll(filepath.Join(repo.Git, "hooks")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("../hooks", filepath.Join(repo.Git, "hooks")); err != nil {
				t.Fatal(err)
			}
		},
		"core.hooksPath is the repository": func(t *testing.T, repo Repo) { git(t, repo.Root, "config", "core.hooksPath", ".") },
		"could be made by the agent":       func(t *testing.T, repo Repo) { git(t, repo.Root, "config", "include.path", "../later") },
		"takes its configuration from":     func(t *testing.T, repo Repo) { write(t, filepath.Join(repo.Git, "commondir"), "../x") },
		"bad config line":                  func(t *testing.T, repo Repo) { write(t, filepath.Join(repo.Git, "config"), "[core\n") },
	}
	for want, spoil := range cases {
		t.Run(want, func(t *testing.T) {
			repo := newRepo(t)
			spoil(t, repo)
			_, _, err := Mounts(repo, Direct, Survey{}, nil, realTemp(t))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
			if Hint(err) == "" {
				t.Error("no hint")
			}
		})
	}
}

func TestIncludedConfigurationStaysCleanWhenTracked(t *testing.T) {
	repo := newRepo(t)
	write(t, filepath.Join(repo.Root, ".gitconfig"), "[alias]\n\tst = status\n")
	git(t, repo.Root, "add", ".gitconfig")
	git(t, repo.Root, "commit", "-qm", "config")
	git(t, repo.Root, "config", "include.path", "../.gitconfig")
	write(t, filepath.Join(repo.Git, "private"), "[http]\n\textraheader = t0ken\n")
	git(t, repo.Root, "config", "--add", "include.path", "private")
	out, err := enter(t, show(t, repo, Direct), "git status --porcelain; cat .gitconfig .git/private; echo x >>.gitconfig")
	if err == nil || strings.Contains(out, "t0ken") || strings.Contains(out, " M ") || !strings.Contains(out, "st = status") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestAProgramBehindALinkIsWarnedOf(t *testing.T) {
	repo := newRepo(t)
	write(t, filepath.Join(repo.Root, "real"), "x")
	if err := os.Symlink("real", filepath.Join(repo.Root, "link")); err != nil {
		t.Fatal(err)
	}
	git(t, repo.Root, "config", "alias.x", "!./link --now")
	_, warnings, err := Mounts(repo, Direct, Survey{}, nil, realTemp(t))
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "alias.x") {
		t.Errorf("%q, %v", warnings, err)
	}
}

func TestMountsComeParentsFirstAndOnce(t *testing.T) {
	repo := prepare(t, "deep hooksPath")
	mounts := show(t, repo, Direct)
	made := map[string]bool{filepath.Dir(repo.Root): true}
	for _, m := range mounts {
		if made[m.Target] {
			t.Errorf("%s twice", m.Target)
		}
		if m.Target != repo.Root && !within(m.Target, repo.Root) {
			t.Errorf("%s is outside", m.Target)
		}
		for other := range made {
			if within(other, m.Target) {
				t.Errorf("%s after %s", m.Target, other)
			}
		}
		made[m.Target] = true
	}
	if _, _, err := Mounts(repo, Direct, Survey{}, nil, repo.Root); err == nil {
		t.Error("a scratch directory in the repository was taken")
	}
	points, err := MountedBelow("/")
	if err != nil || !slices.Contains(points, "/proc") {
		t.Errorf("mounts of this machine: %q, %v", points, err)
	}
}
