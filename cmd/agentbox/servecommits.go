package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"agentbox/internal/commits"
	"agentbox/internal/plan"
	"agentbox/internal/run"
	"agentbox/internal/run/podman"
	"agentbox/internal/session"
	"agentbox/internal/workspace"
)

// serveVerb is what git starts, by commitServer, to speak with a run's repository.
const serveVerb = "serve-commits"

// maxPack bounds what is taken of a run's commits where the run has no limit of its own.
const maxPack = 1 << 30

// newServeCommits is no verb for people. Its last argument is git's, the path that it believes to fetch from.
func newServeCommits(a *app) *cobra.Command {
	return &cobra.Command{
		Use: serveVerb + " RUN PATH", Hidden: true, Args: exactly(2, "a run and a path"), DisableFlagsInUseLine: true,
		Short: "Speak as git-upload-pack for the commits of a run, out of a sandbox (git starts this, on agentbox's behalf)",
		RunE:  func(cmd *cobra.Command, args []string) error { return a.serveCommits(cmd.Context(), args[0]) },
	}
}

// commitServer is the command that serves the commits of a run. It is given what Podman needs, and no secret.
func (a *app) commitServer(id string) (commits.Server, error) {
	self, err := os.Executable()
	if err != nil {
		return commits.Server{}, err
	}
	s := commits.Server{Command: []string{self, serveVerb, id}}
	for _, name := range []string{"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "CONTAINER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF",
		"DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"} {
		if value := a.getenv(name); value != "" {
			s.Env = append(s.Env, name+"="+value)
		}
	}
	return s, nil
}

// serveCommits stands between git, on the standard streams, and the sandbox.
func (a *app) serveCommits(ctx context.Context, id string) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, run.ServeTime)
	defer cancel()
	dir, err := os.MkdirTemp("", "agentbox-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, podman.RemoveAll(ctx, dir)) }()
	p, s, closeEngine, err := a.serving(ctx, id, dir)
	if err != nil {
		return err
	}
	defer closeEngine()
	return a.relay(ctx, s, commits.Remaining(p.packLimit(), a.getenv))
}

// relay hands on what the sandbox says, and ends it when that is not to be believed any more.
func (a *app) relay(ctx context.Context, s run.Serving, limit int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out, in := io.Pipe()
	said := &firstBytes{left: 500}
	s.In, s.Out, s.Err = a.in, in, said
	relayed := make(chan error, 1)
	go func() {
		left, err := commits.Relay(out, a.out, limit)
		if left > 0 {
			a.say("%d branches of the run are left out: there are too many, or git takes no such names", left)
		}
		if err != nil {
			cancel(err)
		}
		_ = out.CloseWithError(errors.New("nothing more is taken"))
		relayed <- err
	}()
	err := run.Serve(ctx, s)
	stopped := context.Cause(ctx) // by the relay, if it was not the other way round
	_ = in.Close()
	if rerr := <-relayed; err == nil || stopped != nil && errors.Is(stopped, rerr) {
		err = rerr
	}
	if err != nil && len(said.text) > 0 { // the sandbox's git may repeat what the agent chose
		err = fmt.Errorf("%w (%s)", err, printable(strings.TrimSpace(string(said.text))))
	}
	return err
}

// firstBytes keeps the beginning of what is written to it.
type firstBytes struct {
	text []byte
	left int
}

func (f *firstBytes) Write(p []byte) (int, error) {
	n := min(len(p), f.left)
	f.text = append(f.text, p[:n]...)
	f.left -= n
	return len(p), nil
}

// serving is what serves the commits of a run that has ended.
func (a *app) serving(ctx context.Context, id, dir string) (p planned, s run.Serving, closeEngine func(), err error) {
	paths, err := a.paths()
	if err != nil {
		return p, s, nil, err
	}
	info, err := session.Find(paths, id)
	if err != nil {
		return p, s, nil, err
	}
	if p, err = planOf(info.Dir); err != nil {
		return p, s, nil, err
	}
	s = run.Serving{ID: info.ID, Binding: p.Binding, Work: filepath.Join(info.Dir, session.WorkDir), Dir: filepath.Join(dir, "served"),
		Repo:    workspace.Repo{Root: p.Binding.Repo, Git: filepath.Join(p.Binding.Repo, ".git"), Directory: p.Binding.Repo},
		Seccomp: filepath.Join(dir, "seccomp.json")}
	if s.Git, err = exec.LookPath("git"); err != nil {
		return p, s, nil, err
	}
	if err := errors.Join(os.Mkdir(s.Dir, 0o700), podman.WriteSeccomp(s.Seccomp)); err != nil {
		return p, s, nil, err
	}
	closeEngine, err = serveOn(ctx, &s, p, info.Engine, dir)
	return p, s, closeEngine, err
}

// serveOn connects to the engine of the run.
func serveOn(ctx context.Context, s *run.Serving, p planned, uri, dir string) (closeEngine func(), err error) {
	opts := podman.Options{URI: uri, Dir: dir}
	if p.Grants.Isolation.Runtime == "gvisor" {
		s.Binding.Engine.Runtime = "" // the service of a gVisor run knows no other
		runsc, problem := podman.FindGVisor(ctx)
		if problem != "" {
			return nil, errors.New(problem)
		}
		if opts.OCIRuntime, err = podman.WrapGVisor(runsc, dir); err != nil {
			return nil, err
		}
	}
	engine, err := podman.Connect(ctx, opts)
	if err != nil {
		return nil, err
	}
	s.Runtime = checked{engine}
	return engine.Close, nil
}

// planned is what is read again of a run's plan.
type planned struct {
	Grants struct {
		Isolation plan.Isolation `json:"isolation"`
		Workspace plan.Workspace `json:"workspace"`
		Limits    plan.Limits    `json:"limits"`
	} `json:"grants"`
	Binding plan.Binding `json:"binding"`
}

func planOf(dir string) (p planned, err error) {
	text, err := os.ReadFile(filepath.Join(dir, session.PlanFile))
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		err = fmt.Errorf("reading the run's plan: %w", err)
	}
	return p, err
}

// packLimit bounds in bytes what is taken of the run's commits: what it may write is what it may hand over.
func (p planned) packLimit() int64 { return cmp.Or(p.Grants.Limits.Disk, maxPack) }
