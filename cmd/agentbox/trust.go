package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"agentbox/internal/profiles"
	"agentbox/internal/session"
)

type trustOptions struct {
	yes, list, json, revoke bool
}

func newTrust(a *app) *cobra.Command {
	var o trustOptions
	cmd := &cobra.Command{
		Use: "trust [PROFILE…]", Short: "Let this repository's own layers widen what agents may do",
		Long: `A repository's agentbox.toml and .agentbox/*.toml may tighten any profile. What they would widen is refused until you
say so here: it is shown in plain words, with the file and line that asks for it, and you are asked at the terminal. The
answer is kept outside the repository and holds for these files as they are; when they change, only what is new since is
shown and asked. Deleting or loosening a restriction asks too.

Exit codes: 0 trusted, or nothing to trust; 1 the answer was no, or there is nobody to ask; 2 usage.`,
		Example: `  agentbox trust                          show what this repository widens, and ask
  agentbox trust --list                   every repository whose layers you accepted
  agentbox trust --revoke                 forget this one
  agentbox trust --revoke ~/src/billing`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.list && (o.revoke || o.yes || len(args) > 0), o.revoke && (o.yes || len(args) > 1):
				return usage(cmd, errors.New("--list, --revoke and --yes go each by itself"))
			case o.json && !o.list:
				return usage(cmd, errors.New("--json goes with --list"))
			case o.list:
				return a.trustList(o.json)
			case o.revoke:
				return a.trustRevoke(args)
			}
			return a.trust(args, o.yes)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.yes, "yes", false, "do not ask; at a terminal only")
	f.BoolVar(&o.list, "list", false, "list what is accepted")
	f.BoolVar(&o.json, "json", false, "with --list: print JSON")
	f.BoolVar(&o.revoke, "revoke", false, "forget what was accepted for this repository, or the one named")
	return cmd
}

// trust asks about every profile that the repository widens, in one question.
func (a *app) trust(names []string, yes bool) error {
	paths, repo, err := a.here()
	if err != nil {
		return err
	}
	l, err := a.layers(paths, repo.Root)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		names = l.files.Names()
	}
	all, open, err := a.consents(names, paths, l)
	if err != nil {
		return err
	}
	if len(open) > 0 {
		if err := a.answered(open, yes); err != nil {
			return err
		}
	}
	for _, c := range all {
		if err := c.accept(len(open) > 0, time.Now()); err != nil {
			return err
		}
	}
	switch {
	case len(open) > 0:
		a.say("trusted, for %s as it is now", escaped(repo.Root))
	case len(l.snapshot) == 0:
		a.say("%s has no agentbox.toml and no .agentbox/*.toml: there is nothing to trust", escaped(repo.Root))
	default:
		a.say("nothing in %s is wider than what you accepted or what goes without it", escaped(repo.Root))
	}
	return nil
}

// consents looks at every profile; open are those with something to ask. One that cannot be used cannot be run, and
// keeps nobody from the others.
func (a *app) consents(names []string, paths session.Paths, l layers) (all, open []consent, err error) {
	floors, err := readFloors(policyFile)
	if err != nil {
		return nil, nil, err
	}
	many := crowd{}
	var unusable []error
	for _, name := range names {
		if err := many.full(name); err != nil {
			return nil, nil, err
		}
		d, err := l.decide(name, floors, flags{})
		if err != nil && len(names) == 1 {
			return nil, nil, err
		}
		if err != nil {
			unusable = append(unusable, fmt.Errorf("passing over profile %q: %w", name, err))
			continue
		}
		many.rules += len(d.profile.Network.Rules)
		if !d.consent.changed() {
			continue
		}
		if all = append(all, d.consent); !d.consent.settled() {
			open = append(open, d.consent)
		}
	}
	if len(unusable) == len(names) && len(names) > 0 {
		return nil, nil, unusable[0]
	}
	for _, err := range unusable {
		a.say("warning: %s", err)
	}
	return all, open, nil
}

