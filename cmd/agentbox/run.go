package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"agentbox/internal/plan"
	"agentbox/internal/profiles"
	"agentbox/internal/rootfs"
	"agentbox/internal/run"
	"agentbox/internal/run/podman"
	"agentbox/internal/session"
	"agentbox/internal/workspace"
	builtin "agentbox/profiles"
)

type runOptions struct {
	profile    string
	args       []string
	timeout    time.Duration
	timed      bool // --timeout was given
	workspace  string
	connection string
	dryRun     bool
	json       bool
	quiet      bool
	noRepo     bool
}

func newRun(a *app) *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use: "run PROFILE [flags] [-- ARGS]", Short: "Run an agent on this repository, inside the boundary",
		Long: `Runs the agent that PROFILE names in a container that sees this repository and nothing else of the machine, with
agentbox's proxy as the only way out. ARGS go to the agent.

Profiles: claude, codex, opencode, gemini; shell (ARGS are the command; without them, a shell); demo (shows the
boundary in a few seconds); and your own, NAME.toml in ~/.config/agentbox/profiles.

Exit codes: the agent's own; 124 a budget ended it, 125 agentbox failed, 126 refused to start, 127 the agent is not
installed, 128+n a signal, 137 agentbox stop.`,
		Example: `  agentbox run claude
  agentbox run claude -- -p "fix the failing test"
  agentbox run shell -- make test
  agentbox run codex --timeout 30m
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
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return a.profileFiles().Names(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.profile, o.args = args[0], args[1:]
			o.timed = cmd.Flags().Changed("timeout")
			return a.run(cmd.Context(), *o)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.timeout, "timeout", 0, "end the run after this long (exit 124); in place of the profile's; 0 is never")
	f.StringVar(&o.workspace, "workspace", "", "direct or readonly, in place of the profile's")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what the run may do, and do nothing")
	f.BoolVar(&o.json, "json", false, "with --dry-run: the plan as JSON")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no summary at the end")
	f.StringVar(&o.connection, "connection", "", "URI of the Podman service to use")
	f.BoolVar(&o.noRepo, "no-repo-profile", false, "run although the repository has agentbox.toml or .agentbox, which this version does not read")
	return cmd
}

// run is the verb: gather, decide, execute, sum up.
func (a *app) run(ctx context.Context, o runOptions) error {
	if o.json && !o.dryRun {
		return &usageError{errors.New("--json goes with --dry-run"), "agentbox events --json shows what a run did"}
	}
	switch o.workspace {
	case "", string(plan.Direct), string(plan.ReadOnly):
	default:
		return &usageError{fmt.Errorf("--workspace takes direct or readonly, not %q", o.workspace), "agentbox run --help"}
	}
	if a.uid == 0 {
		return &run.Failure{Code: run.CodeRefused, Text: "agentbox does not run as root: an agent that gets out would be root too",
			Hint: "run it as the person whose repository it is; on a machine that has only root, make a user: adduser NAME"}
	}
	profile, config, err := a.load(o.profile)
	if err != nil {
		return err
	}
	paths, err := a.paths()
	if err != nil {
		return err
	}
	if o.dryRun {
		return a.dryRun(ctx, o, paths, profile, config)
	}
	return a.execute(ctx, o, paths, profile, config)
}

// load reads the profile and the person's own configuration.
func (a *app) load(name string) (profiles.Profile, profiles.Config, error) {
	config, err := a.config()
	if err != nil {
		return profiles.Profile{}, config, err
	}
	l, err := profiles.Load(name, a.profileFiles())
	return l.Profile, config, err
}

// profileFiles are the built-in files and the person's own.
func (a *app) profileFiles() profiles.Files {
	files := profiles.Files{BuiltIn: builtin.Files()}
	if paths, err := a.paths(); err == nil {
		files.User, files.UserDir = os.DirFS(paths.Config), paths.Config
	}
	return files
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

// dryRun decides and shows. It asks Podman what it can do, and makes nothing.
func (a *app) dryRun(ctx context.Context, o runOptions, paths session.Paths, profile profiles.Profile, config profiles.Config) error {
	dir, err := os.MkdirTemp("", "agentbox")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	repo, err := a.repository(paths)
	if err != nil {
		return err
	}
	w, err := a.resolve(ctx, o, paths, profile, config, repo, dir)
	if err != nil {
		return err
	}
	w.engine.Close()
	if !o.json {
		return plan.WriteText(a.out, w.plan)
	}
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	return enc.Encode(w.plan)
}

// work is a decided run.
type work struct {
	plan   plan.Plan
	ground ground
	engine *podman.Engine

	installed func() (path string, err error) // waits for the shim on disk
}

// resolve gathers what the plan depends on, while the engine starts, and decides.
func (a *app) resolve(ctx context.Context, o runOptions, paths session.Paths, profile profiles.Profile, config profiles.Config, repo workspace.Repo, dir string) (work, error) {
	engine, facts, err := a.connect(ctx, o, profile, dir)
	if err != nil {
		return work{}, err
	}
	g, err := a.survey(paths, profile, repo)
	if err == nil && !o.noRepo {
		err = refuseRepoProfile(repo.Root)
	}
	if err == nil && o.dryRun { // who looks at the plan wants to see it all; who runs it does not want to wait
		if err = ready(ctx, engine); err == nil {
			facts.Version = engine.Version()
		}
	}
	if err == nil {
		g.host.Engine = facts
		var p plan.Plan
		if p, err = plan.Resolve(inputs(o, profile, config, g, a.terminal() != nil)); err == nil {
			return work{plan: p, ground: g, engine: engine}, nil
		}
	}
	engine.Close()
	return work{}, err
}

// refuseRepoProfile: what a repository says about its own boundary is read by a later version. Passing it over in
// silence could drop a restriction that its people count on.
func refuseRepoProfile(repo string) error {
	for _, name := range []string{"agentbox.toml", ".agentbox"} {
		if _, err := os.Lstat(filepath.Join(repo, name)); err == nil {
			return &run.Failure{Code: run.CodeRefused, Text: fmt.Sprintf("this repository has %s, which this version of agentbox does not read yet", name),
				Hint: "--no-repo-profile runs without it, with the profile alone"}
		}
	}
	return nil
}

func inputs(o runOptions, profile profiles.Profile, config profiles.Config, g ground, terminal bool) plan.Inputs {
	in := plan.Inputs{Profile: profile, Config: config, Args: o.args, Mode: plan.Mode(o.workspace), Host: g.host}
	in.Host.Terminal = terminal
	if o.timed {
		in.Timeout = &o.timeout
	}
	return in
}

// signals are those that a run answers.
func signals() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 8)
	signal.Ignore(syscall.SIGPIPE) // a closed pipe is an error of a write, after which a run still ends in order
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	return c, func() { signal.Stop(c) }
}
