package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentbox/internal/logins"
	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

// GrantInputs is all that Grants depend on.
type GrantInputs struct {
	Profile profiles.Profile
	Floors  profiles.Floors
	Timeout *time.Duration // of --timeout, over the profile's; 0 is none
	Mode    Mode           // of --workspace, over the profile's; "" leaves it
}

// Refused is one value that is looser than a floor allows.
type Refused struct {
	Path    string // "workspace.mode"
	Text    string // the value, where it stands and the floor
	Instead string // what to write
	Origin  string // where the value stands
	Floor   string // "tier medium (agentbox.toml:2)", "/etc/agentbox/policy.toml:3"
}

// Refusals says that what was asked for is looser than floors allow: exit 126. It is a *Refusal too, to errors.As.
type Refusals struct{ List []Refused }

const maxShown = 50 // of a list in one message

func (r *Refusals) Error() string {
	lines := make([]string, 0, len(r.List))
	for _, one := range r.List[:min(maxShown, len(r.List))] {
		lines = append(lines, one.Text)
	}
	return strings.Join(append(lines, more(len(r.List))...), "\n")
}

// Hint says what to write, a line each.
func (r *Refusals) Hint() string {
	var lines []string
	for _, one := range r.List[:min(maxShown, len(r.List))] {
		if !slices.Contains(lines, one.Instead) {
			lines = append(lines, one.Instead)
		}
	}
	return strings.Join(lines, "\n")
}

// As makes every Refusals a *Refusal.
func (r *Refusals) As(target any) bool {
	refusal, ok := target.(**Refusal)
	if ok {
		*refusal = &Refusal{Text: r.Error(), Tip: r.Hint()}
	}
	return ok
}

func more(n int) []string {
	if n <= maxShown {
		return nil
	}
	return []string{fmt.Sprintf("and %d more", n-maxShown)}
}

const fromDefault = "default"

// Grant decides what may be done: the profile with the flags over it, held to the floors of its tier and of the
// organisation. A floor fills what nobody said. The error is *Refusals: everything that is looser than a floor.
func Grant(in GrantInputs) (Grants, error) {
	b := &grantBuilder{grants: grants(in.Profile), floors: floors{}, said: map[string]bool{}}
	b.origins(in.Profile)
	b.hide(in.Profile)
	b.flags(in)
	b.tier(in)
	b.organisation(in.Floors)
	b.values()
	b.rules()
	b.credentials()
	if len(b.refused) > 0 {
		return Grants{}, &Refusals{b.refused}
	}
	return b.grants, nil
}

type grantBuilder struct {
	grants  Grants
	floors  floors
	said    map[string]bool // by a flag, whose zero means something
	refused []Refused
}

// grants is what the profile itself says. What it does not say is zero, but for what no floor speaks of.
func grants(p profiles.Profile) Grants {
	g := Grants{
		Profile: p.Name, Description: p.Description, Tier: string(p.Tier), Agent: agent(p.Agent),
		Workspace: Workspace{Mode: Mode(p.Workspace.Mode), Backend: string(p.Workspace.Backend), Caches: texts(p.Workspace.Caches)},
		Mounts:    mounts(p.Mounts),
		Use:       texts(p.Network.Use), Network: policy.Set{Default: policy.Action(p.Network.Default), Rules: rules(p.Network.Rules)},
		Git: gitRules(p.Git), Credentials: credentials(p.Credentials), Signing: signing(p.Signing), Budget: budget(p.Budget),
		Limits:    Limits{Memory: int64(p.Limits.Memory), CPUs: p.Limits.CPUs, Pids: p.Limits.Pids, Disk: int64(p.Limits.Disk)},
		Isolation: Isolation{Runtime: string(p.Isolation.Runtime)}, Servers: servers(p.Servers),
		Memory:    Memory{Scope: cmp.Or(string(p.Memory.Scope), "none"), TTL: time.Duration(p.Memory.TTL)},
		Telemetry: string(p.Telemetry.OTLP), Origins: map[string]string{},
	}
	if g.Isolation.Runtime == "auto" {
		g.Isolation.Runtime = ""
	}
	return g
}

