package secrets

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// Credential is who may use which secret, where and how. It has one slot, or a header and Basic authentication.
type Credential struct {
	Name   string
	Source Source

	Hosts   []policy.Host
	Ports   []uint16             // none: every port
	Methods []string             // none: every method
	Paths   []policy.PathPattern // none: every path

	Header string // "Authorization: Bearer {token}"
	Basic  string // "user:{token}"; the user "*" is whichever the agent sends
	Query  string // a parameter's name
	Body   string // a field of a JSON body or of a form, "field" or "outer.field"

	Shape  string // what the placeholder begins with, or JWT
	Claims string // of a JWT, as a JSON object

	TTL  time.Duration // how long a run may use it, from NewBroker on; 0: as long as it lasts
	Rule string        // where it is asked for, and what kind its source is, for the log
	From string
}

// Refused says why a request may not go on. It never holds a value.
type Refused struct {
	Credential string // whose placeholder it was, or "" when that is not known
	Misplaced  bool   // it stood where no program puts it that was handed it in order
	Reason     string // one plain sentence
	Tip        string // what the person can do, or ""
	Err        error  // of the source, or nil
}

func (e *Refused) Error() string { return e.Reason }

// Alarm reports whether a person should look at it at once.
func (e *Refused) Alarm() bool { return e.Misplaced }

// Hint says what the person can do, or "".
func (e *Refused) Hint() string { return e.Tip }

func (e *Refused) Unwrap() error { return e.Err }

// Broker owns one run's placeholders. Use it concurrently; Close it when the run ends.
type Broker struct {
	held   []*held
	values []*held // that have no placeholder
	scan   scanner
	began  time.Time
	ctx    context.Context // ends with Close: readings outlast the request that began them
	stop   context.CancelFunc
	events event.Sink // may be nil
	ledger Ledger     // may be nil

	learned values

	mu      sync.Mutex // orders the start of a reading and Close
	closed  bool
	reading sync.WaitGroup
	seen    map[sighting]bool // placeholders in bodies that were told of
}

// held is a credential with its placeholder and, once it has been fetched, its value.
type held struct {
	Credential
	slots
	placeholder string

	life context.Context // ends when it is cut off, or with the broker
	end  context.CancelFunc
	tenure
}

// NewBroker makes the placeholders. It reads nothing yet. The context ends all readings, as Close does.
func NewBroker(ctx context.Context, creds []Credential) (*Broker, error) {
	b := &Broker{scan: newScanner(), began: time.Now().Round(0)}
	for _, c := range creds {
		h, err := hold(c)
		if err != nil {
			return nil, fmt.Errorf("making the placeholder of credential %q: %w", c.Name, err)
		}
		b.held = append(b.held, h)
	}
	b.ctx, b.stop = context.WithCancel(ctx)
	for _, h := range b.held {
		h.life, h.end = context.WithCancel(b.ctx)
		h.taking = make(chan struct{}, 1)
		if h.TTL > 0 {
			timer := time.AfterFunc(h.TTL, func() { b.outlive(h) })
			context.AfterFunc(b.ctx, func() { timer.Stop() })
		}
	}
	return b, nil
}

func hold(c Credential) (*held, error) {
	slots, err := slotsOf(c)
	if err != nil {
		return nil, err
	}
	placeholder, err := placeholderOf(c)
	return &held{Credential: c, slots: slots, placeholder: placeholder}, err
}

// placeholderOf makes one that looks like what the source gives, or as the credential says.
func placeholderOf(c Credential) (string, error) {
	if o, ok := c.Source.(*OAuth); ok && c.Shape == "" {
		return o.standIn()
	}
	return newPlaceholder(c.Shape, c.Claims)
}

// Record has the broker record what it does with credentials: an event each time that one is fetched or taken back, and
// in the ledger what has to be taken back. What can't be recorded is not used. Call it before Preload.
func (b *Broker) Record(events event.Sink, ledger Ledger) { b.events, b.ledger = events, ledger }

// named finds a credential of this run; nil is none.
func (b *Broker) named(name string) *held {
	for _, h := range b.held {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Placeholder is what the agent holds in place of the value, or "" for a name that is not a credential of this run. Of a
// login there is more: "NAME.refresh", and what it is told of it.
func (b *Broker) Placeholder(name string) string {
	if h := b.named(name); h != nil {
		return h.placeholder
	}
	return b.partOf(name)
}

// Rule says where a credential is asked for; "" for what is none of this run.
func (b *Broker) Rule(name string) string {
	if h := b.named(name); h != nil {
		return h.Credential.Rule
	}
	return ""
}

// Life ends when a credential is not to be used any more, also by requests that are on their way with it. Of a name that is
// no credential of this run it is the broker's.
func (b *Broker) Life(name string) context.Context {
	if h := b.named(name); h != nil {
		return h.life
	}
	return b.ctx
}

// Value is a secret of the person's own that no agent knows of: it has no placeholder, and no request gets it. It is read
// as credentials are, when it is first wanted. Ask for it before Preload. Name is what messages call it.
func (b *Broker) Value(name string, source Source) func(context.Context) (Secret, error) {
	h := &held{Credential: Credential{Name: name, Source: source}}
	b.values = append(b.values, h)
	return func(ctx context.Context) (Secret, error) { return b.read(ctx, h) }
}

// Close calls off all readings, waits for them and overwrites the values; the broker refuses from then on. What is to be
// taken back has to be released before.
func (b *Broker) Close() {
	b.quiesce()
	b.learned.destroy()
}

// Preload begins to read every value, so that the first request need not wait.
func (b *Broker) Preload() {
	for _, h := range slices.Concat(b.held, b.values) {
		b.begin(h)
	}
}

// Problems waits for all values and returns an error, *Refused, for each that could not be read.
func (b *Broker) Problems(ctx context.Context) (problems []error) {
	for _, h := range slices.Concat(b.held, b.values) {
		if _, err := b.read(ctx, h); err != nil {
			problems = append(problems, err)
		}
	}
	return problems
}
