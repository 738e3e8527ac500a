// Package profiles holds the built-in profiles and named sets, one TOML file each, as agentbox ships them, and the list of
// what every profile hides.
//
// It holds the Containerfiles of the built-in images too.
//
// It owns the files and nothing else: internal/profiles reads them as it reads a person's own.
package profiles

import (
	"embed"
	"strings"
)

//go:embed *.toml sets/*.toml
var files embed.FS

//go:embed hidden.txt
var hidden string

// Files gives the built-in files: the profile NAME is NAME.toml, the named set NAME is sets/NAME.toml.
func Files() embed.FS { return files }

// Hidden gives the patterns of what no agent sees, in order. "!" shows what those before it hide.
func Hidden() (patterns []string) {
	for line := range strings.Lines(hidden) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			patterns = append(patterns, line)
		}
	}
	return patterns
}

// HiddenFile is how messages name the list.
const HiddenFile = "built-in/hidden.txt"
