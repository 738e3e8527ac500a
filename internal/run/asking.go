package run

import (
	"cmp"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/gate"
	"agentbox/internal/policy"
)

// Asking is how a person is asked about the requests of a run. The zero value has nobody to ask.
type Asking struct {
	Person gate.Person      // nil: nobody
	Limit  time.Duration    // how long a question waits for its answer; 0 is gate.DefaultLimit
	Asks   func(*gate.Gate) // is handed the gate, once, before anything is asked; may be nil
}

func (a Asking) gate(set policy.Set, log event.Sink) *gate.Gate {
	if a.Person == nil {
		return gate.New(set, log)
	}
	g := gate.NewAsking(set, log, a.Person, cmp.Or(a.Limit, gate.DefaultLimit))
	if a.Asks != nil {
		a.Asks(g)
	}
	return g
}
