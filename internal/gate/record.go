package gate

import (
	"strings"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// asEvent records an answer with all of the request that it rests on: agentbox replay judges it again.
func asEvent(r policy.Request, d policy.Decision) event.Event {
	decision := event.Deny
	if d.Allowed() {
		decision = event.Allow
	}
	return event.Event{
		Kind: event.NetRequest, Decision: decision, Host: r.Host.String(), Port: r.Port, Method: bounded(r.Method, maxWord), Path: bounded(r.Path, maxPath),
		Rule: d.Rule, Reason: d.Reason(), Via: r.Via, Scheme: r.Scheme, WebSocket: r.WebSocket, Size: r.Size,
		MethodBy: bounded(r.MethodBy, maxWord), PathBy: bounded(r.PathBy, maxWord), Git: gitEvent(r.Git),
	}
}

func gitEvent(r *policy.GitRequest) *event.Git {
	if r == nil {
		return nil
	}
	g := &event.Git{Repo: bounded(r.Repo, maxWord), Op: string(r.Op), Flaw: bounded(r.Flaw, maxWord)}
	for i, ref := range r.Refs {
		if i == maxRefs {
			g.Refs = append(g.Refs, event.Cut)
			break
		}
		g.Refs = append(g.Refs, string(ref.Kind)+" "+bounded(ref.Name, maxWord))
	}
	return g
}

// Bytes of what an agent chose that an event holds, and how many refs of a push.
const (
	maxPath = 1024
	maxWord = 256
	maxRefs = 32
)

func bounded(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + event.Cut
}
