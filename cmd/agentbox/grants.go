package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"agentbox/internal/trust"
)

func newGrants(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "grants", Short: "What you allowed in one repository, on top of its profiles",
		Long: `Grants are rules of yours for one repository alone. They lie on top of every other layer of every profile, in a file of
your own configuration, outside the repository; only the organisation's policy binds them.`,
		Example: "  agentbox grants list\n  agentbox grants add docs.example.com --method GET\n  agentbox grants revoke docs.example.com",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd, errors.New("agentbox grants takes a verb"))
		},
	}
	cmd.AddCommand(newGrantsList(a), newGrantsAdd(a), newGrantsRevoke(a))
	return cmd
}

// grantRow is a rule as --json shows it.
type grantRow struct {
	Repo    string   `json:"repo"`
	Number  int      `json:"number"`
	Action  string   `json:"action"`
	Host    string   `json:"host"`
	Ports   []uint16 `json:"ports"`
	Methods []string `json:"methods,omitempty"`
	Paths   []string `json:"paths,omitempty"`

	Scheme     string   `json:"scheme,omitempty"`
	WebSocket  string   `json:"websocket,omitempty"` // "true": alone; "false": none
	Protocol   string   `json:"protocol,omitempty"`
	MaxRequest string   `json:"max_request,omitempty"`
	MaxSent    string   `json:"max_sent,omitempty"`
	Private    []string `json:"private,omitempty"`

	Added *time.Time `json:"added,omitempty"`
	Text  string     `json:"-"`
}

func newGrantsList(a *app) *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List what you allowed in this repository",
		Long:    "Lists your grants for this repository; with --all those for every repository.\n\nExit codes: 0 fine, 1 a file of grants can't be read, 2 usage.",
		Example: "  agentbox grants list\n  agentbox grants list --all --json",
		Args:    exactly(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			rows, err := a.grantRows(all)
			if asJSON {
				return errors.Join(json.NewEncoder(a.out).Encode(rows), err)
			}
			if len(rows) == 0 && err == nil {
				a.say("you allowed nothing here beyond the profiles")
			}
			return errors.Join(writeGrants(a.out, rows, all), err)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "for every repository")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) grantRows(all bool) ([]grantRow, error) {
	paths, err := a.paths()
	if err != nil {
		return nil, err
	}
	var files []trust.Grants
	var errs []error
	if all {
		files, err = trust.AllGrants(paths.Config)
		errs = append(errs, err)
	} else {
		repo, err := a.repository(paths)
		if err != nil {
			return nil, err
		}
		files = []trust.Grants{trust.GrantsOf(paths.Config, repo.Root)}
	}
	rows := []grantRow{}
	for _, f := range files {
		rules, err := f.ListRules()
		errs = append(errs, err)
		for _, r := range rules {
			row := grantRow{Repo: f.Repo, Number: r.Number, Action: r.Action, Host: r.Host, Ports: r.Ports, Methods: r.Methods, Paths: r.Paths, Text: r.Text,
				Scheme: r.Scheme, WebSocket: r.WebSocket, Protocol: r.Protocol, MaxRequest: r.MaxRequest, MaxSent: r.MaxSent, Private: r.Private}
			if !r.Added.IsZero() {
				row.Added = &r.Added
			}
			rows = append(rows, row)
		}
	}
	return rows, errors.Join(errs...)
}

func writeGrants(w io.Writer, rows []grantRow, all bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		since := ""
		if r.Added != nil {
			since = "since " + r.Added.Local().Format("2006-01-02 15:04")
		}
		if all {
			fmt.Fprintf(t, "%s\t", escaped(r.Repo))
		}
		fmt.Fprintf(t, "%d\t%s\t%s\n", r.Number, escaped(r.Text), since)
	}
	return t.Flush()
}