func agent(a profiles.Agent) Agent {
	out := Agent{Command: a.Command, Args: a.Args, Install: a.Install, Pass: passed(a.Pass), Rootfs: rootfs(a), Image: string(a.Image),
		Containerfile: string(a.Containerfile), Env: envOf(a.Env), Keep: texts(a.Keep), Seed: texts(a.Seed)}
	for _, f := range a.Files {
		out.Files = append(out.Files, File{f.Path, f.Content})
	}
	return out
}

func rootfs(a profiles.Agent) string {
	switch {
	case a.Image != "":
		return "image"
	case a.Containerfile != "":
		return "containerfile"
	}
	return "host"
}

func envOf(env map[profiles.EnvName]string) map[string]string {
	var out map[string]string
	for name, value := range env {
		if out == nil {
			out = map[string]string{}
		}
		out[string(name)] = value
	}
	return out
}

func texts[T ~string](in []T) []string {
	out := make([]string, 0, len(in))
	for _, s := range in {
		out = append(out, string(s))
	}
	return out
}

// rules keeps what all rules list in one slice each: there may be ten thousand rules.
func rules(in []profiles.Rule) []policy.Rule {
	var nPorts, nMethods int
	for _, r := range in {
		nPorts, nMethods = nPorts+len(r.Ports), nMethods+len(r.Methods)
	}
	out, ports, methods := make([]policy.Rule, 0, len(in)), make([]uint16, 0, nPorts), make([]string, 0, nMethods)
	for _, r := range in {
		rule := policy.Rule{Action: policy.Action(r.Action), Host: r.Host, Paths: r.Paths, Inspect: r.Inspect, Model: r.Model, Origin: r.Origin}
		rule.Ports, ports = converted(ports, r.Ports, func(p profiles.Port) uint16 { return uint16(p) })
		if len(r.Methods) > 0 {
			rule.Methods, methods = converted(methods, r.Methods, func(m profiles.Method) string { return string(m) })
		}
		r.Fill(&rule)
		if r.Granted && rule.Action == policy.Allow {
			rule.By = policy.ByPerson
		}
		out = append(out, rule)
	}
	return out
}

// floorRules are those of the organisation.
func floorRules(in []profiles.Rule) []policy.Rule {
	out := rules(in)
	for i := range out {
		if out[i].Action == policy.Ask {
			out[i].By = policy.ByOrganisation
		}
	}
	return out
}

// converted appends to all, which has room, and gives what it appended apart.
func converted[T, F any](all []T, from []F, one func(F) T) (own, more []T) {
	start := len(all)
	for _, v := range from {
		all = append(all, one(v))
	}
	return all[start:len(all):len(all)], all
}

func gitRules(in []profiles.GitRule) []GitRule {
	out := make([]GitRule, 0, len(in))
	for _, r := range in {
		out = append(out, GitRule{Remote: string(r.Remote), Fetch: r.Fetch, Push: texts(r.Push), Force: r.Force, Delete: r.Delete, Origin: r.Origin})
	}
	return out
}

func credentials(cs []profiles.Credential) []Credential {
	out := make([]Credential, 0, len(cs))
	for _, c := range cs {
		one := Credential{
			Name: string(c.Name), Hosts: c.Hosts, Methods: texts(c.Methods), Paths: c.Paths,
			Header: string(c.Header), Basic: string(c.Basic), Query: string(c.Query), Body: string(c.Body),
			Env: string(c.Env), Shape: string(c.Shape), Claims: string(c.Claims),
			Source: sourceOf(c.Source), TTL: time.Duration(c.TTL), Origin: c.Origin,
		}
		for _, port := range c.Ports {
			one.Ports = append(one.Ports, uint16(port))
		}
		out = append(out, one)
	}
	return out
}

func sourceOf(s profiles.Source) Source {
	out := Source{Keyring: string(s.Keyring), Env: string(s.Env), Command: s.Command, File: string(s.File)}
	if o := s.OAuth; o != nil {
		out.OAuth = &OAuth{Login: string(o.Login), File: string(o.File), Keyring: string(o.Keyring)}
		if l, ok := logins.Find(string(o.Login)); ok && o.File == "" && o.Keyring == "" {
			out.OAuth.File = l.File
		}
	}
	if a := s.GitHubApp; a != nil {
		out.GitHubApp = &GitHubApp{ID: a.ID, Key: string(a.Key), Repos: texts(a.Repos), Permissions: map[string]string{}}
		for name, access := range a.Permissions {
			out.GitHubApp.Permissions[string(name)] = string(access)
		}
	}
	return out
}

