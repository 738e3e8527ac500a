package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

const maxShown = 256 // bytes of what an agent sent that are repeated in an event or an answer

// refusal is an answer of agentbox's own, in the place of a server's.
type refusal struct {
	Status int    `json:"-"`
	Error  string `json:"error"`
	Host   string `json:"host"`
	Reason string `json:"reason"`
	ToDo   string `json:"what to do"`
}

// Values of the X-Agentbox header.
const (
	markDenied = "denied"
	markFailed = "failed"
)

func denied(status int, host, reason string) refusal {
	return refusal{status, "denied by agentbox", shorten(host), reason,
		"this is the boundary of the sandbox, not a fault of the network: do not try other ways around it; " +
			"if the task needs this, ask the person to allow it in the agentbox profile"}
}

func failed(host, reason string) refusal {
	return refusal{http.StatusBadGateway, "agentbox could not reach the host", shorten(host), reason,
		"nothing was sent; check that the host is up and that its certificate is valid, then try again"}
}

func unrecorded(host string) refusal {
	return refusal{http.StatusServiceUnavailable, "denied by agentbox", shorten(host),
		"the event log cannot be written, so nothing is let through", "the run is ending; tell the person"}
}

func (r refusal) mark() string {
	if r.Status == http.StatusBadGateway {
		return markFailed
	}
	return markDenied
}

func (r refusal) body() []byte {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(r); err != nil {
		return []byte(`{"error":"denied by agentbox"}` + "\n")
	}
	return buf.Bytes()
}

// response is the refusal as an answer to req, or to a CONNECT when req is nil: the connection then ends with it.
func (r refusal) response(req *http.Request) *http.Response {
	body := r.body()
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

// write answers with the refusal and ends the connection after it.
func (r refusal) write(w http.ResponseWriter) {
	body := r.body()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("X-Agentbox", r.mark())
	w.Header().Set("Connection", "close")
	w.WriteHeader(r.Status)
	_, _ = w.Write(body)
}

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
