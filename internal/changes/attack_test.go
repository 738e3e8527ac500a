//go:build linux

package changes

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"agentbox/internal/sys"
)

// Two directories change their names for a moment, which leaves no trace at the files in them: what is read is what was
// listed, or nothing.
func TestAnotherFileUnderTheSameNameIsNotRead(t *testing.T) {
	st := newStage(t, Overlay)
	st.begin()
	put(t, st.upper, "d/package.json", `{"scripts": {"postinstall": "evil"}}`)
	put(t, st.upper, "e/package.json", `{"name": "harmless"}`)
	c := st.change("d/package.json")
	swapDirs(t, st.upper)
	if text, err := st.source().Diff(context.Background(), c); !errors.Is(err, ErrChanged) {
		t.Errorf("%v, %v", text, err)
	}
	swapDirs(t, st.upper)
	if text, err := st.source().Diff(context.Background(), c); err != nil || len(text.Hunks) != 1 {
		t.Errorf("%v, %v", text, err)
	}
}

func swapDirs(t *testing.T, dir string) {
	t.Helper()
	must(t, sys.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "d"), unix.AT_FDCWD, filepath.Join(dir, "e"), sys.RenameExchange))
}

// A list that is made while they do so all the time never takes what would execute for what would not.
func TestAListIsOfWhatIsThere(t *testing.T) {
	st := newStage(t, Overlay)
	st.begin()
	put(t, st.upper, "d/package.json", `{"scripts": {"postinstall": "evil"}}`)
	put(t, st.upper, "e/package.json", `{"name": "harmless"}`)
	evil := Stat(st.change("d/package.json").Mark)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			swapDirs(t, st.upper)
		}
		ended <- nil
	}()
	for range 300 {
		list, err := st.source().List(context.Background())
		must(t, err)
		for _, c := range list {
			if Stat(c.Mark) == evil && c.Fate == Applies && c.Later == "" {
				t.Fatalf("%+v", c)
			}
		}
	}
	stop()
	must(t, <-ended)
}

// What can't be opened, or not at once, ends neither a list nor a look: a socket in the place of a file, and a file on which
// the agent has a lease, whose breaking the kernel waits for.
func TestNothingIsWaitedFor(t *testing.T) {
	st := newStage(t, Overlay)
	st.begin()
	put(t, st.upper, "held", "x")
	put(t, st.upper, "file", "x")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(fd)
	t.Chdir(st.upper)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: "socket"}))
	f, err := os.OpenFile("held", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"socket", "held"} {
		if _, err := st.source().AfterFile(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c := st.change("held"); c.Fate != Unreadable {
		t.Errorf("%+v", c)
	}
	if c := st.change("file"); c.Fate != Applies {
		t.Errorf("%+v", c)
	}
}

// An agent can set fuse-overlayfs's attributes on the kernel's overlay: they mean nothing there.
func TestAttributesOfAnotherOverlayMeanNothing(t *testing.T) {
	for backend, covered := range map[string]bool{Overlay: false, FuseOverlay: true, Copy: false} {
		st := newStage(t, backend)
		put(t, st.root, "dir/old", "x")
		st.begin()
		put(t, st.upper, "dir/", "")
		must(t, unix.Setxattr(filepath.Join(st.upper, "dir"), "user.fuseoverlayfs.opaque", []byte("y"), 0))
		if list := st.lines(); (len(list) == 1) != covered {
			t.Errorf("%s: %q", backend, list)
		}
	}
}

// A file or a directory of which an attribute says that the rest of it lies elsewhere is not followed there, nor applied.
func TestAttributesThatLeadElsewhereAreNotFollowed(t *testing.T) {
	st := newStage(t, Overlay)
	put(t, st.root, "secret/key", "x")
	st.begin()
	put(t, st.upper, "file", "part")
	put(t, st.upper, "dir/", "")
	must(t, unix.Setxattr(filepath.Join(st.upper, "file"), "user.overlay.metacopy", nil, 0))
	must(t, unix.Setxattr(filepath.Join(st.upper, "dir"), "user.overlay.redirect", []byte("/secret"), 0))
	st.want(`"dir" >dir unreadable`, `"file" >file unreadable`)
}
