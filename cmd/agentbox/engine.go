package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"agentbox/internal/hostinfo"
	"agentbox/internal/plan"
	"agentbox/internal/run"
	"agentbox/internal/run/podman"
)

// ready waits for the engine.
func ready(ctx context.Context, e *podman.Engine) error {
	const install = "install a newer Podman from your distribution, or upgrade the distribution"
	if err := e.Ready(ctx); err != nil {
		if strings.Contains(err.Error(), "API version is too old") { // the bindings refuse Podman 3
			return &run.Failure{Code: run.CodeFailed, Text: "this Podman is too old, and agentbox needs 4.3 or newer: " + err.Error(), Hint: install}
		}
		return &run.Failure{Code: run.CodeFailed, Text: err.Error(), Hint: `"agentbox doctor" finds out why`}
	}
	v, err := hostinfo.ParseVersion(e.Version())
	if err == nil && !v.AtLeast(4, 3) {
		return &run.Failure{Code: run.CodeFailed, Text: fmt.Sprintf("this is Podman %s, and agentbox needs 4.3 or newer", e.Version()),
			Hint: install}
	}
	return err
}

// checked is the engine, once it is ready and new enough.
type checked struct{ *podman.Engine }

// Create waits for the engine and makes a container.
func (c checked) Create(ctx context.Context, s run.Spec) (run.Container, error) {
	if err := ready(ctx, c.Engine); err != nil {
		return nil, err
	}
	return c.Engine.Create(ctx, s)
}

// connect begins to reach Podman and says what it can do here.
func (a *app) connect(ctx context.Context, o call, dir string) (*podman.Engine, plan.EngineFacts, error) {
	opts := podman.Options{URI: o.connection, Dir: dir, Look: o.dryRun && o.onHost(), Without: ownVariables(o.grants, o.config)}
	var gvisor, problem string
	if o.grants.Isolation.Runtime == "gvisor" {
		gvisor, problem = podman.FindGVisor(ctx)
	}
	if gvisor != "" {
		wrapper, err := podman.WrapGVisor(gvisor, dir)
		if err != nil {
			return nil, plan.EngineFacts{}, err
		}
		opts.OCIRuntime = wrapper
	}
	e, err := podman.Connect(ctx, opts)
	if errors.Is(err, podman.ErrNoPodman) {
		return nil, plan.EngineFacts{}, &run.Failure{Code: run.CodeFailed, Text: "Podman is not installed",
			Hint: "install Podman 4.3 or newer (Debian, Ubuntu: sudo apt install podman uidmap; Fedora: sudo dnf install podman)\n\"agentbox doctor\" then says whether it works"}
	}
	if err != nil {
		return nil, plan.EngineFacts{}, &run.Failure{Code: run.CodeFailed, Text: err.Error(), Hint: `"agentbox doctor" finds out why`}
	}
	facts := a.engineFacts(o.connection)
	facts.GVisorProblem = problem
	if gvisor != "" {
		facts.GVisor = "runsc"
	}
	return e, facts, nil
}
