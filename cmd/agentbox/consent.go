package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"agentbox/internal/plan"
	"agentbox/internal/profiles"
	"agentbox/internal/run"
	"agentbox/internal/trust"
)

// consent is what stands between a profile and a repository's say in it: how far the repository's layers, as they are
// now, widen the profile over what they were when the person last accepted them. A repository that was never accepted
// is held against the profile without it.
type consent struct {
	profile string
	repo    string
	files   map[string][]byte // the repository's layer files now
	record  trust.Record
	known   bool // there is a record
	alone   bool // the profile exists without the repository too
	wider   []plan.Change
	partial bool // not all of it could be judged: what holds today may hide something
	store   trust.Store
}

// settled reports whether there is nothing to ask.
func (c consent) settled() bool { return len(c.wider) == 0 }

// changed reports whether the files are other than those on record.
func (c consent) changed() bool {
	if !c.known {
		return len(c.files) > 0
	}
	return c.record.Hash != trust.Hash(c.files)
}

// accept records the files as they were read, when all that they widen was judged. Explicit says that the person was
// asked.
func (c consent) accept(explicit bool, now time.Time) error {
	if c.partial {
		return nil
	}
	_, err := c.store.Accept(trust.Acceptance{Repo: c.repo, Files: c.files, Base: c.record.Hash, Explicit: explicit, Time: now, Agentbox: version})
	return err
}

// trustStore keeps a profile's records: what is accepted for one is not for another.
func trustStore(state, profile string) trust.Store {
	return trust.Store{Dir: filepath.Join(state, "trust", profile)}
}

// consentTo compares a profile's grants with those of the accepted layers.
func (l layers) consentTo(p profiles.Profile, floors profiles.Floors, fl flags, now plan.Grants, build buildFile) (consent, error) {
	c := consent{profile: p.Name, repo: l.repo, files: build.among(l.snapshot), store: trustStore(l.state, p.Name)}
	var err error
	if c.record, c.known, err = c.store.Get(l.repo); err != nil {
		return c, err
	}
	if !c.changed() {
		return c, nil
	}
	before := l.files
	before.Repo = nil
	if c.known {
		before.Repo = trust.FS(c.record.Files)
	}
	c.wider, c.partial = l.wider(p, before, floors, fl, now)
	c.wider = append(l.named(c.wider), build.wider(c.record)...)
	return c, nil
}

// named says which remote "origin" is: who agrees to it agrees to that one.
func (l layers) named(wider []plan.Change) []plan.Change {
	for i, c := range wider {
		if c.Path == "network.use" && strings.HasSuffix(c.Text, "(origin)") {
			remote := originRemote(context.Background(), l.repo)
			wider[i].Text += ", which is " + cmp.Or(remote.String(), "none yet")
		}
	}
	return wider
}

// wider is what the repository's layers widen in this run, and under what holds now and may not tomorrow: flags, the
// organisation's policy, the person's own layers. The record outlives those, so that what they hide is asked about too.
// Partial says that the profile is none without the flags, so that what they hide cannot be judged. One that is none
// without the person's own layers is judged with them.
func (l layers) wider(p profiles.Profile, before profiles.Files, floors profiles.Floors, fl flags, now plan.Grants) (wider []plan.Change, partial bool) {
	type view struct{ was, now plan.Grants }
	views := []view{{baseline(p, before, floors, fl), now}}
	files := l.files
	for i := range 2 {
		loaded, err := profiles.Load(p.Name, files)
		var g plan.Grants
		if err == nil {
			g, err = plan.Grant(plan.GrantInputs{Profile: loaded.Profile})
		}
		if err == nil {
			views = append(views, view{baseline(loaded.Profile, before, profiles.Floors{}, flags{}), g})
		} else if i == 0 {
			partial = true
		}
		files.User, files.Grants, before.User, before.Grants = nil, nil, nil, nil
	}
	for i, v := range views {
		same := func(other view) bool { return reflect.DeepEqual(v, other) }
		if !slices.ContainsFunc(views[:i], same) { // mostly nothing is hidden, and a comparison may take its time
			wider = union(wider, plan.Widenings(plan.Diff(v.was, v.now)))
		}
	}
	return wider, partial
}

// union adds the changes that are not there yet.
func union(to, more []plan.Change) []plan.Change {
	seen := map[plan.Change]bool{}
	for _, c := range to {
		seen[c] = true
	}
	for _, c := range more {
		if !seen[c] {
			seen[c], to = true, append(to, c)
		}
	}
	return to
}

