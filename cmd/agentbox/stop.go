package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"agentbox/internal/session"
)

type stopOptions struct {
	run        string // "" is none
	credential string
	reason     string
	force      bool
}

func newStop(a *app) *cobra.Command {
	o := &stopOptions{}
	cmd := &cobra.Command{
		Use: "stop RUN | stop --credential NAME [RUN]", Short: "End a run from any terminal, or what it may use",
		Long: `Asks the run to end (SIGTERM to the agent, then the end of the container after five seconds) and waits until nothing
of it is left. RUN is an id of agentbox ps, or its beginning. The run exits with 137.

With --credential the run goes on without that credential: requests that are on their way with it are cut off, later ones
are refused, and it is revoked where it was issued for the run. Without RUN that happens in every run that has it.

Exit codes: 0 it has ended, 1 there is no such run or credential, or it did not end, 2 usage.`,
		Example: "  agentbox stop 20260102-150405-x7k2\n  agentbox stop x7k2 --force\n  agentbox stop --credential github",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 0 && o.credential == "" {
				return usage(cmd, errors.New("agentbox stop takes one run, or --credential"))
			}
			if o.credential != "" && o.force {
				return usage(cmd, errors.New("--force is for the end of a run, and --credential ends none"))
			}
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			rows, _ := a.rows(cmd.Context(), false) // completion has nobody to tell
			var ids []string
			for _, r := range rows {
				ids = append(ids, r.ID)
			}
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.run = args[0]
			}
			if o.credential != "" {
				return a.stopCredential(cmd.Context(), *o)
			}
			return a.stop(cmd.Context(), *o)
		},
	}
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "leave the agent no time to finish")
	cmd.Flags().StringVar(&o.reason, "reason", "", "why, for the log")
	cmd.Flags().StringVar(&o.credential, "credential", "", "end the use of this credential, and no run")
	return cmd
}

// stopTime is more than a run takes to end and clean up.
const stopTime = 30 * time.Second

func (o stopOptions) text(did string) string {
	if o.reason != "" {
		return did + ": " + o.reason
	}
	return did
}

func (a *app) stop(ctx context.Context, o stopOptions) error {
	info, err := a.session([]string{o.run})
	if err != nil {
		return err
	}
	if !info.Live {
		if paths, err := a.paths(); err == nil {
			a.tellTaken(a.settleDead(ctx, paths))
		}
		return fmt.Errorf("run %s has ended already", info.ID)
	}
	c, err := session.Dial(info)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	if err := c.Stop(ctx, o.text("stopped by agentbox stop"), o.force); err != nil {
		return err
	}
	a.say("run %s has ended", info.ID)
	return nil
}

// stopCredential ends the use of a credential in one run, or in every run that has it. It tries them all.
func (a *app) stopCredential(ctx context.Context, o stopOptions) error {
	var named []string
	if o.run != "" {
		named = []string{o.run}
	}
	var errs []error
	runs, err := a.liveSessions(named)
	if err != nil {
		errs = append(errs, err) // of a run that can't be read; the others are stopped all the same
	}
	stopped := 0
	for _, info := range runs {
		found, err := cutIn(ctx, info, o)
		if err != nil {
			errs = append(errs, fmt.Errorf("stopping credential %q in run %s: %w", o.credential, info.ID, err))
		}
		if found {
			stopped++
			a.say("credential %q is stopped in run %s", o.credential, info.ID)
		}
	}
	if stopped == 0 && len(errs) == 0 {
		return &session.Problem{Err: fmt.Errorf("no run that lives has a credential %q", o.credential), Hint: "agentbox ps lists the runs; agentbox run PROFILE --dry-run shows the credentials of a profile"}
	}
	return errors.Join(errs...)
}

func cutIn(ctx context.Context, info session.Info, o stopOptions) (found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, cutTime)
	defer cancel()
	c, err := session.Dial(info)
	if err != nil {
		return false, err
	}
	defer func() { _ = c.Close() }()
	return c.Cut(ctx, o.credential, o.text("stopped by agentbox stop"))
}
