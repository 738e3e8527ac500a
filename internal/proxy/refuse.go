package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"agentbox/internal/policy"
)

const maxShown = 256 // bytes of what an agent sent that are repeated in an event or an answer

// refusal is an answer of agentbox's own, in the place of a server's.
type refusal struct {
	Status int    `json:"-"`
	Error  string `json:"error"`
	Host   string `json:"host,omitempty"`
	Rule   string `json:"rule,omitempty"` // where the rule stands that decided
	Reason string `json:"reason"`
	ToDo   string `json:"what to do"`
	Allow  string `json:"allow,omitempty"` // what the person would write to allow it

	form *form // nil: JSON, or lines
}

// form is another shape of a refusal, for programs that show neither.
type form struct {
	status int
	kind   string // its media type
	body   []byte
}

// as gives the refusal another form; one without a body is none.
func (r *refusal) as(status int, kind string, body []byte) {
	if body != nil {
		r.form = &form{status, kind, body}
	}
}

// Values of the X-Agentbox header.
const (
	markDenied = "denied"
	markFailed = "failed"
)

// byNoRule is the Rule of decisions that no written rule made.
const byNoRule = "default"

// Codes of gRPC.
const (
	grpcPermissionDenied = "7"
	grpcUnavailable      = "14"
)

func denied(status int, host, reason string) refusal {
	return refusal{Status: status, Error: "denied by agentbox", Host: shorten(host), Reason: reason,
		ToDo: "this is the boundary of the sandbox, not a fault of the network: retrying will not help, and do not try " +
			"other ways around it; if the task needs this, ask the person to allow it in the agentbox profile"}
}

// deniedBy is the refusal of a request by the gate.
func (p *Proxy) deniedBy(d policy.Decision, request policy.Request) refusal {
	no := denied(http.StatusForbidden, request.Host.String(), d.Reason())
	no.Rule = d.Rule
	switch {
	case strings.HasPrefix(no.Reason, policy.PersonDenied):
		no.ToDo = "the person has answered: retrying will not help, and do not ask them again or try other ways around it; go on without this"
	case p.suggest != nil && (d.Rule == byNoRule || request.Git != nil): // where a rule denies, no other goes before it
		no.Allow = p.suggest(request)
	}
	if no.Allow != "" {
		no.ToDo += ": \"allow\" is the rule for it, ready to be put there by the person"
	}
	return no
}

func tooLarge(host string, d policy.Decision) *refusal {
	no := denied(http.StatusRequestEntityTooLarge, host,
		fmt.Sprintf("the body of a request to this host may have %d bytes (max_request), and this one has more", d.MaxRequest))
	no.Rule = d.Rule
	return &no
}

func spent(host string, d policy.Decision) *refusal {
	no := denied(http.StatusForbidden, host,
		fmt.Sprintf("this run may send %d bytes to this host (max_sent), and this would be more", d.MaxSent))
	no.Rule = d.Rule
	return &no
}

func failed(host, reason string) refusal {
	return refusal{Status: http.StatusBadGateway, Error: "agentbox could not reach the host", Host: shorten(host), Reason: reason,
		ToDo: "the request was allowed, and no answer came; check that the host is up and that its certificate is valid, then try again"}
}

func unrecorded(host string) refusal {
	return refusal{Status: http.StatusServiceUnavailable, Error: "denied by agentbox", Host: shorten(host),
		Reason: "the event log cannot be written, so nothing is let through", ToDo: "the run is ending; retrying will not help; tell the person"}
}

func (r refusal) mark() string {
	if r.Status == http.StatusBadGateway {
		return markFailed
	}
	return markDenied
}

// body is the text of the refusal: JSON, or lines for people.
func (r refusal) body(plain bool) []byte {
	for _, s := range []*string{&r.Host, &r.Rule, &r.Reason, &r.ToDo} {
		*s = visible(*s)
	}
	if plain {
		return r.lines()
	}
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(r); err != nil {
		return []byte(`{"error":"denied by agentbox"}` + "\n")
	}
	return buf.Bytes()
}

