package layerfiles

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

// put writes a file that nobody else can write, whatever the umask, and the directories above it.
func put(t *testing.T, root, name, content string) string {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError wants an error that is a Problem with a hint, says what, and is not "absent".
func wantError(t *testing.T, err error, what ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", what)
	}
	p, ok := errors.AsType[*Problem](err)
	if !ok || p.Hint == "" {
		t.Errorf("no hint: %v", err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("counts as absent: %v", err)
	}
	for _, w := range what {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error is %q, want it to say %q", err, w)
		}
	}
}

func TestDirIsAFileSystem(t *testing.T) {
	root := t.TempDir()
	put(t, root, "agentbox.toml", "version = 1\n")
	put(t, root, "profiles/a.toml", "a")
	put(t, root, "profiles/b.toml", strings.Repeat("b", 100_000))
	put(t, root, "profiles/empty.toml", "")
	files := map[string][]byte{}
	for _, name := range []string{"agentbox.toml", "profiles/a.toml", "profiles/b.toml", "profiles/empty.toml"} {
		data, err := os.ReadFile(filepath.Join(root, name))
		must(t, err)
		files[name] = data
	}
	for name, fsys := range map[string]fs.FS{"Dir": Dir(root, os.Getuid()), "Repo": Repo(root, os.Getuid()), "Memory": Memory(files)} {
		t.Run(name, func(t *testing.T) {
			must(t, fstest.TestFS(fsys, "agentbox.toml", "profiles/a.toml", "profiles/b.toml", "profiles/empty.toml"))
			for path, want := range files {
				if got, err := fs.ReadFile(fsys, path); err != nil || string(got) != string(want) {
					t.Errorf("%s: %d bytes, %v; want %d", path, len(got), err, len(want))
				}
			}
		})
	}
}

func TestAbsentIsAbsent(t *testing.T) {
	root := t.TempDir()
	for _, fsys := range []fs.FS{Dir(root, os.Getuid()), Dir(filepath.Join(root, "no", "where"), os.Getuid()), Repo(root, os.Getuid()), Memory(nil)} {
		for _, name := range []string{"agentbox.toml", ".agentbox/x.toml"} {
			if _, err := fs.ReadFile(fsys, name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if names, err := fs.Glob(fsys, ".agentbox/*.toml"); err != nil || len(names) != 0 {
			t.Errorf("glob: %v, %v", names, err)
		}
	}
}

// Whatever lies where a file should be is refused at once: nothing is followed, nothing waits.
func TestWhatIsNoRegularFileIsRefused(t *testing.T) {
	uid := os.Getuid()
	for name, test := range map[string]struct {
		plant func(t *testing.T, path string)
		want  string
	}{
		"link": {func(t *testing.T, path string) { must(t, os.Symlink(put(t, t.TempDir(), "secret", "secret"), path)) }, "symbolic link"},
		"link to a file beside it": {func(t *testing.T, path string) {
			put(t, filepath.Dir(path), "other.toml", "version = 1")
			must(t, os.Symlink("other.toml", path))
		}, "symbolic link"},
		"dangling link":    {func(t *testing.T, path string) { must(t, os.Symlink("/nowhere", path)) }, "symbolic link"},
		"link to a device": {func(t *testing.T, path string) { must(t, os.Symlink("/dev/zero", path)) }, "symbolic link"},
		"FIFO":             {func(t *testing.T, path string) { must(t, unix.Mkfifo(path, 0o600)) }, "FIFO"},
		"directory":        {func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }, "directory"},
		"socket": {func(t *testing.T, path string) {
			l, err := net.Listen("unix", path)
			must(t, err)
			t.Cleanup(func() { l.Close() })
		}, "socket"},
		"too large": {func(t *testing.T, path string) {
			put(t, filepath.Dir(path), filepath.Base(path), "")
			must(t, os.Truncate(path, MaxFile+1))
		}, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			root := shortTemp(t)
			must(t, os.Mkdir(filepath.Join(root, ".agentbox"), 0o755))
			path := filepath.Join(root, ".agentbox", "x.toml")
			test.plant(t, path)
			for _, fsys := range []fs.FS{Dir(root, uid), Repo(root, uid)} {
				_, err := fs.ReadFile(fsys, ".agentbox/x.toml")
				wantError(t, err, test.want, path)
				if names, err := fs.Glob(fsys, ".agentbox/x.toml"); err != nil || len(names) != 1 {
					t.Errorf("it is not listed: %v, %v", names, err)
				}
			}
		})
	}
}

