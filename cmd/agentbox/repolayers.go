package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"agentbox/internal/layerfiles"
	"agentbox/internal/plan"
	"agentbox/internal/profiles"
	"agentbox/internal/session"
	"agentbox/internal/trust"
	builtin "agentbox/profiles"
)

// The files of a repository that are layers.
const (
	repoFile = "agentbox.toml"
	repoDir  = ".agentbox"
)

// layerRoot is the directory whose layers count for one that lies in it: the top of its work tree; where there is no
// git, the nearest one with layer files, or dir itself. Links are resolved. Nothing in it is run or trusted.
func layerRoot(dir string) (string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for _, marks := range [][]string{{".git"}, {repoFile, repoDir}} {
		for at := real; ; at = filepath.Dir(at) {
			if slices.ContainsFunc(marks, func(name string) bool { return exists(filepath.Join(at, name)) }) {
				return at, nil
			}
			if at == "/" {
				break
			}
		}
	}
	return real, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// here is layerRoot of the current directory.
func here() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the current directory: %w", err)
	}
	return layerRoot(dir)
}

// builtInFiles are the built-in layers alone.
func builtInFiles() profiles.Files { return profiles.Files{BuiltIn: builtin.Files()} }

// repoFiles are the built-in layers and those of the work tree at root: what is free of machine and person. They are
// read as its owner's, whoever looks: in CI a container's user often checks a tree that another one has cloned. What is
// run is decided about layers that were read more strictly.
func (a *app) repoFiles(root string) profiles.Files {
	f := builtInFiles()
	f.Repo = layerfiles.Repo(root, a.owner(root))
	return f
}

func (a *app) owner(root string) int {
	info, err := os.Lstat(root)
	if err != nil {
		return a.uid
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return a.uid
}

// refFiles are the built-in layers and those that the repository had at a commit.
func (a *app) refFiles(ctx context.Context, root, ref string) (profiles.Files, error) {
	repo, err := layerfiles.Git(ctx, root, ref)
	if err != nil {
		return profiles.Files{}, err
	}
	f := builtInFiles()
	f.Repo = repo
	return f, nil
}

// configDir is the person's, by the XDG rules.
func (a *app) configDir() (string, error) {
	if dir := a.getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "agentbox"), nil
	}
	if home := a.getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".config", "agentbox"), nil
	}
	return "", &usageError{errors.New("finding your configuration: neither XDG_CONFIG_HOME nor HOME is an absolute path"), "set HOME"}
}

// withOwn lays the person's own layers over f, those for this repository too.
func (a *app) withOwn(f profiles.Files, root string) (profiles.Files, error) {
	dir, err := a.configDir()
	if err != nil {
		return f, err
	}
	l, err := a.layers(session.Paths{Config: dir}, root)
	if err != nil {
		return f, err
	}
	l.files.Repo = f.Repo
	return l.files, nil
}

// mine are the layers as they count here for this person, all of them, and the organisation's floors.
func (a *app) mine(root string) (profiles.Files, profiles.Floors, error) {
	f, err := a.withOwn(a.repoFiles(root), root)
	if err != nil {
		return f, profiles.Floors{}, err
	}
	floors, err := readFloors(policyFile)
	return f, floors, err
}

// granted loads a profile and decides what it may do.
func granted(name string, f profiles.Files, floors profiles.Floors) (profiles.Loaded, plan.Grants, error) {
	loaded, err := profiles.Load(name, f)
	if err != nil {
		return loaded, plan.Grants{}, wayOut(err, f)
	}
	g, err := plan.Grant(plan.GrantInputs{Profile: loaded.Profile, Floors: floors})
	return loaded, g, err
}

// mostRules is how many rules the profiles of one repository may have together: each has all that agentbox.toml has, and
// what is known of one is kept until all are done.
const mostRules = 400_000

// crowd counts them.
type crowd struct{ rules int }

// full is the error that there is no room for another.
func (c *crowd) full(name string) error {
	if c.rules <= mostRules {
		return nil
	}
	return &trust.Problem{Err: fmt.Errorf("the profiles here have more than %d rules together: %q was not looked at", mostRules, name),
		Hint: "keep fewer rules in " + repoFile + ", which lies under every profile, or name the profiles"}
}

// granted is granted for one profile of many, as long as there is room.
func (c *crowd) granted(name string, f profiles.Files) (profiles.Loaded, plan.Grants, error) {
	if err := c.full(name); err != nil {
		return profiles.Loaded{}, plan.Grants{}, err
	}
	loaded, g, err := granted(name, f, profiles.Floors{})
	c.rules += len(loaded.Profile.Network.Rules)
	return loaded, g, err
}

// affected lists the profiles that the repository's layers say something about, sorted: those that .agentbox names
// and, when agentbox.toml is there, the built-in ones.
func affected(f profiles.Files) []string {
	names := f.RepoNames()
	if _, err := fs.Stat(f.Repo, repoFile); !errors.Is(err, fs.ErrNotExist) {
		names = append(slices.Clone(names), profiles.Files{BuiltIn: f.BuiltIn}.Names()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ofSet is what stands behind the place where a named set is used: the rule in that set's own file.
var ofSet = regexp.MustCompile(`, [a-z0-9-]+\.toml:[0-9]+$`)

// splitOrigin cuts "FILE:LINE" apart, without the named set that may stand behind it: "FILE:LINE, npm.toml:6". Line is
// 0 when there is none.
func splitOrigin(origin string) (file string, line int) {
	origin = ofSet.ReplaceAllString(origin, "")
	i := strings.LastIndexByte(origin, ':')
	if i < 0 {
		return origin, 0
	}
	n, err := strconv.Atoi(origin[i+1:])
	if err != nil || n < 1 {
		return origin, 0
	}
	return origin[:i], n
}

// isLayer says whether a file, as messages name it, is one of the repository's layers.
func isLayer(file string) bool {
	return file == repoFile || strings.HasPrefix(file, repoDir+"/")
}

// gitTime is how long git may take to read a file: one that is a FIFO it would wait for without end.
const gitTime = 2 * time.Second

// originRemote is where the repository was cloned from, as its configuration says; zero when it does not say. Git only
// reads a file for it.
func originRemote(ctx context.Context, root string) plan.Remote {
	ctx, cancel := context.WithTimeout(ctx, gitTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", "config", "--local", "--no-includes", "--get", "remote.origin.url")
	cmd.Dir = root
	ofGit := func(e string) bool { return strings.HasPrefix(e, "GIT_") } // a hook's would lead elsewhere
	cmd.Env = append(slices.DeleteFunc(os.Environ(), ofGit), "GIT_CEILING_DIRECTORIES="+filepath.Dir(root))
	out, err := cmd.Output()
	if err != nil {
		return plan.Remote{}
	}
	return plan.ParseRemote(strings.TrimSpace(string(out)))
}
