//go:build linux

package workspace

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func put(t *testing.T, path string, data string, mode fs.FileMode) {
	t.Helper()
	ok(t, os.MkdirAll(filepath.Dir(path), 0o755))
	ok(t, os.WriteFile(path, []byte(data), 0o600))
	ok(t, os.Chmod(path, mode))
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// gitRepo is the least that git takes for one.
func gitRepo(t *testing.T) Repo {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	ok(t, err)
	git := filepath.Join(root, ".git")
	for _, dir := range []string{"objects", "refs"} {
		ok(t, os.MkdirAll(filepath.Join(git, dir), 0o755))
	}
	put(t, filepath.Join(git, "HEAD"), "ref: refs/heads/main\n", 0o644)
	put(t, filepath.Join(git, "config"), "[core]\n\tbare = false\n", 0o644)
	return Repo{Root: root, Git: git, Common: git, Directory: root}
}

func inReview(t *testing.T, repo Repo, l Layer, s Survey) (Reviewed, error) {
	t.Helper()
	return InReview(t.Context(), repo, l, s, nil, t.TempDir())
}

func TestACopyIsLikeItsRepository(t *testing.T) {
	repo := gitRepo(t)
	at := func(name string) string { return filepath.Join(repo.Root, name) }
	old := time.Unix(1_600_000_000, 123_000_000)
	put(t, at("src/a"), "a", 0o640)
	put(t, at("tool"), "t", 0o4755)
	put(t, at("secrets/key"), "h1dden", 0o600)
	put(t, at(".env"), "h1dden", 0o600)
	put(t, at("readonly/in"), "x", 0o400)
	ok(t, os.Link(at("src/a"), at("hard")))
	ok(t, os.Symlink("/etc/passwd", at("out")))
	ok(t, os.Symlink("nowhere", at("dangling")))
	ok(t, syscall.Mkfifo(at("fifo"), 0o600))
	sparse, err := os.Create(at("sparse"))
	ok(t, err)
	_, err = sparse.WriteAt([]byte("middle"), 64<<20)
	ok(t, err)
	ok(t, sparse.Truncate(128<<20))
	ok(t, sparse.Close())
	ok(t, os.Chmod(at("readonly"), 0o500))
	t.Cleanup(func() { _ = os.Chmod(at("readonly"), 0o700) })
	ok(t, os.Chtimes(at("src/a"), old, old))
	ok(t, os.Chtimes(at("src"), old, old))
	work := t.TempDir()
	s, err := Look(repo, []string{".env", "secrets/**"})
	ok(t, err)
	r, err := inReview(t, repo, Layer{Backend: Copy, Work: work, CopyGit: true}, s)
	ok(t, err)
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(work, "copy", "readonly"), 0o700) })
	for _, m := range r.Mounts {
		if m.Kind == Hide || m.Upper != "" {
			t.Errorf("%+v: what is hidden needs nothing over it, and there is no overlay", m)
		}
	}
	copied := func(name string) fs.FileInfo {
		t.Helper()
		info, err := os.Lstat(filepath.Join(work, "copy", name))
		ok(t, err)
		return info
	}
	for name, mode := range map[string]fs.FileMode{"src/a": 0o640, "tool": 0o755, "readonly": fs.ModeDir | 0o500, "readonly/in": 0o400} {
		if got := copied(name).Mode(); got != mode {
			t.Errorf("%s: %v, want %v", name, got, mode)
		}
	}
	if !copied("src/a").ModTime().Equal(old) || !copied("src").ModTime().Equal(old) {
		t.Errorf("times: %v, %v", copied("src/a").ModTime(), copied("src").ModTime())
	}
	if !os.SameFile(copied("hard"), copied("src/a")) {
		t.Error("a hard link became two files")
	}
	original, err := os.Lstat(at("src/a"))
	ok(t, err)
	if os.SameFile(original, copied("src/a")) {
		t.Error("the copy is the file itself")
	}
	for name, want := range map[string]string{"out": "/etc/passwd", "dangling": "nowhere"} {
		if got, _ := os.Readlink(filepath.Join(work, "copy", name)); got != want {
			t.Errorf("%s leads to %q", name, got)
		}
	}
	st := copied("sparse").Sys().(*syscall.Stat_t)
	if st.Size != 128<<20 || st.Blocks*512 > 1<<20 {
		t.Errorf("the sparse file has %d bytes and takes %d", st.Size, st.Blocks*512)
	}
	data, err := os.ReadFile(filepath.Join(work, "copy", "sparse"))
	ok(t, err)
	if !bytes.Equal(data[64<<20:64<<20+6], []byte("middle")) || len(bytes.Trim(data, "\x00")) != 6 {
		t.Error("the sparse file holds something else")
	}
	for _, name := range []string{"fifo", ".env", "secrets", ".git/HEAD"} {
		if _, err := os.Lstat(filepath.Join(work, "copy", name)); err == nil {
			t.Errorf("%s was copied", name)
		}
	}
	ok(t, filepath.WalkDir(work, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && e.Name() != "sparse" {
			if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), "h1dden") {
				t.Errorf("%s holds what is to be hidden", path)
			}
		}
		return err
	}))
}

