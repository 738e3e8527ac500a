//go:build linux

package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"agentbox/internal/changes"
)

// AGENTBOX_PROPERTY_SEED repeats one case, AGENTBOX_PROPERTY_CASES says how many there are; both: so many from that one on.
const (
	firstSeed = 1
	cases     = 300
)

func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// What an agent saw is what an apply makes of the repository, wherever it is killed; an undo gives back what was there.
func TestApplyMakesWhatTheAgentSaw(t *testing.T) { eachCase(t, cases, oneCase) }

// eachCase runs a property on every case, some at the same time.
func eachCase(t *testing.T, n uint64, property func(t *testing.T, scratch string, seed uint64)) {
	first := uint64(firstSeed)
	if seed := fromEnv(t, "AGENTBOX_PROPERTY_SEED", 0); seed != 0 {
		first, n = seed, 1
	}
	n = fromEnv(t, "AGENTBOX_PROPERTY_CASES", n)
	dir := t.TempDir()
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			scratch := filepath.Join(dir, fmt.Sprint(seed))
			defer clear(t, scratch)
			property(t, scratch, seed)
			if t.Failed() {
				t.Logf("again with AGENTBOX_PROPERTY_SEED=%d", seed)
			}
		})
	}
}

// clear removes a scratch directory whatever the modes in it.
func clear(t *testing.T, dir string) {
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	}))
	// A directory that could not be entered before is entered now.
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	}))
	must(t, os.RemoveAll(dir))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a repository and a run over it.
type world struct {
	t                 testing.TB
	root, work        string
	upper, merged, ov string
	base              changes.Base
}

func newWorld(t testing.TB, dir string) *world {
	w := &world{t: t, root: filepath.Join(dir, "root"), work: filepath.Join(dir, "run", "work"), merged: filepath.Join(dir, "merged")}
	w.upper, w.ov = filepath.Join(w.work, "tree", "upper"), filepath.Join(w.work, "tree", "work")
	for _, d := range []string{w.root, w.upper, w.ov, w.merged} {
		must(t, os.MkdirAll(d, 0o755))
	}
	return w
}

// begin records the start.
func (w *world) begin() {
	w.t.Helper()
	began, err := changes.Moment(w.root)
	must(w.t, err)
	w.base = changes.Base{Run: "r1", Root: w.root, Backend: changes.Overlay, Began: began, Hide: []string{".env*", "secret/"}}
	must(w.t, changes.Save(w.work, w.base))
}

func (w *world) source() *changes.Source {
	s, err := changes.Open(w.work)
	must(w.t, err)
	return s
}

func (w *world) snapshot(dir string) tree {
	w.t.Helper()
	snap, err := snapshot(dir)
	must(w.t, err)
	return snap
}

func (w *world) agent(seed uint64, script string) tree {
	w.t.Helper()
	seen, err := play(agentPart{Lower: w.root, Upper: w.upper, Work: w.ov, Merged: w.merged, Seed: seed, Script: script,
		Snapshot: filepath.Join(w.work, "seen.json")})
	must(w.t, err)
	return seen
}

// inCopy has the agent work in a private copy.
func (w *world) inCopy(seed uint64) tree {
	w.t.Helper()
	w.begin()
	w.upper = filepath.Join(w.work, "copy")
	must(w.t, exec.Command("cp", "-a", w.root, w.upper).Run())
	copied, err := changes.Moment(w.work)
	must(w.t, err)
	w.base.Backend, w.base.Copied = changes.Copy, copied
	must(w.t, changes.Save(w.work, w.base))
	must(w.t, edit(w.upper, seed))
	return w.snapshot(w.upper)
}

func carryOut(s *changes.Source, verb string, at func(string)) (Report, error) {
	ctx := context.Background()
	switch verb {
	case "apply":
		return applyAll(ctx, s, Selection{All: true, AllLater: true}, at)
	case "resume":
		return resume(ctx, s, at)
	}
	return undo(ctx, s, at)
}

func (w *world) do(verb string) Report {
	w.t.Helper()
	r, err := carryOut(w.source(), verb, nothing)
	must(w.t, err)
	return r
}

// killThenFinish runs a verb that is killed at random acts, and what takes it up, which is killed too, until one comes to
// its end: it tells which verb that was.
func (w *world) killThenFinish(rnd *rand.Rand, verb string) string {
	for range 5 {
		dead, err := killed(killedPart{Work: w.work, Verb: verb, At: 1 + rnd.IntN(40)})
		if errors.Is(err, ErrUnfinished) {
			break
		}
		must(w.t, err)
		if !dead {
			return verb
		}
		if verb != "undo" && rnd.IntN(3) == 0 {
			verb = "undo"
		} else if verb == "apply" {
			verb = "resume"
		}
	}
	open, err := Unfinished(w.work)
	must(w.t, err)
	if verb == "resume" && !open { // killed before the first line of its journal
		verb = "apply"
	}
	w.do(verb)
	return verb
}

