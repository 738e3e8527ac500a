package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"agentbox/internal/layerfiles"
	"agentbox/internal/profiles"
	"agentbox/internal/session"
	"agentbox/internal/trust"
	builtin "agentbox/profiles"
)

// layers is where the layers of profiles are for one person in one repository, read once: what is decided is decided
// about these bytes.
type layers struct {
	files    profiles.Files
	snapshot map[string][]byte // the repository's files
	repo     string            // its top, real; "" without one
	state    string            // where trust is kept
	uid      int               // the person's, to whom, or to root, files of the repository must belong
}

// layers gathers them. Without a repository there are the person's and the built-in ones.
func (a *app) layers(paths session.Paths, repo string) (layers, error) {
	l := layers{files: a.ownFiles(paths), repo: repo, state: paths.State, uid: a.uid, snapshot: map[string][]byte{}}
	if repo == "" {
		return l, nil
	}
	var err error
	if l.snapshot, err = trust.Snapshot(layerfiles.Repo(repo, a.uid)); err != nil {
		return layers{}, err
	}
	l.files.Repo = trust.FS(l.snapshot)
	grants := trust.GrantsOf(paths.Config, repo)
	if l.files.Grants, err = grants.Read(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return layers{}, fmt.Errorf("reading your grants for this repository: %w", err)
	}
	l.files.GrantsFile = a.tilde(grants.Path)
	return l, nil
}

// withoutRepo leaves the repository's own layers away.
func (l layers) withoutRepo() layers {
	l.files.Repo, l.snapshot = nil, map[string][]byte{}
	return l
}

// ownFiles are the built-in layers and the person's.
func (a *app) ownFiles(paths session.Paths) profiles.Files {
	return profiles.Files{BuiltIn: builtin.Files(), User: layerfiles.Dir(paths.Config, a.uid), UserDir: a.tilde(paths.Config)}
}

// tilde shortens a path below the person's home directory.
func (a *app) tilde(path string) string {
	home := a.getenv("HOME")
	if rest, ok := strings.CutPrefix(path, home+string(filepath.Separator)); ok && filepath.IsAbs(home) {
		return "~/" + rest
	}
	return path
}
