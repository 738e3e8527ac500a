package profiles

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
)

// Each archive of testdata holds the files of some layers, named by their level, and under "want" what a person gets to
// see: the merged profile with the origin of each value, after the warnings; or the problems. Its comment says with
// "profile: NAME" which profile is loaded; an archive with a policy.toml is the organisation's. A file NAME.quoted is
// written as a Go string, for what an editor would spoil; one NAME.large ends in a comment beyond what is read; in one
// NAME.many the word MANY stands for more elements than any list may have.
func TestGolden(t *testing.T) {
	for _, file := range archives(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := loadArchive(t, a).text
			i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == "want" })
			if i < 0 {
				i, a.Files = len(a.Files), append(a.Files, txtar.File{Name: "want"})
			}
			if want := string(a.Files[i].Data); got == want {
				return
			} else if !*update {
				t.Fatalf("%s differs; go test ./internal/profiles -update writes it. Got:\n%s", file, got)
			}
			a.Files[i].Data = []byte(got)
			if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil { //nolint:gosec // a file of the repository
				t.Fatal(err)
			}
		})
	}
}

func archives(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no archives", err)
	}
	return files
}

// outcome is what came of an archive.
type outcome struct {
	text     string
	taken    bool
	problems Problems
}

var profileLine = regexp.MustCompile(`(?m)^profile: (.*)$`)

func loadArchive(t *testing.T, a *txtar.Archive) outcome {
	t.Helper()
	trees := map[string]fstest.MapFS{"built-in": {}, "repo": {}, "user": {}}
	files := Files{BuiltIn: trees["built-in"], Repo: trees["repo"], User: trees["user"], UserDir: "~/.config/agentbox", GrantsFile: "~/.local/state/agentbox/grants/x.toml"}
	for _, f := range a.Files {
		name, data := content(t, f)
		level, rest, _ := strings.Cut(name, "/")
		switch {
		case name == "policy.toml":
			return organisation(LoadFloors(data, "/etc/agentbox/policy.toml"))
		case name == "grants.toml":
			files.Grants = data
		case trees[level] != nil:
			trees[level][rest] = &fstest.MapFile{Data: data, Mode: 0o644}
		case name != "want":
			t.Fatalf("no level has the file %s", name)
		}
	}
	name := profileLine.FindSubmatch(a.Comment)
	if name == nil {
		t.Fatal("the comment names no profile")
	}
	loaded, err := Load(string(name[1]), files)
	if err != nil {
		return failure(err)
	}
	out := outcome{taken: true, problems: loaded.Warnings}
	for _, p := range loaded.Warnings {
		out.text += p.Error() + "\n"
	}
	out.text += string(Print(loaded.Profile, true))
	return out
}

func content(t *testing.T, f txtar.File) (name string, data []byte) {
	t.Helper()
	if name, ok := strings.CutSuffix(f.Name, ".quoted"); ok {
		text, err := strconv.Unquote(strings.TrimSpace(string(f.Data)))
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		return name, []byte(text)
	}
	if name, ok := strings.CutSuffix(f.Name, ".large"); ok {
		return name, append(slices.Clone(f.Data), bytes.Repeat([]byte("#"), maxFile)...)
	}
	if name, ok := strings.CutSuffix(f.Name, ".many"); ok {
		return name, bytes.ReplaceAll(f.Data, []byte("MANY"), bytes.Repeat([]byte(`"x", `), 1100))
	}
	return f.Name, f.Data
}

func organisation(f Floors, err error) outcome {
	if err != nil {
		return failure(err)
	}
	out := outcome{taken: true}
	for _, key := range slices.Sorted(maps.Keys(f.Origins)) {
		out.text += key + " # " + f.Origins[key].String() + "\n"
	}
	return out
}

func failure(err error) outcome {
	out := outcome{text: err.Error() + "\n"}
	errors.As(err, &out.problems)
	if missing := (*NotFound)(nil); errors.As(err, &missing) {
		out.text += "  hint: " + missing.Hint() + "\n"
	}
	return out
}

// The archives together hold every key of every file, in files that are taken.
func TestEveryKeyIsInAGolden(t *testing.T) {
	unseen := map[string][]string{}
	for kind, keys := range map[string][]Key{"profile": Keys(), "set": SetKeys(), "grants": GrantKeys(), "policy": FloorKeys()} {
		for _, k := range keys {
			if own := k.Path == "rule.protocol" || strings.HasSuffix(k.Path, "rule.private"); !own || kind != "set" && kind != "policy" {
				unseen[kind] = append(unseen[kind], k.Path) // those keys are the person's alone
			}
		}
	}
	for _, file := range archives(t) {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !loadArchive(t, a).taken {
			continue
		}
		for _, f := range a.Files {
			name, data := content(t, f)
			if root, _ := parse(newSource(name, User, data)); root != nil && name != "want" {
				kind := fileKind(name)
				seen := keysIn(root, "")
				unseen[kind] = slices.DeleteFunc(unseen[kind], func(key string) bool { return seen[key] })
			}
		}
	}
	for kind, keys := range unseen {
		for _, key := range keys {
			t.Errorf("no archive that is taken has %s in a %s", key, kind)
		}
	}
}

func fileKind(name string) string {
	switch {
	case name == "policy.toml":
		return "policy"
	case name == "grants.toml":
		return "grants"
	case strings.Contains(name, "/sets/"):
		return "set"
	}
	return "profile"
}

// keysIn are the keys of a tree, tables by name and without indexes.
func keysIn(n *node, path string) map[string]bool {
	keys := map[string]bool{}
	if n.list == nil {
		return keys
	}
	for i, item := range n.items {
		at := path
		if n.kind == tableKind {
			at = below(path, n.names[i])
			keys[at] = true
		}
		maps.Copy(keys, keysIn(item, at))
	}
	return keys
}

// The archives together show every problem that there is.
func TestEveryCodeIsInAGolden(t *testing.T) {
	seen := map[string]bool{}
	for _, file := range archives(t) {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range loadArchive(t, a).problems {
			if seen[p.Code] = true; p.Line < 1 || p.Col < 1 || p.File == "" {
				t.Errorf("%s: %s has no place: %+v", file, p.Code, p)
			}
		}
	}
	for _, c := range Codes() {
		if !seen[c.Code] {
			t.Errorf("no archive shows %s", c.Code)
		}
		if delete(seen, c.Code); c.Summary == "" {
			t.Errorf("%s has no summary", c.Code)
		}
	}
	for code := range seen {
		t.Errorf("Codes does not list %s", code)
	}
}
