// Package trust remembers what a person accepted: which content of a repository's layer files, and which rules beyond
// them for that repository alone.
//
// It owns two places, both outside every repository: the Store, a record a repository with the accepted content itself,
// so that a change can be shown against it; and the grants file, a layer in TOML that a person may edit too. It judges
// nothing: whether a change widens what a run may do is for plan to say. A record or file that is not as it was written is
// an error, never "nothing was accepted".
package trust

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"agentbox/internal/layerfiles"
)

const (
	maxFiles = 1024
	maxTotal = 8 << 20 // bytes of all files of a repository's layer
)

// Problem is an error with what to do about it.
type Problem struct {
	Err  error
	Hint string
}

func (p *Problem) Error() string { return p.Err.Error() }
func (p *Problem) Unwrap() error { return p.Err }

// HintText is the line to show below the error.
func (p *Problem) HintText() string { return p.Hint }

func problem(hint, format string, args ...any) error {
	return &Problem{Err: fmt.Errorf(format, args...), Hint: hint}
}

// Snapshot reads a repository's layer files: agentbox.toml and .agentbox/*.toml, by these names. Take it once, load the
// profile from FS of it, and record it: then what was accepted is what was read. Nil has no files. A file that is there
// and cannot be read is an error.
func Snapshot(fsys fs.FS) (map[string][]byte, error) {
	files := map[string][]byte{}
	if fsys == nil {
		return files, nil
	}
	names, err := fs.Glob(fsys, ".agentbox/*.toml")
	if err != nil {
		return nil, err
	}
	total := 0
	for _, name := range append(names, "agentbox.toml") {
		data, err := fs.ReadFile(fsys, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files[name] = data
		total += len(data)
		if total > maxTotal || len(files) > maxFiles {
			return nil, problem("keep fewer or smaller profiles in .agentbox",
				"reading the repository's profiles: they are more than %d files or %d bytes", maxFiles, maxTotal)
		}
	}
	return files, nil
}

// FS gives a snapshot back as a file system.
func FS(files map[string][]byte) fs.FS { return layerfiles.Memory(files) }

// Hash names the content of a snapshot: "sha256:" and 64 hexadecimal digits, over the names and bytes of all files in the
// names' order, each with its length before it.
func Hash(files map[string][]byte) string {
	sum := sha256.New()
	part := func(p []byte) {
		_ = binary.Write(sum, binary.BigEndian, uint64(len(p)))
		_, _ = sum.Write(p)
	}
	part([]byte("agentbox layer files 1"))
	for _, name := range slices.Sorted(maps.Keys(files)) {
		part([]byte(name))
		part(files[name])
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil))
}

// buildPrefix begins the name of what an image is built from among the files that are accepted.
const buildPrefix = "containerfile:"

// BuildFile is the name under which a file that an image is built from stands among the files that are accepted. No layer
// file has such a name.
func BuildFile(path string) string { return buildPrefix + path }

// acceptable says whether a name may stand in a record.
func acceptable(name string) bool {
	build, ok := strings.CutPrefix(name, buildPrefix)
	return layerFile(name) || ok && fs.ValidPath(build)
}

// layerFile says whether a name is that of a repository's layer file.
func layerFile(name string) bool {
	base, below := strings.CutPrefix(name, ".agentbox/")
	if !below {
		return name == "agentbox.toml"
	}
	return fs.ValidPath(name) && path.Base(name) == base && strings.HasSuffix(base, ".toml")
}

// digest is the sha256 of a repository's path in hexadecimal.
func digest(repo string) string {
	sum := sha256.Sum256([]byte(repo))
	return hex.EncodeToString(sum[:])
}

func byRepo(a, b Record) int { return cmp.Compare(a.Repo, b.Repo) }
