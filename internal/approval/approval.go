// Package approval is what is asked of a person about one request, and what is answered.
//
// It owns the shapes of both and their words, as they go between the gate, the control socket and whoever shows them;
// who may be asked and what an answer brings about is the gate's. Strings of a Question hold bytes that an agent chose:
// whoever shows them to a person escapes them.
package approval

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Question is one question that waits for an answer. However many requests are alike, they are one question.
type Question struct {
	ID      string    `json:"id"` // short, and a run's own
	Asked   time.Time `json:"asked"`
	Until   time.Time `json:"until"`   // when the answer is no
	Waiters int       `json:"waiters"` // requests that wait for the answer now

	Host      string `json:"host"`
	Port      uint16 `json:"port"`
	Scheme    string `json:"scheme"` // "https", "http", or "tcp" for a raw connection
	Method    string `json:"method,omitempty"`
	Path      string `json:"path,omitempty"` // without the query, of which an answer says nothing
	WebSocket bool   `json:"websocket,omitempty"`
	Git       string `json:"git,omitempty"` // what it does to a repository: "push to acme/billing: update refs/heads/main"

	Sign string `json:"sign,omitempty"` // what is to be signed, and with what: then there is no request, and a yes is for once

	Rule   string `json:"rule"`   // which wants a person asked, as "profile:line", or "default"
	Reason string `json:"reason"` // one plain sentence
	Via    string `json:"via,omitempty"`
}

// What is the request in a few words: "POST api.example.com/v1/x".
func (q Question) What() string {
	place := q.Host
	if standard := map[string]uint16{"http": 80, "https": 443, "": 443}; standard[q.Scheme] != q.Port {
		place = fmt.Sprintf("%s:%d", q.Host, q.Port)
	}
	switch {
	case q.Sign != "":
		return "sign " + q.Sign
	case q.Scheme == "tcp":
		return "a raw connection to " + place
	case q.Git != "":
		return "git " + q.Git + " at " + place
	case q.Method == "" && q.Path == "":
		return "a connection to " + place
	}
	if q.Scheme == "http" {
		place = "http://" + place
	}
	what := q.Method + " " + place + q.Path
	if q.WebSocket {
		what = "a WebSocket by " + what
	}
	return what
}

// Scope is how far an answer reaches.
type Scope string

// The answers. Always is Run to the gate; whoever gives it also writes a rule for the runs to come.
const (
	Once   Scope = "once"   // those that wait now; the next request asks again
	Run    Scope = "run"    // this question, for the rest of the run
	Always Scope = "always" // this question, here, from now on
	Deny   Scope = "deny"
)

// Allows reports whether the answer is a yes.
func (s Scope) Allows() bool { return s == Once || s == Run || s == Always }

// By is how an answer came.
type By string

// How answers come.
const (
	ByTerminal  By = "terminal"  // typed at the run's own terminal
	BySocket    By = "socket"    // by agentbox approve, or deny, elsewhere
	ByTimeout   By = "timeout"   // nobody answered in time
	ByWithdrawn By = "withdrawn" // nothing waits for it any more
	ByEnd       By = "end"       // the run ended
)

// MaxReason bounds the bytes of a reason.
const MaxReason = 500

// Answer is what a person says.
type Answer struct {
	Scope  Scope  `json:"scope"`
	Reason string `json:"reason,omitempty"` // of a no, shown to the agent
	By     By     `json:"by"`
}

// Check refuses what is no answer of a person's.
func (a Answer) Check() error {
	switch {
	case a.Scope != Deny && !a.Scope.Allows():
		return fmt.Errorf("%q is not an answer", a.Scope)
	case len(a.Reason) > MaxReason:
		return fmt.Errorf("the reason is longer than %d bytes", MaxReason)
	}
	return nil
}

// Outcome is how a question ended.
type Outcome struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
	Answer
}

// String says it in a few words: "allowed once by a person at the run's terminal".
func (o Outcome) String() string {
	switch o.By {
	case ByTimeout:
		return "denied, because nobody answered in time"
	case ByWithdrawn:
		return "withdrawn, because nothing waited for it any more"
	case ByEnd:
		return "denied, because the run ended"
	}
	text := map[Scope]string{Once: "allowed once", Run: "allowed for the run", Always: "allowed always", Deny: "denied"}[o.Scope]
	if o.By == ByTerminal {
		text += " at the run's terminal"
	} else {
		text += " from another terminal"
	}
	if o.Reason != "" {
		text += ": " + strings.TrimSpace(o.Reason)
	}
	return text
}

// ErrOnce says that an answer reaches further than one to this question can.
var ErrOnce = errors.New(`a signature is allowed once: what is signed next is something else ([signing] commits = "allow" in a profile of yours asks no more)`)

// Suits refuses an answer that a question does not take.
func (q Question) Suits(s Scope) error {
	if q.Sign != "" && (s == Run || s == Always) {
		return ErrOnce
	}
	return nil
}

// ErrUnknown says that there is no such question, and was none lately.
var ErrUnknown = errors.New("there is no such question")

// Settled says that a question has its answer already: the first one counts.
type Settled struct{ Outcome }

func (e *Settled) Error() string { return "question " + e.ID + " is settled: " + e.String() }
