package plan

import (
	"path"
	"slices"
	"strings"
)

// maxCovered bounds how many pairs of patterns are compared, and how many segments one may have: the patterns are the
// repository's, and there may be many. Beyond it patterns are compared as text.
const (
	maxCovered  = 1 << 14
	maxSegments = 32
)

// hide compares the patterns. One that is gone shows nothing where another one, which is there, names all that it named.
func (d *differ) hide() {
	const at = "workspace.hide"
	from, to := d.from.Workspace.Hide, d.to.Workspace.Hide
	for _, p := range minus(to, from) {
		d.at(Tighter, at, origin(d.to, at, slices.Index(to, p)), "hides %s", clean(p))
	}
	lost := minus(from, to)
	for _, p := range lost {
		was := gone(origin(d.from, at, slices.Index(from, p)), "")
		i := -1
		if len(lost)*len(to) <= maxCovered {
			i = slices.IndexFunc(to, func(by string) bool { return covers(by, p) })
		}
		if i < 0 {
			d.at(Wider, at, was, "shows %s, which was hidden", clean(p))
			continue
		}
		d.at(Other, at, was, "no longer names %s to be hidden, which %s hides", clean(p), clean(to[i]))
	}
}

// shape is a pattern with all that it leaves unsaid.
type shape struct {
	segments []string // "**" is any number of directories
	dir      bool     // it names directories alone
}

func shapeOf(pattern string) shape {
	p := strings.TrimSuffix(pattern, "/")
	s := shape{dir: p != pattern}
	rest, below := strings.CutSuffix(p, "/**")
	if below = below && rest != "" && rest != "**"; below {
		p, s.dir = rest, true
	}
	s.segments = strings.Split(strings.TrimPrefix(p, "/"), "/")
	if !below && !strings.Contains(p, "/") {
		s.segments = append([]string{"**"}, s.segments...)
	}
	return s
}

// covers reports that whatever a pattern hides, by hides too. It may say no where that is so.
func covers(by, pattern string) bool {
	b, p := shapeOf(by), shapeOf(pattern)
	named := func(s string) bool { return s != "**" }
	if len(b.segments) > maxSegments || len(p.segments) > maxSegments || !slices.ContainsFunc(b.segments, named) {
		return by == pattern
	}
	// over[j] says, for the segments of the pattern from i on, whether those of b from j on name all of it, or a
	// directory above all of it.
	over := make([]bool, len(b.segments)+1)
	for i := len(p.segments); i >= 0; i-- {
		next := slices.Clone(over) // over of i+1
		for j := len(b.segments); j >= 0; j-- {
			switch {
			case j == len(b.segments): // named at i already: as a directory when something is below it for sure
				over[j] = !b.dir || p.dir || slices.ContainsFunc(p.segments[i:], named)
			case b.segments[j] == "**":
				over[j] = over[j+1] || i < len(p.segments) && next[j]
			default:
				over[j] = i < len(p.segments) && p.segments[i] != "**" && coversSegment(b.segments[j], p.segments[i]) && next[j+1]
			}
		}
	}
	return over[0]
}

// coversSegment takes the "*" of the narrower one as a character that only a "*" of the wider one names.
func coversSegment(by, segment string) bool {
	if by == segment {
		return true
	}
	ok, err := path.Match(by, segment)
	return ok && err == nil && !strings.ContainsAny(by, `?[\`) && !strings.ContainsAny(segment, `[\`)
}
