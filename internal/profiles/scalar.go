package profiles

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"agentbox/internal/caches"
	"agentbox/internal/logins"
	"agentbox/internal/policy"
)

// hinted is an error of a scalar that knows what to do about it.
type hinted struct{ text, hint string }

func (e hinted) Error() string { return e.text }

// Duration is a positive length of time, "90s", "2h", "1h30m", "30d".
type Duration time.Duration

var days = lazily(`^([0-9]{1,5})d`)

// UnmarshalText parses time.ParseDuration's form, with days of 24 hours in front.
func (d *Duration) UnmarshalText(text []byte) error {
	bad := hinted{fmt.Sprintf("%q is not a length of time", text), `write a number and a unit, such as "90s", "30m", "2h" or "30d"`}
	rest, sum := string(text), time.Duration(0)
	if m := days().FindStringSubmatch(rest); m != nil {
		n, _ := strconv.Atoi(m[1])
		rest, sum = rest[len(m[0]):], time.Duration(n)*24*time.Hour
	}
	if rest != "" || sum == 0 {
		v, err := time.ParseDuration(rest)
		if err != nil || v <= 0 || sum+v < sum {
			return bad
		}
		sum += v
	}
	*d = Duration(sum)
	return nil
}

// String is the shortest form that UnmarshalText takes.
func (d Duration) String() string {
	const day = 24 * time.Hour
	days, rest := time.Duration(d)/day, time.Duration(d)%day
	text := rest.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	switch {
	case days == 0:
		return text
	case rest == 0:
		return strconv.FormatInt(int64(days), 10) + "d"
	}
	return strconv.FormatInt(int64(days), 10) + "d" + text
}

// ByteSize is a positive number of bytes, "512MiB", "4GiB".
type ByteSize int64

var byteSize = lazily(`^([0-9]+(?:\.[0-9]+)?) ?(B|[KMGT]i?B)$`)

