package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"agentbox/internal/event"
	"agentbox/internal/eventlog"
	"agentbox/internal/policy"
	"agentbox/internal/replay"
	"agentbox/internal/session"
)

type replayOptions struct {
	run, profile string
	json         bool
}

func newReplay(a *app) *cobra.Command {
	o := replayOptions{}
	cmd := &cobra.Command{
		Use: "replay RUN", Short: "Judge a recorded run again, and list every answer that changes",
		Long: `Judges every request and every refused name of a run again, by a profile as it is now in this repository, your own layers
and the organisation's included, and lists what would be answered otherwise: how often, the request, what it was and by which
rule, what it is now. What can't be judged again is listed too, with the reason. RUN is an id of agentbox ps, or its
beginning; the run may have ended or not. Nothing is run, asked or reached.

Exit codes: 0 nothing changes, 1 something changes, or the run, its log or the profile can't be read, 2 usage.`,
		Example: "  agentbox replay x7k2\n  agentbox replay x7k2 --profile billing --json",
		Args:    exactly(1, "one run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.run = args[0]
			return a.replay(cmd, o)
		},
	}
	cmd.Flags().StringVar(&o.profile, "profile", "", "the profile to judge by; without it, the one of the run")
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

// replayed is what replay prints as JSON.
type replayed struct {
	Run       string      `json:"run"`
	Profile   string      `json:"profile"`
	Changes   []changeRow `json:"changes"`
	Unknown   []asideRow  `json:"unknown"`   // requests that can't be judged again
	Unsettled []asideRow  `json:"unsettled"` // what rules for requests do not settle
	Omitted   uint64      `json:"omitted"`   // events of which there were too many different ones
	Broken    uint64      `json:"broken"`    // lines of the log that are no events
}

// requestRow is a request as --json shows it.
type requestRow struct {
	Count  uint64 `json:"count"`
	Kind   string `json:"kind"` // "request", "tunnel" whose requests are not known, "lookup"
	Host   string `json:"host"`
	Port   uint16 `json:"port,omitempty"`
	Scheme string `json:"scheme,omitempty"`
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	Socket bool   `json:"websocket,omitempty"`
}

type changeRow struct {
	requestRow
	Was       string `json:"was"`
	WasRule   string `json:"was_rule"`
	WasReason string `json:"was_reason"`
	Now       string `json:"now"`
	NowRule   string `json:"now_rule"`
	NowReason string `json:"now_reason"`
}

type asideRow struct {
	requestRow
	Reason string `json:"reason"`
}

func (a *app) replay(cmd *cobra.Command, o replayOptions) error {
	defer uncollected()()
	info, log, err := a.recorded(o.run)
	if err != nil {
		return err
	}
	root, err := here()
	if err != nil {
		return err
	}
	if o.profile == "" {
		o.profile = info.Profile
	}
	d, _, err := a.decided(o.profile, root)
	if err != nil {
		return err
	}
	a.sayStrange(info, root, log)
	changes, unknown := log.Compare(bound(cmd.Context(), d.grants, root).Network.Compile())
	out := replayed{info.ID, o.profile, changeRows(changes), asideRows(unknown), asideRows(log.Unsettled), log.Omitted, log.Broken}
	if o.json {
		err = encodeJSON(a.out, out)
	} else {
		err = a.writeReplay(out)
	}
	if err == nil && (len(changes) > 0 || log.Broken > 0) {
		return exitCode(exitFinding)
	}
	return err
}

// recorded reads the log of a run.
func (a *app) recorded(id string) (session.Info, *replay.Log, error) {
	info, err := a.session([]string{id})
	if err != nil {
		return info, nil, err
	}
	f, err := os.Open(filepath.Join(info.Dir, session.EventsFile))
	if err != nil {
		return info, nil, fmt.Errorf("reading the events: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	log, err := collect(eventlog.NewReader(f))
	if err != nil {
		return info, nil, fmt.Errorf("reading the events of run %s: %w", info.ID, err)
	}
	return info, log, nil
}

// collect takes every event of a log. A line that is none is counted; so is a last one that was cut short, unless it is
// still being written.
func collect(r *eventlog.Reader) (*replay.Log, error) {
	log := &replay.Log{}
	for {
		e, err := r.Next()
		var line *eventlog.LineError
		switch {
		case errors.Is(err, io.EOF):
			return log, nil
		case errors.As(err, &line):
			if !line.Torn {
				log.Broken++
			}
		case err != nil:
			return nil, err
		default:
			log.Add(e)
		}
	}
}

// sayStrange says what about a recorded run makes the answer less sure.
func (a *app) sayStrange(info session.Info, root string, log *replay.Log) {
	if info.Repo != root {
		a.say("run %s was in %s; it is judged by the layers of %s", info.ID, info.Repo, root)
	}
	if info.Live {
		a.say("run %s goes on: this is what it did so far", info.ID)
	}
	for _, few := range []struct {
		n    uint64
		text string
	}{
		{log.Broken, "no events"},
		{log.Foreign, "of kinds that this agentbox does not know"},
		{log.Omitted, "too many different ones"},
	} {
		if few.n > 0 {
			a.say("warning: not judged: %s of the log (%s)", times(few.n, "line"), few.text)
		}
	}
}

func changeRows(changes []replay.Change) []changeRow {
	rows := []changeRow{}
	for _, c := range changes {
		rows = append(rows, changeRow{rowOf(c.Group), string(c.Was), c.Rule, c.Reason, string(c.Now.Action), c.Now.Rule, c.Now.Reason})
	}
	return rows
}

func rowOf(g replay.Group) requestRow {
	r := g.Request
	row := requestRow{Count: g.Count, Kind: "request", Host: r.Host.String(), Port: r.Port, Scheme: r.Scheme, Method: r.Method, Path: r.Path, Socket: r.WebSocket}
	switch {
	case g.Lookup:
		row.Kind = "lookup"
	case replay.Partial(r):
		row.Kind = "tunnel"
	}
	return row
}

func asideRows(asides []replay.Aside) []asideRow {
	rows := []asideRow{}
	for _, s := range asides {
		kind := "request"
		switch {
		case s.Kind == event.DNSRefused:
			kind = "lookup"
		case s.Kind != event.NetRequest:
			kind = string(s.Kind)
		}
		rows = append(rows, asideRow{requestRow{Count: s.Count, Kind: kind, Host: s.Host, Port: s.Port, Method: s.Method, Path: s.Path}, s.Text})
	}
	return rows
}

// text is a request on one line: "GET https://example.com/x".
func (r requestRow) text() string {
	at := place(event.HostPort{Host: r.Host, Port: r.Port})
	if r.Scheme == "https" && r.Port == 443 || r.Scheme == "http" && r.Port == 80 {
		at = printable(r.Host)
	}
	switch {
	case r.Kind == "lookup":
		return "look-up of " + printable(r.Host)
	case r.Kind == "tunnel" && r.Scheme == policy.TCP:
		return "raw connection to " + at
	case r.Kind == "tunnel":
		return "tunnel to " + at
	case r.Method == "" && r.Path == "":
		return "connection to " + at
	case r.Scheme == "":
		return printable(r.Method) + " " + at + printable(r.Path)
	}
	scheme := r.Scheme
	if r.Socket {
		scheme = map[string]string{"https": "wss", "http": "ws"}[scheme]
	}
	return printable(r.Method) + " " + scheme + "://" + at + printable(r.Path)
}

// longestList is how many lines of one kind are shown; --json has all.
const longestList = 40

func (a *app) writeReplay(r replayed) error {
	if len(r.Changes) == 0 {
		a.say("nothing changes: profile %s answers run %s as it was answered", r.Profile, r.Run)
	}
	var b strings.Builder
	for _, part := range grouped(r.Changes) {
		first := part[0]
		fmt.Fprintf(&b, "%s (%s) → %s (%s)  %s\n", first.Was, ruleName(first.WasRule), first.Now, ruleName(first.NowRule), place(event.HostPort{Host: first.Host, Port: first.Port}))
		listLines(&b, len(part), func(i int) string { return timesOf(part[i].Count, part[i].text()) })
		if first.Now != first.Was {
			fmt.Fprintf(&b, "          %s\n", escaped(first.NowReason))
		}
	}
	for _, part := range []struct {
		title string
		rows  []asideRow
	}{{"can't be judged again:", r.Unknown}, {"not for rules to settle:", r.Unsettled}} {
		if len(part.rows) > 0 {
			fmt.Fprintln(&b, part.title)
			listLines(&b, len(part.rows), func(i int) string {
				return timesOf(part.rows[i].Count, part.rows[i].text()+": "+printable(part.rows[i].Reason))
			})
		}
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}

func ruleName(rule string) string {
	if rule == "" {
		return "no rule"
	}
	return escaped(rule)
}

// grouped puts together what changes in the same way at the same place, in the order of the log.
func grouped(rows []changeRow) (parts [][]changeRow) {
	type key struct {
		was, wasRule, now, nowRule, host string
		port                             uint16
	}
	at := map[key]int{}
	for _, r := range rows {
		k := key{r.Was, r.WasRule, r.Now, r.NowRule, r.Host, r.Port}
		i, ok := at[k]
		if !ok {
			i = len(parts)
			at[k], parts = i, append(parts, nil)
		}
		parts[i] = append(parts[i], r)
	}
	slices.SortStableFunc(parts, func(a, b []changeRow) int { return sortVerdicts(a[0], b[0]) })
	return parts
}

// sortVerdicts puts what is denied now before what is allowed now.
func sortVerdicts(a, b changeRow) int {
	order := []string{"deny", "ask", "allow"}
	return slices.Index(order, a.Now) - slices.Index(order, b.Now)
}

func timesOf(n uint64, text string) string { return fmt.Sprintf("%6d×  %s", n, text) }

// listLines writes the first lines of a list, and how many there are beside.
func listLines(w io.Writer, n int, line func(int) string) {
	for i := range n {
		if i == longestList {
			fmt.Fprintf(w, "        … and %d more; --json lists them all\n", n-i)
			return
		}
		fmt.Fprintln(w, line(i))
	}
}
