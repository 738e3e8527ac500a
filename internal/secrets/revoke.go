package secrets

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"agentbox/internal/event"
)

// Ledger remembers, outside this process, what has to be taken back when it dies. Debts is one.
type Ledger interface {
	// Owe records a lease of a credential before it is used. The function it returns forgets the lease again.
	Owe(ctx context.Context, credential string, lease Lease) (settled func(ctx context.Context) error, err error)
}

// debt is a lease that is to be taken back.
type debt struct {
	lease   Lease
	settled func(ctx context.Context) error
}

// How a revocation is tried.
const (
	revokeTries = 3
	revokePause = 200 * time.Millisecond // before the second try, and five times that before the third
	revokeTime  = 10 * time.Second       // for all tries of one
)

// owe records a lease that has to be taken back. One that can't be recorded is taken back at once.
func (b *Broker) owe(h *held, lease Lease) error {
	d := debt{lease: lease, settled: func(context.Context) error { return nil }}
	if b.ledger != nil {
		// The end of the run calls neither off: what was minted is recorded, or taken back.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), revokeTime)
		defer cancel()
		settled, err := b.ledger.Owe(ctx, h.Name, lease)
		if err != nil {
			e := unfetched(h.Credential, fmt.Errorf("what must be revoked later could not be recorded: %w", err))
			return errors.Join(e, b.unused(h, lease))
		}
		d.settled = settled
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.debts = append(h.debts, d)
	return nil
}

// unused takes back what was minted and is not going to be used. What fails is tried again, and told, at the end of the run.
func (b *Broker) unused(h *held, lease Lease) error {
	if lease.Revoke == nil {
		return nil
	}
	err := revoke(context.WithoutCancel(b.ctx), lease.Revoke)
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.debts = append(h.debts, debt{lease: lease, settled: func(context.Context) error { return nil }})
	}
	return err
}

// settle takes one lease back. What has expired by itself needs no taking back.
func (b *Broker) settle(ctx context.Context, d debt) error {
	if d.lease.Expires.IsZero() || time.Now().Before(d.lease.Expires) {
		if err := revoke(ctx, d.lease.Revoke); err != nil {
			return err
		}
	}
	return d.settled(ctx)
}

// revoke tries it more than once.
func revoke(ctx context.Context, do func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	pause := revokePause
	for try := 1; ; try++ {
		if err = do(ctx); err == nil || try == revokeTries {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		pause *= 5
	}
}

// takeBack revokes all leases of a credential and records how that went. What failed stays recorded for a later command.
func (b *Broker) takeBack(ctx context.Context, h *held, why string) error {
	h.taking <- struct{}{} // whoever comes second waits: what is being taken back is not forgotten meanwhile
	defer func() { <-h.taking }()
	h.mu.Lock()
	debts := h.debts
	h.debts = nil
	h.mu.Unlock()
	if len(debts) == 0 {
		return nil
	}
	var errs []error
	var left []debt // for the end of the run, which tries again
	for _, d := range debts {
		if err := b.settle(ctx, d); err != nil {
			errs, left = append(errs, err), append(left, d)
		}
	}
	err := errors.Join(errs...)
	h.mu.Lock()
	h.debts = append(h.debts, left...)
	h.mu.Unlock()
	e := event.Event{Kind: event.CredentialRevoke, Decision: event.Allow, Credential: h.Name, Rule: h.Rule, Count: uint64(len(debts)), Reason: why}
	if err != nil {
		err = &Unrevoked{Credential: h.Name, Err: err}
		e.Decision, e.Reason = event.Deny, err.Error()
	}
	return errors.Join(err, b.note(h, e))
}

// Unrevoked is a value that could not be taken back and may still be good.
type Unrevoked struct {
	Credential string
	Err        error
}

func (e *Unrevoked) Error() string {
	return fmt.Sprintf("credential %q is NOT revoked: %s", e.Credential, e.Err)
}

// Hint says what to do.
func (e *Unrevoked) Hint() string {
	return "the next agentbox run, ps or stop tries again; until then revoke it where it was issued, or wait until it expires"
}

func (e *Unrevoked) Unwrap() error { return e.Err }

// Cut ends the use of a credential in this run at once: it is refused from then on, and taken back where that can be done.
// It reports whether the run has such a credential.
func (b *Broker) Cut(ctx context.Context, name, reason string) (bool, error) {
	h := b.named(name)
	if h == nil {
		return false, nil
	}
	h.mu.Lock()
	again := h.cut != nil
	if !again {
		h.cut = &Refused{Credential: name, Reason: fmt.Sprintf("credential %q was stopped in this run: %s", name, reason), Tip: "start another run to use it again"}
		h.end()
	}
	h.mu.Unlock()
	if again {
		return true, b.takeBack(ctx, h, reason)
	}
	return true, b.stopped(ctx, h, reason)
}

// stopped takes back what can be, and records in any case that the credential is not used any more.
func (b *Broker) stopped(ctx context.Context, h *held, why string) error {
	h.mu.Lock()
	owed := len(h.debts) > 0
	h.mu.Unlock()
	if owed {
		return b.takeBack(ctx, h, why)
	}
	return b.note(h, event.Event{Kind: event.CredentialRevoke, Decision: event.Allow, Credential: h.Name, Rule: h.Rule,
		Reason: why, Detail: map[string]string{"issuer": "not told: there is nothing to revoke"}})
}

// Release ends the use of all credentials and takes back what can be taken back. The errors are *Unrevoked. It may be
// called more than once.
func (b *Broker) Release(ctx context.Context) error {
	b.quiesce()
	errs := make([]error, len(b.held))
	var all sync.WaitGroup
	for i, h := range b.held {
		all.Go(func() { errs[i] = b.takeBack(ctx, h, "the run is over") })
	}
	all.Wait()
	return errors.Join(errs...)
}

// quiesce calls off all fetches and waits for them; the broker refuses from then on.
func (b *Broker) quiesce() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.reading.Wait()
}
