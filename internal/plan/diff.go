package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	builtin "agentbox/profiles"

	"agentbox/internal/policy"
)

// Kind says which way a change goes.
type Kind string

// The kinds of changes. What an agent executes or is handed is Wider whenever it changes: what it is cannot be judged.
const (
	Wider   Kind = "wider"
	Tighter Kind = "tighter"
	Other   Kind = "other" // neither allows nor forbids anything: a description
)

// Change is one difference between two Grants, in plain words that say what is new.
type Change struct {
	Kind   Kind   `json:"kind"`
	Path   string `json:"path"` // "network", "workspace.mode", "credential.github.hosts"
	Text   string `json:"text"` // "allows POST to api.github.com on port 443, which was denied"
	Origin string `json:"origin,omitempty"`
}

// Nothing grants nothing, and shows nothing of what every profile hides: what there is before anything was accepted.
func Nothing() Grants {
	return Grants{Tier: "critical", Workspace: Workspace{Mode: ReadOnly, Hide: builtin.Hidden()}, Network: policy.Set{Default: policy.Deny, Rules: []policy.Rule{}},
		Budget: Budget{OnLimit: "stop"}, Isolation: Isolation{Runtime: "microvm"}, Memory: Memory{Scope: "none"}}
}

// isNothing reports Grants that run nothing, so that nothing else they say matters.
func isNothing(g Grants) bool { return len(g.Agent.Command) == 0 }

// Widenings are the changes that allow more.
func Widenings(changes []Change) []Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return c.Kind != Wider })
}

// Diff says what `to` allows that `from` does not, what it no longer allows, and what else changed, in a fixed order. Where
// two grants cannot be compared, the change is Wider. Everything is Wider than Nothing.
func Diff(from, to Grants) []Change {
	d := &differ{from: from, to: to, fresh: isNothing(from)}
	d.agent()
	d.workspace()
	d.mounts()
	d.network()
	d.origin()
	d.git()
	d.credentials()
	d.signing()
	d.budget()
	d.limits()
	d.words("isolation.runtime", from.Isolation.Runtime, to.Isolation.Runtime, "runs under %s", " instead of %s")
	d.servers()
	d.memory()
	d.telemetry()
	d.names()
	return d.kept()
}

type differ struct {
	from, to Grants
	fresh    bool // from is Nothing
	changes  []Change

	wasRules, isRules index
}

// kept leaves out what means nothing next to Nothing: a limit on what did not run, or on what no longer does.
func (d *differ) kept() []Change {
	drop := func(Change) bool { return false }
	switch {
	case isNothing(d.to):
		drop = func(c Change) bool { return c.Kind != Tighter }
	case d.fresh:
		drop = func(c Change) bool { return c.Kind != Wider }
	}
	return slices.DeleteFunc(d.changes, drop)
}

// add tells a change of a value whose place Origins knows.
func (d *differ) add(kind Kind, path, format string, args ...any) {
	origin := d.to.Origins[path]
	if origin == "" || origin == fromDefault {
		origin = gone(d.from.Origins[path], origin)
	}
	d.at(kind, path, origin, format, args...)
}

// items compares two sets of strings that are lists in a profile.
func (d *differ) items(path string, from, to []string, added, removed Kind, now, no string) {
	for _, s := range minus(to, from) {
		d.at(added, path, origin(d.to, path, slices.Index(to, s)), now, clean(s))
	}
	for _, s := range minus(from, to) {
		d.at(removed, path, gone(origin(d.from, path, slices.Index(from, s)), ""), no, clean(s))
	}
}

// origin is that of an element of a list, or of the whole list.
func origin(g Grants, path string, i int) string {
	return cmp.Or(g.Origins[item(path, i)], g.Origins[path])
}

// gone marks the place of something that is there no more.
func gone(was, now string) string {
	if was == "" || was == fromDefault {
		return cmp.Or(now, was)
	}
	return "was " + was
}

func (d *differ) at(kind Kind, path, origin, format string, args ...any) {
	d.changes = append(d.changes, Change{Kind: kind, Path: path, Text: fmt.Sprintf(format, args...), Origin: origin})
}

// instead is the second half of a sentence, which has no sense after Nothing.
func (d *differ) instead(format, was string) string {
	if d.fresh || was == "" {
		return ""
	}
	return fmt.Sprintf(format, clean(was))
}

