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

// matchSegments goes back to the last "**" only: what an earlier one could take instead, that one can take too. So its
// time is bounded by the product of the lengths.
func matchSegments(pattern, name []string) bool {
	star, from := -1, 0
	for p, n := 0, 0; ; {
		switch {
		case p < len(pattern) && pattern[p] == "**":
			star, from, p = p, n, p+1
		case p < len(pattern) && n < len(name) && matchSegment(pattern[p], name[n]):
			p, n = p+1, n+1
		case p == len(pattern) && n == len(name):
			return true
		case star < 0 || from == len(name):
			return false
		default:
			from++
			p, n = star+1, from
		}
	}
}

func matchSegment(pattern, name string) bool {
	ok, _ := path.Match(pattern, name)
	return ok
}
