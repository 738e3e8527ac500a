package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"agentbox/internal/shimwire"
)

// Bound is one listener of the container, served on the host: TCP or UDP is set, as Listen says. In either mode
// an accepted connection's local address is the one that was connected to inside.
type Bound struct {
	Listen shimwire.Listen
	TCP    net.Listener
	UDP    net.PacketConn
}

func (b Bound) close() error {
	if b.TCP != nil {
		return b.TCP.Close()
	}
	return b.UDP.Close()
}

func closeAll(bound []Bound) {
	for _, b := range bound {
		_ = b.close() // closing twice is an error, and harmless
	}
}

// Link is the conversation with one shim, from the listeners on. The order is Ready, Start, then anything.
// Its methods are safe for concurrent use.
type Link struct {
	conn     *wire
	bound    []Bound
	relay    *relay // nil in Pass mode
	messages chan shimwire.Message
	selfTest chan shimwire.SelfTest
	done     chan struct{} // closed when the reader has ended
	closing  chan struct{} // closed by Close
	closed   sync.Once
	sending  sync.Mutex

	mu    sync.Mutex
	stage stage
	err   error
}

// stage is how far the conversation is; each allows the shim certain messages.
type stage int

const (
	atBound stage = iota
	atTesting
	atTested
	atStarting
	atRunning
	atEnded
)

func newLink(conn *wire, listeners []Bound, relaySocket *net.UnixListener) *Link {
	l := &Link{
		conn:     conn,
		bound:    listeners,
		messages: make(chan shimwire.Message),
		selfTest: make(chan shimwire.SelfTest, 1),
		done:     make(chan struct{}),
		closing:  make(chan struct{}),
	}
	if relaySocket != nil {
		l.relay = newRelay(relaySocket, listeners)
	}
	go l.read()
	return l
}

// Listeners gives what is to be served, in the order of Config.Listen. They end with the Link.
func (l *Link) Listeners() []Bound { return l.bound }

// Ready says that the listeners are served and returns what the self-test found. ctx bounds it. It is the
// caller who refuses to go on when a check failed; the shim refuses then, too.
func (l *Link) Ready(ctx context.Context) (shimwire.SelfTest, error) {
	if err := l.advance(atBound, atTesting, shimwire.Message{Ready: &shimwire.Ready{}}); err != nil {
		return shimwire.SelfTest{}, fmt.Errorf("asking for the self-test: %w", err)
	}
	select {
	case result := <-l.selfTest:
		return result, nil
	case <-ctx.Done():
		return shimwire.SelfTest{}, fmt.Errorf("waiting for the self-test: %w", context.Cause(ctx))
	case <-l.done:
	}
	select {
	case result := <-l.selfTest:
		return result, nil
	default:
		return shimwire.SelfTest{}, fmt.Errorf("waiting for the self-test: %w", l.reason())
	}
}

// Start starts the agent; Started or Error follows in Messages.
func (l *Link) Start() error {
	if err := l.advance(atTested, atStarting, shimwire.Message{Start: &shimwire.Start{}}); err != nil {
		return fmt.Errorf("starting the agent: %w", err)
	}
	return nil
}

// Signal sends signal n to the agent's process group.
func (l *Link) Signal(n int) error {
	return l.order(shimwire.Message{Signal: &shimwire.Signal{Number: n}})
}

// Resize gives the agent's terminal another size, in characters.
func (l *Link) Resize(rows, cols uint16) error {
	return l.order(shimwire.Message{Resize: &shimwire.Size{Rows: rows, Cols: cols}})
}

// Continue lets a stopped agent go on, in the foreground of its terminal.
func (l *Link) Continue() error {
	return l.order(shimwire.Message{Continue: &shimwire.Continue{}})
}

// Messages gives Started, Stopped, Exit and Error as they come, and is closed when the shim is gone. Whoever
// called Start reads it until then or calls Close. Err tells why it was closed.
func (l *Link) Messages() <-chan shimwire.Message { return l.messages }

// Err is nil while the shim is there and when it left as it should, after Exit or Error or by Close.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close ends the conversation, which ends everything in the container, and the listeners, and waits for what
// served them. Connections accepted from them are their owners' to close, but for relayed ones, which it ends.
func (l *Link) Close() error {
	l.closed.Do(func() { close(l.closing) })
	err := l.conn.conn.Close()
	closeAll(l.bound)
	if l.relay != nil {
		l.relay.stop()
	}
	<-l.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// advance moves from one stage to the next and tells the shim.
func (l *Link) advance(from, to stage, m shimwire.Message) error {
	l.mu.Lock()
	now := l.stage
	if now == from {
		l.stage = to
	}
	l.mu.Unlock()
	if now == atEnded {
		return l.reason()
	}
	if now != from {
		return errors.New("it is not the time for that")
	}
	return l.send(m)
}

// order is a message to a running agent.
func (l *Link) order(m shimwire.Message) error {
	l.mu.Lock()
	now := l.stage
	l.mu.Unlock()
	switch now {
	case atStarting, atRunning:
		return l.send(m)
	case atEnded:
		return l.reason()
	}
	return errors.New("telling the agent: it has not been started")
}

// sendTime bounds how long a shim that does not read may hold up the host.
const sendTime = 5 * time.Second

func (l *Link) send(m shimwire.Message) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	if err := l.conn.conn.SetWriteDeadline(time.Now().Add(sendTime)); err != nil {
		return fmt.Errorf("telling the shim: %w", err)
	}
	return l.conn.send(m)
}

// read hands on what the shim says until it is gone or breaks the rules. Then nothing of the container is left
// to serve, and the connection is closed, so that a shim that broke the rules ends everything.
func (l *Link) read() {
	defer close(l.done)
	defer close(l.messages)
	err := l.conversation()
	l.mu.Lock()
	if !l.over(err) {
		l.err = fmt.Errorf("listening to the shim: %w", err)
	}
	l.stage = atEnded
	l.mu.Unlock()
	_ = l.conn.Close()
}

// over reports whether err is the end as it should be. The caller holds mu.
func (l *Link) over(err error) bool {
	select {
	case <-l.closing:
		return true
	default:
		return l.stage == atEnded && errors.Is(err, io.EOF)
	}
}

func (l *Link) conversation() error {
	for {
		m, err := l.conn.receive()
		if err != nil {
			return err
		}
		if err := l.conn.dropRights(); err != nil {
			return err
		}
		if err := l.admit(m); err != nil {
			return err
		}
		if m.SelfTest != nil {
			l.selfTest <- *m.SelfTest // admitted once, and it has room for one
			continue
		}
		select {
		case l.messages <- m:
		case <-l.closing:
			return net.ErrClosed
		}
	}
}

// admit checks that m may come at this stage, and moves to the one that follows.
func (l *Link) admit(m shimwire.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case m.Error != nil && l.stage != atEnded:
		l.stage = atEnded
	case m.SelfTest != nil && l.stage == atTesting:
		l.stage = atTested
	case m.Started != nil && l.stage == atStarting:
		l.stage = atRunning
	case m.Stopped != nil && l.stage == atRunning:
	case m.Exit != nil && l.stage == atRunning:
		l.stage = atEnded
	default:
		return fmt.Errorf("it sends %s now: %w", describe(m), ErrProtocol)
	}
	return nil
}

// reason is why the shim is gone.
func (l *Link) reason() error {
	if err := l.Err(); err != nil {
		return err
	}
	return errors.New("the shim is gone")
}
