package profiles

import (
	"math"
	"path"
	"slices"
	"strings"

	"agentbox/internal/policy"
)

// check finds what each value alone cannot show: ranges, contradictions, names that lead nowhere.
func (d *document) check(p *Profile) {
	d.checkAgent(p)
	d.checkHide(p.Workspace.Hide)
	d.checkRules(p)
	for i := range p.Credentials {
		d.checkCredential(p, i)
	}
	d.checkLimits(p.Limits)
}

func (d *document) checkAgent(p *Profile) {
	command := []string{"agent", "command"}
	if d.has(command...) && (len(p.Agent.Command) == 0 || p.Agent.Command[0] == "") {
		d.value(command, "contradiction", `write the program first, such as ["claude"]`, "agent.command names no program")
	}
	for name, value := range p.Agent.Env {
		d.checkTemplates(p, value, []string{"agent", "env", string(name)})
	}
	for i, f := range p.Agent.Files {
		d.checkFile(p, f, i)
	}
}

func (d *document) checkFile(p *Profile, f File, i int) {
	at := []string{"agent", "file", index(i)}
	rest, home := strings.CutPrefix(f.Path, "~/")
	if !home {
		rest, home = strings.CutPrefix(f.Path, "/tmp/")
	}
	if f.Path != "" && (!home || rest == "" || path.Clean(rest) != rest || strings.HasPrefix(rest, "/") || strings.HasPrefix(rest+"/", "../")) {
		d.value(join(at, "path"), "contradiction", `write it as "~/.config/name.json"`, "%q is not a file below the home directory or /tmp", f.Path)
	}
	if slices.ContainsFunc(p.Agent.Files[:i], func(o File) bool { return o.Path == f.Path }) {
		d.value(join(at, "path"), "contradiction", "", "%q is written by an earlier [[agent.file]]", f.Path)
	}
	d.checkTemplates(p, f.Content, join(at, "content"))
	if strings.HasSuffix(f.Path, ".json") && !validJSON(f.Content) {
		d.value(join(at, "content"), "contradiction", "", "the content of %q is not JSON", f.Path)
	}
}

func (d *document) checkTemplates(p *Profile, s string, at []string) {
	for _, t := range Templates(s) {
		name, _, placeholder := PlaceholderName(t)
		known := func(c Credential) bool { return string(c.Name) == name }
		switch {
		case t == "repo" || t == "home" || t == "user":
		case placeholder && slices.ContainsFunc(p.Credentials, known):
		case placeholder:
			d.value(at, "contradiction", "", "template {%s} names no [[credential]]", t)
		default:
			d.value(at, "contradiction", "there are {repo}, {home}, {user}, {placeholder.NAME} and {placeholder.NAME.last20}; write {{"+t+"} for the text itself", "unknown template {%s}", t)
		}
	}
}

func (d *document) checkHide(hide []string) {
	for i, h := range hide {
		at := []string{"workspace", "hide", index(i)}
		_, err := path.Match(strings.ReplaceAll(h, "**", "*"), "x")
		switch clean := path.Clean(h); {
		case h == "" || err != nil:
			d.value(at, "contradiction", "", "%q is not a pattern", h)
		case path.IsAbs(h) || clean == ".." || strings.HasPrefix(clean, "../") || strings.HasPrefix(h, "~"):
			d.value(at, "contradiction", `patterns are relative to the repo, such as ".env*" or "secrets/**"`, "%q points out of the repo", h)
		}
	}
}

func (d *document) checkRules(p *Profile) {
	for i, r := range p.Network.Rules {
		if len(r.Ports) == 0 {
			d.value([]string{"network", "rule", index(i), "ports"}, "contradiction", "leave it out for [443]", "a rule without ports matches nothing")
		}
	}
}

func (d *document) checkCredential(p *Profile, i int) {
	c, at := p.Credentials[i], []string{"credential", index(i)}
	if c.Source.Keyring == "" && c.Source.Env == "" && d.has(join(at, "source")...) && !d.filled(join(at, "source")) {
		d.value(join(at, "source"), "contradiction", `write { keyring = "NAME" } or { env = "NAME" } or both`, "the source of credential %q is empty", c.Name)
	}
	if len(c.Hosts) == 0 && d.has(join(at, "hosts")...) {
		d.value(join(at, "hosts"), "contradiction", "", "credential %q is for no host", c.Name)
	}
	for j, h := range c.Hosts {
		if why := uncovered(p.Network, h); why != "" {
			d.value(join(join(at, "hosts"), index(j)), "contradiction", `add a [[network.rule]] with action = "allow" for it`, "credential %q can never be used: %s", c.Name, why)
		}
	}
	d.checkHandedIn(p, c, at)
	d.checkEarlier(p.Credentials[:i], c, at)
}

