package profiles

import (
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/policy"
	builtin "agentbox/profiles"
)

// check finds in a merged profile what each value alone cannot show: ranges, contradictions, names that lead nowhere.
// Warnings come last, so that many of them crowd out no error.
func (d *document) check(p *Profile) {
	d.checkAgent(p)
	d.checkSeed(p)
	d.checkNames(p)
	d.checkWorkspace(p)
	checkTwice(d, p.Network.Use, "network", "use")
	d.checkRules(p.Network.Rules, "network", "rule")
	all := newSettlers(p.Network.Rules, func(i int) Level { return d.ruleLevel(p.Network, i) })
	d.checkCredentials(p, all)
	for i, s := range p.Servers {
		d.checkServer(s, []string{"mcp", index(i)})
	}
	d.checkLists(p)
	d.checkBudget(p.Budget)
	d.checkLimits(p.Limits)
	d.checkMemory(p.Memory)
	d.checkSigning(p.Signing)
	d.checkGit(p, all)
	d.checkEffects(p.Network, all)
}

// levelOf is whose layer the value of a path is from, or that of the nearest table.
func (d *document) levelOf(path ...string) Level { return d.place(path).src.level }

// spoken is where a value of a path is, "claude.toml:12".
func (d *document) spoken(path ...string) string {
	at := d.place(path)
	return at.src.place(at.value).String()
}

func (d *document) checkAgent(p *Profile) {
	if d.has("agent", "command") {
		d.checkCommand(p.Agent.Command, []string{"agent", "command"}, `write the program first, such as ["claude"]`)
	}
	d.checkRoots(p.Agent)
	d.checkContainerfile(p.Agent)
	for name, value := range p.Agent.Env {
		d.checkTemplates(p, value, []string{"agent", "env", string(name)})
	}
	for i, f := range p.Agent.Files {
		d.checkFile(p, f, i)
	}
}

func (d *document) checkCommand(command, at []string, hint string) {
	if len(command) == 0 || command[0] == "" {
		d.value(at, "empty-command", hint, "%s names no program", strings.Join(plainPath(at), "."))
	}
}

// plainPath is a path without its indexes.
func plainPath(path []string) []string {
	return slices.DeleteFunc(slices.Clone(path), func(s string) bool { return strings.HasPrefix(s, "[") })
}

// checkContainerfile reports a built-in one that there is not.
func (d *document) checkContainerfile(a Agent) {
	name, ok := strings.CutPrefix(string(a.Containerfile), builtin.ImagePrefix)
	if _, found := builtin.FindImage(name); ok && !found {
		var names []string
		for _, i := range builtin.Images() {
			names = append(names, builtin.ImagePrefix+i.Name)
		}
		d.value([]string{"agent", "containerfile"}, "bad-value", "these are built in: "+strings.Join(names, ", "), "there is no built-in image %q", name)
	}
}

// checkRoots reports all but the first of the values that each say what the container's root is.
func (d *document) checkRoots(a Agent) {
	said := map[string]bool{"rootfs": a.Rootfs != "", "image": a.Image != "", "containerfile": a.Containerfile != ""}
	var roots []string
	for _, name := range []string{"rootfs", "image", "containerfile"} {
		if said[name] {
			roots = append(roots, name)
		}
	}
	slices.SortStableFunc(roots, func(a, b string) int {
		return int(d.levelOf("agent", a)) - int(d.levelOf("agent", b))
	})
	for _, name := range roots[min(1, len(roots)):] {
		d.value([]string{"agent", name}, "root-conflict", "the root is the host's, or an image, or built from a containerfile: keep one of them",
			"agent.%s and agent.%s (at %s) exclude each other", name, roots[0], d.spoken("agent", roots[0]))
	}
}

func (d *document) checkFile(p *Profile, f File, i int) {
	at := []string{"agent", "file", index(i)}
	rest, home := strings.CutPrefix(f.Path, "~/")
	if !home {
		rest, home = strings.CutPrefix(f.Path, "/tmp/")
	}
	if f.Path != "" && (!home || rest == "" || rest == "." || path.Clean(rest) != rest || strings.HasPrefix(rest, "/") || strings.HasPrefix(rest+"/", "../")) {
		d.value(join(at, "path"), "bad-value", `write it as "~/.config/name.json"`, "%q is not a file below the home directory or /tmp", f.Path)
	}
	d.checkTemplates(p, f.Content, join(at, "content"))
	if strings.HasSuffix(f.Path, ".json") && !validJSON(f.Content) {
		d.value(join(at, "content"), "not-json", "", "the content of %q is not JSON", f.Path)
	}
}

