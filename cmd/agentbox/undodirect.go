package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"agentbox/internal/direct"
	"agentbox/internal/event"
	"agentbox/internal/session"
)

// directDir is where a session keeps what a run in the direct mode may change and would execute later.
const directDir = "direct"

// changesTold bounds the events about what would execute later.
const changesTold = 500

// compare finds what the agent changed that the person's own tools would execute.
func (j *job) compare(ctx context.Context, record func(event.Event)) {
	dir := filepath.Join(j.session.Dir, directDir)
	var err error
	if j.changed, err = direct.Compare(ctx, j.ground.survey.Hidden, dir); err != nil {
		j.say("warning: %s", printable(err.Error()))
		return
	}
	if len(j.changed) == 0 {
		_ = os.RemoveAll(dir) // it goes with the session, at the latest
	}
	for i, c := range j.changed {
		if i == changesTold {
			record(event.Event{Kind: event.LaterChanged, Reason: fmt.Sprintf("and %d more", len(j.changed)-i)})
			return
		}
		record(event.Event{Kind: event.LaterChanged, Path: c.Path, Reason: c.Why, Detail: map[string]string{"what": c.What}})
	}
}

// tellChanged says so at the end of a run.
func (j *job) tellChanged() {
	for i, c := range j.changed {
		if i == summaryLines {
			fmt.Fprintf(j.err, "  executes    … and %d more\n", len(j.changed)-i)
			break
		}
		line := c.What + " " + printable(c.Path)
		if c.Why != "" && c.What != direct.Removed {
			line += ": " + c.Why
		}
		fmt.Fprintf(j.err, "  executes    %s\n", line)
	}
	if len(j.changed) > 0 {
		fmt.Fprintf(j.err, "  undo        agentbox undo %s  puts what executes back as it was\n", shortRun(j.session.Meta.ID))
	}
}

// changedDirectly reports whether a run was in the direct mode and changed what would execute later.
func changedDirectly(info session.Info) bool {
	list, err := direct.Changes(filepath.Join(info.Dir, directDir))
	return !errors.Is(err, fs.ErrNotExist) && (err != nil || len(list) > 0)
}

// pendingDirectly counts what can be put back of a run in the direct mode that has ended.
func pendingDirectly(info session.Info) int {
	if info.Live {
		return 0
	}
	n, err := direct.Pending(filepath.Join(info.Dir, directDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 1 // what can't be read, Undo complains of
	}
	return n
}

// undoDirect puts back what a run in the direct mode changed of what would execute later; paths are below the repository's
// top, none are all of it.
func (a *app) undoDirect(ctx context.Context, info session.Info, paths []string, asJSON bool) error {
	if info.Live {
		return &session.Problem{Err: fmt.Errorf("run %s has not ended", info.ID), Hint: "agentbox stop " + shortRun(info.ID) + " ends it"}
	}
	a.say("run %s (%s, direct mode): putting back what your own tools would execute as it was before the run, %s",
		shortRun(info.ID), printable(info.Profile), times(uint64(pendingDirectly(info)), "file"))
	list, err := direct.Undo(ctx, filepath.Join(info.Dir, directDir), paths)
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(list); err != nil {
			return err
		}
	}
	stays := 0
	for _, o := range list {
		switch {
		case !o.Done:
			stays++
			a.say("%s stays as it is: %s", printable(o.Path), printable(o.Why))
		case !asJSON:
			fmt.Fprintf(a.out, "put back  %s\n", printable(o.Path))
		}
	}
	if stays > 0 {
		return exitCode(exitFinding)
	}
	return nil
}
