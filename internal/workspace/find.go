package workspace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// Person is who hands a repository over, and what of theirs must never be one.
type Person struct {
	UID        int
	Home       string   // absolute
	OtherHomes []string // home directories of other people, see OtherHomes
	Own        []string // agentbox's own configuration, state, runtime and cache directories
}

// OtherHomes lists the home directories of the people in a passwd file, except that of uid.
func OtherHomes(passwd string, uid int) ([]string, error) {
	data, err := os.ReadFile(passwd)
	if err != nil {
		return nil, err
	}
	var homes []string
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 7 {
			continue
		}
		id, err := strconv.Atoi(f[2])
		person := err == nil && id != uid && (id == 0 || id >= 1000 && id < 60000)
		if person && filepath.IsAbs(f[5]) && filepath.Clean(f[5]) != "/" {
			homes = append(homes, filepath.Clean(f[5]))
		}
	}
	return homes, nil
}

// Find gives the repository that dir lies in. Its errors are Refusals where the person can do something about it.
func Find(dir string, person Person) (Repo, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Repo{}, fmt.Errorf("finding the repository: %w", err)
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return Repo{}, fmt.Errorf("finding the repository: %w", err)
	}
	root, err := top(real)
	if err != nil {
		return Repo{}, err
	}
	for _, check := range []func(string, Person) error{checkText, checkPlace} {
		if err := check(root, person); err != nil {
			return Repo{}, err
		}
	}
	repo, err := Locate(root)
	if err != nil {
		return Repo{}, err
	}
	repo.Directory = real
	return repo, checkGit(repo, person)
}

// checkGit holds the git directories to what holds for a repository, wherever they lie.
func checkGit(repo Repo, person Person) error {
	if out := repo.Outside(); out != "" {
		for _, check := range []func(string, Person) error{checkText, checkPlace} {
			if err := check(out, person); err != nil {
				return err
			}
		}
	}
	if err := checkOwner(repo, person); err != nil {
		return err
	}
	return checkWorktree(repo)
}

// top walks up from dir to the first directory with a .git that git would take.
func top(dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		git := filepath.Join(at, ".git")
		info, err := os.Lstat(git)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", fmt.Errorf("finding the repository: %w", err)
		case info.Mode()&fs.ModeSymlink != 0:
			return "", refuse("move the git directory to where the link stands", "%s is a symbolic link", quote(git))
		case info.Mode().IsRegular(), info.IsDir() && isGitDir(git):
			return at, nil
		}
		if filepath.Base(at) != ".git" && isGitDir(at) && isFile(filepath.Join(at, "config")) {
			return at, checkBare(at)
		}
		if at == "/" {
			return "", refuse("cd into a repository, or make one here with `git init`",
				"%s is not in a git repository", quote(dir))
		}
	}
}

// isGitDir tells a git directory as git does.
func isGitDir(git string) bool {
	_, err := os.Lstat(filepath.Join(git, "HEAD"))
	return err == nil && isDir(filepath.Join(git, "objects")) && isDir(filepath.Join(git, "refs"))
}

func isFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// checkBare refuses a git directory that is not a bare repository's, but some work tree's.
func checkBare(git string) error {
	entries, err := readConfig(filepath.Join(git, "config"))
	if err != nil {
		return err
	}
	bare := ""
	for _, e := range entries {
		if e.name() == "core.bare" {
			bare = e.value
		}
	}
	if bare != "true" {
		return refuse("run in its work tree", "%s is a git directory, and no bare repository (core.bare)", quote(git))
	}
	return nil
}

// checkText refuses paths that a mount, a terminal or JSON cannot carry as they are.
func checkText(root string, _ Person) error {
	const hint = "rename the directory, or clone the repository to another path"
	if !utf8.ValidString(root) {
		return refuse(hint, "the path %s is not valid UTF-8", quote(root))
	}
	if strings.ContainsFunc(root, unicode.IsControl) {
		return refuse(hint, "the path %s holds control characters", quote(root))
	}
	return nil
}

func checkPlace(root string, person Person) error {
	const hint = "cd into a repository below it"
	if root == "/" {
		return refuse(hint, "the whole file system cannot be a workspace")
	}
	home := resolved(person.Home)
	if person.Home != "" && within(home, root) {
		return refuse(hint, "%s holds your home directory and cannot be a workspace", quote(root))
	}
	for _, own := range person.Own {
		own = resolved(own)
		if within(own, root) || within(root, own) {
			return refuse("run in a repository apart from agentbox's own directories",
				"%s and agentbox's own directory %s overlap", quote(root), quote(own))
		}
	}
	for _, other := range person.OtherHomes {
		other = resolved(other)
		mine := person.Home != "" && within(home, other)
		if within(root, other) && !mine {
			return refuse("clone it below your own home directory", "%s lies in another user's home", quote(root))
		}
	}
	return nil
}

// checkOwner refuses what belongs to somebody else, or says whose work tree this is and can be written by somebody else.
func checkOwner(repo Repo, person Person) error {
	paths := []string{repo.Root, repo.Git}
	if repo.Outside() != "" {
		paths = append(paths, filepath.Join(repo.Root, ".git"), repo.Common, filepath.Join(repo.Common, "config"))
	}
	if repo.Git != repo.Common {
		paths = append(paths, filepath.Join(repo.Git, "gitdir"), filepath.Join(repo.Git, "commondir"))
	}
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil {
			return fmt.Errorf("finding the repository: %w", err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || int(st.Uid) != person.UID {
			return refuse("clone it as yourself, or change its owner", "%s belongs to another user", quote(path))
		}
	}
	return nil
}

// checkWorktree refuses a git directory whose work tree is said to be elsewhere. In a linked worktree git does not ask.
func checkWorktree(repo Repo) error {
	if repo.Git != repo.Common {
		return nil
	}
	tree, err := workTree(repo.Git)
	if err != nil || tree == "" {
		return err
	}
	if !filepath.IsAbs(tree) {
		tree = filepath.Join(repo.Git, tree)
	}
	if resolved(tree) != repo.Root {
		return refuse("run `git config --unset core.worktree`, or use another clone",
			"the work tree of %s is elsewhere (core.worktree)", quote(repo.Root))
	}
	return nil
}

// readConfig parses a configuration file; one that is not there is empty.
func readConfig(path string) ([]entry, error) {
	data, err := readRegular(path, maxText)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading git configuration: %w", err)
	}
	entries, err := parseConfig(data)
	if err != nil {
		return nil, refuse("repair the file: git cannot read it either", "reading %s: %v", quote(path), err)
	}
	return entries, nil
}

// resolved follows the links of as much of path as exists.
func resolved(path string) string {
	path = filepath.Clean(path)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	parent := filepath.Dir(path)
	if parent == path {
		return path
	}
	return filepath.Join(resolved(parent), filepath.Base(path))
}

// within reports whether path is dir or lies below it; both are clean and absolute.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// quote shows a path that may hold anything: plain when it can be, else with escapes.
func quote(path string) string {
	if utf8.ValidString(path) && !strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return path
	}
	return strconv.Quote(path)
}
