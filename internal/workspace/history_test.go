//go:build linux

package workspace

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// past is a repository with a line of commits base, one, two, and a branch from base: other, child.
type past struct {
	t                            *testing.T
	dir                          string
	base, one, two, other, child string
}

func newPast(t *testing.T, format string) *past {
	t.Helper()
	p := &past{t: t, dir: t.TempDir()}
	p.git("init", "-q", "-b", "main", "--object-format="+format, ".")
	p.base = p.commit("base")
	p.one = p.commit("one", p.base)
	p.two = p.commit("two", p.one)
	p.other = p.commit("other", p.base)
	p.child = p.commit("child", p.other)
	return p
}

func (p *past) run(stdin string, args ...string) (string, error) {
	p.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin = p.dir, strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (p *past) git(args ...string) string {
	p.t.Helper()
	out, err := p.run("", args...)
	if err != nil {
		p.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (p *past) commit(message string, parents ...string) string {
	p.t.Helper()
	args := []string{"commit-tree", "-m", message}
	for _, parent := range parents {
		args = append(args, "-p", parent)
	}
	return p.git(append(args, p.tree())...)
}

func (p *past) tree() string {
	p.t.Helper()
	out, err := p.run("", "mktree")
	if err != nil {
		p.t.Fatal(out)
	}
	return out
}

func (p *past) descends(now, old string) bool {
	return History{dir: p.dir, git: p.dir + "/.git"}.Descends(p.t.Context(), now, old)
}

// fooled reports whether git itself, asked without any care, takes old for an ancestor of now.
func (p *past) fooled(now, old string) bool {
	_, err := p.run("", "merge-base", "--is-ancestor", old, now)
	return err == nil
}

// plant writes a loose object under any name.
func (p *past) plant(name, kind, content string) {
	p.t.Helper()
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	_, _ = fmt.Fprintf(w, "%s %d\x00%s", kind, len(content), content)
	_ = w.Close()
	path := p.object(name)
	_ = os.Remove(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, packed.Bytes(), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *past) object(name string) string {
	return filepath.Join(p.dir, ".git", "objects", name[:2], name[2:])
}

func TestDescends(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		p := newPast(t, format)
		merge := p.commit("merge", p.other, p.two)
		p.git("tag", "-a", "-m", "tag", "v1", p.two)
		for name, c := range map[string]struct {
			now, old string
			want     bool
		}{
			"parent": {p.two, p.one, true}, "grandparent": {p.two, p.base, true}, "by a merge's second parent": {merge, p.one, true},
			"the other way": {p.one, p.two, false}, "another branch": {p.two, p.other, false}, "itself": {p.two, p.two, false},
			"nobody knows": {strings.Repeat("1", len(p.two)), p.base, false}, "from nobody knows": {p.two, strings.Repeat("1", len(p.two)), false},
			"a tag": {p.git("rev-parse", "v1"), p.base, false}, "a tree": {p.tree(), p.base, false},
			"no name at all": {"HEAD", p.base, false}, "two lines": {p.one + "\n" + p.two, p.base, false},
		} {
			if got := p.descends(c.now, c.old); got != c.want {
				t.Errorf("%s, %s: %v", format, name, got)
			}
		}
		p.git("branch", "-f", "kept", merge)
		p.git("repack", "-adq")
		if !p.descends(merge, p.base) {
			t.Errorf("%s: not found in a pack", format)
		}
	}
}

// The agent can write the whole object store. Each of these makes plain git say that "child" came from "one", and a
// push that throws "one" away would pass for a fast-forward.
func TestNothingPlantedIsBelieved(t *testing.T) {
	for name, plant := range map[string]func(p *past){
		"an object under another's name": func(p *past) {
			p.plant(p.other, "commit", fmt.Sprintf("tree %s\nparent %s\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nother\n", p.tree(), p.one))
		},
		"a replacement": func(p *past) { p.git("replace", p.other, p.commit("other", p.one)) },
		"a graft": func(p *past) {
			p.write("info/grafts", p.other+" "+p.one+"\n")
		},
		"a commit-graph": func(p *past) {
			real := p.read(p.other)
			p.plant(p.other, "commit", strings.Replace(real, p.base, p.one, 1))
			p.write("refs/heads/o", p.child+"\n")
			p.git("commit-graph", "write", "--reachable")
			p.plant(p.other, "commit", real)
		},
		"a pack whose index lies": func(p *past) { p.lyingPack() },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPast(t, "sha1")
			if p.fooled(p.child, p.one) {
				t.Fatal("it is so without the attack")
			}
			plant(p)
			if !p.fooled(p.child, p.one) {
				t.Error("the attack does not fool git, so the test shows nothing")
			}
			if p.descends(p.child, p.one) {
				t.Error("it is believed")
			}
		})
	}
}

func (p *past) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.dir, ".git", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// read gives a commit's bytes.
func (p *past) read(name string) string {
	p.t.Helper()
	cmd := exec.Command("git", "cat-file", "commit", name)
	cmd.Dir = p.dir
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatal(err)
	}
	return string(out)
}

