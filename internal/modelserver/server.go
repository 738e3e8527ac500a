package modelserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// maxBody bounds the request bodies that are read and recorded, in bytes.
const maxBody = 64 << 20

// Task is what the server has an agent do.
type Task struct {
	File    string // name of the file to write; if relative, below the agent's working directory
	Content string // what the file is to hold
	Command string // what the agent's shell tool is to run, in sh syntax
	Final   string // the last message, after which the agent has nothing left to do
}

// DefaultTask is used for a Config whose Task names no file.
func DefaultTask() Task {
	return Task{
		File:    "hello.txt",
		Content: "hello from the model\n",
		Command: "cat hello.txt && echo ran > ran.txt",
		Final:   "The task is complete.",
	}
}

// Config says how a Server listens, whom it answers and what it asks for.
type Config struct {
	Addr  string        // "host:port"; empty means 127.0.0.1 and a free port
	Key   string        // the API key that model calls must carry, else 401; empty accepts any
	Task  Task          // zero means DefaultTask
	Hosts []string      // names for the certificate, besides DefaultHosts
	Plain bool          // speak HTTP without TLS, as model servers on a person's own machine do
	Login *Login        // model calls with an access token of it are answered too; nil: there are no logins
	OnAsk func(Request) // called before a request is answered; may block; its Status is not known yet
}

// Request is one request as it arrived.
type Request struct {
	Method string
	Host   string // as in the Host header, without a port
	Path   string // with the query
	Proto  string // "HTTP/1.1" or "HTTP/2.0"
	Header http.Header
	Body   []byte
	Status int // of the answer

	// Turn says what was asked of the model: 1 the file, 2 the command, 3 the final words; 0 for everything else
	// (a title, a quota check, telemetry).
	Turn int
	// Results holds the tool results that the conversation showed since the person's last message, oldest first.
	Results []string
}

// Key is the API key that the request carries, in whichever slot its API uses, or empty.
func (r Request) Key() string {
	for _, name := range []string{"X-Api-Key", "X-Goog-Api-Key"} {
		if v := r.Header.Get(name); v != "" {
			return v
		}
	}
	if v, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return v
	}
	return ""
}

// Server is a running model API.
type Server struct {
	cfg   Config
	ca    *authority
	ln    net.Listener
	http  *http.Server
	ended chan struct{}

	mu       sync.Mutex
	requests []Request
	ids      int
}

// Start listens, with TLS unless it is to be plain, and serves until Close.
func Start(cfg Config) (*Server, error) {
	if cfg.Task.File == "" {
		cfg.Task = DefaultTask()
	}
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	ca, err := newAuthority(append(DefaultHosts(), cfg.Hosts...))
	if err != nil {
		return nil, fmt.Errorf("making the model server's certificates: %w", err)
	}
	ln, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listening for the model server: %w", err)
	}
	s := &Server{cfg: cfg, ca: ca, ln: ln, ended: make(chan struct{})}
	s.http = &http.Server{
		Handler:           s,
		TLSConfig:         ca.serverConfig(),
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go func() {
		defer close(s.ended)
		if cfg.Plain {
			_ = s.http.Serve(ln)
			return
		}
		_ = s.http.ServeTLS(ln, "", "")
	}()
	return s, nil
}

// Close ends the server, cutting what is still open, and waits for its listener.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.ended
	return err
}

// Addr is where the server listens, as "127.0.0.1:port".
func (s *Server) Addr() string { return s.ln.Addr().String() }

// CAPEM is the certificate that a client must trust.
func (s *Server) CAPEM() []byte { return s.ca.pem }

// Task is the task that the server hands out.
func (s *Server) Task() Task { return s.cfg.Task }

// Requests is a copy of the record so far, in the order of the answers.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// ServeHTTP answers one request and records it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{server: s, w: w, req: recordOf(r)}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		x.fail(http.StatusBadRequest, "invalid_request_error", "the body cannot be read")
		return
	}
	if body, err = plain(r.Header.Get("Content-Encoding"), body); err != nil {
		x.fail(http.StatusUnsupportedMediaType, "invalid_request_error", err.Error())
		return
	}
	x.req.Body = body
	if s.cfg.OnAsk != nil {
		s.cfg.OnAsk(x.req)
	}
	x.route(r.URL.Path, r.URL.Query().Get("alt") == "sse")
}

