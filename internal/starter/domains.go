package starter

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

// domain is one entry of a list of domains.
type domain struct {
	pattern policy.Pattern
	ports   []uint16 // none: every port there
	from    string   // FILE:LINE
}

// Why an entry is no domain for a rule.
const (
	whyEverything = "it means every host"
	whyLocal      = "it is this machine itself, of which nothing is reachable inside"
	whyAddress    = "it is an address, and only names can be allowed"
	whyNoHost     = "it is not a host name"
)

// parseDomain reads "example.com", "*.example.com" and both with ":PORT". Why is "" when that went well; it never
// quotes the entry.
func parseDomain(s string) (d domain, why string) {
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && strings.IndexByte(s, ':') == i {
		host, port = s[:i], s[i+1:]
	}
	if port != "" || strings.HasSuffix(s, ":") {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return d, whyNoHost
		}
		d.ports = []uint16{uint16(n)}
	}
	pattern, err := policy.ParsePattern(host)
	switch {
	case err == nil:
		d.pattern = pattern
		return d, ""
	case host == "*" || host == "**":
		return d, whyEverything
	case strings.HasPrefix(host, "*.") && strings.Count(host, "*") == 1 && policyHost(host[2:]):
		return d, "it would match names of unrelated owners"
	case host == "localhost" || strings.HasSuffix(host, ".localhost"):
		return d, whyLocal
	case isAddress(s) || isAddress(host):
		return d, whyAddress
	}
	return d, whyNoHost
}

// policyHost reports a name of any number of labels, "com" included.
func policyHost(s string) bool { _, err := policy.ParseHost("x." + s); return err == nil }

func isAddress(s string) bool {
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		_, err = netip.ParsePrefix(s)
	}
	if err != nil {
		_, err = netip.ParseAddrPort(s)
	}
	return err == nil
}

var plainDomain = lazily(`^[A-Za-z0-9.*:_\[\]-]{1,253}$`)

// shown quotes an entry, unless it could hold more than a name: an address with a password in it, say.
func shown(entry string) string {
	if plainDomain().MatchString(entry) {
		return `"` + entry + `"`
	}
	return "this entry"
}

// covers reports whether p names every host that q names.
func covers(p, q policy.Pattern) bool {
	base, wild := strings.CutPrefix(p.String(), "*.")
	other, otherWild := strings.CutPrefix(q.String(), "*.")
	switch {
	case !wild:
		return !otherWild && base == other
	case otherWild && base == other:
		return true
	}
	return strings.HasSuffix(other, "."+base)
}

// rules are what lists of domains come to: no rule in them is without effect.
type rules struct{ allow, deny []domain }

// settle gives every entry its ports and takes out what others say already. A denied entry without ports is denied on
// every port that anything is allowed on.
func settle(allow, deny []domain, base []profiles.Rule) rules {
	ports := portsOf(allow, base)
	var out rules
	for _, d := range broadFirst(deny) {
		if len(d.ports) == 0 {
			d.ports = ports
		}
		if d.ports = without(d, out.deny); len(d.ports) > 0 {
			out.deny = append(out.deny, d)
		}
	}
	known := slices.Clone(out.deny)
	for _, r := range base {
		if r.Action == profiles.Action(policy.Allow) && len(r.Methods) == 0 && len(r.Paths) == 0 {
			known = append(known, domain{pattern: r.Host, ports: numbers(r.Ports)})
		}
	}
	for _, d := range broadFirst(onHTTPS(allow)) {
		if d.ports = without(d, known); len(d.ports) > 0 {
			out.allow, known = append(out.allow, d), append(known, d)
		}
	}
	return out
}

// onHTTPS gives port 443 to entries that name none.
func onHTTPS(list []domain) []domain {
	out := slices.Clone(list)
	for i := range out {
		if len(out[i].ports) == 0 {
			out[i].ports = []uint16{443}
		}
	}
	return out
}

func numbers(ports []profiles.Port) (all []uint16) {
	for _, p := range ports {
		all = append(all, uint16(p))
	}
	return all
}

// portsOf gives every port that something is, or usually would be, allowed on; sorted.
func portsOf(allow []domain, base []profiles.Rule) []uint16 {
	ports := []uint16{80, 443}
	for _, d := range allow {
		ports = append(ports, d.ports...)
	}
	for _, r := range base {
		ports = append(ports, numbers(r.Ports)...)
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// without gives the ports of d on which no entry of others covers it.
func without(d domain, others []domain) []uint16 {
	return slices.DeleteFunc(slices.Clone(d.ports), func(port uint16) bool {
		return slices.ContainsFunc(others, func(o domain) bool {
			return slices.Contains(o.ports, port) && covers(o.pattern, d.pattern)
		})
	})
}

// broadFirst puts patterns before what they cover, and keeps the order otherwise. One host's entries of single ports
// become one entry.
func broadFirst(list []domain) []domain {
	var out []domain
	for _, d := range list {
		i := slices.IndexFunc(out, func(o domain) bool { return o.pattern == d.pattern })
		switch {
		case i < 0:
			out = append(out, d)
		case len(d.ports) == 0 || len(out[i].ports) == 0:
			out[i].ports = nil
		default:
			out[i].ports = append(slices.Clone(out[i].ports), d.ports...)
			slices.Sort(out[i].ports)
			out[i].ports = slices.Compact(out[i].ports)
		}
	}
	slices.SortStableFunc(out, func(a, b domain) int { return breadth(a) - breadth(b) })
	return out
}

// breadth is lower for patterns that can cover others: wildcards, the shorter first.
func breadth(d domain) int {
	s := d.pattern.String()
	if strings.HasPrefix(s, "*.") {
		return strings.Count(s, ".")
	}
	return 1000
}
