package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Backend is how the review mode keeps what is changed apart.
type Backend string

// The backends.
const (
	Overlay Backend = "overlay" // the kernel's: the repository shows through, and only what is changed is written
	Copy    Backend = "copy"    // a private copy of the whole work tree
)

// Layer is where the changes of a run in the review mode go: below Work, a directory of this run alone that outlives it.
//
//	tree/upper, tree/work   the overlay over the repository
//	git/upper, git/work     the overlay over its .git
//	copy                    in place of the first, the copy of all but .git
//	git/copy                in place of the second, where there can be no overlay: a copy without the objects, which are read
//	                        from the repository's own (as alternates)
type Layer struct {
	Backend Backend
	Work    string
	CopyGit bool  // .git is copied, too: there can be no overlay here
	Limit   int64 // bytes that a copy may take; 0 is no limit
}

// Reviewed is how a repository is shown in the review mode.
type Reviewed struct {
	Mounts   []Mount
	Points   []string // mount points that were made in the layer, slash-separated and relative to the repository: no changes
	Warnings []string
}

// hostObjects is where a copied .git finds the objects of the repository.
const hostObjects = "objects-of-the-host"

// InReview lays a layer for repo and gives its mounts, as Mounts does. Nothing is written in the repository. What a copy that
// failed or was broken off has made is for Discard to remove.
func InReview(ctx context.Context, repo Repo, layer Layer, s Survey, configs []string, scratch string) (Reviewed, error) {
	for _, dir := range []string{scratch, layer.Work} {
		if repo.inside(resolved(dir)) {
			return Reviewed{}, fmt.Errorf("preparing the workspace: the directory %s lies in the repository", quote(dir))
		}
	}
	b := &builder{repo: repo, mode: Review, layer: layer, scratch: scratch, mounts: map[string]Mount{}}
	if err := layer.lay(repo); err != nil {
		return Reviewed{}, fmt.Errorf("preparing the workspace: %w", err)
	}
	if err := b.build(s, configs); err != nil {
		return Reviewed{}, err
	}
	if layer.Backend == Copy {
		if err := b.copy(ctx); err != nil {
			return Reviewed{}, fmt.Errorf("copying the repository: %w", err)
		}
	}
	if err := b.unseen(s); err != nil {
		b.warn("git inside takes hidden files for changed, and would commit them emptied: %v", err)
	}
	return Reviewed{Mounts: b.sorted(), Points: b.points, Warnings: b.warnings}, nil
}

// lay makes the directories. The top of what is merged is the upper one's: it is made like the one below.
func (l Layer) lay(repo Repo) error {
	if repo.Bare() && l.Backend == Copy {
		return refuse("use the direct or the readonly mode, or a clone", "a bare repository has no work tree that could be copied")
	}
	if err := layDirs(repo.Root, l.places("tree", "copy", l.Backend == Copy)); err != nil {
		return err
	}
	return layDirs(repo.Common, l.places("git", filepath.Join("git", "copy"), l.CopyGit))
}

func layDirs(like string, dirs []string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return alike(like, dirs[0])
}

func (l Layer) places(overlay, copied string, isCopy bool) []string {
	if isCopy {
		return []string{filepath.Join(l.Work, copied)}
	}
	return []string{filepath.Join(l.Work, overlay, "upper"), filepath.Join(l.Work, overlay, "work")}
}

// alike gives a directory the mode and times of another one.
func alike(like, dir string) error {
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Chtimes(dir, time.Time{}, info.ModTime())
}

// mount is that of the repository or of its .git.
func (l Layer) mount(repo Repo, path string) Mount {
	if source := l.copied(repo, path); source != "" {
		return Mount{Source: source, Target: path, Kind: Tree}
	}
	dirs := l.places("tree", "", false)
	if path == repo.Common {
		dirs = l.places("git", "", false)
	}
	return Mount{Source: path, Target: path, Upper: dirs[0], Work: dirs[1], Kind: Tree}
}

// copied is where the copy of a path of the repository lies; "" where that is an overlay. A directory of an overlay needs no
// pin: the kernel renames none that has something below (EXDEV).
func (l Layer) copied(repo Repo, path string) string {
	base, dir, isCopy := repo.Root, filepath.Join(l.Work, "copy"), l.Backend == Copy
	if within(path, repo.Common) {
		base, dir, isCopy = repo.Common, filepath.Join(l.Work, "git", "copy"), l.CopyGit
	}
	if !isCopy {
		return ""
	}
	return filepath.Join(dir, strings.TrimPrefix(path, base))
}

// place is where a name of .git is made so that it is seen inside.
func (l Layer) place(repo Repo, name string) string {
	if l.CopyGit {
		return filepath.Join(l.Work, "git", "copy", name)
	}
	return filepath.Join(l.Work, "git", "upper", name)
}

// settings has git take a copied file for unchanged when its size and time are: its inode can't be what the index says. On an
// overlay, where all are what the index says, but looking costs more, it remembers which directories hold nothing new. Where
// something is marked skip-worktree the mark stays although a file is there.
func (l Layer) settings(marked bool) (out []entry) {
	if marked {
		out = append(out, entry{section: "sparse", key: "expectfilesoutsideofpatterns", value: "true"})
	}
	switch l.Backend {
	case Overlay:
		return append(out, entry{section: "core", key: "untrackedcache", value: "true"})
	case Copy:
		return append(out, entry{section: "core", key: "checkstat", value: "minimal"}, entry{section: "core", key: "trustctime", value: "false"})
	}
	return out
}

// layerPoints makes in the layer what is missing in .git, so that nothing can be made in its place inside, and mounts
// something harmless there.
func (b *builder) layerPoints() error {
	if err := b.layerPoint("hooks", "", true); err != nil {
		return err
	}
	for name, content := range map[string]string{"config": "", "config.worktree": "", "commondir": ".\n"} {
		if err := b.layerPoint(name, content, false); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(filepath.Join(b.repo.Common, "commondir")); err == nil {
		return b.checkCommon()
	}
	return nil
}

// point notes a mount point that was made. One outside of the work tree is in no list of its changes.
func (b *builder) point(path string) {
	if rel, ok := strings.CutPrefix(path, b.repo.Root+"/"); ok {
		b.points = append(b.points, rel)
	}
}

func (b *builder) layerPoint(name, content string, dir bool) error {
	path := filepath.Join(b.repo.Common, name)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	place := b.layer.place(b.repo, name)
	var source string
	var err error
	if dir {
		if err = os.Mkdir(place, 0o755); err == nil {
			source, err = b.empty(true)
		}
	} else if err = os.WriteFile(place, []byte(content), 0o644); err == nil {
		source, err = b.write([]byte(content))
	}
	if err != nil {
		return fmt.Errorf("guarding the repository: %w", err)
	}
	b.point(path)
	b.add(Mount{Source: source, Target: path, ReadOnly: true, Kind: Guard})
	return nil
}

// Unmounted removes what the kernel keeps beside the upper layers while they are mounted, and belongs to somebody else: from
// then on the layer is the person's own to remove. A layer of no overlay has none. Where something was deleted inside, the
// kernel's directory is not empty and only the user namespace can look into it: clear is called with it.
func Unmounted(work string, clear func(dir string) error) error {
	for _, dir := range []string{"tree", "git"} {
		for _, name := range []string{"work", "index"} {
			path := filepath.Join(work, dir, "work", name)
			err := os.Remove(path)
			if errors.Is(err, syscall.ENOTEMPTY) {
				err = clear(path)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("tidying the layer: %w", err)
			}
		}
	}
	return nil
}
