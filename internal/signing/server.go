package signing

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"agentbox/internal/shimwire"
)

const (
	maxPending = 16               // requests at a time; each may wait for a person
	askTime    = 10 * time.Second // in which a request has to be there whole, and its answer taken
	namespace  = "git"
)

// Request is what may be signed: an object, and the digest of its bytes.
type Request struct {
	Object
	Digest string // "sha256:…"
}

// Judge decides what is signed, and records all of it.
type Judge interface {
	// Allow says whether it may be signed; where not, why, for whoever asked. The answer is recorded by then.
	Allow(ctx context.Context, r Request) (ok bool, why string)
	// Refuse records that something was refused that nobody needs to judge.
	Refuse(why string)
	// Made records what came of it when something was allowed. An error keeps the signature back.
	Made(r Request, err error) error
}

// Server answers programs inside that want something signed.
type Server struct {
	key    Key
	judge  Judge
	dir    string
	listen *net.UnixListener
	slots  chan struct{}
	turn   sync.Mutex // of the program that signs
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// Listen opens the socket at path, for this user alone, and serves it until Close. dir is a directory of this run alone.
func Listen(path, dir string, key Key, judge Judge) (*Server, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		return nil, fmt.Errorf("opening the socket for signatures: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	s := &Server{key: key, judge: judge, dir: dir, listen: l, slots: make(chan struct{}, maxPending)}
	s.ctx, s.cancel = context.WithCancel(context.Background()) //nolint:forbidigo // it ends with Close, and with no call
	s.work.Go(s.accept)
	return s, nil
}

// Close ends what waits, and waits for it.
func (s *Server) Close() error {
	s.cancel()
	err := s.listen.Close()
	s.work.Wait()
	return err
}

func (s *Server) accept() {
	for {
		conn, err := s.listen.AcceptUnix()
		if s.ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return
		}
		if err != nil {
			if !pause(s.ctx) { // no descriptors left, for now
				return
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
			s.work.Go(func() {
				defer func() { <-s.slots }()
				s.serve(conn)
			})
		default:
			s.refuse(conn, fmt.Sprintf("%d signatures are waited for already", maxPending))
			_ = conn.Close()
		}
	}
}

func pause(ctx context.Context) bool {
	t := time.NewTimer(100 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// refuse records a refusal and tells it.
func (s *Server) refuse(conn net.Conn, why string) {
	s.judge.Refuse(why)
	answer(conn, shimwire.SignAnswer{Refused: why})
}

func answer(conn net.Conn, a shimwire.SignAnswer) {
	line, err := shimwire.EncodeLine(a)
	if err == nil && conn.SetWriteDeadline(time.Now().Add(askTime)) == nil {
		_, _ = conn.Write(line) // whoever asked may be gone
	}
}

// serve answers one request.
func (s *Server) serve(conn *net.UnixConn) {
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	payload, err := s.read(conn)
	if err == nil {
		var o Object
		if o, err = Parse(payload); err == nil {
			s.sign(ctx, cancel, conn, payload, o)
			return
		}
		err = fmt.Errorf("only commits and tags are signed: %w", err)
	}
	s.refuse(conn, err.Error())
}

// read takes a request off the connection.
func (s *Server) read(conn net.Conn) ([]byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(askTime)); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	q, err := shimwire.ReadSignRequest(in)
	switch {
	case err != nil:
		return nil, errors.New("what was asked is no request for a signature")
	case q.Size < 0 || q.Size > MaxPayload:
		return nil, fmt.Errorf("only commits and tags are signed: it is larger than the %d bytes that may be signed", MaxPayload)
	case q.Format == SSH && q.Namespace != namespace:
		return nil, fmt.Errorf("only commits and tags are signed: the namespace is not %q", namespace)
	case q.Format != OpenPGP && q.Format != SSH:
		return nil, errors.New("there are no signatures of that format")
	case s.key.Format != "" && q.Format != s.key.Format:
		return nil, fmt.Errorf("signatures are made by %s here, as your gpg.format says", s.key.Format)
	}
	payload := make([]byte, q.Size)
	if _, err := io.ReadFull(in, payload); err != nil {
		return nil, errors.New("what was to be signed did not come whole")
	}
	return payload, nil
}

// sign has it judged, signs what was judged, and gives the signature away.
func (s *Server) sign(ctx context.Context, cancel context.CancelFunc, conn net.Conn, payload []byte, o Object) {
	_ = conn.SetReadDeadline(time.Time{})
	s.work.Go(func() { // nobody asks any more once the connection ends, or goes on
		_, _ = conn.Read(make([]byte, 1))
		cancel()
	})
	sum := sha256.Sum256(payload)
	r := Request{Object: o, Digest: "sha256:" + hex.EncodeToString(sum[:])}
	ok, why := s.judge.Allow(ctx, r)
	if !ok {
		answer(conn, shimwire.SignAnswer{Refused: why})
		return
	}
	signature, err := s.make(ctx, payload)
	if recorded := s.judge.Made(r, err); recorded != nil {
		signature, err = nil, recorded
	}
	if err != nil {
		answer(conn, shimwire.SignAnswer{Refused: "the signing program of the host gave no signature; agentbox events says why"})
		return
	}
	answer(conn, shimwire.SignAnswer{Signature: signature})
}

func (s *Server) make(ctx context.Context, payload []byte) ([]byte, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("nobody waits for it any more: %w", err)
	}
	return s.key.Sign(ctx, s.dir, payload)
}
