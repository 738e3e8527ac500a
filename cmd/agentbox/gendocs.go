//go:build gendocs

// With the build tag gendocs this program is the one that writes the files which are made from the command line's own
// description and the format's: man/*.1, docs/commands/*.md, docs/KEYS.md, the list in docs/AGENTS.md, schema/*.json and completions/agentbox.ps1. So nothing of it is in the agentbox that is shipped.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"agentbox/cmd/agentbox/manpage"
	"agentbox/cmd/agentbox/reference"
	"agentbox/internal/schema"
)

func main() {
	if err := generate(); err != nil {
		fmt.Fprintf(os.Stderr, "gendocs: %s\n", err)
		os.Exit(1)
	}
}

func generate() error {
	root := newRoot(&app{getenv: os.Getenv})
	manual, err := manpage.Pages(root, extra())
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	for _, p := range manual {
		files["man/"+p.Name] = p.Content
	}
	for _, p := range reference.Verbs(root, extra()) {
		files["docs/commands/"+p.Name] = p.Content
	}
	keys := reference.Keys()
	files["docs/"+keys.Name] = keys.Content
	if err := replace(files, "man/*.1", "docs/commands/*.md"); err != nil {
		return err
	}
	if err := writeSchemas("schema"); err != nil {
		return err
	}
	if err := writeAgents(); err != nil {
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

// replace writes files, by their paths, and takes away those that match and are of verbs that are gone.
func replace(files map[string][]byte, patterns ...string) error {
	for _, pattern := range patterns {
		old, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, f := range old {
			if err := os.Remove(f); err != nil {
				return err
			}
		}
	}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, content, 0o644); err != nil {
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
