package event

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// Tally counts events for the summary at the end of a run. It is a Sink that never fails; its zero value is ready.
// It keeps at most maxTallied entries of each kind, because an agent chooses the names: what comes later is counted
// in Omitted.
type Tally struct {
	mu          sync.Mutex
	events      uint64
	hosts       map[HostPort]*HostCount
	refused     map[HostPort]*Refusal
	credentials map[string]*CredentialCount
	omitted     uint64
}

const maxTallied = 1000

// HostPort names where something went. Port is 0 for a name that was only looked up.
type HostPort struct {
	Host string
	Port uint16
}

// HostCount is what went to one host.
type HostCount struct {
	HostPort
	Allowed, Refused   uint64
	Failed             uint64 // of those allowed, the ones that never got an answer of the host's
	Failure            string // why, the first time
	BytesUp, BytesDown int64
}

// Refusal is a host that was refused at least once, with the reason given first.
type Refusal struct {
	HostPort
	Kind   Kind
	Count  uint64
	Reason string
	First  Event // as it was refused first
}

// CredentialCount is how often one credential was used and refused, and to how many hosts its placeholder went in bodies.
type CredentialCount struct {
	Name                string
	Used, Refused, Seen uint64
}

// Emit is Add as a Sink.
func (t *Tally) Emit(e Event) error { t.Add(e); return nil }

// Add counts one event.
func (t *Tally) Add(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events++
	at := HostPort{e.Host, e.Port}
	switch e.Kind {
	case NetRequest:
		t.request(at, e)
	case NetResponse:
		if h := entry(t, &t.hosts, at, HostCount{HostPort: at}); h != nil {
			h.BytesUp += e.BytesUp
			h.BytesDown += e.BytesDown
			if e.Reason != "" { // agentbox's own: an answer of the host has none
				h.Failed++
				h.Failure = cmp.Or(h.Failure, e.Reason)
			}
		}
	case NetRefused, DNSRefused:
		t.refuse(at, e)
	case CredentialUse, CredentialRefused, CredentialSeen:
		t.credential(e)
	}
}

func (t *Tally) request(at HostPort, e Event) {
	if e.Decision != Allow { // anything but a clear allow was not let through
		t.refuse(at, e)
		return
	}
	if h := entry(t, &t.hosts, at, HostCount{HostPort: at}); h != nil {
		h.Allowed += e.Times()
	}
}

func (t *Tally) refuse(at HostPort, e Event) {
	if h := entry(t, &t.hosts, at, HostCount{HostPort: at}); h != nil {
		h.Refused += e.Times()
	}
	if r := entry(t, &t.refused, at, Refusal{HostPort: at, Kind: e.Kind, Reason: e.Reason, First: e}); r != nil {
		r.Count += e.Times()
	}
}

func (t *Tally) credential(e Event) {
	c := entry(t, &t.credentials, e.Credential, CredentialCount{Name: e.Credential})
	switch {
	case c == nil:
	case e.Kind == CredentialUse:
		c.Used++
	case e.Kind == CredentialSeen:
		c.Seen++
	default:
		c.Refused++
	}
}

// entry finds or makes the entry of k, or counts it as omitted and returns nil when there are too many.
func entry[K comparable, V any](t *Tally, m *map[K]*V, k K, fresh V) *V {
	if v, ok := (*m)[k]; ok {
		return v
	}
	if len(*m) >= maxTallied {
		t.omitted++
		return nil
	}
	if *m == nil {
		*m = map[K]*V{}
	}
	(*m)[k] = &fresh
	return &fresh
}

// Events is how many events were counted.
func (t *Tally) Events() uint64 { t.mu.Lock(); defer t.mu.Unlock(); return t.events }

// Omitted is how many times something was not counted by name because there were too many names.
func (t *Tally) Omitted() uint64 { t.mu.Lock(); defer t.mu.Unlock(); return t.omitted }

// Hosts returns what was reached or refused, by host and port.
func (t *Tally) Hosts() []HostCount {
	return values(t, &t.hosts, func(a, b HostCount) int { return compare(a.HostPort, b.HostPort) })
}

// Refused returns what was refused, by host and port.
func (t *Tally) Refused() []Refusal {
	return values(t, &t.refused, func(a, b Refusal) int { return compare(a.HostPort, b.HostPort) })
}

// Credentials returns how credentials were used, by name.
func (t *Tally) Credentials() []CredentialCount {
	return values(t, &t.credentials, func(a, b CredentialCount) int { return cmp.Compare(a.Name, b.Name) })
}

// Totals sums up all hosts.
func (t *Tally) Totals() (allowed, refused uint64, up, down int64) {
	for _, h := range t.Hosts() {
		allowed, refused, up, down = allowed+h.Allowed, refused+h.Refused, up+h.BytesUp, down+h.BytesDown
	}
	return
}

func compare(a, b HostPort) int {
	return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
}

func values[K comparable, V any](t *Tally, m *map[K]*V, order func(a, b V) int) []V {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]V, 0, len(*m))
	for v := range maps.Values(*m) {
		out = append(out, *v)
	}
	slices.SortFunc(out, order)
	return out
}
