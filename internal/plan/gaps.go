package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Gap is something that a profile asks for and this version cannot carry out. A run that needs it is refused.
type Gap struct {
	What    string `json:"what"`             // `memory.scope = "repo"`
	Origin  string `json:"origin,omitempty"` // where it is asked for: "agentbox.toml:4", "tier medium"
	Instead string `json:"instead"`          // what works today
}

// Unsupported lists what this version cannot carry out of the grants, each once.
func (g Grants) Unsupported() []Gap {
	f := &gapFinder{g: g}
	f.files()
	f.budget()
	f.rest()
	return f.gaps
}

type gapFinder struct {
	g    Grants
	gaps []Gap
}

// value adds a gap of a value that Origins knows.
func (f *gapFinder) value(asked bool, path, word, instead string) {
	if !asked {
		return
	}
	origin := f.g.Origins[path]
	switch {
	case strings.HasPrefix(origin, "tier "):
		instead = f.tier(instead)
	case strings.HasPrefix(origin, organisationFile):
		instead = "it is for whoever keeps " + organisationFile + " to change: " + instead
	}
	f.gaps = append(f.gaps, Gap{What: path + " = " + word, Origin: origin, Instead: instead})
}

// tier names the tiers that work today, for what nobody but the tier asked for.
func (f *gapFinder) tier(instead string) string {
	switch f.g.Tier {
	case "high", "critical":
		return fmt.Sprintf(`tier %s (%s) does not work yet: tier = "low" works today, and tier = "medium"`, f.g.Tier, f.g.Origins["tier"])
	}
	return instead
}

func (f *gapFinder) entry(what, origin, instead string) {
	f.gaps = append(f.gaps, Gap{What: what, Origin: origin, Instead: instead})
}

func (f *gapFinder) files() {
	a := f.g.Agent
	f.value(a.Rootfs != "host" && a.Image == "" && a.Containerfile == "", "agent.rootfs", quoted(a.Rootfs), `write rootfs = "host"`)
}

func (f *gapFinder) budget() {
	b := f.g.Budget
	const instead = "leave it out: budget.time is the limit that holds today"
	f.value(b.USD != "", "budget.usd", b.USD, instead)
	f.value(b.Tokens > 0, "budget.tokens", fmt.Sprint(b.Tokens), instead)
	f.value(b.Requests > 0, "budget.requests", fmt.Sprint(b.Requests), instead)
	f.value(b.ToolCalls > 0, "budget.tool_calls", fmt.Sprint(b.ToolCalls), instead)
	f.value(b.Denials > 0, "budget.denials", fmt.Sprint(b.Denials), instead)
	f.value(b.OnLimit != "" && b.OnLimit != "stop", "budget.on_limit", quoted(b.OnLimit), `write on_limit = "stop"`)
}

func (f *gapFinder) rest() {
	r := f.g.Isolation.Runtime
	f.value(r != "container" && r != "gvisor", "isolation.runtime", quoted(r), `write runtime = "gvisor"`)
	for _, s := range f.g.Servers {
		f.entry(fmt.Sprintf("[[mcp]] %q", s.Name), s.Origin, "leave it out: the agent may start tool servers inside the boundary")
	}
	f.value(f.g.Memory.Scope != "none", "memory.scope", quoted(f.g.Memory.Scope), `write scope = "none"`)
	f.value(f.g.Telemetry != "", "telemetry.otlp", quoted(f.g.Telemetry), "leave it out: every run writes its events to its log")
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

func quotedList(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = quoted(s)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// gapsError is a *Refusal with all gaps, or nil.
func gapsError(g Grants) *Refusal {
	gaps := g.Unsupported()
	if len(gaps) == 0 {
		return nil
	}
	r := &Refusal{Text: fmt.Sprintf("profile %q asks for what this version of agentbox cannot carry out yet:", g.Profile), Gaps: gaps}
	var tips []string
	for _, gap := range gaps[:min(maxShown, len(gaps))] {
		r.Text += "\n  " + gap.What + wrapped(" (", gap.Origin, ")")
		if !slices.Contains(tips, gap.Instead) {
			tips = append(tips, gap.Instead)
		}
	}
	r.Text += after("\n  ", strings.Join(more(len(gaps)), ""))
	r.Tip = strings.Join(tips, "\n")
	return r
}

func wrapped(before, s, after string) string {
	if s == "" {
		return ""
	}
	return before + s + after
}
