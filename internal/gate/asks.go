package gate

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"agentbox/internal/approval"
	"agentbox/internal/event"
	"agentbox/internal/policy"
)

const (
	maxOpen    = 64               // different questions that wait at once
	maxSettled = 256              // questions whose answer is remembered
	maxAsked   = 1024             // bytes of a path, or of what a push does, that a person can be shown whole
	maxVerb    = 64               // bytes of a method
	denyTime   = 30 * time.Second // for which a no also answers the same question asked again
)

// asks holds the questions of a run.
type asks struct {
	gate   *Gate
	person Person
	limit  time.Duration

	mu       sync.Mutex
	closed   bool
	open     map[identity]*question
	byID     map[string]*question
	granted  map[identity]approval.Outcome
	denied   map[identity]approval.Outcome
	settled  []approval.Outcome // the latest last
	watchers map[chan struct{}]struct{}
}

// identity is what makes two questions one.
type identity struct {
	host                            policy.Host
	port                            uint16
	scheme, method, path, git, rule string
	websocket                       bool
	sign                            string // the digest of what is to be signed
}

// question is one that waits. Its outcome is set before done is closed and never changes.
type question struct {
	approval.Question
	identity identity
	timer    *time.Timer
	done     chan struct{}
	outcome  approval.Outcome
}

func newAsks(g *Gate, person Person, limit time.Duration) *asks {
	return &asks{gate: g, person: person, limit: limit, open: map[identity]*question{}, byID: map[string]*question{},
		granted: map[identity]approval.Outcome{}, denied: map[identity]approval.Outcome{}, watchers: map[chan struct{}]struct{}{}}
}

func identityOf(r policy.Request, rule string) identity {
	return identity{host: r.Host, port: r.Port, scheme: r.Scheme, method: r.Method, path: r.Path, git: gitText(r.Git), rule: rule, websocket: r.WebSocket}
}

// gitText says what a request does to a repository: two that do the same say the same. Where the repository is not known
// the request is shown as what it is, a method and a path.
func gitText(g *policy.GitRequest) string {
	if g == nil || g.Repo == "" {
		return ""
	}
	text := string(g.Op) + " " + g.Repo
	if g.Op == policy.GitPush {
		text = "push to " + g.Repo
	}
	var updates []string
	for _, u := range g.Refs {
		updates = append(updates, string(u.Kind)+" "+u.Name)
	}
	if len(updates) > 0 {
		text += ": " + strings.Join(updates, ", ")
	}
	return text
}

// ask puts a request before a person and gives the decision that comes of it.
func (a *asks) ask(ctx context.Context, r policy.Request, d policy.Decision) policy.Decision {
	if no := cmp.Or(a.gate.spent(r, d), unaskable(r)); no != "" {
		return d.Answered(policy.Deny, d.Reason()+", and "+no)
	}
	return a.wait(ctx, posedOf(r, d), d)
}

// posed is a question before anybody is asked it.
type posed struct {
	identity identity
	question approval.Question
}

func posedOf(r policy.Request, d policy.Decision) posed {
	id := identityOf(r, d.Rule)
	return posed{id, approval.Question{Host: r.Host.String(), Port: r.Port, Scheme: r.Scheme, Method: r.Method, Path: r.Path,
		WebSocket: r.WebSocket, Git: id.git, Rule: d.Rule, Reason: d.Reason(), Via: r.Via}}
}

// wait asks a question, unless it is asked or answered already, and gives the decision that comes of the answer.
func (a *asks) wait(ctx context.Context, p posed, d policy.Decision) policy.Decision {
	q, answered := a.join(p, d)
	if q == nil {
		return answered
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		a.leave(q)
		return d.Answered(policy.Deny, d.Reason()+", and the program inside gave up before anybody answered")
	case <-a.gate.failed:
		a.leave(q)
		return closed()
	}
	return settledBy(d, q.outcome, a.limit)
}

// unaskable says why a request is none that a person could judge by what they are shown, as the end of a sentence.
func unaskable(r policy.Request) string {
	switch {
	case r.MethodBy != "":
		return "nobody is asked about it: " + r.MethodBy + " asks the server to take it for one with another method"
	case r.PathBy != "":
		return "nobody is asked about it: " + r.PathBy + " names another path to the server"
	case r.Git != nil && r.Git.Op != policy.GitFetch && r.Git.Repo == "":
		return "nobody is asked about it: it is a push of which nobody knows what it does"
	case len(r.Path) > maxAsked:
		return fmt.Sprintf("nobody is asked about it: its path is longer than the %d bytes that a person can be shown", maxAsked)
	case len(r.Method) > maxVerb || len(gitText(r.Git)) > maxAsked:
		return "nobody is asked about it: it is longer than what a person can be shown"
	}
	return ""
}

