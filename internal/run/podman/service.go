package podman

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// service is a `podman system service` of this run's own. It listens on a socket that agentbox opened and handed
// over, so that a request made at once waits in the socket's queue and nothing has to be polled. It stays while agentbox is
// busy with something else, such as copying a repository. Should agentbox be killed, it ends by itself after idleSeconds.
type service struct {
	socket string
	out    *tail
	quit   chan struct{} // closed by stop
	once   sync.Once

	mu      sync.Mutex // of what again changes
	cmd     *exec.Cmd
	ended   chan struct{}
	beaten  chan struct{} // closed when nothing beats any more
	stopped bool
}

const (
	idleSeconds = "5"
	beatEvery   = 2 * time.Second
)

// ErrNoPodman says that there is no podman on PATH.
var ErrNoPodman = errors.New("podman is not installed")

func (o Options) program() (string, error) {
	if o.Podman != "" {
		return o.Podman, nil
	}
	program, err := exec.LookPath("podman")
	if err != nil {
		return "", ErrNoPodman
	}
	return program, nil
}

func startService(o Options) (*service, error) {
	program, err := o.program()
	if err != nil {
		return nil, err
	}
	s := &service{socket: filepath.Join(o.Dir, "podman.sock"), out: &tail{}, quit: make(chan struct{})}
	if err := s.start(program, o); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *service) start(program string, o Options) error {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("opening a socket for Podman: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	file, err := listener.File()
	if err != nil {
		_ = listener.Close()
		return fmt.Errorf("opening a socket for Podman: %w", err)
	}
	err = s.spawn(program, o, file)
	_ = file.Close()
	_ = listener.Close() // the service holds it now: should it die, connections are refused instead of waiting
	if err != nil {
		_ = os.Remove(s.socket)
		return fmt.Errorf("starting a Podman service: %w", err)
	}
	return nil
}

// again starts a service anew that has ended without a word before it served anybody: where a machine is very busy, one takes
// itself for idle while it is still getting ready.
func (s *service) again(o Options) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	program, err := o.program()
	if err != nil || s.stopped {
		return false
	}
	select {
	case <-s.ended:
	case <-time.After(beatEvery): // it is there, and has other reasons
		return false
	}
	if s.out.String() != "" || !s.cmd.ProcessState.Success() || os.Remove(s.socket) != nil {
		return false
	}
	return s.start(program, o) == nil
}

// spawn starts podman through a shell, because LISTEN_PID must name a process that does not exist before.
func (s *service) spawn(program string, o Options, socket *os.File) error {
	// Podman makes a container in less time than its garbage would take to collect, and does little else for us: it
	// collects when it has some, and not before.
	args := []string{"-c", `[ "${GOGC+set}" ] || export GOGC=off GOMEMLIMIT=96MiB; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`, "sh", program}
	if o.OCIRuntime != "" {
		args = append(args, "--runtime", o.OCIRuntime)
	}
	args = append(args, "system", "service", "--time", idleSeconds)
	s.ended, s.beaten = make(chan struct{}), make(chan struct{})
	s.cmd = exec.Command("/bin/sh", args...)
	s.cmd.Dir = "/"
	s.cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(o.Without, name)
	})
	s.cmd.WaitDelay = time.Second // a conmon may hold the pipe longer than the service lives
	s.cmd.ExtraFiles = []*os.File{socket}
	s.cmd.Stderr = s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C on the terminal is not for it
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // how it ended shows in its own words, kept in out
		close(ended)
	}(s.cmd, s.ended)
	go s.beat(s.ended, s.beaten)
	return nil
}

// beat asks for something small now and then, so that the service does not take itself for idle.
func (s *service) beat(ended <-chan struct{}, beaten chan<- struct{}) {
	defer close(beaten)
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.ping()
		case <-ended:
			return
		case <-s.quit:
			return
		}
	}
}

func (s *service) ping() {
	conn, err := net.DialTimeout("unix", s.socket, time.Second)
	if err != nil {
		return // that it has ended shows elsewhere
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(beatEvery)) // whether it answers does not matter
	if _, err := io.WriteString(conn, "GET /_ping HTTP/1.0\r\n\r\n"); err == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
}

// stop ends the service, waits for it, and returns what it had said on stderr.
func (s *service) stop() string {
	s.once.Do(func() {
		s.mu.Lock()
		s.stopped = true
		s.mu.Unlock()
		close(s.quit)
		// The first Podman since boot makes the user namespace and serves in a child, which the signal must reach too.
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM)
		timer := time.NewTimer(3 * time.Second)
		defer timer.Stop()
		select {
		case <-s.ended:
		case <-timer.C:
			_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
			<-s.ended
		}
		<-s.beaten
		_ = os.Remove(s.socket)
	})
	return s.out.String()
}

func answers(socket string) bool {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// tail keeps the last few kilobytes that were written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if extra := t.buf.Len() - tailSize; extra > 0 {
		t.buf.Next(extra)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(t.buf.String())
}
