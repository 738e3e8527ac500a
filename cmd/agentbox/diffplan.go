package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"agentbox/internal/layerfiles"
	"agentbox/internal/plan"
	"agentbox/internal/profiles"
	"agentbox/internal/trust"
)

func newDiffPlan(a *app) *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use: "diff-plan A B", Short: "Say what B allows that A does not, and the other way round",
		Long: `Compares what two profiles may do. Each end is one of
  PROFILE      a profile as it is here
  REF:PROFILE  a profile with the repository's layers of a commit, branch or tag
  REF:         the other end's profile, at REF
  FILE.toml    a file, read as if it stood in .agentbox under its own name

Lines are marked: + B is wider, - B is tighter, ~ B is different otherwise. Your own layers and the organisation's policy
lie on both ends; --repo-only leaves them out, as agentbox check does. Nothing is run.

Exit codes: 0 no difference, 1 a difference, or an end can't be used; 2 usage.`,
		Example: `  agentbox diff-plan claude billing
  agentbox diff-plan main:billing billing
  agentbox diff-plan origin/main: billing --json
  agentbox diff-plan claude ./strict.toml`,
		Args: exactly(2, "two ends: a profile, REF:PROFILE or a file each"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.diffPlan(cmd, args[0], args[1], o) },
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON")
	cmd.Flags().BoolVar(&o.repoOnly, "repo-only", false, "without your own layers and the organisation's policy")
	return cmd
}

type diffOptions struct{ json, repoOnly bool }

// end is one side of a comparison.
type end struct {
	text string // as given
	name string // of the profile
	ref  string // "" is the work tree
	file string // "" is none
}

// parseEnd reads what a side is called. A name is missing in "REF:".
func parseEnd(s string) end {
	e := end{text: s, name: s}
	i := strings.LastIndexByte(s, ':')
	switch {
	case strings.HasSuffix(s, ".toml"), i < 0 && strings.Contains(s, "/"):
		e.file, e.name = s, strings.TrimSuffix(filepath.Base(s), ".toml")
	case i >= 0:
		e.ref, e.name = s[:i], s[i+1:]
	}
	return e
}

func parseEnds(cmd *cobra.Command, a, b string) (from, to end, err error) {
	from, to = parseEnd(a), parseEnd(b)
	if from.name == "" {
		from.name = to.name
	}
	if to.name == "" {
		to.name = from.name
	}
	for _, e := range []end{from, to} {
		switch {
		case strings.Contains(e.text, ":") && e.file == "" && e.ref == "":
			return from, to, usage(cmd, fmt.Errorf("%q names no commit before its colon", e.text))
		case e.name == "":
			return from, to, usage(cmd, fmt.Errorf("neither %q nor %q names a profile", a, b))
		}
		if err := checkName(cmd, e.name); err != nil {
			return from, to, err
		}
	}
	return from, to, nil
}

// difference is what diff-plan prints as JSON.
type difference struct {
	From    side          `json:"from"`
	To      side          `json:"to"`
	Changes []plan.Change `json:"changes"`
}

type side struct {
	End     string `json:"end"` // as given
	Profile string `json:"profile"`
	Hash    string `json:"hash"` // of the grants
}

func (a *app) diffPlan(cmd *cobra.Command, one, other string, o diffOptions) error {
	defer uncollected()()
	from, to, err := parseEnds(cmd, one, other)
	if err != nil {
		return err
	}
	root, err := here()
	if err != nil {
		return err
	}
	d := difference{Changes: []plan.Change{}}
	var grants [2]plan.Grants
	for i, e := range []end{from, to} {
		if grants[i], err = a.grantsOf(cmd.Context(), root, e, o); err != nil {
			return fmt.Errorf("%s: %w", escaped(e.text), err)
		}
		*[]*side{&d.From, &d.To}[i] = side{e.text, e.name, grants[i].Hash()}
	}
	d.Changes = append(d.Changes, plan.Diff(grants[0], grants[1])...)
	if o.json {
		err = encodeJSON(a.out, d)
	} else {
		err = writeChanges(a.out, d.Changes)
	}
	if err == nil && len(d.Changes) > 0 {
		return exitCode(exitFinding)
	}
	if err == nil && !o.json {
		a.say("no difference")
	}
	return err
}

// grantsOf is what one end may do.
func (a *app) grantsOf(ctx context.Context, root string, e end, o diffOptions) (plan.Grants, error) {
	f, err := a.filesOf(ctx, root, e)
	if err != nil {
		return plan.Grants{}, err
	}
	var floors profiles.Floors
	if !o.repoOnly {
		if f, err = a.withOwn(f, root); err != nil {
			return plan.Grants{}, err
		}
		if floors, err = readFloors(policyFile); err != nil {
			return plan.Grants{}, err
		}
	}
	_, g, err := granted(e.name, f, floors)
	if e.file == "" {
		return g, err
	}
	return renamed(g, repoDir+"/"+e.name+".toml", e.file), renamedProblems(err, repoDir+"/"+e.name+".toml", e.file)
}

func (a *app) filesOf(ctx context.Context, root string, e end) (profiles.Files, error) {
	switch {
	case e.ref != "":
		return a.refFiles(ctx, root, e.ref)
	case e.file == "":
		return a.repoFiles(root), nil
	}
	f := a.repoFiles(root)
	data, err := fs.ReadFile(layerfiles.Repo(filepath.Dir(e.file), a.uid), filepath.Base(e.file))
	if err != nil {
		return f, err
	}
	all, err := trust.Snapshot(f.Repo)
	if err != nil {
		return f, err
	}
	all[repoDir+"/"+e.name+".toml"] = data
	f.Repo = trust.FS(all)
	return f, nil
}

// renamed gives the origins of one file another name.
func renamed(g plan.Grants, from, to string) plan.Grants {
	rename := func(origin string) string {
		if rest, ok := strings.CutPrefix(origin, from+":"); ok {
			return to + ":" + rest
		}
		return origin
	}
	g.Network.Rules, g.Credentials = slices.Clone(g.Network.Rules), slices.Clone(g.Credentials)
	g.Git, g.Servers, g.Mounts = slices.Clone(g.Git), slices.Clone(g.Servers), slices.Clone(g.Mounts)
	for i := range g.Network.Rules {
		g.Network.Rules[i].Origin = rename(g.Network.Rules[i].Origin)
	}
	for i := range g.Credentials {
		g.Credentials[i].Origin = rename(g.Credentials[i].Origin)
	}
	for i := range g.Git {
		g.Git[i].Origin = rename(g.Git[i].Origin)
	}
	for i := range g.Mounts {
		g.Mounts[i].Origin = rename(g.Mounts[i].Origin)
	}
	for i := range g.Servers {
		g.Servers[i].Origin = rename(g.Servers[i].Origin)
	}
	for key, origin := range g.Origins {
		g.Origins[key] = rename(origin)
	}
	return g
}

func renamedProblems(err error, from, to string) error {
	var problems profiles.Problems
	if !errors.As(err, &problems) {
		return err
	}
	problems = slices.Clone(problems)
	for i := range problems {
		if problems[i].File == from {
			problems[i].File = to
		}
	}
	return problems
}

// writeChanges writes a line for each change.
func writeChanges(w io.Writer, changes []plan.Change) error {
	mark := map[plan.Kind]string{plan.Wider: "+", plan.Tighter: "-", plan.Other: "~"}
	for _, c := range changes {
		line := mark[c.Kind] + " " + escaped(c.Text)
		if c.Origin != "" {
			line += "  (" + escaped(c.Origin) + ")"
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// encodeJSON writes JSON for programs and people.
func encodeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
