package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// WhyPath explains what may be done with a path, relative to the repository's top; one that is absolute, or begins with
// "~/" or "../", lies outside of it. What lies there is not looked at.
func (g Grants) WhyPath(rel string) Explanation {
	home := rel == "~" || strings.HasPrefix(rel, "~/")
	rel = path.Clean(rel)
	if home || rel == ".." || strings.HasPrefix(rel, "../") || path.IsAbs(rel) {
		return g.outside(rel)
	}
	if e, ok := g.guarded(rel); ok {
		return e
	}
	if e, ok := g.hiddenBy(rel); ok {
		return e
	}
	e := Explanation{Rule: "workspace.mode" + wrapped(" (", g.Origins["workspace.mode"], ")"), Change: g.hiding(rel)}
	switch g.Workspace.Mode {
	case Direct:
		e.Decision, e.Reason = "write", "nothing hides it, and mode = \"direct\" lets the agent change your files as it goes"
	case Review:
		e.Decision, e.Reason = "write", "nothing hides it, and mode = \"review\" lets the agent change a copy of it, of which you choose what to take"
	default:
		e.Decision, e.Reason = "read", "nothing hides it, and mode = \"readonly\" lets the agent change nothing"
	}
	return e
}

// outside is about what is not in the repository.
func (g Grants) outside(p string) Explanation {
	const fixed = "nothing changes that"
	if e, ok := g.mounted(p); ok {
		return e
	}
	e := Explanation{Decision: "hidden", Rule: "built-in", Change: fixed}
	switch {
	case p == "/usr" || strings.HasPrefix(p, "/usr/"):
		return Explanation{Decision: "read", Rule: "built-in", Reason: "the programs below /usr are shown read-only", Change: fixed}
	case slices.ContainsFunc(g.Agent.Files, func(f File) bool { return path.Clean(f.Path) == p }):
		i := slices.IndexFunc(g.Agent.Files, func(f File) bool { return path.Clean(f.Path) == p })
		e.Rule, e.Reason = origin(g, "agent.file", i), "yours is not there: the profile writes a file of its own in that place"
	case g.survives(p, &e):
	case p == "~" || strings.HasPrefix(p, "~/"):
		e.Reason = "it is in your home directory, which is not there: the agent has an empty one of its own, with the profile's files and those tools on your PATH that are installed in yours"
	default:
		e.Reason = "it is not in the repository, and nothing of this machine is there beside it but /usr, the tools on your PATH and an audited part of /etc"
	}
	return e
}

// guarded is about git directories, which no pattern hides: what the host's git obeys cannot be changed inside.
func (g Grants) guarded(rel string) (Explanation, bool) {
	const (
		filtered = "a filtered copy is shown, of variables that are known to be harmless and without keys in addresses; it cannot be changed inside"
		fixed    = "nothing changes that: it holds for every profile"
	)
	top, below, _ := strings.Cut(rel, "/")
	if top != ".git" {
		at := slices.Index(strings.Split(rel, "/"), ".git")
		if at < 0 {
			return Explanation{}, false
		}
		e := Explanation{Decision: "read", Rule: "built-in", Change: fixed, Reason: "git directories below the top are read-only, those that are there when the run starts"}
		if name := strings.Join(strings.Split(rel, "/")[at+1:], "/"); isConfig(name) {
			e.Reason = filtered
		}
		if by, ok := g.hiddenBy(strings.Join(strings.Split(rel, "/")[:at], "/")); ok {
			return by, true
		}
		return e, true
	}
	first, _, deeper := strings.Cut(below, "/")
	e := Explanation{Decision: "read", Rule: "built-in", Change: fixed}
	switch {
	case isConfig(below):
		e.Reason = filtered
	case first == "modules" && isConfig(path.Base(below)):
		e.Reason = filtered
	case slices.Contains([]string{"hooks", "commondir", "worktrees", "modules"}, first):
		e.Reason = "your own git obeys what is in .git/" + first + ", so that it is read-only inside"
	case !deeper && isLoose(below):
		e.Decision, e.Reason = "hidden", "it is taken for a copy of git's configuration, which may hold keys"
	case g.Workspace.Mode == Direct:
		e.Decision, e.Reason = "write", "git works inside: mode = \"direct\" lets the agent change what is in .git, but for what your own git obeys"
		e.Rule = "workspace.mode" + wrapped(" (", g.Origins["workspace.mode"], ")")
		e.Change = `workspace.mode = "readonly" makes it read-only, and nothing hides it`
	case g.Workspace.Mode == Review:
		e.Decision, e.Reason = "write", "git works inside: mode = \"review\" lets the agent change a copy of it, and you choose which commits to take"
		e.Rule = "workspace.mode" + wrapped(" (", g.Origins["workspace.mode"], ")")
		e.Change = `workspace.mode = "readonly" makes it read-only, and nothing hides it`
	default:
		e.Reason = "mode = \"readonly\" lets the agent change nothing"
		e.Rule = "workspace.mode" + wrapped(" (", g.Origins["workspace.mode"], ")")
		e.Change = "nothing hides it: git works inside"
	}
	return e, true
}

