package profiles

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// Hiding is one pattern of workspace.hide or workspace.show.
type Hiding struct {
	Pattern string
	Show    bool // it shows again what those before it hide
	Place   Place
	layer   int
}

// Hiding gives what the layers hide and show, in the order in which it holds: layer by layer, the lowest first, and in each
// what it hides before what it shows. The last one that names a path decides.
func (p Profile) Hiding() []Hiding {
	places := p.Origins.Outline()
	out := make([]Hiding, 0, len(p.Workspace.Hide)+len(p.Workspace.Show))
	for i, pattern := range p.Workspace.Hide {
		out = append(out, p.Origins.hiding(pattern, false, places["workspace.hide"+index(i)]))
	}
	for i, pattern := range p.Workspace.Show {
		out = append(out, p.Origins.hiding(pattern, true, places["workspace.show"+index(i)]))
	}
	slices.SortStableFunc(out, func(a, b Hiding) int { return cmp.Compare(a.layer, b.layer) })
	return out
}

func (o Origins) hiding(pattern string, show bool, at Place) Hiding {
	layer := 0
	if o.of != nil {
		layer = slices.Index(o.of.files, at.File)
	}
	return Hiding{pattern, show, at, layer}
}

// overruled gives the patterns of workspace.show that a layer above theirs hides something over: in one file, where what is
// shown goes before what is hidden, they could show more.
func (p Profile) overruled() (show, over []Hiding) {
	all := p.Hiding()
	for i, h := range all {
		if !h.Show {
			continue
		}
		if slices.ContainsFunc(all[i:], func(above Hiding) bool { return !above.Show }) {
			over = append(over, h)
		} else {
			show = append(show, h)
		}
	}
	return show, over
}

// hideFlaw says what is wrong with a pattern of workspace.hide or workspace.show, and what to write in its place; "" when nothing is. What
// internal/workspace can't match is refused here, where there is a line to show for it.
func hideFlaw(pattern string) (text, hint string) {
	const relative = `patterns are relative to the repo, such as ".env*" or "secrets/**"`
	p := strings.TrimSuffix(pattern, "/")
	if rest, ok := strings.CutSuffix(p, "/**"); ok && rest != "**" {
		p = rest
	}
	switch {
	case pattern == "":
		return "is not a pattern", relative
	case strings.HasPrefix(pattern, "!"):
		return "is an exception, and there are none", "list what is to be hidden in hide, and what of that is to be seen in show"
	case strings.HasPrefix(pattern, "/"), strings.HasPrefix(pattern, "~"):
		return "points out of the repo", relative
	}
	for _, segment := range strings.Split(p, "/") {
		if _, err := path.Match(segment, ""); err != nil {
			return "is not a pattern", `"[" begins a class such as "[a-z]", and "\" takes the meaning from the next character`
		}
		if segment == "" || segment == "." || segment == ".." {
			return unclean(pattern, relative)
		}
	}
	return "", ""
}

// unclean is about a pattern with a segment that names nothing.
func unclean(pattern, relative string) (text, hint string) {
	switch clean := path.Clean(pattern); {
	case clean == "..", strings.HasPrefix(clean, "../"):
		return "points out of the repo", relative
	case clean == ".", clean == "**":
		return "names the repo itself", relative
	default:
		text, hint = `has an empty segment, "." or ".."`, `write "`+clean+`"`
		if worse, _ := hideFlaw(clean); worse != "" {
			hint = relative
		}
		return text, hint
	}
}
