package starter

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"agentbox/internal/policy"
)

// Options of a first profile.
type Options struct {
	Name     string   // the profile's name
	Base     string   // what it extends: "claude"
	Reach    string   // what the base is, for the description: "Claude Code"; "" for the base's name
	Time     Fact     // the time limit that an agentbox.toml or the base sets already, "1h", and the file; zero: none
	Sets     []string // the named sets that exist
	Personal bool     // for the person's own configuration, not for the repository
}

// Profile writes a commented profile for a repository that looks like f. Only what this version carries out is active,
// and nothing that only a file of the repository asks for.
func Profile(f Facts, o Options) []byte {
	w := &writer{}
	w.head(f, o)
	w.workspace(f, o)
	w.network(f, o)
	w.limits(o)
	w.later(f)
	return []byte(w.String())
}

// writer writes TOML with comments behind what they are about.
type writer struct{ strings.Builder }

// commentColumn is where comments begin when what is before them leaves room, and mostColumns how wide a line is with them.
const (
	commentColumn = 34
	mostColumns   = 100
)

// line writes code with a comment behind it, or above it where both are too wide.
func (w *writer) line(code, comment string) {
	code = strings.TrimRight(code, " ")
	if comment != "" {
		behind := strings.Repeat(" ", max(2, commentColumn-utf8.RuneCountInString(code))) + "# " + clean(comment)
		if utf8.RuneCountInString(code+behind) > mostColumns {
			w.folded(code[:len(code)-len(strings.TrimLeft(code, " "))]+"# ", clean(comment))
		} else {
			code += behind
		}
	}
	w.WriteString(code + "\n")
}

func (w *writer) text(lines ...string) {
	for _, l := range lines {
		w.folded("# ", clean(l))
	}
}

// folded writes a comment on as many lines as its words need.
func (w *writer) folded(mark, text string) {
	for utf8.RuneCountInString(mark+text) > mostColumns {
		at := strings.LastIndexByte(string([]rune(text)[:mostColumns-utf8.RuneCountInString(mark)+1]), ' ')
		if strings.TrimSpace(text[:max(at, 0)]) == "" {
			break // a word that is wider than a line
		}
		w.WriteString(mark + text[:at] + "\n")
		text = strings.TrimLeft(text[at:], " ")
	}
	w.WriteString(strings.TrimRight(mark+text, " ") + "\n")
}

func (w *writer) gap() { w.WriteByte('\n') }

func (w *writer) head(f Facts, o Options) {
	what := o.Reach
	if what == "" {
		what = "What " + o.Base + " runs"
	}
	if o.Base == "shell" {
		what = "Commands"
	}
	w.text("What `agentbox run "+o.Name+"` may do. Written by `agentbox profile init` from what it found here;",
		"change it as you like.", "",
		step("agentbox run "+o.Name+" --dry-run", "shows what it comes to, before anything runs"))
	if !o.Personal {
		w.text(step("agentbox trust", "accepts it on this machine; what allows more asks again"))
	}
	w.gap()
	w.line("version = 1", "")
	w.line("extends = "+quote(o.Base), given(o.Base))
	w.line("description = "+quote(what+" in "+o.Name), "")
	w.line(`# tier = "low"`, "how risky the work is; medium, high, critical set floors")
	if len(f.Languages) > 0 {
		w.gap()
		w.text("Found: " + strings.Join(f.Languages, ", ") + ".")
	}
	w.gap()
}

// step is a command and what it does, one column under the other in the lines of a header.
func step(command, what string) string {
	return fmt.Sprintf("    %-*s  %s", stepColumn, command, what)
}

const stepColumn = 34

// given says what a profile has from the one that it extends.
func given(base string) string {
	if base == "shell" {
		return "a shell, which reaches nothing by itself"
	}
	return "the agent, its model's API and its credential"
}

