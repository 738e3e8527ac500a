// Package secrets holds real values on the host's side of the boundary and lets them out in one place only: the slot (a
// header, Basic authentication, a query parameter, a field of a body) of a request that a credential is for.
//
// Secret is a value that cannot print itself. A Source is where values come from: a file source_*.go, or stored.go, for
// each kind. Broker owns a run's placeholders and the leases of its values: it fetches each when it is first wanted and
// again before it expires, swaps the one for the other, records that it did, and takes back at the end what can be
// taken back. It keeps no value longer than the run. What has to be taken back is recorded without the value (Claim), so
// that another process can do it when this one dies.
package secrets

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

const redacted = "[secret]"

// Secret is a value that no printer shows: not fmt, not encoding/json, not slog, not a panic, not reflection over a
// field that holds it. Reveal is the only way out. The zero value holds nothing. Copies share the value.
type Secret struct {
	// A function and not a string: fmt prints what it finds in unexported fields by reflection, without asking
	// their methods.
	open func() *kept
}

// kept is where a value is, in memory that can be overwritten.
type kept struct {
	mu    sync.RWMutex
	bytes []byte
}

var (
	_ fmt.Formatter  = Secret{}
	_ fmt.GoStringer = Secret{}
	_ slog.LogValuer = Secret{}
)

// New wraps a value.
func New(value string) Secret { return wrap([]byte(value)) }

// wrap takes the bytes over.
func wrap(value []byte) Secret {
	k := &kept{bytes: value}
	return Secret{open: func() *kept { return k }}
}

// Reveal returns the value. Its callers are few, and each hands it straight to where it is needed.
func (s Secret) Reveal() (value string) {
	s.read(func(b []byte) { value = string(b) })
	return value
}

// read lends the bytes out.
func (s Secret) read(to func([]byte)) {
	if s.open == nil {
		to(nil)
		return
	}
	k := s.open()
	k.mu.RLock()
	defer k.mu.RUnlock()
	to(k.bytes)
}

// Destroy overwrites the value: this Secret and all copies hold nothing from then on. Strings that Reveal gave stay until
// the garbage collector has their memory used again.
func (s Secret) Destroy() {
	if s.open == nil {
		return
	}
	k := s.open()
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.bytes)
	k.bytes = nil
}

// IsZero reports whether there is no value.
func (s Secret) IsZero() (zero bool) {
	s.read(func(b []byte) { zero = len(b) == 0 })
	return zero
}

// Equal compares in a time that does not depend on the values.
func (s Secret) Equal(other Secret) bool {
	var a, b [sha256.Size]byte
	s.read(func(value []byte) { a = sha256.Sum256(value) })
	other.read(func(value []byte) { b = sha256.Sum256(value) })
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func (s Secret) String() string { return redacted }

// GoString is String, for %#v.
func (s Secret) GoString() string { return redacted }

// Format ignores the verb: every one of them shows the same.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText makes encoders show the same.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON makes JSON show the same.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// LogValue is for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
