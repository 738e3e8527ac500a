//go:build linux

package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is hidden is empty or gone inside. Whatever an agent has git do there in passing, what is committed has it as it was.
func TestWhatIsHiddenIsCommittedAsItWas(t *testing.T) {
	for _, version := range []string{"2", "3", "4"} {
		for _, format := range []string{"sha1", "sha256"} {
			t.Run(version+format, func(t *testing.T) {
				root := realTemp(t)
				git(t, root, "init", "-q", "-b", "main", "--object-format="+format)
				kept := []string{".env", "testdata/server.key", "secrets/a/key", "secrets/b"}
				for _, name := range append(kept, "main.go", "z/deep/file", "a/x") {
					write(t, filepath.Join(root, name), "content of "+name+"\n")
				}
				git(t, root, "add", ".")
				git(t, root, "commit", "-qm", "first")
				git(t, root, "branch", "other")
				write(t, filepath.Join(root, "main.go"), "second\n")
				git(t, root, "commit", "-qam", "second")
				git(t, root, "update-index", "--index-version", version)
				hide(t, root, ".env*", "*.key", "secrets/**")

				if status := git(t, root, "status", "--porcelain"); status != "" {
					t.Errorf("git inside sees changes: %s", status)
				}
				write(t, filepath.Join(root, "main.go"), "third\n")
				write(t, filepath.Join(root, "new"), "new\n")
				git(t, root, "add", "-A")
				git(t, root, "commit", "-qam", "third")
				git(t, root, "reset", "-q", "--hard", "HEAD~1")
				git(t, root, "checkout", "-q", "other")
				write(t, filepath.Join(root, "a/x"), "on another branch\n")
				git(t, root, "stash", "-q")
				git(t, root, "stash", "pop", "-q")
				git(t, root, "commit", "-qam", "fourth")
				git(t, root, "checkout", "-q", "main")
				git(t, root, "merge", "-q", "-m", "fifth", "other")
				for _, name := range kept {
					if got := git(t, root, "show", "HEAD:"+name); got != "content of "+name+"\n" {
						t.Errorf("%s is committed as %q", name, got)
					}
				}
				if got := git(t, root, "show", "HEAD:a/x"); got != "on another branch\n" {
					t.Errorf("what was changed is committed as %q", got)
				}
				if out := git(t, root, "fsck", "--strict"); strings.Contains(out, "error") {
					t.Error(out)
				}
			})
		}
	}
}

// hide does to a repository itself what a review does to the one that is seen inside: its index has the marks, files are
// empty and directories too.
func hide(t *testing.T, root string, patterns ...string) {
	t.Helper()
	repo := find(t, root)
	s, err := Look(repo, patterns)
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	b := &builder{repo: repo, mode: Review, layer: Layer{Backend: Overlay, Work: work}}
	if err := os.MkdirAll(filepath.Join(work, "git", "upper"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.unseen(s); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(work, "git", "upper", "index"), filepath.Join(repo.Git, "index")); err != nil {
		t.Fatal(err)
	}
	for _, path := range s.Hidden {
		info, err := os.Lstat(path)
		if err != nil || os.RemoveAll(path) != nil {
			t.Fatal(err)
		}
		if !info.IsDir() && filepath.Base(path) == ".env" { // the others are left out, as a copy does
			write(t, path, "")
		}
	}
}

// An index with a part that changes what entries mean is left as it is; so is what no mark may stand on.
func TestAnIndexThatIsNotUnderstoodIsLeftAlone(t *testing.T) {
	entry := func(flags byte) []byte { return append(make([]byte, 60), flags, 1, 'a', 0) }
	index := func(e []byte, extension string) []byte {
		return sumIndex(append(append([]byte("DIRC\x00\x00\x00\x02\x00\x00\x00\x01"), e...), extension...), 20)
	}
	all := func(string) bool { return true }
	for extension, ok := range map[string]bool{"": true, "TREE\x00\x00\x00\x01x": true, "EOIE\x00\x00\x00\x01x": true, "link\x00\x00\x00\x01x": false, "what\x00\x00\x00\x01x": false, "TREE\x00\x00\x00\x09x": false, "TR": false} {
		out, err := skipWorktree(index(entry(0), extension), 20, all)
		if (err == nil) != ok {
			t.Errorf("%q: %v", extension, err)
		}
		if ok {
			if entries, err := parseIndex(out, 20); err != nil || len(entries) != 1 || !entries[0].unseen {
				t.Errorf("%q: %+v %v", extension, entries, err)
			}
		}
	}
	out, err := skipWorktree(index(entry(0x20), ""), 20, all)
	if entries, _ := parseIndex(out, 20); err != nil || entries[0].unseen {
		t.Errorf("the side of a conflict has a mark (%v)", err)
	}
}

func FuzzSkipWorktree(f *testing.F) {
	f.Add([]byte("DIRC\x00\x00\x00\x04\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := skipWorktree(data, 20, func(string) bool { return true })
		if err != nil {
			return
		}
		was, _ := parseIndex(data, 20)
		is, err := parseIndex(out, 20)
		if err != nil || len(was) != len(is) {
			t.Errorf("what was written can't be read: %v", err)
		}
	})
}
