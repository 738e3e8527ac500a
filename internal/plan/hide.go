package plan

import (
	"strings"

	builtin "agentbox/profiles"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

// hide gives the grants what is hidden, in order: what every profile hides, then what its layers hide and show. What the
// organisation hides comes last, where nothing shows it again.
func (b *grantBuilder) hide(p profiles.Profile) {
	b.grants.Workspace.Hide, b.grants.Origins["workspace.hide"] = builtin.Hidden(), builtin.HiddenFile
	for _, h := range p.Hiding() {
		pattern := h.Pattern
		if h.Show {
			pattern = exception(pattern)
		}
		b.hidden(pattern, placeOrProfile(h.Place, b.grants.Profile))
	}
}

// hidden adds one pattern.
func (b *grantBuilder) hidden(pattern, at string) {
	w := &b.grants.Workspace
	b.grants.Origins[item("workspace.hide", len(w.Hide))] = at
	w.Hide = append(w.Hide, pattern)
}

// placeOrProfile is for profiles that were read from no file.
func placeOrProfile(at profiles.Place, profile string) string {
	if at.File == "" {
		return profile
	}
	return place(at)
}

// exception is a pattern that shows.
func exception(pattern string) string { return "!" + pattern }

// shows gives the pattern of an exception.
func shows(pattern string) (bare string, ok bool) { return strings.CutPrefix(pattern, "!") }

// hideList is the patterns ready for use. Grants hold none that cannot be read; nothing would be seen of one that did.
func hideList(patterns []string) policy.HideList {
	l, err := policy.ParseHideList(patterns)
	if err != nil {
		l, _ = policy.ParseHideList([]string{"*"})
	}
	return l
}

// hides reports whether a pattern of workspace.hide names a path of the repository, or a directory that it lies in. That a
// path is a directory is not known here, so that "x/" names a file x too.
func hides(pattern, rel string) bool { return hideList([]string{pattern}).Hides(rel, true) }

// ofEvery reports the origin of what every profile hides.
func ofEvery(at string) bool { return at == builtin.HiddenFile }
