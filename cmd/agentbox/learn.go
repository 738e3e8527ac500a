package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"agentbox/internal/learn"
	"agentbox/internal/plan"
	"agentbox/internal/profiles"
	"agentbox/internal/replay"
	"agentbox/internal/session"
)

type learnOptions struct {
	run, profile, into  string
	accept, broad, json bool
}

func newLearn(a *app) *cobra.Command {
	o := learnOptions{}
	cmd := &cobra.Command{
		Use: "learn RUN", Short: "Propose the least that would allow what a run tried",
		Long: `Takes what a run tried and the profile, as it is now in this repository, does not allow, and prints the tightest change that
would let it pass, as a diff: exact hosts, ports, methods and paths. Where at least four paths differ in one segment alone, a
pattern stands for them, and what it allows beyond them is said. A terminal is asked before anything is written; without one,
nothing is, unless --accept says so. What was asked for may be what an attacker wanted: read it first.

Never learned, and named with the reason: what a rule denies or asks about, what the organisation's policy or a built-in
denial stands against, addresses in place of names, names that look like data on their way out, placeholders of credentials
where they do not belong, and what the log holds only in part.

--into says where it goes: "grants", for you in this repository, whatever the profile; "user", your own file of the
profile; "repo", .agentbox/NAME.toml, which everybody who uses it is asked to trust. Named sets are proposed for the last two.

Exit codes: 0 written, or there is nothing to learn; 1 there is something, and it was not written, or a failure; 2 usage.`,
		Example: "  agentbox learn x7k2\n  agentbox learn x7k2 --profile billing --into repo --accept",
		Args:    exactly(1, "one run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(intos, o.into) {
				return usage(cmd, fmt.Errorf("--into takes grants, user or repo, not %q", o.into))
			}
			o.run = args[0]
			return a.learn(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.profile, "profile", "", "the profile to change; without it, the one of the run")
	f.StringVar(&o.into, "into", "grants", "what to change: grants, user or repo")
	f.BoolVar(&o.accept, "accept", false, "write it without asking")
	f.BoolVar(&o.broad, "broad", false, "propose wider patterns: whole trees of paths, and patterns for methods that write")
	f.BoolVar(&o.json, "json", false, "print JSON, and ask nothing")
	return cmd
}

var intos = []string{"grants", "user", "repo"}

// lesson is a proposal with where it would go, and what it comes to there.
type lesson struct {
	info     session.Info
	log      *replay.Log
	profile  string
	proposal learn.Proposal
	file     lessonFile
	was, is  []byte // the file; was is nil when there is none
	before   plan.Grants
	after    plan.Grants
	changes  []plan.Change // between the two
}

func (a *app) learn(cmd *cobra.Command, o learnOptions) error {
	defer uncollected()()
	l, err := a.study(cmd.Context(), o)
	if err != nil {
		return err
	}
	written := false
	if !o.json {
		err = a.writeLesson(l)
	}
	if err == nil && !l.proposal.Empty() {
		written, err = a.consider(cmd.Context(), o, l)
	}
	if o.json {
		err = errors.Join(err, encodeJSON(a.out, l.report(written)))
	}
	if err == nil && !written && !l.proposal.Empty() {
		return exitCode(exitFinding)
	}
	return err
}

// study reads the run and makes the proposal, proven on the layers as they would be.
func (a *app) study(ctx context.Context, o learnOptions) (lesson, error) {
	info, log, err := a.recorded(o.run)
	if err != nil {
		return lesson{}, err
	}
	paths, repo, err := a.here()
	if err != nil {
		return lesson{}, err
	}
	if info.Repo != repo.Root {
		return lesson{}, &usageError{fmt.Errorf("run %s was in %s, and this is %s", info.ID, info.Repo, repo.Root), "cd " + quoteWord(info.Repo)}
	}
	l := lesson{info: info, log: log, profile: cmp.Or(o.profile, info.Profile)}
	d, layers, err := a.decided(l.profile, repo.Root)
	if err != nil {
		return l, err
	}
	a.sayStrange(info, repo.Root, log)
	l.before = bound(ctx, d.grants, repo.Root)
	l.file = a.targetOf(o.into, l.profile, paths, repo.Root, layers)
	in := learn.Input{Rules: l.before.Network, Log: log, Broad: o.broad, NoWrites: l.before.NoWrites()}
	if o.into != "grants" { // which hold rules alone
		in.Sets = slices.DeleteFunc(layers.files.NamedSets(), func(s profiles.NamedSet) bool { return slices.Contains(l.before.Use, s.Name) })
	}
	if err := l.propose(in); err != nil || l.proposal.Empty() {
		return l, err
	}
	return l, a.prove(ctx, &l, layers, log)
}

// propose makes the proposal and the file with it.
func (l *lesson) propose(in learn.Input) (err error) {
	if l.proposal = learn.Propose(in); l.proposal.Empty() {
		return nil
	}
	l.was, l.is, err = l.file.draft(l.proposal)
	if errors.Is(err, errUse) {
		in.Sets = nil
		return l.propose(in)
	}
	return err
}

// prove loads the layers as they would be, and holds the whole run against them: what is to be learned is allowed, and
// everything else is answered as before.
func (a *app) prove(ctx context.Context, l *lesson, layers layers, log *replay.Log) error {
	floors, err := readFloors(policyFile)
	if err != nil {
		return err
	}
	d, err := l.file.overlaid(layers, l.is).decide(l.profile, floors, flags{})
	if err != nil {
		return fmt.Errorf("trying the change, which is not written: %w", err)
	}
	l.after = bound(ctx, d.grants, layers.repo)
	l.changes = plan.Diff(l.before, l.after)
	return l.holds(log)
}

// holds checks the promise of a lesson by judging the whole log before and after.
func (l *lesson) holds(log *replay.Log) error {
	learned := map[int]bool{}
	for _, g := range l.proposal.Learned {
		learned[g.Order] = true
	}
	before, after := l.before.Network.Compile(), l.after.Network.Compile()
	hosts := map[string]bool{}
	for _, g := range l.proposal.Learned {
		hosts[g.Request.Host.String()] = true
	}
	for _, g := range log.Groups {
		was, wasErr := replay.Judge(before, g)
		is, isErr := replay.Judge(after, g)
		what := rowOf(g).text()
		switch {
		case learned[g.Order]:
			if isErr != nil || is.Action != "allow" {
				return fmt.Errorf("trying the change, which is not written: %s would still be refused: %s", what, is.Reason)
			}
		case g.Lookup && hosts[g.Request.Host.String()]: // its name has to be found
		case was.Action != is.Action || (wasErr == nil) != (isErr == nil):
			return fmt.Errorf("trying the change, which is not written: it would change the answer to %s too, from %s to %s", what, was.Action, is.Action)
		}
	}
	for _, c := range l.changes {
		if c.Path != "network" && c.Path != "network.use" {
			return fmt.Errorf("trying the change, which is not written: it would change more than rules: %s", c.Text)
		}
	}
	return nil
}

// consider writes the change when a person, or --accept, says so.
func (a *app) consider(ctx context.Context, o learnOptions, l lesson) (written bool, err error) {
	if !o.accept {
		if o.json {
			return false, nil
		}
		name, _ := l.file.names()
		yes, err := a.ask(escapedLines(l.diff()), "write this to "+name+"?")
		if errors.Is(err, errNobody) {
			a.say("nothing is written; --accept writes it")
			return false, nil
		}
		if err != nil || !yes {
			return false, err
		}
	}
	name, _ := l.file.names()
	if err := l.file.write(l.was, l.is); err != nil {
		return false, err
	}
	if err := a.reread(ctx, l); err != nil {
		return true, err
	}
	a.say("written to %s: what was to be learned of run %s is allowed now, and nothing else of it changes", name, l.info.ID)
	a.say("%s", l.file.next())
	return true, nil
}

// reread reads what was written back through every layer.
func (a *app) reread(ctx context.Context, l lesson) error {
	d, layers, err := a.decided(l.profile, l.info.Repo)
	if err != nil {
		return fmt.Errorf("reading the layers again, after the file was written: %w", err)
	}
	if now := bound(ctx, d.grants, layers.repo); !reflect.DeepEqual(now.Network, l.after.Network) {
		return &usageError{errors.New("the rules are not what was shown: something else changed while the file was written"), "agentbox replay " + l.info.ID}
	}
	return nil
}

// diff is what would be written.
func (l lesson) diff() string {
	_, name := l.file.names()
	old := name
	if rel, ok := strings.CutPrefix(name, "b/"); ok {
		old = "a/" + rel
	}
	if l.was == nil {
		old = "/dev/null"
	}
	return learn.Unified(old, name, string(l.was), string(l.is))
}

// writeLesson prints the diff on standard output, and what it means on standard error.
func (a *app) writeLesson(l lesson) error {
	l.explain(a.err)
	if l.proposal.Empty() {
		a.say("there is nothing to learn from run %s for profile %s", l.info.ID, l.profile)
		return nil
	}
	_, err := io.WriteString(a.out, escapedLines(l.diff())) // what a repository's file has may redraw the screen
	return err
}
