// Package profiles holds the built-in profiles and named sets, one TOML file each, as agentbox ships them.
//
// It owns the files and nothing else: internal/profiles reads them as it reads a person's own.
package profiles

import "embed"

//go:embed *.toml sets/*.toml
var files embed.FS

// Files gives the built-in files: the profile NAME is NAME.toml, the named set NAME is sets/NAME.toml.
func Files() embed.FS { return files }
