//go:build linux

package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"agentbox/internal/approval"
)

// asked is a run's questions without a gate.
type asked struct {
	qmu      sync.Mutex
	open     []approval.Question
	settled  map[string]approval.Outcome
	watching int
	changes  chan struct{}
}

func (a *asked) Pending() []approval.Question {
	a.qmu.Lock()
	defer a.qmu.Unlock()
	return append([]approval.Question(nil), a.open...)
}

func (a *asked) Answer(id string, answer approval.Answer) error {
	a.qmu.Lock()
	defer a.qmu.Unlock()
	if err := answer.Check(); err != nil {
		return err
	}
	if o, ok := a.settled[id]; ok {
		return &approval.Settled{Outcome: o}
	}
	for i, q := range a.open {
		if q.ID == id {
			a.open = append(a.open[:i:i], a.open[i+1:]...)
			if a.settled == nil {
				a.settled = map[string]approval.Outcome{}
			}
			a.settled[id] = approval.Outcome{ID: id, Answer: answer}
			a.changes <- struct{}{}
			return nil
		}
	}
	return approval.ErrUnknown
}

func (a *asked) Outcome(id string) (approval.Outcome, bool) {
	a.qmu.Lock()
	defer a.qmu.Unlock()
	o, ok := a.settled[id]
	return o, ok
}

func (a *asked) Watch() (<-chan struct{}, func()) {
	a.qmu.Lock()
	defer a.qmu.Unlock()
	a.watching++
	return a.changes, func() {
		a.qmu.Lock()
		defer a.qmu.Unlock()
		a.watching--
	}
}

func (a *asked) pose(q approval.Question) {
	a.qmu.Lock()
	a.open = append(a.open, q)
	a.qmu.Unlock()
	a.changes <- struct{}{}
}

func dial(t *testing.T, info Info) *Client {
	t.Helper()
	c, err := Dial(info)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// nasty is a question in which everything that an agent chooses is as large and as odd as it can be.
func nasty(id string) approval.Question {
	odd := strings.Repeat("\x00\x1b\xff", 341) + "\n"
	return approval.Question{ID: id, Asked: time.Now().UTC(), Host: strings.Repeat("h", 253), Port: 443, Scheme: "https", Method: odd[:64], Path: odd,
		Git: odd, Reason: strings.Repeat("\x1b", 1024), Rule: strings.Repeat("/", 1024), Waiters: 1}
}

func TestQuestionsGoOverTheSocket(t *testing.T) {
	s, h, info := serve(t, os.Getuid())
	h.changes = make(chan struct{}, 100)
	for i := range 64 {
		h.pose(nasty(fmt.Sprintf("q%02d", i)))
	}
	c := dial(t, info)
	open, err := c.Pending(t.Context())
	if err != nil || len(open) != 64 || open[63].ID != "q63" || !strings.HasPrefix(open[0].Path, "\x00\x1b") {
		t.Fatalf("%d questions, %v", len(open), err)
	}
	if err := c.Answer(t.Context(), "q03", approval.Deny, "no \x1b[2J"); err != nil {
		t.Error(err)
	}
	var settled *approval.Settled
	if err := c.Answer(t.Context(), "q03", approval.Once, ""); !errors.As(err, &settled) || settled.By != approval.BySocket || settled.Reason != "no \x1b[2J" {
		t.Errorf("a second answer: %v", err)
	}
	if o, err := c.Outcome(t.Context(), "q03"); err != nil || o.Scope != approval.Deny {
		t.Errorf("its outcome: %+v, %v", o, err)
	}
	if err := c.Answer(t.Context(), "nope", approval.Once, ""); !errors.Is(err, approval.ErrUnknown) {
		t.Errorf("no question: %v", err)
	}
	if _, err := c.Outcome(t.Context(), "q04"); !errors.Is(err, approval.ErrUnknown) {
		t.Errorf("no outcome: %v", err)
	}
	if err := c.Answer(t.Context(), "q04", "forever", ""); err == nil || errors.Is(err, approval.ErrUnknown) {
		t.Errorf("no answer: %v", err)
	}
	if err := c.Answer(t.Context(), "q04", approval.Deny, strings.Repeat("x", maxLine)); err == nil {
		t.Error("a reason of any length is taken")
	}
	if err := s.End(End{}); err != nil {
		t.Error(err)
	}
}

func TestWatchersHearEveryChangeAndCount(t *testing.T) {
	s, h, info := serve(t, os.Getuid())
	h.changes = make(chan struct{}, 100)
	h.pose(nasty("q1"))
	heard, ready, done := make(chan string), make(chan struct{}), make(chan error)
	watcher := dial(t, info)
	go func() {
		done <- watcher.Watch(t.Context(), func() { close(ready) }, func(c Change) error {
			if c.Question != nil {
				heard <- "asked " + c.Question.ID
			} else {
				heard <- "settled " + c.Outcome.ID + " " + string(c.Outcome.Scope)
			}
			return nil
		})
	}()
	<-ready
	h.qmu.Lock()
	if h.watching != 1 {
		t.Errorf("%d watch", h.watching)
	}
	h.qmu.Unlock()
	expect := func(want string) {
		t.Helper()
		if got := <-heard; got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	expect("asked q1")
	h.pose(nasty("q2"))
	expect("asked q2")
	if err := dial(t, info).Answer(t.Context(), "q1", approval.Run, ""); err != nil {
		t.Error(err)
	}
	expect("settled q1 run")
	if err := s.End(End{}); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("at the end of the session: %v", err)
	}
	if h.watching != 0 {
		t.Error("it counts as watching still")
	}
}

// Watchers leave room for those who stop the run or answer.
func TestWatchersAreBounded(t *testing.T) {
	s, h, info := serve(t, os.Getuid())
	h.changes = make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range maxWatchers {
		c, ready := dial(t, info), make(chan struct{})
		all.Go(func() { _ = c.Watch(ctx, func() { close(ready) }, func(Change) error { return nil }) })
		<-ready
	}
	if err := dial(t, info).Watch(ctx, nil, func(Change) error { return nil }); err == nil || !strings.Contains(err.Error(), "8 others watch already") {
		t.Errorf("one too many: %v", err)
	}
	if _, err := dial(t, info).Status(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	all.Wait()
	if err := s.End(End{}); err != nil {
		t.Error(err)
	}
}
