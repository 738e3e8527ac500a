package policy

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

// random makes sets and requests out of few enough words that they often meet.
type random struct {
	testing.TB
	*rand.Rand
}

func newRandom(t testing.TB, seed uint64) random {
	return random{t, rand.New(rand.NewPCG(seed, 1))}
}

func pick[T any](r random, of ...T) T { return of[r.IntN(len(of))] }

func some[T any](r random, most int, make func() T) []T {
	var out []T
	for range r.IntN(most + 1) {
		out = append(out, make())
	}
	return out
}

func (r random) pattern() Pattern {
	return pattern(r, pick(r, "a.test", "b.a.test", "c.b.a.test", "other.test", "*.a.test", "*.b.a.test", "*.c.b.a.test", "metadata.google.internal"))
}

func (r random) host() Host {
	return host(r, pick(r, "a.test", "b.a.test", "c.b.a.test", "d.c.b.a.test", "x.a.test", "x.b.a.test", "other.test", "else.test", "metadata.google.internal", "any.a.test"))
}

func (r random) method() string { return pick(r, "GET", "POST", "PUT", "HEAD") }

var pathWords = []string{"a", "b", "ab", "a.b", "@s", "%2F", "a%2Fb", "%5C", "...", "%25", "%C3%A9", "1", "2a", "%2A"}

func (r random) pathPattern() PathPattern {
	for {
		var b strings.Builder
		for range 1 + r.IntN(3) {
			b.WriteString("/")
			for range r.IntN(3) {
				if r.IntN(3) == 0 {
					b.WriteString(pick(r, "*", "**"))
				} else {
					b.WriteString(pick(r, pathWords...))
				}
			}
		}
		if p, err := ParsePathPattern(b.String()); err == nil {
			return p
		}
	}
}

func (r random) path() string {
	if r.IntN(12) == 0 {
		return pick(r, "", "*", "/a//b", "/a/../b", "/a/%2e", "/a;b", "/a%2f..", "/%2541", "/%zz", "/%00", "/\\", "/%c0%af")
	}
	var b strings.Builder
	for range 1 + r.IntN(4) {
		b.WriteString(pick(r, "/", "/", "/", "/", "%2f", "%5c"))
		for range r.IntN(3) {
			b.WriteString(pick(r, "a", "b", "%61", "ab", "a.b", "@s", "%40s", "%2F", "a%2fb", "%5c", "...", "%25", "%c3%a9", "%C3%A8", "1", "2a", "x", "*"))
		}
	}
	return b.String()
}

func (r random) rule() Rule {
	rule := Rule{
		Action: pick(r, Allow, Allow, Ask, Deny), Host: r.pattern(), Inspect: r.IntN(3) > 0,
		Ports: append(some(r, 1, func() uint16 { return pick[uint16](r, 80, 8443) }), 443), Origin: "p:" + string(rune('a'+r.IntN(26))),
	}
	if r.IntN(2) == 0 {
		rule.Methods = some(r, 2, r.method)
	}
	if r.IntN(2) == 0 {
		rule.Paths = some(r, 2, r.pathPattern)
	}
	return rule
}

// richRule says more than methods and paths.
func (r random) richRule() Rule {
	rule := r.rule()
	rule.Scheme = pick(r, "", "", "https", "http")
	rule.WebSocket = pick(r, "", "", WebSocketOnly, WebSocketNever)
	if r.IntN(4) == 0 {
		rule.Protocol = TCP
		rule.Methods, rule.Paths, rule.Scheme, rule.WebSocket = nil, nil, "", ""
	}
	if r.IntN(3) == 0 {
		rule.MaxRequest, rule.MaxSent = pick[int64](r, 0, 10, 100), pick[int64](r, 0, 10, 100)
	}
	if r.IntN(4) == 0 {
		rule.Private = some(r, 2, r.prefix)
	}
	switch {
	case rule.Action == Allow:
		rule.By = pick(r, "", "", ByPerson)
	case rule.Action == Ask:
		rule.By = pick(r, "", "", ByOrganisation)
	}
	return rule
}

