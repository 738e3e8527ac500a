package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"agentbox/internal/apply"
)

func newUndo(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "undo [RUN]", Short: "Take back what agentbox apply did",
		Long: `Puts back what every apply of the run replaced. What you have changed since stays as it is, and is named. Without RUN it is
the latest run of this repository of which something was applied. What the run changed is kept, and can be applied again.

Of a RUN in direct mode, which changed the repository itself, what your own tools would execute is put back as it was before.

Exit codes: 0 fine, 1 something stays as it is, or there is nothing to take back, 2 usage.`,
		Example: "  agentbox undo\n  agentbox undo x7k2",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, errors.New("agentbox undo takes one run at most"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			run := ""
			if len(args) == 1 {
				run = args[0]
			}
			return a.undo(cmd.Context(), run, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "what became of each path, as JSON")
	return cmd
}

func (a *app) undo(ctx context.Context, run string, asJSON bool) error {
	if run != "" {
		info, err := a.session([]string{run})
		if err != nil {
			return err
		}
		if changedDirectly(info) {
			return a.undoDirect(ctx, info, nil, asJSON)
		}
	}
	l, err := a.leftBy(ctx, run, canUndo)
	if err != nil {
		return err
	}
	if !canUndo(l) {
		return fmt.Errorf("of run %s nothing was applied", l.info.ID)
	}
	report, err := apply.Undo(ctx, l.source)
	return a.tellReport(l, report, err, asJSON)
}

func canUndo(l leftover) bool {
	undoable, err := apply.CanUndo(l.source.Work)
	return err != nil || undoable // what can't be read, Undo complains of
}
