// Package secrets holds real values on the host's side of the boundary and lets them out in one place only: the
// header of a request that a credential is for.
//
// Secret is a value that cannot print itself. Keyring and the environment are where values come from. Broker owns a
// run's placeholders, reads each value at most once, and swaps the one for the other; it keeps no value longer than
// the run and logs nothing.
package secrets

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[secret]"

// Secret is a value that no printer shows: not fmt, not encoding/json, not slog, not a panic, not reflection over a
// field that holds it. Reveal is the only way out. The zero value holds nothing.
type Secret struct {
	// A function and not a string: fmt prints what it finds in unexported fields by reflection, without asking
	// their methods.
	reveal func() string
}

var (
	_ fmt.Formatter  = Secret{}
	_ fmt.GoStringer = Secret{}
	_ slog.LogValuer = Secret{}
)

// New wraps a value.
func New(value string) Secret { return Secret{reveal: func() string { return value }} }

// Reveal returns the value. Its callers are few, and each hands it straight to where it is needed.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// IsZero reports whether there is no value.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// Equal compares in a time that does not depend on the values.
func (s Secret) Equal(other Secret) bool {
	a, b := sha256.Sum256([]byte(s.Reveal())), sha256.Sum256([]byte(other.Reveal()))
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
