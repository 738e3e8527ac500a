package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"agentbox/internal/event"
	"agentbox/internal/eventlog"
	"agentbox/internal/session"
)

func newEvents(a *app) *cobra.Command {
	var asJSON, follow bool
	cmd := &cobra.Command{
		Use: "events [RUN]", Short: "Show what crossed the boundary of a run",
		Long: `Prints the events of a run, a line each; without RUN, of the latest. RUN is an id of agentbox ps, or its beginning.

Exit codes: 0 fine, 1 the log holds a line that is not an event, or there is no such run, 2 usage.`,
		Example: "  agentbox events -f\n  agentbox events --json | jq 'select(.decision == \"deny\")'",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, errors.New("agentbox events takes one run at most"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			info, err := a.session(args)
			if err != nil {
				return err
			}
			path := filepath.Join(info.Dir, session.EventsFile)
			show := func(e event.Event) error { return a.showEvent(e, asJSON) }
			if follow {
				return eventlog.Follow(cmd.Context(), path, 1, show)
			}
			return readEvents(path, show)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, an event a line")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run ends")
	return cmd
}

// session finds the run that args name, or the latest.
func (a *app) session(args []string) (session.Info, error) {
	paths, err := a.paths()
	if err != nil {
		return session.Info{}, err
	}
	if len(args) == 1 {
		return session.Find(paths, args[0])
	}
	all, err := session.List(paths)
	if err != nil {
		return session.Info{}, err
	}
	if len(all) == 0 {
		return session.Info{}, errors.New("there is no run yet")
	}
	return all[len(all)-1], nil
}

func readEvents(path string, show func(event.Event) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading the events: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	r := eventlog.NewReader(f)
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the events of %s: %w", path, err)
		}
		if err := show(e); err != nil {
			return err
		}
	}
}

func (a *app) showEvent(e event.Event, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(a.out).Encode(e)
	}
	_, err := fmt.Fprintln(a.out, eventLine(e))
	return err
}

// eventLine is an event on one line for a person.
func eventLine(e event.Event) string {
	line := fmt.Sprintf("%s %-18s", e.Time.Local().Format("15:04:05.000"), e.Kind)
	if e.Decision != "" {
		line += fmt.Sprintf(" %-5s", e.Decision)
	}
	if e.Alarm {
		line += " ALARM"
	}
	if e.Count > 1 {
		line += fmt.Sprintf(" %d×", e.Count)
	}
	if e.Host != "" {
		line += " " + place(event.HostPort{Host: e.Host, Port: e.Port})
	}
	for _, s := range []string{e.Method, e.Path, e.Credential} {
		if s != "" {
			line += " " + printable(s)
		}
	}
	if e.WebSocket {
		line += " (WebSocket)"
	}
	if e.Git != nil {
		line += fmt.Sprintf(" (git %s of %s %s)", printable(e.Git.Op), printable(e.Git.Repo), printable(strings.Join(e.Git.Refs, ", ")))
	}
	if e.Status != 0 {
		line += fmt.Sprintf(" %d, %s up, %s down, %d ms", e.Status, size(e.BytesUp), size(e.BytesDown), e.Millis)
	}
	if e.ExitCode != nil {
		line += fmt.Sprintf(" exit %d", *e.ExitCode)
	}
	for _, key := range slices.Sorted(maps.Keys(e.Detail)) {
		line += fmt.Sprintf(" %s=%s", key, printable(e.Detail[key]))
	}
	if e.Reason != "" {
		line = strings.TrimRight(line, " ") + ": " + printable(e.Reason)
	}
	return line
}
