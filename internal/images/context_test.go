package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree lays files; a text that begins with "->" is a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, ok := strings.CutPrefix(text, "->"); ok {
			err = os.Symlink(to, p)
		} else {
			err = os.WriteFile(p, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func git(t *testing.T, root string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func TestTheContextHoldsWhatItMay(t *testing.T) {
	outside := tree(t, map[string]string{"key": "TOP-SECRET"})
	root := tree(t, map[string]string{
		"a.txt": "a", "src/b.go": "b", "src/deep/c.go": "c", "ignored.log": "x", ".gitignore": "*.log\n", "new.txt": "n",
		".env": "SECRET", "certs/server.key": "SECRET", "docs/d.md": "d", "docs/keep.md": "k", ".containerignore": "# docs\ndocs\n!docs/keep.md\n",
		"in": "->a.txt", "out": "->" + outside + "/key", "up": "->../x", "updir": "->" + outside, "hidden": "->.env",
		"sub/.git/config": "[core]", "sub/file": "s",
	})
	git(t, root, "init", "-q", ".")
	git(t, root, "add", "a.txt", "src", ".gitignore", ".env", "certs", "docs", ".containerignore", "in", "out", "up", "updir", "hidden")
	// What git knows as a directory is a link now, to one that is hidden.
	git(t, root, "commit", "-qm", "x")
	if err := os.Rename(filepath.Join(root, "src/deep"), filepath.Join(root, "was")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../certs", filepath.Join(root, "src/deep")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Open(t.Context(), ContextOptions{Root: root, Git: true, Hide: []string{".env*", "certs/"}, Sources: []string{"."}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := []string{".containerignore", ".gitignore", "a.txt", "docs/keep.md", "hidden", "in", "new.txt", "src/b.go", "src/deep", "sub/file", "was/c.go"}
	if got := c.Files(); !slices.Equal(got, want) {
		t.Errorf("files\n%q\nwant\n%q", got, want)
	}
	if want := []string{"out", "up", "updir"}; !slices.Equal(c.Left, want) {
		t.Errorf("left out %q, want %q", c.Left, want)
	}
	var b bytes.Buffer
	if err := c.Write(t.Context(), &b, map[string][]byte{"script": []byte("S")}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "SECRET") {
		t.Error("the archive holds a secret")
	}
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Mode&0o7000 != 0 || strings.Contains(h.Name, ".git/") {
			t.Errorf("an entry is %+v", h)
		}
	}
}

func TestOnlyWhatIsCopiedIsRead(t *testing.T) {
	root := tree(t, map[string]string{"package.json": "{}", "src/a": "a", "lib1/x": "x", "lib2/y": "y", "other": "o"})
	for _, c := range []struct{ sources, want []string }{
		{nil, nil},
		{[]string{"package.json"}, []string{"package.json"}},
		{[]string{"./src/"}, []string{"src/a"}},
		{[]string{"lib*"}, []string{"lib1/x", "lib2/y"}},
		{[]string{"/lib?/x"}, []string{"lib1/x"}},
		{[]string{"nothing"}, nil},
	} {
		x, err := Open(t.Context(), ContextOptions{Root: root, Sources: c.sources})
		if err != nil {
			t.Fatal(err)
		}
		if got := x.Files(); !slices.Equal(got, c.want) {
			t.Errorf("%q takes %q, want %q", c.sources, got, c.want)
		}
		x.Close()
	}
}

func TestWhatChangesOnTheWayIsNotSent(t *testing.T) {
	root := tree(t, map[string]string{"a": "one", "b": "two"})
	c, err := Open(t.Context(), ContextOptions{Root: root, Sources: []string{"."}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := os.WriteFile(filepath.Join(root, "b"), []byte("owt"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.Write(t.Context(), io.Discard, nil); !errors.Is(err, ErrChanged) {
		t.Errorf("the same length: %v", err)
	}
	if err := os.Remove(filepath.Join(root, "b")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(root, "b"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.Write(t.Context(), io.Discard, nil); !errors.Is(err, ErrChanged) {
		t.Errorf("a pipe in its place: %v", err)
	}
}

// A directory that becomes a link while an agent's build goes on would have shown what is hidden, had it the same size.
func TestNoDirectoryBecomesALink(t *testing.T) {
	root := tree(t, map[string]string{"src/a": "harmless", "secrets/a": "VERY-KEY"})
	c, err := Open(t.Context(), ContextOptions{Root: root, Hide: []string{"secrets"}, Sources: []string{"."}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !slices.Equal(c.Files(), []string{"src/a"}) {
		t.Fatalf("it holds %q", c.Files())
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(root, "src")), os.Symlink("secrets", filepath.Join(root, "src"))); err != nil {
		t.Fatal(err)
	}
	var sent bytes.Buffer
	if err := c.Write(t.Context(), &sent, nil); !errors.Is(err, ErrChanged) || strings.Contains(sent.String(), "VERY-KEY") {
		t.Errorf("%v, after %d bytes", err, sent.Len())
	}
}

func TestTheDigestKnowsWhatIsRun(t *testing.T) {
	root := tree(t, map[string]string{"a": "one"})
	digest := func() string {
		c, err := Open(t.Context(), ContextOptions{Root: root, Sources: []string{"."}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.Digest
	}
	one := digest()
	if digest() != one {
		t.Error("the same files have two digests")
	}
	if err := os.Chmod(filepath.Join(root, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if digest() == one {
		t.Error("a program has the digest of a text")
	}
}

// A file of the repository that has the name of what agentbox adds would come later in the archive, and be carried out in its
// place.
func TestNoFileStandsInForWhatIsAdded(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"a file": {".own": "RUN --network=host id", "a": "a"}, "a link": {".own": "->a", "a": "a"}, "a directory": {".own/x": "x"},
	} {
		c, err := Open(t.Context(), ContextOptions{Root: tree(t, files), Sources: []string{"."}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Write(t.Context(), io.Discard, map[string][]byte{".own": []byte("FROM scratch")}); err == nil || !strings.Contains(err.Error(), "own name") {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.Write(t.Context(), io.Discard, map[string][]byte{".ow": nil}); err != nil {
			t.Errorf("another name is refused: %v", err)
		}
		c.Close()
	}
}
