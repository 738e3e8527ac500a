package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"agentbox/internal/changes"
	"agentbox/internal/layerfiles"
	"agentbox/internal/sys"

	"golang.org/x/sys/unix"
)

// PutIndexAside looks whether git's index, which an agent in the direct mode writes, has a name in it that git itself would
// never put there: its own directory, or a place outside. `git checkout .` writes to such a name, a hook for instance. Then the
// index is renamed and made anew from the last commit, and the sentence tells it; "" is that all is well. In a linked worktree
// that is so of the main one's index, too.
func PutIndexAside(ctx context.Context, repo Repo) (string, error) {
	text, err := ownIndexAside(ctx, repo)
	if err != nil || repo.Git == repo.Common {
		return text, err
	}
	main := repo
	main.Git = repo.Common
	more, err := ownIndexAside(ctx, main)
	return strings.Trim(text+"; "+more, "; "), err
}

func ownIndexAside(ctx context.Context, repo Repo) (string, error) {
	out, err := indexGit(ctx, repo, "ls-files", "-z", "--full-name")
	if err != nil {
		return "", nil //nolint:nilerr // git on this machine can't read it either, and so obeys nothing of it
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		if name != "" && misplaced(name) {
			return putIndexAside(ctx, repo, name)
		}
	}
	return "", nil
}

// misplaced says whether a path of an index is one that git would refuse to add.
func misplaced(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return true
		}
	}
	return changes.GitsOwnPath(name)
}

func putIndexAside(ctx context.Context, repo Repo, name string) (string, error) {
	index, aside := filepath.Join(repo.Git, "index"), ""
	err := fs.ErrExist
	for n := 1; errors.Is(err, fs.ErrExist); n++ {
		aside = filepath.Join(repo.Git, fmt.Sprintf("index.aside%d", n))
		err = sys.Renameat2(unix.AT_FDCWD, index, unix.AT_FDCWD, aside, sys.RenameNoReplace)
	}
	if err != nil {
		return "", fmt.Errorf("putting aside git's index, which names %s: %w\nhint: remove %s before you run git", quote(name), err, quote(index))
	}
	text := fmt.Sprintf("git's index named %s, so that git on this machine would have written there: it lies in %s now", quote(name), quote(aside))
	if _, err := indexGit(ctx, repo, "read-tree", "HEAD"); err != nil {
		return text + ", and git reset makes a new one", nil //nolint:nilerr // the agent can keep it from being made; without one nothing is obeyed
	}
	return text + ", and a new one was made from the last commit", nil
}

func indexGit(ctx context.Context, repo Repo, args ...string) (string, error) {
	cmd, err := layerfiles.GitCommand(ctx, repo.Root, append([]string{"--git-dir=" + repo.Git, "--work-tree=" + repo.Root}, args...)...)
	if err != nil {
		return "", err
	}
	out, err := cmd.Output()
	return string(out), err
}
