package profiles

import (
	"slices"
	"strings"

	"agentbox/internal/policy"
)

func (d *document) checkCredentials(p *Profile, all *settlers) {
	seen, r := mentioned(p.Agent), newReach(p, all)
	for i, c := range p.Credentials {
		at := []string{"credential", index(i)}
		d.checkSource(c, join(at, "source"))
		d.checkSlot(c, at)
		for j, h := range c.Hosts {
			d.checkReach(c, h, r, join(join(at, "hosts"), index(j)))
		}
		d.checkHandedIn(p, c, seen, at)
	}
	d.checkShared(p.Credentials)
	d.checkApart(p.Credentials)
}

func (d *document) checkSource(c Credential, at []string) {
	s := c.Source
	kinds := []struct {
		key  string
		said bool
	}{{"env", s.Env != ""}, {"keyring", s.Keyring != ""}, {"command", s.Command != nil}, {"file", s.File != ""}, {"github_app", s.GitHubApp != nil}, {"oauth", s.OAuth != nil}}
	var said []string
	for _, k := range kinds {
		if k.said {
			said = append(said, k.key)
		}
	}
	switch {
	case !d.filled(at) && d.has(at...):
		d.value(at, "empty-source", `write { keyring = "NAME" } or { env = "NAME" } or both`, "the source of credential %q is empty", c.Name)
	case len(said) > 1 && !slices.Equal(said, []string{"env", "keyring"}):
		d.value(at, "source-conflict", "keep one of them; only env and keyring go together", "credential %q has more than one source: %s", c.Name, strings.Join(said, ", "))
	}
	if s.Command != nil {
		d.checkCommand(s.Command, join(at, "command"), `write the program first, such as ["gh", "auth", "token"]`)
	}
	if s.OAuth != nil && s.OAuth.File != "" && s.OAuth.Keyring != "" {
		d.value(join(at, "oauth"), "source-conflict", "keep one of file and keyring", "the login of credential %q is in two places", c.Name)
	}
	if s.GitHubApp != nil && s.GitHubApp.ID < 1 && d.has(join(join(at, "github_app"), "id")...) {
		d.value(join(join(at, "github_app"), "id"), "bad-value", "it stands on the app's page, and is a positive number", "%d is not the number of a GitHub App", s.GitHubApp.ID)
	}
}

// checkReach sees that requests to h can carry the credential. A rule that closes the host does no harm.
func (d *document) checkReach(c Credential, h policy.Host, r *reach, at []string) {
	switch rule, why := r.unreached(h); {
	case why == "":
	case rule < 0:
		d.value(at, "unused-credential", d.reachHint(at), "credential %q can never be used: %s", c.Name, why)
	case r.network.Rules[rule].Action == Action(policy.Deny):
		d.warnValue(at, "unused-credential", "", "credential %q is not used: %s", c.Name, why)
	default:
		d.value(at, "unused-credential", "", "credential %q can never be used: %s", c.Name, why)
	}
}

// reachHint knows the likeliest reason: a list of sets that replaces the one below.
func (d *document) reachHint(at []string) string {
	if use := []string{"network", "use"}; d.has(use...) && d.levelOf(use...) > d.levelOf(at...) {
		return `use at ` + d.spoken(use...) + ` replaces the sets of the layers below: write "..." in it to keep them`
	}
	return `add a [[network.rule]] with action = "allow" for it`
}

// ruleLevel is whose layer a rule is from; the rules of a named set are of the layer that uses it.
func (d *document) ruleLevel(n Network, i int) Level {
	if set := n.Rules[i].Set; set != "" {
		return d.levelOf("network", "use", index(slices.Index(n.Use, set)))
	}
	return d.levelOf("network", "rule", index(i))
}

// checkHandedIn sees that the agent gets the placeholder somewhere, and the real value nowhere.
func (d *document) checkHandedIn(p *Profile, c Credential, mentioned map[string]bool, at []string) {
	if c.Name != "" && !d.has(join(at, "env")...) && !mentioned[string(c.Name)] {
		d.key(at, "unseen-placeholder", `add env = "NAME", or {placeholder.`+string(c.Name)+`} to a file`, "the agent never gets the placeholder of credential %q", c.Name)
	}
	if _, ok := p.Agent.Env[c.Env]; ok && c.Env != "" {
		d.value(join(at, "env"), "env-conflict", "keep one of them", "agent.env sets %s too, at %s", c.Env, d.spoken("agent", "env", string(c.Env)))
	}
	for i, pass := range p.Agent.Pass {
		for _, name := range []EnvName{c.Env, c.Source.Env} {
			if name != "" && pass.Match(string(name)) {
				d.value([]string{"agent", "pass", index(i)}, "exposed-credential", "the placeholder is handed in instead", "%q would hand the agent the real value of credential %q", pass, c.Name)
				break
			}
		}
	}
}

// mentioned names the credentials whose placeholders stand in the agent's files and variables.
func mentioned(a Agent) map[string]bool {
	names := map[string]bool{}
	add := func(s string) {
		for _, t := range Templates(s) {
			if name, _, ok := PlaceholderName(t); ok {
				names[name] = true
			}
		}
	}
	for _, v := range a.Env {
		add(v)
	}
	for _, f := range a.Files {
		add(f.Content)
	}
	return names
}

// checkShared finds variables that two credentials would both fill.
func (d *document) checkShared(credentials []Credential) {
	vars := map[EnvName]int{}
	for i, c := range credentials {
		at := []string{"credential", index(i)}
		if first, ok := vars[c.Env]; ok && c.Env != "" {
			d.value(join(at, "env"), "env-conflict", "give one of them another env", "%s holds the placeholder of credential %q already, at %s", c.Env, credentials[first].Name, d.spoken("credential", index(first), "env"))
		} else {
			vars[c.Env] = i
		}
	}
}
