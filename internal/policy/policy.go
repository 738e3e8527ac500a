// Package policy decides, purely, whether a request may be made: no I/O, no clock, no state.
//
// It owns what a host name is (Host), what a path is (PathPattern), what a rule says (Rule), how rules combine (Set,
// and Table, which answers the same quickly), whether one set allows more than another (Wider), which paths of a
// repository a pattern hides (HidePattern) and what class an
// address is of (ClassifyAddr). The gate asks it; nothing else decides.
package policy

import "net/netip"

// Action is what a rule, or the default, says about a request.
type Action string

// The actions. Precedence between rules that match: Deny, then Ask, then Allow, then the default.
const (
	Allow Action = "allow"
	Ask   Action = "ask"
	Deny  Action = "deny"
)

// generosity orders actions; anything unknown denies.
func (a Action) generosity() int {
	switch a {
	case Allow:
		return 2
	case Ask:
		return 1
	}
	return 0
}

// Rule says what may be done with the hosts that its pattern matches.
type Rule struct {
	Action  Action        `json:"action"`
	Host    Pattern       `json:"host"`
	Ports   []uint16      `json:"ports"`             // never empty: profiles fill in 443
	Methods []string      `json:"methods,omitempty"` // upper case, compared as they are; HEAD is not GET; empty: every method
	Paths   []PathPattern `json:"paths,omitempty"`   // empty: every path
	Inspect bool          `json:"inspect"`           // false: TLS is spliced, only the name and port are enforced; then Methods and Paths are empty
	Model   bool          `json:"model,omitempty"`   // the host is a model's API, which lives on writing methods
	Origin  string        `json:"origin,omitempty"`  // where the rule was written, "claude.toml:12"

	Scheme     string         `json:"scheme,omitempty"`      // "https" or "http"; "": either
	WebSocket  string         `json:"websocket,omitempty"`   // WebSocketOnly, WebSocketNever; "": upgrades and all else
	Protocol   string         `json:"protocol,omitempty"`    // TCP: connections whose bytes nobody looks at; "": HTTP
	MaxRequest int64          `json:"max_request,omitempty"` // bytes of the body of one request; 0: no limit
	MaxSent    int64          `json:"max_sent,omitempty"`    // bytes sent to each host in one run, whatever the request; 0: no limit
	Private    []netip.Prefix `json:"private,omitempty"`     // addresses that are not public and that the hosts may lead to

	By string `json:"by,omitempty"` // ByPerson, ByOrganisation; "": neither of both in a way that matters
}

// Values of Rule.By. What a person allows in one repository is an answer that is given before it is asked for: it goes
// before rules that ask, but for those of the organisation, which wants a person asked each time.
const (
	ByPerson       = "person"
	ByOrganisation = "organisation"
)

// Values of Rule.WebSocket.
const (
	WebSocketOnly  = "only"
	WebSocketNever = "never"
)

// TCP is the Protocol of rules, and the Scheme of requests, for connections that are passed on as they are.
const TCP = "tcp"

// Set is all rules of a run and the answer when none matches.
type Set struct {
	Default Action    `json:"default"`
	Only    []Pattern `json:"only,omitempty"` // a host that none of these names is denied, whatever rules say; empty: no such limit
	Rules   []Rule    `json:"rules"`
	Git     []GitRule `json:"git,omitempty"` // see GitRule
}

// Request is what is asked. Method and Path are both empty until they are known (a CONNECT, a spliced tunnel): then
// the question is whether any request to that host and port could be allowed. The same is asked with the method
// "CONNECT" and no path. Path is as it stands in the request line, escaped, without the query; "" beside another
// method is "/".
type Request struct {
	Host   Host
	Port   uint16
	Scheme string // "https" or "http"; TCP for a connection that is passed on as it is
	Method string
	Path   string
	Via    string // "proxy" or "direct", for the event

	// What in the request asks the server to take it for one with another method, or names another path to it: a header
	// or a parameter of the query; "" for none. Such a request is denied where rules go by methods, or by paths.
	MethodBy string
	PathBy   string

	WebSocket bool        // it asks for a WebSocket
	Size      int64       // bytes of its body as it announces them; -1: not announced, 0: none
	Git       *GitRequest // what it does to a git repository, where it is one of git's own; nil for all others
}

// partial reports whether the request is not known yet.
func (r Request) partial() bool {
	return r.Path == "" && (r.Method == "" || r.Method == "CONNECT")
}
