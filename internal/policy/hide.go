package policy

import (
	"errors"
	pathpkg "path"
	"strings"
)

// HidePattern names paths below a repository: a pattern without "/" names a base name at any depth, "**" is any number of
// directories, "x/" is a directory, and "x/**" is the directory x at that place, with all in it.
type HidePattern struct {
	segments []string // never empty; "**" is any number of segments
	base     bool     // names a name at any depth
	dirOnly  bool

	prefix, suffix string // with which each name that the last segment names begins and ends
}

// ParseHidePattern reads a pattern, or says why it is none.
func ParseHidePattern(pattern string) (HidePattern, error) {
	p := strings.TrimSuffix(pattern, "/")
	h := HidePattern{dirOnly: p != pattern}
	if strings.HasPrefix(p, "!") {
		return h, errors.New("exceptions are not supported")
	}
	if rest, ok := strings.CutSuffix(p, "/**"); ok && rest != "" && rest != "**" {
		p, h.dirOnly = "/"+strings.TrimPrefix(rest, "/"), true
	}
	h.base = !strings.Contains(p, "/")
	h.segments = strings.Split(strings.TrimPrefix(p, "/"), "/")
	for _, s := range h.segments {
		if s == "" || s == "." || s == ".." {
			return h, errors.New("it must name something below the repository")
		}
		if _, err := pathpkg.Match(s, ""); err != nil {
			return h, err
		}
	}
	h.prefix, h.suffix = ends(h.segments[len(h.segments)-1])
	return h, nil
}

// ends gives what each name of a segment begins and ends with. Nearly all names differ there, which is seen faster than matched.
func ends(segment string) (prefix, suffix string) {
	const special = "*?[]\\"
	first, last := strings.IndexAny(segment, special), strings.LastIndexAny(segment, special)
	if first < 0 {
		return segment, segment
	}
	return segment[:first], segment[last+1:]
}

// MayMatch reports whether the pattern can name anything that is called name: what may is for Match to decide.
func (h HidePattern) MayMatch(name []byte) bool {
	return len(name) >= len(h.prefix) && string(name[:len(h.prefix)]) == h.prefix &&
		len(name) >= len(h.suffix) && string(name[len(name)-len(h.suffix):]) == h.suffix
}

// Match reports whether the pattern names rel, a clean path below the repository; dir says that it is a directory.
func (h HidePattern) Match(rel string, dir bool) bool {
	if h.dirOnly && !dir {
		return false
	}
	if h.base {
		return matchSegment(h.segments[0], pathpkg.Base(rel))
	}
	return MatchSegments(h.segments, strings.Split(rel, "/"))
}

// MatchSegments matches one by one, and "**" with any number. It goes back to the last "**" only: what an earlier one
// could take instead, that one can take too. So its time is bounded by the product of the lengths.
func MatchSegments(pattern, name []string) bool {
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
	ok, _ := pathpkg.Match(pattern, name)
	return ok
}
