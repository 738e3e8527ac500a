package workspace

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"agentbox/internal/policy"
)

// maxEntries bounds the walk of a repository.
const maxEntries = 5_000_000

// maxNested bounds the git directories below the top that are guarded one by one.
const maxNested = 200

// Survey is what one walk over a repository found. Its paths are absolute and sorted.
type Survey struct {
	Hidden   []string        // files and directories that match a pattern now; links are replaced by what they lead to
	Tracked  map[string]bool // what git tracks of it, slash-separated and relative to the repository
	Nested   []string        // every `.git` below the top
	Warnings []string        // each for a person, one sentence
	Shown    []string        // not found: what else is shown at its own path, which the repository may borrow objects from
}

// Look walks the repository once. Patterns are those of policy.HideList, in order.
func Look(repo Repo, patterns []string) (Survey, error) {
	hide, err := policy.ParseHideList(patterns)
	if err != nil {
		return Survey{}, err
	}
	s := surveyor{repo: repo, list: hide}
	if err := s.walk(); err != nil {
		return Survey{}, err
	}
	slices.Sort(s.out.Nested)
	slices.Sort(s.out.Warnings)
	if len(s.out.Nested) > maxNested {
		return Survey{}, refuse("run in one of them, or move them out",
			"%s holds more than %d other git repositories", quote(repo.Root), maxNested)
	}
	slices.Sort(s.out.Hidden)
	s.out.Hidden = topmost(slices.Compact(s.out.Hidden))
	s.findTracked()
	return s.out, nil
}

type surveyor struct {
	repo Repo
	list policy.HideList
	out  Survey

	beside bool // it is no repository: a .git at its top is one more
}

// walk goes through the repository.
func (s *surveyor) walk() error {
	w := &crawl{root: s.repo.Root, most: maxEntries, notable: s.notable, visit: s.visit, failed: s.unread}
	err := w.run()
	if errors.Is(err, errTooMany) {
		return refuse("run in a smaller repository", "%s holds more than %d files", quote(s.repo.Root), maxEntries)
	}
	return err
}

// unread says what a directory that can't be read means. One that is gone, or is none any more, holds nothing.
func (s *surveyor) unread(dir, rel string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		s.warn("%s cannot be looked into: hidden files in it are not found", quote(dir))
		return nil
	case rel != "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP)):
		return nil
	}
	return fmt.Errorf("looking through the workspace: %w", err)
}

const outlets = fs.ModeSocket | fs.ModeNamedPipe

// notable reports whether visit has to see what is called name in the directory rel.
func (s *surveyor) notable(rel, name []byte, kind fs.FileMode) bool {
	if kind&outlets != 0 || string(name) == ".git" {
		return true
	}
	return s.list.MayHide(string(name)) && s.list.Hides(path.Join(string(rel), string(name)), kind&(fs.ModeDir|fs.ModeSymlink) != 0)
}

// visit notes what is notable.
func (s *surveyor) visit(e dirent, abs, rel string) error {
	if e.Name() == ".git" {
		if s.beside || abs != s.repo.Git && filepath.Dir(abs) != s.repo.Root { // at the top it is the repository's own, a file where that lies elsewhere
			s.out.Nested = append(s.out.Nested, abs)
		}
		return nil
	}
	if e.Type()&outlets != 0 {
		s.warn("%s is a socket or a pipe: it is hidden, as whatever serves it lies outside the boundary", quote(abs))
	}
	if err := checkText(abs, Person{}); err != nil {
		return err
	}
	s.hide(e, abs)
	return nil
}

// hide notes a match. A bind on a link would land on what the link leads to, so that is what is hidden when it
// lies in the repository; elsewhere it does not exist inside.
func (s *surveyor) hide(e dirent, abs string) {
	if e.Type()&fs.ModeSymlink == 0 {
		s.out.Hidden = append(s.out.Hidden, abs)
		return
	}
	real, err := filepath.EvalSymlinks(abs)
	switch {
	case err != nil:
		s.warn("%s is to be hidden and is a link that leads nowhere", quote(abs))
	case real == s.repo.Root || !within(real, s.repo.Root) || !s.repo.Bare() && within(real, s.repo.Common):
		s.warn("%s is to be hidden and is a link out of the workspace: what it leads to is not there inside", quote(abs))
	default:
		s.out.Hidden = append(s.out.Hidden, real)
	}
}

func (s *surveyor) warn(format string, args ...any) {
	s.out.Warnings = append(s.out.Warnings, fmt.Sprintf(format, args...))
}

// maxTold bounds how many hidden paths that git tracks are named one by one.
const maxTold = 8

// findTracked notes hidden paths that git knows, and names them: their content can be had from the object store.
func (s *surveyor) findTracked() {
	if len(s.out.Hidden) == 0 {
		return
	}
	index, err := readIndex(s.repo.Git, s.repo.Common)
	if err != nil {
		s.warn("the index cannot be read (%v): hidden files that git tracks are not told apart", err)
		return
	}
	paths, tops := trackedOf(index, s.repo.Root, s.out.Hidden)
	s.out.Tracked = paths
	told := 0
	for _, h := range s.out.Hidden {
		rel := strings.TrimPrefix(h, s.repo.Root+"/")
		if !tops[rel] {
			continue
		}
		if told++; told <= maxTold {
			s.warn("%s is hidden but tracked by git: its committed content stays readable with git show", quote(rel))
		}
	}
	if told > maxTold {
		s.warn("%d more paths are hidden but tracked by git", told-maxTold)
	}
}

// topmost drops paths that lie below another one.
func topmost(paths []string) []string {
	there := make(map[string]bool, len(paths))
	for _, p := range paths {
		there[p] = true
	}
	return slices.DeleteFunc(paths, func(p string) bool {
		for at := filepath.Dir(p); at != "/" && at != "."; at = filepath.Dir(at) {
			if there[at] {
				return true
			}
		}
		return false
	})
}
