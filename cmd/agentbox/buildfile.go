package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"strings"

	"agentbox/internal/layerfiles"
	"agentbox/internal/plan"
	"agentbox/internal/run"
	"agentbox/internal/trust"
	builtin "agentbox/profiles"
)

// buildFile is what an image is built from, read once: what is accepted is what is built.
type buildFile struct {
	name string // as messages name it; "" where there is none
	path string // below the repository; "" for a built-in one
	text []byte
	args map[string]string
	own  bool // built in
}

const maxBuildFile = 256 << 10

// buildFile reads the Containerfile of a profile: a built-in one, or a file of the repository through no link.
func (l layers) buildFile(name string) (buildFile, error) {
	if name == "" {
		return buildFile{}, nil
	}
	if short, ok := strings.CutPrefix(name, builtin.ImagePrefix); ok {
		return builtinFile(short)
	}
	if l.repo == "" {
		return buildFile{}, &run.Failure{Code: run.CodeRefused, Text: fmt.Sprintf("the profile's root is built from %q, and there is no repository", name)}
	}
	text, err := readBuildFile(l.repo, l.uid, name)
	if err != nil {
		return buildFile{}, &run.Failure{Code: run.CodeRefused, Text: fmt.Sprintf("reading the Containerfile %q: %s", name, err),
			Hint: "it must be a file of the repository itself, with no link on the way"}
	}
	return buildFile{name: name, path: name, text: text}, nil
}

func builtinFile(name string) (buildFile, error) {
	i, ok := builtin.FindImage(name)
	if !ok {
		return buildFile{}, &run.Failure{Code: run.CodeRefused, Text: fmt.Sprintf("there is no built-in image %q", name)}
	}
	return buildFile{name: builtin.ImagePrefix + name, text: i.Text, args: i.Args, own: true}, nil
}

// readBuildFile reads a file of a repository as layer files are read: through no link, and waiting for nothing.
func readBuildFile(root string, uid int, name string) ([]byte, error) {
	text, err := fs.ReadFile(layerfiles.Repo(root, uid), path.Clean(filepath.ToSlash(name)))
	if err == nil && len(text) > maxBuildFile {
		err = fmt.Errorf("it has more than %d bytes", maxBuildFile)
	}
	return text, err
}

// among puts the file among those that are accepted together. A built-in one needs no consent.
func (b buildFile) among(files map[string][]byte) map[string][]byte {
	if b.path == "" {
		return files
	}
	out := maps.Clone(files)
	out[trust.BuildFile(b.path)] = b.text
	return out
}

// wider says that steps were not accepted yet: other ones are other programs.
func (b buildFile) wider(record trust.Record) []plan.Change {
	if b.path == "" {
		return nil
	}
	before, known := record.Files[trust.BuildFile(b.path)]
	switch {
	case !known:
		return []plan.Change{{Path: "agent.containerfile", Kind: plan.Wider, Text: fmt.Sprintf("runs the steps of %s, as it is now, to build the image", b.path), Origin: b.path}}
	case !bytes.Equal(before, b.text):
		return []plan.Change{{Path: "agent.containerfile", Kind: plan.Wider, Text: fmt.Sprintf("runs other steps to build the image: %s has changed", b.path), Origin: b.path}}
	}
	return nil
}
