package plan

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

// Explanation is one answer with its grounds.
type Explanation struct {
	Decision string `json:"decision"` // "allow", "ask", "deny"; of a path "write", "read", "hidden"
	Rule     string `json:"rule"`     // where what decided it stands, or "built-in"
	Reason   string `json:"reason"`   // one plain sentence
	Change   string `json:"change"`   // what would change it: sentences, and below them lines of TOML that can be copied
}

// WhyURL explains what a request for a URL is answered; see Why.
func (g Grants) WhyURL(method string, u *url.URL, sets ...profiles.NamedSet) Explanation {
	r, err := RequestOf(method, u)
	if err != nil {
		return Explanation{Decision: string(policy.Deny), Rule: "built-in", Reason: err.Error(), Change: "no rule can name it"}
	}
	return g.Why(r, sets...)
}

// Why explains what a request is answered. What "origin" means is not in the grants: add the rules of OriginRules to
// Network first, where the repository is known. The sets are those that the profile could use.
func (g Grants) Why(r policy.Request, sets ...profiles.NamedSet) Explanation {
	d := g.Set().Decide(r)
	e := Explanation{Decision: string(d.Action), Rule: g.decidedBy(d.Rule), Reason: d.Reason() + g.beside(r, d)}
	byOrigin := func(rule policy.Rule) bool { return rule.Origin == d.Rule }
	byGit := slices.ContainsFunc(g.Git, func(r GitRule) bool { return r.Origin == d.Rule })
	switch i := slices.IndexFunc(g.Network.Rules, byOrigin); {
	case d.Allowed() && byGit:
		e.Change = "change or delete the [[git]] rule at " + d.Rule
	case d.Allowed():
		e.Change = g.denying(r)
	case d.Rule == "only":
		e.Change = "only whoever keeps " + file(e.Rule) + " can change that"
	case d.Rule == fromDefault || byGit:
		e.Change = g.allowing(r, sets)
	case i < 0:
		e.Change = "nothing changes that: it holds for every profile"
	case g.Network.Rules[i].MaxRequest > 0 && r.Size > g.Network.Rules[i].MaxRequest:
		e.Change = "raise max_request of the rule at " + e.Rule
	default:
		e.Change = g.lifting(r, g.Network.Rules[i])
	}
	return e
}

// RequestOf is the request for a URL: https, http, wss, ws, or tcp with a port, and what it does to a repository, where
// its path is one of git's own.
func RequestOf(method string, u *url.URL) (policy.Request, error) {
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
	r := policy.Request{Host: h, Port: port, Scheme: scheme}
	switch scheme {
	case policy.TCP:
		return r, err
	case "wss", "ws":
		r.Scheme, r.WebSocket = map[string]string{"wss": "https", "ws": "http"}[scheme], true
	}
	r.Method, r.Path = method, cmp.Or(u.EscapedPath(), "/")
	r.Git = gitRequest(r.Path, u.Query().Get("service"))
	return r, err
}

// gitRequest is what a request for a path does to a repository; nil for most.
func gitRequest(path, service string) *policy.GitRequest {
	const fetch, push = "/git-upload-pack", "/git-receive-pack"
	for _, end := range []string{fetch, push, "/info/refs"} {
		repo, ok := strings.CutSuffix(path, end)
		if !ok {
			continue
		}
		op := policy.GitFetch
		if end == push || "/"+service == push {
			op = policy.GitPush
		}
		return &policy.GitRequest{Repo: strings.TrimSuffix(strings.TrimPrefix(repo, "/"), ".git"), Op: op}
	}
	return nil
}

// PushOf is a push to a ref of the repository at a URL.
func PushOf(u *url.URL, update policy.RefUpdate) (policy.Request, error) {
	repo := strings.TrimSuffix(strings.Trim(u.EscapedPath(), "/"), ".git")
	r, err := RequestOf("POST", &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/" + repo + ".git/git-receive-pack"})
	if r.Git != nil {
		r.Git.Refs = []policy.RefUpdate{update}
	}
	return r, err
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
		fits, some := c.fits(r)
		switch {
		case !d.Allowed() || !slices.Contains(c.Hosts, r.Host):
		case some:
			out += fmt.Sprintf("; credential %q (%s) is usable for some requests there", c.Name, c.Origin)
		case fits:
			out += fmt.Sprintf("; credential %q (%s) is usable there", c.Name, c.Origin)
		default:
			out += fmt.Sprintf("; credential %q (%s) is not for such requests, and the agent's own keys are taken out", c.Name, c.Origin)
		}
	}
	return out
}

