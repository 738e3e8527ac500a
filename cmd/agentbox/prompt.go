package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"agentbox/internal/approval"
	"agentbox/internal/gate"
	"agentbox/internal/sys"
)

// prompt puts the questions of a run to the person at its terminal, one after another. It is for runs whose agent does
// not have the terminal as a whole.
type prompt struct {
	gate   *gate.Gate
	screen *screen
	always func(io.Writer, approval.Question) error // writes the rule; says which
}

// again is how often a prompt that may not use the terminal now looks whether it may: no event tells that a job is in the
// foreground.
const again = time.Second

// run asks until ctx is done.
func (p *prompt) run(ctx context.Context) {
	changed, stop := p.gate.Changed()
	defer stop()
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		var retry <-chan time.Time
		if open := p.gate.Pending(); len(open) > 0 {
			if p.ask(ctx, open[0], len(open)-1, changed) {
				continue
			}
			retry = tick.C
		}
		select {
		case <-changed:
		case <-retry:
		case <-ctx.Done():
			return
		}
	}
}

// ask puts one question and waits until it is answered, here or elsewhere. False: it can't be put now.
func (p *prompt) ask(ctx context.Context, q approval.Question, more int, changed <-chan struct{}) bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil || ctx.Err() != nil {
		return false
	}
	defer tty.Close()
	release := p.screen.claim(tty)
	defer release()
	// Reading, or flushing, from the background would stop this process; without a deadline no answer from elsewhere could
	// end the reading.
	if !foreground(tty) || tty.SetReadDeadline(time.Time{}) != nil || flush(tty) != nil {
		return false
	}
	fmt.Fprint(tty, questionLine(q, more))
	typed := make(chan reply, 1)
	go func() { typed <- readReply(tty) }()
	for {
		select {
		case r := <-typed:
			return p.typed(tty, q, r)
		case <-changed:
			o, settled := p.gate.Outcome(q.ID)
			if !settled {
				continue
			}
			fmt.Fprintf(tty, "\n  %s\n", escaped(o.String()))
		case <-ctx.Done():
			fmt.Fprint(tty, "\n")
		}
		_ = tty.SetReadDeadline(time.Unix(1, 0))
		<-typed
		return true
	}
}

// questionLine is the question with all that the answer is about: what is cut off could be what matters. The path ends its
// line, so that nothing behind it passes for a part of it.
func questionLine(q approval.Question, more int) string {
	wait := left(q)
	if more > 0 {
		wait += fmt.Sprintf("; %d more", more)
	}
	if q.Suits(approval.Run) != nil {
		return fmt.Sprintf("agentbox asks: %s\n  allow it [o]nce or [N]ot? (%s) ", escaped(q.What()), wait)
	}
	return fmt.Sprintf("agentbox asks: %s\n  allow it [o]nce, for this [r]un, [a]lways, or [N]ot? (%s) ", escaped(q.What()), wait)
}

// typed answers with what was typed. What is no yes is a no; a terminal that is gone is no answer.
func (p *prompt) typed(tty io.Writer, q approval.Question, r reply) bool {
	if r.err != nil {
		return false
	}
	scope := scopeOf(r.line)
	err := p.gate.Answer(q.ID, approval.Answer{Scope: scope, By: approval.ByTerminal})
	if err == nil && scope == approval.Always {
		err = p.always(tty, q)
	}
	if err != nil {
		fmt.Fprintf(tty, "  %s\n", escapedLines(err.Error()))
	}
	return true
}

// scopeOf reads what was typed at a question.
func scopeOf(line string) approval.Scope {
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "o", "once", "y", "yes":
		return approval.Once
	case "r", "run":
		return approval.Run
	case "a", "always":
		return approval.Always
	}
	return approval.Deny
}

// reply is a line that was typed, or why there is none.
type reply struct {
	line string
	err  error
}

func readReply(tty io.Reader) reply {
	line, err := bufio.NewReader(io.LimitReader(tty, 1024)).ReadString('\n')
	if errors.Is(err, io.EOF) { // Ctrl-D is a no
		err = nil
	}
	return reply{line, err}
}

// foreground reports whether this process may read from its terminal.
func foreground(tty *os.File) bool {
	var group int
	err := control(tty, func(fd int) (err error) {
		group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return err
	})
	return err == nil && group == unix.Getpgrp()
}

// flush drops what was typed before the question: it is no answer to it.
func flush(tty *os.File) error {
	return control(tty, sys.FlushInput)
}

// control calls do with the descriptor of a file whose reading must stay interruptible.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = do(int(fd)) })
	return errors.Join(err, inner)
}
