package policy

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Pattern names hosts: one exact host, or with "*." in front every name below one, at any depth, not that name
// itself. There is no other wildcard. The zero value matches nothing.
type Pattern struct {
	host Host // the exact name, or what stands after "*."
	wild bool
}

// ParsePattern reads "good.test" or "*.good.test". It refuses what would match a whole registry ("*", "*.com",
// "*.github.io") and stars anywhere else.
func ParsePattern(s string) (Pattern, error) {
	if s == "*" || s == "*." {
		return Pattern{}, errors.New(`host "*" would match every name`)
	}
	rest, wild := strings.CutPrefix(s, "*.")
	if strings.Contains(rest, "*") {
		return Pattern{}, fmt.Errorf(`host %q: "*" may only stand alone before the first dot`, s)
	}
	if wild && isSuffix(rest) {
		return Pattern{}, fmt.Errorf("host %q would match names of unrelated owners: %q is a public suffix", s, rest)
	}
	host, err := ParseHost(rest)
	if err != nil {
		return Pattern{}, err
	}
	if wild && isSuffix(host.name) {
		return Pattern{}, fmt.Errorf("host %q would match names of unrelated owners: %q is a public suffix", s, host)
	}
	if wild && len(host.name) > maxHost-2 {
		return Pattern{}, fmt.Errorf("host %q is too long to have names below it", s)
	}
	return Pattern{host: host, wild: wild}, nil
}

func isSuffix(name string) bool {
	suffix, _ := publicsuffix.PublicSuffix(name)
	return suffix == name
}

// Match reports whether p names h.
func (p Pattern) Match(h Host) bool {
	if p.host.IsZero() || h.IsZero() {
		return false
	}
	if !p.wild {
		return p.host == h
	}
	return strings.HasSuffix(h.name, "."+p.host.name)
}

// Exact gives the host of a pattern without a wildcard.
func (p Pattern) Exact() (Host, bool) {
	if p.wild || p.host.IsZero() {
		return Host{}, false
	}
	return p.host, true
}

// String is the pattern as it would be written, in canonical form.
func (p Pattern) String() string {
	if p.wild {
		return "*." + p.host.name
	}
	return p.host.name
}

// MarshalText gives the canonical form.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText parses like ParsePattern.
func (p *Pattern) UnmarshalText(text []byte) error {
	parsed, err := ParsePattern(string(text))
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}
