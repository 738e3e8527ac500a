// Package later knows what the person's own tools would execute after a run: which files, read or changed by an
// agent, become programs or orders once they lie in the person's repository.
//
// It owns one data file, later.toml: an entry is a few patterns, a reason in plain words, and examples that a test
// holds it to. Match is pure; it reads no file but what its caller hands it.
package later

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"agentbox/internal/policy"

	"github.com/pelletier/go-toml/v2"
)

// File is one side of a change. Read gives its content, at most MaxRead bytes of it; nil is a side that is absent.
type File struct {
	Mode fs.FileMode // permission bits, and the type
	Read func() ([]byte, error)
}

// MaxRead is how much of a file is looked at where its content decides.
const MaxRead = 8 << 20

//go:embed later.toml
var source []byte

// list is the data file, read once.
var list = sync.OnceValues(func() ([]entry, error) { return parse(source) })

// entry is one entry of the data file.
type entry struct {
	Names    []string `toml:"names"`
	Why      string   `toml:"why"`
	Examples []string `toml:"examples"`
	Keys     []string `toml:"keys"`
	Hosts    []string `toml:"hosts"`

	exact map[string]bool // names at any depth
	dirs  map[string]bool // … of directories that fit with all in them
	globs []glob          // patterns of names at any depth
	paths []ending        // patterns of ends of paths
}

// glob is a pattern of a name. Nearly all names begin or end otherwise, which is seen faster than matched.
type glob struct{ prefix, suffix, whole string }

func newGlob(pattern string) glob {
	const special = "*?[]\\"
	first, last := strings.IndexAny(pattern, special), strings.LastIndexAny(pattern, special)
	if first < 0 {
		return glob{pattern, "", pattern}
	}
	return glob{pattern[:first], pattern[last+1:], pattern}
}

func (g glob) fits(name string) bool {
	if !strings.HasPrefix(name, g.prefix) || !strings.HasSuffix(name, g.suffix) {
		return false
	}
	ok, _ := path.Match(g.whole, name)
	return ok || g.whole == "**"
}

// ending is a pattern of the end of a path, with that of its last part.
type ending struct {
	last  glob
	parts []string
}

// parse reads a data file, strictly.
func parse(data []byte) ([]entry, error) {
	var file struct {
		Entry []entry `toml:"entry"`
	}
	d := toml.NewDecoder(strings.NewReader(string(data))).DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("reading the list of what executes later: %w", err)
	}
	for i := range file.Entry {
		if err := file.Entry[i].compile(); err != nil {
			return nil, fmt.Errorf("reading the list of what executes later: %q: %w", file.Entry[i].Why, err)
		}
	}
	return file.Entry, nil
}

func (e *entry) compile() error {
	if e.Why == "" || len(e.Names) == 0 || len(e.Examples) == 0 {
		return errors.New("it needs names, a reason and an example")
	}
	e.exact, e.dirs = map[string]bool{}, map[string]bool{}
	for _, name := range e.Names {
		if name != strings.ToLower(name) {
			return fmt.Errorf("%q is not in lower case", name)
		}
		parts := strings.Split(name, "/")
		for _, part := range parts {
			if _, err := path.Match(part, ""); err != nil || part == "" {
				return fmt.Errorf("%q is no pattern", name)
			}
		}
		e.sort(name, parts)
	}
	return nil
}

// sort puts a pattern where it is found fast: there are hundreds, and there may be thousands of paths.
func (e *entry) sort(name string, parts []string) {
	dir, below := strings.CutSuffix(name, "/**")
	switch {
	case len(parts) == 1 && !strings.ContainsAny(name, "*?[\\"):
		e.exact[name] = true
	case below && !strings.ContainsAny(dir, "*?[\\/"):
		e.dirs[dir] = true
	case len(parts) == 1:
		e.globs = append(e.globs, newGlob(name))
	default:
		e.paths = append(e.paths, ending{newGlob(parts[len(parts)-1]), append([]string{"**"}, parts...)})
	}
}

// Match says why the person's own tools would execute, or obey, what lies at rel (slash-separated, below the
// repository) after the change from before to after; "" is that they would not. What was deleted executes nothing, and a
// directory is what lies in it.
func Match(rel string, before, after *File) string {
	if after == nil || after.Mode.IsDir() {
		return ""
	}
	entries, err := list()
	if err != nil {
		return "the list of what executes later can't be read" // then nothing passes without a look
	}
	parts := fold(rel)
	for _, e := range entries {
		if e.fits(parts) && e.counts(before, after) {
			return e.Why
		}
		if after.Mode&fs.ModeSymlink != 0 && e.leadsTo(parts) {
			return "a link in the place of a directory: what it leads to is read there, and " + e.Why
		}
	}
	if after.Mode.IsRegular() && after.Mode&0o111 != 0 {
		if before != nil && before.Mode&0o111 != 0 {
			return "it is executable"
		}
		return "it becomes executable"
	}
	return ""
}

// fold gives a path's parts as a file system that ignores case reads them.
func fold(p string) []string {
	parts := strings.Split(Fold(p), "/")
	for i, part := range parts {
		if short := strings.TrimRight(part, ". "); short != "" { // Windows passes over these
			parts[i] = short
		}
	}
	return parts
}

// fits says whether one of the entry's patterns names the path.
func (e entry) fits(parts []string) bool {
	base := parts[len(parts)-1]
	return e.exact[base] ||
		slices.ContainsFunc(parts, func(part string) bool { return e.dirs[part] }) ||
		slices.ContainsFunc(e.globs, func(g glob) bool { return g.fits(base) }) ||
		slices.ContainsFunc(e.paths, func(p ending) bool { return p.last.fits(base) && policy.MatchSegments(p.parts, parts) })
}

// leadsTo says whether a link at the path would be a directory on the way to what one of the patterns names.
func (e entry) leadsTo(parts []string) bool {
	return slices.ContainsFunc(e.paths, func(p ending) bool {
		for n := 2; n < len(p.parts); n++ { // the first one is any number of directories
			if policy.MatchSegments(p.parts[:n], parts) {
				return true
			}
		}
		return false
	})
}

// counts says whether the change is one that the entry is about. What can't be told apart counts.
func (e entry) counts(before, after *File) bool {
	if len(e.Keys) == 0 && len(e.Hosts) == 0 || !after.Mode.IsRegular() {
		return true
	}
	now, err := after.Read()
	if err != nil || len(now) >= MaxRead {
		return true
	}
	var was []byte
	if before != nil && before.Mode.IsRegular() {
		if was, err = before.Read(); err != nil || len(was) >= MaxRead {
			return true
		}
	}
	if len(e.Keys) > 0 {
		return keysDiffer(was, now, e.Keys)
	}
	return namesNewHost(was, now, e.Hosts)
}

// Fold gives a name as file systems that ignore case see it, without the characters that HFS+ passes over.
func Fold(name string) string {
	if !utf8.ValidString(name) {
		return foldASCII(name) // such a name means the same bytes everywhere, or nothing
	}
	return strings.ToLower(strings.ToUpper(strings.Map(func(r rune) rune {
		switch {
		case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
			return -1
		}
		return r
	}, name)))
}

func foldASCII(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