// shortTemp is short enough for a socket's path.
func shortTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lf")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A race between looking and opening is lost by the attacker: the open itself follows and waits for nothing.
func TestOpeningIsSafeByItself(t *testing.T) {
	root := t.TempDir()
	must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	must(t, os.Symlink("/etc/passwd", filepath.Join(root, "link")))
	must(t, os.Symlink("/etc", filepath.Join(root, "dirlink")))
	at, err := Dir(root, os.Getuid()).(*tree).top()
	must(t, err)
	defer at.close()
	everything := rules{owner: func(uint32) bool { return true }}
	for name, flags := range map[string]int{"link": 0, "dirlink": unix.O_DIRECTORY} {
		if _, _, err := at.openat(name, name, flags, everything); err == nil {
			t.Errorf("%s was followed", name)
		}
	}
	f, st, err := at.openat("fifo", "fifo", 0, everything)
	must(t, err)
	defer f.close()
	wantError(t, regular("fifo", &st), "FIFO")
}

func TestADirectoryOnTheWayIsNoLink(t *testing.T) {
	elsewhere := t.TempDir()
	put(t, elsewhere, "x.toml", "version = 1")
	for _, dir := range []string{".agentbox", "profiles", "sets"} {
		root := t.TempDir()
		must(t, os.Symlink(elsewhere, filepath.Join(root, dir)))
		for _, fsys := range []fs.FS{Dir(root, os.Getuid()), Repo(root, os.Getuid())} {
			_, err := fs.ReadFile(fsys, dir+"/x.toml")
			wantError(t, err, "symbolic link", dir)
			_, err = fs.Glob(fsys, dir+"/*.toml")
			wantError(t, err, "symbolic link", dir)
		}
	}
	root := t.TempDir()
	put(t, root, ".agentbox", "a file")
	_, err := fs.ReadFile(Repo(root, os.Getuid()), ".agentbox/x.toml")
	wantError(t, err, "not a directory")
}

// The directory itself may be a link, as dotfiles often are; one that leads nowhere is not "absent".
func TestTheRootMayBeALink(t *testing.T) {
	real, at := t.TempDir(), filepath.Join(t.TempDir(), "link")
	put(t, real, "agentbox.toml", "version = 1")
	must(t, os.Symlink(real, at))
	if data, err := fs.ReadFile(Dir(at, os.Getuid()), "agentbox.toml"); err != nil || string(data) != "version = 1" {
		t.Errorf("%q, %v", data, err)
	}
	must(t, os.Remove(at))
	must(t, os.Symlink("/no/where", at))
	_, err := fs.ReadFile(Dir(at, os.Getuid()), "agentbox.toml")
	wantError(t, err, "leads nowhere")
}

func TestForeignOwnerIsRefused(t *testing.T) {
	root, me := t.TempDir(), os.Getuid()
	path := put(t, root, ".agentbox/x.toml", "version = 1")
	other := me + 1
	if me == 0 {
		other = 4242
		must(t, os.Chown(path, other, other))
		for _, fsys := range []fs.FS{Dir(root, me), Repo(root, me)} {
			_, err := fs.ReadFile(fsys, ".agentbox/x.toml")
			wantError(t, err, "another user (uid 4242)", path)
		}
		must(t, os.Chown(path, 0, 0))
		must(t, os.Chown(filepath.Dir(path), other, other))
		_, err := fs.ReadFile(Repo(root, me), ".agentbox/x.toml")
		wantError(t, err, "another user (uid 4242)", ".agentbox")
		return
	}
	for _, fsys := range []fs.FS{Dir(root, other), Repo(root, other)} {
		_, err := fs.ReadFile(fsys, ".agentbox/x.toml")
		wantError(t, err, "another user")
	}
}

