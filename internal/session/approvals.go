package session

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"agentbox/internal/approval"
)

// maxWatchers bounds those that watch the questions of a run, so that there is room left for answers.
const maxWatchers = 8

// Approvals is what a run asks of a person.
type Approvals interface {
	// Pending gives the questions that wait, the oldest first.
	Pending() []approval.Question
	// Answer answers a question: *approval.Settled when it has an answer already, approval.ErrUnknown when there is none.
	Answer(id string, a approval.Answer) error
	// Outcome says how a question ended, for some time.
	Outcome(id string) (approval.Outcome, bool)
	// Watch says that somebody looks at the questions, and can be asked, until stop is called. changed receives when they
	// are others.
	Watch() (changed <-chan struct{}, stop func())
}

// Change is what a watcher hears: a question that is new or has another number of waiters, or one that is settled.
type Change struct {
	Question *approval.Question `json:"question,omitempty"`
	Outcome  *approval.Outcome  `json:"outcome,omitempty"`
}

func (v *server) list(conn *net.UnixConn) error {
	open := v.handler.Pending()
	if err := answer(conn, response{OK: true, Lines: len(open)}); err != nil {
		return err
	}
	for _, q := range open {
		if err := answer(conn, q); err != nil {
			return err
		}
	}
	return nil
}

func (v *server) answered(id string, err error) response {
	var settled *approval.Settled
	switch {
	case err == nil:
		return response{OK: true}
	case errors.As(err, &settled):
		return response{Error: err.Error(), Outcome: &settled.Outcome}
	}
	return response{Error: err.Error()}
}

func (v *server) outcome(id string) response {
	o, ok := v.handler.Outcome(id)
	if !ok {
		return response{Error: approval.ErrUnknown.Error()}
	}
	return response{OK: true, Outcome: &o}
}

// watch tells a client every change until it is gone, or does not listen.
func (v *server) watch(conn *net.UnixConn, lines *bufio.Reader) {
	select {
	case v.watchers <- struct{}{}:
		defer func() { <-v.watchers }()
	default:
		_ = answer(conn, response{Error: fmt.Sprintf("%d others watch already", maxWatchers)})
		return
	}
	changed, stop := v.handler.Watch()
	defer stop()
	if conn.SetReadDeadline(time.Time{}) != nil || answer(conn, response{OK: true}) != nil {
		return
	}
	gone := make(chan struct{})
	v.all.Go(func() {
		defer close(gone)
		for {
			if _, _, err := lines.ReadLine(); err != nil {
				return
			}
		}
	})
	known := map[string]int{} // waiters by question
	for v.tell(conn, known) == nil {
		select {
		case <-changed:
		case <-gone:
			return
		case <-v.quit:
			return
		}
	}
}

// tell writes how the questions differ from those that are known, and knows them then.
func (v *server) tell(conn *net.UnixConn, known map[string]int) error {
	open := map[string]bool{}
	for _, q := range v.handler.Pending() {
		open[q.ID] = true
		if known[q.ID] == q.Waiters {
			continue
		}
		known[q.ID] = q.Waiters
		if err := answer(conn, Change{Question: &q}); err != nil {
			return err
		}
	}
	for id := range known {
		if open[id] {
			continue
		}
		delete(known, id)
		o, ok := v.handler.Outcome(id)
		if !ok {
			o = approval.Outcome{ID: id}
		}
		if err := answer(conn, Change{Outcome: &o}); err != nil {
			return err
		}
	}
	return nil
}

// Pending asks for the questions that wait.
func (c *Client) Pending(ctx context.Context) ([]approval.Question, error) {
	r, err := c.ask(ctx, request{Op: "approvals"})
	if err != nil {
		return nil, err
	}
	release := c.bound(ctx)
	defer release()
	var out []approval.Question
	for range r.Lines {
		var q approval.Question
		if err := c.read(&q); err != nil {
			return out, fmt.Errorf("asking session %s: %w", c.info.ID, errors.Join(ctx.Err(), err))
		}
		out = append(out, q)
	}
	return out, nil
}

// Answer answers a question: *approval.Settled when it has an answer already, approval.ErrUnknown when there is none.
func (c *Client) Answer(ctx context.Context, id string, scope approval.Scope, reason string) error {
	_, err := c.ask(ctx, request{Op: "answer", ID: id, Scope: scope, Reason: reason})
	return err
}

// Outcome asks how a question ended; approval.ErrUnknown when the session does not know.
func (c *Client) Outcome(ctx context.Context, id string) (approval.Outcome, error) {
	r, err := c.ask(ctx, request{Op: "outcome", ID: id})
	if err != nil || r.Outcome == nil {
		return approval.Outcome{}, err
	}
	return *r.Outcome, nil
}

// Watch calls on with every change of the session's questions, beginning with those that wait, until the session ends,
// which gives nil, or ctx is done. ready, when it is not nil, is called once somebody can be asked by it.
func (c *Client) Watch(ctx context.Context, ready func(), on func(Change) error) error {
	if _, err := c.ask(ctx, request{Op: "watch"}); err != nil {
		return err
	}
	if ready != nil {
		ready()
	}
	release := c.bound(ctx)
	defer release()
	for {
		var change Change
		if err := c.read(&change); err != nil {
			return ctx.Err()
		}
		if err := on(change); err != nil {
			return err
		}
	}
}
