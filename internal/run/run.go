package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/plan"
	"agentbox/internal/rootfs"
	"agentbox/internal/shimwire"
	"agentbox/internal/signing"
	"agentbox/internal/sys"
	"agentbox/internal/transport"
	"agentbox/internal/workspace"
)

// Log takes events and says when it can't any more.
type Log interface {
	event.Sink
	Failed() <-chan struct{}
}

// Params is what a run is made of. What it owns it closes; what is handed in belongs to the caller.
type Params struct {
	ID      string
	Plan    plan.Plan
	Repo    workspace.Repo
	Survey  workspace.Survey
	Configs []string // the person's git configuration files
	Others  []workspace.Other
	Dir     string        // a directory of this run alone, 0700; the caller removes it
	Work    string        // where the review mode keeps what is changed; the caller keeps it, or removes it
	Direct  string        // where the direct mode remembers what would execute later; the caller keeps it, or removes it
	Seeds   []rootfs.File // copies of the person's own files, for the home directory
	Shim    string        // the shim's program on the host
	Seccomp string        // a seccomp profile on the host
	Sockets []string      // sockets of the host that must not be seen inside

	Runtime  Runtime
	Images   Images        // for a plan whose root is an image
	Before   []event.Event // what happened before there was a log, to be recorded first
	Log      Log
	Secrets  Secrets
	Password Password // of the plan's upstream proxy; nil where that has none
	Asking   Asking
	Signer   Signer

	In       io.Reader
	Out, Err io.Writer
	Terminal *Terminal // nil without one
	Signals  <-chan os.Signal
	Stops    <-chan Stop
	Settle   func()                                              // called once, when the agent is gone and events can still be recorded; may be nil
	Gone     func(ctx context.Context, record func(event.Event)) // called once, when there is no container any more and events can still be recorded; may be nil
	Wipe     func(ctx context.Context) error                     // called once, when there is no container any more: removes what only its owner can of Dir; may be nil
	Removed  func()                                              // called once, when the engine is not needed any more; may be nil
	Warn     func(text string)                                   // tells the person something before the agent has the terminal
	Ready    func()                                              // called once, before the agent starts and has the terminal; may be nil
}

// Outcome is how a run ended.
type Outcome struct {
	Code   int
	Reason string // one plain phrase
	Agent  bool   // the agent was started
}

// Run runs the plan to its end. The error is a *Failure when the agent was never started; then Outcome holds its
// code. Whatever happened, nothing of the run is left but its log, and Dir with plain files in it.
func Run(ctx context.Context, p Params) (Outcome, error) {
	x := &execution{Params: p, name: "agentbox-" + p.ID}
	if err := x.record(x.opening()); err != nil {
		return Outcome{Code: CodeFailed, Reason: "the event log could not be written"}, &Failure{Code: CodeFailed, Text: err.Error()}
	}
	for _, e := range p.Before {
		x.note(e)
	}
	code, reason, err := x.run(ctx)
	if cerr := x.close(ctx); cerr != nil && err == nil {
		x.Warn(cerr.Error())
	}
	if err != nil {
		f := asFailure(err)
		code, reason, err = f.Code, f.Text, f
	}
	if rerr := x.record(event.Event{Kind: event.RunEnd, ExitCode: &code, Reason: reason}); rerr != nil && err == nil {
		code, reason = CodeFailed, "the event log could not be written"
		err = &Failure{Code: code, Text: rerr.Error(), Hint: "make room on the disk of the state directory; the agent was ended when the log failed"}
	}
	return Outcome{Code: code, Reason: reason, Agent: x.started}, err
}

func asFailure(err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return &Failure{Code: CodeFailed, Text: err.Error()}
}

// execution is one run while it lasts.
type execution struct {
	Params
	name         string
	container    Container
	output       chan error // how the container's output ended
	endpoint     transport.Endpoint
	link         *transport.Link
	boundary     *boundary
	signer       *signing.Server
	watcher      *workspace.Watcher
	before       workspace.State
	hidden       map[file]bool // what mounts hide
	looking      chan error    // how recording what the repository is like went, once; nil where nothing is to be recorded
	shown        bool          // the repository is laid out for the container
	started      bool          // the agent is
	keptReadOnly []string      // where caches are that are only read
	seeds        []rootfs.File // for the shim to lay: gVisor starts a tmpfs empty, where others copy the skeleton's directory
}

func (x *execution) record(e event.Event) error { return x.Log.Emit(e) }

// note records what is not worth dying for: a log that fails shows in Failed.
func (x *execution) note(e event.Event) { _ = x.Log.Emit(e) }

