package main

import (
	"context"
	"path/filepath"

	"agentbox/internal/run"
	"agentbox/internal/run/podman"
	"agentbox/internal/session"
	"agentbox/internal/workspace"
)

// clearing removes what a container may have written.
func clearing(ctx context.Context) func(dir string) error {
	return func(dir string) error { return podman.RemoveAll(ctx, dir) }
}

// removed removes a dead run's container. Its work stays, without what the kernel kept beside it while it was mounted.
func removed(ctx context.Context, e *podman.Engine, i session.Info) error {
	if err := e.Remove(ctx, i.Container); err != nil {
		return err
	}
	if err := podman.RemoveAll(ctx, filepath.Join(i.RuntimeDir, "root")); err != nil { // where Podman made mount points of its own
		return err
	}
	if err := session.ClearBroken(i, clearing(ctx)); err != nil {
		return err
	}
	return workspace.Unmounted(filepath.Join(i.Dir, session.WorkDir), clearing(ctx))
}

// keepWork keeps what the agent changed, and removes the layer of a run that has changed nothing or never began. When in
// doubt it is kept.
func (j *job) keepWork(ctx context.Context, began bool) (kept bool) {
	if !session.HasWork(j.session.Dir) {
		began = false // it was never whole
	}
	work := filepath.Join(j.session.Dir, session.WorkDir)
	if err := workspace.Unmounted(work, clearing(ctx)); err != nil {
		j.say("%s", printable(err.Error()))
	}
	if began {
		changed, err := run.Changed(context.WithoutCancel(ctx), work)
		if err != nil {
			j.say("looking for what the agent changed: %s", printable(err.Error()))
		}
		if changed {
			return true
		}
	}
	if err := j.session.DiscardWork(clearing(ctx)); err != nil {
		j.say("removing what the run in the review mode left: %s", printable(err.Error()))
	}
	return false
}
