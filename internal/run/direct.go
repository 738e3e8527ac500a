package run

import (
	"context"

	"agentbox/internal/direct"
)

// remember looks, beside whatever else there is to do, at what would execute later: after it the agent changes the very
// files.
func (x *execution) remember(ctx context.Context) {
	if x.Direct == "" {
		return
	}
	x.looking = make(chan error, 1)
	go func() { x.looking <- direct.Remember(ctx, x.Repo.Root, x.Survey.Hidden, x.Direct) }()
}

// known waits for what is recorded about the repository, before the agent starts and before the run is over.
func (x *execution) known() error {
	if x.looking == nil {
		return nil
	}
	err := <-x.looking
	x.looking <- err
	return err
}
