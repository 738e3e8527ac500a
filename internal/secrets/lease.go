package secrets

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"agentbox/internal/event"
)

// Source is where the values of one credential come from: one file of this package for each kind.
type Source interface {
	// Fetch gives a value that can be used from now on. An error says in one phrase what is the matter, without a value
	// and without the credential's name; it may have a Hint() string that says what the person can do. One that has a
	// Temporary() bool that is true may be over soon: then a request that comes later asks again.
	Fetch(ctx context.Context) (Lease, error)
}

// Lease is a value and how long it may be used.
type Lease struct {
	Value   Secret
	Expires time.Time                       // by this machine's clock; zero: as long as the run
	Revoke  func(ctx context.Context) error // takes the value back where it came from; nil: there is nothing to take back
	Claim   Claim                           // what another process needs, beside the value, to do the same; set with Revoke
	Also    []Secret                        // what else was learned on the way, and must not leak; set also with an error
}

// When a lease is renewed, and when what failed is tried again.
const (
	renewBefore  = 5 * time.Minute // before it expires, and a fifth of its life at the most
	retryFirst   = 5 * time.Second // twice as long after each failure
	retryLongest = time.Minute
)

// tenure is what a credential has of its source: the lease in use, and the fetching of the next.
type tenure struct {
	mu       sync.Mutex
	lease    Lease
	minted   int           // leases that there were
	renew    time.Time     // when the next is to be fetched; zero: never
	fetching chan struct{} // closed when the fetch that goes on has ended; nil: none goes on
	err      error         // how the last fetch failed
	failures int           // in a row
	again    time.Time     // when it may be tried again after err; zero: never
	cut      *Refused      // it is not used any more
	debts    []debt        // leases that are to be taken back
	taking   chan struct{} // holds one while they are
}

// usable reports whether the lease can be used at now.
func (t *tenure) usable(now time.Time) bool {
	return t.minted > 0 && (t.lease.Expires.IsZero() || now.Before(t.lease.Expires))
}

// due reports whether a fetch may begin at now.
func (t *tenure) due(now time.Time) bool {
	switch {
	case t.fetching != nil:
		return false
	case t.err != nil:
		return !t.again.IsZero() && !now.Before(t.again)
	case t.minted == 0:
		return true
	}
	return !t.renew.IsZero() && !now.Before(t.renew)
}

func ended(credential string) *Refused {
	return &Refused{Credential: credential, Reason: "the run has ended and its placeholders with it"}
}

// begin has the value fetched if it is not there.
func (b *Broker) begin(h *held) { _, _, _ = b.current(h) }

// read gives the value, and waits for it where there is none yet.
func (b *Broker) read(ctx context.Context, h *held) (Secret, error) {
	for {
		value, wait, err := b.current(h)
		if wait == nil {
			return value, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return Secret{}, ctx.Err()
		}
	}
}

// current gives the value of now, or what to wait for until there may be one. Near its end a lease is still good, and the
// next one is fetched meanwhile.
func (b *Broker) current(h *held) (value Secret, wait <-chan struct{}, err error) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.TTL > 0 && now.Sub(b.began) >= h.TTL { // by the wall clock, which goes on while a machine sleeps
		b.expire(h)
	}
	if h.cut != nil {
		return Secret{}, nil, h.cut
	}
	if h.due(now) && !b.launch(h) {
		return Secret{}, nil, ended(h.Name)
	}
	switch {
	case h.usable(now):
		return h.lease.Value, nil, nil
	case h.fetching != nil:
		return Secret{}, h.fetching, nil
	}
	return Secret{}, nil, h.err
}

// outlive ends a credential whose time is over by the clock that nobody sets.
func (b *Broker) outlive(h *held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b.expire(h)
}

// expire cuts it off, once. h.mu is held.
func (b *Broker) expire(h *held) {
	if h.cut == nil {
		h.cut = b.outlived(h)
		h.end()
	}
}

// outlived ends a credential whose time in this run is over.
func (b *Broker) outlived(h *held) *Refused {
	b.aside(func() { _ = b.stopped(b.ctx, h, fmt.Sprintf("its ttl of %s in this run is over", h.TTL)) }) // the event says how it went
	return &Refused{Credential: h.Name, Reason: fmt.Sprintf("credential %q may be used for %s of a run, and that is over", h.Name, h.TTL),
		Tip: "start another run, or give the credential a longer ttl in the profile"}
}

// launch starts the one fetch that goes on at a time, unless the broker is closed. h.mu is held.
func (b *Broker) launch(h *held) bool {
	done := make(chan struct{})
	h.fetching = done
	ok := b.aside(func() { b.fetched(h, done) })
	if !ok {
		h.fetching = nil
	}
	return ok
}

// aside does something that Close waits for, unless the broker is closed.
func (b *Broker) aside(do func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.reading.Go(do)
	return true
}

