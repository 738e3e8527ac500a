package policy

import (
	"errors"
	"fmt"
	pathpkg "path"
	"strings"
	"unicode/utf8"
)

// HidePattern names paths below a repository: a pattern without "/" names a base name at any depth, "**" is any number of
// directories, "x/" is a directory, and "x/**" is the directory x at that place, with all in it.
type HidePattern struct {
	segments []string // never empty; "**" is any number of segments
	folded   []string // the same as anyCase has it; nil where case counts
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
	if h.matches(h.segments, rel) {
		return true
	}
	return h.folded != nil && h.matches(h.folded, anyCase(rel))
}

func (h HidePattern) matches(segments []string, rel string) bool {
	if h.base {
		return matchSegment(segments[0], pathpkg.Base(rel))
	}
	return MatchSegments(segments, strings.Split(rel, "/"))
}

// inAnyCase has the pattern name names in other cases too: on some file systems those are the same file.
func (h HidePattern) inAnyCase() HidePattern {
	for _, s := range h.segments {
		h.folded = append(h.folded, anyCase(s))
	}
	return h
}

// anyCase gives a text as file systems that ignore case see it, without the characters that HFS+ passes over.
func anyCase(s string) string {
	if !plainASCII(s) {
		s = strings.ToUpper(strings.Map(seen, s))
	}
	return strings.ToLower(s)
}

func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func seen(r rune) rune {
	switch {
	case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
		return -1
	}
	return r
}

// HideList says what of a repository is hidden. Its patterns stand in order: one hides what it names, whatever the case;
// "!" and a pattern shows again, to the letter, what those before it hide. The last one that names a path decides. What
// lies in a directory that is shown by name is shown with it; what lies in one that is hidden does not exist.
type HideList struct {
	patterns []hideRule
	byName   map[string][]int // patterns whose last segment is plain text, by it as anyCase has it
	byEnding map[string][]int // those whose last segment is "*" and an ending such as ".pem", by the ending so
	others   []int
}

type hideRule struct {
	HidePattern
	show bool
	part string // of every name that it names, as anyCase has it; "" where none is known
}

// plainPart is the longest text without a meaning of its own: most names do not have it, which is quickly seen.
func plainPart(segment string) (longest string) {
	if strings.ContainsAny(segment, `[\`) {
		return ""
	}
	for _, part := range strings.FieldsFunc(segment, func(r rune) bool { return r == '*' || r == '?' }) {
		if len(part) > len(longest) {
			longest = part
		}
	}
	return longest
}

// ParseHideList reads patterns, or says which is none.
func ParseHideList(patterns []string) (HideList, error) {
	l := HideList{byName: map[string][]int{}, byEnding: map[string][]int{}}
	for i, pattern := range patterns {
		bare, show := strings.CutPrefix(pattern, "!")
		p, err := ParseHidePattern(bare)
		if err != nil {
			return l, fmt.Errorf("reading the pattern %q of what is hidden: %w", pattern, err)
		}
		if !show {
			p = p.inAnyCase()
		}
		last := anyCase(p.segments[len(p.segments)-1])
		l.patterns = append(l.patterns, hideRule{p, show, plainPart(last)})
		l.file(i, last)
	}
	return l, nil
}

// file notes where a pattern is found: a walk of a large repository asks for every name in it.
func (l *HideList) file(i int, last string) {
	ending, starred := strings.CutPrefix(last, "*")
	switch {
	case !strings.ContainsAny(last, `*?[\`):
		l.byName[last] = append(l.byName[last], i)
	case starred && len(ending) > 1 && strings.LastIndexByte(ending, '.') == 0 && !strings.ContainsAny(ending, `*?[\`):
		l.byEnding[ending] = append(l.byEnding[ending], i)
	default:
		l.others = append(l.others, i)
	}
}

// Step looks at one path whose directory is seen: which pattern hides it, -1 for none, and from which pattern on what lies
// in it is looked at. From is what Step gave for its directory, 0 at the top.
func (l HideList) Step(rel string, dir bool, from int) (by, next int) {
	name := anyCase(pathpkg.Base(rel))
	last := -1
	for _, some := range [][]int{l.byName[name], l.byEnding[pathpkg.Ext(name)], l.others} {
		for i := len(some) - 1; i >= 0 && some[i] >= from && some[i] > last; i-- {
			if p := &l.patterns[some[i]]; strings.Contains(name, p.part) && p.Match(rel, dir) {
				last = some[i]
			}
		}
	}
	switch {
	case last < 0:
		return -1, from
	case l.patterns[last].show:
		return -1, last
	}
	return last, from
}

// By finds the pattern that hides a clean path below the repository, and the path that it names: this one or a directory
// above it. It is -1 where nothing does. Dir says that the path is a directory.
func (l HideList) By(rel string, dir bool) (by int, named string) {
	from := 0
	for at := 0; at >= 0; {
		next := strings.IndexByte(rel[at:], '/')
		end := len(rel)
		if next >= 0 {
			end = at + next
		}
		if by, from = l.Step(rel[:end], dir || next >= 0, from); by >= 0 {
			return by, rel[:end]
		}
		at = -1
		if next >= 0 {
			at = end + 1
		}
	}
	return -1, ""
}

// Hides reports whether a path is hidden, by itself or with a directory above it.
func (l HideList) Hides(rel string, dir bool) bool {
	by, _ := l.By(rel, dir)
	return by >= 0
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

// MayHide reports whether some path that ends in a name may be hidden: of most names it can be told that none is.
func (l HideList) MayHide(name string) bool {
	name = anyCase(name)
	for _, some := range [][]int{l.byName[name], l.byEnding[pathpkg.Ext(name)], l.others} {
		for _, i := range some {
			if p := &l.patterns[i]; !p.show && strings.Contains(name, p.part) {
				return true
			}
		}
	}
	return false
}
