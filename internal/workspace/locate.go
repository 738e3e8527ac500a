package workspace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Locate gives the git directories of the work tree, or the bare repository, whose top is root.
//
// A `.git` that is a file names a directory elsewhere, and any archive or earlier run can have put it there. What it names is
// believed only where that directory itself says, in git's own records, that root is its work tree: whoever could write that
// could write that repository.
func Locate(root string) (Repo, error) {
	git := filepath.Join(root, ".git")
	info, err := os.Lstat(git)
	switch {
	case errors.Is(err, fs.ErrNotExist) && isGitDir(root):
		return Repo{Root: root, Git: root, Common: root, Directory: root}, nil
	case err != nil:
		return Repo{}, fmt.Errorf("finding the repository: %w", err)
	case info.Mode()&fs.ModeSymlink != 0:
		return Repo{}, refuse("move the git directory to where the link stands", "%s is a symbolic link", quote(git))
	case info.IsDir():
		return Repo{Root: root, Git: git, Common: git, Directory: root}, nil
	}
	own, err := namedBy(git)
	if err != nil {
		return Repo{}, err
	}
	if isPrivate(own) {
		return linked(root, own)
	}
	return apart(root, own)
}

// Bare reports whether there is no work tree.
func (r Repo) Bare() bool { return r.Root == r.Git }

// Outside gives the git directory that lies outside of Root, "" for none. All of it is shown inside.
func (r Repo) Outside() string {
	if within(r.Common, r.Root) {
		return ""
	}
	return r.Common
}

// inside reports whether a path lies in what is shown.
func (r Repo) inside(path string) bool { return within(path, r.Root) || within(path, r.Common) }

// tops are the directories that are shown.
func (r Repo) tops() []string {
	if r.Outside() != "" {
		return []string{r.Root, r.Common}
	}
	return []string{r.Root}
}

// namedBy gives the directory that a git file names.
func namedBy(file string) (string, error) {
	text, err := readRegular(file, maxText)
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	named, ok := strings.CutPrefix(strings.TrimRight(string(text), "\r\n"), "gitdir: ")
	if !ok || named == "" || strings.ContainsAny(named, "\n\x00") {
		return "", refuse("repair it, or remove it and run `git init`", "%s is not a valid git file", quote(file))
	}
	dir, ok := straight(filepath.Dir(file), named)
	if !ok {
		return "", refuse("`git worktree repair` in the main work tree mends a worktree that was moved",
			"%s names a git directory that is not there, or is reached through a link", quote(file))
	}
	return dir, nil
}

// straight gives the path that text names, from base, when it exists and no link is on the way: it is the same for
// whoever follows it, inside and outside.
func straight(base, text string) (string, bool) {
	if !filepath.IsAbs(text) {
		text = base + "/" + text // not joined: ".." behind a link would lead elsewhere than the kernel goes
	}
	real, err := filepath.EvalSymlinks(text)
	return real, err == nil && real == filepath.Clean(text)
}

// isPrivate tells the git directory of a linked worktree, which shares another one's objects and configuration.
func isPrivate(git string) bool {
	text, err := readRegular(filepath.Join(git, "commondir"), maxText)
	return err == nil && strings.TrimRight(string(text), "\r\n") != "."
}

// linked is a linked worktree: own must be one of the private directories below a git directory, name that one and no
// other as what it shares, and say that root is its work tree.
func linked(root, own string) (Repo, error) {
	common := filepath.Dir(filepath.Dir(own))
	shares := fileNames(filepath.Join(own, "commondir"), common)
	if filepath.Base(filepath.Dir(own)) != "worktrees" || !shares || !isGitDir(common) {
		return Repo{}, refuse("use a clone, or a worktree that `git worktree add` made",
			"%s is no worktree of a repository: its git directory %s is not in the place where git keeps such", quote(root), quote(own))
	}
	if !fileNames(filepath.Join(own, "gitdir"), filepath.Join(root, ".git")) {
		return Repo{}, refuse("if it is, run `git worktree repair` in the repository's main work tree",
			"the repository of %s does not say that %s is one of its worktrees", quote(common), quote(root))
	}
	return joined(Repo{Root: root, Git: own, Common: common, Directory: root})
}

// fileNames reports whether a plain file, no link, names exactly this path.
func fileNames(file, path string) bool {
	if !isFile(file) {
		return false
	}
	text, err := readRegular(file, maxText)
	if err != nil {
		return false
	}
	named, ok := straight(filepath.Dir(file), strings.TrimRight(string(text), "\r\n"))
	return ok && named == path
}

// apart is a submodule's work tree, or one whose git directory was put elsewhere. That must say that root is its work tree.
func apart(root, git string) (Repo, error) {
	if !isGitDir(git) {
		return Repo{}, refuse("repair it, or remove it and run `git init`",
			"%s names %s, which is not a git directory", quote(filepath.Join(root, ".git")), quote(git))
	}
	tree, err := workTree(git)
	if err != nil {
		return Repo{}, err
	}
	if named, ok := straight(git, tree); tree == "" || !ok || named != root {
		return Repo{}, refuse("if it is, say so there: git config core.worktree "+quote(root),
			"the git directory of %s is elsewhere, and %s does not say that this is its work tree", quote(root), quote(git))
	}
	return joined(Repo{Root: root, Git: git, Common: git, Directory: root})
}

// workTree is what a git directory's configuration says about it, "" for nothing.
func workTree(git string) (string, error) {
	tree := ""
	for _, name := range []string{"config", "config.worktree"} {
		entries, err := readConfig(filepath.Join(git, name))
		if err != nil {
			return "", err
		}
		for _, e := range entries {
			if e.name() == "core.worktree" {
				tree = e.value
			}
		}
	}
	return tree, nil
}

// joined refuses a work tree and a git directory that lie in one another in another way than git lays them.
func joined(r Repo) (Repo, error) {
	if within(r.Root, r.Common) || within(r.Common, r.Root) {
		return Repo{}, refuse("use a worktree apart from the git directory", "%s and its git directory %s lie in one another", quote(r.Root), quote(r.Common))
	}
	return r, nil
}