func oneCase(t *testing.T, dir string, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, dir)
	must(t, grow(w.root, rnd))
	before := w.snapshot(w.root)
	var seen tree
	if seed%4 == 3 {
		seen = w.inCopy(seed)
	} else {
		w.begin()
		seen = w.agent(seed, "")
	}
	list, err := w.source().List(context.Background())
	must(t, err)
	want := expected(list, before, seen)
	upper := w.snapshot(w.upper)

	last := "apply"
	if rnd.IntN(3) > 0 {
		last = w.killThenFinish(rnd, "apply")
		if last == "resume" {
			w.do("apply") // nothing, if all was resumed; all, if it was killed before it began
		}
	} else {
		w.do("apply")
	}
	if last == "undo" {
		w.snapshot(w.root).same(t, before, "undone after a kill")
		w.do("apply")
	}
	w.snapshot(w.root).same(t, want, "applied")
	for _, o := range w.do("apply").Outcomes {
		if o.Result != Already && o.Result != Refused {
			t.Errorf("a second apply: %s %q: %s", o.Result, o.Path, o.Why)
		}
	}
	w.snapshot(w.root).same(t, want, "applied twice")
	if rnd.IntN(2) == 0 {
		w.killThenFinish(rnd, "undo")
	} else {
		w.do("undo")
	}
	w.snapshot(w.root).same(t, before, "undone")
	w.snapshot(w.upper).same(t, upper, "the agent's side")
	if t.Failed() {
		for _, c := range list {
			t.Logf("%+v", c)
		}
	}
}

// expected is what the repository must be after an apply of everything: what the agent saw, but for what has another fate.
func expected(list []changes.Change, before, seen tree) tree {
	want := maps.Clone(seen)
	for _, c := range list {
		if c.Fate == changes.Applies {
			continue
		}
		path := c.Path
		if c.After.Kind == changes.Dir || c.Before.Kind != changes.Dir {
			want.drop(path)
			for p, is := range before {
				if plain, _ := strconv.Unquote(p); plain == path || strings.HasPrefix(plain, path+"/") {
					want[p] = is
				}
			}
			continue
		}
		want[quoted(path)] = before[quoted(path)]
	}
	return want
}

// names are what files are called.
var names = []string{"a", "b", "c.go", "d.txt", "README", "readme", "x y", "\xff\xfe", "line\nfeed", "esc\x1b[31m", "-rf", ".wh.a", ".wh..wh..opq",
	"ü", "Makefile", "..x", "trailing ", "%2F"}

// refused are names that have another fate. In the tree of the start they would be mounts, which the agent can't remove.
var refused = []string{".env", "secret", "git~1", ".GIT"}

func agentsName(rnd *rand.Rand) string {
	if rnd.IntN(10) == 0 {
		return refused[rnd.IntN(len(refused))]
	}
	return someName(rnd)
}

func someName(rnd *rand.Rand) string { return names[rnd.IntN(len(names))] }

func someContent(rnd *rand.Rand) []byte {
	switch rnd.IntN(8) {
	case 0:
		return nil
	case 1:
		return []byte("\x00\x01binary" + fmt.Sprint(rnd.IntN(5)))
	case 2:
		return []byte(strings.Repeat("long\n", 2000) + fmt.Sprint(rnd.IntN(5)))
	}
	var lines []string
	for range rnd.IntN(12) {
		lines = append(lines, fmt.Sprintf("line %d\n", rnd.IntN(30)))
	}
	return []byte(strings.Join(lines, "") + strings.Repeat("no end", rnd.IntN(2)))
}

// grow makes the tree of the start.
func grow(root string, rnd *rand.Rand) error {
	dirs := []string{root}
	for range rnd.IntN(25) {
		dir := dirs[rnd.IntN(len(dirs))]
		path := filepath.Join(dir, someName(rnd))
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		var err error
		switch rnd.IntN(6) {
		case 0, 1:
			if err = os.Mkdir(path, 0o755); err == nil {
				dirs = append(dirs, path)
			}
		case 2:
			err = os.Symlink(someTarget(rnd), path)
		default:
			err = os.WriteFile(path, someContent(rnd), []os.FileMode{0o644, 0o600, 0o755, 0o444}[rnd.IntN(4)])
		}
		if err != nil {
			return err
		}
	}
	for _, dir := range dirs[1:] {
		if rnd.IntN(5) == 0 {
			if err := os.Chmod(dir, []os.FileMode{0o700, 0o555, 0o750}[rnd.IntN(3)]); err != nil {
				return err
			}
		}
	}
	return nil
}

func someTarget(rnd *rand.Rand) string {
	return []string{"a", "../b", "/etc/passwd", "c.go", "../../../out", "\xff%41\n", "nowhere"}[rnd.IntN(7)]
}

