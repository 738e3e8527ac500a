package gate

import (
	"container/list"
	"errors"
	"strings"
	"sync"

	"agentbox/internal/event"
)

// maxRefusals bounds the refusals that are told apart. The one that was not repeated for the longest makes room.
const maxRefusals = 1024

// refusals records the first of refusals that are alike and counts the others.
type refusals struct {
	record func(event.Event) error
	err    func() error // why nothing can be recorded any more: then nothing is counted either

	mu     sync.Mutex
	closed bool
	known  map[likeness]*list.Element
	recent *list.List // of *refusal, the latest first
}

// likeness is what refusals that are alike have in common.
type likeness struct {
	kind                                                            event.Kind
	host, method, path, rule, reason, via, scheme, methodBy, pathBy string
	git                                                             string // what it does to a repository
	port                                                            uint16
	websocket                                                       bool
	size                                                            int64
}

// refusal is one that was recorded, and those like it since.
type refusal struct {
	like      likeness
	event     event.Event
	total     uint64
	unwritten uint64
}

func newRefusals(record func(event.Event) error, err func() error) *refusals {
	return &refusals{record: record, err: err, known: map[likeness]*list.Element{}, recent: list.New()}
}

// repeatable reports whether an event is a refusal that says nothing but what makes it alike to others.
func repeatable(e event.Event) bool {
	return (e.Kind == event.NetRequest || e.Kind == event.NetRefused || e.Kind == event.SignRequest) && e.Decision == event.Deny &&
		e.Detail == nil && e.Credential == "" && e.Status == 0 && e.Count <= 1
}

func likenessOf(e event.Event) likeness {
	like := likeness{kind: e.Kind, host: e.Host, method: e.Method, path: e.Path, rule: e.Rule, reason: e.Reason, via: e.Via, scheme: e.Scheme,
		methodBy: e.MethodBy, pathBy: e.PathBy, port: e.Port, websocket: e.WebSocket, size: e.Size}
	if e.Git != nil {
		like.git = strings.Join(append([]string{e.Git.Op, e.Git.Repo}, e.Git.Refs...), "\x00")
	}
	return like
}

// add records a refusal, or counts it. The first of a kind is in the log before anybody hears of it, so the log is
// written under the lock.
func (f *refusals) add(e event.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return f.record(e)
	}
	like := likenessOf(e)
	at, ok := f.known[like]
	if !ok {
		return f.first(like, e)
	}
	f.recent.MoveToFront(at)
	r := at.Value.(*refusal)
	r.total++
	r.unwritten++
	if isRound(r.total) {
		return f.write(r)
	}
	return f.err()
}

func (f *refusals) first(like likeness, e event.Event) error {
	if f.recent.Len() >= maxRefusals {
		oldest := f.recent.Back()
		if err := f.write(oldest.Value.(*refusal)); err != nil {
			return err
		}
		delete(f.known, f.recent.Remove(oldest).(*refusal).like)
	}
	if err := f.record(e); err != nil {
		return err
	}
	f.known[like] = f.recent.PushFront(&refusal{like: like, event: e, total: 1})
	return nil
}

// write records what was only counted.
func (f *refusals) write(r *refusal) error {
	if r.unwritten == 0 {
		return nil
	}
	e := r.event
	e.Count = r.unwritten
	if err := f.record(e); err != nil {
		return err
	}
	r.unwritten = 0
	return nil
}

// close records all that was only counted, the oldest first; from then on every refusal is recorded.
func (f *refusals) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	var errs []error
	for at := f.recent.Back(); at != nil; at = at.Prev() {
		errs = append(errs, f.write(at.Value.(*refusal)))
	}
	f.known, f.recent = map[likeness]*list.Element{}, list.New()
	return errors.Join(errs...)
}

// isRound reports whether n is 10, 100, 1000 …
func isRound(n uint64) bool {
	for n >= 10 && n%10 == 0 {
		n /= 10
	}
	return n == 1
}
