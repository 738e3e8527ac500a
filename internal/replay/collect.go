package replay

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// Group is what a run did alike, with the answer that it got.
type Group struct {
	Request policy.Request
	Lookup  bool   // a name was asked for, and nothing else: Request has only the host
	Count   uint64 // times
	Was     event.Decision
	Rule    string // who decided
	Reason  string
	Refused bool // a person said no to one of them
	Order   int  // its place in Log.Groups: that of the first in the log
}

// Aside is something in the log that no rule for requests settles, with how often it was there.
type Aside struct {
	Kind   event.Kind
	Host   string // as it is in the log
	Port   uint16
	Method string
	Path   string
	Text   string // why
	Count  uint64
}

// Log is what a run's events come to. The zero value is empty and ready.
type Log struct {
	Groups    []Group
	Unknown   []Aside // requests that can't be judged again
	Unsettled []Aside // what did not come down to rules: connections without a request, credentials, addresses
	Omitted   uint64  // events that are in none of these, because there were too many different ones
	Broken    uint64  // lines that are no events
	Foreign   uint64  // events of kinds that this agentbox does not know

	requests, lookups int
	groups            map[string]int
	unknown           map[Aside]int
	unsettled         map[Aside]int
	credential        string // why one was refused last: its answer repeats it
}

// How many different ones are kept: an agent chooses names and paths. Look-ups, which cost it the least, have their own
// bound, and leave the requests their room.
const (
	maxRequests = 20_000
	maxLookups  = 5_000
	maxAsides   = 1_000
)

// Add takes one event.
func (l *Log) Add(e event.Event) {
	switch e.Kind {
	case event.NetRequest:
		l.request(e)
	case event.DNSRefused:
		l.lookup(e)
	case event.NetResponse:
		if e.Status == http.StatusForbidden && e.Reason != "" && e.Reason != l.credential { // agentbox's own, after the rules
			l.aside(&l.Unsettled, &l.unsettled, e, e.Reason)
		}
	case event.NetRefused:
		l.aside(&l.Unsettled, &l.unsettled, e, e.Reason)
	case event.CredentialRefused:
		l.credential = e.Reason
		l.aside(&l.Unsettled, &l.unsettled, e, fmt.Sprintf("credential %s was refused: %s", e.Credential, e.Reason))
	case event.RunStart, event.RunSelfTest, event.RunEnd, event.RunStop, event.RunLeft, event.CommitsFetched, event.LaterChanged, event.FileShown,
		event.CredentialUse, event.CredentialSeen, event.CredentialMint, event.CredentialRenew, event.CredentialRevoke:
	case "approval.asked", "approval.answered": // the request itself has an event, with the answer
	default:
		l.Foreign += e.Times()
	}
}

func (l *Log) request(e event.Event) {
	r, err := Request(e)
	if err != nil {
		l.aside(&l.Unknown, &l.unknown, e, err.Error())
		return
	}
	l.group(e, r, false)
}

func (l *Log) lookup(e event.Event) {
	h, err := policy.ParseHost(e.Host)
	if err != nil {
		l.aside(&l.Unknown, &l.unknown, e, errName.Error())
		return
	}
	l.group(e, policy.Request{Host: h, Via: e.Via}, true)
}

// group counts a request with those like it. Of bodies the largest is kept: what it may, the others may.
func (l *Log) group(e event.Event, r policy.Request, lookup bool) {
	was := event.Deny
	if e.Decision == event.Allow {
		was = event.Allow
	}
	key := fmt.Sprintf("%t %s %s %s %s %d", lookup, was, e.Rule, r.Scheme, r.Host, r.Port) + describe(r)
	if i, ok := l.groups[key]; ok {
		g := &l.Groups[i]
		g.Count += e.Times()
		g.Refused = g.Refused || refused(e)
		g.Request.Size = larger(g.Request.Size, r.Size)
		return
	}
	kept, most := &l.requests, maxRequests
	if lookup {
		kept, most = &l.lookups, maxLookups
	}
	if *kept >= most {
		l.Omitted += e.Times()
		return
	}
	if l.groups == nil {
		l.groups = map[string]int{}
	}
	*kept++
	l.groups[key] = len(l.Groups)
	l.Groups = append(l.Groups, Group{Request: r, Lookup: lookup, Count: e.Times(), Was: was, Rule: e.Rule, Reason: e.Reason, Refused: refused(e), Order: len(l.Groups)})
}

// refused reports a request that a person was asked about and denied.
func refused(e event.Event) bool {
	return e.Decision != event.Allow && strings.HasPrefix(e.Reason, policy.PersonDenied)
}

// describe is the rest of what tells requests apart, none of which holds a line end or a NUL that is not escaped.
func describe(r policy.Request) string {
	parts := []string{"", r.Method, r.Path, r.MethodBy, r.PathBy, fmt.Sprint(r.WebSocket)}
	if r.Git != nil {
		parts = append(parts, string(r.Git.Op), r.Git.Repo, r.Git.Flaw)
		for _, ref := range r.Git.Refs {
			parts = append(parts, string(ref.Kind), ref.Name)
		}
	}
	return strings.Join(parts, "\x00")
}

// larger is the size that is harder to allow; -1, which nobody announced, may be any.
func larger(a, b int64) int64 {
	if a < 0 || b < 0 {
		return -1
	}
	return max(a, b)
}

func (l *Log) aside(list *[]Aside, index *map[Aside]int, e event.Event, text string) {
	a := Aside{Kind: e.Kind, Host: e.Host, Port: e.Port, Text: text}
	if e.Kind == event.NetRequest {
		a.Method, a.Path = e.Method, e.Path
	}
	if i, ok := (*index)[a]; ok {
		(*list)[i].Count += e.Times()
		return
	}
	if len(*list) >= maxAsides {
		l.Omitted += e.Times()
		return
	}
	if *index == nil {
		*index = map[Aside]int{}
	}
	(*index)[a] = len(*list)
	a.Count = e.Times()
	*list = append(*list, a)
}

// Requests gives the groups that are requests, in the order of the log.
func (l *Log) Requests() []Group {
	return slices.DeleteFunc(slices.Clone(l.Groups), func(g Group) bool { return g.Lookup })
}

// Lookups gives those that are look-ups alone, of names of which no request is in the log.
func (l *Log) Lookups() []Group {
	asked := map[policy.Host]bool{}
	for _, g := range l.Groups {
		if !g.Lookup {
			asked[g.Request.Host] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(l.Groups), func(g Group) bool { return !g.Lookup || asked[g.Request.Host] })
}
