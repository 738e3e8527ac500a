package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"agentbox/internal/event"
	"agentbox/internal/plan"
	"agentbox/internal/profiles"
	"agentbox/internal/run"
	"agentbox/internal/secrets"
	"agentbox/internal/session"
	"agentbox/internal/sys"
)

// surroundings are what sources of credentials need beside what the profile says.
type surroundings struct {
	repo   string // where agents write; "" is none
	home   string
	state  string       // agentbox's own directory
	client *http.Client // for those that ask a service

	lookup  func(name string) (string, bool) // of a variable
	keyring secrets.Getter
}

// variable looks one up that holds a real value.
func (a *app) variable(name string) (string, bool) {
	v, ok := a.kept[name]
	if !ok {
		v = a.getenv(name)
	}
	return v, v != ""
}

// takeOver keeps the variables that hold real values in this process alone: what it starts from now on does not inherit them.
// Call it before anything runs at the same time.
func (a *app) takeOver(names []string) {
	a.kept = map[string]string{}
	for _, name := range names {
		a.kept[name] = a.getenv(name)
		_ = os.Unsetenv(name) // the name of a variable that is there
	}
}

// source is where the plan says that a value comes from.
func source(s plan.Source, in surroundings) (secrets.Source, error) {
	switch app := s.GitHubApp; {
	case len(s.Command) > 0:
		return secrets.Command{Argv: s.Command, Dir: "/", Outside: in.repo}, nil
	case s.File != "":
		return secrets.File{Path: profiles.HostPath(s.File).Under(in.home), Outside: in.repo}, nil
	case app != nil:
		return secrets.NewGitHubApp(secrets.GitHubApp{ID: app.ID, Account: app.Key, Repos: app.Repos, Permissions: app.Permissions,
			Keyring: in.keyring, Client: in.client}), nil
	case s.OAuth != nil:
		return login(*s.OAuth, in)
	}
	return stored(s.Env, s.Keyring, in), nil
}

// kindOf names a source for the log.
func kindOf(s plan.Source) string {
	switch {
	case len(s.Command) > 0:
		return "command " + s.Command[0]
	case s.File != "":
		return "file " + s.File
	case s.GitHubApp != nil:
		return fmt.Sprintf("github_app %d", s.GitHubApp.ID)
	case s.OAuth != nil:
		return "login " + s.OAuth.Login
	}
	var parts []string
	if s.Env != "" {
		parts = append(parts, "env "+s.Env)
	}
	if s.Keyring != "" {
		parts = append(parts, "keyring "+s.Keyring)
	}
	return strings.Join(parts, " or ")
}

// asksService reports whether a source asks somebody on the network.
func asksService(c plan.Credential) bool { return c.Source.GitHubApp != nil || c.Source.OAuth != nil }

// ownVariables names the variables that hold real values: they are for agentbox alone.
func ownVariables(p plan.Grants, config profiles.Config) []string {
	names := map[string]bool{}
	for _, c := range p.Credentials {
		names[c.Source.Env] = true
	}
	if from := config.Upstream.ProxyPassword; from != nil {
		names[string(from.Env)] = true
	}
	delete(names, "")
	return slices.Sorted(maps.Keys(names))
}

// keepToSelf has nobody read the memory of this process, and no dump of it be written. It must come before there is a value
// in it.
func keepToSelf() error {
	if err := sys.ShutMemory(); err != nil {
		return fmt.Errorf("shutting this process's memory off from others: %w", err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return fmt.Errorf("switching core dumps off: %w", err)
	}
	limit.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return fmt.Errorf("switching core dumps off: %w", err)
	}
	return nil
}

// started holds events back until the run has begun: its first event is that it did.
type started struct {
	event.Sink
	begun chan struct{} // closed with the first event of the run
	over  chan struct{} // closed when there will be none
}

// Emit waits for the run's first event.
func (s started) Emit(e event.Event) error {
	select {
	case <-s.begun:
		return s.Sink.Emit(e)
	case <-s.over:
		return errors.New("the run did not begin")
	}
}

// Cut ends the use of a credential in this run.
func (j *job) Cut(credential, reason string) (bool, error) {
	ctx, cancel := context.WithTimeout(j.rooted, cutTime)
	defer cancel()
	return j.broker.Cut(ctx, credential, reason)
}

// cutTime bounds what taking back takes, with all that is tried.
const cutTime = 30 * time.Second

// settle takes back what the run's credentials were given. What can't be is told, whoever asked for quiet.
func (j *job) settle() {
	if j.broker == nil {
		return
	}
	// The run may be over because its context is, and this must happen all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(j.rooted), cutTime)
	defer cancel()
	j.settled.Do(func() { j.tellUnrevoked(j.broker.Release(ctx)) })
}

// tellUnrevoked says loudly which values may still be good.
func (a *app) tellUnrevoked(err error) {
	if err == nil {
		return
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		a.say("warning: %s", line)
	}
	if hint := hintOf(err); hint != "" {
		a.say("hint: %s", hint)
	}
}

// takenBack is what was taken back of what other runs left, in words, and what was not.
type takenBack struct {
	told []string
	err  error
}

// tellTaken says so; not while an agent has the terminal.
func (a *app) tellTaken(t takenBack) {
	for _, text := range t.told {
		a.say("%s", text)
	}
	a.tellUnrevoked(t.err)
}

// settleDead takes back what runs left that were killed, or that could not do it themselves.
func (a *app) settleDead(ctx context.Context, paths session.Paths) (out takenBack) {
	left, err := filepath.Glob(filepath.Join(paths.State, "sessions", "*", secrets.DebtsFile))
	if err != nil || len(left) == 0 {
		return takenBack{err: err}
	}
	client := sync.OnceValues(func() (*http.Client, error) { return a.ownClient(ctx) })
	revoke := func(ctx context.Context, claim secrets.Claim, value secrets.Secret) error {
		c, err := client()
		if err != nil {
			return err
		}
		return secrets.RevokeClaim(ctx, c, claim, value)
	}
	for _, file := range left {
		info, err := session.Find(paths, filepath.Base(filepath.Dir(file)))
		if err != nil || info.Live {
			continue // what can't be read is told of by whoever lists the runs
		}
		done, err := secrets.Settle(ctx, info.Dir, secrets.Keyring{}, revoke)
		for _, name := range done {
			out.told = append(out.told, fmt.Sprintf("revoked credential %q, which run %s had left", name, info.ID))
		}
		if err != nil {
			out.err = errors.Join(out.err, fmt.Errorf("run %s: %w", info.ID, err))
		}
	}
	return out
}

// ownClient goes the way that the person's configuration says.
func (a *app) ownClient(ctx context.Context) (*http.Client, error) {
	config, err := a.config()
	if err != nil {
		return nil, err
	}
	p, err := a.person()
	if err != nil {
		return nil, err
	}
	u := plan.UpstreamOf(config, p.Home)
	var password run.Password
	if u.Proxy != nil && u.Proxy.User != "" {
		from := stored(u.Proxy.Password.Env, u.Proxy.Password.Keyring, surroundings{lookup: a.variable, keyring: secrets.Keyring{}})
		password = func(context.Context) (string, error) {
			lease, err := from.Fetch(ctx)
			return lease.Value.Reveal(), err
		}
	}
	return run.NewClient(u, password, time.Now())
}
