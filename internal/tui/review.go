// Package tui holds the screens. The review is the first: what a run changed, file by file and hunk by hunk, and what is
// to become of it.
//
// A screen owns the terminal while it stands and leaves it as it was. It changes nothing: it gives back what the person
// chose, and only a key that says so is a choice; an error, a signal and the end of the terminal are Keep. Whatever an
// agent chose (names, contents) is shown written out where a terminal would obey it. Cost grows with what is seen:
// a row is drawn when it is in the window, and a text is loaded when it is looked at.
package tui

import (
	"context"
	"errors"
	"fmt"
	"os"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"agentbox/internal/changes"
	"agentbox/internal/sys"
)

// Source gives the text of a change.
type Source interface {
	Diff(ctx context.Context, c changes.Change) (changes.Text, error)
}

// Latest gives the changes as they are by now.
type Latest interface {
	Wait(ctx context.Context) error                                         // until they may be others
	List(ctx context.Context) (list []changes.Change, live bool, err error) // live: the run goes on
}

// Review is what is looked at.
type Review struct {
	Title   string // which run it is
	Live    bool   // it goes on
	Changes []changes.Change
	Source  Source
	Latest  Latest // nil: nothing changes any more
	Colour  bool
}

// Action is what the person wants done.
type Action int

// The actions. The zero value does nothing.
const (
	Keep Action = iota
	Apply
	Discard
)

// Choice is what the person decided. Picked is empty unless it is Apply.
type Choice struct {
	Do     Action
	Picked []Pick
}

// Pick is a change to apply. One that would execute later is among them only after a yes of its own.
type Pick struct {
	Change changes.Change
	Hunks  []string // the ids of those that are taken; nil is the whole change
}

// Show shows a review on a terminal until the person has chosen.
func Show(ctx context.Context, in, out *os.File, r Review) (Choice, error) {
	// What was typed before the screen stood there is no answer to it.
	if err := sys.FlushInput(int(in.Fd())); err != nil {
		return Choice{}, fmt.Errorf("showing the review: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx) // of what waits for changes, too
	defer cancel()
	m := newModel(ctx, r)
	profile := colorprofile.ASCII // the terminal is not asked, nor a program that would know of it run
	if r.Colour {
		profile = colorprofile.ANSI
	}
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithColorProfile(profile)).Run()
	switch {
	case errors.Is(err, tea.ErrInterrupted): // SIGINT, as from another terminal
		return Choice{}, nil
	case err != nil:
		return Choice{}, fmt.Errorf("showing the review: %w", err)
	}
	return m.choice, nil
}
