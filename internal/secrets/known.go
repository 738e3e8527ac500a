package secrets

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http/httpguts"

	"agentbox/internal/policy"
	"agentbox/internal/scrub"
)

// values are all that a run came to know, also those that are no longer in use: a server may still repeat them.
type values struct {
	mu      sync.Mutex // held while the set is replaced
	pairs   []scrub.Pair
	secrets []Secret // what they were learned from
	set     atomic.Pointer[scrub.Set]
}

// known is told of every value before anybody uses it. Placeholder stands for it; "" for one that has none.
func (b *Broker) known(placeholder string, value Secret) {
	v := &b.learned
	v.mu.Lock()
	defer v.mu.Unlock()
	v.secrets = append(v.secrets, value)
	pair := scrub.Pair{Value: value.Reveal(), Placeholder: placeholder}
	for _, p := range v.pairs {
		if p.Value == pair.Value {
			return
		}
	}
	v.pairs = append(v.pairs, pair)
	v.set.Store(scrub.New(v.pairs))
}

// destroy overwrites what the values were learned from. The set lasts as long as there are events to be looked through.
func (v *values) destroy() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range v.secrets {
		s.Destroy()
	}
}

// Values gives all values that the run knows by now, to be taken out of what reaches an agent, a log or a person. Nil is
// none.
func (b *Broker) Values() *scrub.Set { return b.learned.set.Load() }

// Uses reports whether a host is one that a credential is for.
func (b *Broker) Uses(host policy.Host) bool { return len(b.of(host)) > 0 }

// Carries says why a value could not be that of a credential, as an error in words for a person; nil if it could. What no
// request carries, such as a proxy's password, may be anything.
func Carries(value Secret) error {
	text := value.Reveal()
	switch {
	case len(text) < scrub.MinLength:
		return fmt.Errorf("it has %d characters, and a credential needs %d: a shorter one cannot be told from ordinary text, so it could not be kept out of what a server answers", len(text), scrub.MinLength)
	case !httpguts.ValidHeaderFieldValue(text):
		return errors.New("it holds characters that no header can")
	}
	return nil
}
