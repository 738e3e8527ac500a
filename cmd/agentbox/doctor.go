package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"agentbox/internal/doctor"
	"agentbox/internal/profiles"
	"agentbox/internal/shimbin"
)

func newDoctor(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what this machine lacks to run agents, and how to fix it",
		Long: `Looks at Podman, user namespaces, subordinate ids, cgroups, runtimes, the keyring, and the upstream proxy and client
certificates of your config.toml. For each problem it prints the exact fix. Changes nothing.

Exit codes: 0 agents can run here, 1 something keeps them from running.`,
		Example: "  agentbox doctor\n  agentbox doctor --json | jq '.[] | select(.status == \"fail\")'",
		Args:    exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			paths, err := a.paths()
			if err != nil {
				return err
			}
			m := doctor.Here(paths.State)
			m.Shim = shimbin.Check
			m.Upstream = func() (profiles.Upstream, error) {
				config, err := a.config()
				return config.Upstream, err
			}
			findings := doctor.Run(cmd.Context(), m)
			if asJSON {
				err = json.NewEncoder(a.out).Encode(findings)
			} else {
				err = doctor.WriteText(a.out, findings)
			}
			if err == nil && doctor.Failed(findings) {
				return exitCode(exitFinding)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
