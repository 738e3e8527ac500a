//go:build linux

package workspace

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// forgeIndex writes an index as no git does: one name, and the blob that lies there.
func forgeIndex(t *testing.T, repo Repo, name, blob string) {
	t.Helper()
	id, err := hex.DecodeString(blob)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	b.WriteString("DIRC")
	for _, n := range []uint32{2, 1, 0, 0, 0, 0, 0, 0, 0o100755, 0, 0, 0} {
		if err := binary.Write(&b, binary.BigEndian, n); err != nil {
			t.Fatal(err)
		}
	}
	b.Write(id)
	b.Write([]byte{0, byte(len(name))})
	b.WriteString(name)
	b.Write(make([]byte, 8-(62+len(name))%8))
	sum := sha1.Sum(b.Bytes())
	b.Write(sum[:])
	if err := os.WriteFile(filepath.Join(repo.Git, "index"), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// In the direct mode the index is the agent's to write, and git on the host checks out whatever name stands in it: one in
// .git/hooks was written by the person's next `git checkout .`, and run by the one after it.
func TestAnIndexThatWritesIntoGitIsPutAside(t *testing.T) {
	for _, name := range []string{".git/hooks/post-checkout", "../outside", ".GIT/config", "a/../../outside"} {
		for _, defended := range []bool{false, true} {
			repo := newRepo(t)
			canary := filepath.Join(filepath.Dir(repo.Root), "canary")
			evil := exec.Command("git", "hash-object", "-w", "--stdin")
			evil.Dir, evil.Stdin = repo.Root, strings.NewReader("#!/bin/sh\ntouch '"+canary+"'\n")
			blob, err := evil.Output()
			if err != nil {
				t.Fatal(err)
			}
			forgeIndex(t, repo, name, strings.TrimSpace(string(blob)))
			if defended {
				text, err := PutIndexAside(context.Background(), repo)
				if err != nil || !strings.Contains(text, name) {
					t.Errorf("%q, %v", text, err)
				}
				if status := git(t, repo.Root, "status", "--porcelain"); status != "" {
					t.Errorf("the new index: %s", status)
				}
			}
			for _, args := range [][]string{{"checkout-index", "-a", "-f"}, {"checkout", "."}, {"checkout", "-q", "-b", "other"}} {
				cmd := exec.Command("git", args...)
				cmd.Dir, cmd.Env = repo.Root, gitEnv(t)
				_ = cmd.Run() // that nothing is written counts
			}
			_, err = os.Lstat(canary)
			_, err2 := os.Lstat(filepath.Join(repo.Root, name))
			if wrote := err == nil || err2 == nil; wrote == defended {
				t.Errorf("%s: defended %t, written %t", name, defended, wrote)
			}
		}
	}
	repo := newRepo(t)
	if text, err := PutIndexAside(context.Background(), repo); text != "" || err != nil {
		t.Errorf("an index of git's own: %q, %v", text, err)
	}
}

// From a linked worktree the main one's index can be written, too.
func TestTheMainWorktreesIndexIsPutAside(t *testing.T) {
	p := newPlace(t)
	p.git("worktree", "add", "-q", "../tree")
	blob := strings.TrimSpace(git(t, p.main.Root, "rev-parse", "HEAD:a"))
	forgeIndex(t, p.main, ".git/hooks/post-checkout", blob)
	text, err := PutIndexAside(t.Context(), find(t, p.at("tree")))
	if err != nil || !strings.Contains(text, filepath.Join(p.main.Git, "index.aside1")) {
		t.Errorf("%q, %v", text, err)
	}
	p.git("checkout", ".")
	if _, err := os.Lstat(filepath.Join(p.main.Git, "hooks/post-checkout")); err == nil {
		t.Error("git wrote a hook")
	}
}
