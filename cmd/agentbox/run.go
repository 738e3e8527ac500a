package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"agentbox/internal/event"
	"agentbox/internal/plan"
	"agentbox/internal/profiles"
	"agentbox/internal/rootfs"
	"agentbox/internal/run"
	"agentbox/internal/run/podman"
	"agentbox/internal/session"
	"agentbox/internal/workspace"
)

type runOptions struct {
	profile    string
	args       []string
	timeout    time.Duration
	timed      bool // --timeout was given
	workspace  string
	onExit     string
	connection string
	dryRun     bool
	json       bool
	quiet      bool
	noRepo     bool
	pull       string
}

func newRun(a *app) *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use: "run PROFILE [flags] [-- ARGS]", Short: "Run an agent on this repository, inside the boundary",
		Long: `Runs the agent that PROFILE names in a container that sees this repository and nothing else of the machine, with
agentbox's proxy as the only way out. ARGS go to the agent.

Profiles: the agents' (claude, codex, gemini, opencode and others: "agentbox profile list"); shell (ARGS are the command; without
them, a shell); demo (shows the boundary in a few seconds); your own, NAME.toml in ~/.config/agentbox/profiles; and this repository's, .agentbox/NAME.toml.
What a repository's layers widen is asked about first ("agentbox trust"); where nobody can be asked, the run is refused.

The agent works in a copy, and nothing of it is final until you say so (the review mode): on a terminal you are shown at the end what
it changed, and apply all or some of it, keep it for later (agentbox diff, apply, discard) or throw it away. Without a terminal it is
kept. --workspace direct lets the agent write to your files as it goes.

Exit codes: the agent's own; 124 a budget ended it, 125 agentbox failed, 126 refused to start, 127 the agent is not
installed, 128+n a signal, 137 agentbox stop.`,
		Example: `  agentbox run claude
  agentbox run claude -- -p "fix the failing test"
  agentbox run shell -- make test
  agentbox run codex --timeout 30m
  agentbox run claude --on-exit keep
  agentbox run claude --dry-run`,
		Args: func(cmd *cobra.Command, args []string) error {
			n := cmd.ArgsLenAtDash()
			if n < 0 {
				n = len(args)
			}
			switch {
			case n == 0:
				return usage(cmd, errors.New("agentbox run takes a profile"))
			case n > 1:
				return &usageError{fmt.Errorf("%q comes after the profile", args[1]),
					fmt.Sprintf("arguments for the agent stand behind --: agentbox run %s -- %s", args[0], args[1])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.profile, o.args = args[0], args[1:]
			o.timed = cmd.Flags().Changed("timeout")
			return a.run(cmd.Context(), *o)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.timeout, "timeout", 0, "end the run after this long (exit 124); in place of the profile's; 0 is never")
	f.StringVar(&o.workspace, "workspace", "", "review (works in a copy), direct (writes to your files as it goes) or readonly, in place of the profile's")
	f.StringVar(&o.onExit, "on-exit", "", "apply, keep or discard what was changed in the review mode; without it a terminal shows the review, and else it is kept")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what the run may do, and do nothing")
	f.BoolVar(&o.json, "json", false, "with --dry-run: the plan as JSON")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no summary at the end")
	f.StringVar(&o.connection, "connection", "", "URI of the Podman service to use")
	f.StringVar(&o.pull, "pull", pullMissing, "never, missing (when the image is not here) or newer (also asks the registry whether it still has it): when an image is fetched")
	f.BoolVar(&o.noRepo, "no-repo-profile", false, "leave the repository's agentbox.toml and .agentbox out, with what they forbid")
	return cmd
}

// runsOn refuses systems on which there is no boundary. What holds it (the listeners that a container hands over, a socket
// bound into it) works on one kernel only, and Podman elsewhere is in a virtual machine.
func runsOn(system string) error {
	if system == "linux" {
		return nil
	}
	name := map[string]string{"darwin": "macOS"}[system]
	if name == "" {
		name = system
	}
	return &run.Failure{Code: run.CodeRefused, Text: "agents run on Linux only, and this is " + name + ": its containers live in a virtual machine, into which no boundary of agentbox reaches yet",
		Hint: "run it inside a Linux machine of yours; what checks and explains profiles (agentbox check, why, manifest, diff-plan) works here"}
}

// run is the verb: gather, decide, execute, sum up.
func (a *app) run(ctx context.Context, o runOptions) error {
	if o.json && !o.dryRun {
		return &usageError{errors.New("--json goes with --dry-run"), "agentbox events --json shows what a run did"}
	}
	switch o.workspace {
	case "", string(plan.Direct), string(plan.Review), string(plan.ReadOnly):
	default:
		return &usageError{fmt.Errorf("--workspace takes direct, review or readonly, not %q", o.workspace), "agentbox run --help"}
	}
	if o.onExit != "" && !slices.Contains(onExits(), o.onExit) {
		return &usageError{fmt.Errorf("--on-exit takes apply, keep or discard, not %q", o.onExit), "agentbox run --help"}
	}
	if !slices.Contains(pulls(), o.pull) {
		return &usageError{fmt.Errorf("--pull takes never, missing or newer, not %q", o.pull), "agentbox run --help"}
	}
	if err := runsOn(runtime.GOOS); err != nil {
		return err
	}
	if a.uid == 0 {
		return &run.Failure{Code: run.CodeRefused, Text: "agentbox does not run as root: an agent that gets out would be root too",
			Hint: "run it as the person whose repository it is; on a machine that has only root, make a user: adduser NAME"}
	}
	config, err := a.config()
	if err != nil {
		return err
	}
	paths, repo, err := a.here()
	if err != nil {
		return err
	}
	collected := uncollected()
	d, err := a.decide(o, paths, repo)
	collected()
	if err != nil {
		return err
	}
	if mode := d.grants.Workspace.Mode; o.onExit != "" && mode != plan.Review {
		return &usageError{fmt.Errorf("--on-exit is for the review mode, and this run's workspace is %s: nothing waits at its end", mode), "--workspace review keeps apart what is changed"}
	}
	c := call{runOptions: o, paths: paths, repo: repo, config: config, decision: d}
	if o.dryRun {
		return a.dryRun(ctx, c)
	}
	if o.noRepo {
		a.dropped(d.consent)
	} else if err := a.settle(d.consent); err != nil {
		return err
	}
	return a.execute(ctx, c)
}

// call is one run of the verb: what was asked for, where, and what it comes to.
type call struct {
	runOptions
	decision
	paths  session.Paths
	repo   workspace.Repo
	config profiles.Config

	shim func() (path string, err error) // waits for the shim on disk
}

// onHost reports whether the programs inside are this machine's own.
func (c call) onHost() bool { return c.grants.Agent.Rootfs == "host" }

// decide reads the layers of the profile and shows what is likely a mistake in them.
func (a *app) decide(o runOptions, paths session.Paths, repo workspace.Repo) (decision, error) {
	floors, err := readFloors(policyFile)
	if err != nil {
		return decision{}, err
	}
	l, err := a.layers(paths, repo.Root)
	if err != nil {
		return decision{}, err
	}
	if o.noRepo {
		l = l.withoutRepo()
	}
	fl := flags{mode: plan.Mode(o.workspace)}
	if o.timed {
		fl.timeout = &o.timeout
	}
	d, err := l.decide(o.profile, floors, fl)
	if err == nil && !o.quiet {
		a.warn(d.warnings)
	}
	return d, err
}

func (a *app) config() (profiles.Config, error) {
	paths, err := a.paths()
	if err != nil {
		return profiles.Config{}, err
	}
	file := filepath.Join(paths.Config, "config.toml")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return profiles.Config{}, nil
	}
	if err != nil {
		return profiles.Config{}, fmt.Errorf("reading your configuration: %w", err)
	}
	return profiles.LoadConfig(data, file)
}

