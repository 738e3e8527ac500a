package profiles

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"agentbox/internal/policy"
)

// hinted is an error of a scalar that knows what to do about it.
type hinted struct{ text, hint string }

func (e hinted) Error() string { return e.text }

// Duration is a positive length of time, "90s", "2h", "1h30m".
type Duration time.Duration

// UnmarshalText parses time.ParseDuration's form.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v <= 0 {
		return hinted{fmt.Sprintf("%q is not a length of time", text), `write a number and a unit, such as "90s", "30m" or "2h"`}
	}
	*d = Duration(v)
	return nil
}

// ByteSize is a positive number of bytes, "512MiB", "4GiB".
type ByteSize int64

var byteSize = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?(B|[KMGT]i?B)$`)

// UnmarshalText takes B and the decimal (kB's siblings MB, GB) and binary (MiB, GiB) units.
func (b *ByteSize) UnmarshalText(text []byte) error {
	bad := hinted{fmt.Sprintf("%q is not a number of bytes", text), `write a number and a unit, such as "512MiB" or "4GiB"`}
	m := byteSize.FindStringSubmatch(string(text))
	if m == nil {
		return bad
	}
	n, err := strconv.ParseFloat(m[1], 64)
	n *= unit(m[2])
	if err != nil || n < 1 || n >= 1<<62 {
		return bad
	}
	*b = ByteSize(n)
	return nil
}

func unit(s string) float64 {
	base := 1000.0
	if strings.Contains(s, "i") {
		base = 1024
	}
	n := 1.0
	for range strings.Index("BKMGT", s[:1]) {
		n *= base
	}
	return n
}

// Action is policy.Action as a file may write it.
type Action policy.Action

// UnmarshalText takes "allow" and "deny".
func (a *Action) UnmarshalText(text []byte) error {
	return oneOf(a, text, []string{"allow", "deny"}, "ask")
}

// Mode is how the repo is seen.
type Mode string

// UnmarshalText takes "direct" and "readonly".
func (m *Mode) UnmarshalText(text []byte) error {
	return oneOf(m, text, []string{"direct", "readonly"}, "review")
}

// Runtime is what the container runs under.
type Runtime string

// UnmarshalText takes "container", "gvisor" and "auto".
func (r *Runtime) UnmarshalText(text []byte) error {
	return oneOf(r, text, []string{"container", "gvisor", "auto"}, "microvm")
}

// oneOf sets dst to a word of words; later names words that a coming version takes.
func oneOf[T ~string](dst *T, text []byte, words []string, later ...string) error {
	for _, w := range words {
		if w == string(text) {
			*dst = T(w)
			return nil
		}
	}
	choice := `write "` + strings.Join(words, `" or "`) + `"`
	for _, w := range later {
		if w == string(text) {
			return hinted{fmt.Sprintf("%q is not supported by this version of agentbox", w), choice}
		}
	}
	if near := nearest(string(text), words); near != "" {
		choice = fmt.Sprintf("did you mean %q?", near)
	}
	return hinted{fmt.Sprintf("%q is not a choice here", text), choice}
}

// Name names a profile or a credential: lower-case letters, digits and hyphens.
type Name string

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// UnmarshalText checks the form.
func (n *Name) UnmarshalText(text []byte) error {
	if !nameForm.Match(text) {
		return hinted{fmt.Sprintf("%q is not a name", text), "use lower-case letters, digits and hyphens, and begin with a letter or a digit"}
	}
	*n = Name(text)
	return nil
}

// EnvName is the name of an environment variable.
type EnvName string

var envForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// UnmarshalText checks the form.
func (n *EnvName) UnmarshalText(text []byte) error {
	if !envForm.Match(text) {
		return fmt.Errorf("%q is not a name of an environment variable", text)
	}
	*n = EnvName(text)
	return nil
}

// EnvPattern is an EnvName, or the start of one before a "*".
type EnvPattern string

// UnmarshalText checks the form.
func (p *EnvPattern) UnmarshalText(text []byte) error {
	if !envForm.MatchString(strings.TrimSuffix(string(text), "*")) {
		return hinted{fmt.Sprintf("%q is not a name of an environment variable, nor the start of one", text), `write names such as "TERM" or "LC_*"`}
	}
	*p = EnvPattern(text)
	return nil
}

// Match reports whether p names the variable.
func (p EnvPattern) Match(name string) bool {
	start, wild := strings.CutSuffix(string(p), "*")
	return string(p) == name || wild && strings.HasPrefix(name, start)
}

// Header is a template, "Authorization: Bearer {token}".
type Header string

// UnmarshalText checks that it is one header, may be set, and holds {token} once.
func (h *Header) UnmarshalText(text []byte) error {
	name, value, ok := strings.Cut(string(text), ":")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	form := `write it as "Authorization: Bearer {token}"`
	switch {
	case !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value):
		return hinted{fmt.Sprintf("%q is not a header", text), form}
	case strings.Count(value, "{token}") != 1:
		return hinted{fmt.Sprintf("header %q must hold {token} once", text), form}
	case framing(name):
		return fmt.Errorf("header %q is not one that can carry a credential", name)
	}
	*h = Header(name + ": " + value)
	return nil
}

// Name is the header's name as written.
func (h Header) Name() string { name, _, _ := strings.Cut(string(h), ":"); return name }

// framing reports headers that frame or route a request, where a credential would change what it means.
func framing(name string) bool {
	switch strings.ToLower(name) {
	case "host", "connection", "content-length", "content-type", "transfer-encoding", "te", "trailer", "upgrade",
		"keep-alive", "proxy-connection", "expect", "forwarded", "via", "cookie", "referer", "user-agent", "origin":
		return true
	}
	return false
}

// Shape is the start of a placeholder.
type Shape string

var shapeForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)

// UnmarshalText checks the form.
func (s *Shape) UnmarshalText(text []byte) error {
	if !shapeForm.Match(text) {
		return fmt.Errorf("%q is not the start of a token: letters, digits, hyphens and underscores, at most 40", text)
	}
	*s = Shape(text)
	return nil
}

// Port is a TCP port, never 0.
type Port uint16

func (p *Port) unmarshalInt(n int64) error {
	if n < 1 || n > 65535 {
		return fmt.Errorf("%d is not a port: 1 to 65535", n)
	}
	*p = Port(n)
	return nil
}

// Endpoint is an address and port to dial.
type Endpoint string

// UnmarshalText takes a literal address and a port: what is dialled here is not looked up and not checked.
func (e *Endpoint) UnmarshalText(text []byte) error {
	ap, err := netip.ParseAddrPort(string(text))
	if err != nil || ap.Port() == 0 {
		return hinted{fmt.Sprintf("%q is not an address with a port", text), `write it as "127.0.0.1:9443" or "[::1]:9443"`}
	}
	*e = Endpoint(ap.String())
	return nil
}

// hintOf finds the hint of a scalar's error.
func hintOf(err error) string {
	var h hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}

// Tier is how risky the work is: it sets floors.
type Tier string

// UnmarshalText takes "low", "medium", "high" and "critical".
func (t *Tier) UnmarshalText(text []byte) error {
	return oneOf(t, text, []string{"low", "medium", "high", "critical"})
}

// Rootfs is what the container's root is made of.
type Rootfs string

// UnmarshalText takes "host".
func (r *Rootfs) UnmarshalText(text []byte) error { return oneOf(r, text, []string{"host"}) }

// Image is a container image with its digest.
type Image string

// UnmarshalText checks the form.
func (i *Image) UnmarshalText(text []byte) error { *i = Image(text); return nil }

// RepoPath is a file below the repository, relative and clean.
type RepoPath string

// UnmarshalText checks the form.
func (p *RepoPath) UnmarshalText(text []byte) error { *p = RepoPath(text); return nil }

// HostPath is a file of the person's machine, absolute or "~/…".
type HostPath string

// UnmarshalText checks the form.
func (p *HostPath) UnmarshalText(text []byte) error { *p = HostPath(text); return nil }

// Backend is how the review workspace is made.
type Backend string

// UnmarshalText takes "overlay" and "copy".
func (b *Backend) UnmarshalText(text []byte) error {
	return oneOf(b, text, []string{"overlay", "copy"})
}

// Cache names a tool's cache.
type Cache string

// UnmarshalText takes the caches that agentbox knows.
func (c *Cache) UnmarshalText(text []byte) error { *c = Cache(text); return nil }

// Method is an HTTP method, upper case.
type Method string

// UnmarshalText checks the form.
func (m *Method) UnmarshalText(text []byte) error { *m = Method(text); return nil }

// Remote is a repository on a host, "github.com/acme/billing".
type Remote string

// UnmarshalText checks the form.
func (r *Remote) UnmarshalText(text []byte) error { *r = Remote(text); return nil }

// RefPattern names refs of git, "refs/heads/agentbox/*".
type RefPattern string

// UnmarshalText checks the form.
func (r *RefPattern) UnmarshalText(text []byte) error { *r = RefPattern(text); return nil }

// RepoName is OWNER/NAME.
type RepoName string

// UnmarshalText checks the form.
func (r *RepoName) UnmarshalText(text []byte) error { *r = RepoName(text); return nil }

// Permission names a permission of a GitHub App.
type Permission string

// UnmarshalText checks the form.
func (p *Permission) UnmarshalText(text []byte) error { *p = Permission(text); return nil }

// Access is "read" or "write".
type Access string

// UnmarshalText takes "read" and "write".
func (a *Access) UnmarshalText(text []byte) error { return oneOf(a, text, []string{"read", "write"}) }

// Money is a positive amount of US dollars in micro-dollars.
type Money int64

// Count is a positive whole number.
type Count int64

// OnLimit is what happens when a budget is spent.
type OnLimit string

// UnmarshalText takes "ask" and "stop".
func (o *OnLimit) UnmarshalText(text []byte) error { return oneOf(o, text, []string{"ask", "stop"}) }

// ToolPattern names tools, "read_*".
type ToolPattern string

// UnmarshalText checks the form.
func (t *ToolPattern) UnmarshalText(text []byte) error { *t = ToolPattern(text); return nil }

// Scope is whose memory it is.
type Scope string

// UnmarshalText takes "none", "session", "profile", "repo" and "user".
func (s *Scope) UnmarshalText(text []byte) error {
	return oneOf(s, text, []string{"none", "session", "profile", "repo", "user"})
}

// URL is an http or https URL.
type URL string

// UnmarshalText checks the form.
func (u *URL) UnmarshalText(text []byte) error { *u = URL(text); return nil }
