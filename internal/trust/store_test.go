package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"agentbox/internal/layerfiles"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError wants an error with a hint that says what, and does not count as absent.
func wantError(t *testing.T, err error, what ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", what)
	}
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("counts as absent: %v", err)
	}
	hinted := err.(interface{ HintText() string })
	if hinted.HintText() == "" {
		t.Errorf("no hint: %v", err)
	}
	for _, w := range what {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error is %q, want it to say %q", err, w)
		}
	}
}

func noon() time.Time { return time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) }

// setup gives an empty store and a repository.
func setup(t *testing.T) (Store, string) {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	repo := filepath.Join(base, "repo")
	must(t, os.Mkdir(repo, 0o755))
	return Store{Dir: filepath.Join(base, "state", "trust")}, repo
}

func files(pairs ...string) map[string][]byte {
	m := map[string][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = []byte(pairs[i+1])
	}
	return m
}

func TestStoreKeepsWhatWasAccepted(t *testing.T) {
	s, repo := setup(t)
	if _, found, err := s.Get(repo); found || err != nil {
		t.Fatalf("before anything: %v, %v", found, err)
	}
	content := files("agentbox.toml", "version = 1\n", ".agentbox/a.toml", "\xff\xfe not utf-8 \x00")
	want, err := s.Accept(Acceptance{Repo: repo, Files: content, Explicit: true, Time: noon(), Agentbox: "1.0"})
	must(t, err)
	link := filepath.Join(filepath.Dir(repo), "link")
	must(t, os.Symlink(repo, link))
	for _, path := range []string{repo, link, repo + "/"} {
		got, found, err := s.Get(path)
		if err != nil || !found || got.Hash != want.Hash || got.Repo != repo || !got.Explicit || !got.Accepted.Equal(noon()) || got.Agentbox != "1.0" {
			t.Errorf("%s: %+v, %v, %v", path, got, found, err)
		}
		if !maps.EqualFunc(got.Files, content, bytes.Equal) {
			t.Errorf("%s: files are %q", path, got.Files)
		}
	}
	info, err := os.Stat(filepath.Join(s.Dir, recordName(repo)))
	must(t, err)
	dir, err := os.Stat(s.Dir)
	must(t, err)
	if info.Mode() != 0o600 || dir.Mode().Perm() != 0o700 {
		t.Errorf("modes are %v and %v", info.Mode(), dir.Mode())
	}
}

func TestAcceptReplacesOnlyWhatItWasJudgedAgainst(t *testing.T) {
	s, repo := setup(t)
	accept := func(content, base string, explicit bool) (Record, error) {
		return s.Accept(Acceptance{Repo: repo, Files: files("agentbox.toml", content), Base: base, Explicit: explicit, Time: noon()})
	}
	one, err := accept("one", "", false)
	must(t, err)
	two, err := accept("two", one.Hash, false)
	must(t, err)
	for _, base := range []string{"", one.Hash} {
		_, err := accept("three", base, true)
		wantError(t, err, "another agentbox")
		if !errors.Is(err, ErrChanged) {
			t.Errorf("%v is not ErrChanged", err)
		}
	}
	if again, err := accept("two", "", true); err != nil || !again.Explicit {
		t.Errorf("the same content, asked about: %+v, %v", again, err)
	}
	if again, err := accept("two", "", false); err != nil || !again.Explicit {
		t.Errorf("what a person answered was forgotten: %+v, %v", again, err)
	}
	must(t, s.Forget(repo))
	if _, err := accept("three", two.Hash, false); !errors.Is(err, ErrChanged) {
		t.Errorf("a revoked record came back: %v", err)
	}
}

func TestNothingIsRecordedOfNothing(t *testing.T) {
	s, repo := setup(t)
	_, err := s.Accept(Acceptance{Repo: repo, Time: noon()})
	must(t, err)
	if _, found, err := s.Get(repo); found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
	one, err := s.Accept(Acceptance{Repo: repo, Files: files("agentbox.toml", "x"), Time: noon()})
	must(t, err)
	_, err = s.Accept(Acceptance{Repo: repo, Base: one.Hash, Time: noon()})
	must(t, err)
	if r, found, err := s.Get(repo); !found || err != nil || len(r.Files) != 0 {
		t.Errorf("%+v, %v, %v", r, found, err)
	}
}

