package synthdns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

const (
	maxConns   = 128              // TCP connections at once; further ones are closed
	idleLimit  = 30 * time.Second // between the queries of a TCP connection
	writeLimit = 10 * time.Second
	pause      = 100 * time.Millisecond
)

// Server answers queries over UDP and TCP from a Table. Close it to stop.
type Server struct {
	answers *answerer
	work    sync.WaitGroup
	done    chan struct{}

	mu     sync.Mutex
	closed bool
	open   map[io.Closer]struct{}
	conns  int
}

// NewServer gives a server of table's names. allowed says which names exist, and events takes the refusals.
func NewServer(table *Table, allowed func(policy.Host) bool, events event.Sink) *Server {
	return &Server{
		answers: &answerer{table: table, allowed: allowed, events: events, refused: map[string]bool{}},
		done:    make(chan struct{}), open: map[io.Closer]struct{}{},
	}
}

// ServeUDP answers what comes to conn, one query at a time, until conn fails or the server is closed, which gives
// nil. It closes conn.
func (s *Server) ServeUDP(conn net.PacketConn) error {
	if !s.enter(conn, false) {
		return nil
	}
	defer s.leave(conn, false)
	buf := make([]byte, dns.MaxMsgSize)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			if s.passing(err) {
				continue
			}
			return s.ended(err)
		}
		if out := s.safely(buf[:n], true); out != nil {
			_, _ = conn.WriteTo(out, from) // who asked asks again
		}
	}
}

// ServeTCP answers on the connections that l accepts, until l fails or the server is closed, which gives nil. It
// closes l.
func (s *Server) ServeTCP(l net.Listener) error {
	if !s.enter(l, false) {
		return nil
	}
	defer s.leave(l, false)
	for {
		conn, err := l.Accept()
		if err != nil {
			if s.passing(err) {
				continue
			}
			return s.ended(err)
		}
		if s.enter(conn, true) {
			go func() {
				defer s.leave(conn, true)
				s.serveConn(conn)
			}()
		}
	}
}

// Close stops serving and waits for what serves.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	for c := range s.open {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.work.Wait()
	return nil
}

// serveConn answers messages that each come after two bytes of length.
func (s *Server) serveConn(conn net.Conn) {
	for {
		query, err := readMessage(conn)
		if err != nil {
			return
		}
		out := s.safely(query, false)
		if out == nil || writeMessage(conn, out) != nil {
			return
		}
	}
}

func readMessage(conn net.Conn) ([]byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(idleLimit)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, message)
	return message, err
}

func writeMessage(conn net.Conn, message []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return err
	}
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, len(message)+2), uint16(len(message)))
	_, err := conn.Write(append(framed, message...))
	return err
}

// safely answers a query; one that makes the parser panic gets no answer.
func (s *Server) safely(query []byte, udp bool) (out []byte) {
	defer func() {
		if recover() != nil {
			out = nil
		}
	}()
	return s.answers.answer(query, udp)
}

// enter remembers what Close has to close and counts its goroutine in; false means that c is closed already.
func (s *Server) enter(c io.Closer, conn bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || conn && s.conns >= maxConns {
		_ = c.Close()
		return false
	}
	if conn {
		s.conns++
	}
	s.open[c] = struct{}{}
	s.work.Add(1)
	return true
}

func (s *Server) leave(c io.Closer, conn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = c.Close()
	delete(s.open, c)
	if conn {
		s.conns--
	}
	s.work.Done()
}

// passing reports whether an error is of the moment, after a pause when it is one of want.
func (s *Server) passing(err error) bool {
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNABORTED) {
		return true
	}
	if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.done:
		return false
	}
}

func (s *Server) ended(err error) error {
	select {
	case <-s.done:
		return nil
	default:
		return fmt.Errorf("serving names: %w", err)
	}
}
