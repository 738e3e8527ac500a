package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"agentbox/internal/schema"
)

func newProfileSchema(a *app) *cobra.Command {
	kind := "profile"
	cmd := &cobra.Command{
		Use: "schema [--kind KIND]", Short: "Print the JSON Schema of profiles, for editors",
		Long: `Prints the JSON Schema (draft-07) that editors and TOML checkers complete and check files with: of a profile (and
agentbox.toml), of a named set, or of an organisation's policy. The reader of agentbox check refuses whatever the
schema refuses, and more.

Exit codes: 0 printed, 2 usage.`,
		Example: `  agentbox profile schema >agentbox.schema.json    and in .agentbox/NAME.toml, as the first line: #:schema ../agentbox.schema.json
  agentbox profile schema --kind policy`,
		Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(schema.Kinds(), kind) {
				return usage(cmd, fmt.Errorf("--kind takes %s, not %q", strings.Join(schema.Kinds(), ", "), kind))
			}
			text, err := schema.For(kind)
			if err != nil {
				return err
			}
			_, err = a.out.Write(text)
			return err
		},
	}
	cmd.Flags().StringVar(&kind, "kind", kind, "`KIND` of file: "+strings.Join(schema.Kinds(), ", "))
	return cmd
}