func (d *document) checkTemplates(p *Profile, s string, at []string) {
	seen := map[string]bool{}
	for _, t := range Templates(s) {
		if seen[t] {
			continue
		}
		seen[t] = true
		name, _, placeholder := PlaceholderName(t)
		owner, part := LoginPart(t)
		known := func(c Credential) bool { return string(c.Name) == name }
		login := func(c Credential) bool { return string(c.Name) == owner && c.Source.OAuth != nil }
		switch {
		case t == "repo" || t == "home" || t == "user":
		case part != "" && slices.ContainsFunc(p.Credentials, login):
		case part != "":
			d.value(at, "unknown-template", `only a [[credential]] with source = { oauth } has it`, "template {%s} is of no login", t)
		case placeholder && slices.ContainsFunc(p.Credentials, known):
		case placeholder:
			d.value(at, "unknown-template", "add a [[credential]] with name = "+strconv.Quote(name), "template {%s} names no [[credential]]", t)
		default:
			d.value(at, "unknown-template", "there are {repo}, {home}, {user}, {placeholder.NAME} and {placeholder.NAME.last20}; write {{"+t+"} for the text itself", "unknown template {%s}", t)
		}
	}
}

func (d *document) checkWorkspace(p *Profile) {
	d.checkHide(p.Workspace.Hide, "workspace", "hide")
	d.checkHide(p.Workspace.Show, "workspace", "show")
	d.checkKept(p)
	w := p.Workspace
	if w.Backend == "" || w.Mode == "review" {
		return
	}
	reviewed := w.Mode == "" && (p.Tier != "" && p.Tier != "low")
	overruled := w.Mode != "" && d.levelOf("workspace", "mode") > d.levelOf("workspace", "backend")
	if !reviewed && !overruled {
		d.warnValue([]string{"workspace", "backend"}, "backend-without-review", `add mode = "review"`, "a backend is for the review workspace, which this profile does not have")
	}
}

func (d *document) checkHide(hide []string, at ...string) {
	for i, h := range hide {
		if text, hint := hideFlaw(h); text != "" {
			d.value(join(at, index(i)), "bad-value", hint, "%q %s", h, text)
		}
	}
}

// checkTwice finds words that stand in a list a second time.
func checkTwice[T ~string](d *document, words []T, at ...string) {
	for i, w := range words {
		if w != "" && slices.Contains(words[:i], w) {
			d.value(join(at, index(i)), "duplicate", "leave it out", "%q stands here already", w)
		}
	}
}

// checkNames finds names that one layer gives twice; over another layer's, the later one would have replaced it.
func (d *document) checkNames(p *Profile) {
	d.checkUnique(len(p.Agent.Files), func(i int) string { return p.Agent.Files[i].Path }, "path", "agent", "file")
	d.checkUnique(len(p.Credentials), func(i int) string { return string(p.Credentials[i].Name) }, "name", "credential")
	d.checkUnique(len(p.Servers), func(i int) string { return string(p.Servers[i].Name) }, "name", "mcp")
	d.checkUnique(len(p.Mounts), func(i int) string { return string(p.Mounts[i].Source) }, "source", "mount")
	d.checkUnique(len(p.Git), func(i int) string { return string(p.Git[i].Remote) }, "remote", "git")
}

func (d *document) checkUnique(n int, name func(int) string, key string, at ...string) {
	first := map[string]int{}
	for i := range n {
		if j, ok := first[name(i)]; ok && name(i) != "" {
			d.value(join(join(at, index(i)), key), "duplicate", "give it another "+key+", or keep one of them", "%q is at %s already", name(i), d.spoken(join(at, index(j))...))
			continue
		}
		first[name(i)] = i
	}
}

// checkRules is for the rules of profiles, of named sets and of the organisation. Paths are made for what is wrong
// alone, since there may be thousands of rules.
func (d *document) checkRules(rules []Rule, at ...string) {
	for i, r := range rules {
		if r.Set == "" && !r.sound() {
			d.checkRule(r, join(at, index(i)))
		}
	}
}

