//go:build linux

package shim

import (
	"errors"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"agentbox/internal/shimwire"
)

// pid1 is the life of a container. Its methods run on the main goroutine; only read runs beside it.
type pid1 struct {
	host      *host
	messages  chan shimwire.Message
	signals   chan os.Signal
	config    shimwire.Config
	listeners map[int]bool // descriptors that stay open
	agent     int          // pid and process group; 0 until it runs
}

func runPID1() int {
	if os.Getpid() != 1 {
		complain("it is PID 1 of a container or nothing")
		return exitInternal
	}
	// as PID 1 it changes the terminal's foreground group from the background, and answers to no pipe
	signal.Ignore(unix.SIGTTOU, unix.SIGTTIN, unix.SIGPIPE)
	// sent by the agent, these would end the Go runtime with a dump; a fault of the shim's own still does
	signal.Notify(make(chan os.Signal, 1), unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV,
		unix.SIGSTKFLT, unix.SIGSYS)
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, unix.SIGCHLD, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	h, err := dialHost(shimwire.Socket)
	if err != nil {
		complain("%v", err)
		return exitInternal
	}
	p := &pid1{host: h, messages: make(chan shimwire.Message, 256), signals: signals, listeners: map[int]bool{}}
	go p.read()
	return p.run()
}

// exit ends everything in the container. It is the only way out once the conversation has begun.
func exit(code int) int {
	killAll()
	os.Exit(code)
	return code
}

// read hands the host's messages over. When the host is gone or makes no sense, everything ends at once, in
// whatever state the main goroutine is.
func (p *pid1) read() {
	for {
		m, err := p.host.receive()
		if err != nil {
			exit(exitKilled)
		}
		p.messages <- m
	}
}

func (p *pid1) run() int {
	p.send(shimwire.Message{Hello: &shimwire.Hello{Version: shimwire.Version, PID: os.Getpid()}})
	p.config = *expect(p, func(m shimwire.Message) *shimwire.Config { return m.Config })
	if err := p.prepare(); err != nil {
		return p.fail(err)
	}
	expect(p, func(m shimwire.Message) *shimwire.Ready { return m.Ready })
	result := selfTest(p.config.SelfTest, p.descriptors())
	p.send(shimwire.Message{SelfTest: &result})
	expect(p, func(m shimwire.Message) *shimwire.Start { return m.Start })
	if !passed(result) {
		return exit(exitRefused)
	}
	if err := p.start(); err != nil {
		return p.fail(err)
	}
	return p.supervise()
}

// prepare lays the files and opens the listeners, and gives these to the host or begins to relay.
func (p *pid1) prepare() error {
	if err := writeFiles(p.config.Files); err != nil {
		return err
	}
	fds, err := openListeners(p.config.Listen)
	if err != nil {
		return err
	}
	switch p.config.Mode {
	case shimwire.Pass:
		return p.pass(fds)
	case shimwire.Relay:
		return p.relay(fds)
	}
	return fmt.Errorf("transport mode %q is unknown", p.config.Mode)
}

func (p *pid1) pass(fds []int) error {
	err := p.host.sendListeners(len(fds), fds)
	for _, fd := range fds {
		closeFD(fd)
	}
	return err
}

func (p *pid1) relay(fds []int) error {
	r := newRelay(shimwire.RelaySock)
	for i, fd := range fds {
		p.listeners[fd] = true
		go func() {
			err := r.serve(p.config.Listen[i], fd)
			complain("relaying %s: %v", p.config.Listen[i].Addr, err)
			exit(exitInternal) // a container half deaf is worse than none
		}()
	}
	return p.host.sendListeners(len(fds), nil)
}

// descriptors gives those above 2 that belong to the shim; the runtime's own are recognised by what they are.
func (p *pid1) descriptors() map[int]bool {
	own := map[int]bool{}
	for fd := range p.listeners {
		own[fd] = true
	}
	_ = control(p.host.file, func(fd int) error { own[fd] = true; return nil })
	return own
}

