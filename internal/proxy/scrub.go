package proxy

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"agentbox/internal/policy"
	"agentbox/internal/scrub"
)

// Scrubber knows the values that may not reach a program inside.
type Scrubber interface {
	// Values gives what is taken out of answers from now on; nil is nothing.
	Values() *scrub.Set

	// Uses reports whether a credential is for host, so that its answers may hold one. Of those it is made sure that
	// everything in them can be read.
	Uses(host policy.Host) bool
}

const (
	releaseAfter = 20 * time.Millisecond // without more to come
	maxChanging  = 1 << 20               // bytes of an answer that may become longer or shorter
)

// values is what is to be taken out now.
func (p *Proxy) values() *scrub.Set {
	if p.scrubber == nil {
		return nil
	}
	return p.scrubber.Values()
}

// strict reports whether nothing may pass that cannot be read.
func (x *exchange) strict() bool {
	return x.proxy.scrubber != nil && x.proxy.scrubber.Uses(x.target.host)
}

// askReadable has a server that may be told a credential answer in forms that can be read here.
func (x *exchange) askReadable(h http.Header) {
	if !x.strict() {
		return
	}
	h["Accept-Encoding"] = []string{readable(h["Accept-Encoding"])}
	for _, name := range unreadableWhenGranted {
		delete(h, name)
	}
}

// unreadableWhenGranted are the fields by which a program would have a server compress pieces of its answer, or cut it where
// the program likes: a value that is cut in two is in neither part.
var unreadableWhenGranted = []string{
	"Grpc-Accept-Encoding", "Connect-Accept-Encoding", "Sec-Websocket-Extensions", "A-Im", "Range", "If-Range",
}

// clean takes values out of an answer's head and has its body read in a way in which they are found. It gives the answer
// that refuses one that cannot be read.
func (x *exchange) clean(resp *http.Response) *refusal {
	set := x.proxy.values()
	if set.Empty() && !x.strict() { // where a credential is used, one may be learned while the answer comes
		return nil
	}
	x.scrubs = true
	if hidden := x.unreadable(resp); hidden != "" {
		if x.strict() {
			no := failed(x.target.host.String(), "the server's answer could hold a credential and cannot be read: "+x.proxy.shown(hidden))
			return &no
		}
		x.scrubs = false // no credential of this run was sent there
	} else if codings, _ := codingsOf(resp.Header); resp.StatusCode != http.StatusSwitchingProtocols && len(codings) > 0 {
		x.proxy.decode(resp, codings)
	}
	scrubFields(set, resp.Header)
	scrubFields(set, resp.Trailer)
	x.fitted = !x.strict() || set.Even() || resp.StatusCode == http.StatusPartialContent || resp.ContentLength > maxChanging || isGRPC(resp.Header)
	return nil
}

// unreadable says why values could not be found in an answer's body; "" if they can.
func (x *exchange) unreadable(resp *http.Response) string {
	h := resp.Header
	if resp.StatusCode == http.StatusSwitchingProtocols {
		if extensions := strings.Join(h["Sec-Websocket-Extensions"], ", "); extensions != "" {
			return "the WebSocket has the extensions " + extensions
		}
		return ""
	}
	codings, known := codingsOf(h)
	switch coding := strings.Join(h["Content-Encoding"], ", "); {
	case !known:
		return "it is coded as " + coding
	case resp.StatusCode == http.StatusPartialContent && (len(codings) > 0 || x.strict()): // nobody asked for one there
		return "it is a part of something"
	}
	for _, name := range []string{"Grpc-Encoding", "Connect-Content-Encoding", "Im"} {
		if coding := strings.ToLower(h.Get(name)); coding != "" && coding != identity {
			return "its messages are coded as " + coding
		}
	}
	return ""
}

func isGRPC(h http.Header) bool {
	kind := strings.ToLower(h.Get("Content-Type"))
	return strings.HasPrefix(kind, "application/grpc") || strings.HasPrefix(kind, "application/connect+")
}