func (r Rule) sound() bool {
	if r.partOf() || r.MaxRequest != 0 || r.MaxSent != 0 || r.Private != nil {
		return false
	}
	limited := r.Methods != nil || r.Paths != nil
	empty := len(r.Ports) == 0 || r.Methods != nil && len(r.Methods) == 0 || r.Paths != nil && len(r.Paths) == 0
	return !empty && (r.Inspect || !limited) && (len(r.Ports) == 1 || len(sorted(r.Ports)) == len(r.Ports))
}

func (d *document) checkRule(r Rule, at []string) {
	if len(r.Ports) == 0 {
		d.value(join(at, "ports"), "empty-list", "leave it out for [443]", "a rule without ports matches nothing")
	}
	for _, key := range []string{"methods", "paths"} {
		here := join(at, key)
		if !d.has(here...) {
			continue
		}
		if !d.filled(here) {
			d.value(here, "empty-list", "leave it out for all of them", "a rule without %s matches nothing", key)
		}
		if !r.Inspect {
			d.value(here, "blind-rule", "leave out inspect = false, or "+key, "%s cannot be told apart where inspect = false keeps agentbox from looking", key)
		}
	}
	d.checkConflicts(r, at)
	d.checkPrivate(r, at)
	d.checkOwn(r, at)
	for i, p := range r.Ports {
		if p != 0 && slices.Contains(r.Ports[:i], p) {
			d.value(join(join(at, "ports"), index(i)), "duplicate", "leave it out", "port %d stands here already", p)
		}
	}
}

// checkLists finds lists that are written and empty, where that matches nothing.
func (d *document) checkLists(p *Profile) {
	for i := range p.Git {
		d.checkFilled([]string{"git", index(i), "push"}, "leave it out to allow no push", "no ref can be pushed")
	}
	for i := range p.Credentials {
		at := []string{"credential", index(i)}
		d.checkFilled(join(at, "hosts"), "name the hosts that it is sent to", "the credential is for no host")
		app := join(join(at, "source"), "github_app")
		d.checkFilled(join(app, "repos"), "name the repositories, \"owner/name\"", "the token would be for no repository")
		d.checkFilled(join(app, "permissions"), `write permissions such as { contents = "read" }`, "the token would have no permission")
	}
	for i := range p.Servers {
		for _, key := range []string{"allow", "ask", "deny"} {
			d.checkFilled([]string{"mcp", index(i), key}, "leave it out", key+" names no tool")
		}
	}
}

func (d *document) checkFilled(at []string, hint, text string) {
	if d.has(at...) && !d.filled(at) {
		d.value(at, "empty-list", hint, "%s", text)
	}
}

func (d *document) checkServer(s Server, at []string) {
	if d.has(join(at, "command")...) {
		d.checkCommand(s.Command, join(at, "command"), `write the program first, such as ["mcp-server-filesystem"]`)
	}
	if s.Name != "" && len(s.Allow)+len(s.Ask) == 0 {
		d.warnKey(at, "no-tools", `add allow = ["read_*"] or ask = ["*"]`, "no tool of server %q may be called", s.Name)
	}
	lists := []struct {
		key      string
		patterns []ToolPattern
	}{{"deny", s.Deny}, {"ask", s.Ask}, {"allow", s.Allow}}
	for i, weak := range lists {
		for j, t := range weak.patterns {
			for _, strong := range lists[:i] {
				if slices.Contains(strong.patterns, t) {
					d.warnValue(join(join(at, weak.key), index(j)), "tool-conflict", "", "%q stands in %s too, which goes before %s", t, strong.key, weak.key)
					break
				}
			}
		}
	}
}

// checkBudget is for profiles and for the organisation.
func (d *document) checkBudget(b Budget) {
	if b.OnLimit != "" && b == (Budget{OnLimit: b.OnLimit}) {
		d.value([]string{"budget", "on_limit"}, "limit-without-budget", `add a budget, such as time = "2h"`, "on_limit says what happens when a budget is spent, and there is none")
	}
}

// checkLimits is for profiles and for the organisation.
func (d *document) checkLimits(l Limits) {
	if !(l.CPUs >= 0) || math.IsInf(l.CPUs, 0) || d.has("limits", "cpus") && l.CPUs < 0.01 || l.CPUs > 4096 {
		d.value([]string{"limits", "cpus"}, "bad-value", "", "cpus must be between 0.01 and 4096")
	}
	if l.Pids < 0 || d.has("limits", "pids") && l.Pids < 8 || l.Pids > 4194304 {
		d.value([]string{"limits", "pids"}, "bad-value", "", "pids must be between 8 and 4194304")
	}
	if l.Disk > 0 && l.Disk < 1<<20 {
		d.value([]string{"limits", "disk"}, "bad-value", "", "disk must be at least 1MiB")
	}
	if l.Memory > 0 && l.Memory < 16<<20 {
		d.value([]string{"limits", "memory"}, "bad-value", "", "memory must be at least 16MiB")
	}
}

