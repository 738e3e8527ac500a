package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	maxHost  = 253
	maxLabel = 63
)

// Host is a canonical DNS name: lower case, ASCII (IDNA in its xn-- form), at least two labels of letters, digits
// and hyphens, no trailing dot, at most 253 bytes. It is never an address in any notation and never localhost.
// Equal names are equal values; the zero value names nothing.
type Host struct{ name string }

// ParseHost gives the canonical form of a name, or says why it has none.
func ParseHost(s string) (Host, error) {
	name, err := asciiName(s)
	if err != nil {
		return Host{}, err
	}
	name = strings.TrimSuffix(name, ".")
	if err := checkName(name); err != nil {
		return Host{}, err
	}
	return Host{name}, nil
}

// String is the canonical name, or "" for the zero value.
func (h Host) String() string { return h.name }

// IsZero reports whether h names nothing.
func (h Host) IsZero() bool { return h.name == "" }

// MarshalText gives the canonical name.
func (h Host) MarshalText() ([]byte, error) { return []byte(h.name), nil }

// UnmarshalText parses like ParseHost.
func (h *Host) UnmarshalText(text []byte) error {
	parsed, err := ParseHost(string(text))
	if err != nil {
		return err
	}
	*h = parsed
	return nil
}

// asciiName lowers s and, where it is not plain ASCII, maps it by IDNA's lookup rules.
func asciiName(s string) (string, error) {
	if isPlainName(s) {
		return s, nil // by far the most
	}
	if s == "" {
		return "", errors.New("a host name is empty")
	}
	if len(s) > 4*maxHost {
		return "", errors.New("a host name is longer than 253 bytes")
	}
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("host %q is not valid UTF-8", s)
	}
	if i := strings.IndexFunc(s, isControl); i >= 0 {
		return "", fmt.Errorf("host %q holds a control character", s)
	}
	lower := strings.ToLower(s)
	if isASCII(s) && !strings.Contains(lower, "xn--") {
		return lower, nil
	}
	name, err := idna.Lookup.ToASCII(s)
	if err != nil {
		return "", fmt.Errorf("host %q is not a valid international name: %w", s, err)
	}
	return name, nil
}

// isPlainName reports a name that needs no mapping.
func isPlainName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '.' && !isLDH(c) {
			return false
		}
	}
	return s != "" && len(s) <= 4*maxHost && !strings.Contains(s, "xn--")
}

func isControl(r rune) bool { return r <= ' ' || r >= 0x7f && r < 0xa0 }

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

// checkName holds a mapped name, without its trailing dot, against everything that Host promises.
func checkName(name string) error {
	if len(name) > maxHost {
		return errors.New("a host name is longer than 253 bytes")
	}
	if strings.Contains(name, ":") {
		return fmt.Errorf("host %q holds a colon: ports and addresses are not part of a name", name)
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	if isNumber(last) {
		return fmt.Errorf("host %q is an address: only names can be allowed", name)
	}
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(name, label); err != nil {
			return err
		}
	}
	if last == "localhost" {
		return fmt.Errorf("host %q is this machine itself", name)
	}
	if last == name {
		return fmt.Errorf("host %q is a single label: only full names can be allowed", name)
	}
	return nil
}

func checkLabel(name, label string) error {
	switch {
	case label == "":
		return fmt.Errorf("host %q has an empty label", name)
	case len(label) > maxLabel:
		return fmt.Errorf("host %q has a label longer than 63 bytes", name)
	case label[0] == '-' || label[len(label)-1] == '-':
		return fmt.Errorf("host %q has a label that begins or ends with a hyphen", name)
	case !isLabel(label):
		return fmt.Errorf("host %q holds something else than letters, digits and hyphens", name)
	}
	return nil
}

func isLabel(label string) bool {
	for i := range len(label) {
		if !isLDH(label[i]) {
			return false
		}
	}
	return true
}

// isLDH reports a letter, a digit or a hyphen.
func isLDH(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' }

// isNumber reports whether a last label makes resolvers read the whole name as an IPv4 address: decimal, octal
// or 0x hex, as inet_aton and the URL standard do.
func isNumber(label string) bool {
	digits, hex := strings.CutPrefix(label, "0x")
	for _, r := range digits {
		isDigit := r >= '0' && r <= '9'
		if !isDigit && (!hex || r < 'a' || r > 'f') {
			return false
		}
	}
	return hex || digits != ""
}