func mounts(in []profiles.Mount) []Mount {
	var out []Mount
	for _, m := range in {
		out = append(out, Mount{Source: string(m.Source), Target: string(cmp.Or(m.Target, m.Source)), Write: m.Write, Origin: m.Origin})
	}
	return out
}

func signing(s profiles.Signing) Signing {
	if s.Commits == profiles.Action(policy.Deny) { // as when nobody says anything
		return Signing{}
	}
	return Signing{Commits: string(s.Commits)}
}

func budget(b profiles.Budget) Budget {
	out := Budget{Time: time.Duration(b.Time), Tokens: int64(b.Tokens), Requests: int64(b.Requests), ToolCalls: int64(b.ToolCalls),
		Denials: int64(b.Denials), OnLimit: string(b.OnLimit)}
	if b.USD > 0 {
		out.USD = dollars(int64(b.USD))
	}
	return out
}

func servers(in []profiles.Server) []Server {
	out := make([]Server, 0, len(in))
	for _, s := range in {
		out = append(out, Server{Name: string(s.Name), Command: s.Command, Env: envOf(s.Env), Allow: texts(s.Allow), Ask: texts(s.Ask),
			Deny: texts(s.Deny), Origin: s.Origin})
	}
	return out
}

// origins tells where the values stand that carry no origin of their own.
func (b *grantBuilder) origins(p profiles.Profile) {
	origins := p.Origins.Outline()
	for path, at := range origins {
		if carried(path) {
			continue
		}
		if list, _, ok := strings.Cut(path, "["); ok && origins[list] == at {
			continue // an element from where its list is: only one that "..." kept is from elsewhere
		}
		b.grants.Origins[path] = place(at)
	}
	for i, name := range p.Agent.Pass { // the grants have more names, in their own order
		if at, ok := origins[item("agent.pass", i)]; ok && at != origins["agent.pass"] {
			b.grants.Origins[item("agent.pass", slices.Index(b.grants.Agent.Pass, string(name)))] = place(at)
		}
	}
}

// item is the path of an element of a list.
func item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// carried reports paths below entries that have an Origin themselves.
func carried(path string) bool {
	for _, list := range []string{"credential[", "git[", "mcp[", "mount["} {
		if strings.HasPrefix(path, list) {
			return true
		}
	}
	for _, list := range []string{"workspace.hide", "workspace.show"} { // which b.hide puts in order
		if path == list || strings.HasPrefix(path, list+"[") {
			return true
		}
	}
	return path == "version" || path == "extends" || strings.HasPrefix(path, "agent.pass[")
}

func place(p profiles.Place) string { return p.File + ":" + strconv.Itoa(p.Line) }

func placeOr(origins map[string]profiles.Place, path, otherwise string) string {
	if p, ok := origins[path]; ok {
		return place(p)
	}
	return otherwise
}

// flags are a layer over the profile, bound by the floors like any other.
func (b *grantBuilder) flags(in GrantInputs) {
	if in.Timeout != nil {
		b.grants.Budget.Time, b.said["budget.time"], b.grants.Origins["budget.time"] = *in.Timeout, true, "--timeout"
		if *in.Timeout < 0 {
			b.refuse(Refused{Path: "budget.time", Text: "a time limit cannot be negative", Instead: `write "--timeout 2h"`, Origin: "--timeout"})
		}
	}
	if in.Mode != "" {
		b.grants.Workspace.Mode, b.grants.Origins["workspace.mode"] = in.Mode, "--workspace"
	}
}

