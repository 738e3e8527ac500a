package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"agentbox/internal/changes"
	"agentbox/internal/tui"
)

type showOptions struct {
	run      string
	paths    []string // below the repository's top, once the run is known
	watch    bool
	stat     bool
	json     bool
	exitCode bool
}

func newDiff(a *app) *cobra.Command {
	o := &showOptions{}
	cmd := &cobra.Command{
		Use: "diff [RUN] [PATHS...]", Short: "Show what a run changed",
		Long: `Shows what an agent changed in its copy of the repository, as a patch that git apply takes: while the run goes on, and
afterwards for as long as it is kept. Without RUN it is the latest run of this repository that changed something; RUN is an id of
agentbox ps --all, or its beginning. PATHS are as for git; what could be mistaken for a run stands behind "--".

Binary files of up to 32 MiB are in it, as git diff --binary writes them. On a terminal what could mislead it is written out,
and of binary files only the size. What no patch can say (directories, what is never applied, what is too large) stands in lines
that begin with "#".

Exit codes: 0 fine, 1 nothing to show it of (or, with --exit-code, there are changes), 2 usage.`,
		Example: "  agentbox diff\n  agentbox diff --stat\n  agentbox diff x7k2 src | git apply --check\n  agentbox diff --watch --stat",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.stat && o.json {
				return usage(cmd, errors.New("--stat and --json are two ways to show it"))
			}
			if o.run, o.paths, err = a.runAndPaths(cmd, args); err != nil {
				return err
			}
			if o.watch {
				return a.watchDiff(cmd.Context(), *o)
			}
			return a.diff(cmd.Context(), *o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.watch, "watch", "w", false, "go on, and show it again whenever something changes, until the run ends")
	f.BoolVar(&o.stat, "stat", false, "only which files, and how much of them")
	f.BoolVar(&o.json, "json", false, "the changes as JSON, an object a line")
	f.BoolVar(&o.exitCode, "exit-code", false, "exit with 1 when there are changes")
	return cmd
}

func (a *app) diff(ctx context.Context, o showOptions) error {
	l, err := a.leftBy(ctx, o.run, hasChanges)
	if err != nil {
		return err
	}
	if o.paths, err = inRepo(l.source.Base.Root, o.paths); err != nil {
		return err
	}
	if l.list, err = only(l.list, o.paths); err != nil {
		return err
	}
	if err := a.showDiff(ctx, o, l); err != nil {
		return err
	}
	if o.exitCode && len(l.list) > 0 {
		return exitCode(exitFinding)
	}
	return nil
}

// showDiff prints the changes in the way that was asked for.
func (a *app) showDiff(ctx context.Context, o showOptions, l leftover) error {
	switch {
	case o.json:
		return a.diffJSON(l)
	case len(l.list) == 0:
		a.say("run %s changed nothing", l.info.ID)
		return nil
	case o.stat:
		return writeStat(a.out, l.list)
	}
	w := bufio.NewWriter(a.out)
	p := patch{w: w, source: l.source, terminal: term.IsTerminal(int(a.out.Fd()))}
	p.note = func(text string) { a.say("%s", text) }
	p.colour = p.terminal && a.getenv("NO_COLOR") == ""
	for _, c := range l.list {
		if err := p.write(ctx, c); err != nil {
			return err
		}
	}
	return w.Flush()
}

// changed is what --json shows.
type changed struct {
	Run     string           `json:"run"`
	Repo    string           `json:"repo"`
	Live    bool             `json:"live"`
	Changes []changes.Change `json:"changes"`
}

func (a *app) diffJSON(l leftover) error {
	list := l.list
	if list == nil {
		list = []changes.Change{}
	}
	return json.NewEncoder(a.out).Encode(changed{l.info.ID, l.source.Base.Root, l.info.Live, list})
}

// writeStat lists the changes. What would execute later comes first, by itself; what is never applied last.
func writeStat(to io.Writer, list []changes.Change) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	usual, later, never := sorted(list)
	for _, part := range []struct {
		head string
		list []changes.Change
	}{{"would execute later, when your own tools find it:", later}, {"changes:", usual}, {"never applied:", never}} {
		if len(part.list) == 0 {
			continue
		}
		if len(part.list) < len(list) || len(usual) == 0 {
			fmt.Fprintln(w, part.head)
		}
		for _, c := range part.list {
			fmt.Fprintln(w, statLine(c))
		}
	}
	fmt.Fprintln(w, tui.Summary(list))
	return w.Flush()
}

// sorted takes the changes apart as a person looks at them.
func sorted(list []changes.Change) (usual, later, never []changes.Change) {
	for _, c := range list {
		switch {
		case c.Fate != changes.Applies:
			never = append(never, c)
		case c.Later != "":
			later = append(later, c)
		default:
			usual = append(usual, c)
		}
	}
	return usual, later, never
}

func statLine(c changes.Change) string {
	var notes []string
	for _, n := range []string{c.Later, c.Why} {
		if n != "" {
			notes = append(notes, tui.Escaped(n))
		}
	}
	if c.ChangedOutside {
		notes = append(notes, "changed here too")
	}
	line := fmt.Sprintf("  %s %s\t%s\t%s", tui.Status(c), tui.Escaped(c.Path), tui.Counts(c), strings.Join(notes, "; "))
	return strings.TrimRight(line, "\t ")
}

// hasLater reports whether something would execute later.
func hasLater(list []changes.Change) bool {
	return slices.ContainsFunc(list, func(c changes.Change) bool { return c.Later != "" && c.Fate == changes.Applies })
}