// lyingPack makes a pack of one commit, and has its index give that commit under another's name.
func (p *past) lyingPack() {
	p.t.Helper()
	false_ := p.commit("false", p.one)
	out, err := p.run(false_+"\n", "pack-objects", "-q", filepath.Join(p.dir, ".git/objects/pack/pack"))
	if err != nil {
		p.t.Fatal(out)
	}
	index := filepath.Join(p.dir, ".git/objects/pack/pack-"+out+".idx")
	data, err := os.ReadFile(index)
	if err != nil {
		p.t.Fatal(err)
	}
	is, _ := hex.DecodeString(false_)
	said, _ := hex.DecodeString(p.other)
	at := bytes.Index(data, is)
	copy(data[at:], said)
	for i := range 256 { // the table of first bytes
		count := byte(0)
		if i >= int(said[0]) {
			count = 1
		}
		copy(data[8+4*i:], []byte{0, 0, 0, count})
	}
	sum := sha1.Sum(data[:len(data)-sha1.Size])
	copy(data[len(data)-sha1.Size:], sum[:])
	if err := os.Chmod(index, 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(index, data, 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Remove(p.object(p.other)); err != nil {
		p.t.Fatal(err)
	}
}

func TestAShallowHistoryEndsWhereItIsCut(t *testing.T) {
	p := newPast(t, "sha1")
	p.write("shallow", p.two+"\n")
	if p.fooled(p.two, p.base) {
		t.Error("git does not heed the file, so the test shows nothing")
	}
	if !p.descends(p.two, p.base) {
		t.Error("the file is heeded")
	}
}

// A store that makes git wait is given up with the context.
func TestAStoreThatHangs(t *testing.T) {
	p := newPast(t, "sha1")
	if err := os.Remove(p.object(p.one)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(p.object(p.one), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if (History{dir: p.dir, git: p.dir + "/.git"}).Descends(ctx, p.two, p.base) {
		t.Error("found")
	}
}

func TestCommitsThatAreHugeOrCrooked(t *testing.T) {
	p := newPast(t, "sha1")
	for name, body := range map[string]string{
		"huge":            "tree %s\nparent " + p.one + "\n\n" + strings.Repeat("x", maxCommit),
		"a parent's name": "tree %s\nparent HEAD\nparent " + p.one + "\n\n",
		"no tree":         "parent " + p.one + "\nparent " + p.one + "\nauthor %s\n\n",
	} {
		content := fmt.Sprintf(body, p.tree())
		sum := sha1.Sum(fmt.Appendf(nil, "commit %d\x00%s", len(content), content))
		oid := hex.EncodeToString(sum[:])
		p.plant(oid, "commit", content)
		if p.descends(oid, p.one) {
			t.Errorf("%s: believed", name)
		}
	}
}

// An agent that works in a copy pushes twice to its branch: its own commits are in the copy alone.
func TestWhatWasCommittedInALayerIsHistory(t *testing.T) {
	p := newPast(t, "sha1")
	repo := Repo{Root: p.dir, Git: p.dir + "/.git", Common: p.dir + "/.git"}
	for _, copied := range []bool{false, true} {
		l := Layer{Work: t.TempDir() + `/a "b":c\d`, CopyGit: copied}
		objects := l.place(repo, "objects")
		if err := os.MkdirAll(objects, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("GIT_OBJECT_DIRECTORY", objects)
		t.Setenv("GIT_ALTERNATE_OBJECT_DIRECTORIES", p.dir+"/.git/objects")
		three := p.commit(fmt.Sprint("made inside ", copied), p.two)
		four := p.commit("made after it", three)
		_ = os.Unsetenv("GIT_OBJECT_DIRECTORY") // Setenv puts them back
		_ = os.Unsetenv("GIT_ALTERNATE_OBJECT_DIRECTORIES")
		h := HistoryIn(repo, l)
		for _, old := range []string{three, p.two, p.base} {
			if !h.Descends(t.Context(), four, old) {
				t.Errorf("copied %v: %s is not found in the history of %s", copied, old, four)
			}
		}
		if h.Descends(t.Context(), p.two, four) || HistoryOf(repo).Descends(t.Context(), four, three) {
			t.Error("what is no history is found")
		}
		elsewhere := t.TempDir() + "/elsewhere"
		if err := errors.Join(os.Rename(objects, elsewhere), os.Symlink(elsewhere, objects)); err != nil {
			t.Fatal(err)
		}
		if h.Descends(t.Context(), four, three) {
			t.Error("a link is followed to another store")
		}
	}
}
