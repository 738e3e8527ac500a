package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"agentbox/internal/session"
)

func newStop(a *app) *cobra.Command {
	var force bool
	var reason string
	cmd := &cobra.Command{
		Use: "stop RUN", Short: "End a run from any terminal",
		Long: `Asks the run to end (SIGTERM to the agent, then the end of the container after five seconds) and waits until nothing
of it is left. RUN is an id of agentbox ps, or its beginning. The run exits with 137.

Exit codes: 0 it has ended, 1 there is no such run or it did not end, 2 usage.`,
		Example: "  agentbox stop 20260102-150405-x7k2\n  agentbox stop x7k2 --force",
		Args:    exactly(1, "one run"),
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			rows, _ := a.rows(cmd.Context(), false) // completion has nobody to tell
			var ids []string
			for _, r := range rows {
				ids = append(ids, r.ID)
			}
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.stop(cmd.Context(), args[0], reason, force) },
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "leave the agent no time to finish")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log")
	return cmd
}

// stopTime is more than a run takes to end and clean up.
const stopTime = 30 * time.Second

func (a *app) stop(ctx context.Context, run, reason string, force bool) error {
	info, err := a.session([]string{run})
	if err != nil {
		return err
	}
	if !info.Live {
		return fmt.Errorf("run %s has ended already", info.ID)
	}
	c, err := session.Dial(info)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	text := "stopped by agentbox stop"
	if reason != "" {
		text += ": " + reason
	}
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	if err := c.Stop(ctx, text, force); err != nil {
		return err
	}
	a.say("run %s has ended", info.ID)
	return nil
}