// scrubFields takes values out of a header or trailer. A field whose name is one is taken out itself.
func scrubFields(set *scrub.Set, fields http.Header) {
	for name, values := range fields {
		if set.Within(name) {
			delete(fields, name)
			continue
		}
		for i, value := range values {
			values[i] = set.Text(value)
		}
	}
}

// shown is text that a server or an agent chose, without values, and bounded.
func (p *Proxy) shown(s string) string { return shorten(p.values().Text(s)) }

// cleanError is an error without values in its text.
type cleanError struct {
	error
	set *scrub.Set
}

func (e *cleanError) Error() string { return e.set.Text(e.error.Error()) }

func (e *cleanError) Unwrap() error { return e.error }

// taker takes values out of what comes in pieces.
type taker interface {
	take(p []byte) ([]byte, error) // of a piece, what is to be passed on
	Waiting() bool                 // for more
	Release() []byte               // of what waits, what tells nothing
}

// bodyTaker is a taker for bodies.
type bodyTaker struct{ *scrub.Stream }

func (b bodyTaker) take(p []byte) ([]byte, error) { return b.Next(p), nil }

// scrubbed passes an answer's body on without the values in it. What could become one is held until more comes, or if it
// tells nothing for releaseAfter.
type scrubbed struct {
	x     *exchange
	to    io.Writer
	flush http.Flusher // nil where nothing has to be
	from  taker

	mu   sync.Mutex // held while anything is written
	stop func() bool
	over bool
}

// copyScrubbed is copyBody for bodies in which values are looked for.
func (x *exchange) copyScrubbed(w http.ResponseWriter, body io.Reader, flush bool) error {
	flusher := w.(http.Flusher)
	if flush {
		flusher.Flush()
	}
	stream := scrub.NewStream(x.proxy.current, x.fitted)
	s := &scrubbed{x: x, to: w, flush: flusher, from: bodyTaker{stream}}
	if err := s.copy(body); err != nil {
		return err
	}
	return s.write(stream.End())
}

// copy copies until the end. Then it has written everything but what is held, and nothing more is written by itself.
func (s *scrubbed) copy(from io.Reader) error {
	defer s.end()
	buf := s.x.proxy.buffers.get()
	defer buf.free()
	for {
		n, err := from.Read(buf.bytes())
		if n > 0 {
			s.x.down.Add(int64(n))
			if err := s.pass(buf.bytes()[:n], err == nil); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		buf.read(n)
	}
}

func (s *scrubbed) pass(p []byte, more bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
	out, err := s.from.take(p)
	if err != nil {
		return err
	}
	if err := s.write(out); err != nil {
		return err
	}
	if !more {
		return nil
	}
	s.send()
	if s.from.Waiting() {
		s.stop = s.x.proxy.limits.pause(releaseAfter, s.calm)
	}
	return nil
}

// calm is called when nothing came for a while. If something came just now it is early, which does no harm.
func (s *scrubbed) calm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if out := s.from.Release(); len(out) > 0 && s.write(out) == nil { // an error of it shows at the next write
		s.send()
	}
}

func (s *scrubbed) send() {
	if s.flush != nil {
		s.flush.Flush()
	}
}

func (s *scrubbed) write(out []byte) error {
	if len(out) == 0 {
		return nil
	}
	_, err := s.to.Write(out)
	return err
}

func (s *scrubbed) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.stop != nil {
		s.stop()
	}
}

var errFrames = errors.New("the server's WebSocket breaks the protocol, so it could hold a credential that is not found")

// copyFrames passes on what a server sends over a WebSocket, until an end or what breaks the protocol.
func (x *exchange) copyFrames(to io.Writer, from io.Reader) {
	f := newFrames(x.proxy.current)
	s := &scrubbed{x: x, to: to, from: f}
	err := s.copy(from)
	if errors.Is(err, errFrames) {
		no := failed(x.target.host.String(), err.Error())
		x.over.CompareAndSwap(nil, &no)
		return
	}
	_ = s.write(f.end())
}