func newGrantsAdd(a *app) *cobra.Command {
	var o grantOptions
	cmd := &cobra.Command{
		Use: "add HOST", Short: "Allow a host in this repository",
		Long: `Allows requests to HOST for every profile that is run in this repository, until you revoke it. Say no more than is needed:
--method, --path, --port, --scheme, --websocket, --max-request and --max-sent narrow it. --tcp passes connections to one host
and port on as they are, and --private lets the host lead into a network of your own: nobody but you can allow either. HOST may also be "example.com:8443", as the summary of a run prints it, or an address
such as https://example.com/api, of which host, port and path count.

Exit codes: 0 allowed, 1 the rule can't be written, 2 usage.`,
		Example: "  agentbox grants add docs.example.com --method GET --method HEAD\n  agentbox grants add \"*.example.com\" --path \"/api/**\" --port 8443\n" +
			"  agentbox grants add db.internal.example.com --port 5432 --tcp --private 10.0.0.0/8",
		Args: exactly(1, "one host"),
		RunE: func(_ *cobra.Command, args []string) error {
			paths, repo, err := a.here()
			if err != nil {
				return err
			}
			r, err := grantRule(args[0], o)
			if err != nil {
				return err
			}
			return a.grant(trust.GrantsOf(paths.Config, repo.Root), r)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.methods, "method", nil, "only this HTTP method; may be given again")
	f.StringArrayVar(&o.paths, "path", nil, "only paths of this pattern, \"/api/**\"; may be given again")
	f.UintSliceVar(&o.ports, "port", nil, "another port than 443; may be given again")
	f.StringVar(&o.scheme, "scheme", "", "only https, or only http")
	f.BoolVar(&o.webSocket, "websocket", false, "only WebSockets")
	f.BoolVar(&o.tcp, "tcp", false, "plain TCP to one host and port: what is sent is neither seen nor checked")
	f.StringVar(&o.maxRequest, "max-request", "", "the largest body of one request, such as 10MB")
	f.StringVar(&o.maxSent, "max-sent", "", "how much may be sent in one run, such as 50MB")
	f.StringArrayVar(&o.private, "private", nil, "a network of your own that the host may lead to, such as 10.0.0.0/8; may be given again")
	return cmd
}

// grantOptions is what a grant says beside its host.
type grantOptions struct {
	ports                       []uint
	methods, paths, private     []string
	scheme, maxRequest, maxSent string
	webSocket, tcp              bool
}

// grant adds a rule, and takes it back when the file is no layer then.
func (a *app) grant(g trust.Grants, r trust.Rule) error {
	floors, err := readFloors(policyFile)
	if err != nil {
		return err
	}
	name := a.tilde(g.Path)
	if _, err := loads(g, name, floors); err != nil {
		return err
	}
	added, err := g.AddRule(r, time.Now())
	if err != nil {
		return err
	}
	what := ruleText(r)
	granted, err := loads(g, name, floors)
	if err != nil && added {
		return errors.Join(fmt.Errorf("allowing %s, which is taken back: %w", what, err), takeBack(g))
	}
	if !added {
		a.say("allowed already: %s", what)
	} else {
		a.say("allowed in %s: %s; \"agentbox grants revoke %s\" takes it back", escaped(g.Repo), what, quoteWord(r.Host))
	}
	if by := overruled(granted, r); by != "" {
		a.say("warning: the organisation's policy goes before it, so that it is denied all the same (%s)", by)
	}
	return nil
}

// takeBack removes the rule that was added last.
func takeBack(g trust.Grants) error {
	rules, err := g.ListRules()
	if err == nil && len(rules) > 0 {
		_, err = g.RemoveRule(strconv.Itoa(len(rules)))
	}
	return err
}

func newGrantsRevoke(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "revoke HOST|NUMBER", Short: "Take back what you allowed in this repository",
		Long:    "Takes back a grant by its number, or all of a host. Runs that go on keep what they started with.\n\nExit codes: 0 taken back, 1 there is no such grant, 2 usage.",
		Example: "  agentbox grants revoke docs.example.com\n  agentbox grants revoke 2",
		Args:    exactly(1, "one host or number"),
		RunE: func(_ *cobra.Command, args []string) error {
			paths, repo, err := a.here()
			if err != nil {
				return err
			}
			removed, err := trust.GrantsOf(paths.Config, repo.Root).RemoveRule(args[0])
			if err != nil {
				return err
			}
			for _, r := range removed {
				a.say("taken back: %s", escaped(r.Text))
			}
			return nil
		},
	}
}