func (x *execution) opening() event.Event {
	detail := map[string]string{
		"plan": x.Plan.Hash, "manifest": x.Plan.Manifest, "profile": x.Plan.Grants.Profile, "repo": x.Plan.Binding.Repo,
		"workspace": string(x.Plan.Grants.Workspace.Mode),
		"runtime":   x.Plan.Binding.Engine.Runtime, "transport": x.Plan.Binding.Engine.Transport,
	}
	if backend := x.Plan.Binding.Layer.Backend; backend != "" {
		detail["backend"] = backend
	}
	return event.Event{Kind: event.RunStart, Detail: detail}
}

func (x *execution) run(ctx context.Context) (int, string, error) {
	spec, config, err := x.prepare(ctx)
	if err != nil {
		return 0, "", err
	}
	if err := x.create(ctx, spec); err != nil {
		return 0, "", err
	}
	if err := x.meet(ctx, config); err != nil {
		return 0, "", err
	}
	if err := x.known(); err != nil {
		return 0, "", err
	}
	return x.agent()
}

// create makes and starts the container. From here on close has something to remove.
func (x *execution) create(ctx context.Context, spec Spec) (err error) {
	if x.container, err = x.Runtime.Create(ctx, spec); err != nil {
		return x.explain(err)
	}
	wait, err := x.container.Attach(ctx, Streams{In: x.In, Out: x.Out, Err: x.Err})
	if err != nil {
		return err
	}
	x.output = make(chan error, 1)
	go func() { x.output <- wait() }()
	return x.explain(x.container.Start(ctx))
}

// explain says what else there is where the kernel may have refused an overlay that was thought possible.
func (x *execution) explain(err error) error {
	if err == nil || x.Plan.Binding.Layer.Backend != string(plan.Overlaid) || !strings.Contains(err.Error(), "overlay") {
		return err
	}
	return &Failure{Code: CodeFailed, Text: err.Error(), Hint: `write backend = "copy" below [workspace]: it needs no overlay`}
}

// launchTime bounds what lies between the start of PID 1 and that of the agent.
const launchTime = 30 * time.Second

// meet takes the shim's listeners, serves them, and hears the self-test.
func (x *execution) meet(ctx context.Context, config shimwire.Config) error {
	ctx, cancel := context.WithTimeoutCause(ctx, launchTime, errors.New("the container did not answer in time"))
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() { // a container that ends before the shim has spoken never will
		select {
		case err := <-x.output:
			x.output <- err
			cancel()
		case <-ended:
		}
	}()
	var err error
	if x.link, err = x.endpoint.Accept(ctx, config); err != nil {
		return fmt.Errorf("meeting the shim: %w", cmp.Or(context.Cause(ctx), err))
	}
	if err := x.boundary.serve(x.link.Listeners()); err != nil {
		return err
	}
	found, err := x.link.Ready(ctx)
	if err != nil {
		return fmt.Errorf("hearing the self-test: %w", err)
	}
	return x.judge(found)
}

// judge records the self-test and refuses to go on when a part of the boundary is not there.
func (x *execution) judge(found shimwire.SelfTest) error {
	detail := map[string]string{"micros": strconv.FormatInt(found.Micros, 10), "checks": strconv.Itoa(len(found.Checks))}
	if v, ok := x.Runtime.(interface{ Version() string }); ok {
		detail["engine"] = v.Version()
	}
	var failed string
	for _, c := range found.Checks {
		if !c.OK {
			detail[c.Name] = c.Detail
			failed += "\n  " + c.Name + ": " + c.Detail
		}
	}
	e := event.Event{Kind: event.RunSelfTest, Decision: event.Allow, Detail: detail}
	if failed != "" || len(found.Checks) == 0 {
		e.Decision = event.Deny
	}
	if err := x.record(e); err != nil {
		return err
	}
	if e.Decision == event.Deny {
		return &Failure{Code: CodeRefused, Text: "the launch self-test failed, so the agent was not started:" + failed,
			Hint: `"agentbox doctor" shows what this machine lacks`}
	}
	return nil
}

// agent starts the agent and waits for its end.
func (x *execution) agent() (int, string, error) {
	if x.Ready != nil {
		x.Ready()
	}
	if x.Terminal != nil {
		if err := x.Terminal.Raw(); err != nil {
			return 0, "", err
		}
		defer x.Terminal.Restore()
	}
	x.started = true
	if err := x.link.Start(); err != nil {
		return 0, "", fmt.Errorf("starting the agent: %w", err)
	}
	s := &supervisor{link: x.link, terminal: x.Terminal, signals: x.Signals, stops: x.Stops, broken: x.Log.Failed(),
		output: x.output, guard: x.lost(), limit: x.Plan.Grants.Budget.Time, record: x.note}
	if s.limit > 0 {
		timer := time.NewTimer(s.limit)
		defer timer.Stop()
		s.budget = timer.C
	}
	full, end := x.measure()
	s.full = full
	code, reason := s.wait()
	end()
	_ = x.boundary.gate.Close() // nobody is left to be asked for, and output may wait for an answer; a log that fails shows in Failed
	x.drain()
	if s.failure != nil {
		return 0, "", x.explainMissing(s.failure)
	}
	return code, reason, nil
}

