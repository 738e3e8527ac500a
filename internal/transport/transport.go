// Package transport is the host's side of the conversation with the shim: it brings the container's listeners
// out of the container, and the host's orders in.
//
// An Endpoint takes one connection, ever, on a socket that disappears as soon as it is taken. The Link made from
// it owns that connection, the listeners and the goroutines that serve them; Close ends and awaits all of it. The
// shim stands inside the boundary, so nothing it sends is believed: in Pass mode each descriptor is asked what it
// is, in Relay mode each header is held against the listeners agreed, and whatever is not exactly as agreed ends
// the conversation. Closing the conversation ends the agent; so does the death of this process.
package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"agentbox/internal/shimwire"
)

// Transport opens the host's end for one way of carrying listeners.
type Transport interface {
	Mode() shimwire.Mode
	// Listen makes the sockets in dir, a directory of this run that only this user can enter (0700) and that
	// is bound at shimwire.Dir.
	Listen(dir string) (Endpoint, error)
}

// Endpoint waits for the shim.
type Endpoint interface {
	// Accept takes the first connection that arrives, whoever's it is, and no other. It sends cfg with the
	// transport's mode and returns when the listeners are there. It can be called once; ctx bounds it.
	Accept(ctx context.Context, cfg shimwire.Config) (*Link, error)
	// Close removes the sockets. After a successful Accept it leaves what belongs to the Link.
	Close() error
}

// New gives the transport of mode. An unknown mode fails at Listen.
func New(mode shimwire.Mode) Transport { return transport(mode) }

type transport shimwire.Mode

func (t transport) Mode() shimwire.Mode { return shimwire.Mode(t) }

func (t transport) Listen(dir string) (Endpoint, error) {
	if t.Mode() != shimwire.Pass && t.Mode() != shimwire.Relay {
		return nil, fmt.Errorf("opening the shim's socket: mode %q is unknown", t.Mode())
	}
	if err := private(dir); err != nil {
		return nil, fmt.Errorf("opening the shim's socket: %w", err)
	}
	e := &endpoint{mode: t.Mode()}
	var err error
	if e.socket, err = listenUnix(filepath.Join(dir, filepath.Base(shimwire.Socket))); err != nil {
		return nil, fmt.Errorf("opening the shim's socket: %w", err)
	}
	if t.Mode() == shimwire.Relay {
		if e.relay, err = listenUnix(filepath.Join(dir, filepath.Base(shimwire.RelaySock))); err != nil {
			return nil, errors.Join(fmt.Errorf("opening the relay's socket: %w", err), e.Close())
		}
	}
	return e, nil
}

// private insists that nobody else can enter dir, where the sockets will be.
func private(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !st.IsDir() || st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a directory of mode 0700", dir)
	}
	return nil
}

func listenUnix(path string) (*net.UnixListener, error) {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// endpoint holds the sockets until they are taken; a nil one has been.
type endpoint struct {
	mode   shimwire.Mode
	socket *net.UnixListener
	relay  *net.UnixListener
}

func (e *endpoint) Close() error {
	var errs []error
	for _, ln := range []**net.UnixListener{&e.socket, &e.relay} {
		if *ln != nil {
			errs = append(errs, (*ln).Close()) // unlinks too
			*ln = nil
		}
	}
	return errors.Join(errs...)
}

func (e *endpoint) Accept(ctx context.Context, cfg shimwire.Config) (*Link, error) {
	if e.socket == nil {
		return nil, errors.New("accepting the shim: it can be done once")
	}
	cfg.Mode = e.mode
	conn, err := e.take(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("accepting the shim: %w", err), e.Close())
	}
	bound, err := greet(ctx, conn, cfg)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("agreeing with the shim: %w", err), conn.Close(), e.Close())
	}
	link := newLink(conn, bound, e.relay)
	e.relay = nil
	return link, nil
}

// take accepts one connection and closes the socket, so that nobody else ever connects.
func (e *endpoint) take(ctx context.Context) (*wire, error) {
	socket := e.socket
	e.socket = nil
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	conn, err := socket.AcceptUnix()
	stop()
	closeErr := socket.Close()
	if err != nil {
		return nil, because(ctx, err)
	}
	if closeErr == nil {
		closeErr = samePerson(conn, os.Getuid())
	}
	if closeErr != nil {
		return nil, errors.Join(closeErr, conn.Close())
	}
	return newWire(conn), nil
}

