//go:build linux

package workspace

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"agentbox/internal/policy"
)

func TestPatterns(t *testing.T) {
	cases := []struct {
		pattern, path string
		dir, want     bool
	}{
		{".env*", ".env", false, true}, {".env*", "a/b/.env.local", false, true}, {".env*", "x.env", false, false},
		{"secrets/**", "secrets", true, true}, {"secrets/**", "a/secrets", true, false}, {"secrets/**", "secrets", false, false},
		{"**/secrets/**", "a/secrets", true, true}, {"**/secrets/**", "secrets", true, true},
		{"secrets/", "a/secrets", true, true}, {"secrets/", "secrets", false, false},
		{"/id", "id", false, true}, {"/id", "a/id", false, false},
		{"a/*.pem", "a/x.pem", false, true}, {"a/*.pem", "b/a/x.pem", false, false}, {"a/*.pem", "a/b/x.pem", false, false},
		{"a/**/x", "a/x", false, true}, {"a/**/x", "a/b/c/x", false, true}, {"k[ab]", "ka", false, true},
		{"**", "a", false, true},
	}
	for _, c := range cases {
		g, err := policy.ParseHidePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Match(c.path, c.dir); got != c.want {
			t.Errorf("%s on %s: %v", c.pattern, c.path, got)
		}
	}
	for _, bad := range []string{"", "/", "../x", "a/../b", "!x", "[", "a//b", "."} {
		if _, err := policy.ParseHidePattern(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestHiddenContentIsNotReadable(t *testing.T) {
	repo := newRepo(t)
	outside := filepath.Join(realTemp(t), "outside")
	write(t, outside, "outside\n")
	for _, p := range []string{".env", "deep/node_modules/x/.env.local", "secrets/k/key", "conf/real"} {
		write(t, filepath.Join(repo.Root, p), "h1dden\n")
	}
	for link, target := range map[string]string{"deep/.env": "../conf/real", ".env.out": outside, ".env.gone": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(repo.Root, link)); err != nil {
			t.Fatal(err)
		}
	}
	git(t, repo.Root, "add", "-f", "secrets")
	hide := []string{".env*", "secrets/**"}
	s, err := Look(repo, hide)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"secrets is hidden but tracked", ".env.out is to be hidden and is a link out", ".env.gone is to be hidden and is a link that leads nowhere"} {
		if !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, want) }) {
			t.Errorf("no warning %q in %q", want, s.Warnings)
		}
	}
	for _, mode := range []Mode{Direct, ReadOnly} {
		out, _ := enter(t, show(t, repo, mode, hide...), `grep -rs h1dden . ; cat .env deep/.env conf/real; ls secrets
			mv deep d; cat d/.env d/node_modules/x/.env.local; ln .env e; cat e; cp .env f; cat f; rm -f .env; mv .env g; cat g
			ln -s secrets/k/key l; cat l; echo x >secrets/x`)
		if strings.Contains(out, "h1dden") {
			t.Errorf("%s: hidden content is readable:\n%s", mode, out)
		}
	}
	if got := read(t, filepath.Join(repo.Root, ".env")); got != "h1dden\n" {
		t.Errorf("the hidden file changed: %q", got)
	}
}

func TestIndexIsReadAsGitReadsIt(t *testing.T) {
	for _, version := range []string{"2", "3", "4"} {
		for _, format := range []string{"sha1", "sha256"} {
			t.Run(version+format, func(t *testing.T) {
				root := realTemp(t)
				git(t, root, "init", "-q", "--object-format="+format)
				for i := range 30 {
					write(t, filepath.Join(root, strings.Repeat("d/", i%4), fmt.Sprintf("file%d", i*i)), "x")
				}
				git(t, root, "add", ".")
				write(t, filepath.Join(root, "later"), "x")
				git(t, root, "add", "-N", "later")
				git(t, root, "update-index", "--index-version", version)
				entries, err := readIndex(filepath.Join(root, ".git"), filepath.Join(root, ".git"))
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, e := range entries {
					got = append(got, e.path)
				}
				if want := strings.Split(strings.TrimSuffix(git(t, root, "ls-files", "-z"), "\x00"), "\x00"); !slices.Equal(got, want) {
					t.Errorf("got %q\nwant %q", got, want)
				}
			})
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte("DIRC\x00\x00\x00\x04\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if entries, err := parseIndex(data, 20); err == nil && len(entries) > len(data) {
			t.Error("more entries than bytes")
		}
	})
}

