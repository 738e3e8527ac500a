//go:build linux

package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFindWalksUpAndFollowsLinks(t *testing.T) {
	repo := newRepo(t)
	deep := filepath.Join(repo.Root, "x", "y")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(realTemp(t), "link")
	if err := os.Symlink(deep, link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{deep, link} {
		got := find(t, dir)
		want := Repo{Root: repo.Root, Git: repo.Git, Common: repo.Git, Directory: deep}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", dir, got, want)
		}
	}
}

func TestFindRefuses(t *testing.T) {
	me := os.Getuid()
	at := func(t *testing.T, name string) string {
		root := filepath.Join(realTemp(t), name)
		write(t, filepath.Join(root, "a"), "a")
		git(t, root, "init", "-q")
		git(t, root, "add", ".")
		git(t, root, "commit", "-qm", "x")
		return root
	}
	cases := map[string]func(t *testing.T) (string, Person){
		"is not in a git repository": func(t *testing.T) (string, Person) { return realTemp(t), Person{UID: me} },
		"holds your home directory": func(t *testing.T) (string, Person) {
			r := at(t, "r")
			return r, Person{UID: me, Home: r}
		},
		"home directory and cannot": func(t *testing.T) (string, Person) {
			r := at(t, "r")
			return r, Person{UID: me, Home: filepath.Join(r, "home", "me")}
		},
		"agentbox's own directory": func(t *testing.T) (string, Person) {
			r := at(t, "r")
			return r, Person{UID: me, Home: "/nonexistent", Own: []string{filepath.Join(r, "later", "state")}}
		},
		"another user's home": func(t *testing.T) (string, Person) {
			r := at(t, "r")
			return r, Person{UID: me, Home: "/nonexistent", OtherHomes: []string{filepath.Dir(r)}}
		},
		"belongs to another user": func(t *testing.T) (string, Person) { return at(t, "r"), Person{UID: me + 1, Home: "/nonexistent"} },
		"not valid UTF-8":         func(t *testing.T) (string, Person) { return at(t, "r\xff"), Person{UID: me, Home: "/nonexistent"} },
		"control characters":      func(t *testing.T) (string, Person) { return at(t, "r\nx"), Person{UID: me, Home: "/nonexistent"} },
		"does not say that this is its work tree": func(t *testing.T) (string, Person) {
			r := realTemp(t)
			git(t, r, "init", "-q", "--separate-git-dir", filepath.Join(r, "g"), "r")
			return filepath.Join(r, "r"), Person{UID: me, Home: "/nonexistent"}
		},
		"is a symbolic link": func(t *testing.T) (string, Person) {
			r := at(t, "r")
			if err := os.Rename(filepath.Join(r, ".git"), filepath.Join(r, "g")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("g", filepath.Join(r, ".git")); err != nil {
				t.Fatal(err)
			}
			return r, Person{UID: me, Home: "/nonexistent"}
		},
		"work tree of": func(t *testing.T) (string, Person) {
			r := at(t, "r")
			git(t, r, "config", "core.worktree", "/")
			return r, Person{UID: me, Home: "/nonexistent"}
		},
	}
	for want, make := range cases {
		t.Run(want, func(t *testing.T) {
			dir, person := make(t)
			_, err := Find(dir, person)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("got %v", err)
			}
			if Hint(err) == "" {
				t.Error("no hint")
			}
			if strings.Contains(err.Error(), "\n") || !utf8.ValidString(err.Error()) {
				t.Errorf("the error shows raw bytes: %q", err)
			}
		})
	}
	if err := checkPlace("/", Person{}); err == nil {
		t.Error("/ was taken")
	}
}

func TestOtherHomes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	write(t, path, "root:x:0:0:r:/root:/bin/sh\ndaemon:x:1:1:d:/usr/sbin:/x\nme:x:1000:1000::/home/me:/bin/sh\nyou:x:1001:1001::/home/you/:/bin/sh\nbad\nodd:x:1002:1::/:/x\n")
	got, err := OtherHomes(path, 1000)
	if err != nil || strings.Join(got, " ") != "/root /home/you" {
		t.Errorf("got %q, %v", got, err)
	}
}
