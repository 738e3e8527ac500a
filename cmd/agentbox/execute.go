package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"agentbox/internal/approval"
	"agentbox/internal/atomicfile"
	"agentbox/internal/direct"
	"agentbox/internal/event"
	"agentbox/internal/eventlog"
	"agentbox/internal/run"
	"agentbox/internal/run/podman"
	"agentbox/internal/secrets"
	"agentbox/internal/session"
	"agentbox/internal/shimbin"
)

// execute registers a session, decides, runs and sums up. A run that is refused before its plan is carried out
// leaves no session.
func (a *app) execute(ctx context.Context, c call) error {
	ctx, in := interruptible(ctx)
	defer in.stop()
	// A start makes some garbage and is over before collecting it would pay. Ready brings collection back.
	percent := debug.SetGCPercent(-1)
	defer debug.SetGCPercent(percent)
	s, err := session.Create(c.paths, session.Meta{Profile: c.decision.profile.Name, Repo: c.repo.Root, Argv: c.args,
		Engine: c.connection, Started: time.Now().UTC()}, rand.Reader)
	if err != nil {
		return err
	}
	c.shim = installing(c.paths.Cache)
	w, err := a.resolve(ctx, c, s.RuntimeDir)
	if err != nil {
		return errors.Join(in.explain(err), discard(s, err))
	}
	w.installed, w.config = c.shim, c.config
	defer w.engine.Close()
	if w.keeps, err = openKept(c.paths, w.plan); err != nil {
		return errors.Join(err, discard(s, err))
	}
	defer w.keeps.close()
	return a.carryOut(ctx, c.runOptions, c.paths, w, s, in)
}

// gcPercent is Go's own default.
const gcPercent = 100

// installing lays the shim on disk, beside whatever else there is to do. The function it returns waits for it.
func installing(cache string) func() (string, error) {
	var path string
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err = os.MkdirAll(cache, 0o700); err == nil {
			path, err = shimbin.Install(cache)
		}
	}()
	return func() (string, error) { <-done; return path, err }
}

// tidy removes what runs left whose agentbox was killed.
func tidy(ctx context.Context, paths session.Paths, e *podman.Engine) error {
	_, err := session.Tidy(paths, time.Now(), func(i session.Info) error { return removed(ctx, e, i) })
	return err
}

// discard ends a session that never came to anything.
func discard(s *session.Session, because error) error {
	code, _ := classify(because)
	err := s.End(session.End{Time: time.Now().UTC(), ExitCode: code, Reason: because.Error()})
	if secrets.Owes(s.Dir) { // the next command takes back what this one could not
		return err
	}
	return errors.Join(err, os.RemoveAll(s.Dir))
}

// carryOut runs a decided run, with its log, its secrets and its control socket.
func (a *app) carryOut(ctx context.Context, o runOptions, paths session.Paths, w work, s *session.Session, in *interrupts) (err error) {
	began := time.Now()
	j := &job{app: a, work: w, session: s, places: paths, quiet: o.quiet, stops: make(chan run.Stop, 4), began: began, rooted: ctx}
	a.takeOver(ownVariables(w.plan.Grants, w.config))
	j.tidied, j.unrevoked = make(chan error, 1), make(chan takenBack, 1)
	go func() {
		j.tidied <- tidy(ctx, paths, w.engine)
		j.unrevoked <- a.settleDead(ctx, paths) // then: a run that is being tidied looks as if it lived
	}()
	if err := j.open(ctx, paths); err != nil {
		j.shut()
		return errors.Join(&run.Failure{Code: run.CodeFailed, Text: err.Error(), Hint: hintOf(err)}, discard(s, err))
	}
	out, err := j.runAndAsk(ctx, in)
	if err != nil {
		err = in.explain(err)
		out.Code, _ = classify(err)
	}
	kept := j.keepWork(ctx, out.Agent)
	defer j.closeEngine()() // it has begun to close when the container was removed
	j.shut()
	if endErr := s.End(session.End{Time: time.Now().UTC(), ExitCode: out.Code, Reason: out.Reason}); endErr != nil {
		a.say("%s", printable(endErr.Error()))
		a.say("hint: agentbox gc tries again to remove what is left")
	}
	j.janitor.close()
	if !o.quiet && err == nil {
		writeSummary(a.err, &j.tally, s.Meta.ID, out.Reason, time.Since(began), filepath.Join(s.Dir, session.EventsFile))
		j.tellCommits(context.WithoutCancel(ctx))
		j.tellChanged()
	}
	in.stop() // what happens to the changes can be broken off, and taken up again
	after := a.afterwards(context.WithoutCancel(ctx), o, s.Meta.ID, kept, out, err)
	if err != nil {
		return err
	}
	return cmp.Or(after, error(exitCode(out.Code)))
}

