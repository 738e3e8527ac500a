package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"agentbox/internal/apply"
	"agentbox/internal/session"
	"agentbox/internal/tui"
)

type applyOptions struct {
	run         string
	paths       []string // below the repository's top, once the run is known
	all         bool
	willExecute bool
	json        bool
}

func newApply(a *app) *cobra.Command {
	o := &applyOptions{}
	c := commitOptions{}
	cmd := &cobra.Command{
		Use: "apply [RUN] [--all | PATHS...]", Short: "Take what a run changed into the repository",
		Long: `Takes what an agent changed in its copy of the repository into the repository itself: while the run goes on, and afterwards for
as long as it is kept. Without --all and PATHS it shows the review, in which files and hunks are picked. Without RUN it is the
latest run of this repository that changed something; RUN is an id of agentbox ps --all, or its beginning. PATHS are as for
git, directories with all below them; what could be mistaken for a run stands behind "--".

What your own tools would execute later (hooks, scripts of package.json, CI workflows, an editor's tasks, an agent's
instructions ...) is left out, and named, unless --will-execute is given as well. A file that you have changed since the run
began is merged; where both changed the same lines yours stays, and the agent's is laid beside it. agentbox undo takes an apply back.

Exit codes: 0 fine, 1 something that was asked for was not applied, 2 usage.`,
		Example: "  agentbox apply\n  agentbox apply --all\n  agentbox apply x7k2 src docs/guide.md\n  agentbox apply --will-execute package.json",
		Args: func(cmd *cobra.Command, args []string) error {
			if o.willExecute && !o.all && !c.commits && len(args) == 0 {
				return usage(cmd, errors.New("--will-execute goes with --all or with paths"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.run, o.paths, err = a.runAndPaths(cmd, args); err != nil {
				return err
			}
			if c.commits {
				c.willExecute, c.json = o.willExecute, o.json
				return a.commitsOnto(cmd, o.run, o.paths, c)
			}
			if o.all && len(o.paths) > 0 {
				return usage(cmd, errors.New("--all is everything, and paths are some of it"))
			}
			return a.apply(cmd.Context(), *o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "everything, but what would execute later")
	f.BoolVar(&o.willExecute, "will-execute", false, "with --all or PATHS: also what your own tools would execute later")
	f.BoolVar(&o.json, "json", false, "what became of each path, as JSON")
	c.addFlags(f)
	return cmd
}

func (a *app) apply(ctx context.Context, o applyOptions) error {
	l, err := a.leftBy(ctx, o.run, func(l leftover) bool { return hasChanges(l) || cutShort(l) })
	if err != nil {
		return err
	}
	if o.paths, err = inRepo(l.source.Base.Root, o.paths); err != nil {
		return err
	}
	resumed := cutShort(l)
	if resumed {
		if err := a.resume(ctx, l, o.json); err != nil {
			return err
		}
	}
	switch {
	case o.all || len(o.paths) > 0:
		return a.applySome(ctx, o, l)
	case a.terminal() != nil:
		return a.review(ctx, l)
	case resumed:
		return nil
	}
	return &usageError{errors.New("there is no terminal to pick at, and neither --all nor paths are given"),
		fmt.Sprintf("agentbox diff %[1]s --stat lists the changes; agentbox apply %[1]s --all takes all of them", l.short())}
}

// cutShort reports whether an apply of the run was killed before it was done.
func cutShort(l leftover) bool {
	unfinished, err := apply.Unfinished(l.source.Work)
	return err == nil && unfinished // what can't be read, Apply itself complains of
}

// resume finishes an apply that was cut short: it was asked for.
func (a *app) resume(ctx context.Context, l leftover, asJSON bool) error {
	a.say("an apply of run %s was cut short: it is finished first", l.info.ID)
	report, err := apply.Resume(ctx, l.source)
	return a.tellReport(l, report, err, asJSON)
}

// applySome applies what the command line says.
func (a *app) applySome(ctx context.Context, o applyOptions, l leftover) error {
	list, err := only(l.list, o.paths)
	if err != nil {
		return err
	}
	if o.willExecute && l.info.Live {
		return &session.Problem{Err: errors.New("the agent still works, and can change what would execute after you looked at it"),
			Hint: fmt.Sprintf("agentbox apply %s takes what you see in the review; or wait for the end of the run", l.short())}
	}
	sel := apply.Selection{All: o.all, Paths: o.paths, AllLater: o.all && o.willExecute}
	if slices.Contains(o.paths, ".") {
		sel.All, sel.Paths = true, nil
	}
	if o.willExecute && !o.all {
		for _, c := range list {
			if c.Later != "" {
				sel.Later = append(sel.Later, c.Path)
			}
		}
	}
	report, err := apply.Apply(ctx, l.source, sel)
	return a.tellApplied(l, report, err, o)
}

// tellApplied says what an apply came to. What would execute later is left out of --all as said, and is no finding there.
func (a *app) tellApplied(l leftover, report apply.Report, err error, o applyOptions) error {
	err = a.tellReport(l, report, err, o.json)
	var code exitCode
	if o.all && errors.As(err, &code) && onlyWaiting(report) {
		return nil
	}
	return err
}

func onlyWaiting(r apply.Report) bool {
	return !slices.ContainsFunc(r.Outcomes, func(o apply.Outcome) bool {
		return !fine(o.Result) && o.Result != apply.Waiting && o.Result != apply.Refused
	})
}

// fine reports whether a path is as it was asked for.
func fine(r apply.Result) bool {
	switch r {
	case apply.Applied, apply.Merged, apply.Already, apply.Restored:
		return true
	}
	return false
}

// tellReport prints what became of the paths: all of them as JSON, else those that are not simply done. It ends with
// exit code 1 where something is not as it was asked for.
func (a *app) tellReport(l leftover, r apply.Report, failed error, asJSON bool) error {
	if asJSON {
		if r.Outcomes == nil {
			r.Outcomes = []apply.Outcome{}
		}
		if err := json.NewEncoder(a.out).Encode(r); err != nil {
			return errors.Join(failed, err)
		}
	} else if err := a.printReport(l, r); err != nil {
		return errors.Join(failed, err)
	}
	switch {
	case errors.Is(failed, apply.ErrUnfinished):
		return &sayNext{failed, fmt.Sprintf("agentbox apply %[1]s finishes it, agentbox undo %[1]s takes it back", l.short())}
	case failed != nil:
		return &sayNext{fmt.Errorf("applying what run %s changed: %w", l.info.ID, failed),
			fmt.Sprintf("agentbox apply %[1]s goes on where it stopped, agentbox undo %[1]s takes it back", l.short())}
	case slices.ContainsFunc(r.Outcomes, func(o apply.Outcome) bool { return !fine(o.Result) }):
		return exitCode(exitFinding)
	}
	return nil
}

// sayNext is an error with what to do next.
type sayNext struct {
	error
	hint string
}

func (e *sayNext) Unwrap() error { return e.error }

// Hint says what to do next.
func (e *sayNext) Hint() string { return e.hint }

// words are the results as they are told.
func words(r apply.Result) string {
	switch r {
	case apply.Waiting:
		return "left out"
	case apply.Stale:
		return "changed since"
	case apply.Refused:
		return "never applied"
	}
	return string(r)
}

func (a *app) printReport(l leftover, r apply.Report) error {
	for _, o := range r.Outcomes {
		if o.Result == apply.Applied || o.Result == apply.Already || o.Result == apply.Restored {
			continue
		}
		if _, err := fmt.Fprintln(a.out, outcomeLine(o)); err != nil {
			return err
		}
	}
	line := ""
	for _, one := range []apply.Result{apply.Applied, apply.Merged, apply.Already, apply.Restored, apply.Conflict, apply.Waiting, apply.Stale, apply.Refused, apply.Kept, apply.Failed} {
		if n := r.Count(one); n > 0 {
			line += fmt.Sprintf(", %d %s", n, words(one))
		}
	}
	if line == "" {
		line = ", there was nothing to do"
	}
	a.say("run %s: %s", l.short(), line[2:])
	if r.Count(apply.Waiting) > 0 {
		a.say("what would execute later needs a yes of its own: agentbox apply %s --will-execute PATHS", l.short())
	}
	if r.Count(apply.Applied)+r.Count(apply.Merged) > 0 {
		a.say("agentbox undo %s takes it back", l.short())
	}
	return nil
}

func outcomeLine(o apply.Outcome) string {
	line := fmt.Sprintf("%-13s  %s", words(o.Result), tui.Escaped(o.Path))
	if o.Why != "" {
		line += ": " + tui.Escaped(o.Why)
	}
	if o.Beside != "" {
		line += "; the agent's version: " + tui.Escaped(o.Beside)
	}
	return line
}

// selection is what was picked in a review, as an apply takes it: each path by itself. Paths of a Selection would bring along
// what lies below a directory, and so what the person left out, or what an agent that goes on made there since.
func selection(picks []tui.Pick) apply.Selection {
	sel := apply.Selection{Hunks: map[string][]string{}, Seen: map[string]string{}}
	for _, p := range picks {
		path := p.Change.Path
		sel.Hunks[path] = p.Hunks // no hunks are all
		sel.Seen[path] = p.Change.Mark
		if p.Change.Later != "" {
			sel.Later = append(sel.Later, path)
		}
	}
	return sel
}
