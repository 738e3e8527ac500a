package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"agentbox/internal/run/podman"
	"agentbox/internal/session"
)

func newPs(a *app) *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use: "ps", Short: "List the runs",
		Long:    "Lists the runs that live; with --all the ended ones too. WAITING is how many questions wait for you: agentbox approvals.\n\nExit codes: 0 fine, 1 a run's record can't be read, 2 usage.",
		Example: "  agentbox ps\n  agentbox ps --all --json",
		Args:    exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := a.rows(cmd.Context(), all)
			if asJSON {
				if jerr := json.NewEncoder(a.out).Encode(rows); jerr != nil {
					return jerr
				}
				return err
			}
			if perr := a.printRows(rows); perr != nil {
				return perr
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "the ended ones too")
	return cmd
}

// row is a run as ps shows it.
type row struct {
	session.Info
	Status *session.Status `json:"status,omitempty"` // nil for a run that has ended or does not answer
}

// answerTime bounds how long ps waits for one run.
const answerTime = 2 * time.Second

func (a *app) rows(ctx context.Context, all bool) ([]row, error) {
	paths, err := a.paths()
	if err != nil {
		return nil, err
	}
	if err := a.tidyDead(ctx, paths); err != nil {
		a.say("tidying after a run that was killed: %s", err)
	}
	a.tellTaken(a.settleDead(ctx, paths))
	infos, err := session.List(paths)
	rows := []row{}
	for _, i := range infos {
		if !i.Live && !all {
			continue
		}
		r := row{Info: i}
		if i.Live {
			r.Status = status(ctx, i)
		}
		rows = append(rows, r)
	}
	return rows, err
}

func status(ctx context.Context, i session.Info) *session.Status {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	c, err := session.Dial(i)
	if err != nil {
		return nil
	}
	defer func() { _ = c.Close() }()
	s, err := c.Status(ctx)
	if err != nil {
		return nil
	}
	return &s
}

func (a *app) printRows(rows []row) error {
	if len(rows) == 0 {
		a.say("nothing runs; agentbox ps --all lists what ran")
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RUN\tPROFILE\tSTATE\tAGE\tALLOWED\tREFUSED\tWAITING\tREPO")
	for _, r := range rows {
		var state string
		allowed, refused, waiting := "-", "-", "-"
		switch {
		case r.End != nil:
			state = fmt.Sprintf("exit %d", r.End.ExitCode)
		case r.Status != nil:
			state, allowed, refused = r.Status.State, fmt.Sprint(r.Status.Allowed), fmt.Sprint(r.Status.Denied)
			waiting = fmt.Sprint(r.Status.Waiting)
		case r.Live:
			state = "no answer"
		default:
			state = session.Died
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Profile, state, age(time.Since(r.Started)), allowed, refused, waiting, printable(r.Repo))
	}
	return w.Flush()
}

func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// tidyDead removes what is left of runs whose agentbox was killed. Podman is asked only when there are any.
func (a *app) tidyDead(ctx context.Context, paths session.Paths) error {
	var e *podman.Engine
	defer func() {
		if e != nil {
			e.Close()
		}
	}()
	_, err := session.Tidy(paths, time.Now(), func(i session.Info) (err error) {
		if e == nil {
			if e, err = podman.Connect(ctx, podman.Options{URI: i.Engine, Dir: paths.Runtime}); err != nil {
				return err
			}
		}
		return removed(ctx, e, i)
	})
	return err
}