// Root's files are everybody's to read.
func TestRootMayOwnWhatIsRead(t *testing.T) {
	if data, err := fs.ReadFile(Dir("/etc", 4242), "passwd"); err != nil || len(data) == 0 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func TestWhatOthersCanWriteIsRefusedInAPersonsConfiguration(t *testing.T) {
	uid := os.Getuid()
	for _, test := range []struct {
		name string
		mode fs.FileMode
	}{{"profiles/x.toml", 0o646}, {"profiles", 0o707}, {".", 0o707}} {
		root := t.TempDir()
		put(t, root, "profiles/x.toml", "version = 1")
		must(t, os.Chmod(filepath.Join(root, test.name), test.mode))
		_, err := fs.ReadFile(Dir(root, uid), "profiles/x.toml")
		wantError(t, err, "other users can write it")
		if _, err := fs.ReadFile(Repo(root, uid), "profiles/x.toml"); err != nil {
			t.Errorf("a shared working tree is refused: %v", err)
		}
	}
	root := t.TempDir()
	must(t, os.Chmod(put(t, root, "x.toml", ""), 0o664))
	d := Dir(root, uid).(*tree)
	d.rules.private = func(uint32, uint32) bool { return false }
	_, err := d.ReadFile("x.toml")
	wantError(t, err, "other users can write it")
	d.rules.private = func(uint32, uint32) bool { return true }
	if _, err := d.ReadFile("x.toml"); err != nil {
		t.Errorf("the owner's own group counts as somebody: %v", err)
	}
}

func TestPrivateGroup(t *testing.T) {
	const users = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\neve:x:1002:1001::/:/bin/sh\n"
	for _, test := range []struct {
		groups   string
		uid, gid uint32
		want     bool
	}{
		{"ann:x:1000:\n", 1000, 1000, true},
		{"ann:x:1000:ann\n", 1000, 1000, true},
		{"ann:x:1000:ann,eve\n", 1000, 1000, false},
		{"ann:x:1000:\nalias:x:1000:eve\n", 1000, 1000, false},
		{"bob:x:1001:\n", 1001, 1001, false}, // eve's primary group
		{"staff:x:20:\n", 1000, 20, false},
		{"", 1000, 1000, false},
	} {
		if got := privateIn(test.groups, users, test.uid, test.gid); got != test.want {
			t.Errorf("%q of %d: %v", test.groups, test.uid, got)
		}
	}
}

func TestWhatCannotBeReadIsNotAbsent(t *testing.T) {
	if os.Getuid() == 0 {
		return // root reads everything; the test user of CI is not root
	}
	root := t.TempDir()
	path := put(t, root, ".agentbox/x.toml", "version = 1")
	fsys := Repo(root, os.Getuid())
	must(t, os.Chmod(path, 0))
	_, err := fs.ReadFile(fsys, ".agentbox/x.toml")
	wantError(t, err, "permission denied")
	must(t, os.Chmod(filepath.Dir(path), 0))
	t.Cleanup(func() { os.Chmod(filepath.Dir(path), 0o700) })
	_, err = fs.ReadFile(fsys, ".agentbox/x.toml")
	wantError(t, err, "permission denied")
	_, err = fs.Glob(fsys, ".agentbox/*.toml")
	wantError(t, err, "permission denied")
}

func TestNamesStayInside(t *testing.T) {
	root := t.TempDir()
	put(t, root, "secret.toml", "x")
	fsys := Dir(filepath.Join(root, "config"), os.Getuid())
	must(t, os.Mkdir(filepath.Join(root, "config"), 0o700))
	for _, name := range []string{"../secret.toml", "/etc/passwd", "a/../../secret.toml", "", "."} {
		if _, err := fs.ReadFile(fsys, name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestADirectoryIsBounded(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"a.toml", "b.toml", "c.toml"} {
		put(t, root, name, "")
	}
	for _, fsys := range []fs.FS{Dir(root, os.Getuid()), Repo(root, os.Getuid())} {
		d := fsys.(*tree)
		if d.rules.entries != MaxFiles {
			t.Errorf("the bound is %d", d.rules.entries)
		}
		d.rules.entries = 3
		if names, err := fs.Glob(d, "*.toml"); err != nil || len(names) != 3 {
			t.Errorf("%v, %v", names, err)
		}
		d.rules.entries = 2
		_, err := fs.Glob(d, "*.toml")
		wantError(t, err, "more than 2 entries")
	}
}

func TestReadPrivateIsBounded(t *testing.T) {
	root := t.TempDir()
	put(t, root, "r", "12345")
	if data, err := ReadPrivate(root, "r", os.Getuid(), 5); err != nil || string(data) != "12345" {
		t.Errorf("%q, %v", data, err)
	}
	_, err := ReadPrivate(root, "r", os.Getuid(), 4)
	wantError(t, err, "more than 4 bytes")
}