// uncovered says why requests to h cannot carry a credential, or "".
func uncovered(n Network, h policy.Host) string {
	if h.IsZero() {
		return "" // its own problem is known
	}
	set, ports := n.Set(), []uint16{443}
	for _, r := range set.Rules {
		ports = append(ports, r.Ports...)
	}
	for _, port := range ports {
		d := set.Decide(policy.Request{Host: h, Port: port, Scheme: "https"})
		if d.Allowed() && d.Inspect {
			return ""
		}
	}
	d := set.Decide(policy.Request{Host: h, Port: 443, Scheme: "https"})
	if d.Allowed() {
		return "inspect = false at " + d.Rule + " keeps agentbox from adding it"
	}
	return "no rule allows it"
}

// checkHandedIn sees that the agent gets the placeholder somewhere, and the real value nowhere.
func (d *document) checkHandedIn(p *Profile, c Credential, at []string) {
	if c.Env == "" && !mentioned(p, c) {
		d.key(at, "contradiction", `add env = "NAME", or {placeholder.`+string(c.Name)+`} to a file`, "the agent never gets the placeholder of credential %q", c.Name)
	}
	if _, ok := p.Agent.Env[c.Env]; ok && c.Env != "" {
		d.value(join(at, "env"), "contradiction", "", "agent.env sets %s too", c.Env)
	}
	for i, pass := range p.Agent.Pass {
		for _, name := range []EnvName{c.Env, c.Source.Env} {
			if name != "" && pass.Match(string(name)) {
				d.value([]string{"agent", "pass", index(i)}, "contradiction", "the placeholder is handed in instead", "%q would hand the agent the real value of credential %q", pass, c.Name)
				break
			}
		}
	}
}

func mentioned(p *Profile, c Credential) bool {
	in := func(s string) bool {
		return slices.ContainsFunc(Templates(s), func(t string) bool {
			name, _, ok := PlaceholderName(t)
			return ok && name == string(c.Name)
		})
	}
	for _, v := range p.Agent.Env {
		if in(v) {
			return true
		}
	}
	return slices.ContainsFunc(p.Agent.Files, func(f File) bool { return in(f.Content) })
}

// checkEarlier compares c with the credentials before it.
func (d *document) checkEarlier(earlier []Credential, c Credential, at []string) {
	for _, e := range earlier {
		if e.Name == c.Name && c.Name != "" {
			d.value(join(at, "name"), "contradiction", "", "credential %q is at %s already", c.Name, e.Origin)
		}
		if e.Env == c.Env && c.Env != "" {
			d.value(join(at, "env"), "contradiction", "", "%s holds the placeholder of credential %q already", c.Env, e.Name)
		}
		shared := slices.ContainsFunc(c.Hosts, func(h policy.Host) bool { return slices.Contains(e.Hosts, h) })
		if shared && c.Header != "" && strings.EqualFold(c.Header.Name(), e.Header.Name()) {
			d.value(join(at, "header"), "contradiction", "", "credential %q uses header %s for the same host already", e.Name, e.Header.Name())
		}
	}
}

func (d *document) checkLimits(l Limits) {
	if !(l.CPUs >= 0) || math.IsInf(l.CPUs, 0) || d.has("limits", "cpus") && l.CPUs < 0.01 || l.CPUs > 4096 {
		d.value([]string{"limits", "cpus"}, "contradiction", "", "cpus must be between 0.01 and 4096")
	}
	if l.Pids < 0 || d.has("limits", "pids") && l.Pids < 8 || l.Pids > 4194304 {
		d.value([]string{"limits", "pids"}, "contradiction", "", "pids must be between 8 and 4194304")
	}
	if l.Memory > 0 && l.Memory < 16<<20 {
		d.value([]string{"limits", "memory"}, "contradiction", "", "memory must be at least 16MiB")
	}
}

// checkSet finds what is wrong with a named set as a whole.
func (d *document) checkSet(*NamedSet) {}
