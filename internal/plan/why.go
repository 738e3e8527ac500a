package plan

import (
	"cmp"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/policy"
)

// Explanation is one answer with its grounds.
type Explanation struct {
	Decision string `json:"decision"` // "allow", "ask", "deny"; of a path "write", "read", "hidden"
	Rule     string `json:"rule"`     // where what decided it stands, or "built-in"
	Reason   string `json:"reason"`   // one plain sentence
	Change   string `json:"change"`   // what would change it: a sentence, and below it lines of TOML that can be copied
}

// WhyURL explains what a request is answered. What "origin" means is not in the grants: add the rules of OriginRules to
// Network first, where the repository is known.
func (g Grants) WhyURL(method string, u *url.URL) Explanation {
	r, err := request(method, u)
	if err != nil {
		return Explanation{Decision: string(policy.Deny), Rule: "built-in", Reason: err.Error(), Change: "no rule can name it"}
	}
	d := g.Network.Decide(r)
	e := Explanation{Decision: string(d.Action), Rule: g.decidedBy(d.Rule), Reason: d.Reason() + g.beside(r, d)}
	switch i := slices.IndexFunc(g.Network.Rules, func(rule policy.Rule) bool { return rule.Origin == d.Rule }); {
	case d.Allowed():
		e.Change = g.denying(r)
	case d.Rule == "only":
		e.Change = "only whoever keeps " + file(e.Rule) + " can change that"
	case d.Rule == fromDefault:
		e.Change = g.allowing(r)
	case i < 0:
		e.Change = "nothing changes that: it holds for every profile"
	default:
		e.Change = g.lifting(r, g.Network.Rules[i])
	}
	return e
}

func request(method string, u *url.URL) (policy.Request, error) {
	scheme := cmp.Or(strings.ToLower(u.Scheme), "https")
	ports := map[string]uint16{"https": 443, "http": 80, "wss": 443, "ws": 80, "ssh": 22}
	port := ports[scheme]
	if u.Port() != "" {
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil {
			return policy.Request{}, fmt.Errorf("%q is not a port", u.Port())
		}
		port = uint16(n)
	}
	if port == 0 {
		return policy.Request{}, fmt.Errorf("the port of scheme %q is not known: write it into the address", u.Scheme)
	}
	h, err := policy.ParseHost(u.Hostname())
	return policy.Request{Host: h, Port: port, Scheme: scheme, Method: method, Path: cmp.Or(u.EscapedPath(), "/")}, err
}

// decidedBy says where the rule of a decision stands.
func (g Grants) decidedBy(rule string) string {
	switch rule {
	case fromDefault:
		return "network.default" + wrapped(" (", g.Origins["network.default"], ")")
	case "only":
		return cmp.Or(g.Origins["network.only"], organisationFile)
	}
	return rule
}

// beside says what else is known of an allowed request.
func (g Grants) beside(r policy.Request, d policy.Decision) string {
	var out string
	if d.Allowed() && !d.Inspect {
		out += "; the connection is not looked into, so that only host and port hold"
	}
	for _, c := range g.Credentials {
		if d.Allowed() && slices.Contains(c.Hosts, r.Host) {
			out += fmt.Sprintf("; credential %q (%s) is usable there", c.Name, c.Origin)
		}
	}
	return out
}

// allowing is the narrowest rule that allows a request, or asks for it where the tier wants that.
func (g Grants) allowing(r policy.Request) string {
	action := policy.Allow
	f := floors{}
	f.tier(g.Tier, g.Origins["tier"])
	if f[pathWrites].word == string(policy.Ask) && writing([]string{r.Method}) != "" {
		action = policy.Ask
	}
	return fmt.Sprintf("to %s it, add to ~/.config/agentbox/profiles/%s.toml (for you; it begins with version = 1), or to .agentbox/%s.toml (for the team, which each person is asked to trust):\n\n%s",
		action, g.Profile, g.Profile, rule(action, r))
}

func (g Grants) denying(r policy.Request) string {
	return fmt.Sprintf("to deny it, add to .agentbox/%s.toml (it begins with version = 1); deny goes before allow:\n\n%s", g.Profile, rule(policy.Deny, r))
}

// lifting says what becomes of a rule that denies or asks: nothing that is added goes before it.
func (g Grants) lifting(r policy.Request, by policy.Rule) string {
	switch {
	case by.Action == policy.Allow: // it allows other methods, or other paths, or paths in normal form only
		return "a rule with methods or paths wants requests whose path and method cannot be taken for others: write the path in its plain form"
	case strings.HasPrefix(by.Origin, organisationFile):
		return "only whoever keeps " + organisationFile + " can change that"
	case strings.HasPrefix(by.Origin, "built-in/"):
		return fmt.Sprintf("%s goes before allow, and the rule is built in: run a profile without it", by.Action)
	}
	return fmt.Sprintf("%s goes before allow: change or delete the rule at %s", by.Action, by.Origin)
}

