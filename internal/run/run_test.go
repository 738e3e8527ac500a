package run_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"agentbox/internal/event"
	"agentbox/internal/plan"
	"agentbox/internal/policy"
	"agentbox/internal/run"
	"agentbox/internal/run/runtest"
	"agentbox/internal/scrub"
	"agentbox/internal/shimwire"
	"agentbox/internal/workspace"
)

// memoryLog is a log that can be told to fail.
type memoryLog struct {
	mu     sync.Mutex
	events []event.Event
	refuse event.Kind // the kind that can't be written
	failed chan struct{}
}

func (l *memoryLog) Emit(e event.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Kind == l.refuse {
		return errors.New("no room for the log")
	}
	l.events = append(l.events, e)
	return nil
}

func (l *memoryLog) Failed() <-chan struct{} { return l.failed }

func (l *memoryLog) kinds() string {
	var out []string
	for _, e := range l.events {
		out = append(out, string(e.Kind))
	}
	return strings.Join(out, " ")
}

type noSecrets struct{}

func (noSecrets) Placeholder(string) string { return "" }
func (noSecrets) Inject(context.Context, *http.Request, policy.Host, bool) (string, error) {
	return "", nil
}
func (noSecrets) Values() *scrub.Set    { return nil }
func (noSecrets) Uses(policy.Host) bool { return false }

// shim is a shim in the test's own process: it says what it is told to say.
type shim struct {
	check   shimwire.Check // what the self-test finds
	silent  bool           // it never speaks
	started bool
	ended   shimwire.Exit
}

func (s *shim) program(ctx context.Context, spec run.Spec, _ run.Streams) {
	if s.silent {
		return
	}
	var dir string
	for _, m := range spec.Mounts {
		if m.Target == shimwire.Dir {
			dir = m.Source
		}
	}
	conn, err := net.Dial("unix", filepath.Join(dir, filepath.Base(shimwire.Socket)))
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	s.talk(conn)
}