func (r random) prefix() netip.Prefix {
	return netip.MustParsePrefix(pick(r, "10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "192.168.1.0/24", "fc00::/7", "fd00:1::/32", "127.0.0.1/32", "64:ff9b::/96"))
}

func (r random) address() netip.Addr {
	return netip.MustParseAddr(pick(r, "10.0.0.1", "10.1.2.3", "10.200.0.1", "192.168.1.1", "fd00:1::1", "fd99::1", "127.0.0.1", "64:ff9b::a00:1", "64:ff9b::808:808", "169.254.169.254", "8.8.8.8", "fd00:ec2::254"))
}

func (r random) gitRule() GitRule {
	return GitRule{
		Host: r.host(), Repo: pick(r, "acme/a", "acme/b"), Fetch: r.IntN(2) == 0, Push: some(r, 2, r.refPattern),
		Force: r.IntN(3) == 0, Delete: r.IntN(3) == 0, Origin: "g:" + string(rune('a'+r.IntN(26))),
	}
}

func (r random) refPattern() string {
	return pick(r, "refs/heads/main", "refs/heads/*", "refs/heads/x/*", "refs/*", "refs/heads/*/fix", "refs/heads/m*n")
}

func (r random) ref() RefUpdate {
	return RefUpdate{
		pick(r, "refs/heads/main", "refs/heads/x/y", "refs/heads/x/fix", "refs/tags/v1", "refs/heads/mn", "refs/heads/x/", "HEAD"),
		pick(r, RefCreate, RefUpdated, RefUpdated, RefForce, RefDelete, ""),
	}
}

func (r random) git() *GitRequest {
	g := &GitRequest{Repo: pick(r, "acme/a", "acme/b", "evil/a"), Op: pick(r, GitFetch, GitPush, GitPush, GitPush)}
	if g.Op == GitPush {
		g.Refs = some(r, 2, r.ref)
	}
	return g
}

// rich is a set whose rules say all that rules can say.
func (r random) rich(most int) Set {
	s := r.set(most)
	s.Rules = append(s.Rules, some(r, most, r.richRule)...)
	if r.IntN(2) == 0 {
		s.Git = some(r, 3, r.gitRule)
	}
	return s
}

// either is a set that may be rich.
func (r random) either(most int) Set {
	if r.IntN(2) == 0 {
		return r.set(most)
	}
	return r.rich(most/2 + 1)
}

func (r random) set(most int) Set {
	s := Set{Default: pick(r, Allow, Ask, Deny, Deny, Deny, ""), Rules: some(r, most, r.rule)}
	if r.IntN(5) == 0 {
		s.Only = some(r, 3, r.pattern)
	}
	return s
}

func (r random) request() Request {
	q := Request{Host: r.host(), Port: pick[uint16](r, 443, 443, 80, 8443, 22)}
	switch r.IntN(6) {
	case 0: // not known yet
		q.Method = pick(r, "", "CONNECT")
		return q
	case 1:
		q.MethodBy = "X-HTTP-Method-Override"
	case 2:
		q.PathBy = "X-Original-URL"
	}
	q.Method, q.Path = pick(r, "GET", "POST", "PUT", "HEAD", "DELETE", "get", "POST", "GET"), r.path()
	q.Scheme, q.WebSocket, q.Size = pick(r, "https", "https", "http"), r.IntN(4) == 0, pick[int64](r, 0, 0, -1, 10, 11, 1000)
	if r.IntN(4) == 0 {
		q.Git = r.git()
	}
	return q
}

// anyRequest may also be one that is less known.
func (r random) anyRequest() Request {
	q := r.request()
	q.Scheme = pick(r, q.Scheme, "https", "", TCP, "ftp")
	return q
}

// neighbour changes one thing, or a few.
func (r random) neighbour(s Set) Set {
	out := Set{Default: s.Default, Only: s.Only, Rules: append([]Rule(nil), s.Rules...), Git: append([]GitRule(nil), s.Git...)}
	for range 1 + r.IntN(2) {
		i := r.IntN(len(out.Rules) + 1)
		switch r.IntN(8) {
		case 5, 6:
			if i < len(out.Rules) {
				rich := r.richRule()
				rich.Action, rich.Host, rich.Ports, rich.Methods, rich.Paths = out.Rules[i].Action, out.Rules[i].Host, out.Rules[i].Ports, out.Rules[i].Methods, out.Rules[i].Paths
				out.Rules[i] = rich
			}
		case 7:
			if at := r.IntN(len(out.Git) + 1); at < len(out.Git) && r.IntN(3) > 0 {
				git := r.gitRule()
				git.Host, git.Repo = out.Git[at].Host, out.Git[at].Repo
				out.Git[at] = git
			} else if at < len(out.Git) {
				out.Git = append(out.Git[:at:at], out.Git[at+1:]...)
			} else {
				out.Git = append(out.Git, r.gitRule())
			}
		case 0:
			out.Rules = append(out.Rules[:i:i], append([]Rule{r.rule()}, out.Rules[i:]...)...)
		case 1, 2:
			if i < len(out.Rules) {
				out.Rules = append(out.Rules[:i:i], out.Rules[i+1:]...)
			}
		case 3:
			if i < len(out.Rules) {
				rule := r.rule()
				rule.Action, rule.Host = out.Rules[i].Action, out.Rules[i].Host
				out.Rules[i] = rule
			}
		case 4:
			out.Default = pick(r, Allow, Ask, Deny, Deny)
		}
	}
	return out
}