func isConfig(name string) bool { return name == "config" || name == "config.worktree" }

// isLoose reports names beside git's configuration that people and editors give its copies.
func isLoose(name string) bool {
	bare := strings.TrimPrefix(name, ".")
	return name != "config.lock" && (strings.HasPrefix(bare, "config") || bare == "credentials" || bare == "git-credentials")
}

// hiddenBy finds the pattern that hides a path, the organisation's before others: it is the one that stays.
func (g Grants) hiddenBy(rel string) (Explanation, bool) {
	all := g.Workspace.Hide
	first := len(all)
	for first > 0 && strings.HasPrefix(origin(g, "workspace.hide", first-1), organisationFile) {
		first--
	}
	by, named := hideList(all[first:]).By(rel, true)
	if by += first; named == "" {
		by, named = hideList(all).By(rel, true)
	}
	if named == "" {
		return Explanation{}, false
	}
	at := origin(g, "workspace.hide", by)
	e := Explanation{Decision: "hidden", Rule: at, Reason: fmt.Sprintf("%q in workspace.hide names %s", all[by], rel), Change: g.showing(named, at)}
	if ofEvery(at) {
		e.Reason = fmt.Sprintf("%q in the list of what every profile hides names %s", all[by], rel)
	}
	return e, true
}

// showing says how what is hidden is shown again: the person's own file lies over all others.
func (g Grants) showing(named, at string) string {
	switch {
	case strings.HasPrefix(at, organisationFile):
		return "only whoever keeps " + organisationFile + " can change that"
	case unwritable(named):
		return "to show it, write a pattern with \"?\" for each character that cannot be printed in workspace.show"
	}
	return fmt.Sprintf("to show it, add to ~/.config/agentbox/profiles/%s.toml (it begins with version = 1):\n\n[workspace]\nshow = [\"...\", %q]\n", g.Profile, patternFor(named))
}

func unwritable(rel string) bool {
	return !utf8.ValidString(rel) || strings.ContainsFunc(rel, func(r rune) bool { return !unicode.IsPrint(r) })
}

// hiding says how a path is hidden.
func (g Grants) hiding(rel string) string {
	switch {
	case rel == ".":
		return "the repository itself cannot be hidden: hide what is in it"
	case unwritable(rel):
		return "to hide it, write a pattern with \"?\" for each character that cannot be printed"
	}
	return fmt.Sprintf("to hide it, add to .agentbox/%s.toml (it begins with version = 1):\n\n[workspace]\nhide = [\"...\", %q]\n", g.Profile, patternFor(rel))
}

// patternFor names one path, whatever characters it has.
func patternFor(rel string) string {
	out := strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(rel)
	if strings.HasPrefix(out, "!") || strings.HasPrefix(out, "~") || out == "..." {
		return `\` + out
	}
	return out
}
