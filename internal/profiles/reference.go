package profiles

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strings"

	"agentbox/internal/policy"
)

// Image is a container image with its digest, "registry.example.com/team/tools@sha256:…".
type Image string

// The forms that registries take: a host with a port, if any; a path of lower-case parts; a tag, if any.
var (
	imageForm  = lazily(`^(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::[0-9]{1,5})?/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$`)
	digestForm = lazily(`^sha256:[0-9a-f]{64}$`)
)

// UnmarshalText checks the form and that the digest is there: a tag alone is another image tomorrow.
func (i *Image) UnmarshalText(text []byte) error {
	form := `write it as "registry.example.com/name@sha256:…"; "podman image inspect --format '{{.Digest}}'" shows the digest`
	name, digest, ok := strings.Cut(string(text), "@")
	switch {
	case len(name) > 255 || !imageForm().MatchString(name):
		return hinted{fmt.Sprintf("%q is not an image", text), form}
	case !ok:
		return hinted{fmt.Sprintf("image %q has no digest, so that it can change unseen", text), form}
	case !namesRegistry(name):
		return hinted{fmt.Sprintf("image %q names no registry, and which one is meant is not for this machine to guess", text), form}
	case !digestForm().MatchString(digest):
		return hinted{fmt.Sprintf("the digest of image %q is not sha256 with 64 hexadecimal digits", text), form}
	}
	*i = Image(text)
	return nil
}

// namesRegistry reports whether the first part of a name is a host: such has a dot or a port, or is localhost.
func namesRegistry(name string) bool {
	host, _, below := strings.Cut(name, "/")
	return below && (strings.ContainsAny(host, ".:") || host == "localhost")
}

// Parts are the name without a tag, and the digest.
func (i Image) Parts() (name, digest string) {
	name, digest, _ = strings.Cut(string(i), "@")
	if at := strings.LastIndex(name, ":"); at > strings.LastIndex(name, "/") {
		name = name[:at]
	}
	return name, digest
}

// RepoPath is a file below the repository, relative and clean.
type RepoPath string

// UnmarshalText checks the form.
func (p *RepoPath) UnmarshalText(text []byte) error {
	s, form := string(text), `write it relative to the repository, such as "build/Containerfile"`
	switch {
	case s == "" || s == "." || !plainText(s):
		return hinted{fmt.Sprintf("%q is not a file of the repository", s), form}
	case path.IsAbs(s) || strings.HasPrefix(s, "~") || s == ".." || strings.HasPrefix(path.Clean(s)+"/", "../"):
		return hinted{fmt.Sprintf("%q points out of the repository", s), form}
	case path.Clean(s) != s:
		return hinted{fmt.Sprintf("%q is not the plain form of a path", s), fmt.Sprintf("write %q", path.Clean(s))}
	}
	for _, part := range strings.Split(s, "/") {
		if strings.EqualFold(part, ".git") {
			return hinted{fmt.Sprintf("%q is inside git's own directory", s), form}
		}
	}
	*p = RepoPath(s)
	return nil
}

// HostPath is a file of the person's machine, absolute or "~/…".
type HostPath string

// UnmarshalText checks the form.
func (p *HostPath) UnmarshalText(text []byte) error {
	s := string(text)
	rest, home := strings.CutPrefix(s, "~/")
	switch {
	case !plainText(s) || !home && !path.IsAbs(s) || rest == "" || s == "/":
		return hinted{fmt.Sprintf("%q is not a file of this machine", s), `write an absolute path, or one that begins with "~/"`}
	case path.Clean(rest) != rest || home && (strings.HasPrefix(rest+"/", "../") || rest == "." || path.IsAbs(rest)):
		return hinted{fmt.Sprintf("%q is not the plain form of a path", s), `leave out ".", "..", and doubled or final slashes`}
	}
	*p = HostPath(s)
	return nil
}

// HomePath is a file or a directory below the home directory, "~/…".
type HomePath string

// UnmarshalText checks the form.
func (p *HomePath) UnmarshalText(text []byte) error {
	s := string(text)
	rest, home := strings.CutPrefix(s, "~/")
	switch {
	case !plainText(s) || !home || rest == "" || len(s) > 200:
		return hinted{fmt.Sprintf("%q is not below the home directory", s), `write it with "~/" in front, such as "~/.claude/projects"`}
	case path.Clean(rest) != rest || strings.HasPrefix(rest+"/", "../") || rest == "." || path.IsAbs(rest):
		return hinted{fmt.Sprintf("%q is not the plain form of a path", s), `leave out ".", "..", and doubled or final slashes`}
	}
	*p = HomePath(s)
	return nil
}

// Rel is the path relative to the home directory.
func (p HomePath) Rel() string { return strings.TrimPrefix(string(p), "~/") }

// plainText reports whether s can be shown, and handed to the kernel, as it is.
func plainText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })
}

// Remote is a repository on a host, "github.com/acme/billing"; groups within groups make it longer.
type Remote string

// A part must not be read as an option, and a dot in front is for names such as ".github".
var partForm = lazily(`^[A-Za-z0-9_.~][A-Za-z0-9_.~-]{0,99}$`)

const maxParts = 20