func (a *app) answered(open []consent, yes bool) error {
	if !yes {
		return a.askConsent(open, false)
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		writeConsents(a.err, open)
		return &usageError{errors.New("--yes answers for a person, and there is no terminal with one"), "run agentbox trust at a terminal"}
	}
	defer tty.Close()
	writeConsents(a.err, open)
	return nil
}

// accepted is one repository as --list shows it.
type accepted struct {
	Repo     string    `json:"repo"`
	Profiles []string  `json:"profiles"`
	Files    []string  `json:"files"`
	Hash     string    `json:"hash"`
	Asked    bool      `json:"asked"` // the person said yes to something; false: nothing was wider
	Accepted time.Time `json:"accepted"`
}

func (a *app) trustList(asJSON bool) error {
	paths, err := a.paths()
	if err != nil {
		return err
	}
	rows, err := trustRows(paths.State)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(a.out).Encode(rows)
	}
	if len(rows) == 0 {
		a.say("no repository's layers were accepted yet")
		return nil
	}
	for _, r := range rows {
		how := "it widened nothing"
		if r.Asked {
			how = "you were asked"
		}
		fmt.Fprintf(a.out, "%s\n  accepted %s (%s): %s\n  for %s\n", escaped(r.Repo), r.Accepted.Local().Format("2006-01-02 15:04"), how,
			escaped(orNone(listed(r.Files))), listed(r.Profiles))
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "no files"
	}
	return s
}

// trustRows puts the records of one repository with the same content in one row.
func trustRows(state string) ([]accepted, error) {
	rows := []accepted{}
	for _, name := range trustedProfiles(state) {
		records, err := trustStore(state, name).List()
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			i := slices.IndexFunc(rows, func(o accepted) bool { return o.Repo == r.Repo && o.Hash == r.Hash && o.Asked == r.Explicit })
			if i < 0 {
				row := accepted{Repo: r.Repo, Hash: r.Hash, Asked: r.Explicit, Accepted: r.Accepted, Files: []string{}}
				for file := range r.Files {
					row.Files = append(row.Files, file)
				}
				slices.Sort(row.Files)
				rows, i = append(rows, row), len(rows)
			}
			rows[i].Profiles = append(rows[i].Profiles, name)
			if r.Accepted.After(rows[i].Accepted) {
				rows[i].Accepted = r.Accepted
			}
		}
	}
	slices.SortStableFunc(rows, func(x, y accepted) int { return y.Accepted.Compare(x.Accepted) })
	return rows, nil
}

// trustedProfiles are those that have records.
func trustedProfiles(state string) (names []string) {
	entries, _ := os.ReadDir(filepath.Join(state, "trust"))
	for _, e := range entries {
		var n profiles.Name
		if e.IsDir() && n.UnmarshalText([]byte(e.Name())) == nil {
			names = append(names, e.Name())
		}
	}
	return names
}

func (a *app) trustRevoke(args []string) error {
	paths, err := a.paths()
	if err != nil {
		return err
	}
	repo, err := a.repoArgument(paths, args)
	if err != nil {
		return err
	}
	forgotten := 0
	for _, name := range trustedProfiles(paths.State) {
		switch err := trustStore(paths.State, name).Forget(repo); {
		case err == nil:
			forgotten++
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	if forgotten == 0 {
		a.say("nothing was accepted for %s", escaped(repo))
		return exitCode(exitFinding)
	}
	a.say("forgotten; the next run in %s asks about all that it widens", escaped(repo))
	return nil
}

// repoArgument is the repository that is named, which may be gone, or the one around.
func (a *app) repoArgument(paths session.Paths, args []string) (string, error) {
	if len(args) == 0 {
		repo, err := a.repository(paths)
		return repo.Root, err
	}
	dir, err := filepath.Abs(args[0])
	if err != nil {
		return "", fmt.Errorf("finding %s: %w", args[0], err)
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return dir, nil
}
