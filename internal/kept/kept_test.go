package kept

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agentbox/internal/caches"
)

func open(t *testing.T, root, repo, profile string, names ...string) (*Opened, []string, error) {
	t.Helper()
	var dirs []string
	for _, name := range names {
		dirs = append(dirs, caches.At(Base(root, repo, profile), name, "."+name+"/x"))
	}
	o, err := Open(root, repo, profile, dirs)
	if err == nil {
		t.Cleanup(func() { _ = o.Close() })
	}
	return o, dirs, err
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsKeptIsApartByRepositoryAndProfile(t *testing.T) {
	root := filepath.Join(t.TempDir(), "caches")
	seen := map[string]bool{}
	for _, repo := range []string{"/a", "/b"} {
		for _, profile := range []string{"one", "two"} {
			_, dirs, err := open(t, root, repo, profile, "npm", "pip")
			check(t, err)
			for _, dir := range dirs {
				info, err := os.Lstat(dir)
				if err != nil || info.Mode() != fs.ModeDir|0o700 || seen[dir] {
					t.Errorf("%s: %v, %v, twice: %v", dir, info, err, seen[dir])
				}
				seen[dir] = true
			}
		}
	}
	all, err := List(root)
	if err != nil || len(all) != 8 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, e := range all {
		if e.Strange != "" || e.Used.IsZero() || e.Repo != "/a" && e.Repo != "/b" || e.Name != "npm" && e.Name != "pip" {
			t.Errorf("%+v", e)
		}
	}
}

func TestWhatIsNotAsItWasMadeRefusesTheRun(t *testing.T) {
	for what, spoil := range map[string]func(t *testing.T, dir string){
		"is a link": func(t *testing.T, dir string) { check(t, errors.Join(os.Remove(dir), os.Symlink(t.TempDir(), dir))) },
		"is no directory": func(t *testing.T, dir string) {
			check(t, errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600)))
		},
	} {
		for up := range 4 { // the directory itself, its name's, the profile's, the repository's
			root := filepath.Join(t.TempDir(), "caches")
			o, dirs, err := open(t, root, "/a", "one", "npm")
			check(t, errors.Join(err, o.Close()))
			at := dirs[0]
			for range up {
				at = filepath.Dir(at)
			}
			check(t, os.RemoveAll(at))
			check(t, os.Mkdir(at, 0o700))
			spoil(t, at)
			_, _, err = open(t, root, "/a", "one", "npm")
			var p *Problem
			if !errors.As(err, &p) || !strings.Contains(err.Error(), what) || p.Hint() == "" || p.Path != at {
				t.Errorf("%s, %d above: %v", what, up, err)
			}
		}
	}
}

func TestAClosedDirectoryIsOpenedAgain(t *testing.T) {
	for _, mode := range []fs.FileMode{0, 0o777, 0o500} {
		root := filepath.Join(t.TempDir(), "caches")
		_, dirs, err := open(t, root, "/a", "one", "npm")
		check(t, errors.Join(err, os.Chmod(dirs[0], mode)))
		_, _, err = open(t, root, "/a", "one", "npm")
		check(t, err)
		if info, err := os.Lstat(dirs[0]); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%v: %v, %v", mode, info, err)
		}
	}
}