// runAndAsk runs it, and asks as long as it lasts.
func (j *job) runAndAsk(ctx context.Context, in *interrupts) (run.Outcome, error) {
	p := j.params(in)
	asked, end := context.WithCancel(ctx)
	asking, wait := j.asking(asked)
	defer wait()
	defer end()
	p.Asking = asking
	return run.Run(ctx, p)
}

// clear removes the container's root. Where Podman was told by its own configuration to mount more into containers, it
// made mount points there that belong to a subordinate uid, which only the user namespace can remove.
func (j *job) clear(ctx context.Context) error {
	return podman.RemoveAll(ctx, filepath.Join(j.session.RuntimeDir, "root"))
}

// job is what one run is made of on the command's side.
type job struct {
	*app
	work
	person
	session *session.Session
	places  session.Paths
	screen  screen
	input   *agentInput // what is typed for the agent, where it has the terminal
	quiet   bool
	stops   chan run.Stop
	began   time.Time

	log      *eventlog.Writer
	fanout   *eventlog.Fanout
	tally    event.Tally
	alarms   *alarms
	broker   *secrets.Broker
	password run.Password // of the upstream proxy, or nil
	client   *http.Client // for what agentbox itself asks; nil: nothing yet
	problems chan []error
	term     *run.Terminal
	shim     string
	janitor  *janitor
	closing  sync.Once
	closed   <-chan struct{} // the engine is
	tidied   chan error      // how tidying after other runs went, once
	waits    started         // for the run's first event

	changed   []direct.Change // in direct mode: what would execute later, and is not what it was
	arrived   bool            // commits of the agent are in the repository
	unrevoked chan takenBack  // how taking back what other runs left went, once
	settled   sync.Once       // what this one was given is taken back
	rooted    context.Context // of the run, for what other terminals ask of it

	running  atomic.Bool
	stopping atomic.Bool
}

func (j *job) open(ctx context.Context, paths session.Paths) error {
	var err error
	if j.shim, err = j.installed(); err != nil {
		return err
	}
	if j.janitor, err = startJanitor(j.shim, j.session.RuntimeDir); err != nil {
		return err
	}
	text, err := json.MarshalIndent(j.plan, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(j.session.Dir, session.PlanFile), text, 0o600); err != nil {
		return fmt.Errorf("writing the plan: %w", err)
	}
	if j.log, err = eventlog.Create(filepath.Join(j.session.Dir, session.EventsFile), j.session.Meta.ID, time.Now); err != nil {
		return err
	}
	j.alarms = newAlarms()
	j.fanout = eventlog.NewFanout(j.log, &j.tally, j.alarms)
	j.fanout.Clean(j.clean)
	j.waits = started{j.fanout, make(chan struct{}), make(chan struct{})}
	if j.input, err = newAgentInput(j.in); err != nil {
		return err
	}
	if err := podman.WriteSeccomp(j.seccomp()); err != nil {
		return err
	}
	if err := j.openSecrets(ctx); err != nil {
		return err
	}
	return j.session.Serve(j)
}

func (j *job) seccomp() string { return filepath.Join(j.session.RuntimeDir, "seccomp.json") }

// Pending are the questions as they are shown.
func (j *job) Pending() []approval.Question {
	open := j.person.Pending()
	for i := range open {
		q := &open[i]
		for _, s := range []*string{&q.Host, &q.Method, &q.Path, &q.Git, &q.Sign, &q.Reason} {
			*s = j.clean(*s)
		}
	}
	return open
}

// shut closes what open opened, but for the session and its janitor.
func (j *job) shut() {
	if j.broker != nil {
		close(j.waits.over)
		j.settle()
		j.broker.Close()
	}
	if j.client != nil {
		j.client.CloseIdleConnections()
	}
	if j.term != nil {
		j.term.Close()
	}
	if j.input != nil {
		j.input.end()
	}
	if j.log != nil {
		if err := j.log.Close(); err != nil {
			j.say("closing the event log: %s", err)
		}
	}
}

// closeEngine begins to end the engine, once, while the rest is put in order: a service of our own takes a moment. The
// function it returns waits for that.
func (j *job) closeEngine() (wait func()) {
	j.closing.Do(func() { j.closed = j.endEngine() })
	return func() { <-j.closed }
}

func (j *job) endEngine() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := <-j.tidied; err != nil && !j.quiet {
			j.say("tidying after a run that was killed: %s", err)
		}
		j.tellTaken(<-j.unrevoked)
		j.engine.Close()
	}()
	return done
}

