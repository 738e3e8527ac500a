package modelserver

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// obj is a JSON object on its way out.
type obj = map[string]any

// json answers with v.
func (x *exchange) json(v any) {
	x.record()
	x.w.Header().Set("Content-Type", "application/json")
	x.w.WriteHeader(x.req.Status)
	_ = json.NewEncoder(x.w).Encode(v)
}

// fail answers with an error in a form that all the APIs' clients read.
func (x *exchange) fail(status int, kind, message string) {
	x.req.Status = status
	x.json(obj{
		"type":  "error",
		"error": obj{"type": kind, "message": message, "code": status, "status": strings.ToUpper(kind)},
	})
}

// stream is an answer of server-sent events.
type stream struct {
	w http.ResponseWriter
}

func (x *exchange) stream() stream {
	x.record()
	x.w.Header().Set("Content-Type", "text/event-stream")
	x.w.Header().Set("Cache-Control", "no-cache")
	x.w.WriteHeader(http.StatusOK)
	return stream{x.w}
}

// event sends v at once; name may be empty.
func (s stream) event(name string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		return // every v is built here of maps and strings
	}
	s.raw(name, string(b))
}

func (s stream) raw(name, data string) {
	if name != "" {
		_, _ = fmt.Fprintf(s.w, "event: %s\n", name)
	}
	_, _ = fmt.Fprintf(s.w, "data: %s\n\n", data)
	if f, ok := s.w.(http.Flusher); ok {
		f.Flush()
	}
}

func gunzip(r io.Reader) ([]byte, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, maxBody))
}

// modelList answers both OpenAI's and Anthropic's question for models, which share a path.
func modelList(r Request) obj {
	if r.Header.Get("Anthropic-Version") != "" {
		return obj{"data": []obj{{"type": "model", "id": "claude-sonnet-4-5", "display_name": "Claude Sonnet 4.5"}}, "has_more": false}
	}
	return obj{"object": "list", "data": []obj{{"object": "model", "id": "gpt-5", "owned_by": "test"}}}
}
