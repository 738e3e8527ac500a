package secrets

import (
	"context"
	"errors"
	"sync"
)

// Getter reads a secret from a keyring. Keyring is one.
type Getter interface {
	Get(ctx context.Context, name string) (Secret, error)
}

// Once asks a keyring once for each account, whoever asks: a person is not to unlock it again and again. An error that may
// be over (of a context, say) is not kept.
func Once(of Getter) Getter { return &once{of: of, asked: map[string]*answer{}} }

type once struct {
	of    Getter
	mu    sync.Mutex
	asked map[string]*answer
}

type answer struct {
	done  chan struct{} // closed when it is there
	value Secret
	err   error
	over  bool // whoever asked was called off
}

// Get gives what the keyring said first. Copies share a value, so each caller gets one of its own to destroy.
func (o *once) Get(ctx context.Context, name string) (Secret, error) {
	for {
		a, mine := o.answer(name)
		if mine {
			a.value, a.err = o.of.Get(ctx, name)
			if a.over = ctx.Err() != nil; a.over {
				o.mu.Lock()
				delete(o.asked, name)
				o.mu.Unlock()
			}
			close(a.done)
		}
		select {
		case <-a.done:
		case <-ctx.Done():
			return Secret{}, ctx.Err()
		}
		switch {
		case a.over && !mine: // whoever asked was called off: that is no answer for others
		case a.err != nil:
			return Secret{}, a.err
		default:
			return New(a.value.Reveal()), nil
		}
	}
}

// answer gives what there is, or is to come, for a name; mine says that the caller has to ask.
func (o *once) answer(name string) (a *answer, mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a, mine = o.asked[name], o.asked[name] == nil; mine {
		a = &answer{done: make(chan struct{})}
		o.asked[name] = a
	}
	return a, mine
}

// Stored is a value that the person keeps: in the variable Env of agentbox's own environment if that is set, then in the
// keyring under Account. Either may be "".
type Stored struct {
	Env     string
	Account string

	Lookup  func(name string) (string, bool) // of a variable
	Keyring Getter
}

// Fetch looks where the value is.
func (s Stored) Fetch(ctx context.Context) (Lease, error) {
	missing := ""
	if s.Env != "" {
		if v, ok := s.Lookup(s.Env); ok && v != "" {
			return Lease{Value: New(v)}, nil
		}
		missing = "$" + s.Env + " is not set"
	}
	if s.Account == "" {
		return Lease{}, &missingError{missing, s.Tip(), nil}
	}
	value, err := s.Keyring.Get(ctx, s.Account)
	if err == nil {
		return Lease{Value: value}, nil
	}
	if missing != "" {
		missing += " and "
	}
	e := &missingError{missing + err.Error(), s.Tip(), err}
	if hinted := (interface{ Hint() string })(nil); errors.As(err, &hinted) && !errors.Is(err, ErrNotFound) {
		e.tip = either(s.Env, hinted.Hint())
	}
	return Lease{}, e
}

// Tip says how to give it a value.
func (s Stored) Tip() string {
	if s.Account == "" {
		return "set " + s.Env + " before you start agentbox"
	}
	return either(s.Env, "store it: agentbox secret set "+s.Account)
}

// either puts the quick way before the other one.
func either(env, other string) string {
	if env == "" {
		return other
	}
	return "export " + env + "=… before you start agentbox; or " + other
}

// missingError is a source without a value.
type missingError struct {
	text, tip string
	err       error
}

func (e *missingError) Error() string { return e.text }

// Hint says what to do.
func (e *missingError) Hint() string { return e.tip }

// Temporary is false, also where a keyring did not answer in time: nobody is asked for a password again and again.
func (e *missingError) Temporary() bool { return false }

func (e *missingError) Unwrap() error { return e.err }
