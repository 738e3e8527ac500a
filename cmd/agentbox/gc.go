package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"agentbox/internal/kept"
	"agentbox/internal/profiles"
	"agentbox/internal/session"
	"agentbox/internal/workspace"
)

type gcOptions struct {
	dryRun, json           bool
	caches, state, reviews bool
	older                  string
	age                    time.Duration
}

func newGc(a *app) *cobra.Command {
	o := &gcOptions{}
	cmd := &cobra.Command{
		Use: "gc", Short: "Remove what runs left, and show what remains",
		Long: `Removes what ended runs left behind and nobody needs: containers, their roots, sockets and scratch files, what the kernel
kept beside an overlay. Then it looks at every place of agentbox's own and lists all that remains, with its size, its age
and why it stays.

What a person may still want is removed when it is asked for, and never else: --caches for the caches of tools, --state for
what agents keep of their own home, --reviews for changes that wait for a review, which goes with --older-than. With
--older-than the other two leave alone what a run has used since. What a run uses at this moment stays. Logs of runs
stay.

Exit codes: 0 fine, 1 something could not be removed or looked at, and is named, 2 usage.`,
		Example: "  agentbox gc\n  agentbox gc --dry-run\n  agentbox gc --caches --older-than 30d\n  agentbox gc --reviews --older-than 90d",
		Args:    exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return usage(cmd, err)
			}
			return a.gc(cmd.Context(), *o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be removed, and remove nothing")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.BoolVar(&o.caches, "caches", false, "the caches of tools that are kept between runs too")
	f.BoolVar(&o.state, "state", false, "what agents keep of their own home too")
	f.BoolVar(&o.reviews, "reviews", false, "changes of ended runs that nobody has taken or thrown away too; with --older-than")
	f.StringVar(&o.older, "older-than", "", "of those, only what is older than this, such as 30d or 12h")
	return cmd
}

func (o *gcOptions) check() error {
	if o.older == "" {
		if o.reviews {
			return errors.New("--reviews throws work away, and goes with --older-than, such as --older-than 30d")
		}
		return nil
	}
	if !o.caches && !o.state && !o.reviews {
		return errors.New("--older-than says how old, and --caches, --state or --reviews of what")
	}
	var d profiles.Duration
	if err := d.UnmarshalText([]byte(o.older)); err != nil {
		return err
	}
	o.age = time.Duration(d)
	return nil
}

// old reports whether something is old enough to go.
func (o gcOptions) old(since, now time.Time) bool { return o.age == 0 || now.Sub(since) > o.age }

// gc is the verb: remove, look, tell.
func (a *app) gc(ctx context.Context, o gcOptions) error {
	paths, err := a.paths()
	if err != nil {
		return err
	}
	c := &collector{app: a, o: o, paths: paths, now: time.Now(), report: report{Removed: []item{}, Remains: []item{}, Failed: []item{}}}
	if !o.dryRun {
		c.dead(ctx)
	}
	c.sessions(ctx)
	c.survivors(ctx)
	c.containers(ctx)
	c.runtime()
	c.rest()
	if o.json {
		err = json.NewEncoder(a.out).Encode(c.report)
	} else {
		err = a.printCollected(c.report, o.dryRun)
	}
	if err == nil && len(c.report.Failed) > 0 {
		return exitCode(exitFinding)
	}
	return err
}

// collector removes what may go and takes down what stays.
type collector struct {
	*app
	o      gcOptions
	paths  session.Paths
	now    time.Time
	runs   map[string]session.Info // by id
	report report
}

// dead deals with runs whose agentbox was killed, as the next run would.
func (c *collector) dead(ctx context.Context) {
	if err := c.tidyDead(ctx, c.paths); err != nil {
		c.report.fail(item{Kind: "run", Path: c.paths.Runtime, Why: "what a run left that was killed"}, err)
	}
	c.tellTaken(c.settleDead(ctx, c.paths))
}

// sessions goes through the runs: what they changed, and their logs.
func (c *collector) sessions(ctx context.Context) {
	all, err := session.List(c.paths)
	if err != nil {
		c.report.fail(item{Kind: "run", Path: filepath.Join(c.paths.State, "sessions")}, err)
	}
	c.runs = map[string]session.Info{}
	for _, i := range all {
		c.runs[i.ID] = i
		c.session(ctx, i)
	}
}

func (c *collector) session(ctx context.Context, i session.Info) {
	one := item{Kind: "log", Path: i.Dir, Run: i.ID, Repo: i.Repo, Profile: i.Profile, Since: i.Started}
	if i.End != nil {
		one.Since = i.End.Time
	}
	switch {
	case i.Live:
		one.Kind, one.Why = "run", "the run goes on"
	case i.End == nil && c.o.dryRun:
		one.Kind, one.Why = "run", "the run was killed: its container and scratch files"
		c.report.remove(one)
		return
	case i.End == nil:
		one.Kind, one.Why = "run", "the run was killed, and something of it is still served"
	case session.HasWork(i.Dir):
		c.work(ctx, i, one)
		return
	default:
		one.Why = "the plan and the events of a run"
	}
	c.report.remain(one)
}

// work is what a run in the review mode changed.
func (c *collector) work(ctx context.Context, i session.Info, one item) {
	defer c.logOf(one)
	one.Kind, one.Path, one.Why = "changes", filepath.Join(i.Dir, session.WorkDir), "they wait for you: agentbox diff "+leftover{info: i}.short()
	if c.o.reviews && c.o.old(one.Since, c.now) {
		one.Why = "nobody took them or threw them away"
		c.take(one, func() error { return c.throwAway(ctx, i) })
		return
	}
	if !c.o.dryRun {
		if err := workspace.Unmounted(one.Path, clearing(ctx)); err != nil {
			c.report.fail(one, err)
			return
		}
	}
	c.report.remain(one)
}

// logOf lists what there is of a run beside its work.
func (c *collector) logOf(one item) {
	one.Why = "the plan and the events of a run"
	one = one.measured()
	work := item{Path: filepath.Join(one.Path, session.WorkDir)}.measured()
	one.Bytes, one.Files, one.More = one.Bytes-work.Bytes, one.Files-work.Files, one.More && !work.More
	c.report.remain(one)
}

func (c *collector) throwAway(ctx context.Context, i session.Info) error {
	if err := session.Discard(i, clearing(ctx)); err != nil {
		return err
	}
	return forgetCommits(ctx, i)
}

// survivors goes through the caches and the state that outlive runs.
func (c *collector) survivors(ctx context.Context) {
	for _, k := range []struct {
		root, kind, flag string
		asked            bool
	}{{cachesRoot(c.paths), "cache", "--caches", c.o.caches}, {stateRoot(c.paths), "state", "--state", c.o.state}} {
		all, err := kept.List(k.root)
		if err != nil {
			c.report.fail(item{Kind: k.kind, Path: k.root}, err)
		}
		for _, e := range all {
			one := item{Kind: k.kind, Path: e.Path, Name: e.Name, Repo: e.Repo, Profile: e.Profile, Since: e.Used}
			switch {
			case e.Strange != "":
				c.report.fail(one, errors.New(e.Strange))
			case k.asked && c.o.old(e.Used, c.now):
				c.takeKept(ctx, one, e)
			default:
				one.Why = "kept for later runs, until agentbox gc " + k.flag
				c.report.remain(one)
			}
		}
	}
}

func (c *collector) takeKept(ctx context.Context, one item, e kept.Entry) {
	if c.o.dryRun {
		c.report.remove(one)
		return
	}
	one = one.measured()
	switch err := kept.Remove(e, clearing(ctx)); {
	case errors.Is(err, kept.ErrInUse):
		one.Why = "a run uses it"
		c.report.remain(one)
	case err != nil:
		c.report.fail(one, err)
	default:
		c.report.remove(one)
	}
}

// take removes something that was asked for.
func (c *collector) take(one item, remove func() error) {
	one = one.measured()
	if !c.o.dryRun {
		if err := remove(); err != nil {
			c.report.fail(one, err)
			return
		}
	}
	c.report.remove(one)
}

// unexpected is for places where only what is known should be.
func unexpected(name string) error { return fmt.Errorf("nobody knows whose %q is", name) }