func (r refusal) lines() []byte {
	var buf bytes.Buffer
	fmt.Fprintf(&buf, "%s: %s\n%s\n", r.Error, r.Host, r.Reason)
	if r.Rule != "" {
		fmt.Fprintf(&buf, "rule: %s\n", r.Rule)
	}
	fmt.Fprintf(&buf, "%s\n", r.ToDo)
	if r.Allow != "" {
		fmt.Fprintf(&buf, "\n%s\n", strings.TrimRight(r.Allow, "\n"))
	}
	return buf.Bytes()
}

// prefersPlain reports whether who asks wants lines: git shows its user only those.
func prefersPlain(h http.Header) bool {
	if strings.HasPrefix(h.Get("User-Agent"), "git/") {
		return true
	}
	accept := strings.ToLower(strings.Join(h["Accept"], ","))
	for part := range strings.SplitSeq(accept, ",") {
		kind, _, _ := strings.Cut(part, ";")
		switch strings.TrimSpace(kind) {
		case "text/plain":
			return true
		case "application/json", "*/*", "application/*":
			return false
		}
	}
	return false
}

// response is the refusal as an answer to req, or to a CONNECT when req is nil: the connection then ends with it.
func (r refusal) response(req *http.Request) *http.Response {
	body := r.body(false)
	return &http.Response{
		Status:     fmt.Sprintf("%d %s", r.Status, http.StatusText(r.Status)),
		StatusCode: r.Status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type":   {"application/json"},
			"Content-Length": {strconv.Itoa(len(body))},
			"X-Agentbox":     {r.mark()},
		},
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       req,
		Close:         req == nil,
	}
}

// end answers with the refusal and ends the connection after it, where it carries one request at a time.
func (r refusal) end(w http.ResponseWriter, req *http.Request) {
	if _, one := w.(*answer1); one {
		w.Header().Set("Connection", "close")
	}
	r.write(w, req)
}

// write answers req with the refusal; nil is a request that could not be read.
func (r refusal) write(w http.ResponseWriter, req *http.Request) {
	header := w.Header()
	header.Set("X-Agentbox", r.mark())
	if req != nil && req.ProtoMajor == 2 && strings.HasPrefix(req.Header.Get("Content-Type"), "application/grpc") {
		r.writeGRPC(w)
		return
	}
	shape := r.shape(req != nil && prefersPlain(req.Header))
	header.Set("Content-Type", shape.kind)
	header.Set("Content-Length", strconv.Itoa(len(shape.body)))
	if a, ours := w.(*answer1); ours {
		a.c.body.settle() // what lies ready of a refused request's body is nobody's any more
	}
	w.WriteHeader(shape.status)
	if req == nil || req.Method != http.MethodHead {
		_, _ = w.Write(shape.body)
	}
}

const plainText = "text/plain; charset=utf-8"

// shape is what is sent.
func (r refusal) shape(plain bool) form {
	switch {
	case r.form != nil:
		return *r.form
	case plain:
		return form{r.Status, plainText, r.body(true)}
	}
	return form{r.Status, "application/json", r.body(false)}
}

// writeGRPC answers with trailers only, as gRPC's clients want it.
func (r refusal) writeGRPC(w http.ResponseWriter) {
	code := grpcPermissionDenied
	if r.mark() == markFailed {
		code = grpcUnavailable
	}
	header := w.Header()
	header.Set("Content-Type", "application/grpc")
	header.Set("Grpc-Status", code)
	header.Set("Grpc-Message", grpcText(r.Error+": "+r.Reason+"; "+r.ToDo))
	w.WriteHeader(http.StatusOK)
}

// grpcText encodes a message as gRPC's header of that name wants it.
func grpcText(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// visible shows control characters, and others that print nothing, as escapes.
func visible(s string) string {
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }

// shorten bounds text that an agent chose.
func shorten(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= maxShown {
		return s
	}
	cut := maxShown
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
