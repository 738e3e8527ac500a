package proxy

import (
	"net/http"

	"agentbox/internal/policy"
)

// gitRequest says what req does to a git repository, nil where it is no request of git's. It is called once for each
// request, before the gate is asked. It may read the beginning of req.Body to find out, and then puts a body in its
// place that gives those bytes again; what it puts there is what is counted and forwarded.
func (x *exchange) gitRequest(_ *http.Request) *policy.GitRequest { return nil }
