package profiles

import (
	"path"
	"strings"
)

// hideFlaw says what is wrong with a pattern of workspace.hide, and what to write in its place; "" when nothing is. What
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
		return "is an exception, and there are none", "list what is to be hidden, and nothing else"
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
