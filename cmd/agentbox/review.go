package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"agentbox/internal/apply"
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
	choice, err := tui.Show(ctx, a.in, a.out, tui.Review{Title: l.title(), Live: l.info.Live, Changes: l.list, Source: l.source,
		Colour: a.getenv("NO_COLOR") == ""})
	if err != nil {
		return &sayNext{err, l.next()}
	}
	switch choice.Do {
	case tui.Apply:
		return a.applyPicked(ctx, l, choice.Picked)
	case tui.Discard:
		return a.discardLeft(ctx, l)
	}
	a.say("%s", l.kept())
	return nil
}

func (a *app) applyPicked(ctx context.Context, l leftover, picks []tui.Pick) error {
	sel, parted := selection(picks, l.list)
	for _, dir := range parted {
		a.say("%s itself stays as it is: not all below it is applied", tui.Escaped(dir))
	}
	report, err := apply.Apply(ctx, l.source, sel)
	return a.tellReport(l, report, err, false)
}

// kept says in a line that a run's changes wait, and what to type next.
func (l leftover) kept() string {
	added, removed := 0, 0
	for _, c := range l.list {
		added, removed = added+c.Added, removed+c.Removed
	}
	text := fmt.Sprintf("%s, +%d -%d", times(uint64(len(l.list)), "change"), added, removed)
	if hasLater(l.list) {
		text += ", some of which would execute later"
	}
	return text + " are kept: " + l.next()
}

// next says what to type about a run's changes.
func (l leftover) next() string {
	return strings.ReplaceAll("agentbox diff RUN, agentbox apply RUN or agentbox discard RUN", "RUN", l.short())
}

// atEnd deals with what a run changed, once it has ended: the review on a terminal, what --on-exit says elsewhere.
func (a *app) atEnd(ctx context.Context, l leftover, onExit string) error {
	if !hasChanges(l) {
		a.say("nothing was changed")
		return nil
	}
	switch onExit {
	case onExitApply:
		return a.applySome(ctx, applyOptions{all: true}, l)
	case onExitDiscard:
		return a.discardLeft(ctx, l)
	case onExitKeep:
	default:
		if a.terminal() != nil {
			restoreScreen(a.out)
			return a.review(ctx, l)
		}
	}
	a.say("%s", l.kept())
	return nil
}

// restoreScreen takes back the modes that an agent may have left on: those in which keys and clicks would come in another
// form, and its own screen.
func restoreScreen(tty *os.File) {
	_, _ = io.WriteString(tty, inOrder+"\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l\x1b[?1l\x1b>\x1b[?2004l\x1b[<99u\x1b[>4m\r\n")
}
