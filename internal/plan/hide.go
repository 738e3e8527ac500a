package plan

import (
	"path"

	"agentbox/internal/policy"
)

// hides reports whether a pattern of workspace.hide names a path of the repository, or a directory that it lies in. That a
// path is a directory is not known here, so that "x/" names a file x too.
func hides(pattern, rel string) bool {
	for at := rel; at != "." && at != "/"; at = path.Dir(at) {
		if named(pattern, at) {
			return true
		}
	}
	return false
}

func named(pattern, rel string) bool {
	p, err := policy.ParseHidePattern(pattern)
	return err == nil && p.Match(rel, true)
}
