//go:build gendocs

// With the build tag gendocs this program is the one that writes the files which are made from the command line's own
// description and the format's: man/*.1, schema/*.json and completions/agentbox.ps1. So nothing of it is in the agentbox that is shipped.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"agentbox/cmd/agentbox/manpage"
	"agentbox/internal/schema"
)

func main() {
	if err := generate(); err != nil {
		fmt.Fprintf(os.Stderr, "gendocs: %s\n", err)
		os.Exit(1)
	}
}

func generate() error {
	if err := writePages("man"); err != nil {
		return err
	}
	if err := writeSchemas("schema"); err != nil {
		return err
	}
	var script bytes.Buffer
	if err := newRoot(&app{getenv: os.Getenv}).GenPowerShellCompletionWithDesc(&script); err != nil {
		return err
	}
	return os.WriteFile("completions/agentbox.ps1", script.Bytes(), 0o644)
}

func writeSchemas(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, kind := range schema.Kinds() {
		text, err := schema.For(kind)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, kind+".schema.json"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writePages puts a page for each verb into dir, and takes away those of verbs that are gone.
func writePages(dir string) error {
	pages, err := manpage.Pages(newRoot(&app{getenv: os.Getenv}), extra())
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		return err
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range pages {
		if err := os.WriteFile(filepath.Join(dir, p.Name), p.Content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func extra() []manpage.Extra {
	return []manpage.Extra{{Title: "FILES", Text: `Profiles, later ones on top of earlier ones; all but the first may be absent:

  (built in)                              agentbox profile show NAME prints one
  agentbox.toml                           of the repository, for every profile
  .agentbox/NAME.toml                     of the repository, a profile
  ~/.config/agentbox/agentbox.toml        yours, for every profile
  ~/.config/agentbox/profiles/NAME.toml   yours, a profile
  /etc/agentbox/policy.toml               your organisation's: nothing loosens it

Besides them:

  ~/.config/agentbox/config.toml          your own routing to model servers
  ~/.config/agentbox/sets/NAME.toml       named sets of network rules
  ~/.local/state/agentbox/sessions/       a directory a run: its plan and its events`},
		{Title: "ENVIRONMENT", Text: `XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_CACHE_HOME and XDG_RUNTIME_DIR move the files above. NO_COLOR keeps the output
plain. CONTAINER_HOST names the Podman service, as it does for Podman.`}}
}