// tier is the higher of the profile's and the organisation's.
func (b *grantBuilder) tier(in GrantInputs) {
	g, asked := &b.grants, string(in.Floors.Tier)
	at := placeOr(in.Floors.Origins, "tier", organisationFile)
	switch {
	case g.Tier == "" && asked == "":
		g.Tier, g.Origins["tier"] = "low", fromDefault
	case g.Tier == "":
		g.Tier, g.Origins["tier"] = asked, at
	case rank("tier", g.Tier) < rank("tier", asked):
		where := b.origin("tier")
		b.refuse(Refused{Path: "tier", Origin: where, Floor: at,
			Text:    fmt.Sprintf("tier = %q (%s) is lower than %q, which %s asks for", g.Tier, where, asked, at),
			Instead: fmt.Sprintf("write tier = %q, or leave it out", asked)})
		g.Tier, g.Origins["tier"] = asked, at
	default:
		g.Origins["tier"] = b.origin("tier")
	}
	b.floors.tier(g.Tier, g.Origins["tier"])
}

// organisation adds the rest of policy.toml: as floors, hidden paths and rules.
func (b *grantBuilder) organisation(f profiles.Floors) {
	b.floors.organisation(f)
	g := &b.grants
	for _, pattern := range f.Workspace.Hide {
		b.hidden(pattern, placeOr(f.Origins, "workspace.hide", organisationFile))
	}
	g.Network.Rules = append(g.Network.Rules, floorRules(f.Network.Rules)...)
	b.only(f)
}

func (b *grantBuilder) origin(path string) string {
	return cmp.Or(b.grants.Origins[path], b.grants.Profile)
}

func (b *grantBuilder) refuse(r Refused) { b.refused = append(b.refused, r) }

// values holds each single value to its floor.
func (b *grantBuilder) values() {
	g := &b.grants
	if g.Network.Default == "" { // in every tier, however loose its floor
		g.Network.Default, g.Origins["network.default"] = policy.Deny, fromDefault
	}
	if f, bound := b.floors["workspace.mode"]; g.Workspace.Mode == "" && (!bound || rank("workspace.mode", f.word) < rank("workspace.mode", string(Review))) {
		g.Workspace.Mode, g.Origins["workspace.mode"] = Review, fromDefault // likewise
	}
	b.word("isolation.runtime", &g.Isolation.Runtime)
	hold(b, "workspace.mode", &g.Workspace.Mode)
	hold(b, "network.default", &g.Network.Default)
	number(b, "budget.time", &g.Budget.Time)
	b.dollars("budget.usd", &g.Budget.USD)
	number(b, "budget.tokens", &g.Budget.Tokens)
	number(b, "budget.requests", &g.Budget.Requests)
	number(b, "budget.tool_calls", &g.Budget.ToolCalls)
	number(b, "budget.denials", &g.Budget.Denials)
	b.word("budget.on_limit", &g.Budget.OnLimit)
	number(b, "limits.memory", &g.Limits.Memory)
	cpus := millionths(g.Limits.CPUs)
	if number(b, "limits.cpus", &cpus) {
		g.Limits.CPUs = float64(cpus) / 1e6
	}
	number(b, "limits.pids", &g.Limits.Pids)
	number(b, "limits.disk", &g.Limits.Disk)
	if g.Budget.OnLimit == "" {
		g.Budget.OnLimit, g.Origins["budget.on_limit"] = "stop", fromDefault
	}
}

func hold[T ~string](b *grantBuilder, path string, value *T) {
	s := string(*value)
	b.word(path, &s)
	*value = T(s)
}

// word fills a word that nobody said, and refuses one that ranks below its floor or that nothing ranks.
func (b *grantBuilder) word(path string, value *string) {
	f, bound := b.floors[path]
	switch {
	case *value == "" && bound:
		*value, b.grants.Origins[path] = f.word, f.by
	case *value != "" && rank(path, *value) < 0:
		at := b.origin(path)
		b.refuse(Refused{Path: path, Origin: at, Text: fmt.Sprintf("%s = %q (%s) is not a choice", path, *value, at),
			Instead: fmt.Sprintf("write %s = %s", path, choices(path, f.word))})
	case bound && rank(path, *value) < rank(path, f.word):
		at := b.origin(path)
		b.refuse(Refused{Path: path, Origin: at, Floor: f.named,
			Text:    fmt.Sprintf("%s = %q (%s) is looser than %q, the floor of %s", path, *value, at, f.word, f.named),
			Instead: instead(at, fmt.Sprintf("write %s = %s", path, choices(path, f.word)))})
	}
}