func (a *app) paths() (session.Paths, error) { return session.FindPaths(os.LookupEnv, a.uid) }

func private(p session.Paths) []string { return []string{p.Config, p.State, p.Runtime, p.Cache} }

func isNotFound(err error) bool { return errors.Is(err, rootfs.ErrNotFound) }

// dryRun decides and shows. It makes nothing, and fails as the run would.
func (a *app) dryRun(ctx context.Context, c call) error {
	defer uncollected()()
	dir, err := os.MkdirTemp("", "agentbox-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	c.shim = installing(dir)
	w, err := a.resolve(ctx, c, dir)
	if err != nil && !showable(err) {
		return err
	}
	if c.json {
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(w.plan); err != nil {
			return err
		}
	} else if err := a.writePlan(w.plan); err != nil {
		return err
	}
	if !c.consent.settled() && !c.noRepo {
		writeConsents(a.err, []consent{c.consent})
		return errors.Join(err, untrusted(c.consent.alone))
	}
	return err
}

// showable reports errors that come with a plan, which is worth a look although it can't be run here.
func showable(err error) bool {
	var absent *plan.NotFound
	var refusal *plan.Refusal
	return errors.As(err, &absent) || errors.As(err, &refusal) && len(refusal.Gaps) > 0
}

func (a *app) writePlan(p plan.Plan) error {
	var b strings.Builder
	if err := plan.WriteText(&b, p); err != nil {
		return err
	}
	_, err := io.WriteString(a.out, escapedLines(b.String()))
	return err
}

// work is a decided run.
type work struct {
	plan   plan.Plan
	ground ground
	engine *podman.Engine
	config profiles.Config
	keeps  keptHere
	before []event.Event // what happened before there was a log

	installed func() (path string, err error) // waits for the shim on disk
}

// resolve gathers what the plan depends on, while the engine starts, and decides. A plan that this version can't carry
// out is given with the error that says so.
func (a *app) resolve(ctx context.Context, c call, dir string) (work, error) {
	engine, facts, err := a.connect(ctx, c, dir)
	if err != nil {
		return work{}, err
	}
	w, err := a.resolved(ctx, c, engine, facts)
	if err != nil || c.dryRun {
		engine.Close()
	}
	return w, err
}

func (a *app) resolved(ctx context.Context, c call, engine *podman.Engine, facts plan.EngineFacts) (work, error) {
	g, err := a.survey(ctx, c, engine)
	if err != nil {
		return work{}, err
	}
	if c.dryRun { // who looks at the plan wants to see it all; who runs it does not want to wait
		if err := ready(ctx, engine); err != nil {
			return work{}, err
		}
		facts.Version = engine.Version()
	}
	g.host.Engine, g.host.Terminal = facts, a.terminal() != nil
	in := plan.Inputs{Profile: c.decision.profile, Floors: c.floors, Config: c.config, Manifest: c.manifest, Args: c.args, Mode: plan.Mode(c.workspace), Host: g.host}
	if c.timed {
		in.Timeout = &c.timeout
	}
	in.Host.Image = namedImage(c.grants)
	p, err := plan.Resolve(in)
	if err != nil || c.onHost() {
		return work{plan: p, ground: g, engine: engine}, err
	}
	var before []event.Event
	if in.Host.Image, before, err = a.rootImage(ctx, c, engine); err != nil {
		return work{}, err
	}
	p, err = plan.Resolve(in)
	return work{plan: p, ground: g, engine: engine, before: before}, err
}

// signals are those that a run answers.
func signals() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 8)
	signal.Ignore(syscall.SIGPIPE) // a closed pipe is an error of a write, after which a run still ends in order
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	return c, func() { signal.Stop(c) }
}
