package workspace

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Served gives the mounts that show the .git of a run in the review mode, as the run left it, to a program that reads it.
// Nothing in it can be written to. What the agent could not see of it is not there either: the configurations are filtered,
// and other people's objects are where they were. layer is that of the run; scratch is as for Mounts.
func Served(repo Repo, layer Layer, scratch string) ([]Mount, error) {
	_, err := os.Lstat(filepath.Join(layer.Work, "git", "copy"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	layer.CopyGit = err == nil
	b := &builder{repo: repo, mode: ReadOnly, layer: layer, scratch: scratch, mounts: map[string]Mount{}}
	b.add(layer.mount(repo, repo.Common))
	if layer.CopyGit {
		b.add(Mount{Source: filepath.Join(repo.Common, "objects"), Target: filepath.Join(repo.Common, hostObjects), ReadOnly: true, Kind: Guard})
	}
	configs := []string{filepath.Join(repo.Common, "config"), filepath.Join(repo.Common, "config.worktree")}
	if repo.Git != repo.Common {
		configs = append(configs, filepath.Join(repo.Git, "config.worktree"))
	}
	for _, path := range configs {
		if err := b.filtered(path); err != nil {
			return nil, err
		}
	}
	return b.sorted(), nil
}