// exchange is one request with its answer under way.
type exchange struct {
	server *Server
	w      http.ResponseWriter
	req    Request
}

func recordOf(r *http.Request) Request {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return Request{
		Method: r.Method, Host: host, Path: r.URL.RequestURI(), Proto: r.Proto,
		Header: r.Header.Clone(), Status: http.StatusOK,
	}
}

// record keeps the request, before the first byte of its answer leaves: whoever has seen an answer finds its request.
func (x *exchange) record() {
	x.server.mu.Lock()
	defer x.server.mu.Unlock()
	x.server.requests = append(x.server.requests, x.req)
}

// id makes an identifier that no other answer of this server holds.
func (x *exchange) id(prefix string) string {
	x.server.mu.Lock()
	defer x.server.mu.Unlock()
	x.server.ids++
	return fmt.Sprintf("%s%024d", prefix, x.server.ids)
}

// allowed answers 401 and says false unless the request carries the key that the server wants.
func (x *exchange) allowed() bool {
	want, login := x.server.cfg.Key, x.server.cfg.Login
	if want == "" && login == nil || want != "" && x.req.Key() == want || login != nil && login.holds(x.req) {
		return true
	}
	x.fail(http.StatusUnauthorized, "authentication_error", "invalid x-api-key")
	return false
}

// route finds the API that a path belongs to; the rest of what agents ask at start gets a plain answer.
func (x *exchange) route(path string, sse bool) {
	switch {
	case path == "/v1/messages":
		x.model(func() { x.anthropicMessages() })
	case path == "/v1/messages/count_tokens":
		x.model(func() { x.json(map[string]any{"input_tokens": tokens(x.req.Body)}) })
	case path == "/v1/responses", path == "/backend-api/codex/responses":
		x.model(func() { x.openaiResponses() })
	case strings.HasSuffix(path, "/chat/completions"): // OpenAI's, and what is compatible with it
		x.model(func() { x.openaiChat() })
	case path == "/backend-api/wham/accounts/check":
		x.model(func() { x.json(accounts()) })
	case path == "/backend-api/codex/models":
		x.model(func() { x.json(obj{"models": []obj{}}) })
	case strings.HasSuffix(path, "/models"):
		x.model(func() { x.json(modelList(x.req)) })
	case strings.HasSuffix(path, ":generateContent"):
		x.model(func() { x.geminiGenerate(whole) })
	case strings.HasSuffix(path, ":streamGenerateContent") && sse:
		x.model(func() { x.geminiGenerate(eventStream) })
	case strings.HasSuffix(path, ":streamGenerateContent"):
		x.model(func() { x.geminiGenerate(array) })
	case strings.HasSuffix(path, ":countTokens"):
		x.model(func() { x.json(map[string]any{"totalTokens": tokens(x.req.Body)}) })
	case x.server.cfg.Login != nil && (path == "/v1/oauth/token" || path == "/oauth/token"):
		x.refresh()
	case path == "/api/hello":
		x.json(map[string]any{"message": "hello"})
	default:
		x.fail(http.StatusNotFound, "not_found_error", "no such endpoint")
	}
}

// model answers a call that needs the key.
func (x *exchange) model(answer func()) {
	if x.req.Header.Get("Upgrade") != "" {
		// Codex asks for a WebSocket first and takes this as the sign to use plain requests.
		x.fail(http.StatusUpgradeRequired, "invalid_request_error", "use HTTP")
		return
	}
	if x.allowed() {
		answer()
	}
}

// tokens is a rough count, four bytes each, never zero.
func tokens(b []byte) int { return len(b)/4 + 1 }

// plain undoes a request's content encoding.
func plain(encoding string, body []byte) ([]byte, error) {
	switch encoding {
	case "", "identity":
		return body, nil
	case "gzip":
		return gunzip(bytes.NewReader(body))
	}
	return nil, errors.New("cannot read content encoding " + encoding)
}

// Wait blocks until the record holds a request that match accepts, or the context ends.
func (s *Server) Wait(ctx context.Context, match func(Request) bool) (Request, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, r := range s.Requests() {
			if match(r) {
				return r, nil
			}
		}
		select {
		case <-ctx.Done():
			return Request{}, fmt.Errorf("waiting for a request to the model server: %w", ctx.Err())
		case <-tick.C:
		}
	}
}