func TestACopyEndsWhenItIsTooLargeOrCalledOff(t *testing.T) {
	repo := gitRepo(t)
	put(t, filepath.Join(repo.Root, "large"), strings.Repeat("x", 3<<20), 0o644)
	var st unix.Statfs_t
	ok(t, unix.Statfs(repo.Root, &st))
	_, err := inReview(t, repo, Layer{Backend: Copy, Work: t.TempDir(), Limit: 1 << 20}, Survey{})
	if shares := st.Type == unix.BTRFS_SUPER_MAGIC || st.Type == unix.XFS_SUPER_MAGIC; !shares && !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if _, err := InReview(ctx, repo, Layer{Backend: Copy, Work: t.TempDir()}, Survey{}, nil, t.TempDir()); !errors.Is(err, enough) {
		t.Errorf("called off: %v", err)
	}
}

// Between the look at a name and its opening another program may have put a link in its place: what is looked at here is a file
// and a directory, and what is opened are links to others, outside.
func TestACopyFollowsNoLinkThatIsMadeMeanwhile(t *testing.T) {
	repo, outside := t.TempDir(), t.TempDir()
	put(t, filepath.Join(outside, "key"), "k3y", 0o600)
	ok(t, os.Symlink(outside, filepath.Join(repo, "dir")))
	ok(t, os.Symlink(filepath.Join(outside, "key"), filepath.Join(repo, "file")))
	dir, err := os.Open(repo)
	ok(t, err)
	defer func() { ok(t, dir.Close()) }()
	c := &copier{ctx: t.Context(), links: map[inode]string{}}
	to := t.TempDir()
	if err := c.subdir(dir, "dir", filepath.Join(to, "dir"), unix.Stat_t{Mode: unix.S_IFDIR | 0o755}); !errors.Is(err, syscall.ENOTDIR) && !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a link in place of a directory: %v", err)
	}
	if err := c.file(dir, "file", filepath.Join(to, "file"), unix.Stat_t{Mode: unix.S_IFREG | 0o644}); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a link in place of a file: %v", err)
	}
	if entries, err := os.ReadDir(to); err != nil || len(entries) != 0 {
		t.Errorf("copied: %v, %v", entries, err)
	}
}

// Whatever git would obey and is not there has its mount point in the layer, and nothing is made in the repository.
func TestAReviewWritesNothingInTheRepository(t *testing.T) {
	for _, l := range []Layer{{Backend: Overlay}, {Backend: Copy}, {Backend: Copy, CopyGit: true}} {
		repo := gitRepo(t)
		before, err := os.ReadDir(repo.Git)
		ok(t, err)
		l.Work = t.TempDir()
		r, err := inReview(t, repo, l, Survey{})
		ok(t, err)
		after, err := os.ReadDir(repo.Git)
		ok(t, err)
		if len(after) != len(before) {
			t.Errorf("%+v: .git holds %v, and held %v", l, after, before)
		}
		want := map[string]bool{"hooks": true, "config.worktree": true, "commondir": true}
		for _, p := range r.Points {
			delete(want, strings.TrimPrefix(p, ".git/"))
		}
		if len(want) > 0 {
			t.Errorf("%+v: %v are no mount points of %v", l, want, r.Points)
		}
		for _, m := range r.Mounts {
			name := strings.TrimPrefix(m.Target, repo.Git+"/")
			writable := !m.ReadOnly && (m.Upper == "" && within(m.Source, repo.Root))
			if writable {
				t.Errorf("%+v: %s could be written to: %+v", l, name, m)
			}
		}
	}
}

func TestCanOverlay(t *testing.T) {
	repo := gitRepo(t)
	if why := CanOverlay(repo, filepath.Join(t.TempDir(), "not", "there"), agreed); why != "" {
		t.Errorf("here there can be none: %s", why)
	}
	for _, name := range []string{"a:b", "a,b", `a\b`} {
		odd := Repo{Root: filepath.Join(repo.Root, name)}
		if why := CanOverlay(odd, t.TempDir(), agreed); !strings.Contains(why, "path") {
			t.Errorf("%s: %q", name, why)
		}
	}
	if why := CanOverlay(repo, "/proc", agreed); why == "" {
		t.Error("in /proc there can be one")
	}
	asked := []string{}
	refused := func(scratch string, lower ...string) error {
		asked = append(asked, lower...)
		return errors.New("so it is")
	}
	if why := CanOverlay(repo, t.TempDir(), refused); why != "the kernel turns it down: so it is" || !slices.Equal(asked, []string{repo.Root, repo.Git}) {
		t.Errorf("turned down over %q: %q", asked, why)
	}
}

func agreed(string, ...string) error { return nil }

func TestHead(t *testing.T) {
	repo := gitRepo(t)
	one, two := strings.Repeat("1", 40), strings.Repeat("2", 40)
	if got := Head(t.Context(), repo); got != "" {
		t.Errorf("of no commit: %q", got)
	}
	put(t, filepath.Join(repo.Git, "packed-refs"), "# pack-refs\n"+two+" refs/heads/other\n"+one+" refs/heads/main\n", 0o644)
	if got := Head(t.Context(), repo); got != one {
		t.Errorf("packed: %q", got)
	}
	put(t, filepath.Join(repo.Git, "refs", "heads", "main"), two+"\n", 0o644)
	if got := Head(t.Context(), repo); got != two {
		t.Errorf("loose: %q", got)
	}
	put(t, filepath.Join(repo.Git, "HEAD"), one+"\n", 0o644)
	if got := Head(t.Context(), repo); got != one {
		t.Errorf("detached: %q", got)
	}
	put(t, filepath.Join(repo.Git, "HEAD"), "ref: ../../etc/passwd\n", 0o644)
	if got := Head(t.Context(), repo); got != "" {
		t.Errorf("a ref that is none: %q", got)
	}
}
