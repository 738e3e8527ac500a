package changes

import (
	"strings"

	"agentbox/internal/later"
)

// gitsOwn says whether git, on some system, would take a name for its own: ".git" in any case, with characters that HFS+
// passes over, with what NTFS strips, or by NTFS's short name.
func gitsOwn(name string) bool {
	for _, part := range strings.Split(later.Fold(name), `\`) {
		part, _, _ = strings.Cut(part, ":") // a stream of NTFS
		part = strings.TrimRight(part, ". ")
		if part == ".git" || part == "git~1" {
			return true
		}
	}
	return false
}

// GitsOwnPath says whether any part of a path is git's own.
func GitsOwnPath(rel string) bool {
	for part := range strings.SplitSeq(rel, "/") {
		if gitsOwn(part) {
			return true
		}
	}
	return false
}