// start runs the agent and tells the host.
func (p *pid1) start() error {
	pid, err := startAgent(p.config.Agent)
	if err != nil {
		return err
	}
	p.agent = pid
	p.send(shimwire.Message{Started: &shimwire.Started{PID: pid}})
	return nil
}

// fail tells the host why the run cannot go on, and ends it.
func (p *pid1) fail(err error) int {
	kind, code := shimwire.ErrInternal, exitInternal
	if e := new(startError); errors.As(err, &e) {
		kind = e.kind
	}
	if kind != shimwire.ErrInternal {
		code = exitNotFound
	}
	p.send(shimwire.Message{Error: &shimwire.Error{Kind: kind, Text: err.Error()}})
	return exit(code)
}

// send tells the host, or ends everything when that is not possible.
func (p *pid1) send(m shimwire.Message) {
	if err := p.host.send(m); err != nil {
		exit(exitKilled)
	}
}

// expect waits for the one message that may come next, before the agent runs. Any other ends the run.
func expect[T any](p *pid1, want func(shimwire.Message) *T) *T {
	for {
		select {
		case m := <-p.messages:
			if v := want(m); v != nil {
				return v
			}
			exit(exitKilled)
		case s := <-p.signals:
			p.early(s)
		}
	}
}

// early answers a signal that arrives before the agent runs.
func (p *pid1) early(s os.Signal) {
	if s == unix.SIGCHLD {
		p.reap()
		return
	}
	if n, ok := s.(unix.Signal); ok {
		exit(128 + int(n))
	}
}

// supervise reaps, forwards and obeys until the agent ends.
func (p *pid1) supervise() int {
	for ended := p.reap(); ; {
		if ended != nil {
			return p.finish(*ended)
		}
		select {
		case m := <-p.messages:
			p.obey(m)
		case s := <-p.signals:
			if n, ok := s.(unix.Signal); ok && n != unix.SIGCHLD {
				p.kill(n)
			}
		}
		ended = p.reap()
	}
}

func (p *pid1) obey(m shimwire.Message) {
	switch {
	case m.Signal != nil:
		p.kill(unix.Signal(m.Signal.Number))
	case m.Resize != nil && p.config.Agent.Terminal:
		_ = resize(*m.Resize) // the terminal may be hung up already
	case m.Resize != nil:
	case m.Continue != nil:
		p.resume()
	default:
		exit(exitKilled)
	}
}

// kill sends n to the agent's group. The group may have ended: then the agent's own end is on its way.
func (p *pid1) kill(n unix.Signal) {
	if n > 0 && n <= 64 {
		_ = unix.Kill(-p.agent, n)
	}
}

// resume gives the agent the terminal back and lets it go on.
func (p *pid1) resume() {
	if p.config.Agent.Terminal {
		_ = unix.IoctlSetPointerInt(tty, unix.TIOCSPGRP, p.agent)
	}
	p.kill(unix.SIGCONT)
}

// reap collects every child that ended or stopped, its own and those that were orphaned. It returns how the
// agent ended, or nil.
func (p *pid1) reap() (ended *unix.WaitStatus) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG|unix.WUNTRACED, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || pid <= 0:
			return ended
		case pid == p.agent && status.Stopped():
			p.stopped(status.StopSignal())
		case pid == p.agent:
			ended = &status
		}
	}
}

// stopped tells the host, which suspends itself as the agent did. Without a terminal nobody could bring it back.
func (p *pid1) stopped(n unix.Signal) {
	if p.config.Agent.Terminal {
		p.send(shimwire.Message{Stopped: &shimwire.Stopped{Signal: int(n)}})
	}
}

// finish tells the host how the agent ended, ends the rest and gives the container the agent's exit code.
func (p *pid1) finish(status unix.WaitStatus) int {
	killAll()
	end, code := shimwire.Exit{Code: status.ExitStatus()}, status.ExitStatus()
	if status.Signaled() {
		end, code = shimwire.Exit{Signal: int(status.Signal())}, 128+int(status.Signal())
	}
	p.send(shimwire.Message{Exit: &end})
	return exit(code)
}