// unasked is what a decision to ask comes to where there is nobody.
func unasked(d policy.Decision) policy.Decision {
	return d.Answered(policy.Deny, d.Reason()+`, and nobody can be asked: this run has no terminal, and no "agentbox approvals --watch" shows its questions`)
}

// possible reports whether a request of that host and port could be allowed by a person.
func (a *asks) possible(r policy.Request) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	if a.person.Present() {
		return true
	}
	for id := range a.granted {
		if id.host == r.Host && id.port == r.Port {
			return true
		}
	}
	return false
}

// join gives the question to wait for, or the decision where there is nothing to wait for.
func (a *asks) join(p posed, d policy.Decision) (*question, policy.Decision) {
	id := p.identity
	a.mu.Lock()
	defer a.mu.Unlock()
	if o, ok := a.granted[id]; ok {
		return nil, settledBy(d, o, a.limit)
	}
	if a.closed {
		return nil, d.Answered(policy.Deny, d.Reason()+", and the run is ending")
	}
	if q, ok := a.open[id]; ok {
		q.Waiters++
		a.tell()
		return q, d
	}
	if o, ok := a.denied[id]; ok && time.Since(o.At) < denyTime {
		return nil, settledBy(d, o, a.limit)
	}
	switch {
	case !a.person.Present():
		return nil, unasked(d)
	case len(a.open) >= maxOpen:
		return nil, d.Answered(policy.Deny, fmt.Sprintf("%s, and %d questions wait for an answer already", d.Reason(), len(a.open)))
	}
	q := a.pose(p)
	if q == nil {
		return nil, closed()
	}
	return q, d
}

// pose opens a question, once that is recorded; nil when it can't be.
func (a *asks) pose(p posed) *question {
	now := time.Now()
	q := &question{identity: p.identity, done: make(chan struct{}), Question: p.question}
	q.ID, q.Asked, q.Until, q.Waiters = a.freeID(), now.UTC(), now.Add(a.limit).UTC(), 1
	e := asked(q)
	e.Kind, e.Detail["limit"] = event.ApprovalAsked, a.limit.String()
	if a.gate.Emit(e) != nil {
		return nil
	}
	a.open[p.identity], a.byID[q.ID] = q, q
	q.timer = time.AfterFunc(a.limit, func() {
		_ = a.answer(q.ID, approval.Answer{Scope: approval.Deny, By: approval.ByTimeout}) // it may have got another
	})
	a.tell()
	return q
}

// freeID is a new name for a question: it can be typed, and hardly ever begins like that of another run.
func (a *asks) freeID() string {
	const letters = "abcdefghjkmnpqrstuvwxyz023456789" // as in the ids of runs
	for {
		var b [5]byte
		_, _ = rand.Read(b[:]) // it never fails
		for i := range b {
			b[i] = letters[b[i]%32]
		}
		id := string(b[:])
		if a.byID[id] == nil && !slices.ContainsFunc(a.settled, func(o approval.Outcome) bool { return o.ID == id }) {
			return id
		}
	}
}

// asked is what both events of a question say.
func asked(q *question) event.Event {
	detail := map[string]string{"id": q.ID}
	if q.Git != "" {
		detail["git"] = q.Git
	}
	if q.Sign != "" {
		detail["sign"] = q.Sign
	}
	if q.WebSocket {
		detail["websocket"] = "true"
	}
	return event.Event{Host: q.Host, Port: q.Port, Method: q.Method, Path: q.Path, Rule: q.Rule, Reason: q.Reason, Via: q.Via, Detail: detail}
}

// leave takes one that waits away; without any the question is withdrawn.
func (a *asks) leave(q *question) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q.Waiters--
	if a.byID[q.ID] == q && q.Waiters == 0 {
		_ = a.settle(q, approval.Answer{Scope: approval.Deny, By: approval.ByWithdrawn}) // a log that fails shuts the gate
		return
	}
	a.tell()
}

// answer settles a question. The first answer counts.
func (a *asks) answer(id string, answer approval.Answer) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if q, ok := a.byID[id]; ok {
		if err := q.Suits(answer.Scope); err != nil {
			return err
		}
		return a.settle(q, answer)
	}
	for _, o := range slices.Backward(a.settled) {
		if o.ID == id {
			return &approval.Settled{Outcome: o}
		}
	}
	return approval.ErrUnknown
}

// settle records the answer of a question that waits and lets everything go on that waited for it. An answer that can't
// be recorded is a no. The caller holds the lock, so nobody hears of an answer, or asks anew, before it is in the log.
func (a *asks) settle(q *question, answer approval.Answer) error {
	answer.Reason = clip(answer.Reason)
	q.timer.Stop()
	q.outcome = approval.Outcome{ID: q.ID, At: time.Now().UTC(), Answer: answer}
	err := a.gate.Emit(answered(q))
	if err != nil {
		q.outcome.Answer = approval.Answer{Scope: approval.Deny, By: approval.ByEnd}
	}
	delete(a.open, q.identity)
	delete(a.byID, q.ID)
	a.remember(q)
	close(q.done)
	a.tell()
	return err
}

