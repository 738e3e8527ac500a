package shimbin

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/fstest"
)

func TestInstallTwiceWritesOnce(t *testing.T) {
	dir, files := t.TempDir(), shims("program")
	first, err := install(files, "amd64", dir)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	second, err := install(files, "amd64", dir)
	if err != nil || second != first {
		t.Fatalf("again: %q, %v; want %q", second, err, first)
	}
	after, err := os.Stat(first)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("an intact shim was replaced (%v)", err)
	}
	if before.Mode().Perm() != 0o755 {
		t.Errorf("mode %v", before.Mode())
	}
}

func TestEachVersionHasAPathOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	a, errA := install(shims("one"), "amd64", dir)
	b, errB := install(shims("two"), "amd64", dir)
	if errA != nil || errB != nil || a == b {
		t.Errorf("%q %v, %q %v", a, errA, b, errB)
	}
}

func TestTamperedShimIsReplaced(t *testing.T) {
	tamper := map[string]func(path string) error{
		"same length":    func(p string) error { return os.WriteFile(p, []byte("pr0gram"), 0o755) },
		"longer":         func(p string) error { return os.WriteFile(p, []byte("program!"), 0o755) },
		"empty":          func(p string) error { return os.Truncate(p, 0) },
		"others write":   func(p string) error { return os.Chmod(p, 0o777) },
		"not executable": func(p string) error { return os.Chmod(p, 0o644) },
		"a link": func(p string) error {
			other := p + ".other"
			return errors.Join(os.Remove(p), os.WriteFile(other, []byte("program"), 0o755), os.Symlink(other, p))
		},
	}
	for name, f := range tamper {
		t.Run(name, func(t *testing.T) {
			dir, files := t.TempDir(), shims("program")
			path, err := install(files, "amd64", dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := f(path); err != nil {
				t.Fatal(err)
			}
			if _, err := install(files, "amd64", dir); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			st, statErr := os.Lstat(path)
			if err != nil || statErr != nil || !bytes.Equal(got, []byte("program")) || st.Mode() != 0o755 {
				t.Errorf("it holds %q with mode %v (%v, %v)", got, st.Mode(), err, statErr)
			}
		})
	}
}

func TestBuildWithoutShimSaysSo(t *testing.T) {
	if _, err := install(fstest.MapFS{"bin/README": {}}, "amd64", t.TempDir()); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("got %v", err)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path, err := install(shims("program"), "amd64", dir)
	if err != nil {
		t.Fatal(err)
	}
	blocked := errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "x"), 0o755))
	if blocked != nil {
		t.Fatal(blocked)
	}
	if _, err := install(shims("program"), "amd64", dir); err == nil {
		t.Error("a directory in its place went unnoticed")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func shims(content string) fstest.MapFS {
	return fstest.MapFS{"bin/agentbox-shim-linux-amd64": {Data: []byte(content)}}
}

// A program that is started while the shim is laid down must not keep the shim from being run ("text file busy").
func TestShimRunsAlthoughOthersAreStarted(t *testing.T) {
	script := fstest.MapFS{"bin/agentbox-shim-linux-x": {Data: append([]byte("#!/bin/true\n"), make([]byte, 1<<20)...)}}
	stop, forked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(forked)
		for {
			select {
			case <-stop:
				return
			default:
				_ = exec.Command("/bin/true").Run()
			}
		}
	}()
	defer func() { close(stop); <-forked }()
	for range 30 {
		path, err := install(script, "x", t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := exec.Command(path).Run(); err != nil {
			t.Fatal(err)
		}
	}
}