// fetched carries out a fetch, and keeps what came of it.
func (b *Broker) fetched(h *held, done chan struct{}) {
	lease, err := b.fetch(h)
	h.mu.Lock()
	h.fetching = nil
	close(done)
	late := h.cut != nil
	if err == nil {
		h.keep(lease)
	} else {
		h.failed(err)
	}
	h.mu.Unlock()
	if late {
		_ = b.takeBack(b.ctx, h, "it was stopped while it was fetched") // the event says how it went
	}
}

func (t *tenure) keep(lease Lease) {
	t.lease, t.err, t.failures, t.renew = lease, nil, 0, time.Time{}
	t.minted++
	if !lease.Expires.IsZero() {
		life := time.Until(lease.Expires)
		t.renew = lease.Expires.Add(-min(renewBefore, life/5))
	}
}

// failed keeps err for those who ask until it may be tried again. What never worked is not tried again unless it says that
// it may be over: a person is not asked for the same password again and again.
func (t *tenure) failed(err error) {
	t.err, t.again = err, time.Time{}
	passing := (interface{ Temporary() bool })(nil)
	if t.minted == 0 && (!errors.As(err, &passing) || !passing.Temporary()) {
		return
	}
	t.failures++
	t.again = time.Now().Add(min(retryFirst<<min(t.failures-1, 10), retryLongest))
}

// fetch asks the source, checks what it gives, and has it recorded before anybody uses it.
func (b *Broker) fetch(h *held) (Lease, error) {
	lease, err := h.Source.Fetch(b.ctx)
	if err == nil {
		lease.Value = trimmed(lease.Value)
		b.known(h.placeholder, lease.Value)
	}
	for _, also := range lease.Also { // after the value, which may be among them, and has a placeholder
		b.known("", also)
	}
	lease.Expires = lease.Expires.Round(0) // by the wall: a machine that slept is not younger for it
	if err == nil {
		if err = check(h, lease); err != nil {
			err = errors.Join(err, b.unused(h, lease))
		}
	} else {
		err = unfetched(h.Credential, err)
	}
	if err == nil && lease.Revoke != nil {
		err = b.owe(h, lease)
	}
	if noted := b.noteFetch(h, lease, err); err == nil {
		err = noted
	}
	if err != nil {
		return Lease{}, err
	}
	return lease, nil
}

// trimmed is without what stands around it: a pasted newline is not part of a token.
func trimmed(s Secret) Secret {
	value := s.Reveal()
	if bare := strings.TrimSpace(value); bare != value {
		s.Destroy()
		return New(bare)
	}
	return s
}

func unfetched(c Credential, err error) error {
	e := &Refused{Credential: c.Name, Reason: fmt.Sprintf("credential %q has no value: %s", c.Name, err), Err: err}
	if hinted := (interface{ Hint() string })(nil); errors.As(err, &hinted) {
		e.Tip = hinted.Hint()
	}
	return e
}

// check sees that the value can stand in a header, and is good for a while.
func check(h *held, lease Lease) error {
	c := h.Credential
	switch {
	case lease.Value.IsZero():
		return &Refused{Credential: c.Name, Reason: fmt.Sprintf("credential %q is empty where it comes from", c.Name), Tip: tipOf(c.Source)}
	case !lease.Expires.IsZero() && !time.Now().Before(lease.Expires):
		return &Refused{Credential: c.Name, Reason: fmt.Sprintf("credential %q had expired when it came, at %s", c.Name, lease.Expires.UTC().Format(time.RFC3339)),
			Tip: "see whether this machine's clock is right: timedatectl"}
	case h.placeholder != "": // what no request gets may be anything
		if err := Carries(lease.Value); err != nil {
			return &Refused{Credential: c.Name, Reason: fmt.Sprintf("credential %q can't be used: %s", c.Name, err), Tip: tipOf(c.Source)}
		}
	}
	return nil
}

// noteFetch records how a fetch went. What can't be recorded is not used.
func (b *Broker) noteFetch(h *held, lease Lease, err error) error {
	e := event.Event{Kind: event.CredentialMint, Decision: event.Allow, Credential: h.Name, Rule: h.Rule, Detail: map[string]string{}}
	h.mu.Lock()
	if h.minted > 0 {
		e.Kind = event.CredentialRenew
	}
	h.mu.Unlock()
	if h.From != "" {
		e.Detail["source"] = h.From
	}
	if !lease.Expires.IsZero() && err == nil {
		e.Detail["expires"] = lease.Expires.UTC().Format(time.RFC3339)
	}
	if err != nil {
		e.Decision, e.Reason = event.Deny, err.Error()
	}
	if b.note(h, e) != nil {
		return &Refused{Credential: h.Name, Reason: fmt.Sprintf("credential %q is not used: that it was fetched could not be recorded", h.Name)}
	}
	return nil
}

// note records something about a credential. A value of the person's own that no request gets is none.
func (b *Broker) note(h *held, e event.Event) error {
	if b.events == nil || h.placeholder == "" {
		return nil
	}
	e.Who = event.Agent
	return b.events.Emit(e)
}

// tipOf is how a person gives a source a value, or "" where it does not say.
func tipOf(s Source) string {
	if t, ok := s.(interface{ Tip() string }); ok {
		return t.Tip()
	}
	return ""
}
