package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"

	"agentbox/internal/plan"
	"agentbox/internal/profiles"
	"agentbox/internal/session"
	builtin "agentbox/profiles"
)

func newProfile(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "profile", Short: "List, show and write profiles",
		Long: `Profiles are TOML files in layers: built-in, the repository's (agentbox.toml, .agentbox/NAME.toml), your own
(~/.config/agentbox/agentbox.toml, profiles/NAME.toml). Later layers lie on top; the organisation's policy binds all.`,
		Example: "  agentbox profile list\n  agentbox profile show claude --origin\n  agentbox profile init",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, errors.New("agentbox profile takes a verb"))
		},
	}
	cmd.AddCommand(newProfileList(a), newProfileShow(a), newProfileInit(a), newProfileImport(a), newProfileSchema(a))
	return cmd
}

func newProfileList(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the profiles that can be run here",
		Long: `Lists the profiles that agentbox run takes in this repository: where each comes from, what it extends and what it is for.
A profile that cannot be used is listed with the reason.

Exit codes: 0 fine, 1 a profile can't be used, 2 usage.`,
		Example: "  agentbox profile list\n  agentbox profile list --json",
		Args:    exactly(0, "no arguments"),
		RunE:    func(*cobra.Command, []string) error { return a.listProfiles(asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// profileRow is a profile as profile list shows it.
type profileRow struct {
	Name        string   `json:"name"`
	From        []string `json:"from"` // the levels with a file of its own name: "built-in", "repo", "yours"
	Extends     string   `json:"extends,omitempty"`
	Description string   `json:"description,omitempty"`
	Problem     string   `json:"problem,omitempty"` // why it can't be used
}

func (a *app) listProfiles(asJSON bool) error {
	root, err := here()
	if err != nil {
		return err
	}
	f, err := a.usable(root)
	if err != nil {
		return err
	}
	floors, err := readFloors(policyFile)
	if err != nil {
		return err
	}
	rows := []profileRow{}
	broken := false
	for _, name := range f.Names() {
		row := list(name, f, floors)
		broken = broken || row.Problem != ""
		rows = append(rows, row)
	}
	if asJSON {
		err = encodeJSON(a.out, rows)
	} else {
		err = a.printProfiles(rows)
	}
	if err == nil && broken {
		return exitCode(exitFinding)
	}
	return err
}

// usable are the layers that a run here would take. In somebody else's repository nothing runs, and its files may not
// even be read as the person's: there are the person's own profiles alone, and why is said.
func (a *app) usable(root string) (profiles.Files, error) {
	owner := a.owner(root)
	if owner == a.uid {
		return a.withOwn(a.repoFiles(root), root)
	}
	if len(affected(a.repoFiles(root))) > 0 {
		a.say("the profiles of %s are not shown: it belongs to another user (uid %d), and agentbox runs nothing there", root, owner)
	}
	dir, err := a.configDir()
	return a.ownFiles(session.Paths{Config: dir}), err
}

func list(name string, f profiles.Files, floors profiles.Floors) profileRow {
	row := profileRow{Name: name, From: levelsOf(name, f)}
	loaded, g, err := granted(name, f, floors)
	row.Extends, row.Description = string(loaded.Profile.Extends), loaded.Profile.Description
	gaps := g.Unsupported()
	switch {
	case err != nil:
		row.Problem, _, _ = strings.Cut(err.Error(), "\n")
	case len(gaps) > 0:
		row.Problem = "this version can't carry out " + gaps[0].What
		if gaps[0].Origin != "" {
			row.Problem += " (" + gaps[0].Origin + ")"
		}
	}
	return row
}

// levelsOf says which levels have a file of that name.
func levelsOf(name string, f profiles.Files) []string {
	levels := []string{}
	for _, l := range []struct {
		level profiles.Level
		names []string
	}{
		{profiles.BuiltIn, profiles.Files{BuiltIn: f.BuiltIn}.Names()},
		{profiles.Repo, f.RepoNames()},
		{profiles.User, profiles.Files{User: f.User}.Names()},
	} {
		if slices.Contains(l.names, name) {
			levels = append(levels, l.level.String())
		}
	}
	return levels
}

func (a *app) printProfiles(rows []profileRow) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PROFILE\tFROM\tEXTENDS\tDESCRIPTION")
	for _, r := range rows {
		about := r.Description
		if r.Problem != "" {
			about = "can't be used: " + r.Problem
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Name, strings.Join(r.From, ", "), cmp.Or(r.Extends, "-"), escaped(about))
	}
	return w.Flush()
}

func newProfileShow(a *app) *cobra.Command {
	var origin, asJSON bool
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Print a profile with all its layers merged",
		Long: `Prints a profile as one TOML file, all layers merged: built-in, the repository's, your own. What its tier, the
organisation's policy or a default fills in, and what every profile hides, stand at the end. --origin adds where each value comes from: its level, file
and line. Nothing is run.

Exit codes: 0 fine, 1 the profile can't be used, 2 usage.`,
		Example: "  agentbox profile show claude\n  agentbox profile show claude --origin\n  agentbox profile show claude --json",
		Args:    exactly(1, "one profile"),
		RunE:    func(_ *cobra.Command, args []string) error { return a.showProfile(args[0], origin, asJSON) },
	}
	cmd.Flags().BoolVar(&origin, "origin", false, "say where each value comes from")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// shown is a profile as JSON.
type shown struct {
	Name    string                `json:"name"`
	Chain   []string              `json:"chain"`   // what it extends, the root first, itself last
	Profile map[string]any        `json:"profile"` // the keys of the format
	Origins map[string]shownPlace `json:"origins"` // of each value, by its path
	Filled  map[string]filledIn   `json:"filled_in"`
}

// shownPlace is where a value was written.
type shownPlace struct {
	Level string `json:"level"`
	File  string `json:"file"`
	Line  int    `json:"line,omitempty"`
}

// filledIn is a value that no layer of the profile says.
type filledIn struct {
	Value any    `json:"value"`
	By    string `json:"by"` // "tier medium", "/etc/agentbox/policy.toml:3", "default"
}

func (a *app) showProfile(name string, origin, asJSON bool) error {
	defer uncollected()()
	root, err := here()
	if err != nil {
		return err
	}
	f, floors, err := a.mine(root)
	if err != nil {
		return err
	}
	loaded, g, err := granted(name, f, floors)
	var refused *plan.Refusals
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	if err := a.printProfile(loaded.Profile, g, origin, asJSON); err != nil {
		return err
	}
	return err // what is looser than a floor can be looked at, and not be used
}

func (a *app) printProfile(p profiles.Profile, g plan.Grants, origin, asJSON bool) error {
	if asJSON {
		s, err := asShown(p, g)
		if err != nil {
			return err
		}
		return encodeJSON(a.out, s)
	}
	var b bytes.Buffer
	b.Write(profiles.Print(p, origin))
	fill := filled(p, g)
	for i, path := range slices.Sorted(maps.Keys(fill)) {
		if i == 0 {
			b.WriteString("\n# Filled in, because no layer says:\n")
		}
		fmt.Fprintf(&b, "#   %s = %s", path, literal(fill[path].Value))
		if origin {
			fmt.Fprintf(&b, " # %s", escaped(fill[path].By))
		}
		b.WriteByte('\n')
	}
	_, err := a.out.Write(b.Bytes())
	return err
}

func asShown(p profiles.Profile, g plan.Grants) (shown, error) {
	s := shown{Name: p.Name, Chain: p.Chain, Profile: map[string]any{}, Origins: map[string]shownPlace{}, Filled: filled(p, g)}
	if _, err := toml.Decode(string(profiles.Print(p, false)), &s.Profile); err != nil {
		return s, fmt.Errorf("printing the profile: %w", err)
	}
	for path, at := range p.Origins.All() {
		s.Origins[path] = shownPlace{at.Level.String(), at.File, at.Line}
	}
	return s, nil
}

// filled are the single values that the profile leaves open.
func filled(p profiles.Profile, g plan.Grants) map[string]filledIn {
	if len(g.Agent.Command) == 0 {
		return map[string]filledIn{} // a floor refuses it
	}
	values := map[string]any{
		"tier": g.Tier, "workspace.mode": string(g.Workspace.Mode), "network.default": string(g.Network.Default),
		"isolation.runtime": g.Isolation.Runtime, "budget.on_limit": g.Budget.OnLimit, "budget.usd": g.Budget.USD,
		"memory.scope": g.Memory.Scope,
	}
	for path, n := range map[string]int64{
		"budget.tokens": g.Budget.Tokens, "budget.requests": g.Budget.Requests, "budget.tool_calls": g.Budget.ToolCalls,
		"budget.denials": g.Budget.Denials, "limits.memory": g.Limits.Memory, "limits.pids": g.Limits.Pids, "limits.disk": g.Limits.Disk,
	} {
		if n != 0 {
			values[path] = n
		}
	}
	if g.Budget.Time != 0 {
		values["budget.time"] = g.Budget.Time.String()
	}
	if g.Limits.CPUs != 0 {
		values["limits.cpus"] = g.Limits.CPUs
	}
	out, origins := map[string]filledIn{}, p.Origins.Outline()
	for path, value := range values {
		_, said := origins[path]
		auto := path == "isolation.runtime" && p.Isolation.Runtime == "auto"
		if (!said || auto) && value != "" {
			out[path] = filledIn{value, cmp.Or(g.Origins[path], "default")}
		}
	}
	if hide, by := hiddenBeside(p, g); len(hide) > 0 {
		out["workspace.hide"] = filledIn{hide, by}
	}
	return out
}

// hiddenBeside is what is hidden and no layer of the profile says: what every profile hides, and what the organisation does.
func hiddenBeside(p profiles.Profile, g plan.Grants) (hide []string, by string) {
	var places []string
	said := len(p.Workspace.Hide) + len(p.Workspace.Show)
	every := len(builtin.Hidden())
	for i, pattern := range g.Workspace.Hide {
		if i >= every && i < every+said {
			continue
		}
		hide = append(hide, pattern)
		places = append(places, cmp.Or(g.Origins["workspace.hide["+strconv.Itoa(i)+"]"], g.Origins["workspace.hide"]))
	}
	return hide, strings.Join(slices.Compact(places), ", ")
}

func literal(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%q", v)
	case []string:
		words := make([]string, len(v))
		for i, s := range v {
			words[i] = literal(s)
		}
		return "[" + strings.Join(words, ", ") + "]"
	}
	return fmt.Sprint(v)
}
