package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"agentbox/internal/apply"
	"agentbox/internal/session"
)

type discardOptions struct {
	run string
	yes bool
}

func newDiscard(a *app) *cobra.Command {
	o := &discardOptions{}
	cmd := &cobra.Command{
		Use: "discard [RUN]", Short: "Throw away what a run changed",
		Long: `Throws away the copy of the repository that an agent worked in, with all that it changed there. What was applied stays in
the repository, and can't be taken back by agentbox undo any more. It asks first. A run that goes on can't be discarded:
agentbox stop ends it. Without RUN it is the latest run of this repository that left something.

Exit codes: 0 fine, 1 nothing was thrown away, 2 usage.`,
		Example: "  agentbox discard\n  agentbox discard x7k2 --yes",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, errors.New("agentbox discard takes one run at most"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.run = args[0]
			}
			return a.discard(cmd.Context(), *o)
		},
	}
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) discard(ctx context.Context, o discardOptions) error {
	l, err := a.leftBy(ctx, o.run, func(leftover) bool { return true })
	if err != nil {
		return err
	}
	if err := stillLive(l); err != nil {
		return err
	}
	if !o.yes {
		if err := a.askDiscard(l); err != nil {
			return err
		}
	}
	return a.discardLeft(ctx, l)
}

func stillLive(l leftover) error {
	if !l.info.Live {
		return nil
	}
	return &session.Problem{Err: fmt.Errorf("run %s goes on", l.info.ID), Hint: "agentbox stop " + l.short() + " ends it"}
}

func (a *app) askDiscard(l leftover) error {
	about := fmt.Sprintf("run %s: %s", l.info.ID, times(uint64(len(l.list)), "change"))
	if undoable, err := apply.CanUndo(l.source.Work); err == nil && undoable {
		about += "; what was applied of them stays, and can't be undone afterwards"
	}
	a.say("%s", about)
	yes, err := a.ask("agentbox: "+about+"\n", "throw them away?")
	if errors.Is(err, errNobody) {
		return &sayNext{err, "agentbox discard " + l.short() + " --yes"}
	}
	if err == nil && !yes {
		a.say("nothing was thrown away")
		return exitCode(exitFinding)
	}
	return err
}

// discardLeft throws away what a run changed.
func (a *app) discardLeft(ctx context.Context, l leftover) error {
	if err := session.Discard(l.info, clearing(ctx)); err != nil {
		return err
	}
	if err := forgetCommits(ctx, l.info); err != nil {
		return fmt.Errorf("taking the refs of the run's commits away: %w", err)
	}
	a.say("what run %s changed is thrown away", l.info.ID)
	return nil
}