func TestListAndForget(t *testing.T) {
	s, repo := setup(t)
	if records, err := s.List(); err != nil || len(records) != 0 {
		t.Errorf("an empty store: %v, %v", records, err)
	}
	if err := s.Forget(repo); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("forgetting nothing: %v", err)
	}
	var repos []string
	for _, name := range []string{"c", "a", "b"} {
		dir := filepath.Join(repo, name)
		must(t, os.Mkdir(dir, 0o755))
		_, err := s.Accept(Acceptance{Repo: dir, Files: files("agentbox.toml", name), Time: noon()})
		must(t, err)
		repos = append(repos, dir)
	}
	records, err := s.List()
	must(t, err)
	var got []string
	for _, r := range records {
		got = append(got, r.Repo)
	}
	if slices.Sort(repos); !slices.Equal(got, repos) {
		t.Errorf("listed %q", got)
	}
	must(t, os.Remove(repos[0]))
	must(t, s.Forget(repos[0])) // of a repository that is gone
	if _, found, err := s.Get(repos[1]); !found || err != nil {
		t.Errorf("another was forgotten: %v, %v", found, err)
	}
	if err := s.Forget(repos[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("twice: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(s.Dir, recordName(repos[1])), []byte("{"), 0o600))
	records, err = s.List()
	if err == nil || !strings.Contains(err.Error(), "unexpected EOF") || len(records) != 1 {
		t.Errorf("with a broken one: %v, %v", records, err)
	}
}

// A record that is not what was written refuses, whatever way it was spoiled, until it is forgotten.
func TestASpoiledRecordIsNotNoRecord(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(t *testing.T, path string, data []byte)
		want  string
	}{
		"cut short":      {func(t *testing.T, path string, data []byte) { write(t, path, data[:len(data)/2]) }, "unexpected EOF"},
		"empty":          {func(t *testing.T, path string, _ []byte) { write(t, path, nil) }, "EOF"},
		"other content":  {replace(`"files": {`, `"files": {".agentbox/b.toml": "eA==",`), "hash"},
		"other hash":     {replace(`"hash": "sha256:`, `"hash": "sha256:0`), "hash"},
		"other repo":     {replace(`/repo"`, `/other"`), "is about"},
		"other version":  {replace(`"version": 1`, `"version": 2`), "version 2"},
		"another key":    {replace(`"version": 1`, `"version": 1, "x": 1`), "unknown field"},
		"more behind":    {func(t *testing.T, path string, data []byte) { write(t, path, append(data, "{}"...)) }, "follows"},
		"another name":   {replace(`"agentbox.toml"`, `"../agentbox.toml"`), "not the name"},
		"no files":       {func(t *testing.T, path string, _ []byte) { write(t, path, []byte(`{"version":1,"repo":"/x"}`)) }, "no files"},
		"link":           {func(t *testing.T, path string, data []byte) { move(t, path); must(t, os.Symlink(path+".moved", path)) }, "symbolic link"},
		"FIFO":           {func(t *testing.T, path string, _ []byte) { must(t, os.Remove(path)); must(t, unix.Mkfifo(path, 0o600)) }, "FIFO"},
		"directory":      {func(t *testing.T, path string, _ []byte) { must(t, os.Remove(path)); must(t, os.Mkdir(path, 0o700)) }, "directory"},
		"open to others": {func(t *testing.T, path string, _ []byte) { must(t, os.Chmod(path, 0o606)) }, "other users"},
		"too large":      {func(t *testing.T, path string, _ []byte) { must(t, os.Truncate(path, maxRecord+1)) }, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			s, repo := setup(t)
			accepted := Acceptance{Repo: repo, Files: files("agentbox.toml", "x"), Time: noon()}
			r, err := s.Accept(accepted)
			must(t, err)
			path := filepath.Join(s.Dir, recordName(repo))
			data, err := os.ReadFile(path)
			must(t, err)
			test.spoil(t, path, data)
			_, found, err := s.Get(repo)
			wantError(t, err, test.want, path)
			if found {
				t.Error("it was found all the same")
			}
			accepted.Base, accepted.Explicit = r.Hash, true
			_, err = s.Accept(accepted)
			wantError(t, err, test.want)
			must(t, s.Forget(repo))
			if _, found, err := s.Get(repo); found || err != nil {
				t.Errorf("after forgetting: %v, %v", found, err)
			}
		})
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(path, data, 0o600))
}

func move(t *testing.T, path string) { t.Helper(); must(t, os.Rename(path, path+".moved")) }

func replace(old, with string) func(*testing.T, string, []byte) {
	return func(t *testing.T, path string, data []byte) {
		t.Helper()
		if !bytes.Contains(data, []byte(old)) {
			t.Fatalf("no %q in %s", old, data)
		}
		write(t, path, bytes.Replace(data, []byte(old), []byte(with), 1))
	}
}

func TestARecordOfAnotherUser(t *testing.T) {
	s, repo := setup(t)
	_, err := s.Accept(Acceptance{Repo: repo, Files: files("agentbox.toml", "x"), Time: noon()})
	must(t, err)
	if me := os.Getuid(); me != 0 {
		s.uid = func() int { return me + 1 } // what is there is then another user's
	} else {
		must(t, os.Chown(filepath.Join(s.Dir, recordName(repo)), 4242, 4242))
	}
	_, _, err = s.Get(repo)
	wantError(t, err, "another user")
}

func TestADirectoryThatOthersCanWrite(t *testing.T) {
	s, repo := setup(t)
	must(t, os.MkdirAll(s.Dir, 0o700))
	must(t, os.Chmod(s.Dir, 0o707))
	_, _, err := s.Get(repo)
	wantError(t, err, "other users")
	_, err = s.Accept(Acceptance{Repo: repo, Files: files("agentbox.toml", "x"), Time: noon()})
	wantError(t, err, "other users")
	must(t, os.Chmod(s.Dir, 0o755))
	_, err = s.Accept(Acceptance{Repo: repo, Files: files("agentbox.toml", "x"), Time: noon()})
	must(t, err)
	if info, _ := os.Stat(s.Dir); info.Mode().Perm() != 0o700 {
		t.Errorf("others can list it: %v", info.Mode())
	}
}

// Runs that start together all record, and each reads a whole record.
func TestConcurrentAcceptance(t *testing.T) {
	s, repo := setup(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		wg.Go(func() {
			content := files("agentbox.toml", strings.Repeat(fmt.Sprint(i), 10_000))
			_, err := s.Accept(Acceptance{Repo: repo, Files: content, Time: noon()})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case !errors.Is(err, ErrChanged):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, found, err := s.Get(repo); won != 1 || !found || err != nil {
		t.Errorf("%d recorded theirs; %v, %v", won, found, err)
	}
}

func TestAcceptRefusesWhatIsNoLayerFile(t *testing.T) {
	s, repo := setup(t)
	for _, name := range []string{"other.toml", ".agentbox/../x.toml", ".agentbox/a/b.toml", ".agentbox/x", "/agentbox.toml", ""} {
		if _, err := s.Accept(Acceptance{Repo: repo, Files: files(name, "x"), Time: noon()}); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	if _, _, err := s.Get("relative"); err == nil {
		t.Error("a relative path was taken")
	}
}

func TestHash(t *testing.T) {
	const want = "sha256:"
	seen := map[string]string{}
	for name, m := range map[string]map[string][]byte{
		"nothing": nil, "one": files("agentbox.toml", "ab"), "other content": files("agentbox.toml", "abc"),
		"other name": files(".agentbox/agentbox.toml", "ab"), "empty file": files("agentbox.toml", ""),
		"two": files("a", "bc", "d", ""), "shifted": files("a", "b", "cd", ""), "joined": files("a", "bcd"),
	} {
		h := Hash(m)
		if !strings.HasPrefix(h, want) || len(h) != len(want)+64 || Hash(maps.Clone(m)) != h {
			t.Errorf("%s: %q", name, h)
		}
		if other, twice := seen[h]; twice {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[h] = name
	}
	if Hash(nil) != Hash(map[string][]byte{}) {
		t.Error("nothing has two hashes")
	}
	// Records on people's machines hold it: it does not change.
	if h := Hash(files("agentbox.toml", "version = 1\n")); h != "sha256:27bf1aac9fb48bd5b87ee2e754c2258684322d392134824b4d0b45d0744e8a36" {
		t.Errorf("the hash changed: %s", h)
	}
}

func TestSnapshotAndBack(t *testing.T) {
	repo := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(repo, ".agentbox", "sub"), 0o755))
	want := files("agentbox.toml", "one", ".agentbox/a.toml", "a", ".agentbox/b.toml", "")
	for name, data := range want {
		write(t, filepath.Join(repo, name), data)
	}
	write(t, filepath.Join(repo, ".agentbox", "notes.md"), []byte("no"))
	write(t, filepath.Join(repo, ".agentbox", "sub", "c.toml"), []byte("no"))
	got, err := Snapshot(layerfiles.Repo(repo, os.Getuid()))
	if err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("%q, %v", got, err)
	}
	if again, err := Snapshot(FS(got)); err != nil || Hash(again) != Hash(want) {
		t.Errorf("and back: %q, %v", again, err)
	}
	for _, fsys := range []fs.FS{nil, layerfiles.Repo(t.TempDir(), os.Getuid())} {
		if got, err := Snapshot(fsys); err != nil || len(got) != 0 {
			t.Errorf("nothing: %q, %v", got, err)
		}
	}
	must(t, os.Symlink("a.toml", filepath.Join(repo, ".agentbox", "link.toml")))
	_, err = Snapshot(layerfiles.Repo(repo, os.Getuid()))
	wantError(t, err, "symbolic link")
}

func TestSnapshotIsBounded(t *testing.T) {
	m := map[string][]byte{}
	for i := range maxFiles + 1 {
		m[fmt.Sprintf(".agentbox/%d.toml", i)] = nil
	}
	_, err := Snapshot(FS(m))
	wantError(t, err, "more than")
	_, err = Snapshot(FS(map[string][]byte{"agentbox.toml": make([]byte, maxTotal+1)}))
	wantError(t, err, "more than")
}
