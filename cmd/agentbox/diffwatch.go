package main

import (
	"context"
	"strings"
	"time"

	"agentbox/internal/changes"
)

// watchDiff shows the changes again whenever they are others, until the run ends.
func (a *app) watchDiff(ctx context.Context, o showOptions) error {
	l, err := a.leftBy(ctx, o.run, func(l leftover) bool { return l.info.Live || hasChanges(l) })
	if err != nil {
		return err
	}
	if o.paths, err = inRepo(l.source.Base.Root, o.paths); err != nil {
		return err
	}
	w := l.source.Watch()
	defer func() { _ = w.Close() }() // it only read
	seen := "nothing is seen yet"
	for {
		began := time.Now()
		if l.info, err = a.session([]string{l.info.ID}); err != nil { // first: what is listed of an ended run is all
			return err
		}
		if l.list, err = l.source.List(ctx); err != nil {
			return err
		}
		l.list = among(l.list, o.paths)
		if now := fingerprint(l.list); now != seen {
			seen = now
			if err := a.showDiff(ctx, o, l); err != nil {
				return err
			}
		}
		if !l.info.Live {
			a.say("run %s has ended", l.info.ID)
			return nil
		}
		if err := w.Wait(ctx, max(watchEvery, 4*time.Since(began))); err != nil {
			return err
		}
	}
}

// watchEvery is how often at most a run's changes are looked at. A look costs with what was changed, so that it takes a small
// part of the time however much that is.
const watchEvery = time.Second / 5

// among keeps the changes at and below paths; there may be none yet.
func among(list []changes.Change, paths []string) (out []changes.Change) {
	for _, c := range list {
		keep := len(paths) == 0
		for _, p := range paths {
			keep = keep || covers(p, c.Path)
		}
		if keep {
			out = append(out, c)
		}
	}
	return out
}

// fingerprint is another for other changes.
func fingerprint(list []changes.Change) string {
	var b strings.Builder
	for _, c := range list {
		b.WriteString(c.Path + "\x00" + c.Mark + "\x00" + string(c.Fate) + "\x00")
		if c.ChangedOutside {
			b.WriteString("outside")
		}
	}
	return b.String()
}