func TestWhatARunUsesIsNotRemoved(t *testing.T) {
	root := filepath.Join(t.TempDir(), "caches")
	o, dirs, err := open(t, root, "/a", "one", "npm", "pip")
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dirs[0], "x"), []byte("x"), 0o600))
	all, err := List(root)
	check(t, err)
	if err := Remove(all[0], os.RemoveAll); !errors.Is(err, ErrInUse) {
		t.Errorf("in use: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dirs[0], "x")); err != nil {
		t.Error(err)
	}
	check(t, o.Close())
	if err := Remove(all[0], func(string) error { return errors.New("podman is away") }); err == nil || !strings.Contains(err.Error(), "podman is away") {
		t.Errorf("a removal that fails: %v", err)
	}
	for _, e := range all {
		check(t, Remove(e, os.RemoveAll))
	}
	if left, err := os.ReadDir(root); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Who opens while another removes finds a lock that nobody can reach any more: it takes the one that there is.
func TestOpeningAfterARemovalHoldsTheLockThatIsThere(t *testing.T) {
	root := filepath.Join(t.TempDir(), "caches")
	o, _, err := open(t, root, "/a", "one", "npm")
	check(t, errors.Join(err, o.Close()))
	base := Base(root, "/a", "one")
	exclusive, err := os.OpenFile(filepath.Join(base, lockFile), os.O_RDWR, 0)
	check(t, err)
	check(t, flock(exclusive, 2)) // LOCK_EX
	opened := make(chan error)
	go func() {
		_, err := Open(root, "/a", "one", []string{caches.At(base, "npm", "x")})
		opened <- err
	}()
	check(t, errors.Join(os.RemoveAll(filepath.Join(base, "npm")), clear(base), exclusive.Close()))
	check(t, <-opened)
	all, err := List(root)
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	if err := Remove(all[0], os.RemoveAll); !errors.Is(err, ErrInUse) {
		t.Errorf("it is not held: %v", err)
	}
}

func TestNeitherMeasuringNorRemovingFollowsALink(t *testing.T) {
	root := filepath.Join(t.TempDir(), "caches")
	outside := t.TempDir()
	check(t, os.WriteFile(filepath.Join(outside, "mine"), make([]byte, 1<<20), 0o600))
	o, dirs, err := open(t, root, "/a", "one", "npm")
	check(t, errors.Join(err, o.Close(), os.Symlink(outside, filepath.Join(dirs[0], "l")), os.WriteFile(filepath.Join(dirs[0], "x"), make([]byte, 8192), 0o600)))
	if s := Measure(dirs[0]); !s.Whole || s.Files != 3 || s.Bytes < 8192 || s.Bytes > 100<<10 {
		t.Errorf("%+v", s)
	}
	all, err := List(root)
	check(t, errors.Join(err, Remove(all[0], os.RemoveAll)))
	if _, err := os.Lstat(filepath.Join(outside, "mine")); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeLookedAtIsSaid(t *testing.T) {
	dir := t.TempDir()
	deep := dir
	for range deepest + 2 {
		deep = filepath.Join(deep, "d")
	}
	check(t, os.MkdirAll(deep, 0o700))
	if s := Measure(dir); s.Whole || s.Files < deepest {
		t.Errorf("%+v", s)
	}
	if s := Measure(filepath.Join(dir, "nothing")); !s.Whole || s.Bytes != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSeedsAreTheirOwnersAndHoldNoSecret(t *testing.T) {
	home := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(home, name)
		check(t, errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)))
		return path
	}
	for _, text := range []string{"# how I like it\nsecret: keep it short\n", "", "a token is a word, and a password another\n", "model = \"sk\"\n", "see https://example.com/a@b"} {
		if got, err := Seed(home, write("notes", text)); err != nil || string(got) != text {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"-----BEGIN OPENSSH PRIVATE KEY-----\n", "x = sk-ant-api03-" + strings.Repeat("a", 40), "ghp_" + strings.Repeat("a", 36), "AKIA" + strings.Repeat("A", 16),
		`"api_key": "` + strings.Repeat("z", 20) + `"`, "https://ann:hunter22@example.com/x", "password=" + strings.Repeat("p", 16), "eyJ" + strings.Repeat("a", 20) + ".eyJ" + strings.Repeat("b", 20) + "."} {
		_, err := Seed(home, write("notes", "fine\n"+text))
		if err == nil || !strings.Contains(err.Error(), "line 2 looks like a secret") || strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
	link := func(name, to string) string {
		path := filepath.Join(home, name)
		check(t, os.Symlink(to, path))
		return path
	}
	check(t, os.MkdirAll(filepath.Join(home, ".ssh"), 0o700))
	for what, path := range map[string]string{
		"may hold logins": link("a", write(".ssh/id_ed25519", "key")), "is no file": link("c", "/dev/zero"),
		"larger than": write("large", strings.Repeat("x\n", maxSeed)), "not copied in": home,
	} {
		if got, err := Seed(home, path); err == nil || got != nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	if got, err := Seed(home, link("b", write("dotfiles/notes", "linked"))); err != nil || string(got) != "linked" {
		t.Errorf("a link to what is fine: %q, %v", got, err)
	}
	if got, err := Seed(home, filepath.Join(home, "absent")); err != nil || got != nil {
		t.Errorf("absent: %q, %v", got, err)
	}
}
