package secrets

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Source is where the values of one credential come from: one file of this package for each kind.
type Source interface {
	// Fetch gives a value that can be used from now on. An error says in one phrase what is the matter, without a value
	// and without the credential's name; it may have a Hint() string that says what the person can do.
	Fetch(ctx context.Context) (Lease, error)
}

// Lease is a value and how long it may be used.
type Lease struct {
	Value   Secret
	Expires time.Time                       // zero: as long as the run
	Revoke  func(ctx context.Context) error // takes the value back where it came from; nil: there is nothing to take back
}

// begin starts the one reading of a value.
func (b *Broker) begin(h *held) {
	h.once.Do(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.closed {
			h.err = ended(h.Name)
			close(h.done)
			return
		}
		b.reading.Go(func() {
			defer close(h.done)
			if h.lease, h.err = b.fetch(h.Credential); h.err == nil && h.placeholder != "" { // what no request gets may be short
				h.err = tooShort(h.Credential, h.lease.Value)
			}
			if h.err == nil {
				b.known(h.placeholder, h.lease.Value)
			}
		})
	})
}

func ended(credential string) *Refused {
	return &Refused{Credential: credential, Reason: "the run has ended and its placeholders with it"}
}

// read waits for the value. It is read once in a run, also when that fails: a person is not asked again and again.
func (b *Broker) read(ctx context.Context, h *held) (Secret, error) {
	b.begin(h)
	select {
	case <-h.done:
		return h.lease.Value, h.err
	case <-ctx.Done():
		return Secret{}, ctx.Err()
	}
}

// fetch asks the source, and checks that the value can stand in a header.
func (b *Broker) fetch(c Credential) (Lease, error) {
	lease, err := c.Source.Fetch(b.ctx)
	if err != nil {
		e := &Refused{Credential: c.Name, Reason: fmt.Sprintf("credential %q has no value: %s", c.Name, err), Err: err}
		if hinted := (interface{ Hint() string })(nil); errors.As(err, &hinted) {
			e.Tip = hinted.Hint()
		}
		return Lease{}, e
	}
	lease.Value = New(strings.TrimSpace(lease.Value.Reveal())) // a pasted newline is not part of a token
	switch {
	case lease.Value.IsZero():
		return Lease{}, &Refused{Credential: c.Name, Reason: fmt.Sprintf("credential %q is empty where it comes from", c.Name), Tip: tipOf(c.Source)}
	case !httpguts.ValidHeaderFieldValue(lease.Value.Reveal()):
		return Lease{}, &Refused{Credential: c.Name, Reason: fmt.Sprintf("credential %q holds characters that no header can", c.Name), Tip: tipOf(c.Source)}
	}
	return lease, nil
}

// tipOf is how a person gives a source a value, or "" where it does not say.
func tipOf(s Source) string {
	if t, ok := s.(interface{ Tip() string }); ok {
		return t.Tip()
	}
	return ""
}
