package podman

import (
	"context"
	"fmt"

	"github.com/containers/podman/v5/pkg/bindings/containers"
)

// RunLabel is on every container of a run, with the run's id.
const RunLabel = "agentbox.run"

// Found is a container of a run, running or not.
type Found struct{ Name, Run string }

// Runs lists the containers that carry RunLabel.
func (e *Engine) Runs(ctx context.Context) (out []Found, err error) {
	conn, stop, err := e.with(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	list, err := containers.List(conn, new(containers.ListOptions).WithAll(true).WithFilters(map[string][]string{"label": {RunLabel}}))
	if err != nil {
		return nil, fmt.Errorf("listing containers: %w", plain(err))
	}
	for _, c := range list {
		f := Found{Name: c.ID, Run: c.Labels[RunLabel]}
		if len(c.Names) > 0 {
			f.Name = c.Names[0]
		}
		out = append(out, f)
	}
	return out, nil
}
