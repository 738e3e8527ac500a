// Package profiles holds the built-in profiles, one TOML file each, as agentbox ships them.
//
// It owns the files and nothing else: internal/profiles reads them as it reads a person's own.
package profiles

import "embed"

//go:embed *.toml
var files embed.FS

// Files gives the built-in profiles; NAME is the file NAME.toml at its root.
func Files() embed.FS { return files }
