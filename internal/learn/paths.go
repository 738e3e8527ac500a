package learn

import (
	"cmp"
	"slices"
	"strings"

	"agentbox/internal/policy"
	"agentbox/internal/replay"
)

// siblings is how many paths must differ in one segment, and in nothing else, before a pattern stands for them.
const siblings = 4

// pathsFor gives the patterns for requests with one method. Where several are alike but for one segment, which is not the
// first, and reading is all they do, "*" stands for it. Broad lets it stand for the first one too, and for those of
// methods that write; and "**" for what remains below one first segment.
func pathsFor(groups []replay.Group, broad, writes bool) []Path {
	var exact []string
	for _, g := range groups {
		if p, ok := policy.ExactPath(cmp.Or(g.Request.Path, "/")); ok {
			exact = append(exact, p.String())
		}
	}
	slices.Sort(exact)
	exact = slices.Compact(exact)
	var out []Path
	if !writes || broad {
		from := 1
		if broad {
			from = 0
		}
		out, exact = gather(exact, func(path string) []string { return starred(path, from) })
	}
	if broad && !writes {
		below, rest := gather(exact, deep)
		out, exact = append(out, below...), rest
	}
	for _, path := range exact {
		if p, err := policy.ParsePathPattern(path); err == nil {
			out = append(out, Path{p, []string{path}})
		}
	}
	slices.SortFunc(out, func(a, b Path) int { return strings.Compare(a.Pattern.String(), b.Pattern.String()) })
	return out
}

// gather takes the patterns that stand for enough paths, the one for the most first, and gives the paths that none has.
func gather(paths []string, shapes func(path string) []string) (out []Path, rest []string) {
	for {
		of := map[string][]string{}
		best := ""
		for _, path := range paths {
			for _, s := range shapes(path) {
				of[s] = append(of[s], path)
				if n, most := len(of[s]), len(of[best]); n > most || n == most && s < best {
					best = s
				}
			}
		}
		if len(of[best]) < siblings {
			return out, paths
		}
		p, err := policy.ParsePathPattern(best)
		if err != nil || slices.ContainsFunc(of[best], func(path string) bool { return !p.Match(path) }) {
			return out, paths // not to be: what is no pattern for its paths is not proposed
		}
		seen := of[best]
		out = append(out, Path{p, seen})
		paths = slices.DeleteFunc(slices.Clone(paths), func(path string) bool { return slices.Contains(seen, path) })
	}
}

// starred gives the patterns with one segment of a path left open, from the one at `from` on. An empty segment stays, and
// so does one in which an escaped slash would not be named.
func starred(path string, from int) (out []string) {
	segments := strings.Split(path, "/")[1:]
	for i := from; i < len(segments); i++ {
		if s := segments[i]; s == "" || strings.Contains(s, "%2F") || strings.Contains(s, "%5C") {
			continue
		}
		open := slices.Clone(segments)
		open[i] = "*"
		out = append(out, "/"+strings.Join(open, "/"))
	}
	return out
}

// deep gives the pattern for all below a path's first segment.
func deep(path string) []string {
	first, below, ok := strings.Cut(path[1:], "/")
	if !ok || first == "" || below == "" {
		return nil
	}
	return []string{"/" + first + "/**"}
}
