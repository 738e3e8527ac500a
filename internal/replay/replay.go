// Package replay judges a recorded run again: it makes of an event the request that was judged, and says what another
// set of rules answers to it.
//
// It owns the way back from the log to policy, and promises to guess nothing: what the log holds only in part is given
// back as unknown, with the reason, and never judged as if it were all. Its memory is bounded, whatever an agent put
// into the log. It is pure: the caller reads the log, and gives the rules.
package replay

import (
	"errors"
	"strings"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// Why an event can't be made into the request that it was.
var (
	errNotRequest = errors.New("it is no request")
	errCut        = errors.New("its path is too long for the log, which holds the beginning alone")
	errCutWord    = errors.New("a part of it is too long for the log, which holds the beginning alone")
	errNoScheme   = errors.New("the log does not say whether it was https: an older agentbox wrote it")
	errName       = errors.New("it asks for something that is no name a rule could hold")
	errGit        = errors.New("what it does to a git repository is not recorded in a way that this agentbox reads")
)

// Request is the request that an event is about, as it was judged. The error says in a few words why it can't be told.
func Request(e event.Event) (policy.Request, error) {
	if e.Kind != event.NetRequest {
		return policy.Request{}, errNotRequest
	}
	host, err := policy.ParseHost(e.Host)
	if err != nil || host.String() != e.Host {
		return policy.Request{}, errName
	}
	r := policy.Request{
		Host: host, Port: e.Port, Scheme: e.Scheme, Method: e.Method, Path: e.Path, Via: e.Via,
		MethodBy: e.MethodBy, PathBy: e.PathBy, WebSocket: e.WebSocket, Size: e.Size,
	}
	switch partial := Partial(r); {
	case isCut(e.Path):
		return r, errCut
	case isCut(e.Method), isCut(e.MethodBy), isCut(e.PathBy):
		return r, errCutWord
	case r.Scheme == "" && !partial && r.Port == 443: // nothing but TLS goes to 443
		r.Scheme = "https"
	case r.Scheme == "" && !partial:
		return r, errNoScheme
	}
	r.Git, err = gitRequest(e.Git)
	return r, err
}

// Partial reports whether a request is a tunnel, or a connection, whose requests are not known.
func Partial(r policy.Request) bool {
	return r.Path == "" && (r.Method == "" || r.Method == "CONNECT")
}

func isCut(s string) bool { return strings.HasSuffix(s, event.Cut) }

func gitRequest(g *event.Git) (*policy.GitRequest, error) {
	if g == nil {
		return nil, nil
	}
	out := &policy.GitRequest{Repo: g.Repo, Op: policy.GitOp(g.Op), Flaw: g.Flaw}
	if isCut(g.Repo) || isCut(g.Flaw) {
		return nil, errCutWord
	}
	if out.Op != policy.GitFetch && out.Op != policy.GitPush {
		return nil, errGit
	}
	for _, text := range g.Refs {
		kind, name, ok := strings.Cut(text, " ")
		if isCut(text) {
			return nil, errCutWord
		}
		if !ok {
			return nil, errGit
		}
		out.Refs = append(out.Refs, policy.RefUpdate{Name: name, Kind: policy.RefKind(kind)})
	}
	return out, nil
}
