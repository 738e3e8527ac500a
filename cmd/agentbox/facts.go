package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/hostinfo"
	"agentbox/internal/kept"
	"agentbox/internal/plan"
	"agentbox/internal/profiles"
	"agentbox/internal/rootfs"
	"agentbox/internal/run"
	"agentbox/internal/run/podman"
	"agentbox/internal/session"
	"agentbox/internal/signing"
	"agentbox/internal/workspace"
)

// ground is what was found out about this machine, person and repository before anything is decided.
type ground struct {
	host    plan.Host
	repo    workspace.Repo
	survey  workspace.Survey
	configs []string // the person's git configuration files
	others  []workspace.Other
	sockets []string // of the host, that must not be seen inside
	signer  run.Signer
}

// survey finds it out, all but the engine.
func (a *app) survey(ctx context.Context, c call, engine *podman.Engine) (ground, error) {
	person, err := a.person()
	if err != nil {
		return ground{}, err
	}
	g := ground{repo: c.repo, configs: workspace.ConfigFiles(person.Home, configHome(a.getenv, person.Home)), sockets: a.sockets()}
	looked := looking(g.repo, c.grants.Workspace.Hide)
	noOverlay, within, err := g.overlay(ctx, c, engine)
	if err != nil {
		return ground{}, err
	}
	var tools rootfs.Toolchains
	if c.onHost() {
		tools, err = rootfs.Scan(rootfs.Env{Home: person.Home, Repo: g.repo.Root, Private: private(c.paths), Getenv: a.getenv})
	}
	if err != nil {
		return ground{}, err
	}
	g.host = plan.Host{
		Caches: kept.Base(cachesRoot(c.paths), g.repo.Root, c.grants.Profile), State: kept.Base(stateRoot(c.paths), g.repo.Root, c.grants.Profile),
		User: person, Repo: g.repo.Root, GitDir: g.repo.Outside(), Directory: g.repo.Directory, Path: tools.Path, Shell: a.getenv("SHELL"),
		Env: a.environ(), Tools: tools.Env, Roots: tools.Roots, Masked: tools.Masked, NoOverlay: noOverlay,
	}
	if c.grants.Signing.Commits != "" {
		g.findSigner()
	}
	if slices.Contains(c.grants.Use, "origin") {
		g.host.Remote = originRemote(ctx, g.repo.Root)
	}
	if c.onHost() {
		err = g.program(c.grants.Agent.Command[0], a.getenv("PATH"), c.paths)
	}
	if err != nil {
		return ground{}, err
	}
	if g.survey, err = looked(); err != nil {
		return ground{}, err
	}
	g.survey.Warnings = append(g.survey.Warnings, within...)
	g.host.Hidden, g.host.Warnings = g.survey.Hidden, g.survey.Warnings
	return g, a.beside(&g, c, person)
}

// beside finds out about what is shown beside the repository.
func (a *app) beside(g *ground, c call, person plan.User) error {
	if len(c.grants.Mounts) == 0 {
		return nil
	}
	others, err := workspace.OtherHomes("/etc/passwd", person.UID)
	if err != nil {
		return err
	}
	around := workspace.Around{Repo: g.repo, Sockets: g.sockets, Roots: g.host.Roots,
		Person: workspace.Person{UID: person.UID, Home: person.Home, OtherHomes: others, Own: private(c.paths)}}
	var asked []workspace.Asked
	for _, m := range c.grants.Mounts {
		asked = append(asked, workspace.Asked{Source: profiles.HostPath(m.Source).Under(person.Home), Target: profiles.HostPath(m.Target).Under(person.Home),
			Write: m.Write, Origin: m.Origin})
	}
	if g.others, err = workspace.Others(around, asked, c.grants.Workspace.Hide); err != nil {
		return err
	}
	for _, o := range g.others {
		g.host.Shown = append(g.host.Shown, plan.Shown{Source: o.Source, Target: o.Target, Write: o.Write, Dir: o.Dir, Hidden: len(o.Survey.Hidden)})
		if o.Source == o.Target {
			g.survey.Shown = append(g.survey.Shown, o.Source)
		}
	}
	return nil
}

// looking walks the repository beside whatever else there is to do. The function it returns waits for that.
func looking(repo workspace.Repo, hide []string) func() (workspace.Survey, error) {
	var s workspace.Survey
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		s, err = workspace.Look(repo, hide)
	}()
	return func() (workspace.Survey, error) { <-done; return s, err }
}

// overlay says why there can be none in the review mode, or "", and warns of what of the repository it shows otherwise.
func (g *ground) overlay(ctx context.Context, c call, engine *podman.Engine) (why string, warnings []string, err error) {
	w := c.grants.Workspace
	if w.Mode != plan.Review || c.grants.Isolation.Runtime == "gvisor" { // which mounts none: the plan knows
		return "", nil, nil
	}
	why = workspace.CanOverlay(g.repo, c.paths.State, func(scratch string, lower ...string) error {
		shim, err := c.shim()
		if err != nil {
			return err
		}
		return podman.TryOverlay(ctx, engine.Ready, shim, scratch, lower...)
	})
	if why != "" || w.Backend == string(plan.Copied) {
		return why, nil, nil
	}
	points, err := workspace.MountedBelow(g.repo.Root)
	for _, p := range points {
		warnings = append(warnings, fmt.Sprintf("%q is a file system of its own: it is read-only inside", p))
	}
	return "", warnings, err
}