// checkMemory does not mind a layer above that says scope = "none".
func (d *document) checkMemory(m Memory) {
	at := []string{"memory", "ttl"}
	switch {
	case m.TTL == 0:
	case !d.has("memory", "scope"):
		d.value(at, "ttl-without-scope", `add scope = "repo", "profile" or "user"`, "ttl says how long memory lasts, and no scope says that there is any")
	case (m.Scope == "none" || m.Scope == "session") && d.levelOf("memory", "scope") <= d.levelOf(at...):
		d.warnValue(at, "ttl-without-scope", `leave ttl out, or write scope = "repo", "profile" or "user"`, "ttl says how long memory lasts, and with scope %q none outlives the run", m.Scope)
	}
}

// checkGit knows nothing of the repo's own remote: where the set origin allows it, any remote may be that one.
func (d *document) checkGit(p *Profile, all *settlers) {
	if slices.Contains(p.Network.Use, originSet) {
		return
	}
	r := newReach(p, all)
	for i, g := range p.Git {
		if _, why := r.unreached(g.Remote.Host()); why != "" {
			d.warnValue([]string{"git", index(i), "remote"}, "unreached-remote", "a rule that denies the host goes before every [[git]] rule", "%s cannot be reached: %s", g.Remote, why)
		}
	}
}

// checkEffects warns of rules that change nothing.
func (d *document) checkEffects(n Network, all *settlers) {
	for _, s := range all.findSettled() {
		d.reportSettled(n.Rules[s.rule], n.Rules[s.by], s)
	}
	if n.Default == Action(policy.Allow) {
		d.checkIdle(n, all.level)
	}
}

// idles reports a rule that may say nothing but what the default says.
func (r Rule) idles(otherwise Action) bool {
	return r.Set == "" && r.Action == otherwise && r.Protocol == "" && r.MaxRequest == 0 && r.MaxSent == 0 && r.Private == nil
}

// checkIdle warns of rules that allow what the default allows. One that looks where a wider one does not is of use.
func (d *document) checkIdle(n Network, level func(int) Level) {
	var blind []Rule
	for _, r := range n.Rules {
		if r.Action == n.Default && !r.Inspect {
			r.Action = Action(policy.Deny) // any that newSettlers looks for
			blind = append(blind, r)
		}
	}
	x := newSettlers(blind, level)
	for i, r := range n.Rules {
		if r.idles(n.Default) && len(x.wider(r.Host)) == 0 && level(i) >= d.levelOf("network", "default") {
			d.warnKey([]string{"network", "rule", index(i)}, "idle-rule", "leave it out, or deny by default",
				"the rule changes nothing: the default at %s allows everything", d.spoken("network", "default"))
		}
	}
}

func (d *document) reportSettled(r, by Rule, s settled) {
	at, where := []string{"network", "rule", index(s.rule)}, by.Origin
	if s.twice {
		d.warnKey(at, "duplicate-rule", "leave it out", "the rule says what the one at %s says", where)
		return
	}
	d.warnKey(at, "unreachable-rule", "precedence is deny, ask, allow, whatever the order: leave this rule out, or narrow the other",
		"the rule never decides: the one at %s says %s for %s and goes before %s", where, by.Action, by.Host, r.Action)
}

// checkSet finds what is wrong with a named set as a whole.
func (d *document) checkSet(s *NamedSet) {
	d.checkVersion(s.Version)
	if s.Name == originSet {
		d.key(nil, "bad-value", "give the file another name", "the set %q is no file: it is the repository's own remote", s.Name)
	}
	d.checkRules(s.Rules, "rule")
	if d.has("rule") && len(s.Rules) == 0 {
		d.value([]string{"rule"}, "empty-list", "", "a set without rules allows nothing")
	}
}

func (d *document) checkVersion(version int) {
	if version != 1 && d.has("version") {
		d.value([]string{"version"}, "bad-version", "write version = 1", "version %d is not one that this agentbox reads", version)
	}
}
