package proxy

import (
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"agentbox/internal/gitwire"
	"agentbox/internal/policy"
)

// Ancestry knows the history of commits. The wire does not tell a fast-forward from an update that throws commits away.
type Ancestry interface {
	// Descends reports whether the commit old is in the history of the commit now. It says no where it does not know, and
	// is never wrong when it says yes.
	Descends(ctx context.Context, now, old string) bool
}

const (
	maxGitHeld   = 32 << 20 // bytes of pushes and batches that are held at once, over all requests
	ancestryTime = 15 * time.Second
	maxAncestry  = 64 // updates of one push whose history is looked at
)

// gitExchange is what is known of a request of git's.
type gitExchange struct {
	request gitwire.Request
	push    gitwire.Push // its commands, once they are read
	judged  *policy.GitRequest
	held    heldBytes // of what was read ahead
}

// done says that the request is over, however it ended.
func (g *gitExchange) done() {
	if g != nil {
		g.held.release()
	}
}

// gitRequest says what req does to a git repository, nil where it is no request of git's. It is called once for each
// request, before the gate is asked. It may read the beginning of req.Body to find out, and then puts a body in its
// place that gives those bytes again; what it puts there is what is counted and forwarded.
//
// Where no rule is about git, nothing is read, and what is not in git's own form is a request like others.
func (x *exchange) gitRequest(req *http.Request) *policy.GitRequest {
	method, path := overrides(req)
	found, ok := gitwire.Recognise(gitwire.Head{
		Method: req.Method, Path: pathOf(req), Query: req.URL.RawQuery,
		ContentType: strings.Join(req.Header["Content-Type"], ","), Overridden: method != "" || path != "",
	})
	if !ok || !x.proxy.gitRules && found.Repo == "" {
		return nil
	}
	g := &gitExchange{request: found, judged: &policy.GitRequest{Repo: found.Repo, Op: policy.GitOp(found.Op), Flaw: found.Flaw}}
	g.held.all = &x.proxy.gitHeld
	x.held = g
	if x.proxy.gitRules && !x.readGit(req, g) {
		return nil
	}
	x.git = g
	return g.judged
}

// readGit reads what a request's body says that its head does not. False means that it is none of git's after all.
func (x *exchange) readGit(req *http.Request, g *gitExchange) bool {
	switch {
	case g.request.Part == gitwire.Pack && g.request.Op == gitwire.OpPush:
		if err := x.readPush(req, g); err != nil {
			g.flaw(err)
		}
	case g.request.Part == gitwire.Batch:
		return x.readBatch(req, g)
	}
	return true
}

// flaw makes it a request of no repository, which no rule about git allows.
func (g *gitExchange) flaw(err error) {
	text := err.Error()
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		text = "it breaks off"
	}
	g.judged.Repo, g.judged.Refs, g.judged.Flaw = "", nil, shorten(text)
}

// readPush reads the commands of a push. A compressed body goes on as it was read: not compressed.
func (x *exchange) readPush(req *http.Request, g *gitExchange) error {
	if err := uncompress(req); err != nil {
		return err
	}
	push, taken, err := gitwire.ReadPush(req.Body, g.held.grow)
	req.Body = &headBody{head: taken, rest: req.Body, held: &g.held}
	if err != nil {
		return err
	}
	g.push = push
	g.judged.Refs = x.updates(req.Context(), push.Commands)
	return nil
}

// readBatch reads what Git LFS asks for.
func (x *exchange) readBatch(req *http.Request, g *gitExchange) bool {
	if err := uncompress(req); err != nil {
		g.flaw(err)
		return true
	}
	op, named, taken, err := gitwire.ReadBatch(req.Body, g.held.grow)
	req.Body = &headBody{head: taken, rest: req.Body, held: &g.held}
	if err != nil {
		g.flaw(err)
		return true
	}
	g.judged.Op = policy.GitOp(op)
	return named || g.request.Repo != ""
}

var errCoding = errors.New("its body is compressed in a way that is not read here")

// uncompress has the body of a request read as it is judged.
func uncompress(req *http.Request) error {
	switch coding := strings.ToLower(strings.Join(req.Header["Content-Encoding"], ",")); coding {
	case "", "identity":
		return nil
	case "gzip", "x-gzip":
	default:
		return errCoding
	}
	packed, err := gzip.NewReader(req.Body)
	if err != nil {
		return errCoding
	}
	req.Body = &unpacked{packed, req.Body}
	req.ContentLength = -1
	req.Header.Del("Content-Encoding")
	req.Header.Del("Content-Length")
	return nil
}

