package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"agentbox/completions"
)

func newCompletion(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use: "completion SHELL", Short: "Print what a shell needs to complete agentbox's command line",
		Long: `Prints a script for bash, zsh, fish or powershell that completes verbs, flags, profiles (this repository's own too),
hosts, runs and credentials. A completion reads names and nothing else of a repository, and runs nothing but agentbox.

Exit codes: 0 printed, 2 usage.`,
		Example: `  source <(agentbox completion bash)                                        now; in ~/.bashrc: from now on
  agentbox completion zsh >"${fpath[1]}/_agentbox"
  agentbox completion fish >~/.config/fish/completions/agentbox.fish
  agentbox completion powershell | Out-String | Invoke-Expression`,
		Args:      exactly(1, "one shell: bash, zsh, fish or powershell"),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			script, ok := completions.For(args[0])
			if !ok {
				return usage(cmd, fmt.Errorf("there is no completion for %q: bash, zsh, fish, powershell", args[0]))
			}
			_, err := a.out.Write(script)
			return err
		},
	}
}