// edit does what an agent might, at random.
func edit(root string, seed uint64) error {
	rnd := rand.New(rand.NewPCG(seed, 1))
	e := editor{root: root, rnd: rnd}
	for range 1 + rnd.IntN(30) {
		if err := e.once(); err != nil && !meant(err) {
			return err
		}
	}
	return nil
}

// meant says that an edit could not be, as things were.
func meant(err error) bool {
	for _, e := range []error{os.ErrNotExist, os.ErrExist, syscall.EISDIR, syscall.ENOTDIR, syscall.ENOTEMPTY, syscall.EXDEV, syscall.EINVAL,
		syscall.ELOOP, syscall.EBUSY, os.ErrPermission, os.ErrInvalid} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

type editor struct {
	root string
	rnd  *rand.Rand
}

// some picks a path that is there.
func (e editor) some() string {
	var all []string
	_ = filepath.WalkDir(e.root, func(path string, _ os.DirEntry, _ error) error {
		all = append(all, path)
		return nil
	})
	if len(all) < 2 {
		return filepath.Join(e.root, someName(e.rnd))
	}
	return all[1+e.rnd.IntN(len(all)-1)]
}

// fresh picks a path that may be there, in a directory that is.
func (e editor) fresh() string {
	at := e.some()
	if info, err := os.Lstat(at); err != nil || !info.IsDir() {
		at = filepath.Dir(at)
	}
	if e.rnd.IntN(3) == 0 {
		at = e.root
	}
	return filepath.Join(at, agentsName(e.rnd))
}

func (e editor) once() error {
	switch e.rnd.IntN(20) {
	case 0, 1, 2:
		return os.WriteFile(e.plain(), someContent(e.rnd), 0o644)
	case 3, 4:
		return e.appendTo(e.plain())
	case 5, 6:
		return os.Remove(e.some())
	case 7:
		return os.RemoveAll(e.some())
	case 8, 9:
		return os.Mkdir(e.fresh(), 0o755)
	case 10:
		at := e.some()
		return errors.Join(os.RemoveAll(at), os.Mkdir(at, 0o755), os.WriteFile(filepath.Join(at, someName(e.rnd)), someContent(e.rnd), 0o600))
	case 11:
		at := e.some()
		return errors.Join(os.RemoveAll(at), os.WriteFile(at, someContent(e.rnd), 0o644))
	case 12:
		at := e.fresh()
		_ = os.Remove(at)
		return os.Symlink(someTarget(e.rnd), at)
	case 13:
		return os.Rename(e.some(), e.fresh())
	case 14:
		return os.Link(e.some(), e.fresh())
	case 15:
		return e.chmod()
	case 16:
		return syscall.Mkfifo(e.fresh(), 0o644)
	case 17:
		return e.rewrite()
	case 18:
		return e.sparse()
	}
	return e.moveDir()
}

// plain picks a path that is no link: what a link leads to may be this machine's.
func (e editor) plain() string {
	at := e.fresh()
	if info, err := os.Lstat(at); err == nil && !info.Mode().IsRegular() {
		return filepath.Join(e.root, "plain")
	}
	return at
}

func (e editor) appendTo(path string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(fmt.Sprintf("more %d\n", e.rnd.IntN(100)))
	return err
}

func (e editor) chmod() error {
	at := e.some()
	info, err := os.Lstat(at)
	if err != nil || info.Mode()&os.ModeSymlink != 0 {
		return err
	}
	modes := []os.FileMode{0o644, 0o755, 0o600, 0o444, 0o000, 0o755 | os.ModeSetuid, 0o640}
	if info.IsDir() {
		modes = []os.FileMode{0o755, 0o700, 0o555, 0o711, 0o000, 0o500, 0o755 | os.ModeSticky}
	}
	return os.Chmod(at, modes[e.rnd.IntN(len(modes))])
}

// rewrite writes what is there already: a copy that is no change.
func (e editor) rewrite() error {
	at := e.some()
	if info, err := os.Lstat(at); err != nil || !info.Mode().IsRegular() {
		return err
	}
	content, err := os.ReadFile(at)
	if err != nil {
		return err
	}
	return os.WriteFile(at, content, 0o644)
}

func (e editor) sparse() error {
	f, err := os.OpenFile(e.plain(), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("island"), int64(e.rnd.IntN(200<<10))); err != nil {
		return err
	}
	return f.Truncate(256 << 10)
}

// moveDir moves a directory as programs do where a rename is refused: file by file.
func (e editor) moveDir() error {
	from, to := e.some(), e.fresh()
	if info, err := os.Lstat(from); err != nil || !info.IsDir() || strings.HasPrefix(to, from+"/") {
		return err
	}
	if err := os.Rename(from, to); !errors.Is(err, syscall.EXDEV) {
		return err
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return nil // not all names are ones that it copies
	}
	return os.RemoveAll(from)
}
