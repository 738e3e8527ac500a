//go:build linux

package apply

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agentbox/internal/changes"

	"golang.org/x/sys/unix"
)

// mapped gives the memory of a file that is written to behind its times: the first write through a mapping sets them, those
// after it don't.
func mapped(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	memory, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	t.Cleanup(func() { must(t, unix.Munmap(memory)) })
	copy(memory, string(memory))
	return memory
}

// An agent that goes on has a file mapped, and writes to it when it was looked at: the file's times say nothing of that.
// Neither is what nobody saw applied, nor what would have needed a yes of its own.
func TestWhatIsWrittenThroughAMappingIsNotApplied(t *testing.T) {
	const harmless, harmful = `{"name": "xxxxxxxxxxxx"}`, `{"scripts": {"test":"x"}}`
	for result, sel := range map[Result]Selection{Waiting: {All: true}, Stale: everything} {
		t.Run(string(result), func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			w.begin()
			write(t, w.upper, "package.json", harmless+" ")
			memory := mapped(t, filepath.Join(w.upper, "package.json"))
			r, err := applyAll(context.Background(), w.source(), sel, func(at string) {
				if at == "before the beginning" { // the list is there, and was judged
					copy(memory, harmful)
				}
			})
			must(t, err)
			wantResult(t, r, "package.json", result)
			w.absent("package.json")
			noTemps(w)
		})
	}
}

// The same between the look of a person and the apply, and with hunks and merges.
func TestAMappingShowsOneThingAndAppliesNone(t *testing.T) {
	w := newWorld(t, t.TempDir())
	two := strings.Replace(their, "one", "uno", 1) // two hunks; the person takes the first, and the other one changes
	write(t, w.root, "hunks", start)
	write(t, w.root, "merge", start)
	w.commit()
	write(t, w.root, "merge", ours)
	write(t, w.upper, "hunks", two)
	write(t, w.upper, "merge", their)
	hunks, merge := mapped(t, filepath.Join(w.upper, "hunks")), mapped(t, filepath.Join(w.upper, "merge"))
	list, err := w.source().List(context.Background())
	must(t, err)
	sel := Selection{Hunks: map[string][]string{}, Seen: map[string]string{}}
	for _, c := range list {
		text, err := w.source().Diff(context.Background(), c)
		must(t, err)
		sel.Seen[c.Path], sel.Hunks[c.Path] = c.Mark, nil
		if c.Path == "hunks" {
			sel.Hunks[c.Path] = []string{text.Hunks[0].ID}
		}
	}
	evil := strings.Replace(their, "NINE", "EVIL", 1)
	r, err := applyAll(context.Background(), w.source(), sel, func(at string) {
		if at == "before the beginning" {
			copy(hunks, strings.Replace(two, "NINE", "EVIL", 1))
			copy(merge, evil)
		}
	})
	must(t, err)
	wantResult(t, r, "hunks", Stale)
	wantResult(t, r, "merge", Stale)
	w.holds("hunks", start)
	w.holds("merge", ours)
	copy(hunks, two)
	copy(merge, their)
	list, err = w.source().List(context.Background())
	must(t, err)
	copy(hunks, evil)
	for _, c := range list {
		sel.Seen[c.Path] = c.Mark
	}
	r = w.apply(sel)
	wantResult(t, r, "hunks", Stale)
	wantResult(t, r, "merge", Merged)
	w.holds("hunks", start)
	w.holds("merge", both)
}

// Two sides that execute nothing, put together, can: then what comes out needs a yes of its own, as does what the agent wrote
// to a file that the person made executable meanwhile.
func TestWhatAMergeMakesExecuteWaits(t *testing.T) {
	const (
		lines   = "\"1\": 1,\n\"2\": 2,\n\"3\": 3,\n\"4\": 4,\n\"5\": 5,\n\"6\": 6,\n\"7\": 7,\n"
		scripts = "\"scripts\": {\"test\": \"evil\"},\n"
		plain   = "{\n" + lines + "\"x\": 1\n}\n"
		nested  = "{\n\"y\": {\n" + lines + "\"x\": 1\n}\n}\n"
	)
	w := newWorld(t, t.TempDir())
	write(t, w.root, "merge/package.json", nested)
	write(t, w.root, "hunks/package.json", plain)
	write(t, w.root, "tool", start)
	write(t, w.root, "other", start)
	w.commit()
	write(t, w.root, "merge/package.json", plain) // what was nested stands at the top
	write(t, w.root, "other", ours)
	must(t, os.Chmod(filepath.Join(w.root, "tool"), 0o755))
	must(t, os.Chmod(filepath.Join(w.root, "other"), 0o755))
	write(t, w.upper, "merge/package.json", strings.Replace(nested, "\"4\"", scripts+"\"4\"", 1))
	write(t, w.upper, "hunks/package.json", "{\n\"y\": {\n"+lines+scripts+"\"z\": 1},\n\"x\": 1\n}\n")
	write(t, w.upper, "tool", their)
	write(t, w.upper, "other", their)
	list, err := w.source().List(context.Background())
	must(t, err)
	sel := Selection{Hunks: map[string][]string{}}
	for _, c := range list {
		if c.Later != "" {
			t.Errorf("%q is listed (%s): then this shows nothing", c.Path, c.Later)
		}
		sel.Hunks[c.Path] = nil
		if c.Path == "hunks/package.json" {
			text, err := w.source().Diff(context.Background(), c)
			must(t, err)
			sel.Hunks[c.Path] = []string{text.Hunks[len(text.Hunks)-1].ID}
		}
	}
	r := w.apply(sel)
	for _, name := range []string{"merge/package.json", "hunks/package.json", "tool", "other"} {
		wantResult(t, r, name, Waiting)
	}
	w.holds("merge/package.json", plain)
	w.holds("hunks/package.json", plain)
	w.holds("tool", start)
	w.holds("other", ours)
	noTemps(w)
	sel.Later = []string{"tool", "other", "merge"}
	r = w.apply(sel)
	wantResult(t, r, "tool", Applied)
	wantResult(t, r, "other", Merged)
	wantResult(t, r, "merge/package.json", Merged)
	w.holds("merge/package.json", strings.Replace(plain, "\"4\"", scripts+"\"4\"", 1))
	w.holds("other", both)
}

// Of a file that is larger than what is compared line by line, its times tell that the agent went on writing to its end.
func TestTheEndOfALargeFileIsLookedAtToo(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.begin()
	write(t, w.upper, "large", strings.Repeat("x", changes.MaxDiff+2))
	f, err := os.OpenFile(filepath.Join(w.upper, "large"), os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	r, err := applyAll(context.Background(), w.source(), everything, func(at string) {
		if at == "after an empty temporary file" {
			_, err := f.WriteAt([]byte("y"), changes.MaxDiff+1)
			must(t, err)
		}
	})
	must(t, err)
	wantResult(t, r, "large", Stale)
	w.absent("large")
	noTemps(w)
}

// A link has no content that could be looked at once more: its name and where it leads decide.
func TestALinkThatLeadsOutWaits(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.begin()
	must(t, os.Symlink("/etc/passwd", filepath.Join(w.upper, "out")))
	must(t, os.Symlink("docs", filepath.Join(w.upper, ".github")))
	write(t, w.upper, "docs/workflows/x.yml", "on: push\n")
	r := w.apply(Selection{All: true, Later: []string{"docs"}})
	wantResult(t, r, "out", Waiting)
	wantResult(t, r, ".github", Waiting)
	w.absent("out")
	w.absent(".github")
	wantResult(t, r, "docs/workflows/x.yml", Applied)
}
