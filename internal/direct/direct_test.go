package direct

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// lab is a repository and a run's directory.
type lab struct {
	t        *testing.T
	top, dir string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, top: t.TempDir(), dir: filepath.Join(t.TempDir(), "direct")}
	l.write("Makefile", "all:\n")
	l.write("src/main.c", "int main;\n")
	l.write("tools/run.sh", "#!/bin/sh\n")
	l.do(os.Chmod(l.path("tools/run.sh"), 0o755))
	l.write("tools/data.txt", "data\n")
	l.write(".envrc", "export A=1\n")
	l.do(os.Symlink("tools/run.sh", l.path("conftest.py")))
	return l
}

func (l *lab) path(name string) string { return filepath.Join(l.top, name) }

func (l *lab) do(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) write(name, content string) {
	l.t.Helper()
	l.do(os.MkdirAll(filepath.Dir(l.path(name)), 0o755))
	l.do(os.WriteFile(l.path(name), []byte(content), 0o644))
}

func (l *lab) read(name string) string {
	text, err := os.ReadFile(l.path(name))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// before is the start of the run.
func (l *lab) before() {
	l.t.Helper()
	l.do(Remember(l.t.Context(), l.top, nil, l.dir))
}

// after is its end; it gives what is listed, as "what path".
func (l *lab) after() string {
	l.t.Helper()
	list, err := Compare(l.t.Context(), nil, l.dir)
	l.do(err)
	var out []string
	for _, c := range list {
		if c.Why == "" && c.What != Removed {
			l.t.Errorf("%s has no reason", c.Path)
		}
		text := c.What + " " + c.Path
		if !c.PutBack {
			text += " (lost)"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// undo gives what was not put back, as "path: why".
func (l *lab) undo(paths ...string) string {
	l.t.Helper()
	list, err := Undo(l.t.Context(), l.dir, paths)
	l.do(err)
	var out []string
	for _, o := range list {
		if !o.Done {
			out = append(out, o.Path+": "+o.Why)
		}
	}
	return strings.Join(out, ", ")
}

func (l *lab) want(what, got, want string) {
	l.t.Helper()
	if got != want {
		l.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestWhatWouldExecuteIsListedAndPutBack(t *testing.T) {
	l := newLab(t)
	l.before()
	l.write("Makefile", "all:\n\tevil\n")
	l.write("src/main.c", "int other;\n")
	l.do(os.Remove(l.path(".envrc")))
	l.write(".vscode/tasks.json", "{}\n")
	l.write("new.txt", "nothing\n")
	l.do(os.Chmod(l.path("tools/data.txt"), 0o755))
	l.do(os.Remove(l.path("conftest.py")))
	l.write("conftest.py", "evil\n")
	l.want("listed", l.after(), "removed .envrc, made .vscode/tasks.json, changed Makefile, changed conftest.py, changed tools/data.txt (lost)")
	l.want("not put back", l.undo(), "tools/data.txt: what was there was too large to be kept")
	l.want("Makefile", l.read("Makefile"), "all:\n")
	l.want(".envrc", l.read(".envrc"), "export A=1\n")
	l.want("src/main.c", l.read("src/main.c"), "int other;\n")
	l.want("tools/data.txt", l.read("tools/data.txt"), "data\n")
	if _, err := os.Lstat(l.path(".vscode/tasks.json")); err == nil {
		t.Error("what was made is still there")
	}
	if target, err := os.Readlink(l.path("conftest.py")); err != nil || target != "tools/run.sh" {
		t.Errorf("the link is %q %v", target, err)
	}
	left, err := os.ReadDir(filepath.Join(l.dir, undoneDir))
	l.do(err)
	if len(left) != 3 {
		t.Errorf("what was replaced: %v", left)
	}
	l.want("a second time", l.undo("Makefile", ".envrc", ".vscode/tasks.json"), "")
}

func TestWhatIsTheSameIsNotListed(t *testing.T) {
	l := newLab(t)
	l.before()
	l.write("Makefile", "all:\n") // again, with other times
	l.do(os.Chmod(l.path("tools/run.sh"), 0o700))
	l.do(os.Chmod(l.path("tools/run.sh"), 0o755))
	l.want("listed", l.after(), "")
}

// What the person changed after the run stays, and what they made there, too.
func TestAPutBackLosesNothing(t *testing.T) {
	l := newLab(t)
	l.before()
	l.write("Makefile", "evil\n")
	l.write("build.sh", "evil\n")
	l.do(os.Chmod(l.path("build.sh"), 0o755))
	l.do(os.Remove(l.path(".envrc")))
	l.want("listed", l.after(), "removed .envrc, changed Makefile, made build.sh")
	l.write("Makefile", "mine\n")
	l.write("build.sh", "mine\n")
	l.do(os.Mkdir(l.path(".envrc"), 0o755))
	const since = "it has been changed since the run ended"
	l.want("not put back", l.undo(), ".envrc: something else is there now, Makefile: "+since+", build.sh: "+since)
	l.want("Makefile", l.read("Makefile"), "mine\n")
	l.want("build.sh", l.read("build.sh"), "mine\n")
}

// A directory that has become a link leads nowhere.
func TestNothingIsWrittenThroughLinks(t *testing.T) {
	l := newLab(t)
	outside := t.TempDir()
	l.write("sub/Makefile", "mine\n")
	l.before()
	l.do(os.RemoveAll(l.path("sub")))
	l.do(os.Symlink(outside, l.path("sub")))
	l.do(os.RemoveAll(l.path("tools")))
	l.do(os.Symlink("src", l.path("tools")))
	l.do(os.WriteFile(filepath.Join(outside, "Makefile"), []byte("theirs\n"), 0o644))
	l.want("listed", l.after(), "removed sub/Makefile, removed tools/run.sh")
	l.want("not put back", l.undo(), "sub/Makefile: sub is not a directory any more, tools/run.sh: tools is not a directory any more")
	if text, err := os.ReadFile(filepath.Join(outside, "Makefile")); err != nil || string(text) != "theirs\n" {
		t.Errorf("outside: %q %v", text, err)
	}
	if _, err := os.Stat(l.path("src/run.sh")); err == nil {
		t.Error("a link inside was followed")
	}
}

func TestNoFIFOIsWaitedFor(t *testing.T) {
	l := newLab(t)
	l.do(unix.Mkfifo(l.path("justfile"), 0o600))
	l.before()
	l.do(os.Remove(l.path("Makefile")))
	l.do(unix.Mkfifo(l.path("Makefile"), 0o600))
	l.want("listed", l.after(), "removed Makefile")
	l.want("not put back", l.undo(), "Makefile: something else is there now")
	root, err := os.OpenRoot(l.top)
	l.do(err)
	defer root.Close()
	if _, err := content(root, "Makefile", 1); !errors.Is(err, errNotPlain) { // as if it had come there a moment ago
		t.Error(err)
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	l := newLab(t)
	l.write("setup.py", strings.Repeat("x", maxFile+1))
	for i := range maxKept/maxFile + 2 {
		l.write(fmt.Sprintf("d%d/Makefile", i), strings.Repeat("x", maxFile))
	}
	l.before()
	kept, err := os.ReadDir(filepath.Join(l.dir, keptDir))
	l.do(err)
	var total int64
	for _, e := range kept {
		info, err := e.Info()
		l.do(err)
		total += info.Size()
	}
	if total > maxKept || total < maxKept-maxFile {
		t.Errorf("%d bytes are kept", total)
	}
	l.write("setup.py", "evil\n")
	l.want("listed", l.after(), "changed setup.py (lost)")
}

// Git directories are looked after otherwise, whatever the case they are written in; what the agent does not see isn't looked at.
func TestWhatIsLeftOut(t *testing.T) {
	l := newLab(t)
	l.write(".git/hooks/pre-commit", "x")
	l.write("secrets/Makefile", "x")
	l.do(Remember(t.Context(), l.top, []string{l.path("secrets")}, l.dir))
	l.write(".git/hooks/pre-commit", "y")
	l.write("secrets/Makefile", "y")
	list, err := Compare(t.Context(), []string{l.path("secrets")}, l.dir)
	l.do(err)
	if len(list) > 0 {
		t.Errorf("listed %+v", list)
	}
	text, err := os.ReadFile(filepath.Join(l.dir, recordFile))
	l.do(err)
	if strings.Contains(string(text), "secrets") {
		t.Error("what is hidden is recorded")
	}
}

// What was there is remembered by short hashes. With one that anybody can compute, an agent could have looked for the name of a
// directory with which its new Makefile passes for an old file.
func TestNobodyElseCanComputeWhatIsRemembered(t *testing.T) {
	l := newLab(t)
	var seen []record
	for range 2 {
		l.before()
		var r record
		l.do(read(filepath.Join(l.dir, recordFile), &r))
		seen = append(seen, r)
	}
	if len(seen[0].Names) == 0 || slices.Equal(seen[0].Names, seen[1].Names) || slices.Equal(seen[0].Exact, seen[1].Exact) {
		t.Error("the same files have the same hashes in every run")
	}
	if l.want("listed", l.after(), ""); seen[0].Key == seen[1].Key {
		t.Error("two runs have one key")
	}
}