// allowing says how a request is allowed, or asked for where the tier wants that: by a named set that has it, by a grant
// of the person's, by a rule.
func (g Grants) allowing(r policy.Request, sets []profiles.NamedSet) string {
	action, read := policy.Allow, writing([]string{r.Method}) == ""
	f := floors{}
	f.tier(g.Tier, g.Origins["tier"])
	if f[pathWrites].word == string(policy.Ask) && !read {
		action = policy.Ask
	}
	if r.Scheme == policy.TCP {
		return fmt.Sprintf("to allow it for you and this repository alone: agentbox grants add %s\nor add to ~/.config/agentbox/profiles/%s.toml (for you alone; it begins with version = 1):\n\n%s", GrantArgs(r), g.Profile, RuleFor(r, policy.Allow))
	}
	files := fmt.Sprintf("~/.config/agentbox/profiles/%s.toml (for you; it begins with version = 1), or to .agentbox/%s.toml (for the team, which each person is asked to trust)", g.Profile, g.Profile)
	if r.Git != nil && r.Git.Op == policy.GitPush && len(g.Git) > 0 {
		return g.allowingPush(r, files)
	}
	rule := rule(action, widened(r))
	if action == policy.Ask { // a grant only allows
		return fmt.Sprintf("to ask it, add to %s:\n\n%s", files, rule)
	}
	grant := "agentbox grants add " + grantArgs(widened(r))
	if set, ok := g.having(r, sets); ok {
		return fmt.Sprintf("to allow it, take the named set %s (%s): add to %s:\n\n[network]\nuse = [\"...\", %q]\n\nor, for you and this repository alone: %s\nor a rule in one of these files:\n\n%s",
			set.Name, set.Description, files, set.Name, grant, rule)
	}
	return fmt.Sprintf("to allow it for you and this repository alone: %s\nor add to %s:\n\n%s", grant, files, rule)
}

func (g Grants) allowingPush(r policy.Request, files string) string {
	rule := g.ruleFor(r, policy.Allow)
	if rule == "" {
		return "no [[git]] rule can name that repository: give its address, such as https://github.com/OWNER/NAME"
	}
	return fmt.Sprintf("to allow it, add to %s:\n\n%s", files, rule)
}

// having is the first of the sets that are not in use yet whose rules alone allow a request.
func (g Grants) having(r policy.Request, sets []profiles.NamedSet) (profiles.NamedSet, bool) {
	i := slices.IndexFunc(sets, func(s profiles.NamedSet) bool {
		set := policy.Set{Default: policy.Deny, Rules: rules(s.Rules)}
		return !slices.Contains(g.Use, s.Name) && set.Decide(r).Allowed()
	})
	if i < 0 {
		return profiles.NamedSet{}, false
	}
	return sets[i], true
}

// wanted is a request with what the rule for it is to say.
type wanted struct {
	policy.Request
	methods []string
	anyPath bool
}

// widened is what a person wants who asks about one request: who may read one page of a host reads the others too.
// What may change something there is to be said for each path.
func widened(r policy.Request) wanted {
	if (r.Method == "GET" || r.Method == "HEAD") && !r.WebSocket {
		return wanted{r, []string{"GET", "HEAD"}, true}
	}
	return narrow(r)
}

func narrow(r policy.Request) wanted {
	if r.Method == "" || r.Method == "CONNECT" || r.WebSocket {
		return wanted{Request: r}
	}
	return wanted{Request: r, methods: []string{r.Method}}
}

// path is the pattern for the path; "" when no pattern names it alone, or none is wanted.
func (a wanted) path() string {
	p, err := policy.ParsePathPattern(a.Path)
	if a.anyPath || err != nil || !p.Match(a.Path) || strings.Contains(a.Path, "*") || !policy.CanonicalPath(a.Path) {
		return ""
	}
	return a.Path
}

// grantArgs are the arguments of "agentbox grants add" for a rule.
func grantArgs(a wanted) string {
	out := a.Host.String()
	if a.Port != 443 {
		out += fmt.Sprintf(" --port %d", a.Port)
	}
	for _, m := range a.methods {
		out += " --method " + m
	}
	if p := a.path(); p != "" {
		out += " --path '" + strings.ReplaceAll(p, "'", `'\''`) + "'"
	}
	switch {
	case a.Scheme == policy.TCP:
		out += " --tcp"
	case a.scheme() != "":
		out += " --scheme " + a.scheme()
	}
	if a.WebSocket {
		out += " --websocket"
	}
	return out
}

// scheme is what a rule for the request says of it: nothing where it goes without saying.
func (a wanted) scheme() string {
	usual := a.Scheme == "https" && a.Port == 443
	if usual || a.Scheme != "https" && a.Scheme != "http" {
		return ""
	}
	return a.Scheme
}

// RuleFor writes the tightest rule for one request, in the lines of a profile. What is to be allowed of a repository is
// a [[git]] rule, which replaces another for the same remote in the layers below; "" where none can name the repository.
func RuleFor(r policy.Request, action policy.Action) string { return Grants{}.ruleFor(r, action) }

