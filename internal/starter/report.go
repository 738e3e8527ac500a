package starter

import (
	"fmt"
	"strings"
)

// Lines says what was found, for a person, one fact a line.
func (f Facts) Lines() (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, clean(fmt.Sprintf(format, args...))) }
	if len(f.Languages) > 0 {
		say("languages: %s", strings.Join(f.Languages, ", "))
	}
	for _, n := range f.Needs {
		say("packages of %s: %s", n.What, n.File)
	}
	for _, h := range f.Hide {
		say("hidden from the agent: %s (%s)", h.What, h.File)
	}
	for _, h := range f.Tracked {
		say("not hidden, as git tracks it: %s", h.File)
	}
	switch {
	case f.Origin.Host == "":
	case f.Origin.Problem == "":
		say("remote: %s; fetching from it is allowed", f.Origin.Host)
	default:
		say("remote: %s; %s", f.Origin.Host, f.Origin.Problem)
	}
	for _, r := range append(append([]Fact{}, f.Registries...), f.Allowed...) {
		say("not allowed yet: %s, which %s names; take the # away if it is yours", r.What, r.File)
	}
	for _, s := range f.Submodules {
		say("submodules from %s: fetch them before a run, or allow it", s.What)
	}
	for _, p := range f.Packages {
		say("%s installs with %s: inside, nothing can be installed into the system", p.File, p.What)
	}
	if f.Devcontainer != "" {
		say("%s: `agentbox profile import` says what of it has a counterpart", f.Devcontainer)
	}
	if f.Makefile != "" {
		say("%s: try `agentbox run shell -- make`", f.Makefile)
	}
	if f.Partial {
		say("the repository is larger than what was looked at (%d files and directories, %d levels): secrets deeper in it may be missing from hide", maxEntries, maxLevels)
	}
	if len(lines) == 0 {
		say("nothing that a profile would need to know")
	}
	return lines
}