// words compares two words that are ranked.
func (d *differ) words(path, from, to, now, instead string) {
	a, b := rank(path, from), rank(path, to)
	switch {
	case from == to:
		return
	case a >= 0 && b > a:
		d.add(Tighter, path, now+"%s", clean(to), d.instead(instead, from))
	default: // also what nobody ranks
		d.add(Wider, path, now+"%s", clean(to), d.instead(instead, from))
	}
}

// handed compares what the agent executes or is handed: any change is Wider, its absence is Tighter.
func (d *differ) handed(path, from, to, now, instead, no string) {
	switch {
	case from == to:
	case to == "":
		d.add(Tighter, path, no, clean(from))
	default:
		d.add(Wider, path, now+"%s", clean(to), d.instead(instead, from))
	}
}

func (d *differ) agent() {
	a, b := d.from.Agent, d.to.Agent
	switch {
	case slices.Equal(a.Command, b.Command):
	case len(b.Command) == 0:
		d.add(Tighter, "agent.command", "no longer runs %s", words(a.Command))
	default:
		d.add(Wider, "agent.command", "runs %s%s", words(b.Command), d.instead(" in place of %s", words(a.Command)))
	}
	if !slices.Equal(a.Args, b.Args) { // none may mean less care: an argument can be "--read-only"
		d.add(Wider, "agent.args", "passes %s%s", cmp.Or(words(b.Args), "no arguments"), d.instead(" in place of %s", words(a.Args)))
	}
	if a.Rootfs != b.Rootfs {
		d.add(Wider, "agent.rootfs", "takes its programs from %s%s", rootText(b.Rootfs), d.instead(" instead of %s", rootText(a.Rootfs)))
	}
	d.handed("agent.image", a.Image, b.Image, "runs in the image %s", " in place of %s", "no longer runs in the image %s")
	d.handed("agent.containerfile", a.Containerfile, b.Containerfile, "builds and runs %s", " in place of %s", "no longer builds %s")
	d.handed("agent.install", a.Install, b.Install, "tells people to install it by: %s", ", in place of: %s", "no longer tells people to install it by: %s")
	d.table("agent.env", a.Env, b.Env, "sets %s to %s", "no longer sets %s")
	d.files(a.Files, b.Files)
	d.items("agent.pass", a.Pass, b.Pass, Wider, Tighter, "hands in your $%s", "no longer hands in your $%s")
	d.items("agent.keep", a.Keep, b.Keep, Wider, Tighter, "keeps its %s for later runs", "no longer keeps its %s")
	d.items("agent.seed", a.Seed, b.Seed, Wider, Tighter, "hands in a copy of your %s", "no longer hands in a copy of your %s")
}

func rootText(rootfs string) string {
	switch rootfs {
	case "host":
		return "this machine"
	case "image":
		return "an image"
	case "containerfile":
		return "an image that it builds"
	}
	return clean(rootfs)
}

