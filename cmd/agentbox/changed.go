package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"agentbox/internal/changes"
	"agentbox/internal/session"
)

// leftover is a run that has a copy of the repository of its own, with what was changed in it.
type leftover struct {
	info   session.Info
	source *changes.Source
	list   []changes.Change
}

// short is what is typed to name the run.
func (l leftover) short() string { return shortID(l.info.ID) }

func shortID(id string) string { return id[strings.LastIndexByte(id, '-')+1:] }

// title names the run on a screen.
func (l leftover) title() string { return fmt.Sprintf("run %s · %s", l.short(), l.info.Profile) }

func hasWork(i session.Info) bool { return session.HasWork(i.Dir) }

// openLeft reads what a run left.
func openLeft(ctx context.Context, info session.Info) (leftover, error) {
	source, err := changes.Open(filepath.Join(info.Dir, session.WorkDir))
	if errors.Is(err, fs.ErrNotExist) {
		return leftover{}, &session.Problem{Err: fmt.Errorf("run %s has no changes of its own to look at", info.ID),
			Hint: "a run in direct mode changes the repository itself, and what was discarded is gone"}
	}
	if err != nil {
		return leftover{}, fmt.Errorf("reading what run %s changed: %w", info.ID, err)
	}
	list, err := source.List(ctx)
	if err != nil {
		return leftover{}, fmt.Errorf("reading what run %s changed: %w", info.ID, err)
	}
	return leftover{info, source, list}, nil
}

// leftBy finds the run that is named, else the latest of this repository that wanted says yes to.
func (a *app) leftBy(ctx context.Context, run string, wanted func(leftover) bool) (leftover, error) {
	if run != "" {
		info, err := a.session([]string{run})
		if err != nil {
			return leftover{}, err
		}
		return openLeft(ctx, info)
	}
	all, root, err := a.runsHere()
	if err != nil {
		return leftover{}, err
	}
	for _, info := range slices.Backward(all) {
		if !hasWork(info) {
			continue
		}
		l, err := openLeft(ctx, info)
		if err != nil {
			return leftover{}, err
		}
		if wanted(l) {
			return l, nil
		}
	}
	return leftover{}, &session.Problem{Err: fmt.Errorf("no run in %s left anything", root), Hint: "`agentbox ps --all` lists the runs"}
}

func hasChanges(l leftover) bool { return len(l.list) > 0 }

// runsHere are the runs of the repository that the current directory is in, the oldest first.
func (a *app) runsHere() ([]session.Info, string, error) {
	paths, repo, err := a.here()
	if err != nil {
		return nil, "", err
	}
	all, err := session.List(paths)
	here := slices.DeleteFunc(all, func(i session.Info) bool { return i.Repo != repo.Root })
	if len(here) == 0 && err != nil {
		return nil, "", err
	}
	return here, repo.Root, nil // one that can't be read is told where all are listed
}

// runAndPaths takes apart "[RUN] [PATHS…]". What stands behind "--" are paths, whatever they look like.
func (a *app) runAndPaths(cmd *cobra.Command, args []string) (run string, paths []string, err error) {
	if len(args) == 0 || cmd.ArgsLenAtDash() == 0 {
		return "", args, nil
	}
	is, err := a.namesRun(args[0])
	if err != nil || !is {
		return "", args, err
	}
	if _, err := os.Lstat(args[0]); err == nil {
		return "", nil, &usageError{fmt.Errorf("%q is a run and a path", args[0]),
			fmt.Sprintf("the path: %s -- %s\nthe run: more of its id, which agentbox ps --all shows", cmd.CommandPath(), args[0])}
	}
	return args[0], args[1:], nil
}

// namesRun reports whether a word is the beginning of a run's id, or of its last part.
func (a *app) namesRun(word string) (bool, error) {
	paths, err := a.paths()
	if err != nil {
		return false, err
	}
	all, _ := session.List(paths) // those that can be read
	return slices.ContainsFunc(all, func(i session.Info) bool {
		return word != "" && (strings.HasPrefix(i.ID, word) || strings.HasPrefix(shortID(i.ID), word))
	}), nil
}

// inRepo gives paths as they are below a repository's top. They are typed as git takes them: from where one stands, and
// from the top where that is elsewhere.
func inRepo(root string, paths []string) ([]string, error) {
	from := root
	if dir, err := os.Getwd(); err == nil {
		if real, err := filepath.EvalSymlinks(dir); err == nil && below(root, real) {
			from = real
		}
	}
	var out []string
	for _, p := range paths {
		if !filepath.IsAbs(p) {
			p = filepath.Join(from, p)
		}
		rel, err := filepath.Rel(root, p)
		if err != nil || !below(root, p) {
			return nil, fmt.Errorf("%q is not in %s", p, root)
		}
		out = append(out, filepath.ToSlash(rel))
	}
	return out, nil
}

func below(root, path string) bool {
	return path == root || strings.HasPrefix(path, strings.TrimSuffix(root, "/")+"/")
}

// only keeps the changes at paths, and those below them. A path at which nothing was changed is an error.
func only(list []changes.Change, paths []string) ([]changes.Change, error) {
	if len(paths) == 0 {
		return list, nil
	}
	used := make([]bool, len(paths))
	var out []changes.Change
	for _, c := range list {
		keep := false
		for i, p := range paths {
			if covers(p, c.Path) {
				keep, used[i] = true, true
			}
		}
		if keep {
			out = append(out, c)
		}
	}
	if i := slices.Index(used, false); i >= 0 {
		return nil, &session.Problem{Err: fmt.Errorf("the run changed nothing at %q, and no run is called so", paths[i]),
			Hint: "agentbox diff --stat lists what was changed"}
	}
	return out, nil
}

// covers reports whether a path is at, or below, what was named.
func covers(named, path string) bool {
	return named == "." || path == named || strings.HasPrefix(path, named+"/")
}
