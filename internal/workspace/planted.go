package workspace

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// State is what of a repository the host's git would follow beyond what mounts can guard, as it was before a run.
type State struct{ facts map[string]string } // path → sentence

// Remember notes the state before a run, for Planted.
func Remember(repo Repo, s Survey) (State, error) { return look(repo, s.Nested) }

// Planted names what appeared since before that the person should see to before they run git on this machine: new
// repositories below the top and gitlinks (git status runs git in them, with their configuration), links in
// the git directory (git writes through them), what hides changes from `git status`, unfinished operations (git runs what their to-do list says).
// Each is one sentence; the paths in it are safe to print.
func Planted(repo Repo, before State) ([]string, error) {
	s, err := Look(repo, nil)
	if err != nil {
		return nil, err
	}
	now, err := look(repo, s.Nested)
	if err != nil {
		return nil, err
	}
	var out []string
	for fact, sentence := range now.facts {
		if _, known := before.facts[fact]; !known {
			out = append(out, sentence)
		}
	}
	slices.Sort(out)
	return out, nil
}

func look(repo Repo, nested []string) (State, error) {
	st := State{facts: map[string]string{}}
	for _, n := range nested {
		st.note("nested "+n, "%s is a git repository of its own: git run in it does what its configuration says", filepath.Dir(n))
	}
	gits := []string{repo.Git}
	if repo.Git != repo.Common {
		gits = append(gits, repo.Common) // of the main work tree, which a linked one's git directory holds too
	}
	for _, git := range gits {
		st.git(git, repo.Common)
	}
	for _, name := range []string{"info/exclude", "info/attributes", "info/grafts", "refs/replace"} {
		st.content(filepath.Join(repo.Common, name))
	}
	st.worktrees(repo.Common)
	return st, st.links(repo.Common)
}

// worktrees notes the directories that git is told are work trees of the repository: agentbox, too, shows its git directory
// to a run in one of them.
func (st State) worktrees(common string) {
	entries, _ := os.ReadDir(filepath.Join(common, "worktrees")) // none where it can't be read
	for _, e := range entries {
		path := filepath.Join(common, "worktrees", e.Name())
		tree, _ := readRegular(filepath.Join(path, "gitdir"), maxText)
		st.note("worktree "+path+" "+string(tree), "%s makes %s a worktree of this repository", path, strings.TrimSpace(string(tree)))
	}
}

// git notes what a git directory keeps for its work tree.
func (st State) git(git, common string) {
	index, err := readIndex(git, common)
	if err != nil {
		st.note("index", "%s cannot be read (%v)", filepath.Join(git, "index"), err)
	}
	for _, e := range index {
		if e.gitlink {
			st.note("gitlink "+git+" "+e.path, "%s is in the index as a submodule: `git status` runs git in it", e.path)
		}
		if e.unseen {
			st.note("unseen "+git+" "+e.path, "%s is marked in the index so that `git status` and `git diff` do not show its changes (git update-index --no-assume-unchanged --no-skip-worktree)", e.path)
		}
	}
	for _, name := range []string{"rebase-merge", "rebase-apply", "sequencer"} {
		if path := filepath.Join(git, name); isDir(path) {
			st.note("unfinished "+path, "%s is an unfinished operation: --continue runs what its to-do list says", path)
		}
	}
	st.content(filepath.Join(git, "info/sparse-checkout"))
}

// content notes what a file or directory holds that decides what git shows, so that a change of it is seen.
func (st State) content(path string) {
	var sum string
	if data, err := readRegular(path, maxText); err == nil {
		sum = fmt.Sprintf("%x", sha256.Sum256(data))
	} else if entries, err := os.ReadDir(path); err == nil {
		for _, e := range entries {
			sum += "/" + e.Name()
		}
	} else if _, err := os.Lstat(path); err == nil {
		sum = "not readable"
	}
	if sum != "" {
		st.note("content "+path+" "+sum, "%s is not what it was: it decides what git shows", path)
	}
}

func (st State) note(fact, format string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = quote(s)
		}
	}
	st.facts[fact] = fmt.Sprintf(format, args...)
}

// links notes the links in a git directory; of the object store only its directories, whose files are only read.
func (st State) links(git string) error {
	objects := filepath.Join(git, "objects")
	err := filepath.WalkDir(git, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil && os.IsNotExist(err):
			return nil
		case err != nil:
			return err
		case e.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			st.note("link "+path+" "+target, "%s is a link to %s: git on this machine may write through it", path, target)
		case e.IsDir() && strings.HasPrefix(path, objects+"/") && filepath.Dir(path) == objects:
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking through the git directory: %w", err)
	}
	return nil
}
