package starter

import (
	"path"
	"slices"
	"strings"
	"unicode"
)

// Ground is where an import takes place: paths in settings are held against it. Both may be "", for not known.
type Ground struct {
	Repo string // the repository's top, absolute and clean
	Home string // the person's home directory
}

// notation is how a settings file writes paths.
type notation int

const (
	inRule notation = iota // a permission rule: "//x" absolute, "/x" below the project, patterns as in .gitignore
	inPath                 // a path: "/x" absolute, others below the project
)

// whereabouts is how a path lies to the repository.
type whereabouts int

const (
	inside  whereabouts = iota // in it; the pattern says where
	whole                      // it, or everything in it
	above                      // a directory that holds it
	outside                    // elsewhere on the machine
	unclear                    // not a path that can be told
)

// locate reads a path of a settings file. The pattern is one for workspace.hide when the path is inside.
func locate(s string, in notation, g Ground) (pattern string, where whereabouts) {
	abs := ""
	switch {
	case s == "" || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", unclear
	case strings.HasPrefix(s, "//"):
		abs = s[1:]
	case s == "~" || strings.HasPrefix(s, "~/"):
		if g.Home == "" {
			return "", outside
		}
		abs = g.Home + s[1:]
	case strings.HasPrefix(s, "/") && in == inPath:
		abs = s
	case strings.HasPrefix(s, "~"):
		return "", outside
	}
	if abs != "" {
		return locateAbs(abs, g)
	}
	return locateRel(strings.TrimPrefix(s, "/"))
}

func locateAbs(abs string, g Ground) (string, whereabouts) {
	dir := strings.TrimSuffix(strings.TrimSuffix(abs, "/**"), "/")
	if g.Repo == "" {
		return "", outside
	}
	if rest, ok := strings.CutPrefix(path.Clean(abs), g.Repo+"/"); ok {
		return locateRel(rest)
	}
	switch dir = path.Clean("/" + dir); {
	case dir == g.Repo:
		return "", whole
	case dir == "/" || strings.HasPrefix(g.Repo, dir+"/"):
		return "", above
	}
	return "", outside
}

func locateRel(rel string) (string, whereabouts) {
	for strings.HasPrefix(rel, "./") {
		rel = strings.TrimLeft(strings.TrimPrefix(rel, "./"), "/")
	}
	segments := strings.Split(strings.TrimSuffix(rel, "/"), "/")
	stars := func(s string) bool { return strings.Trim(s, "*") == "" || s == "." }
	switch {
	case slices.Contains(segments, ".."):
		return "", outside
	case !slices.ContainsFunc(segments, func(s string) bool { return !stars(s) }):
		return "", whole
	case hidable(rel) != "":
		return "", unclear
	}
	return rel, inside
}

// hidable says why a pattern cannot stand in workspace.hide, or "".
func hidable(pattern string) string {
	if pattern == "" || len(pattern) > 200 || strings.ContainsFunc(pattern, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "it is not a pattern"
	}
	if strings.HasPrefix(pattern, "/") || strings.HasPrefix(pattern, "~") || strings.HasPrefix(pattern, "!") || pattern == "..." {
		return "it means something else there"
	}
	segments := strings.Split(strings.TrimSuffix(pattern, "/"), "/")
	for _, s := range segments {
		if _, err := path.Match(s, "x"); err != nil || s == "" || s == "." || s == ".." {
			return "it is not a pattern"
		}
	}
	if _, err := path.Match(strings.ReplaceAll(pattern, "**", "*"), "x"); err != nil {
		return "it is not a pattern"
	}
	if segments[0] == ".git" {
		return "git's own directory is guarded already"
	}
	if !slices.ContainsFunc(segments, func(s string) bool { return strings.Trim(s, "*") != "" }) {
		return "it would hide the whole repository"
	}
	return ""
}

// systemDirs are shown inside as they are on the machine, read-only.
func system(abs string) bool {
	abs = path.Clean("/" + strings.TrimLeft(abs, "/"))
	for _, dir := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/etc"} {
		if abs == dir || strings.HasPrefix(abs, dir+"/") {
			return true
		}
	}
	return abs == "/"
}