func TestWatchSeesAMountLost(t *testing.T) {
	cases := map[string]func(t *testing.T, repo Repo){
		"config": func(t *testing.T, repo Repo) { git(t, repo.Root, "config", "a.b", "c") },
		".env": func(t *testing.T, repo Repo) {
			write(t, filepath.Join(repo.Root, "new"), "x")
			if err := os.Rename(filepath.Join(repo.Root, "new"), filepath.Join(repo.Root, ".env")); err != nil {
				t.Fatal(err)
			}
		},
		"hooks": func(t *testing.T, repo Repo) {
			if err := os.RemoveAll(filepath.Join(repo.Git, "hooks")); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			repo := newRepo(t)
			write(t, filepath.Join(repo.Root, ".env"), "x")
			w, err := Watch(show(t, repo, Direct, ".env"))
			if err != nil {
				t.Fatal(err)
			}
			change(t, repo)
			if got := <-w.Lost(); filepath.Base(got) != name {
				t.Errorf("got %q", got)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWatchIsQuietWhileAnAgentWorks(t *testing.T) {
	repo := newRepo(t)
	write(t, filepath.Join(repo.Root, ".env"), "x")
	mounts := show(t, repo, Direct, ".env")
	w, err := Watch(mounts)
	if err != nil {
		t.Fatal(err)
	}
	out, _ := enter(t, mounts, `echo x >x; git add x; git commit -qm x; mv .git g; rm -f .env .git/config; git config a.b c; git gc -q`)
	t.Logf("inside: %s", out)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, lost := <-w.Lost(); lost {
		t.Errorf("reported %q", got)
	}
}

func TestPlantedNamesWhatMountsCannotGuard(t *testing.T) {
	repo := newRepo(t)
	write(t, filepath.Join(repo.Root, "old", ".git", "HEAD"), "x")
	s, err := Look(repo, nil)
	if err != nil {
		t.Fatal(err)
	}
	before, err := Remember(repo, s)
	if err != nil {
		t.Fatal(err)
	}
	out, err := enter(t, show(t, repo, Direct), `set -e; git init -q sub; cd sub; git commit -q --allow-empty -m x; cd ..; git add sub
		ln -s /home/x/.bashrc .git/MERGE_MSG; mkdir .git/rebase-merge; mv .git/logs/HEAD .git/logs/H; ln -s /etc/x .git/logs/HEAD`)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, err := Planted(repo, before)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(got, "\n")
	for _, want := range []string{"/sub is a git repository", "sub is in the index as a submodule", "MERGE_MSG is a link to /home/x/.bashrc", "logs/HEAD is a link", "rebase-merge is an unfinished"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if len(got) != 5 {
		t.Errorf("too much is reported:\n%s", text)
	}
}

// TestPlantedNamesWhatHidesChanges: an agent marked a file it had changed, and the person's own git status and git diff
// showed nothing.
func TestPlantedNamesWhatHidesChanges(t *testing.T) {
	repo := newRepo(t)
	before, err := Remember(repo, Survey{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := enter(t, show(t, repo, Direct), `set -e; echo a >one; echo b >two; git add one two; git commit -qm x
		git update-index --assume-unchanged one; git update-index --skip-worktree two
		echo evil >one; echo evil >two; mkdir -p .git/info; echo evil.sh >>.git/info/exclude
		git replace HEAD $(git commit-tree -m y HEAD^{tree}); test -z "$(git status --porcelain)"`)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, err := Planted(repo, before)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(got, "\n")
	for _, want := range []string{"one is marked in the index", "two is marked in the index", "info/exclude is not what it was", "refs/replace is not what it was"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if len(got) != 4 {
		t.Errorf("too much is reported:\n%s", text)
	}
}

// TestSocketsOfTheRepositoryAreHidden: a development server of the person's listened on a socket in the repository, and
// an agent talked to it past the proxy.
func TestSocketsOfTheRepositoryAreHidden(t *testing.T) {
	repo := newRepo(t)
	socket := filepath.Join(repo.Root, "run", "dev.sock")
	if err := os.Mkdir(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	fifo := filepath.Join(repo.Root, "pipe")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Look(repo, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Hidden, []string{fifo, socket}) || len(s.Warnings) != 2 {
		t.Errorf("got %+v", s)
	}
}
