package plan

import (
	"path"
	"strings"
)

// hides reports whether a pattern of workspace.hide names a path of the repository, or a directory that it lies in, as
// internal/workspace finds them: a pattern without "/" names a base name at any depth, "**" is any number of
// directories, and "x/**" is the directory x with all in it. That a path is a directory is not known here, so that
// "x/" names a file x too.
func hides(pattern, rel string) bool {
	for at := rel; at != "." && at != "/"; at = path.Dir(at) {
		if named(pattern, at) {
			return true
		}
	}
	return false
}

func named(pattern, rel string) bool {
	p := strings.TrimSuffix(pattern, "/")
	if rest, ok := strings.CutSuffix(p, "/**"); ok && rest != "" && rest != "**" {
		p = "/" + strings.TrimPrefix(rest, "/")
	}
	if !strings.Contains(p, "/") {
		ok, _ := path.Match(p, path.Base(rel))
		return ok
	}
	return matchSegments(strings.Split(strings.TrimPrefix(p, "/"), "/"), strings.Split(rel, "/"))
}

func matchSegments(pattern, name []string) bool {
	if len(pattern) == 0 {
		return len(name) == 0
	}
	if pattern[0] == "**" {
		for i := range len(name) + 1 {
			if matchSegments(pattern[1:], name[i:]) {
				return true
			}
		}
		return false
	}
	if len(name) == 0 {
		return false
	}
	ok, _ := path.Match(pattern[0], name[0])
	return ok && matchSegments(pattern[1:], name[1:])
}
