// Package caches knows what of a home directory can outlive a run: the caches of tools, by name, and which places hold
// logins, so that they never do.
//
// It owns one data file, caches.toml. It is pure: what it says of a path is said of its name.
package caches

import (
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/pelletier/go-toml/v2"
)

// Cache is the cache of a tool. Dirs are relative to the home directory; Env may hold {home}.
type Cache struct {
	Name string            `toml:"name"`
	What string            `toml:"what"`
	Dirs []string          `toml:"dirs"`
	Env  map[string]string `toml:"env"`
}

// ReadOnly ends the name of a cache that a run can't write to.
const ReadOnly = ":ro"

type file struct {
	Caches []Cache `toml:"cache"`
	Logins struct {
		Places []string `toml:"places"`
		Names  []string `toml:"names"`
	} `toml:"logins"`
}

//go:embed caches.toml
var source []byte

var list = sync.OnceValue(func() file {
	f, err := parse(source)
	if err != nil {
		panic("caches: " + err.Error()) // it is part of the program, and a test reads it
	}
	return f
})

func parse(data []byte) (f file, err error) {
	if err := toml.NewDecoder(strings.NewReader(string(data))).DisallowUnknownFields().Decode(&f); err != nil {
		return f, fmt.Errorf("reading the list of caches: %w", err)
	}
	seen := map[string]bool{}
	for _, c := range f.Caches {
		if err := c.check(); err != nil || seen[c.Name] {
			return f, fmt.Errorf("reading the list of caches: %q: %w", c.Name, errors.Join(err, twice(seen[c.Name])))
		}
		seen[c.Name] = true
	}
	return f, nil
}

func twice(is bool) error {
	if is {
		return errors.New("it is there twice")
	}
	return nil
}

func (c Cache) check() error {
	if strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || c.Name == "" || c.What == "" || len(c.Dirs) == 0 {
		return errors.New("it needs a name, whose it is, and directories")
	}
	for _, dir := range c.Dirs {
		if path.Clean(dir) != dir || path.IsAbs(dir) || dir == "." || strings.HasPrefix(dir, "..") {
			return fmt.Errorf("%q is no directory below the home directory", dir)
		}
	}
	return nil
}

// Names lists the caches that there are.
func Names() (names []string) {
	for _, c := range list().Caches {
		names = append(names, c.Name)
	}
	return names
}

// Words lists what a profile may write: each name, and each with ReadOnly behind it.
func Words() []string {
	names := Names()
	words := slices.Clone(names)
	for _, name := range names {
		words = append(words, name+ReadOnly)
	}
	return words
}

// Split takes a word of a profile apart.
func Split(word string) (name string, readOnly bool) { return strings.CutSuffix(word, ReadOnly) }

// Find gives the cache of a word.
func Find(word string) (Cache, bool) {
	name, _ := Split(word)
	for _, c := range list().Caches {
		if c.Name == name {
			return c, true
		}
	}
	return Cache{}, false
}

// Login says which place of logins a directory holds, or lies in, or is; "" is none. Paths are relative to the home directory.
func Login(rel string) string {
	for _, place := range list().Logins.Places {
		if Overlap(rel, place) {
			return place
		}
	}
	return ""
}

// LoginFile is Login for a file, which goes by its name too.
func LoginFile(rel string) string {
	if place := Login(rel); place != "" {
		return place
	}
	for _, part := range strings.Split(rel, "/") {
		for _, pattern := range list().Logins.Names {
			if ok, _ := path.Match(pattern, strings.ToLower(part)); ok {
				return part
			}
		}
	}
	return ""
}

// Overlap reports whether one path is the other, or lies in it.
func Overlap(a, b string) bool { return Within(a, b) || Within(b, a) }

// Within reports whether a path is dir, or lies in it. Both are clean.
func Within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// At is where a directory of something that is kept lies below base: a name of its own for each.
func At(base, name, dir string) string {
	return filepath.Join(base, url.PathEscape(name), url.PathEscape(dir))
}

// Name gives back what At made a name of a directory from.
func Name(escaped string) string {
	if name, err := url.PathUnescape(escaped); err == nil {
		return name
	}
	return escaped
}
