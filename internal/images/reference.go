package images

import (
	"regexp"
	"strings"
	"sync"
)

var referenceForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$`)
})

var hostForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]{1,5})?$`)
})

// full reports whether ref names its registry, so that no list of registries decides where it comes from.
func full(ref string) bool {
	host, rest, ok := strings.Cut(ref, "/")
	named := host == "localhost" || strings.ContainsAny(host, ".:")
	return ok && named && len(ref) <= 512 && hostForm().MatchString(host) && referenceForm().MatchString(rest)
}

// Local reports whether ref is of this machine alone: there is nowhere to pull it from.
func Local(ref string) bool { return strings.HasPrefix(ref, "localhost/") }

// Pinned reports whether ref names its content.
func Pinned(ref string) bool { return strings.Contains(ref, "@sha256:") }
