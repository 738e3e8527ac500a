package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"agentbox/internal/apply"
	"agentbox/internal/changes"
	"agentbox/internal/run"
	"agentbox/internal/tui"
)

// What becomes of a run's changes at its end where nobody is asked.
const (
	onExitApply   = "apply"
	onExitKeep    = "keep"
	onExitDiscard = "discard"
)

func onExits() []string { return []string{onExitApply, onExitKeep, onExitDiscard} }

// review shows what a run changed on the terminal, and does what the person then wants.
func (a *app) review(ctx context.Context, l leftover) error {
	r := tui.Review{Title: l.title(), Live: l.info.Live, Changes: l.list, Source: l.source, Colour: a.getenv("NO_COLOR") == ""}
	if l.info.Live {
		w := l.source.Watch()
		defer func() { _ = w.Close() }() // it only read
		r.Latest = &latest{a: a, l: l, watcher: w}
	}
	choice, err := tui.Show(ctx, a.in, a.out, r)
	if err != nil {
		return &sayNext{err, l.next("")}
	}
	switch choice.Do {
	case tui.Apply:
		return a.applyPicked(ctx, l, choice.Picked)
	case tui.Discard:
		if l.info, err = a.session([]string{l.info.ID}); err != nil { // it may have ended meanwhile
			return err
		}
		return a.discardLeft(ctx, l)
	}
	a.say("%s", l.kept(""))
	return nil
}

// latest lists the changes of a run that goes on.
type latest struct {
	a       *app
	l       leftover
	watcher *changes.Watcher
	took    atomic.Int64 // the last look, in nanoseconds
}

// Wait waits until there may be others.
func (n *latest) Wait(ctx context.Context) error {
	return n.watcher.Wait(ctx, max(watchEvery, 4*time.Duration(n.took.Load())))
}

// List lists them as they are now.
func (n *latest) List(ctx context.Context) ([]changes.Change, bool, error) {
	began := time.Now()
	info, err := n.a.session([]string{n.l.info.ID}) // first: what is listed of an ended run is all
	if err != nil {
		return nil, false, err
	}
	list, err := n.l.source.List(ctx)
	n.took.Store(int64(time.Since(began)))
	return list, info.Live, err
}

func (a *app) applyPicked(ctx context.Context, l leftover, picks []tui.Pick) error {
	report, err := apply.Apply(ctx, l.source, selection(picks))
	return a.tellReport(l, report, err, false)
}

// kept says in a line that a run's changes wait, and what to type next; how is what "agentbox apply" is told.
func (l leftover) kept(how string) string {
	if !hasChanges(l) {
		return strings.ReplaceAll("no file has changed, and what was committed is kept: agentbox apply RUN --commits takes it, agentbox discard RUN drops it", "RUN", l.short())
	}
	text := tui.Summary(l.list)
	if hasLater(l.list) {
		text += ", some of which would execute later"
	}
	if len(l.list) == 1 {
		return text + ", is kept apart from your files: " + strings.ReplaceAll(l.next(how), " them", " it")
	}
	return text + ", are kept apart from your files: " + l.next(how)
}

// next says what to type about a run's changes.
func (l leftover) next(how string) string {
	return strings.ReplaceAll("agentbox diff RUN shows them, agentbox apply RUN"+how+" takes them, agentbox discard RUN drops them", "RUN", l.short())
}

// afterwards deals with what a run changed, once it has ended. Its exit code stays the agent's, unless --on-exit asked for
// what could not be done.
func (a *app) afterwards(ctx context.Context, o runOptions, id string, kept bool, out run.Outcome, failed error) error {
	if !kept {
		return nil
	}
	info, err := a.session([]string{id})
	if err != nil {
		a.tellOnly(err)
		return nil
	}
	l, err := openLeft(ctx, info)
	if err != nil {
		a.tellOnly(&sayNext{err, leftover{info: info}.next("")})
		return nil
	}
	if failed != nil || gone(out.Code) {
		o.onExit = onExitKeep
	}
	err = a.settleChanges(ctx, o, l)
	a.tellOnly(err)
	if err != nil && o.onExit == onExitApply && out.Code == 0 {
		return exitCode(run.CodeFailed)
	}
	return nil
}

// gone reports whether a run was ended by what also takes the terminal, or whoever is at it, away.
func gone(code int) bool {
	return code == 128+int(syscall.SIGHUP) || code == 128+int(syscall.SIGTERM) || code == run.CodeStopped
}

// tellOnly says an error that does not end the program.
func (a *app) tellOnly(err error) {
	var code exitCode
	if err == nil || errors.As(err, &code) {
		return
	}
	a.say("%s", err)
	if hint := hintOf(err); hint != "" {
		a.say("hint: %s", hint)
	}
}

// settleChanges does what --on-exit says; without it the person is asked on a terminal, and nothing happens elsewhere.
func (a *app) settleChanges(ctx context.Context, o runOptions, l leftover) error {
	switch {
	case o.onExit == onExitDiscard:
		return a.discardLeft(ctx, l)
	case !hasChanges(l):
	case o.onExit == onExitApply:
		return a.applySome(ctx, applyOptions{all: true}, l)
	case o.onExit == "" && a.terminal() != nil:
		restoreScreen(a.out)
		return a.review(ctx, l)
	}
	if o.quiet {
		return nil
	}
	how := ""
	if a.terminal() == nil { // at which to pick
		how = " --all"
	}
	a.say("%s", l.kept(how))
	return nil
}

// restoreScreen takes back the modes that an agent may have left on: those in which keys and clicks would come in another
// form, and its own screen.
func restoreScreen(tty *os.File) {
	_, _ = io.WriteString(tty, inOrder+"\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l\x1b[?1l\x1b>\x1b[?2004l\x1b[<99u\x1b[>4m\r\n")
}