// rule writes the rule for one request.
func rule(action policy.Action, r policy.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[[network.rule]]\naction = %q\nhost = %q\n", action, r.Host)
	if r.Port != 443 {
		fmt.Fprintf(&b, "ports = [%d]\n", r.Port)
	}
	if r.Method != "" {
		fmt.Fprintf(&b, "methods = [%s]\n", quoted(r.Method))
	}
	if p, err := policy.ParsePathPattern(r.Path); err == nil && p.Match(r.Path) && !strings.Contains(r.Path, "*") && policy.CanonicalPath(r.Path) {
		fmt.Fprintf(&b, "paths = [%s]\n", quoted(r.Path))
	}
	return b.String()
}

// WhyTool explains what a call of a tool is answered; the name is SERVER.TOOL.
func (g Grants) WhyTool(name string) Explanation {
	server, tool, _ := strings.Cut(name, ".")
	i := slices.IndexFunc(g.Servers, func(s Server) bool { return s.Name == server })
	if i < 0 {
		return Explanation{Decision: string(policy.Deny), Rule: fromDefault, Reason: fmt.Sprintf("profile %q has no tool server %q", g.Profile, server),
			Change: fmt.Sprintf("to allow it, add to ~/.config/agentbox/profiles/%s.toml (it begins with version = 1):\n\n[[mcp]]\nname = %q\ncommand = [\"…\"]\nallow = [%q]\n", g.Profile, server, tool)}
	}
	s := g.Servers[i]
	e := Explanation{Rule: s.Origin}
	for _, l := range []struct {
		action   policy.Action
		patterns []string
	}{{policy.Deny, s.Deny}, {policy.Ask, s.Ask}, {policy.Allow, s.Allow}} {
		for _, p := range l.patterns {
			if matchTool(p, tool) {
				e.Decision, e.Reason = string(l.action), fmt.Sprintf("%q in %s of tool server %q names %s", p, l.action, server, tool)
				e.Change = fmt.Sprintf("take %q out of %s of [[mcp]] %q at %s", p, l.action, server, s.Origin)
				return e
			}
		}
	}
	e.Decision, e.Reason = string(policy.Deny), fmt.Sprintf("no pattern of tool server %q names %s, and what none names is denied", server, tool)
	e.Change = fmt.Sprintf("add to [[mcp]] %q at %s:\n\nallow = [%s]\n", server, s.Origin, strings.Trim(quotedList(append(slices.Clone(s.Allow), tool)), "[]"))
	return e
}

// matchTool: "*" is any run of characters.
func matchTool(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(name, parts[0])
	if len(parts) == 1 {
		return ok && rest == ""
	}
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, part)
		if !ok || i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return ok && strings.HasSuffix(rest, parts[len(parts)-1])
}

// WhyPath explains what may be done with a path of the repository, relative to its top.
func (g Grants) WhyPath(rel string) Explanation {
	rel = path.Clean(strings.TrimPrefix(rel, "./"))
	if rel == ".." || strings.HasPrefix(rel, "../") || path.IsAbs(rel) {
		return Explanation{Decision: "hidden", Rule: "built-in", Reason: rel + " is not in the repository: nothing of this machine outside it is seen but its tools", Change: "nothing changes that"}
	}
	for i, pattern := range g.Workspace.Hide {
		if hides(pattern, rel) {
			at := origin(g, "workspace.hide", i)
			return Explanation{Decision: "hidden", Rule: at, Reason: fmt.Sprintf("%q in workspace.hide names %s", pattern, rel), Change: g.showing(pattern, at)}
		}
	}
	e := Explanation{Rule: "workspace.mode" + wrapped(" (", g.Origins["workspace.mode"], ")"),
		Change: fmt.Sprintf("to hide it, add to .agentbox/%s.toml (it begins with version = 1):\n\n[workspace]\nhide = [\"...\", %q]\n", g.Profile, rel)}
	switch g.Workspace.Mode {
	case Direct:
		e.Decision, e.Reason = "write", "nothing hides it, and mode = \"direct\" lets the agent change your files as it goes"
	case Review:
		e.Decision, e.Reason = "write", "nothing hides it, and mode = \"review\" lets the agent change a copy of it"
	default:
		e.Decision, e.Reason = "read", "nothing hides it, and mode = \"readonly\" lets the agent change nothing"
	}
	return e
}

func (g Grants) showing(pattern, at string) string {
	if strings.HasPrefix(at, organisationFile) {
		return "only whoever keeps " + organisationFile + " can change that"
	}
	kept := slices.DeleteFunc(slices.Clone(g.Workspace.Hide), func(p string) bool { return p == pattern })
	return fmt.Sprintf("take it out of the list at %s, or put another list over it in ~/.config/agentbox/profiles/%s.toml (it begins with version = 1):\n\n[workspace]\nhide = %s\n",
		at, g.Profile, quotedList(kept))
}
