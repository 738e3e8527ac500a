package workspace

import (
	"fmt"
	"path/filepath"
)

// elsewhere guards what leads from a work tree to a git directory outside of it, and what of a linked worktree lies in its
// private directory. That is writable where all of `worktrees` is not: the others' private directories stay read-only.
func (b *builder) elsewhere() error {
	if b.repo.Outside() == "" {
		return nil
	}
	if err := b.guardPath(filepath.Join(b.repo.Root, ".git")); err != nil {
		return err
	}
	if b.repo.Git == b.repo.Common {
		return nil
	}
	if err := b.private(); err != nil {
		return err
	}
	for _, name := range []string{"gitdir", "commondir", "modules"} {
		if err := b.guardPath(filepath.Join(b.repo.Git, name)); err != nil {
			return err
		}
	}
	return b.filtered(filepath.Join(b.repo.Git, "config.worktree"))
}

// private shows the private directory for writing, over the guard on all of them. In an overlay that guard would hide what is
// written, and is not needed: nothing that is written there is the host's.
func (b *builder) private() error {
	all := filepath.Dir(b.repo.Git)
	switch b.mode {
	case Review:
		delete(b.mounts, all)
		return nil
	case Direct:
		if err := createFile(filepath.Join(b.repo.Git, "config.worktree"), ""); err != nil {
			return fmt.Errorf("guarding the worktree's configuration: %w", err)
		}
	}
	b.add(Mount{Source: b.repo.Git, Target: b.repo.Git, Kind: Tree})
	return nil
}