// runLog is the fan-out with the log's own alarm. Its first event lets others follow.
type runLog struct {
	*eventlog.Fanout
	log   *eventlog.Writer
	first *sync.Once
	begun chan struct{}
}

// Emit records an event.
func (l runLog) Emit(e event.Event) error {
	err := l.Fanout.Emit(e)
	if err == nil {
		l.first.Do(func() { close(l.begun) })
	}
	return err
}

func (l runLog) Failed() <-chan struct{} { return l.log.Failed() }

func (j *job) params(in *interrupts) run.Params {
	var agentIn io.Reader = j.input
	var agentOut, agentErr io.Writer = j.out, j.err
	if j.term = j.terminal(); j.term == nil {
		agentIn, agentOut, agentErr = j.screen.in(j.in), j.screen.out(j.out), j.screen.out(j.err)
	}
	return run.Params{
		ID: j.session.Meta.ID, Plan: j.plan, Repo: j.ground.repo, Survey: j.ground.survey, Others: j.ground.others, Configs: j.ground.configs,
		Dir: j.session.RuntimeDir, Work: filepath.Join(j.session.Dir, session.WorkDir), Shim: j.shim, Seccomp: j.seccomp(), Sockets: j.ground.sockets,
		Runtime: checked{j.engine}, Images: j.engine, Before: j.before, Log: runLog{j.fanout, j.log, new(sync.Once), j.waits.begun}, Secrets: j.broker, Password: j.password,
		Signer: j.ground.signer,
		In:     agentIn, Out: agentOut, Err: agentErr, Terminal: j.term, Signals: in.forwarded, Stops: j.stops,
		Warn:    func(text string) { j.say("warning: %s", printable(text)) },
		Settle:  j.settle,
		Direct:  filepath.Join(j.session.Dir, directDir),
		Gone:    j.gone,
		Wipe:    j.clear,
		Seeds:   j.seeded(),
		Removed: func() { j.closeEngine() },
		Ready: func() {
			j.warnOfPlan()
			j.warnOfSecrets()
			j.tellAsking()
			j.running.Store(true)
			in.forward()
			debug.SetGCPercent(gcPercent)
		},
	}
}

// warnOfPlan says what the person would learn from the plan and should not miss: what of the repository is not as it
// may seem, and which limits that were asked for do not hold here.
func (j *job) warnOfPlan() {
	if j.quiet {
		return
	}
	for _, w := range j.ground.survey.Warnings {
		j.say("warning: %s", printable(w))
	}
	if problem := j.ground.signer.Problem; problem != nil {
		j.say("warning: nothing can be signed: %s", printable(problem.Error()))
		j.say("hint: %s", printable(hintOf(problem)))
	}
	var loose []string
	limits := j.plan.Grants.Limits
	for _, l := range []struct {
		name  string
		asked bool
	}{{"memory", limits.Memory > 0}, {"cpus", limits.CPUs > 0}} { // processes are bounded by a resource limit too
		if l.asked && !j.plan.Binding.Enforced[l.name] {
			loose = append(loose, l.name)
		}
	}
	if len(loose) > 0 {
		j.say("warning: the limits on %s are not enforced here; \"agentbox doctor\" says why", strings.Join(loose, ", "))
	}
}

// warnOfSecrets says which credentials can't be had, if that is known by now: a keyring that waits for its password
// must not hold the agent up.
func (j *job) warnOfSecrets() {
	select {
	case problems := <-j.problems:
		for _, err := range problems {
			j.say("warning: %s", err)
			if said := (interface{ Said() string })(nil); errors.As(err, &said) && said.Said() != "" {
				j.say("it said: %s", said.Said())
			}
			if hint := hintOf(err); hint != "" {
				j.say("hint: %s", hint)
			}
		}
	default:
	}
}

// Status and Stop are what other terminals ask of this run.
func (j *job) Status() session.Status {
	allowed, refused, _, _ := j.tally.Totals()
	s := session.Status{State: "starting", Allowed: int64(allowed), Denied: int64(refused), Waiting: len(j.Pending())}
	switch {
	case j.stopping.Load():
		s.State = "stopping"
	case j.running.Load():
		s.State = "running"
	}
	if limit := j.plan.Grants.Budget.Time; limit > 0 {
		deadline := j.began.Add(limit).UTC()
		s.Deadline = &deadline
	}
	return s
}

// Stop asks the run to end; the first reason wins.
func (j *job) Stop(reason string, force bool) {
	j.stopping.Store(true)
	select {
	case j.stops <- run.Stop{Reason: reason, Code: run.CodeStopped, Force: force}:
	default: // it has been asked often enough
	}
}

// terminal gives the person's terminal when there is one on both ends.
func (a *app) terminal() *run.Terminal { return run.OpenTerminal(a.in, a.out) }