// baseline is what p's nearest relative grants among other layers: itself, what it extends, or nothing at all.
func baseline(p profiles.Profile, f profiles.Files, floors profiles.Floors, fl flags) plan.Grants {
	for i := len(p.Chain) - 1; i >= 0; i-- {
		loaded, err := profiles.Load(p.Chain[i], f)
		if missing := (*profiles.NotFound)(nil); errors.As(err, &missing) {
			continue
		}
		if err != nil {
			break
		}
		g, err := plan.Grant(plan.GrantInputs{Profile: loaded.Profile, Floors: floors, Timeout: fl.timeout, Mode: fl.mode})
		if err != nil {
			break
		}
		g.Profile = p.Name
		return g
	}
	return plan.Nothing()
}

// bullet puts the origin behind the text, or below it where the line would be too long.
func bullet(text, origin string) string {
	switch {
	case origin == "":
		return text + "\n"
	case len(text)+len(origin) > 76:
		return text + "\n      (" + origin + ")\n"
	}
	return text + "  (" + origin + ")\n"
}

// listed joins names for a person.
func listed(names []string) string { return strings.Join(names, ", ") }

// settle asks the person about what is wider, or refuses. What is not wider is recorded without a question, so that
// loosening it later asks.
func (a *app) settle(c consent) error {
	if !c.settled() {
		if err := a.askConsent([]consent{c}, c.alone); err != nil {
			return err
		}
	}
	return c.accept(!c.settled(), time.Now())
}

// dropped says what --no-repo-profile takes away from what held before. The person asked for it by name.
func (a *app) dropped(c consent) {
	for _, ch := range c.wider {
		a.say("warning: without the repository's layers this run %s", escaped(ch.Text))
	}
}

// askConsent shows what is wider and asks. An error says that the answer was no, or that there is nobody to ask.
func (a *app) askConsent(cs []consent, orRun bool) error {
	var about strings.Builder
	writeConsents(&about, cs)
	_, _ = io.WriteString(a.err, about.String()) // talk; the question shows it where it matters
	refusal := untrusted(orRun)
	yes, err := a.ask(about.String(), "Trust this, for this repository?")
	if errors.Is(err, errNobody) {
		refusal.Text += "; there is no terminal to ask at"
		return refusal
	}
	if err != nil {
		return err
	}
	if !yes {
		return refusal
	}
	return nil
}

// untrusted refuses what the person has not agreed to. OrRun says that there is a run without it.
func untrusted(orRun bool) *run.Failure {
	f := &run.Failure{Code: run.CodeRefused, Text: "this repository's layers widen what the agent may do, and are not trusted",
		Hint: `read them, then "agentbox trust" at a terminal`}
	if orRun {
		f.Hint += "\n--no-repo-profile runs without them, with your own and the built-in layers alone"
	}
	return f
}

const (
	screenful  = 20  // lines that a small terminal shows at once
	longestAsk = 600 // bytes of a line: no text may push the others off the screen
)

// short shows a line whole, or says how much of it is missing.
func short(text string) string {
	shown := escaped(text)
	if len(shown) <= longestAsk {
		return shown
	}
	return fmt.Sprintf("%s … and %d characters more, which only the file shows", strings.ToValidUTF8(shown[:longestAsk], ""), len(shown)-longestAsk)
}

// writeConsents says in plain words what is wider, each thing once.
func writeConsents(w io.Writer, cs []consent) {
	type item struct{ text, origin string }
	var order []item
	whose := map[item][]string{}
	known := false
	for _, c := range cs {
		known = known || c.known
		for _, ch := range c.wider {
			it := item{ch.Text, ch.Origin}
			if whose[it] == nil {
				order = append(order, it)
			}
			whose[it] = append(whose[it], c.profile)
		}
	}
	if len(order) == 0 {
		return
	}
	var b bytes.Buffer
	if known {
		fmt.Fprintf(&b, "Since you last accepted the layers of %s, they widen:\n", escaped(cs[0].repo))
	} else {
		fmt.Fprintf(&b, "The layers of %s widen:\n", escaped(cs[0].repo))
	}
	last := ""
	for _, it := range order {
		if heading := listed(whose[it]); heading != last {
			fmt.Fprintf(&b, "  %s\n", heading)
			last = heading
		}
		b.WriteString(bullet("  + "+short(it.text), escaped(it.origin)))
	}
	if len(order) > screenful {
		fmt.Fprintf(&b, "These are %d lines: read those that have scrolled away too.\n", len(order))
	}
	_, _ = io.Copy(w, &b) // talk; nothing depends on it
}