// findSigner finds what the person's own git would sign with.
func (g *ground) findSigner() {
	settings, err := workspace.Settings(g.repo, g.configs, signing.Settings())
	if err == nil {
		g.signer.Key, err = signing.Find(settings, signing.Place{Home: g.host.User.Home, Not: []string{g.repo.Root, g.repo.Common}})
	}
	if g.signer.Problem = err; err != nil {
		g.signer.Key, g.host.Signs = signing.Key{}, plan.Signs{Problem: err.Error()}
		return
	}
	g.host.Signs = plan.Signs{With: g.signer.Key.Name()}
}

// program finds the agent on the host. One that is not there is the plan's to refuse.
func (g *ground) program(name, path string, paths session.Paths) error {
	prog, err := rootfs.FindProgram(name, path, g.host.User.Home, private(paths)...)
	if err != nil {
		if isNotFound(err) {
			return nil
		}
		return err
	}
	g.host.Roots = append(g.host.Roots, prog.Roots...)
	g.host.Masked = append(g.host.Masked, prog.Masked...)
	g.host.Program = prog.Inside(g.host.Roots)
	return nil
}

func (a *app) person() (plan.User, error) {
	u, err := user.LookupId(strconv.Itoa(a.uid))
	if err != nil {
		return plan.User{}, fmt.Errorf("finding out who you are: %w", err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return plan.User{}, fmt.Errorf("finding out who you are: %w", err)
	}
	p := plan.User{UID: a.uid, GID: gid, Name: u.Username, Group: u.Username, Home: u.HomeDir}
	if g, err := user.LookupGroupId(u.Gid); err == nil {
		p.Group = g.Name
	}
	if home := a.getenv("HOME"); filepath.IsAbs(home) {
		p.Home = filepath.Clean(home)
	}
	if real, err := filepath.EvalSymlinks(p.Home); err == nil {
		p.Home = real
	}
	return p, nil
}

func (a *app) repository(paths session.Paths) (workspace.Repo, error) {
	p, err := a.person()
	if err != nil {
		return workspace.Repo{}, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return workspace.Repo{}, fmt.Errorf("finding the current directory: %w", err)
	}
	others, err := workspace.OtherHomes("/etc/passwd", p.UID)
	if err != nil {
		return workspace.Repo{}, err
	}
	return workspace.Find(dir, workspace.Person{UID: p.UID, Home: p.Home, OtherHomes: others, Own: private(paths)})
}

// here is agentbox's own places and the repository around the person.
func (a *app) here() (session.Paths, workspace.Repo, error) {
	paths, err := a.paths()
	if err != nil {
		return paths, workspace.Repo{}, err
	}
	repo, err := a.repository(paths)
	return paths, repo, err
}

// sockets are the ways into the host that a person's session has. The self-test looks for each of them inside.
func (a *app) sockets() []string {
	out := []string{"/run/docker.sock", "/var/run/docker.sock", "/run/podman", "/run/dbus", "/run/systemd", "/run/containerd"}
	if dir := a.getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		for _, name := range []string{"bus", "podman", "docker.sock", "gnupg", "keyring", "wayland-0", "agentbox"} {
			out = append(out, filepath.Join(dir, name))
		}
	}
	if s := a.getenv("SSH_AUTH_SOCK"); filepath.IsAbs(s) {
		out = append(out, s)
	}
	return out
}

func (a *app) environ() map[string]string {
	env := map[string]string{}
	for _, e := range os.Environ() {
		if name, value, ok := strings.Cut(e, "="); ok {
			env[name] = value
		}
	}
	return env
}

func configHome(getenv func(string) string, home string) string {
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(home, ".config")
}

// engineFacts says what the engine can do here. Podman could be asked, but takes longer over its answer than over
// making a container.
func (a *app) engineFacts(uri string) plan.EngineFacts {
	f := plan.EngineFacts{Connection: uri, Runtime: ociRuntime(uri)}
	controllers, err := hostinfo.Delegated("/", a.uid)
	if err != nil {
		controllers = nil // no cgroup v2: nothing can be limited, and the plan says so
	}
	for _, c := range controllers {
		switch c {
		case "memory":
			f.Memory = true
		case "cpu":
			f.CPUs = true
		case "pids":
			f.Pids = true
		}
	}
	return f
}

// ociRuntime is the one to ask Podman for: crun, else runc, the order in which Podman itself looks. A service that is
// somebody else's keeps its own ("").
func ociRuntime(uri string) string {
	if uri != "" {
		return ""
	}
	for _, name := range []string{"crun", "runc"} {
		if _, err := exec.LookPath(name); err == nil {
			return name
		}
	}
	return ""
}
