//go:build linux

package apply

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"agentbox/internal/atomicfile"
	"agentbox/internal/changes"

	"golang.org/x/sys/unix"
)

// write writes a file below a directory, and the directories above it.
func write(t testing.TB, root, name, content string) {
	t.Helper()
	path := filepath.Join(root, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

func (w *world) whiteout(name string) {
	must(w.t, unix.Mknod(filepath.Join(w.upper, name), unix.S_IFCHR, 0))
}

func (w *world) apply(sel Selection) Report {
	w.t.Helper()
	r, err := Apply(context.Background(), w.source(), sel)
	must(w.t, err)
	return r
}

var everything = Selection{All: true, AllLater: true}

// holds checks a file of the repository.
func (w *world) holds(name, want string) {
	w.t.Helper()
	got, err := os.ReadFile(filepath.Join(w.root, name))
	if err != nil || string(got) != want {
		w.t.Errorf("%q holds %q (%v), want %q", name, got, err, want)
	}
}

func (w *world) absent(name string) {
	w.t.Helper()
	if _, err := os.Lstat(filepath.Join(w.root, name)); !errors.Is(err, fs.ErrNotExist) {
		w.t.Errorf("%q is there (%v)", name, err)
	}
}

func wantResult(t testing.TB, r Report, path string, want Result) Outcome {
	t.Helper()
	for _, o := range r.Outcomes {
		if o.Path == path {
			if o.Result != want {
				t.Errorf("%q: %s (%s), want %s", path, o.Result, o.Why, want)
			}
			return o
		}
	}
	t.Errorf("%q: nothing is told", path)
	return Outcome{}
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

// commit makes the repository git's, and begins.
func (w *world) commit() {
	w.t.Helper()
	git(w.t, w.root, "init", "-q")
	git(w.t, w.root, "add", "-A")
	git(w.t, w.root, "commit", "-qm", "x")
	index, err := os.ReadFile(filepath.Join(w.root, ".git", "index"))
	must(w.t, err)
	must(w.t, os.WriteFile(filepath.Join(w.work, "base.index"), index, 0o600))
	w.begin()
	w.base.Git = filepath.Join(w.root, ".git")
	must(w.t, changes.Save(w.work, w.base))
}

const (
	start = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n"
	ours  = "ONE\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n" // the person's
	their = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nNINE\n" // the agent's
	both  = "ONE\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nNINE\n"
	clash = "uno\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n"
)

func TestWhatThePersonChangedMeanwhileIsMergedOrLeft(t *testing.T) {
	w := newWorld(t, t.TempDir())
	for _, name := range []string{"merged", "clash", "binary", "gone-here", "gone-there", "same", "mode"} {
		write(t, w.root, name, start)
	}
	w.commit()
	write(t, w.root, "merged", ours)
	write(t, w.root, "clash", ours)
	write(t, w.root, "binary", "\x00mine")
	write(t, w.root, "gone-there", ours)
	write(t, w.root, "new", "mine\n")
	write(t, w.root, "same", their)
	write(t, w.root, "mode", ours)
	must(t, os.Remove(filepath.Join(w.root, "gone-here")))
	for name, text := range map[string]string{"merged": their, "clash": clash, "binary": "\x00theirs", "gone-here": their, "new": "theirs\n", "same": their, "mode": start} {
		write(t, w.upper, name, text)
	}
	must(t, os.Chmod(filepath.Join(w.upper, "mode"), 0o755))
	w.whiteout("gone-there")
	for range 2 {
		r := w.apply(everything)
		for _, name := range []string{"clash", "binary", "new", "gone-here"} {
			if o := wantResult(t, r, name, Conflict); o.Beside != name+".agentbox-r1" {
				t.Errorf("%q lies at %q", name, o.Beside)
			}
		}
		wantResult(t, r, "gone-there", Conflict)
		for name, text := range map[string]string{"merged": both, "clash": ours, "clash.agentbox-r1": clash, "binary": "\x00mine", "binary.agentbox-r1": "\x00theirs",
			"new": "mine\n", "new.agentbox-r1": "theirs\n", "gone-here.agentbox-r1": their, "gone-there": ours, "same": their, "mode": ours} {
			w.holds(name, text)
		}
		w.absent("gone-here")
		if info, err := os.Stat(filepath.Join(w.root, "mode")); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("mode: %v %v", info.Mode(), err)
		}
	}
	// The person goes on, and so does the agent: they have the agent's first version in common now.
	write(t, w.root, "merged", strings.Replace(both, "five", "FIVE", 1))
	write(t, w.upper, "merged", strings.Replace(their, "three", "THREE", 1))
	wantResult(t, w.apply(everything), "merged", Merged)
	w.holds("merged", strings.NewReplacer("five", "FIVE", "three", "THREE").Replace(both))
	w.do("undo")
	w.holds("clash", ours)
	w.absent("clash.agentbox-r1")
}

// What is not in the index has no ancestor, once it changed.
func TestWithoutAnAncestorItIsAConflict(t *testing.T) {
	w := newWorld(t, t.TempDir())
	write(t, w.root, "loose", start)
	w.begin()
	write(t, w.root, "loose", ours)
	write(t, w.upper, "loose", their)
	wantResult(t, w.apply(everything), "loose", Conflict)
	w.holds("loose", ours)
	w.holds("loose.agentbox-r1", their)
}

// A second apply starts from what the first one left, and not from the start.
func TestTheAgentGoesOnAfterAnApply(t *testing.T) {
	w := newWorld(t, t.TempDir())
	write(t, w.root, "old", start)
	w.begin()
	write(t, w.upper, "old", their)
	write(t, w.upper, "new", "1\n")
	w.apply(everything)
	write(t, w.upper, "old", both)
	write(t, w.upper, "new", "2\n")
	r := w.apply(everything)
	wantResult(t, r, "old", Applied)
	wantResult(t, r, "new", Applied)
	w.holds("old", both)
	w.holds("new", "2\n")
	w.whiteout("gone")
	must(t, os.Remove(filepath.Join(w.upper, "new")))
	w.do("undo")
	w.holds("old", start)
	w.absent("new")
	wantResult(t, w.apply(everything), "old", Applied)
	w.holds("old", both)
}

func TestHunks(t *testing.T) {
	w := newWorld(t, t.TempDir())
	long := strings.Repeat("-\n", 20)
	write(t, w.root, "f", "a\n"+long+"b\n"+long+"c\n")
	w.begin()
	write(t, w.upper, "f", "A\n"+long+"B\n"+long+"C\n")
	hunks := func() (ids []string) {
		list, err := w.source().List(context.Background())
		must(t, err)
		text, err := w.source().Diff(context.Background(), list[0])
		must(t, err)
		for _, h := range text.Hunks {
			ids = append(ids, h.ID)
		}
		return ids
	}
	ids := hunks()
	if len(ids) != 3 {
		t.Fatalf("%d hunks", len(ids))
	}
	wantResult(t, w.apply(Selection{Hunks: map[string][]string{"f": {ids[1]}}}), "f", Applied)
	w.holds("f", "a\n"+long+"B\n"+long+"c\n")
	if rest := hunks(); len(rest) != 2 {
		t.Errorf("%d hunks are left", len(rest))
	}
	wantResult(t, w.apply(Selection{Hunks: map[string][]string{"f": {ids[1]}}}), "f", Stale)
	// The person goes on in another place, and takes another hunk.
	write(t, w.root, "f", "a\n"+long+"B\n"+long+"c\nmine\n")
	w.apply(Selection{Hunks: map[string][]string{"f": {ids[0]}}})
	w.do("undo")
	w.holds("f", "a\n"+long+"B\n"+long+"c\nmine\n") // it changed after it was applied
}

func TestSelection(t *testing.T) {
	w := newWorld(t, t.TempDir())
	for _, name := range []string{"d/a", "d/b", "dirtofile/x", "filetodir"} {
		write(t, w.root, name, "x")
	}
	w.begin()
	for _, name := range []string{"d/a", "d/new/deep", "e/f", "Makefile", "filetodir/in"} {
		if name == "filetodir/in" {
			must(t, unix.Mknod(filepath.Join(w.upper, "unused"), unix.S_IFCHR, 0))
		}
		write(t, w.upper, name, "agent's")
	}
	write(t, w.upper, "dirtofile", "agent's")
	must(t, os.Chmod(filepath.Join(w.upper, "e"), 0o700))
	must(t, unix.Mkfifo(filepath.Join(w.upper, "fifo"), 0o644))

	r := w.apply(Selection{Paths: []string{"./e/f", "nowhere", "Makefile", "fifo"}})
	wantResult(t, r, "e/f", Applied)
	wantResult(t, r, "nowhere", Already)
	wantResult(t, r, "Makefile", Waiting)
	wantResult(t, r, "fifo", Refused)
	w.holds("e/f", "agent's")
	if info, err := os.Stat(filepath.Join(w.root, "e")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory that was needed: %v %v", info, err)
	}
	w.holds("d/a", "x")
	w.absent("Makefile")
	r = w.apply(Selection{All: true})
	wantResult(t, r, "Makefile", Waiting)
	w.holds("d/new/deep", "agent's")
	w.absent("Makefile")
	wantResult(t, w.apply(Selection{Paths: []string{"Makefile"}, Later: []string{"Makefile"}}), "Makefile", Applied)
	w.holds("filetodir/in", "agent's")
	w.holds("dirtofile", "agent's")
}

func TestWhatChangedAfterTheLookIsNotApplied(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.begin()
	write(t, w.upper, "a", "harmless")
	list, err := w.source().List(context.Background())
	must(t, err)
	seen := map[string]string{"a": list[0].Mark}
	write(t, w.upper, "a", "harmful!")
	wantResult(t, w.apply(Selection{All: true, Seen: seen}), "a", Stale)
	w.absent("a")
}

// What the agent writes while its file is copied does not slip in.
func TestWhatChangesWhileItIsCopiedIsNotApplied(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.begin()
	write(t, w.upper, "a", "harmless")
	r, err := applyAll(context.Background(), w.source(), everything, func(at string) {
		if at == "after an empty temporary file" {
			write(t, w.upper, "a", "harmful!")
		}
	})
	must(t, err)
	wantResult(t, r, "a", Stale)
	w.absent("a")
	noTemps(w)
}

// Nothing is written through a link: neither one that the person has, nor one that came from the agent.
func TestNoLinkIsFollowed(t *testing.T) {
	w := newWorld(t, t.TempDir())
	outside := t.TempDir()
	write(t, outside, "key", "the person's")
	must(t, os.Symlink(outside, filepath.Join(w.root, "mine")))
	write(t, w.root, "dir/key", "x")
	write(t, w.root, "file", "x")
	w.begin()
	write(t, w.upper, "mine/key", "agent's")
	write(t, w.upper, "dir/key", "agent's")
	must(t, os.RemoveAll(filepath.Join(w.root, "dir")))
	must(t, os.Symlink(outside, filepath.Join(w.root, "dir")))
	must(t, os.Symlink(filepath.Join(outside, "key"), filepath.Join(w.upper, "file")))
	r := w.apply(everything)
	wantResult(t, r, "dir/key", Conflict)
	wantResult(t, r, "file", Applied)
	if got, _ := os.ReadFile(filepath.Join(outside, "key")); string(got) != "the person's" {
		t.Errorf("a link was followed: the key holds %q", got)
	}
	entries, err := os.ReadDir(outside)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("%v lie outside", entries)
	}
	if target, _ := os.Readlink(filepath.Join(w.root, "file")); target != filepath.Join(outside, "key") {
		t.Errorf("the link leads to %q", target)
	}
}

// The place that a step was decided on is looked at again with the deed: whoever writes in between keeps what he wrote.
func TestAWriteAtTheLastMomentIsNotLost(t *testing.T) {
	for _, moment := range []string{"after ready", "after an exchange"} {
		w := newWorld(t, t.TempDir())
		write(t, w.root, "f", start)
		w.commit()
		write(t, w.upper, "f", their)
		open, err := os.OpenFile(filepath.Join(w.root, "f"), os.O_WRONLY, 0)
		must(t, err)
		defer open.Close()
		once := false
		_, err = applyAll(context.Background(), w.source(), everything, func(at string) {
			if at == moment && !once {
				once = true
				_, err := open.WriteAt([]byte(ours), 0)
				must(t, err)
			}
		})
		must(t, err)
		w.holds("f", both)
	}
}

func TestUndoLeavesWhatThePersonChangedSince(t *testing.T) {
	w := newWorld(t, t.TempDir())
	write(t, w.root, "a", start)
	write(t, w.root, "gone", start)
	write(t, w.root, "d/gone", start)
	w.begin()
	write(t, w.upper, "a", their)
	write(t, w.upper, "new", their)
	write(t, w.upper, "newdir/x", their)
	w.whiteout("gone")
	w.whiteout("d")
	w.apply(everything)
	write(t, w.root, "a", both)
	write(t, w.root, "newdir/mine", "mine")
	write(t, w.root, "gone", "mine")
	r := w.do("undo")
	wantResult(t, r, "a", Kept)
	wantResult(t, r, "gone", Kept)
	wantResult(t, r, "newdir", Kept)
	wantResult(t, r, "new", Restored)
	w.holds("a", both)
	w.holds("gone", "mine")
	w.holds("newdir/mine", "mine")
	w.holds("d/gone", start)
	w.absent("new")
	w.absent("newdir/x")
	if len(w.do("undo").Outcomes) != 0 {
		t.Error("a second undo did something")
	}
}

// What the merge runs obeys nothing: neither the person's configuration nor a repository's around the run's directory.
func TestTheMergeRunsNothing(t *testing.T) {
	dir := t.TempDir()
	canary := filepath.Join(dir, "ran")
	script := filepath.Join(dir, "evil")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\ntouch "+canary+"\nexit 1\n"), 0o755))
	git(t, dir, "init", "-q")
	for _, key := range []string{"core.fsmonitor", "merge.evil.driver", "merge.default", "core.pager", "alias.merge-file"} {
		git(t, dir, "config", key, script)
	}
	git(t, dir, "config", "merge.conflictStyle", "nonsense") // git refuses to run where it reads this
	write(t, dir, ".gitattributes", "* merge=evil\n")
	t.Setenv("GIT_DIR", filepath.Join(dir, ".git"))
	t.Setenv("GIT_CONFIG_COUNT", "1")
	t.Setenv("GIT_CONFIG_KEY_0", "merge.conflictStyle")
	t.Setenv("GIT_CONFIG_VALUE_0", "nonsense")
	got, clean, err := mergeTexts(context.Background(), dir, []byte(start), []byte(ours), []byte(their))
	if err != nil || !clean || string(got) != both {
		t.Errorf("%q %t %v", got, clean, err)
	}
	if _, err := os.Stat(canary); err == nil {
		t.Error("a program ran")
	}
}

// diskEnv says that the test stands in a mount namespace of its own, where it may mount a small disk.
const diskEnv = "APPLY_TEST_DISK"

// A disk that is full leaves nothing half-written, and what was begun can be finished or taken back.
func TestFullDisk(t *testing.T) {
	if os.Getenv(diskEnv) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestFullDisk$", "-test.v")
		cmd.Env = append(os.Environ(), diskEnv+"=1")
		cmd.SysProcAttr = ownNamespace()
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestFullDisk") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	for _, verb := range []string{"resume", "undo"} {
		disk := t.TempDir()
		must(t, unix.Mount("tmpfs", disk, "tmpfs", 0, "size=3m"))
		w := newWorld(t, disk)
		write(t, w.root, "a", start)
		write(t, w.root, "m", strings.Repeat("y", 1<<20))
		write(t, w.root, "z", start)
		w.begin()
		before := w.snapshot(w.root)
		write(t, w.upper, "a", their)
		write(t, w.upper, "m", strings.Repeat("x", 1<<20))
		write(t, w.upper, "z", their)
		if _, err := carryOut(w.source(), "apply", nothing); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("on a full disk: %v", err)
		}
		now := w.snapshot(w.root)
		for path, is := range now {
			if strings.HasPrefix(path, `".agentbox-`) {
				t.Errorf("%s is left", path)
			} else if is != before[path] && !strings.Contains(is, "NINE") {
				t.Errorf("%s is %.100q", path, is)
			}
		}
		must(t, unix.Mount("", disk, "", unix.MS_REMOUNT, "size=16m"))
		w.do(verb)
		if verb == "undo" {
			w.snapshot(w.root).same(t, before, "taken back")
		} else {
			w.holds("m", strings.Repeat("x", 1<<20))
			w.holds("z", their)
		}
		must(t, unix.Unmount(disk, unix.MNT_DETACH))
	}
}

