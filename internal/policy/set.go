package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Names under which clouds serve a machine's own credentials. No rule can allow them.
var metadataNames = map[string]bool{
	"instance-data.ec2.internal":   true,
	"metadata.azure.internal":      true,
	"metadata.goog":                true,
	"metadata.google.internal":     true,
	"metadata.packet.net":          true,
	"metadata.platformequinix.com": true,
	"metadata.tencentyun.com":      true,
}

// Origins of decisions that no written rule made.
const (
	originDefault = "default"
	originBuiltIn = "built-in"
)

// Decide answers a request: built-in denials, then rules that deny, then rules that allow, then the default.
// A rule takes part when its host matches and its ports hold the port. Anything unclear is denied.
func (s Set) Decide(r Request) Decision {
	if r.Host.IsZero() || r.Port == 0 {
		return deny(originBuiltIn, "the request names no host and port")
	}
	if isMetadata(r.Host) {
		return deny(originBuiltIn, fmt.Sprintf("%s serves the credentials of a cloud machine and is never allowed", r.Host))
	}
	for _, rule := range s.Rules {
		if rule.Action == Deny && rule.takes(r) {
			return deny(rule.Origin, fmt.Sprintf("the rule for %s at %s denies %s on port %d", rule.Host, rule.Origin, r.Host, r.Port))
		}
	}
	if rule, ok := s.allowing(r); ok {
		return Decision{Action: Allow, Inspect: rule.Inspect, Rule: rule.Origin,
			Reason: fmt.Sprintf("the rule for %s at %s allows %s on port %d", rule.Host, rule.Origin, r.Host, r.Port)}
	}
	if s.Default == Allow {
		return Decision{Action: Allow, Inspect: true, Rule: originDefault,
			Reason: fmt.Sprintf("no rule names %s on port %d and the default is to allow", r.Host, r.Port)}
	}
	return deny(originDefault, s.unnamed(r))
}

// Reachable reports whether some port of h is allowed, so that looking up its name makes sense.
func (s Set) Reachable(h Host) bool {
	if h.IsZero() || isMetadata(h) {
		return false
	}
	if s.Default == Allow {
		return true
	}
	return slices.ContainsFunc(s.portsOf(h), func(port uint16) bool {
		return s.Decide(Request{Host: h, Port: port}).Allowed()
	})
}

func deny(rule, reason string) Decision {
	return Decision{Action: Deny, Rule: rule, Reason: reason}
}

func isMetadata(h Host) bool {
	for name := h.name; name != ""; {
		if metadataNames[name] {
			return true
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return false
}

func (r Rule) takes(req Request) bool {
	return r.Host.Match(req.Host) && slices.Contains(r.Ports, req.Port)
}

// allowing finds the allow rule that speaks of the fewest hosts, so that inspect = false can be said of one host
// below a wildcard; of two equals, the one that inspects.
func (s Set) allowing(req Request) (Rule, bool) {
	var best Rule
	found := false
	for _, rule := range s.Rules {
		if rule.Action != Allow || !rule.takes(req) {
			continue
		}
		if !found || narrower(rule, best) {
			best, found = rule, true
		}
	}
	return best, found
}

func narrower(a, b Rule) bool {
	if a.Host.wild != b.Host.wild {
		return !a.Host.wild
	}
	if len(a.Host.host.name) != len(b.Host.host.name) {
		return len(a.Host.host.name) > len(b.Host.host.name)
	}
	return a.Inspect && !b.Inspect
}

func (s Set) portsOf(h Host) []uint16 {
	var ports []uint16
	for _, rule := range s.Rules {
		if rule.Action == Allow && rule.Host.Match(h) {
			ports = append(ports, rule.Ports...)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

func (s Set) unnamed(r Request) string {
	ports := s.portsOf(r.Host)
	if len(ports) == 0 {
		return fmt.Sprintf("no rule allows %s and the default is to deny", r.Host)
	}
	text := make([]string, len(ports))
	for i, port := range ports {
		text[i] = strconv.Itoa(int(port))
	}
	return fmt.Sprintf("%s is allowed on port %s only, not on port %d", r.Host, strings.Join(text, ", "), r.Port)
}
