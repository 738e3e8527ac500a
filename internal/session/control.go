package session

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"agentbox/internal/approval"
	"agentbox/internal/sys"
)

const (
	maxLine        = 4096     // of a request
	maxReply       = 64 << 10 // of a line that answers: a question with every byte of it escaped
	maxConnections = 32
	requestTime    = 5 * time.Second // for a request to arrive, and for an answer to be taken
)

// Status is what a live session says of itself.
type Status struct {
	State    string     `json:"state"`              // "starting", "running", "stopping"
	Deadline *time.Time `json:"deadline,omitempty"` // when the time budget ends it
	Allowed  int64      `json:"allowed"`            // requests
	Denied   int64      `json:"denied"`
	Waiting  int        `json:"waiting"` // questions for a person
}

// Handler is the run behind a control socket. Stop asks for the end and does not wait for it. Cut ends the use of a
// credential, reports whether the run has it, and waits until it is taken back where that can be done.
type Handler interface {
	Status() Status
	Stop(reason string, force bool)
	Cut(credential, reason string) (found bool, err error)
	Approvals
}

type request struct {
	Op     string         `json:"op"` // "status", "stop", "approvals", "watch", "answer", "outcome" or "cut"
	Reason string         `json:"reason,omitempty"`
	Force  bool           `json:"force,omitempty"`
	ID     string         `json:"id,omitempty"`    // of a question; the name of a credential
	Scope  approval.Scope `json:"scope,omitempty"` // of an answer
}

type response struct {
	OK      bool              `json:"ok"`
	Error   string            `json:"error,omitempty"`
	Found   bool              `json:"found,omitempty"` // a credential that was to be cut
	Status  *Status           `json:"status,omitempty"`
	Lines   int               `json:"lines,omitempty"`   // that follow, a question each
	Outcome *approval.Outcome `json:"outcome,omitempty"` // of a question that is settled
}

type server struct {
	listener *net.UnixListener
	handler  Handler
	uid      int
	slots    chan struct{}
	watchers chan struct{}
	quit     chan struct{}
	all      sync.WaitGroup
}

// Serve answers on the session's control socket until End. It may be called once.
func (s *Session) Serve(handler Handler) error { return s.serve(handler, os.Getuid()) }

func (s *Session) serve(handler Handler, uid int) error {
	if s.server != nil {
		return errors.New("serving the control socket: it is served already")
	}
	var listener *net.UnixListener
	err := withShortPath(s.RuntimeDir, func(path string) (err error) {
		listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		return err
	})
	if err != nil {
		return fmt.Errorf("serving the control socket: %w", err)
	}
	listener.SetUnlinkOnClose(false) // the name is one of /proc; the directory goes as a whole
	if err := os.Chmod(filepath.Join(s.RuntimeDir, socketFile), 0o600); err != nil {
		return fmt.Errorf("serving the control socket: %w", errors.Join(err, listener.Close()))
	}
	s.server = &server{
		listener: listener, handler: handler, uid: uid,
		slots: make(chan struct{}, maxConnections), watchers: make(chan struct{}, maxWatchers), quit: make(chan struct{}),
	}
	s.server.all.Go(s.server.accept)
	return nil
}

// withShortPath names dir's socket through a descriptor: a socket's path has 107 bytes at most.
func withShortPath(dir string, do func(path string) error) error {
	fd, err := unix.Open(dir, sys.OPath|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	return do("/proc/self/fd/" + strconv.Itoa(fd) + "/" + socketFile)
}

func (v *server) accept() {
	for {
		conn, err := v.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: the next try comes when there may be some again
			if !v.pause(50 * time.Millisecond) {
				return
			}
			continue
		}
		select {
		case v.slots <- struct{}{}:
			v.all.Go(func() {
				defer func() { <-v.slots }()
				v.talk(conn)
			})
		default:
			_ = conn.Close()
		}
	}
}

// pause waits, and reports whether the server goes on.
func (v *server) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-v.quit:
		return false
	}
}

// stopAccepting takes no more connections; those that are open stay.
func (v *server) stopAccepting() error { return v.listener.Close() }

// hangUp ends all connections and waits for that.
func (v *server) hangUp() {
	close(v.quit)
	v.all.Wait()
}

func (v *server) talk(conn *net.UnixConn) {
	done := make(chan struct{})
	defer close(done)
	defer func() { _ = conn.Close() }()
	v.all.Go(func() {
		select {
		case <-v.quit:
			_ = conn.Close()
		case <-done:
		}
	})
	if err := checkPeer(conn, v.uid); err != nil {
		_ = answer(conn, response{Error: err.Error()})
		return
	}
	lines := bufio.NewReaderSize(conn, maxLine)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(requestTime)); err != nil {
			return
		}
		line, tooLong, err := lines.ReadLine()
		if err != nil {
			return
		}
		var req request
		if tooLong || json.Unmarshal(line, &req) != nil {
			_ = answer(conn, response{Error: "not a request"})
			return
		}
		if !v.serve(conn, lines, req) {
			return
		}
	}
}

