//go:build linux

package session

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func TestPathsFollowXDG(t *testing.T) {
	run := t.TempDir()
	if err := os.Chmod(run, 0o700); err != nil {
		t.Fatal(err)
	}
	uid := os.Getuid()
	got, err := FindPaths(env("HOME", "/h", "XDG_STATE_HOME", "/s", "XDG_CACHE_HOME", "relative", "XDG_RUNTIME_DIR", run), uid)
	want := Paths{State: "/s/agentbox", Runtime: run + "/agentbox", Config: "/h/.config/agentbox", Cache: "/h/.cache/agentbox"}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := FindPaths(env("XDG_RUNTIME_DIR", run), uid); err == nil {
		t.Error("no HOME was taken")
	}
	const nobodyHas = 987654
	got, err = FindPaths(env("HOME", "/h"), nobodyHas)
	if err != nil || got.Runtime != "/tmp/agentbox-987654" {
		t.Errorf("without a runtime directory: %+v, %v", got, err)
	}
}

func TestUnsafeDirectoriesAreRefused(t *testing.T) {
	uid := os.Getuid()
	cases := map[string]func(t *testing.T) (string, int){
		"no such file": func(t *testing.T) (string, int) { return "/nonexistent", uid },
		"another user": func(t *testing.T) (string, int) { return t.TempDir(), uid + 1 },
		"can be written by others": func(t *testing.T) (string, int) {
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			return dir, uid
		},
		"is not a directory": func(t *testing.T) (string, int) {
			path := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return path, uid
		},
		"can be written by others: its parent": func(t *testing.T) (string, int) {
			outer := t.TempDir()
			inner := filepath.Join(outer, "d")
			if err := os.Mkdir(inner, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(outer, 0o777); err != nil {
				t.Fatal(err)
			}
			return inner, uid
		},
		"another user: through a link": func(t *testing.T) (string, int) {
			link := filepath.Join(t.TempDir(), "l")
			if err := os.Symlink(t.TempDir(), link); err != nil {
				t.Fatal(err)
			}
			return link, uid + 1
		},
	}
	for want, make := range cases {
		t.Run(want, func(t *testing.T) {
			dir, uid := make(t)
			_, err := FindPaths(env("HOME", "/h", "XDG_RUNTIME_DIR", dir), uid)
			text, _, _ := strings.Cut(want, ":")
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCreateRefusesAForeignRuntimeDirectory(t *testing.T) {
	paths := newPaths(t)
	if err := os.MkdirAll(paths.Runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(paths.Runtime, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(paths, Meta{Started: started}, rand.Reader); err == nil || !strings.Contains(err.Error(), "can be written by others") {
		t.Errorf("got %v", err)
	}
}
