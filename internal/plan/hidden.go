package plan

import (
	"fmt"
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
	if slices.Equal(from, to) {
		return
	}
	left := maxCovered
	every := true // what every profile hides is told once
	for _, p := range minus(to, from) {
		_, show := shows(p)
		by := origin(d.to, at, slices.Index(to, p))
		switch {
		case show:
		case !ofEvery(by):
			d.at(Tighter, at, by, "hides %s", clean(p))
		case every:
			every = false
			d.at(Tighter, at, by, "hides the names of secrets, such as %s", clean(p))
		}
	}
	var kept []string // what was hidden and is, unless something shows it
	for _, p := range distinct(from) {
		was := gone(origin(d.from, at, slices.Index(from, p)), "")
		bare, show := shows(p)
		by := coveredBy(to, p, &left)
		switch {
		case show && !slices.Contains(to, p):
			d.at(Tighter, "workspace.show", was, "no longer shows %s", clean(bare))
		case show:
		case by < 0:
			d.at(Wider, at, was, "shows %s, which was hidden", clean(p))
		default:
			kept = append(kept, p)
			if to[by] != p {
				d.at(Other, at, was, "no longer names %s to be hidden, which %s hides", clean(p), clean(to[by]))
			}
		}
	}
	d.show(kept, &left)
}

// show finds the exceptions that show something of what was hidden: new ones, and those that stand behind it now. The latter
// are told once for all that every profile has.
func (d *differ) show(kept []string, left *int) {
	from, to := d.from.Workspace.Hide, d.to.Workspace.Hide
	var every, hid []string
	for i, p := range to {
		bare, show := shows(p)
		if !show || slices.Contains(to[i+1:], p) {
			continue
		}
		had := last(from, p)
		at := slices.IndexFunc(kept, func(hidden string) bool {
			return last(from, hidden) > had && coveredBy(to[i+1:], hidden, left) < 0
		})
		by := origin(d.to, "workspace.hide", i)
		switch {
		case at < 0:
		case ofEvery(by):
			every, hid = append(every, clean(bare)), append(hid, kept[at])
		default:
			d.at(Wider, "workspace.show", by, "shows %s, whatever else hides it", clean(bare))
		}
	}
	if len(every) > 0 {
		was := gone(origin(d.from, "workspace.hide", last(from, hid[0])), "")
		d.at(Wider, "workspace.hide", was, "shows %s, which %s hid", some(every), clean(hid[0]))
	}
}

// some is a long list in short.
func some(list []string) string {
	const most = 3
	if len(list) <= most {
		return strings.Join(list, " ")
	}
	return fmt.Sprintf("%s and %d more names that every profile shows", strings.Join(list[:most], " "), len(list)-most)
}

func last(list []string, s string) int {
	for i, v := range slices.Backward(list) {
		if v == s {
			return i
		}
	}
	return -1
}

// coveredBy finds a pattern that hides all that another one does: itself, or one that covers it.
func coveredBy(patterns []string, pattern string, left *int) int {
	if i := slices.Index(patterns, pattern); i >= 0 {
		return i
	}
	if *left -= len(patterns); *left < 0 {
		return -1
	}
	return slices.IndexFunc(patterns, func(by string) bool { _, show := shows(by); return !show && covers(by, pattern) })
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