func (w *writer) workspace(f Facts, o Options) {
	w.line("[workspace]", "")
	w.line(`# mode = "direct"`, `the agent changes your files; left out: a copy, to review`)
	w.gap()
	w.text("Shown to the agent as empty. Patterns are as in .gitignore; \"...\" stands for what "+quote(o.Base)+" hides.",
		"Hide files that git does not track: a tracked one can be read from its history all the same.")
	if f.Partial {
		w.text("The repository is larger than what was looked at: secrets deeper in it may be missing here.")
	}
	w.line("hide = [", "")
	w.line(`  "...",`, "")
	for _, h := range f.Hide {
		w.line("  "+quote(h.What)+",", because(h))
	}
	for _, h := range f.Tracked {
		w.line("  # "+quote(h.What)+",", "git tracks "+h.File+": hidden, it would look emptied to `git commit -a` inside")
	}
	if len(f.Hide)+len(f.Tracked) == 0 {
		w.line(`  # ".env*",`, "nothing that looks like a secret was found")
	}
	w.line("]", "")
	w.gap()
}

// because says why a pattern is there, where that is not plain.
func because(h Fact) string {
	if h.What == h.File {
		return ""
	}
	return h.File
}

func (w *writer) network(f Facts, o Options) {
	sets, rest := chosen(f, o.Sets)
	w.line("[network]", "")
	w.text("Named sets of hosts, read-only where they are registries;", "`agentbox profile show "+o.Name+"` lists their rules.")
	w.line("use = [", "")
	w.line(`  "...",`, "what "+quote(o.Base)+" uses")
	for _, s := range sets {
		w.line("  "+quote(s.What)+",", s.File)
	}
	w.origin(f)
	w.hosting(f, o)
	for _, p := range f.Packages {
		if set := distribution(p.What); slices.Contains(o.Sets, set) {
			w.line("  # "+quote(set)+",", p.File+" installs with "+p.What+"; inside, nothing can be installed into the system, only downloaded")
		}
	}
	w.line("]", "")
	for _, e := range rest {
		w.fallback(e)
	}
	w.asked(f)
	w.pushing(f)
}

// chosen gives the named sets for what the repository needs, each with the files that show it, and the ecosystems that
// no set is for.
func chosen(f Facts, have []string) (sets []Fact, rest []wanted) {
	for _, e := range ecosystems() {
		i := slices.IndexFunc(f.Needs, func(n Fact) bool { return n.What == e.name })
		if i < 0 {
			continue
		}
		file := f.Needs[i].File
		j := slices.IndexFunc(e.sets, func(s string) bool { return slices.Contains(have, s) })
		if j < 0 {
			rest = append(rest, wanted{e, file})
			continue
		}
		known := slices.IndexFunc(sets, func(s Fact) bool { return s.What == e.sets[j] })
		switch {
		case known < 0:
			sets = append(sets, Fact{e.sets[j], file})
		case sets[known].File != file:
			sets[known].File += ", " + file
		}
	}
	return sets, rest
}

// wanted is an ecosystem that a file shows.
type wanted struct {
	ecosystem
	file string
}

// origin is for fetching from where the repository comes from.
func (w *writer) origin(f Facts) {
	switch {
	case f.Origin.Host == "":
		w.line(`  # "origin",`, "git fetch from the repository's own remote, once it has one")
	case f.Origin.Problem == "":
		w.line(`  "origin",`, "git fetch from this repository on "+f.Origin.Host)
	default:
		w.line(`  # "origin",`, strings.TrimPrefix(f.Origin.Problem, `"origin" allows nothing: `))
	}
}

// hosting offers to read other repositories where this one, or a submodule of it, is hosted.
func (w *writer) hosting(f Facts, o Options) {
	for _, h := range []Fact{{"github", "github.com"}, {"gitlab", "gitlab.com"}} {
		if slices.Contains(o.Sets, h.What) && mentions(f, h.File) {
			w.line("  # "+quote(h.What)+",", "read anything on "+h.File+": other repositories, releases")
		}
	}
}

func mentions(f Facts, host string) bool {
	return slices.Contains(f.Remotes, host) ||
		slices.ContainsFunc(f.Submodules, func(s Fact) bool { return s.What == host })
}

// distribution is the named set for what a package manager of an image installs from.
func distribution(manager string) string {
	return map[string]string{"apt": "debian", "apk": "alpine", "dnf": "fedora"}[manager]
}