func TestOneAtATime(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.begin()
	unlock, err := atomicfile.Lock(filepath.Join(w.work, "apply.lock"))
	must(t, err)
	defer unlock()
	for _, verb := range []string{"apply", "resume", "undo"} {
		if _, err := carryOut(w.source(), verb, nothing); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

// Deep trees and long names are told, and stop nothing else.
func TestLongNames(t *testing.T) {
	w := newWorld(t, t.TempDir())
	write(t, w.root, strings.Repeat("n", 255), start)
	w.begin()
	write(t, w.root, strings.Repeat("n", 255), ours)
	write(t, w.upper, strings.Repeat("n", 255), their)
	write(t, w.upper, "fine", "x")
	o := wantResult(t, w.apply(everything), strings.Repeat("n", 255), Conflict)
	if len(o.Beside) != 255 || !strings.HasSuffix(o.Beside, ".agentbox-r1") {
		t.Errorf("beside is %q", o.Beside)
	}
	w.holds("fine", "x")
	w.holds(o.Beside, their)
}

// A journal whose last line was cut off by a crash is read up to it.
func TestTornJournal(t *testing.T) {
	w := newWorld(t, t.TempDir())
	write(t, w.root, "a", start)
	w.begin()
	write(t, w.upper, "a", their)
	w.apply(everything)
	for _, name := range []string{"apply.jsonl", changes.KnownFile} {
		f, err := os.OpenFile(filepath.Join(w.work, name), os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteString(`{"what":"rea`)
		must(t, err)
		must(t, f.Close())
	}
	write(t, w.upper, "b", their)
	wantResult(t, w.apply(everything), "b", Applied)
	w.do("undo")
	w.holds("a", start)
	w.absent("b")
}

func TestUnfinishedIsSaid(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.begin()
	write(t, w.upper, "a", their)
	dead, err := killed(killedPart{Work: w.work, Verb: "apply", At: 4})
	if err != nil || !dead {
		t.Fatal(dead, err)
	}
	if open, err := Unfinished(w.work); !open || err != nil {
		t.Error(open, err)
	}
	if _, err := Apply(context.Background(), w.source(), everything); !errors.Is(err, ErrUnfinished) {
		t.Error(err)
	}
	w.do("resume")
	w.holds("a", their)
	if can, err := CanUndo(w.work); !can || err != nil {
		t.Error(can, err)
	}
}