type unpacked struct {
	*gzip.Reader
	under io.Closer
}

// Close leaves the reader alone, which holds nothing: it may be read from meanwhile.
func (u *unpacked) Close() error { return u.under.Close() }

// updates says what each command of a push does to its ref.
func (x *exchange) updates(ctx context.Context, commands []gitwire.Command) []policy.RefUpdate {
	ctx, cancel := context.WithTimeout(ctx, ancestryTime)
	defer cancel()
	looks := 0
	out := make([]policy.RefUpdate, 0, len(commands))
	for _, c := range commands {
		kind := policy.RefForce
		switch {
		case c.Create():
			kind = policy.RefCreate
		case c.Delete():
			kind = policy.RefDelete
		case c.Old == c.New:
			kind = policy.RefUpdated
		case !strings.HasPrefix(c.Ref, "refs/tags/") && x.proxy.ancestry != nil && looks < maxAncestry: // a tag stays where it is
			if looks++; x.proxy.ancestry.Descends(ctx, c.New, c.Old) {
				kind = policy.RefUpdated
			}
		}
		out = append(out, policy.RefUpdate{Name: c.Ref, Kind: kind})
	}
	return out
}

// heldBytes counts what one request has of the bytes that are held of all.
type heldBytes struct {
	all  *atomic.Int64
	mine int64
	once sync.Once
}

func (h *heldBytes) grow(n int) bool {
	if h.all.Add(int64(n)) > maxGitHeld {
		h.all.Add(-int64(n))
		return false
	}
	h.mine += int64(n)
	return true
}

func (h *heldBytes) release() { h.once.Do(func() { h.all.Add(-h.mine) }) }

// headBody gives bytes that were read ahead, then the rest.
type headBody struct {
	head []byte
	rest io.ReadCloser
	held *heldBytes
}

func (b *headBody) Read(p []byte) (int, error) {
	if len(b.head) == 0 {
		b.head = nil
		b.held.release()
		return b.rest.Read(p)
	}
	n := copy(p, b.head)
	b.head = b.head[n:]
	return n, nil
}

// Close may come while a read goes on: an answer does not wait for its request.
func (b *headBody) Close() error { return b.rest.Close() }

// maxDrained is how much of a push that is refused is read and thrown away: git reads no answer before it has sent all.
const maxDrained = 1 << 30

// refuseGit puts a refusal in the form that the program which asked shows to whoever runs it. Others keep theirs.
func (x *exchange) refuseGit(req *http.Request, no *refusal) {
	if x.git == nil || no.Status != http.StatusForbidden {
		return
	}
	text := no.Error + ": " + no.Reason
	g := x.git
	switch g.request.Part {
	case gitwire.Pack:
		if g.request.Op == gitwire.OpPush {
			_, _ = io.Copy(io.Discard, io.LimitReader(req.Body, maxDrained))
			no.as(http.StatusOK, gitwire.TypePushResult, gitwire.Rejection(g.push, x.refReasons(text), strings.TrimSpace(string(no.body(true)))))
		} else {
			no.as(http.StatusOK, gitwire.TypeFetchResult, gitwire.Refused(text))
		}
	case gitwire.Batch, gitwire.LFS:
		no.as(http.StatusForbidden, gitwire.TypeLFS, lfsError(text+" ("+no.ToDo+")"))
	}
	if no.form == nil && g.request.Part != gitwire.File {
		no.as(http.StatusForbidden, plainText, no.body(true))
	}
}

// refReasons gives each ref of a refused push its reason: its own, or that another one is denied.
func (x *exchange) refReasons(whole string) map[string]string {
	request := x.target.request()
	request.Method, request.Path = http.MethodPost, x.path
	reasons, denied := map[string]string{}, 0
	for _, u := range x.git.judged.Refs {
		request.Git = &policy.GitRequest{Repo: x.git.judged.Repo, Op: policy.GitPush, Refs: []policy.RefUpdate{u}}
		if d := x.proxy.gate.Decide(request); d.Action == policy.Deny {
			reasons[u.Name] = "denied by agentbox: " + cmp.Or(d.Reason(), whole)
			denied++
		}
	}
	for _, u := range x.git.judged.Refs {
		switch {
		case denied == 0:
			reasons[u.Name] = whole
		case reasons[u.Name] == "":
			reasons[u.Name] = "not pushed, because agentbox denies another ref of this push"
		}
	}
	return reasons
}

// lfsError is an answer as Git LFS shows it.
func lfsError(text string) []byte {
	body, err := json.Marshal(map[string]string{"message": text})
	if err != nil {
		return nil
	}
	return body
}