// greet is the conversation up to the listeners.
func greet(ctx context.Context, conn *wire, cfg shimwire.Config) ([]Bound, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	bound, err := exchange(conn, cfg)
	if err != nil {
		return nil, because(ctx, err)
	}
	if !stop() { // the deadline is set, or about to be
		closeAll(bound)
		return nil, ctx.Err()
	}
	return bound, nil
}

func exchange(conn *wire, cfg shimwire.Config) ([]Bound, error) {
	m, err := conn.answer()
	if err != nil {
		return nil, fmt.Errorf("waiting for its first word: %w", err)
	}
	if m.Hello == nil || m.Hello.Version != shimwire.Version {
		return nil, fmt.Errorf("it greets with %s: %w", describe(m), ErrProtocol)
	}
	if err := conn.dropRights(); err != nil {
		return nil, err
	}
	if err := conn.send(shimwire.Message{Config: &cfg}); err != nil {
		return nil, err
	}
	if m, err = conn.answer(); err != nil {
		return nil, fmt.Errorf("waiting for the listeners: %w", err)
	}
	if m.Listeners == nil {
		return nil, fmt.Errorf("it sends %s in place of listeners: %w", describe(m), ErrProtocol)
	}
	if m.Listeners.Count != len(cfg.Listen) {
		return nil, fmt.Errorf("it has %d listeners, not %d: %w", m.Listeners.Count, len(cfg.Listen), ErrProtocol)
	}
	return bind(conn, cfg)
}

// bind makes what the run serves out of what the shim sent.
func bind(conn *wire, cfg shimwire.Config) ([]Bound, error) {
	fds := conn.takeRights()
	if cfg.Mode == shimwire.Relay {
		if len(fds) > 0 {
			return nil, errors.Join(fmt.Errorf("it sends descriptors that nobody asked for: %w", ErrProtocol), closeFDs(fds))
		}
		return relayed(cfg.Listen)
	}
	return adopt(cfg.Listen, fds)
}

// because gives the reason of ctx when that is why err came.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// ErrProtocol says that the shim broke the rules of the conversation.
var ErrProtocol = errors.New("the shim broke the protocol")

// ShimError is why the shim itself could not go on. Kind is one of shimwire's.
type ShimError struct{ Kind, Text string }

func (e *ShimError) Error() string { return e.Text }

// wire is the connection: messages and the descriptors beside them.
type wire struct {
	conn   *net.UnixConn
	rights *rightsReader
	read   *bufio.Reader
}

func newWire(conn *net.UnixConn) *wire {
	r := &rightsReader{conn: conn}
	return &wire{conn: conn, rights: r, read: bufio.NewReader(r)}
}

func (w *wire) Close() error { return errors.Join(w.conn.Close(), closeFDs(w.takeRights())) }

func (w *wire) receive() (shimwire.Message, error) { return shimwire.Read(w.read) }

// answer reads one message that must be all the shim has said.
func (w *wire) answer() (shimwire.Message, error) {
	m, err := w.receive()
	switch {
	case err != nil:
		return m, err
	case m.Error != nil:
		return m, &ShimError{m.Error.Kind, m.Error.Text}
	case w.read.Buffered() > 0:
		return m, fmt.Errorf("it speaks out of turn after %s: %w", describe(m), ErrProtocol)
	}
	return m, nil
}

func (w *wire) send(m shimwire.Message) error {
	line, err := shimwire.Encode(m)
	if err != nil {
		return err
	}
	if _, err := w.conn.Write(line); err != nil {
		return fmt.Errorf("telling the shim: %w", err)
	}
	return nil
}

// takeRights gives the descriptors received so far to the caller.
func (w *wire) takeRights() []int {
	fds := w.rights.fds
	w.rights.fds = nil
	return fds
}

// dropRights closes descriptors that have no place here; that there are any is an error.
func (w *wire) dropRights() error {
	fds := w.takeRights()
	if len(fds) == 0 {
		return nil
	}
	return errors.Join(fmt.Errorf("it sends %d descriptors that nobody asked for: %w", len(fds), ErrProtocol), closeFDs(fds))
}

// describe names the kind of m for an error, never its content.
func describe(m shimwire.Message) string {
	switch {
	case m.Hello != nil:
		return fmt.Sprintf("hello of version %d", m.Hello.Version)
	case m.Listeners != nil:
		return "listeners"
	case m.SelfTest != nil:
		return "a self-test"
	case m.Started != nil:
		return "started"
	case m.Stopped != nil:
		return "stopped"
	case m.Exit != nil:
		return "exit"
	case m.Error != nil:
		return "an error"
	}
	return "a message of the host's"
}
