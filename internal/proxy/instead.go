package proxy

import (
	"net/http"
	"strconv"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// Answerer is an Injector that answers some requests itself, in the place of their host: nothing of them goes further. They
// are judged like all others first.
type Answerer interface {
	// Answers reports whether requests for a path, as it is written, are for it.
	Answers(host policy.Host, path string) bool

	// Answer gives JSON and the name of the credential that it is about, or refuses the request as Inject does.
	Answer(req *http.Request, host policy.Host, overTLS bool) (body []byte, credential string, err error)
}

// answerer gives what answers req, or nil when the host does.
func (x *exchange) answerer(req *http.Request) Answerer {
	if a, ok := x.proxy.injector.(Answerer); ok && a.Answers(x.target.host, pathOf(req)) {
		return a
	}
	return nil
}

// instead answers req in the place of its host, once that is recorded.
func (x *exchange) instead(w http.ResponseWriter, req *http.Request) *refusal {
	body, credential, err := x.own.Answer(req, x.target.host, x.target.scheme == "https")
	if over := x.over.Load(); over != nil {
		return over
	}
	if no := x.noteUse(credential, err, event.Event{Reason: "answered by agentbox in the place of the host"}); no != nil {
		return no
	}
	x.status = http.StatusOK
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(x.status)
	n, _ := w.Write(body) // whoever asked may be gone
	x.down.Add(int64(n))
	return nil
}