// UnmarshalText takes B and the decimal (kB's siblings MB, GB) and binary (MiB, GiB) units.
func (b *ByteSize) UnmarshalText(text []byte) error {
	bad := hinted{fmt.Sprintf("%q is not a number of bytes", text), `write a number and a unit, such as "512MiB" or "4GiB"`}
	m := byteSize().FindStringSubmatch(string(text))
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

// String is the number in the largest unit that divides it, binary or decimal, whichever is shorter.
func (b ByteSize) String() string {
	binary := inUnits(int64(b), 1024, "B", "KiB", "MiB", "GiB", "TiB")
	if decimal := inUnits(int64(b), 1000, "B", "KB", "MB", "GB", "TB"); len(decimal) < len(binary) {
		return decimal
	}
	return binary
}

func inUnits(n, step int64, units ...string) string {
	for len(units) > 1 && n > 0 && n%step == 0 {
		n, units = n/step, units[1:]
	}
	return strconv.FormatInt(n, 10) + units[0]
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

// UnmarshalText takes "allow", "ask" and "deny".
func (a *Action) UnmarshalText(text []byte) error {
	return oneOf(a, text, actions())
}

func actions() []string { return []string{"allow", "ask", "deny"} }

// Scheme is how requests are made.
type Scheme string

// UnmarshalText takes "https" and "http".
func (s *Scheme) UnmarshalText(text []byte) error { return oneOf(s, text, schemes()) }

func schemes() []string { return []string{"https", "http"} }

// Protocol is what a rule lets through instead of requests.
type Protocol string

// UnmarshalText takes "tcp".
func (p *Protocol) UnmarshalText(text []byte) error { return oneOf(p, text, protocols()) }

func protocols() []string { return []string{policy.TCP} }

// Mode is how the repo is seen.
type Mode string

// UnmarshalText takes "review", "direct" and "readonly".
func (m *Mode) UnmarshalText(text []byte) error {
	return oneOf(m, text, []string{"review", "direct", "readonly"})
}

// Runtime is what the container runs under.
type Runtime string

// UnmarshalText takes "auto", "container", "gvisor" and "microvm".
func (r *Runtime) UnmarshalText(text []byte) error {
	return oneOf(r, text, []string{"auto", "container", "gvisor", "microvm"})
}

// LoginName is an agent whose login is known: package logins has the table.
type LoginName string

// UnmarshalText takes the name of one.
func (l *LoginName) UnmarshalText(text []byte) error { return oneOf(l, text, loginNames()) }

func loginNames() (names []string) {
	for _, l := range logins.All() {
		names = append(names, l.Name)
	}
	return names
}

// oneOf sets dst to a word of words.
func oneOf[T ~string](dst *T, text []byte, words []string) error {
	if slices.Contains(words, string(text)) {
		*dst = T(text)
		return nil
	}
	choice := `write "` + strings.Join(words, `" or "`) + `"`
	if near := nearest(string(text), words); near != "" {
		choice = fmt.Sprintf("did you mean %q?", near)
	}
	return hinted{fmt.Sprintf("%q is not a choice here", text), choice}
}

// Name names a profile or a credential: lower-case letters, digits and hyphens.
type Name string

var nameForm = lazily(`^[a-z0-9][a-z0-9-]{0,62}$`)

// UnmarshalText checks the form.
func (n *Name) UnmarshalText(text []byte) error {
	if !nameForm().Match(text) {
		return hinted{fmt.Sprintf("%q is not a name", text), nameHint(string(text))}
	}
	*n = Name(text)
	return nil
}

// nameHint says which names there are, and offers the one that is nearest to s.
func nameHint(s string) string {
	hint := "use lower-case letters, digits and hyphens, and begin with a letter or a digit"
	other := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }
	if near := strings.Join(strings.FieldsFunc(strings.ToLower(s), other), "-"); !strings.Contains(s, "/") && nameForm().MatchString(near) {
		hint += fmt.Sprintf(": %q", near)
	}
	return hint
}

// EnvName is the name of an environment variable.
type EnvName string

var envForm = lazily(`^[A-Za-z_][A-Za-z0-9_]*$`)

// UnmarshalText checks the form.
func (n *EnvName) UnmarshalText(text []byte) error {
	if !envForm().Match(text) {
		return hinted{fmt.Sprintf("%q is not a name of an environment variable", text), `use letters, digits and underscores, such as "API_TOKEN"`}
	}
	*n = EnvName(text)
	return nil
}

// EnvPattern is an EnvName, or the start of one before a "*".
type EnvPattern string

// UnmarshalText checks the form.
func (p *EnvPattern) UnmarshalText(text []byte) error {
	if !envForm().MatchString(strings.TrimSuffix(string(text), "*")) {
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
	if !ok && httpguts.ValidHeaderFieldName(name) && !framing(name) {
		form = fmt.Sprintf("write it as %q", headerForm(name))
	}
	switch {
	case !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value):
		return hinted{fmt.Sprintf("%q is not a header", text), form}
	case strings.Count(value, "{token}") != 1:
		return hinted{fmt.Sprintf("header %q must hold {token} once", text), form}
	case framing(name):
		return hinted{fmt.Sprintf("header %q is not one that can carry a credential", name), `name the one that the service reads it from, such as "Authorization: Bearer {token}"`}
	}
	*h = Header(name + ": " + value)
	return nil
}

func headerForm(name string) string {
	if strings.EqualFold(name, "Authorization") {
		return name + ": Bearer {token}"
	}
	return name + ": {token}"
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

var shapeForm = lazily(`^[A-Za-z0-9_-]{1,40}$`)

// UnmarshalText checks the form.
func (s *Shape) UnmarshalText(text []byte) error {
	if !shapeForm().Match(text) {
		return hinted{fmt.Sprintf("%q is not the start of a token: letters, digits, hyphens and underscores, at most 40", text), `write it such as "sk-ant-"`}
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

// Backend is how the review workspace is made.
type Backend string

// UnmarshalText takes "overlay" and "copy".
func (b *Backend) UnmarshalText(text []byte) error {
	return oneOf(b, text, []string{"overlay", "copy"})
}

// Cache names a tool's cache; ":ro" behind it: one that a run only reads.
type Cache string

// Caches lists what a profile may write.
func Caches() []string { return caches.Words() }

// UnmarshalText takes the words of Caches.
func (c *Cache) UnmarshalText(text []byte) error { return oneOf(c, text, Caches()) }

// Method is an HTTP method, upper case.
type Method string

var methodForm = lazily(`^[A-Z][A-Z0-9_-]{0,31}$`)

// isMethod is methodForm, without CONNECT, for thousands of rules.
func isMethod(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'A' || c > 'Z') && (i == 0 || (c < '0' || c > '9') && c != '-' && c != '_') {
			return false
		}
	}
	return s != "" && len(s) <= 32 && s != "CONNECT"
}

// UnmarshalText checks the form. CONNECT is refused: it asks for a tunnel, and rules judge what is asked inside.
func (m *Method) UnmarshalText(text []byte) error {
	upper := strings.ToUpper(string(text))
	switch {
	case upper == "CONNECT":
		return hinted{"CONNECT asks for a tunnel, and rules judge the requests inside it", "name the methods of those, or leave methods out"}
	case isMethod(string(text)):
		*m = Method(text)
		return nil
	case isMethod(upper):
		return hinted{fmt.Sprintf("%q is not an HTTP method: methods are upper case", text), fmt.Sprintf("write %q", upper)}
	}
	return hinted{fmt.Sprintf("%q is not an HTTP method", text), `write methods such as "GET" or "POST"; leave it out for all of them`}
}

// Permission names a permission of a GitHub App.
type Permission string

var permissionForm = lazily(`^[a-z][a-z_]{0,62}$`)

// UnmarshalText checks the form.
func (p *Permission) UnmarshalText(text []byte) error {
	if !permissionForm().Match(text) {
		return hinted{fmt.Sprintf("%q is not a permission of a GitHub App", text), `write names such as "contents" or "pull_requests"`}
	}
	*p = Permission(text)
	return nil
}

// Access is "read" or "write".
type Access string

// UnmarshalText takes "read" and "write".
func (a *Access) UnmarshalText(text []byte) error { return oneOf(a, text, []string{"read", "write"}) }

// Money is a positive amount of US dollars in micro-dollars.
type Money int64

const micros = 1_000_000

// maxDollars keeps an amount, and sums of many, within int64.
const maxDollars = 1_000_000_000

func (m *Money) unmarshalInt(n int64) error {
	if n < 1 || n > maxDollars {
		return hinted{fmt.Sprintf("%d is not an amount of US dollars", n), "write a positive amount, such as 5 or 0.50"}
	}
	*m = Money(n * micros)
	return nil
}

// unmarshalFloat takes the shortest decimal that is f, so that 5.10 is 5.10 and not what binary makes of it.
func (m *Money) unmarshalFloat(f float64) error {
	text := strconv.FormatFloat(f, 'f', -1, 64)
	whole, fraction, _ := strings.Cut(text, ".")
	switch {
	case !(f > 0) || f > maxDollars:
		return hinted{fmt.Sprintf("%s is not an amount of US dollars", text), "write a positive amount, such as 5 or 0.50"}
	case len(fraction) > 6:
		return fmt.Errorf("%s is finer than a millionth of a US dollar", text)
	}
	n, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", 6-len(fraction)), 10, 64)
	if err != nil {
		return fmt.Errorf("%s is not an amount of US dollars", text)
	}
	*m = Money(n)
	return nil
}

// String is the amount in US dollars with at least two decimals, "5.00"; unmarshalFloat reads it back exactly.
func (m Money) String() string {
	fraction := fmt.Sprintf("%06d", m%micros)
	return strconv.FormatInt(int64(m/micros), 10) + "." + fraction[:2] + strings.TrimRight(fraction[2:], "0")
}

// Count is a positive whole number.
type Count int64

func (c *Count) unmarshalInt(n int64) error {
	if n < 1 {
		return hinted{fmt.Sprintf("%d is not a limit", n), "write a positive whole number; leave it out for no limit"}
	}
	*c = Count(n)
	return nil
}

// OnLimit is what happens when a budget is spent.
type OnLimit string

// UnmarshalText takes "ask" and "stop".
func (o *OnLimit) UnmarshalText(text []byte) error { return oneOf(o, text, []string{"ask", "stop"}) }

// ToolPattern names tools, "read_*".
type ToolPattern string

var toolForm = lazily(`^[A-Za-z0-9_./*-]{1,128}$`)

// UnmarshalText checks the form.
func (t *ToolPattern) UnmarshalText(text []byte) error {
	if !toolForm().Match(text) {
		return hinted{fmt.Sprintf("%q is not a name of a tool, nor a pattern of names", text), `write names such as "read_file" or "read_*"`}
	}
	*t = ToolPattern(text)
	return nil
}

// Scope is whose memory it is.
type Scope string

// UnmarshalText takes "none", "session", "profile", "repo" and "user".
func (s *Scope) UnmarshalText(text []byte) error {
	return oneOf(s, text, []string{"none", "session", "profile", "repo", "user"})
}

// lazily makes a regular expression that is compiled when it is first used: compiling all of them would take longer than
// starting without them.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