// UnmarshalText checks the form, writes the host in its canonical form, and drops a ".git" at the end.
func (r *Remote) UnmarshalText(text []byte) error {
	form := `write it as "github.com/owner/name"`
	name, rest, _ := strings.Cut(strings.TrimSuffix(string(text), ".git"), "/")
	if strings.Contains(string(text), "://") || strings.Contains(name, "@") {
		return hinted{fmt.Sprintf("%q is an address, and the repository's name is asked for", text), form}
	}
	host, err := policy.ParseHost(name)
	if err != nil {
		return hinted{fmt.Sprintf("%q is not a repository: %s", text, err), form}
	}
	parts := strings.Split(rest, "/")
	if len(parts) < 2 || len(parts) > maxParts {
		return hinted{fmt.Sprintf("%q is not a repository: it is named by its host, owner and name", text), form}
	}
	for _, part := range parts {
		if !safePart(part) {
			return hinted{fmt.Sprintf("%q is not a repository: %q is not a name on a host", text, part), form}
		}
	}
	*r = Remote(host.String() + "/" + rest)
	return nil
}

// Repo is the repository's path below its host, "acme/billing".
func (r Remote) Repo() string {
	_, repo, _ := strings.Cut(string(r), "/")
	return repo
}

// Host is the host that r is on.
func (r Remote) Host() policy.Host {
	name, _, _ := strings.Cut(string(r), "/")
	host, _ := policy.ParseHost(name)
	return host
}

func safePart(s string) bool {
	return partForm().MatchString(s) && s != "." && s != ".." && !strings.EqualFold(s, ".git")
}

// RefPattern names refs of git, "refs/heads/agentbox/*". One "*" stands for any run of characters.
type RefPattern string

// UnmarshalText checks the form by the rules of git check-ref-format.
func (r *RefPattern) UnmarshalText(text []byte) error {
	if err := policy.ParseRefPattern(string(text)); err != nil {
		return hinted{err.Error(), `write it as "refs/heads/main" or "refs/heads/agentbox/*"`}
	}
	*r = RefPattern(text)
	return nil
}

// Prefix is a block of addresses that are not public, "10.0.0.0/8".
type Prefix struct{ prefix netip.Prefix }

// ParsePrefix reads a block, or one address.
func ParsePrefix(s string) (Prefix, error) {
	var p Prefix
	err := p.UnmarshalText([]byte(s))
	return p, err
}

// UnmarshalText checks that the block is one to which names may be let lead.
func (p *Prefix) UnmarshalText(text []byte) error {
	s, form := string(text), `write it as "10.0.0.0/8", or "10.1.2.3" for one address`
	prefix, err := netip.ParsePrefix(s)
	if addr, bad := netip.ParseAddr(s); bad == nil && addr.Zone() == "" {
		prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	switch {
	case err != nil || prefix.Addr().Is4In6():
		return hinted{fmt.Sprintf("%q is not a block of addresses", s), form}
	case prefix != prefix.Masked():
		return hinted{fmt.Sprintf("%q does not begin where its block begins", s), fmt.Sprintf("write %q", prefix.Masked())}
	}
	if err := policy.CheckPrivate(prefix); err != nil {
		return hinted{err.Error(), "private names networks of your own, such as \"10.0.0.0/8\" or \"192.168.1.0/24\""}
	}
	p.prefix = prefix
	return nil
}

// Prefix is the block.
func (p Prefix) Prefix() netip.Prefix { return p.prefix }

// String is the block as it is written.
func (p Prefix) String() string { return p.prefix.String() }

// MarshalText gives the block as it is written.
func (p Prefix) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// RepoName is OWNER/NAME.
type RepoName string

var ownerForm = lazily(`^[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})$`)

// UnmarshalText checks the form.
func (r *RepoName) UnmarshalText(text []byte) error {
	owner, name, ok := strings.Cut(string(text), "/")
	if !ok || !ownerForm().MatchString(owner) || !safePart(name) {
		return hinted{fmt.Sprintf("%q is not a repository of GitHub", text), `write it as "owner/name"`}
	}
	*r = RepoName(text)
	return nil
}

// URL is where telemetry is sent: https, or http to this machine.
type URL string

// UnmarshalText checks the form.
func (u *URL) UnmarshalText(text []byte) error {
	form := `write it as "https://collector.example.com" or "http://127.0.0.1:4318"`
	v, err := url.Parse(string(text))
	switch {
	case err != nil || !plainText(string(text)) || v.Scheme != "http" && v.Scheme != "https" || !validPort(v) || v.Opaque != "":
		return hinted{fmt.Sprintf("%q is not an http or https URL", text), form}
	case v.User != nil:
		return hinted{"a URL must not hold a user name or a password", form}
	case v.RawQuery != "" || v.ForceQuery || v.Fragment != "":
		return hinted{fmt.Sprintf("%q holds a query or a fragment", text), form}
	case v.Scheme == "http" && !loopback(v.Hostname()):
		return hinted{fmt.Sprintf("%q would be sent in the clear", text), "write https; http is for this machine alone, such as http://127.0.0.1:4318"}
	case v.Scheme == "https" && !loopback(v.Hostname()) && !publicHost(v.Hostname()):
		return hinted{fmt.Sprintf("%q names no host", text), form}
	}
	*u = URL(text)
	return nil
}

func validPort(u *url.URL) bool {
	if u.Hostname() == "" || strings.HasSuffix(u.Host, ":") {
		return false
	}
	if u.Port() == "" {
		return true
	}
	_, err := netip.ParseAddrPort("127.0.0.1:" + u.Port())
	return err == nil && u.Port() != "0"
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Zone() == "" && addr.IsLoopback()
}

// publicHost takes names and addresses: a collector often stands at an address of its own network.
func publicHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	if err == nil {
		return addr.Zone() == "" && !addr.IsUnspecified()
	}
	_, err = policy.ParseHost(host)
	return err == nil
}