// instead is what to do about a value that a floor refuses: one of a flag is not written anywhere.
func instead(at, write string) string {
	if strings.HasPrefix(at, "--") {
		return "leave out " + at
	}
	return write
}

// choices lists the words that a floor takes.
func choices(path, floor string) string {
	var out []string
	for _, w := range ranks(path)[max(0, rank(path, floor)):] {
		out = append(out, fmt.Sprintf("%q", w))
	}
	return strings.Join(out, " or ")
}

// number fills a number that nobody said, and refuses one above its floor. 0 is no limit. It reports whether it filled.
func number[T ~int64](b *grantBuilder, path string, value *T) bool {
	f, bound := b.floors[path]
	switch {
	case !bound || *value > 0 && int64(*value) <= f.most || *value < 0:
		return false
	case *value == 0 && !b.said[path]:
		*value, b.grants.Origins[path] = T(f.most), f.by
		return true
	}
	text := "no limit"
	if *value > 0 {
		text = show(path, int64(*value))
	}
	at := b.origin(path)
	b.refuse(Refused{Path: path, Origin: at, Floor: f.named,
		Text:    fmt.Sprintf("%s = %s (%s) is more than %s, the most that %s allows", path, text, at, show(path, f.most), f.named),
		Instead: instead(at, fmt.Sprintf("write %s = %s or less", path, show(path, f.most)))})
	return false
}

func (b *grantBuilder) dollars(path string, value *string) {
	n := microDollars(*value)
	if number(b, path, &n) {
		*value = dollars(n)
	}
}

// rules holds every rule that allows something to what the floors say about inspection and writing methods.
func (b *grantBuilder) rules() {
	inspect, blind := b.floors[pathInspect]
	writes, asks := b.floors[pathWrites]
	asks = asks && rank(pathWrites, writes.word) > rank(pathWrites, string(policy.Allow))
	for _, r := range b.grants.Network.Rules {
		if r.Action != policy.Allow {
			continue
		}
		if blind && inspect.word == "true" && !r.Inspect {
			b.refuse(Refused{Path: pathInspect, Origin: r.Origin, Floor: inspect.named,
				Text:    fmt.Sprintf("inspect = false for %s (%s) is what %s does not allow", r.Host, r.Origin, inspect.named),
				Instead: "leave inspect out, or deny the host"})
		}
		if method := writing(r.Methods); asks && method != "" && !r.Model {
			b.refuse(Refused{Path: pathWrites, Origin: r.Origin, Floor: writes.named,
				Text:    fmt.Sprintf("the rule for %s (%s) allows %s, which %s wants asked for", r.Host, r.Origin, method, writes.named),
				Instead: `write methods = ["GET", "HEAD"] in the rule, or action = "ask"`})
		}
	}
}

// writing names a method that may change something, or "" when none can.
func writing(methods []string) string {
	if len(methods) == 0 {
		return "every method"
	}
	for _, m := range methods {
		if m != "GET" && m != "HEAD" && m != "OPTIONS" {
			return m
		}
	}
	return ""
}

// credentials holds the time of each to the floor.
func (b *grantBuilder) credentials() {
	f, bound := b.floors[pathTTL]
	if !bound {
		return
	}
	for i := range b.grants.Credentials {
		c := &b.grants.Credentials[i]
		switch path := "credential." + c.Name + ".ttl"; {
		case c.TTL == 0:
			c.TTL, b.grants.Origins[path] = time.Duration(f.most), f.by
		case int64(c.TTL) > f.most:
			b.refuse(Refused{Path: path, Origin: c.Origin, Floor: f.named,
				Text:    fmt.Sprintf("ttl = %s of credential %q (%s) is more than %s, the most that %s allows", show(pathTTL, int64(c.TTL)), c.Name, c.Origin, show(pathTTL, f.most), f.named),
				Instead: fmt.Sprintf("write ttl = %s or less for credential %q", show(pathTTL, f.most), c.Name)})
		}
	}
}

// only limits every rule and default to the organisation's hosts.
func (b *grantBuilder) only(f profiles.Floors) {
	if len(f.Network.Only) > 0 {
		b.grants.Network.Only = slices.Clone(f.Network.Only)
		b.grants.Origins["network.only"] = placeOr(f.Origins, "network.only", organisationFile)
	}
}
