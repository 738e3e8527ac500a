package run

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/shimwire"
)

// fakeLink records what is asked of it.
type fakeLink struct {
	messages chan shimwire.Message
	signals  []int
	closed   bool
}

func (l *fakeLink) Messages() <-chan shimwire.Message { return l.messages }
func (l *fakeLink) Signal(n int) error                { l.signals = append(l.signals, n); return nil }
func (l *fakeLink) Resize(uint16, uint16) error       { return nil }
func (l *fakeLink) Continue() error                   { return nil }
func (l *fakeLink) Close() error                      { l.closed = true; return nil }

func supervise() (*supervisor, *fakeLink, *[]event.Event) {
	l := &fakeLink{messages: make(chan shimwire.Message, 4)}
	var events []event.Event
	return &supervisor{link: l, record: func(e event.Event) { events = append(events, e) }}, l, &events
}

func TestEndings(t *testing.T) {
	closed := make(chan struct{})
	close(closed)
	now := make(chan time.Time, 1)
	now <- time.Time{}
	stops := make(chan Stop, 1)
	stops <- Stop{Reason: "by hand", Code: CodeStopped, Force: true}
	lost := make(chan string, 1)
	lost <- "/repo/.git/config"
	pipe := make(chan error, 1)
	pipe <- syscall.EPIPE
	unwatched := make(chan string)
	close(unwatched)
	for name, c := range map[string]struct {
		set  func(*supervisor, *fakeLink)
		code int
	}{
		"exit":            {func(_ *supervisor, l *fakeLink) { l.messages <- shimwire.Message{Exit: &shimwire.Exit{Code: 7}} }, 7},
		"killed":          {func(_ *supervisor, l *fakeLink) { l.messages <- shimwire.Message{Exit: &shimwire.Exit{Signal: 9}} }, 137},
		"shim lost":       {func(_ *supervisor, l *fakeLink) { close(l.messages) }, CodeFailed},
		"log broken":      {func(s *supervisor, _ *fakeLink) { s.broken = closed }, CodeFailed},
		"guard lost":      {func(s *supervisor, _ *fakeLink) { s.guard = lost }, CodeFailed},
		"guard unwatched": {func(s *supervisor, _ *fakeLink) { s.guard = unwatched }, CodeFailed},
		"stop by force":   {func(s *supervisor, _ *fakeLink) { s.stops = stops }, CodeStopped},
		"output unread": {func(s *supervisor, l *fakeLink) {
			s.output = pipe
			l.messages = make(chan shimwire.Message)
			s.record = func(event.Event) { go func() { l.messages <- shimwire.Message{Exit: &shimwire.Exit{Signal: 15}} }() }
		}, 141},
		"budget": {func(s *supervisor, l *fakeLink) {
			s.budget = now
			l.messages = make(chan shimwire.Message)
			s.record = func(event.Event) { go func() { l.messages <- shimwire.Message{Exit: &shimwire.Exit{Code: 0}} }() }
		}, CodeBudget},
	} {
		s, l, _ := supervise()
		c.set(s, l)
		code, reason := s.wait()
		if code != c.code || reason == "" || !l.closed {
			t.Errorf("%s: %d (%s), closed %v; want %d", name, code, reason, l.closed, c.code)
		}
	}
}

func TestProgramNotFoundIsAFailureToStart(t *testing.T) {
	s, l, _ := supervise()
	l.messages <- shimwire.Message{Error: &shimwire.Error{Kind: shimwire.ErrNotFound, Text: "no such program"}}
	if s.wait(); s.failure == nil || s.failure.Code != CodeNotFound || s.failure.Hint == "" {
		t.Errorf("got %+v", s.failure)
	}
}

// TestTheSecondInterruptEndsTheRun: the first is the agent's to answer.
func TestTheSecondInterruptEndsTheRun(t *testing.T) {
	s, l, events := supervise()
	signals := make(chan os.Signal, 2)
	s.signals = signals
	signals <- syscall.SIGINT
	signals <- syscall.SIGINT
	code, _ := s.wait()
	if code != 130 || !slices.Equal(l.signals, []int{int(syscall.SIGINT)}) || len(*events) != 1 || !l.closed {
		t.Errorf("code %d, signals %v, events %+v", code, l.signals, *events)
	}
}

func TestTermIsPassedOnAndKeepsItsCode(t *testing.T) {
	s, l, events := supervise()
	signals := make(chan os.Signal, 1)
	s.signals = signals
	s.record = func(e event.Event) {
		*events = append(*events, e)
		l.messages <- shimwire.Message{Exit: &shimwire.Exit{Code: 0}}
	}
	signals <- syscall.SIGTERM
	code, _ := s.wait()
	if code != 143 || len(*events) != 1 || (*events)[0].Kind != event.RunStop || l.signals[0] != int(syscall.SIGTERM) {
		t.Errorf("code %d, signals %v, events %+v", code, l.signals, *events)
	}
}
