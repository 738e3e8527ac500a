package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// things are what may lie at a name: its git mode, a space, and its content or where it leads; "" is nothing.
type things map[string]string

// anything is one thing at random.
func anything(r *rand.Rand) string {
	content := func(n int, letters string) string {
		b := make([]byte, r.IntN(n))
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	mode := []string{"100644 ", "100755 "}[r.IntN(2)]
	switch r.IntN(8) {
	case 0:
		return ""
	case 1:
		return mode
	case 2:
		return "120000 x" + content(40, "ab/. \n-+@\\\"")
	case 3:
		return mode + content(300, "ab\n\n\n \t\r")
	case 4:
		return mode + content(300, "ab\n\n") + "no line feed"
	case 5:
		return mode + content(60, "\x00\n") + "\x00"
	case 6:
		return mode + "\x00" + content(20_000, string(every))
	}
	return mode + content(300, string(every[1:])) + strings.Repeat("x", 8000) + content(9, "\x00\n")
}

// lay makes a thing at a path; nothing is removed.
func lay(t *testing.T, path, thing string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.RemoveAll(path))
	mode, content, _ := strings.Cut(thing, " ")
	switch mode {
	case "120000":
		must(t, os.Symlink(content, path))
	case "100644":
		must(t, os.WriteFile(path, []byte(content), 0o644))
	case "100755":
		must(t, os.WriteFile(path, []byte(content), 0o755))
	}
}

// standing is what lies in a directory, but for git's own.
func standing(t *testing.T, root string) things {
	t.Helper()
	found := things{}
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.Name() == ".git" {
				return fs.SkipDir
			}
			return err
		}
		rel, _ := filepath.Rel(root, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(path)
			found[rel] = "120000 " + to
			return err
		}
		data, err := os.ReadFile(path)
		found[rel] = map[bool]string{false: "100644 ", true: "100755 "}[info.Mode()&0o100 != 0] + string(data)
		return err
	}))
	return found
}

// lost gives the names that are gone afterwards, or of another kind: links, or files.
func (t things) lost(after things) map[string]bool {
	const link = "120000 "
	out := map[string]bool{}
	for name, was := range t {
		if is, ok := after[name]; !ok || strings.HasPrefix(was, link) != strings.HasPrefix(is, link) {
			out[name] = true
		}
	}
	return out
}

func (t things) differs(from things) string {
	for name := range t {
		if t[name] != from[name] {
			return fmt.Sprintf("%q: %.80q, want %.80q", name, from[name], t[name])
		}
	}
	for name := range from {
		if _, ok := t[name]; !ok {
			return fmt.Sprintf("%q is there", name)
		}
	}
	return ""
}

// names are such as patches have trouble with.
func oddNames(r *rand.Rand) (names []string) {
	odd := []string{"plain", "with blank", " first", "last ", "quote\"d", "back\\slash", "line\nfeed", "tab\tbed", "b/same b/same", "ümlaut", "not utf\xff8",
		"deep/er/name", "--- a", "dash -> arrow", "\x1b[31mred", "a b/a b", "e\"\n/x"}
	for _, n := range odd {
		for i := range 4 {
			names = append(names, strings.Replace(n, "/", fmt.Sprintf("%d/", i), 1)+fmt.Sprint(i))
		}
	}
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}

// changedAtRandom makes a repository and a run that changed it, and gives both states.
func changedAtRandom(h home, r *rand.Rand) (before, after things) {
	h.t.Helper()
	before, after = things{}, things{}
	must(h.t, os.Mkdir(filepath.Join(h.dir, "upper"), 0o755))
	for _, name := range oddNames(r) {
		one, two := anything(r), anything(r)
		switch _, content, _ := strings.Cut(one, " "); { // often the same with another mode, or nearly the same
		case r.IntN(4) == 0 && strings.HasPrefix(one, "100644 "):
			two = "100755 " + content
		case r.IntN(4) == 0 && strings.HasPrefix(one, "100"):
			two = one + "more"
		}
		lay(h.t, filepath.Join(h.repo, name), one)
		if before[name] = one; one != two {
			lay(h.t, filepath.Join(h.dir, "upper", name), two)
		}
		if after[name] = two; two == "" && one != "" {
			lay(h.t, filepath.Join(h.dir, "upper", filepath.Dir(name), ".wh."+filepath.Base(name)), "100644 ")
		}
		for _, m := range []things{before, after} {
			if m[name] == "" {
				delete(m, name)
			}
		}
	}
	before["main.go"] = "100644 " + h.read("repo/main.go")
	after["main.go"] = before["main.go"]
	return before, after
}

