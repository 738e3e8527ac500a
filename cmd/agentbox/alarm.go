package main

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/term"

	"agentbox/internal/event"
)

// maxAlarms is of how many a person is told at once.
const maxAlarms = 20

// alarms are what the person is told of while the run goes on: of each credential and host once. It is a Sink, which never
// waits for the terminal: a question may stand there whose answer is an event.
type alarms struct {
	lines chan string // has room for all of them

	mu   sync.Mutex
	told map[[2]string]bool // by credential and host
}

func newAlarms() *alarms {
	return &alarms{lines: make(chan string, maxAlarms+1), told: map[[2]string]bool{}}
}

// Emit takes those that are alarms.
func (a *alarms) Emit(e event.Event) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := [2]string{e.Credential, e.Host}
	if !e.Alarm || a.told[at] || len(a.told) > maxAlarms {
		return nil
	}
	a.told[at] = true
	if len(a.told) > maxAlarms {
		a.lines <- "more placeholders were refused where they may not go: agentbox events lists them"
		return nil
	}
	a.lines <- fmt.Sprintf("ALARM: in a request to %s, %s; it was refused", place(event.HostPort{Host: e.Host, Port: e.Port}), printable(e.Reason))
	return nil
}

// tell says each as it comes, until ctx is done; then what has come by then.
func (a *alarms) tell(ctx context.Context, say func(line string)) {
	for {
		select {
		case line := <-a.lines:
			say(line)
		case <-ctx.Done():
			a.rest(say)
			return
		}
	}
}

func (a *alarms) rest(say func(line string)) {
	for {
		select {
		case line := <-a.lines:
			say(line)
		default:
			return
		}
	}
}

// interject says something while the agent runs, where it does not have the terminal as a whole.
func (j *job) interject(line string) {
	if term.IsTerminal(int(j.err.Fd())) {
		defer j.screen.claim(j.err)()
	}
	j.say("warning: %s", line)
}