// table compares variables: a new or changed one is Wider.
func (d *differ) table(path string, from, to map[string]string, now, no string) {
	for _, name := range slices.Sorted(maps.Keys(to)) {
		if was, ok := from[name]; !ok || was != to[name] {
			d.add(Wider, path+"."+name, now+"%s", clean(name), strconv.Quote(to[name]), d.instead(" instead of %s", shownIf(ok, was)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if _, ok := to[name]; !ok {
			d.add(Tighter, path+"."+name, no, clean(name))
		}
	}
}

func shownIf(ok bool, s string) string {
	if !ok {
		return ""
	}
	return strconv.Quote(s)
}

func (d *differ) files(from, to []File) {
	was := byName(from, func(f File) string { return f.Path })
	is := byName(to, func(f File) string { return f.Path })
	for _, path := range slices.Sorted(maps.Keys(is)) {
		switch old, ok := was[path]; {
		case !ok:
			d.at(Wider, "agent.file."+path, d.fileOrigin(d.to, path), "writes %s before it starts", clean(path))
		case old != is[path]:
			d.at(Wider, "agent.file."+path, d.fileOrigin(d.to, path), "writes something else into %s before it starts", clean(path))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(was)) {
		if _, ok := is[path]; !ok {
			d.at(Tighter, "agent.file."+path, gone(d.fileOrigin(d.from, path), ""), "no longer writes %s", clean(path))
		}
	}
}

func (d *differ) fileOrigin(g Grants, path string) string {
	return origin(g, "agent.file", slices.IndexFunc(g.Agent.Files, func(f File) bool { return f.Path == path }))
}

func byName[T any](list []T, name func(T) string) map[string]T {
	out := make(map[string]T, len(list))
	for _, v := range list {
		out[name(v)] = v
	}
	return out
}

// minus is what a has and b has not, in order.
func minus[T cmp.Ordered](a, b []T) []T {
	return slices.DeleteFunc(distinct(a), func(s T) bool { return slices.Contains(b, s) })
}

func distinct[T cmp.Ordered](s []T) []T { return slices.Compact(slices.Sorted(slices.Values(s))) }

func (d *differ) workspace() {
	a, b := d.from.Workspace, d.to.Workspace
	if d.fresh || a.Mode != b.Mode {
		kind := Wider
		if !d.fresh && rank("workspace.mode", string(a.Mode)) >= 0 && rank("workspace.mode", string(b.Mode)) > rank("workspace.mode", string(a.Mode)) {
			kind = Tighter
		}
		d.add(kind, "workspace.mode", "%s%s", modeText(b.Mode), d.instead(" (the mode was %s)", string(a.Mode)))
	}
	if a.Backend != b.Backend {
		d.add(Other, "workspace.backend", "keeps its changes by %s%s", cmp.Or(clean(b.Backend), "whatever suits"), d.instead(" instead of %s", a.Backend))
	}
	d.hide()
	d.caches(a.Caches, b.Caches)
}

func modeText(m Mode) string {
	switch m {
	case Direct:
		return "writes to your files as it goes"
	case ReadOnly:
		return "reads your repository and changes nothing"
	case Review:
		return "works on a copy of your repository, and you choose what to take"
	}
	return "works on the repository in mode " + clean(string(m))
}

func (d *differ) git() {
	was := byName(d.from.Git, func(r GitRule) string { return r.Remote })
	is := byName(d.to.Git, func(r GitRule) string { return r.Remote })
	for _, remote := range union(was, is) {
		old, had := was[remote]
		now, has := is[remote]
		d.gitRule(remote, old, now, had, has)
	}
}

// gitRule compares what one remote may be used for. An entry that grants nothing forbids.
func (d *differ) gitRule(remote string, old, now GitRule, had, has bool) {
	path, origin := "git."+remote, now.Origin
	if !has {
		origin = gone(old.Origin, "")
	}
	name := clean(remote)
	if now.Fetch && !old.Fetch {
		d.at(Wider, path+".fetch", origin, "fetches from %s", name)
	}
	if old.Fetch && !now.Fetch {
		d.at(Tighter, path+".fetch", origin, "no longer fetches from %s", name)
	}
	for _, ref := range minus(now.Push, old.Push) {
		d.at(Wider, path+".push", origin, "pushes to %s of %s", clean(ref), name)
	}
	for _, ref := range minus(old.Push, now.Push) {
		d.at(Tighter, path+".push", origin, "no longer pushes to %s of %s", clean(ref), name)
	}
	d.gitMore(path+".force", origin, "by force to "+name, old.Force, now.Force)
	d.gitMore(path+".delete", origin, "deletions to "+name, old.Delete, now.Delete)
	if had && !has && !old.Fetch && len(old.Push) == 0 {
		d.at(Wider, path, origin, "no longer forbids git to use %s", name)
	}
	if has && !had && !now.Fetch && len(now.Push) == 0 {
		d.at(Tighter, path, origin, "forbids git to use %s", name)
	}
}

func (d *differ) gitMore(path, origin, what string, old, now bool) {
	switch {
	case now && !old:
		d.at(Wider, path, origin, "pushes %s", what)
	case old && !now:
		d.at(Tighter, path, origin, "no longer pushes %s", what)
	}
}

// union lists the keys of both, sorted.
func union[T any](a, b map[string]T) []string {
	return distinct(append(slices.Collect(maps.Keys(a)), slices.Collect(maps.Keys(b))...))
}

func (d *differ) budget() {
	a, b := d.from.Budget, d.to.Budget
	d.time(a.Time, b.Time)
	for _, n := range []struct {
		path         string
		from, to     int64
		before, what string
	}{
		{"budget.usd", microDollars(a.USD), microDollars(b.USD), "may spend ", " dollars"},
		{"budget.tokens", a.Tokens, b.Tokens, "may use ", " tokens"},
		{"budget.requests", a.Requests, b.Requests, "may make ", " requests"},
		{"budget.tool_calls", a.ToolCalls, b.ToolCalls, "may make ", " tool calls"},
		{"budget.denials", a.Denials, b.Denials, "may go on after ", " denials"},
	} {
		d.most(n.path, n.from, n.to, n.before, n.what)
	}
	switch from, to := cmp.Or(a.OnLimit, "stop"), cmp.Or(b.OnLimit, "stop"); {
	case from == to:
	case to == "stop":
		d.add(Tighter, "budget.on_limit", "stops when a budget is spent, instead of asking")
	default:
		d.add(Wider, "budget.on_limit", "%ss when a budget is spent, instead of stopping", clean(to))
	}
}

func (d *differ) time(from, to time.Duration) {
	text := func(t time.Duration) string {
		if t == 0 {
			return "without a time limit"
		}
		return "for " + short(t)
	}
	if d.fresh || from != to {
		kind := Wider
		if !d.fresh && looser(int64(from), int64(to)) {
			kind = Tighter
		}
		d.add(kind, "budget.time", "may run %s%s", text(to), d.instead(" instead of %s", strings.TrimPrefix(text(from), "for ")))
	}
}

// looser reports that a is more than b; 0 is no limit.
func looser(a, b int64) bool { return a != b && (a == 0 || b != 0 && a > b) }

func (d *differ) most(path string, from, to int64, before, what string) {
	text := func(n int64) string {
		if n == 0 {
			return "any number of"
		}
		return "at most " + strings.Trim(show(path, n), `"`)
	}
	if from == to || d.fresh {
		return
	}
	kind := Wider
	if looser(from, to) {
		kind = Tighter
	}
	d.add(kind, path, "%s%s%s%s", before, text(to), what, d.instead(" instead of %s", strings.TrimSuffix(strings.TrimPrefix(text(from), "at most "), " of")))
}

func (d *differ) limits() {
	a, b := d.from.Limits, d.to.Limits
	d.most("limits.memory", a.Memory, b.Memory, "may fill ", " of memory")
	d.most("limits.cpus", millionths(a.CPUs), millionths(b.CPUs), "may keep ", " processors busy")
	d.most("limits.pids", cmp.Or(a.Pids, DefaultPids), cmp.Or(b.Pids, DefaultPids), "may have ", " processes")
	d.most("limits.disk", a.Disk, b.Disk, "may write ", " data to its copy of the repository")
}

func (d *differ) memory() {
	a, b := d.from.Memory, d.to.Memory
	d.memoryScope(a.Scope, b.Scope)
	if b.Scope == "none" || a.Scope == "none" || a.TTL == b.TTL {
		if a.TTL != b.TTL && a.Scope == b.Scope {
			d.add(Other, "memory.ttl", "keeps its memory, which is off, for %s", short(b.TTL))
		}
		return
	}
	kind, now := Wider, "for ever"
	if looser(int64(a.TTL), int64(b.TTL)) {
		kind = Tighter
	}
	if b.TTL > 0 {
		now = "for " + short(b.TTL)
	}
	d.add(kind, "memory.ttl", "keeps what it remembers %s", now)
}

func (d *differ) telemetry() {
	d.handed("telemetry.otlp", d.from.Telemetry, d.to.Telemetry, "sends its events to %s", " instead of %s", "no longer sends its events to %s")
}

// memoryScope: a wider circle is Wider; so is any other one, because it shares with somebody else.
func (d *differ) memoryScope(from, to string) {
	order := []string{"none", "session", "profile", "repo", "user"}
	switch {
	case from == to:
	case slices.Index(order, to) >= 0 && slices.Index(order, to) < slices.Index(order, from):
		d.add(Tighter, "memory.scope", "remembers things by %s%s", clean(to), d.instead(" instead of %s", from))
	default:
		d.add(Wider, "memory.scope", "remembers things by %s%s", clean(to), d.instead(" instead of %s", from))
	}
}

// names compares what is said about the grants. A lower tier holds flags and other layers to less.
func (d *differ) names() {
	if !d.fresh {
		d.words("tier", d.from.Tier, d.to.Tier, "is held to the floors of tier %s", " instead of %s")
	}
	if d.from.Profile != d.to.Profile {
		d.add(Other, "profile", "is called %s%s", clean(d.to.Profile), d.instead(" instead of %s", d.from.Profile))
	}
	if d.from.Description != d.to.Description {
		d.add(Other, "description", "is described as: %s", clean(d.to.Description))
	}
}
