package starter

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// alone reports what a directory holds beside the one file.
func alone(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != name {
			t.Errorf("%s is left behind", e.Name())
		}
	}
}

func TestWriteMakesAndKeeps(t *testing.T) {
	top := t.TempDir()
	file := filepath.Join(top, ".agentbox", "a.toml")
	if err := Write(top, ".agentbox/a.toml", []byte("one"), false); err != nil {
		t.Fatal(err)
	}
	if err := Write(top, ".agentbox/a.toml", []byte("two"), false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second write: %v", err)
	}
	if got := read(t, file); got != "one" {
		t.Errorf("the file holds %q", got)
	}
	if err := Write(top, ".agentbox/a.toml", []byte("three"), true); err != nil {
		t.Fatal(err)
	}
	if got := read(t, file); got != "three" {
		t.Errorf("the file holds %q", got)
	}
	if err := Write(top, "b.toml", []byte("four"), false); err != nil {
		t.Fatal(err)
	}
	alone(t, filepath.Dir(file), "a.toml")
}

// A repository is somebody else's: its .agentbox may be a link to the person's own profiles, its file one to their
// shell's start-up file.
func TestWriteFollowsNoLink(t *testing.T) {
	for _, replace := range []bool{false, true} {
		top, outside := t.TempDir(), t.TempDir()
		victim := filepath.Join(outside, "victim")
		write(t, victim, "mine")
		link := func(target, name string) {
			t.Helper()
			if err := os.Symlink(target, filepath.Join(top, name)); err != nil {
				t.Fatal(err)
			}
		}
		link(outside, "away")
		link("inner", "near")
		for _, dir := range []string{"inner", "good"} {
			if err := os.Mkdir(filepath.Join(top, dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		link(victim, "good/link.toml")
		link(filepath.Join(outside, "new"), "good/dangling.toml")
		if err := unix.Mkfifo(filepath.Join(top, "good", "pipe.toml"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, rel := range []string{"away/a.toml", "near/a.toml", "good/link.toml", "good/dangling.toml", "good/pipe.toml", "good", "../a.toml"} {
			if err := Write(top, rel, []byte("x"), replace); err == nil {
				t.Errorf("replace %v: %s was written", replace, rel)
			}
		}
		if got := read(t, victim); got != "mine" {
			t.Errorf("replace %v: the victim holds %q", replace, got)
		}
		alone(t, outside, "victim")
		alone(t, filepath.Join(top, "inner"), "")
	}
}