// Whatever was changed, git apply makes of the patch what the agent had, and takes it back again: nothing is lost, mixed up
// or left out.
func TestTheDiffIsWhatGitApplies(t *testing.T) {
	for seed := range uint64(6) {
		h := newHome(t)
		if seed%3 == 2 {
			must(t, os.RemoveAll(filepath.Join(h.repo, ".git")))
			h.command("git", "init", "-q", "--object-format=sha256", ".").run()
		}
		before, after := changedAtRandom(h, rand.New(rand.NewPCG(seed, 1)))
		h.command("git", "add", "-A").run()
		_, end := h.left()
		end()
		h.write("patch", h.command("agentbox", "diff").run())
		for _, step := range []struct {
			want things
			args []string
		}{{after, nil}, {before, []string{"--reverse"}}} {
			h.command("git", append([]string{"apply", "--binary", "--whitespace=nowarn", "../patch"}, step.args...)...).run()
			got := standing(t, h.repo)
			if step.args != nil {
				for name := range before.lost(after) { // of which git 2.47 loses the mode, with its own patches too
					delete(step.want, name)
					delete(got, name)
				}
			}
			if d := step.want.differs(got); d != "" {
				t.Fatalf("seed %d, git apply %q: %s", seed, step.args, d)
			}
		}
	}
}

// A target of a link is what the agent likes. It stays one, and is no further part of the patch.
func TestALinkIsNoPatch(t *testing.T) {
	h := newHome(t)
	must(t, os.Mkdir(filepath.Join(h.dir, "upper"), 0o755))
	evil := "x\ndiff --git a/planted b/planted\nnew file mode 100755\n--- /dev/null\n+++ b/planted\n@@ -0,0 +1 @@\n+evil\n"
	must(t, os.Symlink(evil, filepath.Join(h.dir, "upper", "link")))
	_, end := h.left()
	end()
	h.write("patch", h.command("agentbox", "diff").run())
	h.command("git", "apply", "../patch").run()
	if _, err := os.Lstat(filepath.Join(h.repo, "planted")); err == nil {
		t.Error("the link's target was applied as a patch")
	}
	if to, err := os.Readlink(filepath.Join(h.repo, "link")); err != nil || to != evil {
		t.Errorf("the link leads to %q (%v)", to, err)
	}
}

// What is too large is told, in the patch and beside it, and the rest of the patch applies.
func TestWhatIsTooLargeForAPatch(t *testing.T) {
	h := newHome(t)
	h.write("upper/small.bin", "\x00\x01")
	h.write("upper/large.bin", "\x00")
	must(t, os.Truncate(filepath.Join(h.dir, "upper/large.bin"), maxLiteral+1))
	h.write("repo/mode.bin", "\x00")
	must(t, os.Truncate(filepath.Join(h.repo, "mode.bin"), maxLiteral+1))
	h.write("upper/mode.bin", "\x00")
	must(t, os.Truncate(filepath.Join(h.dir, "upper/mode.bin"), maxLiteral+1))
	must(t, os.Chmod(filepath.Join(h.dir, "upper/mode.bin"), 0o755))
	_, end := h.left()
	end()
	c := h.command("agentbox", "diff")
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	must(t, c.Run())
	if want := "# large.bin: Binary files differ, too large for a patch: 0 bytes before, 33554433 after\n"; !strings.Contains(out.String(), want) {
		t.Errorf("%.300q lacks %q", out.String(), want)
	}
	if !strings.Contains(said.String(), "the patch is without large.bin") || strings.Contains(said.String(), "mode.bin") {
		t.Errorf("beside it %q", said.String())
	}
	h.write("patch", out.String())
	h.command("git", "apply", "../patch").run()
	if got := h.read("repo/small.bin"); got != "\x00\x01" {
		t.Errorf("small.bin is %q", got)
	}
	if info, err := os.Stat(filepath.Join(h.repo, "mode.bin")); err != nil || info.Mode()&0o100 == 0 || info.Size() != maxLiteral+1 {
		t.Errorf("the mode of the large one: %v, %v", info, err)
	}
}
