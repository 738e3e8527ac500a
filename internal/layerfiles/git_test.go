package layerfiles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// gitRepo is a scratch repository for a real git.
type gitRepo struct {
	t   *testing.T
	dir string
}

func newRepo(t *testing.T, args ...string) gitRepo {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	r := gitRepo{t, filepath.Join(t.TempDir(), "repo")}
	must(t, os.Mkdir(r.dir, 0o755))
	r.git(append([]string{"init", "-q", "-b", "main"}, args...)...)
	return r
}

// try runs git as a person would, with the repository's configuration in force.
func (r gitRepo) try(args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
	cmd.Dir = r.dir
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// person runs git on a terminal, whatever comes of it, to its end.
func (r gitRepo) person(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
	cmd.Dir, cmd.Env = r.dir, append(os.Environ(), "PAGER=cat") // this machine's pager might wait for a key; core.pager goes before it
	terminal, err := pty.Start(cmd)
	must(r.t, err)
	defer terminal.Close()
	out, _ := io.ReadAll(terminal) // EIO when the program's end is closed
	_ = cmd.Wait()
	return string(out)
}

func (r gitRepo) git(args ...string) string {
	r.t.Helper()
	out, err := r.try(args...)
	if err != nil {
		r.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return out
}

func (r gitRepo) commit(files map[string]string) string {
	r.t.Helper()
	for name, content := range files {
		put(r.t, r.dir, name, content)
	}
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", "x")
	return r.git("rev-parse", "HEAD")
}

func (r gitRepo) read(ref, name string) (string, error) {
	fsys, err := Git(r.t.Context(), r.dir, ref)
	if err != nil {
		return "", err
	}
	data, err := fs.ReadFile(fsys, name)
	return string(data), err
}

func (r gitRepo) want(ref, name, want string) {
	r.t.Helper()
	if got, err := r.read(ref, name); err != nil || got != want {
		r.t.Errorf("%s of %s: %q, %v; want %q", name, ref, got, err, want)
	}
}

func TestGitReadsACommit(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		t.Run(format, func(t *testing.T) {
			r := newRepo(t, "--object-format="+format)
			first := r.commit(map[string]string{"agentbox.toml": "one", ".agentbox/a.toml": "a\r\n\x00", ".agentbox/notes.md": "n", "sub/agentbox.toml": "no"})
			r.git("tag", "-a", "-m", "t", "v1")
			r.git("update-ref", "refs/remotes/origin/main", "HEAD")
			r.commit(map[string]string{"agentbox.toml": "two", ".agentbox/b.toml": ""})
			put(t, r.dir, "agentbox.toml", "not committed")
			for _, ref := range []string{"HEAD~1", "v1", "origin/main", first, first[:12]} {
				r.want(ref, "agentbox.toml", "one")
				r.want(ref, ".agentbox/a.toml", "a\r\n\x00")
			}
			r.want("main", "agentbox.toml", "two")
			r.want("main", ".agentbox/b.toml", "")
			fsys, err := Git(t.Context(), r.dir, "main")
			must(t, err)
			if names, err := fs.Glob(fsys, ".agentbox/*"); err != nil || fmt.Sprint(names) != "[.agentbox/a.toml .agentbox/b.toml]" {
				t.Errorf("%v, %v", names, err)
			}
			if _, err := fs.ReadFile(fsys, "sub/agentbox.toml"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("another file: %v", err)
			}
		})
	}
}

func TestGitWithoutLayerFiles(t *testing.T) {
	r := newRepo(t)
	r.commit(nil)
	if _, err := r.read("HEAD", "agentbox.toml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestGitRefsThatNameNoCommit(t *testing.T) {
	r := newRepo(t)
	r.commit(map[string]string{"agentbox.toml": "x"})
	for _, ref := range []string{"", "-h", "--help", "main\nHEAD", "HEAD:agentbox.toml", ":/x", "main HEAD", "main\x00", "\xff"} {
		_, err := r.read(ref, "agentbox.toml")
		wantError(t, err, "not the name of one")
	}
	for _, ref := range []string{"nowhere", "HEAD~5", "HEAD^{tree}", "main..main"} {
		_, err := r.read(ref, "agentbox.toml")
		wantError(t, err, "no such commit", ref)
	}
}

func TestGitWithoutARepository(t *testing.T) {
	r := newRepo(t)
	r.commit(map[string]string{"agentbox.toml": "x"})
	sub := filepath.Join(r.dir, "sub")
	must(t, os.Mkdir(sub, 0o755))
	for _, dir := range []string{t.TempDir(), sub} {
		_, err := Git(t.Context(), dir, "HEAD")
		wantError(t, err, "not a git repository", dir)
	}
	bare := filepath.Join(t.TempDir(), "bare")
	r.git("clone", "-q", "--bare", r.dir, bare)
	_, err := Git(t.Context(), bare, "HEAD")
	wantError(t, err, "bare repository")
	t.Setenv("PATH", t.TempDir())
	_, err = Git(t.Context(), r.dir, "HEAD")
	wantError(t, err, "executable file not found")
}

func TestGitInAShallowClone(t *testing.T) {
	r := newRepo(t)
	first := r.commit(map[string]string{"agentbox.toml": "one"})
	r.commit(map[string]string{"agentbox.toml": "two"})
	shallow := gitRepo{t, filepath.Join(t.TempDir(), "shallow")}
	r.git("clone", "-q", "--depth=1", "file://"+r.dir, shallow.dir)
	shallow.want("HEAD", "agentbox.toml", "two")
	_, err := shallow.read(first, "agentbox.toml")
	wantError(t, err, "no such commit")
	if p, _ := errors.AsType[*Problem](err); !strings.Contains(p.Hint, "fetch-depth: 0") {
		t.Errorf("hint is %q", p.Hint)
	}
}

func TestGitInAWorktreeAndASubmodule(t *testing.T) {
	r := newRepo(t)
	r.commit(map[string]string{"agentbox.toml": "x"})
	linked := gitRepo{t, filepath.Join(t.TempDir(), "linked")}
	r.git("worktree", "add", "-q", linked.dir)
	linked.want("HEAD", "agentbox.toml", "x")
	outer := newRepo(t)
	outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", r.dir, "inner")
	gitRepo{t, filepath.Join(outer.dir, "inner")}.want("HEAD", "agentbox.toml", "x")
}

func TestGitEntriesThatAreNoFiles(t *testing.T) {
	r := newRepo(t)
	id := r.commit(map[string]string{"plain": "x", ".agentbox/d.toml/file": "x", ".agentbox/ok.toml": "ok"})
	must(t, os.Symlink("plain", filepath.Join(r.dir, "agentbox.toml")))
	must(t, os.Symlink("/etc/passwd", filepath.Join(r.dir, ".agentbox", "link.toml")))
	r.git("add", "-A")
	r.git("update-index", "--add", "--cacheinfo", "160000,"+id+",.agentbox/sub.toml")
	r.git("commit", "-q", "-m", "x")
	for name, want := range map[string]string{
		"agentbox.toml": "symbolic link", ".agentbox/link.toml": "symbolic link", ".agentbox/sub.toml": "submodule", ".agentbox/d.toml": "directory",
	} {
		_, err := r.read("HEAD", name)
		wantError(t, err, want, name)
	}
	r.want("HEAD", ".agentbox/ok.toml", "ok")
	fsys, err := Git(t.Context(), r.dir, "HEAD")
	must(t, err)
	if names, err := fs.Glob(fsys, ".agentbox/*.toml"); err != nil || len(names) != 4 {
		t.Errorf("listed: %v, %v", names, err)
	}
	for _, plant := range []func(path string) error{
		func(path string) error { return os.Symlink("elsewhere", path) },
		func(path string) error { return os.WriteFile(path, nil, 0o644) },
	} {
		must(t, os.RemoveAll(filepath.Join(r.dir, ".agentbox")))
		must(t, plant(filepath.Join(r.dir, ".agentbox")))
		r.commit(nil)
		_, err := r.read("HEAD", ".agentbox/x.toml")
		wantError(t, err, "not followed here")
		fsys, err := Git(t.Context(), r.dir, "HEAD")
		must(t, err)
		_, err = fs.Glob(fsys, ".agentbox/*.toml")
		wantError(t, err, "not followed here")
	}
}

func TestGitFilesAreBounded(t *testing.T) {
	r := newRepo(t)
	r.commit(map[string]string{"agentbox.toml": strings.Repeat("#", MaxFile+1)})
	_, err := r.read("HEAD", "agentbox.toml")
	wantError(t, err, "more than", "agentbox.toml")
}

// trap is a program that leaves a mark when anything runs it.
func trap(t *testing.T) (program, mark string) {
	t.Helper()
	dir := t.TempDir()
	program, mark = filepath.Join(dir, "trap"), filepath.Join(dir, "mark")
	must(t, os.WriteFile(program, []byte("#!/bin/sh\n: >'"+mark+"'\nexit 1\n"), 0o755))
	return program, mark
}

// What a repository's configuration names runs when a person's git does the like, and never for Git.
func TestGitRunsNothingThatTheRepositoryNames(t *testing.T) {
	for name, attack := range map[string]struct {
		plant func(r gitRepo, program string)
		live  []string // what a person does that springs the trap
		fails bool     // the commit itself is spoiled, so that an error is what is wanted
	}{
		"fsmonitor":                         {plant: config("core.fsmonitor"), live: []string{"status"}},
		"hooks path":                        {plant: hooks, live: []string{"commit", "--allow-empty", "-q", "-m", "x"}},
		"pager":                             {plant: config("core.pager", "pager.cat-file", "pager.log"), live: []string{"log"}},
		"alias":                             {plant: aliases, live: []string{"st"}},
		"textconv":                          {plant: attributes("diff=evil", "diff.evil.textconv"), live: []string{"cat-file", "--textconv", "HEAD:agentbox.toml"}},
		"filter":                            {plant: attributes("filter=evil", "filter.evil.smudge"), live: []string{"cat-file", "--filters", "HEAD:agentbox.toml"}},
		"process":                           {plant: attributes("filter=evil", "filter.evil.process"), live: []string{"cat-file", "--filters", "HEAD:agentbox.toml"}},
		"include":                           {plant: included, live: []string{"status"}},
		"diff":                              {plant: externalDiff, live: []string{"diff"}},
		"promisor, a program to fetch with": {plant: promisor("uploadpack"), live: []string{"cat-file", "-p", "HEAD:agentbox.toml"}, fails: true},
		"promisor, a remote helper":         {plant: promisor("ext"), live: []string{"-c", "protocol.ext.allow=always", "cat-file", "-p", "HEAD:agentbox.toml"}, fails: true},
		"promisor, ssh":                     {plant: promisor("ssh"), live: []string{"cat-file", "-p", "HEAD:agentbox.toml"}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			r.commit(map[string]string{"agentbox.toml": "the blob"})
			program, mark := trap(t)
			attack.plant(r, program)
			got, err := r.read("HEAD", "agentbox.toml")
			if _, serr := os.Lstat(mark); serr == nil {
				t.Error("the repository's program ran")
			}
			if attack.fails {
				wantError(t, err, "not in this clone")
			} else if err != nil || got != "the blob" {
				t.Errorf("%q, %v", got, err)
			}
			_ = os.Remove(mark)
			out := r.person(attack.live...)
			if _, err := os.Lstat(mark); err != nil {
				t.Errorf("the trap is not live, so the test shows nothing: %s", out)
			}
		})
	}
}

func config(keys ...string) func(gitRepo, string) {
	return func(r gitRepo, program string) {
		for _, key := range keys {
			r.git("config", key, program)
		}
	}
}

func hooks(r gitRepo, program string) {
	dir := r.t.TempDir()
	for _, hook := range []string{"pre-commit", "post-checkout", "reference-transaction", "post-index-change"} {
		must(r.t, os.Symlink(program, filepath.Join(dir, hook)))
	}
	r.git("config", "core.hooksPath", dir)
}

func aliases(r gitRepo, program string) {
	for _, name := range []string{"cat-file", "rev-parse", "st"} {
		r.git("config", "alias."+name, "!"+program)
	}
}

func attributes(attribute, key string) func(gitRepo, string) {
	return func(r gitRepo, program string) {
		put(r.t, r.dir, ".git/info/attributes", "* "+attribute+"\n")
		r.git("config", key, program)
	}
}

func included(r gitRepo, program string) {
	path := put(r.t, r.t.TempDir(), "more", "[core]\n\tfsmonitor = "+program+"\n")
	r.git("config", "include.path", path)
}

func externalDiff(r gitRepo, program string) {
	r.git("config", "diff.external", program)
	put(r.t, r.dir, "agentbox.toml", "changed")
}

// promisor takes the blob away and names a remote that is said to have it.
func promisor(how string) func(gitRepo, string) {
	return func(r gitRepo, program string) {
		blob := r.git("rev-parse", "HEAD:agentbox.toml")
		must(r.t, os.Remove(filepath.Join(r.dir, ".git/objects", blob[:2], blob[2:])))
		r.git("config", "core.repositoryFormatVersion", "1")
		r.git("config", "extensions.partialClone", "evil")
		r.git("config", "remote.evil.promisor", "true")
		r.git("config", "protocol.allow", "always")
		r.git("config", "protocol.ext.allow", "always")
		switch how {
		case "uploadpack":
			r.git("config", "remote.evil.url", r.dir)
			r.git("config", "remote.evil.uploadpack", program)
		case "ext":
			r.git("config", "remote.evil.url", "ext::"+program)
		case "ssh":
			r.git("config", "remote.evil.url", "ssh://localhost/x")
			r.git("config", "core.sshCommand", program)
		}
	}
}

// The environment cannot point git elsewhere, or have it run something.
func TestGitObeysNoEnvironment(t *testing.T) {
	other := newRepo(t)
	other.commit(map[string]string{"agentbox.toml": "another"})
	r := newRepo(t)
	r.commit(map[string]string{"agentbox.toml": "mine"})
	program, mark := trap(t)
	for name, value := range map[string]string{
		"GIT_DIR": filepath.Join(other.dir, ".git"), "GIT_WORK_TREE": other.dir, "GIT_OBJECT_DIRECTORY": filepath.Join(other.dir, ".git/objects"),
		"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsmonitor", "GIT_CONFIG_VALUE_0": program,
		"GIT_TRACE": mark, "GIT_TRACE2_EVENT": mark, "GIT_PAGER": program, "GIT_SSH_COMMAND": program, "GIT_NAMESPACE": "x",
	} {
		t.Setenv(name, value)
	}
	r.want("HEAD", "agentbox.toml", "mine")
	if _, err := os.Lstat(mark); err == nil {
		t.Error("the environment had something run or written")
	}
}

// A replacement object would show another file than the commit has.
func TestGitReadsNoReplacement(t *testing.T) {
	r := newRepo(t)
	r.commit(map[string]string{"agentbox.toml": "true"})
	put(t, r.dir, "other", "false")
	r.git("replace", r.git("rev-parse", "HEAD:agentbox.toml"), r.git("hash-object", "-w", "other"))
	if got := r.git("cat-file", "-p", "HEAD:agentbox.toml"); got != "false" {
		t.Fatalf("the replacement is not live: %q", got)
	}
	r.want("HEAD", "agentbox.toml", "true")
}

func TestGitThatWaitsIsEnded(t *testing.T) {
	r := newRepo(t)
	r.commit(map[string]string{"agentbox.toml": "x"})
	fifo := filepath.Join(t.TempDir(), "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	r.git("config", "include.path", fifo)
	_, err := gitAt(t.Context(), r.dir, "HEAD", 200*time.Millisecond)
	wantError(t, err, "did not answer")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Git(ctx, r.dir, "HEAD"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestGitRepositoryOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		return // only root can make one
	}
	r := newRepo(t)
	r.commit(map[string]string{"agentbox.toml": "x"})
	for _, path := range []string{r.dir, filepath.Join(r.dir, ".git")} {
		must(t, os.Chown(path, 4242, 4242))
	}
	_, err := r.read("HEAD", "agentbox.toml")
	wantError(t, err, "belongs to another user")
	r.git("config", "--global", "safe.directory", r.dir)
	r.want("HEAD", "agentbox.toml", "x")
}

func TestDamagedTrees(t *testing.T) {
	for _, data := range []string{"100644", "100644 a", "100644 a\x00short", "x a\x0001234567890123456789", "\x00"} {
		if _, err := parseTree([]byte(data), 20); err == nil {
			t.Errorf("%q was taken", data)
		}
	}
}

func BenchmarkGit(b *testing.B) {
	dir := b.TempDir()
	for _, args := range [][]string{{"init", "-q"}, {"-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "--allow-empty", "-m", "x"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	for b.Loop() {
		if _, err := Git(b.Context(), dir, "HEAD"); err != nil {
			b.Fatal(err)
		}
	}
}
