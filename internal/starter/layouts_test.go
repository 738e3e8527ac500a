package starter

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what comes out as what is wanted")

// golden compares got with the file of an archive, or writes it there.
func golden(t *testing.T, path string, archive *txtar.Archive, name string, got []byte) {
	t.Helper()
	i := indexOf(archive, name)
	if *update {
		if i < 0 {
			archive.Files = append(archive.Files, txtar.File{Name: name})
			i = len(archive.Files) - 1
		}
		archive.Files[i].Data = got
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if i < 0 || !bytes.Equal(archive.Files[i].Data, got) {
		t.Errorf("%s of %s is not what is wanted; got:\n%s", name, path, got)
	}
}

func indexOf(archive *txtar.Archive, name string) int {
	for i, f := range archive.Files {
		if f.Name == name {
			return i
		}
	}
	return -1
}

func archives(t testing.TB, pattern string, least int) map[string]*txtar.Archive {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) < least {
		t.Fatalf("%d archives match %s (%v), want at least %d", len(paths), pattern, err, least)
	}
	all := map[string]*txtar.Archive{}
	for _, p := range paths {
		a, err := txtar.ParseFile(p)
		if err != nil {
			t.Fatal(err)
		}
		all[p] = a
	}
	return all
}

// layout gives the repository and the remotes of an archive.
func layout(archive *txtar.Archive) (fs.FS, []string) {
	files, remotes := fstest.MapFS{}, []string{}
	for _, f := range archive.Files {
		if name, ok := strings.CutPrefix(f.Name, "repo/"); ok {
			files[name] = &fstest.MapFile{Data: f.Data, Mode: 0o644}
		}
	}
	for line := range strings.Lines(string(archive.Comment)) {
		if r, ok := strings.CutPrefix(line, "remote: "); ok {
			remotes = append(remotes, strings.TrimSpace(r))
		}
	}
	return files, remotes
}

func TestProfileOfLayouts(t *testing.T) {
	for path, archive := range archives(t, "testdata/layouts/*.txtar", 8) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			facts := Survey(layout(archive))
			got := Profile(facts, Options{Name: "acme", Base: "claude", Reach: "Claude Code", Sets: builtInSets(t)})
			golden(t, path, archive, "profile.toml", got)
			if bytes.Contains(got, []byte("TOPSECRET")) {
				t.Error("a secret of the repository is in the profile")
			}
			loads(t, got)
		})
	}
}

func TestOneGoldenHoldsItsOwnProof(t *testing.T) {
	archive := archives(t, "testdata/layouts/node.txtar", 1)["testdata/layouts/node.txtar"]
	got := string(Profile(Survey(layout(archive)), Options{Name: "acme", Base: "claude", Sets: []string{"npm"}}))
	for _, want := range []string{"\n  \"npm\",", "package-lock.json", "\n  \".env\",", "\n  \".env.local\",", "\n  \".npmrc\",", "\n# host = \"npm.acme.example\"", "\n  \"origin\","} {
		if !strings.Contains(got, want) {
			t.Errorf("the profile lacks %q:\n%s", want, got)
		}
	}
	for _, never := range []string{".env.example", "left-pad", "\nhost = \"npm.acme.example\""} {
		if strings.Contains(got, never) {
			t.Errorf("the profile holds %q:\n%s", never, got)
		}
	}
}
