package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"agentbox/internal/apply"
	"agentbox/internal/session"
)

func newUndo(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "undo [RUN]", Short: "Take back what agentbox apply did",
		Long: `Puts back what every apply of the run replaced. What you have changed since stays as it is, and is named. What the run changed
is kept, and can be applied again.

Of a RUN in direct mode, which changed the repository itself, what your own tools would execute is put back as it was before.

Without RUN it is the latest run of this repository, in either mode, of which something can be taken back.

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
	info, err := a.undoable(run)
	switch {
	case err != nil:
		return err
	case changedDirectly(info) && (run != "" || pendingDirectly(info) > 0):
		return a.undoDirect(ctx, info, nil, asJSON)
	}
	l, err := openLeft(ctx, info)
	if err != nil {
		return err
	}
	if !canUndo(l.source.Work) {
		return fmt.Errorf("of run %s nothing was applied", l.info.ID)
	}
	a.say("run %s (%s, review mode): taking back what was applied of it", l.short(), printable(info.Profile))
	report, err := apply.Undo(ctx, l.source)
	return a.tellReport(l, report, err, asJSON)
}

// undoable is the run that is named, else the latest of this repository of which something can be taken back.
func (a *app) undoable(run string) (session.Info, error) {
	if run != "" {
		return a.session([]string{run})
	}
	all, root, err := a.runsHere()
	if err != nil {
		return session.Info{}, err
	}
	for _, info := range slices.Backward(all) {
		if pendingDirectly(info) > 0 || hasWork(info) && canUndo(filepath.Join(info.Dir, session.WorkDir)) {
			return info, nil
		}
	}
	return session.Info{}, &session.Problem{Err: fmt.Errorf("no run in %s left anything that can be taken back", root),
		Hint: "`agentbox ps --all` lists the runs"}
}

func canUndo(work string) bool {
	undoable, err := apply.CanUndo(work)
	return err != nil || undoable // what can't be read, Undo complains of
}