func (s *shim) talk(conn net.Conn) {
	in := bufio.NewReader(conn)
	say := func(m shimwire.Message) {
		if line, err := shimwire.Encode(m); err == nil {
			_, _ = conn.Write(line) // a host that has gone shows in the next read
		}
	}
	say(shimwire.Message{Hello: &shimwire.Hello{Version: shimwire.Version, PID: 1}})
	for {
		m, err := shimwire.Read(in)
		switch {
		case err != nil:
			return
		case m.Config != nil:
			say(shimwire.Message{Listeners: &shimwire.Listeners{Count: len(m.Config.Listen)}})
		case m.Ready != nil:
			say(shimwire.Message{SelfTest: &shimwire.SelfTest{Checks: []shimwire.Check{s.check}}})
		case m.Start != nil:
			s.started = true
			say(shimwire.Message{Started: &shimwire.Started{PID: 2}})
			say(shimwire.Message{Exit: &s.ended})
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// params are those of a run of s in a scratch repository.
func params(t *testing.T, s *shim) (run.Params, *memoryLog, *runtest.Fake) {
	t.Helper()
	repo := t.TempDir()
	out, err := exec.Command("git", "init", "-q", repo).CombinedOutput()
	if err != nil {
		t.Fatalf("git init: %v\n%s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "run")
	must(t, os.Mkdir(dir, 0o700))
	program := filepath.Join(dir, "program")
	must(t, os.WriteFile(program, nil, 0o700))
	home := t.TempDir()
	log := &memoryLog{failed: make(chan struct{})}
	fake := &runtest.Fake{Program: s.program}
	found, err := workspace.Find(repo, workspace.Person{UID: os.Getuid(), Home: home})
	must(t, err)
	survey, err := workspace.Look(found, nil)
	must(t, err)
	return run.Params{
		ID: "test", Dir: dir, Repo: found, Survey: survey, Shim: program, Runtime: fake, Log: log, Secrets: noSecrets{},
		Plan: plan.Plan{Version: 1, Hash: "sha256:x",
			Grants: plan.Grants{Profile: "test", Workspace: plan.Workspace{Mode: plan.Direct}, Network: policy.Set{Default: policy.Deny},
				Isolation: plan.Isolation{Runtime: "container"}},
			Binding: plan.Binding{Repo: repo, Directory: repo, Argv: []string{"/bin/true"}, ListenTCP: []uint16{443},
				User:   plan.User{UID: max(os.Getuid(), 1000), GID: max(os.Getgid(), 1000), Name: "me", Group: "me", Home: home},
				Engine: plan.Engine{Runtime: "crun", Transport: string(shimwire.Relay)}}},
		Out: &strings.Builder{}, Err: &strings.Builder{}, Warn: func(text string) { t.Log(text) },
	}, log, fake
}

// nothingLeft is what every end has in common.
func nothingLeft(t *testing.T, p run.Params, fake *runtest.Fake) {
	t.Helper()
	if names := fake.Names(); len(names) != 0 {
		t.Errorf("containers are left: %v", names)
	}
	must(t, os.RemoveAll(p.Dir)) // by the person's own rights
}

func TestAWholeRun(t *testing.T) {
	s := &shim{check: shimwire.Check{Name: "all", OK: true}, ended: shimwire.Exit{Code: 7}}
	p, log, fake := params(t, s)
	out, err := run.Run(t.Context(), p)
	must(t, err)
	if out.Code != 7 || !s.started || log.kinds() != "run.start run.selftest run.end" {
		t.Errorf("outcome %+v, started %v, events %s", out, s.started, log.kinds())
	}
	nothingLeft(t, p, fake)
}

// TestAFailedSelfTestKeepsTheAgentFromStarting: what the shim reports decides, not that it reports.
func TestAFailedSelfTestKeepsTheAgentFromStarting(t *testing.T) {
	s := &shim{check: shimwire.Check{Name: "routes", Detail: "there is one"}}
	p, log, fake := params(t, s)
	out, err := run.Run(t.Context(), p)
	var f *run.Failure
	if !errors.As(err, &f) || f.Code != run.CodeRefused || out.Code != run.CodeRefused || !strings.Contains(f.Text, "routes: there is one") {
		t.Errorf("outcome %+v, %v", out, err)
	}
	if s.started || log.events[1].Decision != event.Deny {
		t.Errorf("started %v, events %+v", s.started, log.events)
	}
	nothingLeft(t, p, fake)
}

func TestAShimThatNeverSpeaks(t *testing.T) {
	p, _, fake := params(t, &shim{silent: true})
	out, err := run.Run(t.Context(), p)
	if err == nil || out.Code != run.CodeFailed {
		t.Errorf("outcome %+v, %v", out, err)
	}
	nothingLeft(t, p, fake)
}

// TestNothingStartsUnlogged: an event that can't be written keeps the agent from starting.
func TestNothingStartsUnlogged(t *testing.T) {
	for _, kind := range []event.Kind{event.RunStart, event.RunSelfTest} {
		s := &shim{check: shimwire.Check{Name: "all", OK: true}}
		p, log, fake := params(t, s)
		log.refuse = kind
		out, err := run.Run(t.Context(), p)
		if err == nil || out.Code != run.CodeFailed || s.started {
			t.Errorf("without %s: outcome %+v, %v, started %v", kind, out, err, s.started)
		}
		nothingLeft(t, p, fake)
	}
}

// TestAnUnwrittenEndIsAFailure: the agent ran, and its end is not in the log.
func TestAnUnwrittenEndIsAFailure(t *testing.T) {
	s := &shim{check: shimwire.Check{Name: "all", OK: true}}
	p, log, fake := params(t, s)
	log.refuse = event.RunEnd
	if out, err := run.Run(t.Context(), p); err == nil || out.Code != run.CodeFailed {
		t.Errorf("outcome %+v, %v", out, err)
	}
	nothingLeft(t, p, fake)
}

func TestAnEngineThatFailsLeavesNothing(t *testing.T) {
	p, _, fake := params(t, &shim{})
	p.Runtime = brokenEngine{}
	if out, err := run.Run(t.Context(), p); err == nil || out.Code != run.CodeFailed || !strings.Contains(err.Error(), "no engine") {
		t.Errorf("outcome %+v, %v", out, err)
	}
	nothingLeft(t, p, fake)
}

type brokenEngine struct{}

func (brokenEngine) Create(context.Context, run.Spec) (run.Container, error) {
	return nil, errors.New("no engine")
}
func (brokenEngine) Remove(context.Context, string) error { return nil }

// sticky is an engine whose containers can't be removed.
type sticky struct{ run.Runtime }

func (s sticky) Create(ctx context.Context, spec run.Spec) (run.Container, error) {
	c, err := s.Runtime.Create(ctx, spec)
	return stuck{c}, err
}

type stuck struct{ run.Container }

func (s stuck) Remove(ctx context.Context) error {
	return errors.Join(s.Container.Remove(ctx), errors.New("device or resource busy"))
}

// What can't be removed is recorded, before the end, and told; whatever else there is to remove is removed.
func TestWhatIsLeftOfARunIsTold(t *testing.T) {
	s := &shim{check: shimwire.Check{Name: "all", OK: true}}
	p, log, fake := params(t, s)
	var told []string
	p.Runtime, p.Warn = sticky{fake}, func(text string) { told = append(told, text) }
	p.Wipe = func(context.Context) error { return errors.New("permission denied") }
	out, err := run.Run(t.Context(), p)
	must(t, err)
	if out.Code != 0 || log.kinds() != "run.start run.selftest run.left run.left run.end" {
		t.Fatalf("outcome %+v, events %s", out, log.kinds())
	}
	if left := log.events[2:4]; left[0].Path != "agentbox-test" || left[0].Reason != "device or resource busy" || left[1].Path != p.Dir || left[1].Reason != "permission denied" {
		t.Errorf("%+v", left)
	}
	if all := strings.Join(told, "\n"); strings.Count(all, "is left of this run") != 2 || !strings.Contains(all, "agentbox gc") {
		t.Errorf("told: %q", told)
	}
	nothingLeft(t, p, fake)
}
