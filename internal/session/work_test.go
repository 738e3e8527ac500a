//go:build linux

package session

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// leave makes work in a session's directory: whole, or as a copy that was broken off left it.
func leave(t *testing.T, dir string, whole bool) {
	t.Helper()
	path := filepath.Join(dir, WorkDir, "tree", "upper")
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "made"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !whole {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, WorkDir, workRecord), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWorkIsDiscardedOnlyWhenTheRunHasEnded(t *testing.T) {
	paths := newPaths(t)
	s := create1(t, paths)
	leave(t, s.Dir, true)
	info, err := Find(paths, s.Meta.ID)
	if err != nil {
		t.Fatal(err)
	}
	var p *Problem
	if err := Discard(info, os.RemoveAll); !errors.As(err, &p) || !strings.Contains(err.Error(), "still runs") || !HasWork(s.Dir) {
		t.Errorf("while it runs: %v", err)
	}
	if err := s.End(End{Time: started}); err != nil {
		t.Fatal(err)
	}
	if done, err := Tidy(paths, started, func(i Info) error { return ClearBroken(i, os.RemoveAll) }); err != nil || len(done) != 0 || !HasWork(s.Dir) {
		t.Fatalf("tidying: %v, %v; the work is there: %v", done, err, HasWork(s.Dir))
	}
	// a removal that fails takes it away all the same, and is made up for
	if err := Discard(info, func(string) error { return errors.New("podman is away") }); err == nil || HasWork(s.Dir) {
		t.Errorf("a failed removal: %v, the work is there: %v", err, HasWork(s.Dir))
	}
	if done, err := Tidy(paths, started, func(i Info) error { return ClearBroken(i, os.RemoveAll) }); err != nil || len(done) != 1 {
		t.Errorf("tidying: %v, %v", done, err)
	}
	if exists(filepath.Join(s.Dir, DiscardedDir)) || !exists(filepath.Join(s.Dir, metaFile)) {
		t.Error("what was discarded is there, or more went with it")
	}
	if err := Discard(info, os.RemoveAll); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestTidyKeepsTheWorkOfTheKilledAndRemovesWhatIsBroken(t *testing.T) {
	for _, whole := range []bool{true, false} {
		dir := t.TempDir()
		paths := pathsIn(dir)
		cmd, id := role(t, "owner", dir, nil)
		info, err := Find(paths, id)
		if err != nil {
			t.Fatal(err)
		}
		leave(t, info.Dir, whole)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		clear := func(i Info) error { return ClearBroken(i, os.RemoveAll) }
		if done, err := Tidy(paths, started, clear); err != nil || len(done) != 1 {
			t.Fatalf("tidying: %v, %v", done, err)
		}
		if got := exists(filepath.Join(info.Dir, WorkDir, "tree", "upper", "made")); got != whole {
			t.Errorf("whole %v: the work is there: %v", whole, got)
		}
		if done, err := Tidy(paths, started, clear); err != nil || len(done) != 0 {
			t.Errorf("again: %v, %v", done, err)
		}
	}
}
