package changes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	builtin "agentbox/profiles"

	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a file and the directories above it; a name that ends in "/" is a directory.
func put(t testing.TB, root, name, content string) {
	t.Helper()
	path := filepath.Join(root, name)
	if strings.HasSuffix(name, "/") {
		must(t, os.MkdirAll(path, 0o755))
		return
	}
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

// stage is a repository and what an agent's run left.
type stage struct {
	t                 testing.TB
	root, work, upper string
	base              Base
}

func newStage(t testing.TB, backend string) *stage {
	dir := t.TempDir()
	st := &stage{t: t, root: filepath.Join(dir, "root"), work: filepath.Join(dir, "work")}
	st.base = Base{Run: "r1", Root: st.root, Backend: backend}
	st.upper = filepath.Join(st.work, "tree", "upper")
	if backend == Copy {
		st.upper = filepath.Join(st.work, "copy")
	}
	must(t, os.MkdirAll(st.root, 0o755))
	must(t, os.MkdirAll(st.upper, 0o755))
	return st
}

// begin ends the preparation of the repository.
func (st *stage) begin() {
	st.t.Helper()
	began, err := Moment(st.root)
	must(st.t, err)
	st.base.Began = began
	if st.base.Backend == Copy {
		must(st.t, exec.Command("cp", "-a", st.root+"/.", st.upper).Run())
		must(st.t, os.RemoveAll(filepath.Join(st.upper, ".git")))
		_ = os.Remove(filepath.Join(st.upper, "d", "fifo")) // as a copy is made
		copied, err := Moment(st.upper)
		must(st.t, err)
		st.base.Copied = copied
	}
	must(st.t, Save(st.work, st.base))
}

func (st *stage) source() *Source {
	s, err := Open(st.work)
	must(st.t, err)
	return s
}

func (st *stage) whiteout(name string) {
	path := filepath.Join(st.upper, name)
	must(st.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(st.t, unix.Mknod(path, unix.S_IFCHR, 0))
}

// lines gives the list as texts: path, kinds, fate, and flags.
func (st *stage) lines() (out []string) {
	st.t.Helper()
	list, err := st.source().List(context.Background())
	must(st.t, err)
	for _, c := range list {
		line := fmt.Sprintf("%q %s>%s %s", c.Path, c.Before.Kind, c.After.Kind, c.Fate)
		if c.ChangedOutside {
			line += " outside"
		}
		out = append(out, line)
	}
	return out
}

func (st *stage) want(want ...string) {
	st.t.Helper()
	got := strings.Join(st.lines(), "\n")
	if got != strings.Join(want, "\n") {
		st.t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func (st *stage) change(path string) Change {
	st.t.Helper()
	list, err := st.source().List(context.Background())
	must(st.t, err)
	for _, c := range list {
		if c.Path == path {
			return c
		}
	}
	st.t.Fatalf("%q is not listed", path)
	return Change{}
}

func TestKernelsEncoding(t *testing.T) {
	st := newStage(t, Overlay)
	for _, name := range []string{"gone", "kept", "dir/a", "dir/b", "covered/old", "covered/both", "same"} {
		put(t, st.root, name, name)
	}
	st.begin()
	st.whiteout("gone")
	st.whiteout("nothing")
	st.whiteout("dir")
	put(t, st.upper, "covered/both", "new")
	must(t, unix.Setxattr(filepath.Join(st.upper, "covered"), "user.overlay.opaque", []byte("y"), 0))
	put(t, st.upper, "same", "same")
	put(t, st.upper, ".wh.kept", "a file like any other")
	put(t, st.upper, "empty/", "")
	st.want(`".wh.kept" >file applies`, `"covered/both" file>file applies`, `"covered/old" file> applies`, `"dir" dir> applies`,
		`"dir/a" file> applies`, `"dir/b" file> applies`, `"empty" >dir applies`, `"gone" file> applies`)
}

func TestFusesEncoding(t *testing.T) {
	st := newStage(t, FuseOverlay)
	for _, name := range []string{"gone", "kept", "dir/a", "covered/old", "covered/both", "again"} {
		put(t, st.root, name, name)
	}
	st.begin()
	put(t, st.upper, ".wh.gone", "")
	put(t, st.upper, ".wh.dir", "")
	put(t, st.upper, ".wh.again", "")
	put(t, st.upper, "again", "again, and new")
	put(t, st.upper, "covered/.wh..wh..opq", "")
	put(t, st.upper, "covered/both", "new")
	put(t, st.upper, ".wh.text", "not a mark")
	must(t, unix.Mknod(filepath.Join(st.upper, "gone"), unix.S_IFCHR, 0)) // marked in both ways
	st.want(`".wh.text" >file applies`, `"again" file>file applies`, `"covered/both" file>file applies`, `"covered/old" file> applies`, `"dir" dir> applies`,
		`"dir/a" file> applies`, `"gone" file> applies`)
}

func TestFates(t *testing.T) {
	st := newStage(t, Overlay)
	st.base.Hide = []string{".env*", "secret/"}
	st.base.MountPoints = []string{"made", "made/point", ".envrc.d"}
	for _, name := range []string{"tool", "README", "sub/.git/HEAD", ".git/HEAD", "mode"} {
		put(t, st.root, name, name)
	}
	st.begin()
	put(t, st.upper, ".env", "x")
	put(t, st.upper, ".envrc.d", "")
	put(t, st.upper, "deep/secret/key", "x")
	put(t, st.upper, "made/point/", "")
	put(t, st.upper, ".git/", "")
	put(t, st.upper, "sub/.git/HEAD", "other")
	put(t, st.upper, ".GIT/config", "x")
	put(t, st.upper, "d/.g\u200cit", "x")
	put(t, st.upper, "d/git~1", "x")
	put(t, st.upper, "d/.git. ", "x")
	put(t, st.upper, "readme", "x")
	put(t, st.upper, "closed", "x")
	put(t, st.upper, "tool", "tool")
	must(t, os.Chmod(filepath.Join(st.upper, "tool"), 0o644|fs.ModeSetuid))
	must(t, os.Chmod(filepath.Join(st.upper, "closed"), 0))
	must(t, unix.Mkfifo(filepath.Join(st.upper, "fifo"), 0o644))
	must(t, os.Mkdir(filepath.Join(st.upper, "dark"), 0))
	put(t, st.upper, "mode", "mode")
	must(t, os.Chmod(filepath.Join(st.upper, "mode"), 0o755))
	must(t, os.Symlink("/etc/passwd", filepath.Join(st.upper, "out")))
	must(t, os.Symlink("../README", filepath.Join(st.upper, "d", "in")))
	must(t, os.Symlink("out/x", filepath.Join(st.upper, "through")))
	put(t, st.upper, "bad\xff\x1b[2J", "x")
	st.want(`".GIT" >dir git`, `".env" >file hidden`, `"bad\xff\x1b[2J" >file applies`, `"closed" >file unreadable`, `"d" >dir applies`,
		`"d/.git. " >file git`, `"d/.g\u200cit" >file git`, `"d/git~1" >file git`, `"d/in" >link applies`, `"dark" >dir unreadable`,
		`"deep" >dir applies`, `"deep/secret" >dir hidden`, `"fifo" >special special`, `"mode" file>file applies`, `"out" >link applies`,
		`"readme" >file applies`, `"sub/.git" dir>dir git`, `"through" >link applies`, `"tool" file>file dropped`)
	for path, why := range map[string]string{"readme": `"README"`, "fifo": "fifo", "tool": "setuid", "closed": "read", ".env": "hide"} {
		if c := st.change(path); !strings.Contains(c.Why, why) {
			t.Errorf("%q: why is %q, want %q", path, c.Why, why)
		}
	}
	for path, later := range map[string]bool{"out": true, "through": true, "d/in": false, "mode": true} {
		if c := st.change(path); (c.Later != "") != later {
			t.Errorf("%q: later is %q", path, c.Later)
		}
	}
}

// With what every profile hides: whatever the agent makes at such a name, in another case, as a link, as a directory or below a
// directory that it renamed, is not applied; what the person has there is no removal. What is shown by name is a change.
func TestNamesOfSecretsAreNeverApplied(t *testing.T) {
	for _, backend := range []string{Overlay, Copy} {
		t.Run(backend, func(t *testing.T) {
			st := newStage(t, backend)
			st.base.Hide = append(builtin.Hidden(), "!.env.test")
			for _, name := range []string{"conf/.env", "conf/a", "key/ID_RSA"} {
				put(t, st.root, name, "h1dden")
			}
			if backend == Copy {
				put(t, st.upper, "conf/a", "h1dden")
				put(t, st.upper, "key/", "")
			}
			st.begin()
			if backend == Copy {
				must(t, os.Rename(filepath.Join(st.upper, "conf"), filepath.Join(st.upper, "conf2")))
			} else {
				must(t, unix.Mknod(filepath.Join(st.upper, "conf"), unix.S_IFCHR, 0))
				put(t, st.upper, "conf2/a", "h1dden")
			}
			put(t, st.upper, "conf2/.env", "x")
			put(t, st.upper, ".ENV", "x")
			put(t, st.upper, "key/id_r\u017fa", "x")
			put(t, st.upper, "server.KEY/in", "x")
			must(t, os.Symlink("/etc/passwd", filepath.Join(st.upper, ".netrc")))
			put(t, st.upper, ".env.example", "x")
			put(t, st.upper, ".env.test", "x")
			put(t, st.upper, "node_modules/a/ca.pem", "x")
			st.want(`".ENV" >file hidden`, `".env.example" >file applies`, `".env.test" >file applies`, `".netrc" >link hidden`,
				`"conf" dir> applies`, `"conf/a" file> applies`, `"conf2" >dir applies`, `"conf2/.env" >file hidden`, `"conf2/a" >file applies`,
				"\"key/id_r\u017fa\" >file hidden", `"node_modules" >dir applies`, `"node_modules/a" >dir applies`, `"node_modules/a/ca.pem" >file applies`,
				`"server.KEY" >dir hidden`)
		})
	}
}

// A link that the agent laid in the place of a directory leads nobody out of the upper.
func TestNoLinkIsFollowed(t *testing.T) {
	st := newStage(t, Overlay)
	outside := t.TempDir()
	put(t, outside, "id_rsa", "the person's key")
	put(t, st.root, "dir/id_rsa", "x")
	st.begin()
	must(t, os.Symlink(outside, filepath.Join(st.upper, "dir")))
	must(t, os.Symlink(filepath.Join(outside, "id_rsa"), filepath.Join(st.upper, "key")))
	for _, path := range []string{"dir/id_rsa", "key", "../work/base.json", "/etc/passwd"} {
		if f, err := st.source().After(path); err == nil {
			f.Close()
			t.Errorf("%q was opened", path)
		}
	}
	must(t, os.RemoveAll(filepath.Join(st.root, "dir")))
	must(t, os.Symlink(outside, filepath.Join(st.root, "dir")))
	if r, err := st.source().Before(context.Background(), "dir/id_rsa"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the person's link was followed: %v %v", r, err)
	}
}

func git(t testing.TB, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// commit makes the repository one of git's and keeps its index as of the start.
func (st *stage) commit() {
	git(st.t, st.root, "init", "-q")
	git(st.t, st.root, "add", "-A")
	git(st.t, st.root, "commit", "-qm", "x")
	st.base.Git = filepath.Join(st.root, ".git")
	index, err := os.ReadFile(filepath.Join(st.base.Git, "index"))
	must(st.t, err)
	must(st.t, os.WriteFile(filepath.Join(st.work, "base.index"), index, 0o600))
}

// What was there at the start is known by its times, and else by the index of the start.
func TestAncestors(t *testing.T) {
	st := newStage(t, Overlay)
	for _, name := range []string{"untouched", "tracked", "touched", "gone", "bystander", "fresh-mode"} {
		put(t, st.root, name, "start\n")
	}
	st.commit()
	put(t, st.root, "loose", "start\n")
	put(t, st.root, "swap/x", "start\n")
	put(t, st.root, "swap2/x", "another\n")
	st.begin()
	// The person:
	put(t, st.root, "tracked", "mine\n")
	put(t, st.root, "bystander", "mine\n")
	put(t, st.root, "touched", "start\n")
	put(t, st.root, "loose", "mine\n")
	put(t, st.root, "both-new", "mine\n")
	must(t, os.Remove(filepath.Join(st.root, "gone")))
	must(t, os.Rename(filepath.Join(st.root, "swap"), filepath.Join(st.root, "swap3")))
	must(t, os.Rename(filepath.Join(st.root, "swap2"), filepath.Join(st.root, "swap")))
	// The agent, but for bystander, which it only touched:
	for _, name := range []string{"untouched", "tracked", "touched", "gone", "loose", "both-new", "swap/x"} {
		put(t, st.upper, name, "agent's\n")
	}
	put(t, st.upper, "bystander", "start\n")
	st.want(`"both-new" file>file applies outside`, `"gone" file>file applies outside`, `"loose" file>file applies outside`, `"swap/x" file>file applies outside`,
		`"touched" file>file applies`, `"tracked" file>file applies outside`, `"untouched" file>file applies`)
	for path, want := range map[string]string{"untouched": "start\n", "tracked": "start\n", "gone": "start\n", "loose": "mine\n"} {
		r, err := st.source().Before(context.Background(), path)
		must(t, err)
		got, err := io.ReadAll(r)
		must(t, err)
		if string(got) != want {
			t.Errorf("before, %q held %q, want %q", path, got, want)
		}
		r.Close()
	}
	for path, known := range map[string]bool{"tracked": true, "loose": false, "both-new": false, "swap/x": false, "gone": true, "untouched": true} {
		a, err := st.source().Ancestor(context.Background(), path)
		must(t, err)
		if a.Known != known {
			t.Errorf("%q: known is %t", path, a.Known)
		}
	}
}

// Whatever a repository's configuration names, reading its index and blobs runs none of it.
func TestReadingRunsNothingOfTheRepositorys(t *testing.T) {
	st := newStage(t, Overlay)
	put(t, st.root, "a.txt", "start\n")
	put(t, st.root, ".gitattributes", "* filter=evil diff=evil merge=evil\n")
	st.commit()
	canary := filepath.Join(t.TempDir(), "ran")
	script := filepath.Join(t.TempDir(), "evil")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\ntouch "+canary+"\ncat\n"), 0o755))
	for _, key := range []string{"core.fsmonitor", "filter.evil.smudge", "filter.evil.clean", "filter.evil.process", "diff.evil.textconv", "diff.external",
		"merge.evil.driver", "core.sshCommand", "core.pager", "core.alternateRefsCommand", "alias.ls-files", "alias.cat-file", "core.editor", "credential.helper"} {
		git(t, st.root, "config", key, script)
	}
	git(t, st.root, "config", "core.hooksPath", filepath.Dir(script))
	st.begin()
	put(t, st.root, "a.txt", "mine\n")
	put(t, st.upper, "a.txt", "agent's\n")
	c := st.change("a.txt")
	if text, err := st.source().Diff(context.Background(), c); err != nil || len(text.Hunks) != 1 {
		t.Errorf("%+v %v", text, err)
	}
	if _, err := os.Stat(canary); err == nil {
		t.Error("a program of the repository's ran")
	}
}

func TestPrivateCopy(t *testing.T) {
	st := newStage(t, Copy)
	for _, name := range []string{"keep", "edit", "gone", "d/keep", "d/gone", "moved/x", "mine", "hisdir/a", "chmod", "nest/.git/HEAD"} {
		put(t, st.root, name, name)
	}
	st.base.Hide = []string{".env"}
	put(t, st.root, ".env", "x")
	st.commit()
	must(t, unix.Mkfifo(filepath.Join(st.root, "d", "fifo"), 0o644))
	put(t, st.root, "loose", "x")
	st.begin()
	st.want()
	// The person, meanwhile:
	put(t, st.root, "mine", "changed")
	put(t, st.root, "loose", "changed")
	put(t, st.root, "new-of-mine", "x")
	put(t, st.root, "d/new-of-mine", "x")
	put(t, st.root, "newdir/x", "x")
	// The agent:
	put(t, st.upper, "edit", "changed")
	put(t, st.upper, "keep", "keep")
	put(t, st.upper, "new", "x")
	must(t, os.Remove(filepath.Join(st.upper, "gone")))
	must(t, os.Remove(filepath.Join(st.upper, "d/gone")))
	must(t, os.Rename(filepath.Join(st.upper, "moved"), filepath.Join(st.upper, "elsewhere")))
	must(t, os.Chmod(filepath.Join(st.upper, "chmod"), 0o600))
	st.want(`"chmod" file>file applies`, `"d/gone" file> applies`, `"edit" file>file applies`, `"elsewhere" >dir applies`, `"elsewhere/x" >file applies`,
		`"gone" file> applies`, `"moved" dir> applies`, `"moved/x" file> applies`, `"new" >file applies`)
}

// A record of another version, or of nothing, is not guessed at.
func TestOpenIsStrict(t *testing.T) {
	for _, text := range []string{"", "{}", `{"version":2,"run":"a","root":"/a","backend":"overlay","began":"2026-01-01T00:00:00Z"}`,
		`{"version":1,"run":"../a","root":"/a","backend":"overlay","began":"2026-01-01T00:00:00Z"}`, `{"version":1,"run":"a","root":"a","backend":"overlay","began":"2026-01-01T00:00:00Z"}`,
		`{"version":1,"run":"a","root":"/a","backend":"x","began":"2026-01-01T00:00:00Z"}`, `{"version":1,"run":"a","root":"/a","backend":"overlay"}`} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "base.json"), []byte(text), 0o600))
		if s, err := Open(dir); err == nil {
			t.Errorf("%s was read: %+v", text, s)
		}
	}
}

// What is written after the moment is told from what was written before it, even at once.
func TestMomentTellsBeforeFromAfter(t *testing.T) {
	dir := t.TempDir()
	for i := range 50 {
		before, after := filepath.Join(dir, fmt.Sprint(i, "a")), filepath.Join(dir, fmt.Sprint(i, "b"))
		must(t, os.WriteFile(before, nil, 0o644))
		moment, err := Moment(dir)
		must(t, err)
		must(t, os.WriteFile(after, nil, 0o644))
		tr, err := openTree(dir)
		must(t, err)
		a, err := tr.lstat(filepath.Base(before))
		must(t, err)
		b, err := tr.lstat(filepath.Base(after))
		must(t, err)
		tr.close()
		if !a.changed().Before(moment) || b.changed().Before(moment) {
			t.Fatalf("before %v, moment %v, after %v", a.changed(), moment, b.changed())
		}
	}
}

// Holes cost nothing, and do not tell two files apart.
func TestSparse(t *testing.T) {
	dir := t.TempDir()
	make := func(name string, hole bool, data string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		must(t, err)
		if !hole {
			_, err := f.Write(bytes.Repeat([]byte{0}, 1<<20))
			must(t, err)
		}
		_, err = f.WriteAt([]byte(data), 500_000)
		must(t, err)
		must(t, f.Truncate(1<<20))
		return f
	}
	a, b, c := make("a", true, "x"), make("b", false, "x"), make("c", true, "y")
	if same, err := EqualFiles(a, b); !same || err != nil {
		t.Error("a hole and zeros differ:", err)
	}
	if same, _ := EqualFiles(a, c); same {
		t.Error("different data are the same")
	}
	da, _ := Digest(a)
	db, _ := Digest(b)
	dc, _ := Digest(c)
	if da != db || da == dc {
		t.Error(da, db, dc)
	}
	huge, err := os.Create(filepath.Join(dir, "huge"))
	must(t, err)
	must(t, huge.Truncate(1<<43)) // it would take days to read
	if _, err := Digest(huge); err != nil {
		t.Error(err)
	}
}