// remember keeps what the answer says of questions to come.
func (a *asks) remember(q *question) {
	a.settled = append(a.settled, q.outcome)
	a.settled = a.settled[max(0, len(a.settled)-maxSettled):]
	switch o := q.outcome; {
	case o.Scope == approval.Run || o.Scope == approval.Always:
		a.granted[q.identity] = o
	case o.Scope == approval.Deny && (o.By == approval.ByTerminal || o.By == approval.BySocket || o.By == approval.ByTimeout):
		for id, old := range a.denied {
			if time.Since(old.At) >= denyTime {
				delete(a.denied, id)
			}
		}
		a.denied[q.identity] = o
	}
}

func answered(q *question) event.Event {
	e := asked(q)
	e.Kind, e.Decision, e.Reason = event.ApprovalAnswered, event.Deny, q.outcome.String()
	if q.outcome.Scope.Allows() {
		e.Decision = event.Allow
	}
	e.Detail["by"], e.Detail["answer"], e.Detail["waiters"] = string(q.outcome.By), string(q.outcome.Scope), strconv.Itoa(q.Waiters)
	return e
}

// settledBy is the decision that an answer makes of one to ask.
func settledBy(d policy.Decision, o approval.Outcome, limit time.Duration) policy.Decision {
	switch {
	case o.Scope == approval.Once:
		return d.Answered(policy.Allow, policy.PersonAllowed+" once")
	case o.Scope.Allows():
		return d.Answered(policy.Allow, policy.PersonAllowed+" for this run")
	case o.By == approval.ByTimeout:
		return d.Answered(policy.Deny, fmt.Sprintf("%s, and nobody answered within %s", d.Reason(), limit))
	case o.By == approval.ByEnd || o.By == approval.ByWithdrawn:
		return d.Answered(policy.Deny, d.Reason()+", and the run is ending")
	case o.Reason != "":
		return d.Answered(policy.Deny, policy.PersonDenied+": "+o.Reason)
	}
	return d.Answered(policy.Deny, policy.PersonDenied)
}

func clip(reason string) string {
	reason = strings.ToValidUTF8(reason, "\ufffd")
	for len(reason) > approval.MaxReason {
		cut := approval.MaxReason
		for cut > 0 && reason[cut]&0xc0 == 0x80 {
			cut--
		}
		reason = reason[:cut]
	}
	return strings.TrimSpace(reason)
}

// close denies what waits.
func (a *asks) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for _, q := range a.byID {
		_ = a.settle(q, approval.Answer{Scope: approval.Deny, By: approval.ByEnd}) // a log that fails shuts the gate
	}
	clear(a.granted)
}

// tell says that the questions are others than they were. The caller holds the lock.
func (a *asks) tell() {
	for w := range a.watchers {
		select {
		case w <- struct{}{}:
		default: // it has not looked since the last time, and will see this too
		}
	}
}

// Pending gives the questions that wait, the oldest first.
func (g *Gate) Pending() []approval.Question {
	a := g.asks
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]approval.Question, 0, len(a.byID))
	for _, q := range a.byID {
		out = append(out, q.Question)
	}
	slices.SortFunc(out, func(a, b approval.Question) int {
		if c := a.Asked.Compare(b.Asked); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// Changed receives when Pending would give something else than before, however often that happened since the last time.
// stop ends it.
func (g *Gate) Changed() (changed <-chan struct{}, stop func()) {
	w := make(chan struct{}, 1)
	return w, g.Tell(w)
}

// Tell is Changed for a channel of the caller's, which has room for one.
func (g *Gate) Tell(w chan struct{}) (stop func()) {
	g.asks.mu.Lock()
	defer g.asks.mu.Unlock()
	g.asks.watchers[w] = struct{}{}
	return func() {
		g.asks.mu.Lock()
		defer g.asks.mu.Unlock()
		delete(g.asks.watchers, w)
	}
}

// Answer answers a question. The first answer counts: later ones get a *approval.Settled, and approval.ErrUnknown says
// that there is no such question. When it returns nil the answer is recorded.
func (g *Gate) Answer(id string, answer approval.Answer) error {
	if err := answer.Check(); err != nil {
		return err
	}
	return g.asks.answer(id, answer)
}

// Outcome says how a question ended, for some time.
func (g *Gate) Outcome(id string) (approval.Outcome, bool) {
	g.asks.mu.Lock()
	defer g.asks.mu.Unlock()
	for _, o := range slices.Backward(g.asks.settled) {
		if o.ID == id {
			return o, true
		}
	}
	return approval.Outcome{}, false
}
