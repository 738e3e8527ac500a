package run

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/shimwire"
)

// Stop asks a run to end.
type Stop struct {
	Reason string // one plain phrase: "stopped by agentbox stop"
	Code   int    // the exit code of the run
	Force  bool   // no time to finish
}

// grace is how long an agent that was asked to end may take.
const grace = 5 * time.Second

// link is the part of transport.Link that supervision needs.
type link interface {
	Messages() <-chan shimwire.Message
	Signal(n int) error
	Resize(rows, cols uint16) error
	Continue() error
	Close() error
}

// supervisor waits for the agent's end, or brings it about.
type supervisor struct {
	link     link
	terminal *Terminal // nil without one
	signals  <-chan os.Signal
	stops    <-chan Stop
	broken   <-chan struct{} // the log can't be written: end at once
	budget   <-chan time.Time
	limit    time.Duration
	output   chan error    // how the output of the container ended; what is taken from it is put back
	guard    <-chan string // a mount that guards the repository was lost
	full     <-chan string // more is written than may be: the sentence about it
	record   func(event.Event)

	stopping   *Stop // the first reason wins
	kill       <-chan time.Time
	interrupts int
	heard      bool     // of the end of the output
	failure    *Failure // the agent was never started
}

// wait returns how the run ended. When it returns the agent is dead or dying: the link is closed.
func (s *supervisor) wait() (code int, reason string) {
	defer func() { _ = s.link.Close() }()
	messages := s.link.Messages()
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return s.lost()
			}
			if code, reason, ended := s.message(m); ended {
				return code, reason
			}
		case sig := <-s.signals:
			if s.signal(sig) {
				return s.stopping.Code, s.stopping.Reason
			}
		case stop := <-s.stops:
			if s.stop(stop, syscall.SIGTERM) {
				return s.stopping.Code, s.stopping.Reason
			}
		case <-s.budget:
			if s.stop(Stop{Reason: fmt.Sprintf("the time budget of %s is spent", s.limit), Code: CodeBudget}, syscall.SIGTERM) {
				return s.stopping.Code, s.stopping.Reason
			}
		case err := <-s.outputEnded():
			if s.unread(err) {
				return s.stopping.Code, s.stopping.Reason
			}
		case path, ok := <-s.guard:
			if !ok {
				return CodeFailed, "the watch over the guard of the repository ended"
			}
			return CodeFailed, "a program on this machine replaced " + path + ", which took the guard off it"
		case reason := <-s.full:
			if s.stop(Stop{Reason: reason, Code: CodeBudget, Force: true}, syscall.SIGTERM) {
				return s.stopping.Code, s.stopping.Reason
			}
		case <-s.broken:
			return CodeFailed, "the event log could not be written"
		case <-s.kill:
			return s.stopping.Code, s.stopping.Reason
		case <-s.resized():
			size := s.terminal.Size()
			_ = s.link.Resize(size.Rows, size.Cols) // a link that is gone shows in Messages
		}
	}
}

func (s *supervisor) resized() <-chan os.Signal {
	if s.terminal == nil {
		return nil
	}
	return s.terminal.Resized()
}

// outputEnded is asked once.
func (s *supervisor) outputEnded() <-chan error {
	if s.heard {
		return nil
	}
	return s.output
}

// unread ends a run whose output nobody takes any more, as a closed pipe ends a program.
func (s *supervisor) unread(err error) (forced bool) {
	s.output <- err
	s.heard = true
	if err == nil {
		return false
	}
	return s.stop(Stop{Reason: "nobody reads the agent's output any more: " + err.Error(), Code: 128 + int(syscall.SIGPIPE)}, syscall.SIGTERM)
}

// lost is when the shim went away without saying how the agent ended.
func (s *supervisor) lost() (int, string) {
	if s.stopping != nil {
		return s.stopping.Code, s.stopping.Reason
	}
	return CodeFailed, "the container ended without a word (killed from outside, or out of memory)"
}

func (s *supervisor) message(m shimwire.Message) (code int, reason string, ended bool) {
	switch {
	case m.Exit != nil:
		code, reason = s.exited(*m.Exit)
		return code, reason, true
	case m.Error != nil:
		s.failure = failure(*m.Error)
		return 0, "", true
	case m.Stopped != nil && s.terminal != nil:
		if err := s.terminal.Suspend(); err != nil {
			return CodeFailed, err.Error(), true
		}
		size := s.terminal.Size()
		_ = s.link.Resize(size.Rows, size.Cols)
		_ = s.link.Continue()
	}
	return 0, "", false
}

// exited: a run that was told to end has that reason, whatever the agent says of itself.
func (s *supervisor) exited(e shimwire.Exit) (int, string) {
	if s.stopping != nil {
		return s.stopping.Code, s.stopping.Reason
	}
	if e.Signal != 0 {
		return 128 + e.Signal, fmt.Sprintf("the agent was ended by signal %d (%s)", e.Signal, syscall.Signal(e.Signal))
	}
	return e.Code, fmt.Sprintf("the agent ended with exit code %d", e.Code)
}

func failure(e shimwire.Error) *Failure {
	switch e.Kind {
	case shimwire.ErrNotFound, shimwire.ErrNotExecutable:
		return &Failure{Code: CodeNotFound, Text: e.Text, Hint: "the agent sees /usr, the toolchains on your PATH and the repository, and nothing else"}
	}
	return &Failure{Code: CodeFailed, Text: e.Text}
}

// signal passes a signal on to the agent. An interrupt is the agent's to answer, as it would be without agentbox;
// the second one ends the run.
func (s *supervisor) signal(sig os.Signal) (forced bool) {
	n, ok := sig.(syscall.Signal)
	if !ok {
		return false
	}
	stop := Stop{Reason: fmt.Sprintf("agentbox got signal %d (%s)", n, n), Code: 128 + int(n)}
	switch n {
	case syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
		return s.stop(stop, n)
	case syscall.SIGINT:
		s.interrupts++
		if s.interrupts > 1 {
			stop.Force = true
			return s.stop(stop, n)
		}
	}
	_ = s.link.Signal(int(n)) // a link that is gone shows in Messages
	return false
}

// stop asks the agent to end; asked a second time, or with Force, it ends it.
func (s *supervisor) stop(stop Stop, sig syscall.Signal) (forced bool) {
	if s.stopping != nil {
		return true
	}
	s.stopping = &stop
	s.record(event.Event{Kind: event.RunStop, Reason: stop.Reason})
	if stop.Force {
		return true
	}
	_ = s.link.Signal(int(sig)) // a stopped agent must run to hear it
	_ = s.link.Signal(int(syscall.SIGCONT))
	s.kill = time.After(grace)
	return false
}