// serve answers one request and reports whether the connection takes another.
func (v *server) serve(conn *net.UnixConn, lines *bufio.Reader, req request) (more bool) {
	switch req.Op {
	case "approvals":
		return v.list(conn) == nil
	case "watch":
		v.watch(conn, lines)
		return false
	case "stop":
		if answer(conn, v.do(req)) == nil {
			v.linger(conn, lines)
		}
		return false
	}
	return answer(conn, v.do(req)) == nil
}

// linger keeps the connection of a stop open until the session has ended or the client is gone.
func (v *server) linger(conn *net.UnixConn, lines *bufio.Reader) {
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return
	}
	for {
		if _, _, err := lines.ReadLine(); err != nil {
			return
		}
	}
}

func (v *server) do(req request) response {
	switch req.Op {
	case "status":
		status := v.handler.Status()
		return response{OK: true, Status: &status}
	case "stop":
		v.handler.Stop(req.Reason, req.Force)
		return response{OK: true}
	case "answer":
		return v.answered(req.ID, v.handler.Answer(req.ID, approval.Answer{Scope: req.Scope, Reason: req.Reason, By: approval.BySocket}))
	case "outcome":
		return v.outcome(req.ID)
	case "cut":
		found, err := v.handler.Cut(req.ID, req.Reason)
		if err != nil {
			return response{Error: err.Error()}
		}
		return response{OK: true, Found: found}
	default:
		return response{Error: "unknown operation"}
	}
}

func answer(conn *net.UnixConn, r any) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(requestTime)); err != nil {
		return err
	}
	_, err = conn.Write(append(data, '\n'))
	return err
}

// checkPeer asks the kernel who is at the other end.
func checkPeer(conn *net.UnixConn, uid int) error {
	peer, err := sys.PeerUID(conn)
	if err != nil {
		return err
	}
	if peer != uid {
		return errors.New("this session belongs to another user")
	}
	return nil
}

// Client is a connection to a live session's control socket.
type Client struct {
	conn  *net.UnixConn
	lines *bufio.Reader
	info  Info
}

// Dial connects to a session.
func Dial(info Info) (*Client, error) {
	var conn *net.UnixConn
	err := withShortPath(info.RuntimeDir, func(path string) (err error) {
		conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reaching session %s: %w", info.ID, err)
	}
	if err := checkPeer(conn, os.Getuid()); err != nil {
		return nil, fmt.Errorf("reaching session %s: %w", info.ID, errors.Join(err, conn.Close()))
	}
	return &Client{conn: conn, lines: bufio.NewReaderSize(conn, maxReply), info: info}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Status asks how the session is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	r, err := c.ask(ctx, request{Op: "status"})
	if err != nil {
		return Status{}, err
	}
	if r.Status == nil {
		return Status{}, fmt.Errorf("asking session %s: it answers without a status", c.info.ID)
	}
	return *r.Status, nil
}

// Stop asks the session to end and waits until it has, or until ctx is done.
func (c *Client) Stop(ctx context.Context, reason string, force bool) error {
	if _, err := c.ask(ctx, request{Op: "stop", Reason: reason, Force: force}); err != nil {
		return err
	}
	release := c.bound(ctx)
	defer release()
	for {
		if _, _, err := c.lines.ReadLine(); err != nil {
			break
		}
	}
	return c.ended(ctx)
}

// Cut ends the use of a credential in the session, and reports whether it has one of that name.
func (c *Client) Cut(ctx context.Context, credential, reason string) (found bool, err error) {
	r, err := c.ask(ctx, request{Op: "cut", ID: credential, Reason: reason})
	return r.Found, err
}

// ended waits for the lock, which a killed process gives up an instant after its connections.
func (c *Client) ended(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		live, err := held(c.info.Dir)
		if err != nil || !live {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for session %s to end: %w", c.info.ID, ctx.Err())
		case <-tick.C:
		}
	}
}

func (c *Client) ask(ctx context.Context, req request) (response, error) {
	var r response
	data, err := json.Marshal(req)
	if err != nil {
		return r, err
	}
	if len(data) >= maxLine {
		return r, fmt.Errorf("asking session %s: the request is too long", c.info.ID)
	}
	release := c.bound(ctx)
	defer release()
	if _, err = c.conn.Write(append(data, '\n')); err == nil {
		err = c.read(&r)
	}
	if err != nil {
		return r, fmt.Errorf("asking session %s: %w", c.info.ID, errors.Join(ctx.Err(), err))
	}
	switch {
	case r.Outcome != nil && !r.OK:
		return r, &approval.Settled{Outcome: *r.Outcome}
	case r.Error == approval.ErrUnknown.Error():
		return r, approval.ErrUnknown
	case !r.OK:
		return r, fmt.Errorf("asking session %s: %s", c.info.ID, strconv.Quote(r.Error))
	}
	return r, nil
}

// read reads one line of an answer.
func (c *Client) read(into any) error {
	line, tooLong, err := c.lines.ReadLine()
	if err == nil && tooLong {
		err = errors.New("the answer is too long")
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(line, into)
}

// bound makes ctx end what the connection waits for, until release is called.
func (c *Client) bound(ctx context.Context) (release func()) {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}
