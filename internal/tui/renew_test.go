package tui

import (
	"context"
	"errors"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"

	"agentbox/internal/changes"
)

// moving is a run that goes on: what it lists is what a test says.
type moving struct {
	list []changes.Change
	live bool
	err  error
}

func (m *moving) Wait(context.Context) error { return nil }

func (m *moving) List(context.Context) ([]changes.Change, bool, error) { return m.list, m.live, m.err }

// openLive is a screen of a run that goes on. Its waiting is the test's: what is listed comes when it says so.
func openLive(t *testing.T) (screen, *moving) {
	t.Helper()
	list, source := example()
	run := &moving{list: list, live: true}
	s := screen{t, newModel(t.Context(), Review{Title: "run x7k2", Live: true, Changes: list, Source: source, Latest: run})}
	s.send(tea.WindowSizeMsg{Width: 100, Height: 24})
	s.follow(s.look())
	return s, run
}

// listed hands the model what there is now.
func (s screen) listed(run *moving) { s.send(listed{list: run.list, live: run.live, err: run.err}) }

// another is a list in which a change is of another content.
func another(list []changes.Change, path string) []changes.Change {
	out := append([]changes.Change(nil), list...)
	for i := range out {
		if out[i].Path == path {
			out[i].Mark += " again"
		}
	}
	return out
}

// A pick stays with the content that it was made for. What changed since, and what came, is left out and says so.
func TestPicksStayWithTheirContent(t *testing.T) {
	s, run := openLive(t)
	s.press("space") // both.go is left out
	s.press("down", "down")
	if at := s.list.current().Path; at != "main.go" {
		t.Fatalf("the cursor is at %s", at)
	}
	run.list = append(another(run.list, "main.go"), modified("aaa.go"), modified("zzz.go"))
	s.listed(run)
	if at := s.list.current().Path; at != "main.go" {
		t.Errorf("the cursor went to %s", at)
	}
	s.shows("[?] M  main.go", "[?] M  aaa.go", "[ ] C  both.go", "[x] M  logo.png", "3 new or changed since", "1 of 6 selected")
	s.press("space", "a")
	if got := strings.Join(s.paths(), " "); got != "logo.png main.go" {
		t.Errorf("picked %s", got)
	}
	for _, p := range s.choice.Picked {
		if p.Change.Path == "main.go" && p.Change.Mark != "mark of main.go again" {
			t.Errorf("what is picked is %q", p.Change.Mark)
		}
	}
}

// A hunk that was picked is of the text that was seen.
func TestHunksAreLeftOutWhenTheTextChanged(t *testing.T) {
	s, run := openLive(t)
	s.press("n", "space") // of both.go, the first hunk is left out
	s.shows("[~] C  both.go")
	s.listed(run)
	s.shows("[~] C  both.go")
	run.list = another(run.list, "both.go")
	s.listed(run)
	s.shows("[?] C  both.go", "1 new or changed since")
	s.press("home")
	s.shows("new, or changed since it was selected")
}

// A yes is for what was looked at.
func TestAQuestionGoesWhenItsFileChanged(t *testing.T) {
	s, run := openLive(t)
	s.press("home", "space")
	s.shows("y takes it all the same")
	run.list = another(run.list, "main.go") // something else
	s.listed(run)
	s.shows("y takes it all the same")
	run.list = another(run.list, "package.json")
	s.listed(run)
	s.shows("it changed meanwhile")
	s.press("y", "a")
	if got := strings.Join(s.paths(), " "); strings.Contains(got, "package.json") {
		t.Errorf("picked %s", got)
	}
}

// What the person reads stays where it is while the list moves, and the text is loaded once for each content.
func TestReadingGoesOn(t *testing.T) {
	s, run := openLive(t)
	s.press("n", "n", "down")
	_ = s.text()
	at, asked := s.pane.at, len(s.source.(*texts).asked)
	run.list = append([]changes.Change{modified("aaa.go")}, run.list...)
	s.listed(run)
	if s.pane.at != at || len(s.source.(*texts).asked) != asked || s.pane.path != "both.go" {
		t.Errorf("at %v, not %v; asked %d times, not %d", s.pane.at, at, len(s.source.(*texts).asked), asked)
	}
	run.list = another(run.list, "both.go")
	s.listed(run)
	if s.pane.at != at || len(s.source.(*texts).asked) != asked+1 {
		t.Errorf("after a change at %v, not %v; asked %d times", s.pane.at, at, len(s.source.(*texts).asked))
	}
}

// Where the file under the cursor is gone, the cursor is near; the last one that goes leaves an empty screen, and one that comes
// fills it again.
func TestTheCursorsFileGoes(t *testing.T) {
	s, run := openLive(t)
	all := run.list
	for len(run.list) > 0 {
		gone := s.list.current().Path
		var left []changes.Change
		for _, c := range run.list {
			if c.Path != gone {
				left = append(left, c)
			}
		}
		run.list = left
		s.listed(run)
		if it := s.list.current(); it == nil != (len(left) == 0) || it != nil && it.Path == gone {
			t.Fatalf("%s is gone, the cursor is at %v", gone, it)
		}
		_ = s.text()
	}
	s.shows("nothing was changed")
	run.list = all
	s.listed(run)
	s.shows("main.go", "0 of 4 selected")
}

// r looks at once. The end of the run is seen; an error is told, and what was there stays.
func TestLookingAgain(t *testing.T) {
	s, run := openLive(t)
	s.shows("the run goes on")
	run.list = append(run.list, modified("aaa.go"))
	s.press("r")
	s.shows("aaa.go")
	run.err = errors.New("no\x1b[2J luck")
	s.press("r")
	s.shows(`looking again: no\u001b[2J luck`, "aaa.go")
	run.err, run.live = nil, false
	s.press("r")
	if strings.Contains(s.text(), "the run goes on") {
		t.Error("it goes on")
	}
	s.press("d")
	s.shows("throw away all 6 changes")
}

// It waits for the next change until the run has ended.
func TestWaitingGoesOn(t *testing.T) {
	s, run := openLive(t)
	if s.await()() == nil {
		t.Error("it does not list")
	}
	if cmd := s.renew(listed{list: run.list, live: true, await: true}); cmd == nil {
		t.Error("it waits no more")
	}
	if cmd := s.renew(listed{list: run.list, live: false, await: true}); cmd != nil {
		t.Error("it waits for a run that has ended")
	}
}