// GrantArgs are the arguments of "agentbox grants add" for the tightest rule that allows one request; "" for what is
// done to a repository, for which grants add has none.
func GrantArgs(r policy.Request) string {
	if r.Git != nil {
		return ""
	}
	return grantArgs(narrow(r))
}

// ruleFor keeps what the grants allow of the repository already.
func (g Grants) ruleFor(r policy.Request, action policy.Action) string {
	if r.Git == nil || action != policy.Allow {
		return rule(action, narrow(r))
	}
	var remote profiles.Remote
	if remote.UnmarshalText([]byte(r.Host.String()+"/"+r.Git.Repo)) != nil {
		return ""
	}
	git := GitRule{Remote: r.Host.String() + "/" + r.Git.Repo, Fetch: true}
	if i := slices.IndexFunc(g.Git, func(old GitRule) bool { return old.Remote == git.Remote }); i >= 0 {
		git = g.Git[i]
		git.Push = slices.Clone(git.Push)
	}
	git.Fetch = git.Fetch || r.Git.Op == policy.GitFetch
	if r.Git.Op == policy.GitPush {
		git.widen(r.Git.Refs)
	}
	return git.text()
}

// usualRefs is what agents push to, where it is not known what would be pushed.
const usualRefs = "refs/heads/agentbox/*"

// widen lets a rule take a push.
func (r *GitRule) widen(updates []policy.RefUpdate) {
	if len(updates) == 0 && len(r.Push) == 0 {
		r.Push = []string{usualRefs}
	}
	for _, u := range updates {
		if policy.ParseRefPattern(u.Name) == nil && !slices.ContainsFunc(r.Push, func(p string) bool { return policy.MatchRef(p, u.Name) }) {
			r.Push = append(r.Push, u.Name)
		}
		r.Force = r.Force || u.Kind == policy.RefForce
		r.Delete = r.Delete || u.Kind == policy.RefDelete
	}
}

// text is the rule in the lines of a profile.
func (r GitRule) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[[git]]\nremote = %q\n", r.Remote)
	if !r.Fetch {
		b.WriteString("fetch = false\n")
	}
	if len(r.Push) > 0 {
		fmt.Fprintf(&b, "push = %s\n", quotedList(r.Push))
	}
	if r.Force {
		b.WriteString("force = true\n")
	}
	if r.Delete {
		b.WriteString("delete = true\n")
	}
	return b.String()
}

func (g Grants) denying(r policy.Request) string {
	return fmt.Sprintf("to deny it, add to .agentbox/%s.toml (it begins with version = 1); deny goes before allow:\n\n%s", g.Profile, rule(policy.Deny, narrow(r)))
}

// lifting says what becomes of a rule that denies or asks: nothing that is added goes before it, but that the person
// answers what is asked for good.
func (g Grants) lifting(r policy.Request, by policy.Rule) string {
	switch {
	case by.Action == policy.Allow: // it allows other methods, or other paths, or paths in normal form only
		return "a rule with methods or paths wants requests whose path and method cannot be taken for others: write the path in its plain form"
	case strings.HasPrefix(by.Origin, organisationFile):
		return "only whoever keeps " + organisationFile + " can change that"
	case by.Action == policy.Ask && GrantArgs(r) != "":
		return fmt.Sprintf("to allow it without asking, for you and this repository alone: agentbox grants add %s\nor change or delete the rule at %s", GrantArgs(r), by.Origin)
	case strings.HasPrefix(by.Origin, "built-in/"):
		return fmt.Sprintf("%s goes before allow, and the rule is built in: run a profile without it", by.Action)
	}
	return fmt.Sprintf("%s goes before allow: change or delete the rule at %s", by.Action, by.Origin)
}

// rule writes the rule for one request.
func rule(action policy.Action, r wanted) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[[network.rule]]\naction = %q\nhost = %q\n", action, r.Host)
	if r.Port != 443 || r.Scheme == policy.TCP {
		fmt.Fprintf(&b, "ports = [%d]\n", r.Port)
	}
	if r.Scheme == policy.TCP && action != policy.Deny { // denying everything denies that too, in every layer
		fmt.Fprintf(&b, "protocol = %q\n", policy.TCP)
	}
	if r.scheme() != "" {
		fmt.Fprintf(&b, "scheme = %q\n", r.scheme())
	}
	if r.WebSocket {
		b.WriteString("websocket = true\n")
	}
	if len(r.methods) > 0 {
		fmt.Fprintf(&b, "methods = %s\n", quotedList(r.methods))
	}
	if p := r.path(); p != "" {
		fmt.Fprintf(&b, "paths = [%s]\n", quoted(p))
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