// drainTime bounds the wait for output that a dead container has written and the engine still holds.
const drainTime = 5 * time.Second

func (x *execution) drain() {
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case err := <-x.output:
		x.output <- err
	case <-timer.C:
	}
}

// close leaves nothing, in the reverse order of how things came about.
func (x *execution) close(ctx context.Context) error {
	var errs []error
	if x.link != nil {
		errs = append(errs, x.link.Close())
	}
	settled := make(chan struct{})
	go func() { // beside the removal: it may have to ask somebody far away
		defer close(settled)
		if x.Settle != nil {
			x.Settle()
		}
	}()
	watched := make(chan error, 1)
	go func() { watched <- x.unwatch() }() // the kernel takes its time to give up a watch
	if x.container != nil {
		x.left(x.name, x.container.Remove(ctx))
	}
	if x.Wipe != nil {
		x.left(x.Dir, x.Wipe(ctx))
	}
	if x.started && x.Gone != nil {
		x.Gone(context.WithoutCancel(ctx), x.note)
	}
	if x.Removed != nil {
		x.Removed()
	}
	if x.signer != nil {
		errs = append(errs, x.signer.Close())
	}
	if x.boundary != nil {
		errs = append(errs, x.boundary.close())
	}
	if x.endpoint != nil {
		errs = append(errs, x.endpoint.Close())
	}
	<-settled
	_ = x.known() // a failure has kept the agent from starting, and was told
	if errs = append(errs, <-watched); x.shown {
		x.lookAgain(context.WithoutCancel(ctx))
	}
	return errors.Join(errs...)
}

// left records and tells what of the run could not be removed.
func (x *execution) left(what string, err error) {
	if err == nil {
		return
	}
	x.note(event.Event{Kind: event.RunLeft, Path: what, Reason: err.Error()})
	x.Warn(fmt.Sprintf("%s is left of this run (%s): \"agentbox gc\" tries again to remove it", what, err))
}

// lost tells of a mount that the host took the place away from; nil where none can be.
func (x *execution) lost() <-chan string {
	if x.watcher == nil {
		return nil
	}
	return x.watcher.Lost()
}

func (x *execution) unwatch() error {
	if x.watcher == nil {
		return nil
	}
	return x.watcher.Close()
}

// lookAgain walks the repository once more, after the run.
func (x *execution) lookAgain(ctx context.Context) {
	if hide := x.Plan.Grants.Workspace.Hide; len(hide) > 0 {
		now, err := workspace.Look(x.Repo, hide)
		if err != nil {
			x.Warn("looking through the repository after the run: " + err.Error())
			return
		}
		x.revealed(now.Hidden)
	}
	if x.Plan.Grants.Workspace.Mode != plan.Review { // there the agent changed nothing that git would follow
		x.planted(ctx)
	}
}

// revealed tells of files that match what is to be hidden and that were not there when the mounts were made. They were
// there to be read from when they appeared.
func (x *execution) revealed(hidden []string) {
	const most = 20
	count := 0
	for _, path := range hidden {
		if slices.Contains(x.Survey.Hidden, path) || x.hidden[identity(path)] { // the second: below a directory that was renamed
			continue
		}
		if count++; count > most {
			continue
		}
		rel := strings.TrimPrefix(path, x.Repo.Root+"/")
		x.note(event.Event{Kind: event.FileShown, Path: rel, Reason: "it appeared after the run had begun, so nothing hid it"})
		x.Warn(fmt.Sprintf("%q is to be hidden and appeared while the run went on: the agent could read it from then on", rel))
	}
	if count > most {
		x.note(event.Event{Kind: event.FileShown, Count: uint64(count - most), Reason: "more files that are to be hidden appeared after the run had begun"})
		x.Warn(fmt.Sprintf("%d more files that are to be hidden appeared while the run went on", count-most))
	}
}

// file is one, whatever it is called.
type file struct{ dev, ino uint64 }

func identity(path string) file {
	if info, err := os.Lstat(path); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			return file{sys.DeviceOf(info), st.Ino}
		}
	}
	return file{}
}

// planted tells the person what their own git would follow that was not there before.
func (x *execution) planted(ctx context.Context) {
	found, err := workspace.Planted(x.Repo, x.before)
	aside, failed := workspace.PutIndexAside(ctx, x.Repo)
	if failed != nil {
		x.Warn(failed.Error())
	}
	if aside != "" {
		found = append(found, aside)
	}
	if err != nil {
		x.Warn("looking through the repository after the run: " + err.Error())
	}
	for _, text := range found {
		x.Warn(text)
	}
}