// fallback allows reading from the public registries of an ecosystem that no set is for.
func (w *writer) fallback(e wanted) {
	w.gap()
	w.text("For " + e.file + ": reading from the public registries of " + e.name + ".")
	for i, h := range e.hosts {
		if i > 0 {
			w.gap()
		}
		w.rule("", h)
	}
}

// rule allows reading from a host. Prefix "# " comments it out.
func (w *writer) rule(prefix, host string) {
	for _, l := range []string{"[[network.rule]]", `action = "allow"`, "host = " + quote(host), `methods = ["GET", "HEAD"]`} {
		w.line(prefix+l, "")
	}
}

// asked shows the hosts that files of the repository name, for the person to decide on.
func (w *writer) asked(f Facts) {
	for _, r := range f.Registries {
		w.gap()
		w.text(r.File + " names this registry. Is it yours? Then take the # away; reading is enough to install.")
		w.rule("# ", r.What)
	}
	for _, a := range f.Allowed {
		w.gap()
		w.text(a.File + " lets Claude Code reach this host. Take the # away to allow reading from it here too.")
		w.rule("# ", a.What)
	}
}

// pushing offers to let the agent push, to refs of its own.
func (w *writer) pushing(f Facts) {
	if f.Origin.Problem != "" || f.Origin.Repo == "" {
		return
	}
	w.gap()
	w.text("To let the agent push: to these refs of this repository alone, nothing forced or deleted.")
	w.line("# [[git]]", "")
	w.line("# remote = "+quote(f.Origin.Repo), "")
	w.line(`# push = ["refs/heads/agentbox/*"]`, "")
	w.token(f)
}

// token offers to let git log in where the repository is hosted, with a token that stays outside.
func (w *writer) token(f Facts) {
	host, name, user, shape := f.Origin.Host, "", "", ""
	switch host {
	case "github.com":
		name, user, shape = "github", "x-access-token", "github_pat_"
	case "gitlab.com":
		name, user, shape = "gitlab", "oauth2", "glpat-"
	default:
		return
	}
	_, repo, _ := strings.Cut(f.Origin.Repo, "/")
	if _, err := policy.ParsePathPattern("/" + repo); err != nil {
		return
	}
	w.gap()
	w.text("To let git log in there, for a private repository or to push: store a token with", "`agentbox secret set "+name+"`. It stays outside; the agent's ~/.netrc holds a placeholder.")
	for _, l := range []string{
		"[[credential]]", "name = " + quote(name), "source = { keyring = " + quote(name) + " }", "hosts = [" + quote(host) + "]",
		"paths = [" + quote("/"+repo+"/**") + ", " + quote("/"+repo+".git/**") + "]", "basic = " + quote(user+":{token}"), "shape = " + quote(shape), "",
		"[[agent.file]]", `path = "~/.netrc"`, "content = " + quote("machine "+host+" login "+user+" password {placeholder."+name+"}"),
	} {
		w.line("# "+l, "")
	}
}

func (w *writer) limits(o Options) {
	w.gap()
	if o.Time.What != "" {
		w.line("# [budget]", "")
		w.line("# time = "+quote(o.Time.What), o.Time.What+" by "+o.Time.File+"; the run ends then, with exit code 124")
	} else {
		w.line("[budget]", "")
		w.line(`time = "2h"`, "the run ends then, with exit code 124")
	}
	w.gap()
	w.text("Limits of memory and processors need cgroup v2; `agentbox doctor` says whether they hold here.")
	w.line("# [limits]", "")
	w.line(`# memory = "8GiB"`, "")
	w.line(`# cpus = 4.0`, "")
	w.line(`# pids = 1024`, "processes and threads at a time")
}

// later shows what the format has and this version does not carry out, so that nobody looks for it in vain.
func (w *writer) later(f Facts) {
	w.gap()
	w.text("Not in this version yet, and refused where it is written: usd, tokens and requests of [budget],",
		"[[mcp]] for tool servers.")
	if f.Devcontainer != "" {
		w.text("", f.Devcontainer+": `agentbox profile import` says what of it has a counterpart here.",
			"The agent runs on this machine's own system, read-only, not in that image: image and containerfile of [agent] are for that.")
	}
}
