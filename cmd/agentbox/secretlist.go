package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"agentbox/internal/plan"
	"agentbox/internal/secrets"
)

func newSecretList(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List credentials by name: what is stored, and what profiles ask for",
		Long: `Lists what agentbox keeps in your keyring, and what the profiles that can be run here ask for: where each credential
comes from, and which profiles use it at which hosts. It reads no value, and the keyring may be locked.

Exit codes: 0 fine, 1 the keyring or a profile can't be read, 2 usage.`,
		Example: "  agentbox secret list\n  agentbox secret list --json",
		Args:    exactly(0, "no arguments"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listSecrets(cmd.Context(), asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// secretRow is a source of values, by name.
type secretRow struct {
	From   string      `json:"from"`             // "keyring github", "env GH_TOKEN", "command gh"
	Stored *bool       `json:"stored,omitempty"` // in the keyring; nil where that is not known or not the question
	Used   []secretUse `json:"used"`
}

// secretUse is a credential that has its value from there.
type secretUse struct {
	Profile    string   `json:"profile"`
	Credential string   `json:"credential"`
	Hosts      []string `json:"hosts"`
}

func (a *app) listSecrets(ctx context.Context, asJSON bool) error {
	root, err := here()
	if err != nil {
		return err
	}
	files, err := a.usable(root)
	if err != nil {
		return err
	}
	floors, err := readFloors(policyFile)
	if err != nil {
		return err
	}
	asked := map[string][]secretUse{}
	var problems []error
	for _, name := range files.Names() {
		_, g, err := granted(name, files, floors)
		if err != nil {
			text, _, _ := strings.Cut(err.Error(), "\n")
			problems = append(problems, fmt.Errorf("reading profile %q: %s", name, text))
			continue
		}
		for _, c := range g.Credentials {
			for _, from := range origins(c.Source) {
				asked[from] = append(asked[from], secretUse{name, c.Name, hostNamesOf(c)})
			}
		}
	}
	stored, err := secrets.Keyring{}.List(ctx)
	if err != nil {
		problems = append(problems, err)
	}
	rows := secretRows(asked, stored, err == nil)
	if asJSON {
		err = encodeJSON(a.out, rows)
	} else {
		err = a.printSecrets(rows)
	}
	return errors.Join(append([]error{err}, problems...)...)
}

// origins names every place that a source reads.
func origins(s plan.Source) (out []string) {
	if s.GitHubApp != nil {
		return []string{"keyring " + s.GitHubApp.Key}
	}
	if s.OAuth != nil && s.OAuth.Keyring != "" {
		return []string{"keyring " + s.OAuth.Keyring}
	}
	if s.Env != "" {
		out = append(out, "env "+s.Env)
	}
	if s.Keyring != "" {
		out = append(out, "keyring "+s.Keyring)
	}
	if len(out) > 0 {
		return out
	}
	return []string{kindOf(s)}
}

func hostNamesOf(c plan.Credential) (out []string) {
	for _, h := range c.Hosts {
		out = append(out, h.String())
	}
	return out
}

// secretRows joins what is asked for and what is there. Listed says that stored is all there is.
func secretRows(asked map[string][]secretUse, stored []string, listed bool) []secretRow {
	for _, name := range stored {
		if from := "keyring " + name; asked[from] == nil {
			asked[from] = []secretUse{}
		}
	}
	rows := []secretRow{}
	for from, used := range asked {
		row := secretRow{From: from, Used: used}
		if name, ok := strings.CutPrefix(from, "keyring "); ok && listed {
			there := slices.Contains(stored, name)
			row.Stored = &there
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(x, y secretRow) int { return cmp.Compare(x.From, y.From) })
	return rows
}

func (a *app) printSecrets(rows []secretRow) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FROM\tSTORED\tUSED BY\tAT")
	for _, r := range rows {
		stored := "-"
		if r.Stored != nil {
			stored = map[bool]string{true: "yes", false: "no"}[*r.Stored]
		}
		var by, at []string
		for _, u := range r.Used {
			by = append(by, u.Profile)
			at = append(at, u.Hosts...)
		}
		slices.Sort(at)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", escaped(r.From), stored, cmp.Or(escaped(strings.Join(slices.Compact(by), ", ")), "-"), cmp.Or(strings.Join(slices.Compact(at), ", "), "-"))
	}
	return w.Flush()
}

// ownGrants are what the built-in and the person's own profiles ask for. A repository's are not in it: to test one would run
// what it names.
func (a *app) ownGrants() (map[string]plan.Grants, error) {
	paths, err := a.paths()
	if err != nil {
		return nil, err
	}
	files := a.ownFiles(paths)
	floors, err := readFloors(policyFile)
	if err != nil {
		return nil, err
	}
	out := map[string]plan.Grants{}
	for _, name := range files.Names() {
		if _, g, err := granted(name, files, floors); err == nil { // secret list and check tell of those that can't be read
			out[name] = g
		}
	}
	return out, nil
}
