// Package policy decides, purely, whether a request may be made: no I/O, no clock, no state.
//
// It owns what a host name is (Host), what a path is (PathPattern), what a rule says (Rule), how rules combine (Set,
// and Table, which answers the same quickly), whether one set allows more than another (Wider) and what class an
// address is of (ClassifyAddr). The gate asks it; nothing else decides.
package policy

// Action is what a rule, or the default, says about a request.
type Action string

// The actions. Precedence between rules that match: Deny, then Ask, then Allow, then the default.
const (
	Allow Action = "allow"
	Ask   Action = "ask"
	Deny  Action = "deny"
)

// Rule says what may be done with the hosts that its pattern matches.
type Rule struct {
	Action  Action        `json:"action"`
	Host    Pattern       `json:"host"`
	Ports   []uint16      `json:"ports"`             // never empty: profiles fill in 443
	Methods []string      `json:"methods,omitempty"` // upper case; empty: every method
	Paths   []PathPattern `json:"paths,omitempty"`   // empty: every path
	Inspect bool          `json:"inspect"`           // false: TLS is spliced, only the name and port are enforced; then Methods and Paths are empty
	Model   bool          `json:"model,omitempty"`   // the host is a model's API, which lives on writing methods
	Origin  string        `json:"origin,omitempty"`  // where the rule was written, "claude.toml:12"
}

// Set is all rules of a run and the answer when none matches.
type Set struct {
	Default Action `json:"default"`
	Rules   []Rule `json:"rules"`
}

// Request is what is asked. Method and Path are both empty until they are known (a CONNECT, a spliced tunnel): then
// the question is whether any request to that host and port could be allowed. Path is as it stands in the request
// line, escaped, without the query.
type Request struct {
	Host   Host
	Port   uint16
	Scheme string // "https" or "http"
	Method string
	Path   string
	Via    string // "proxy" or "direct", for the event
}

// Decision is the answer with its grounds.
type Decision struct {
	Action  Action
	Inspect bool   // of the rule that allowed it
	Rule    string // Origin of the rule that decided, or "default"
	Reason  string // one plain sentence for a person and for the agent
}

// Allowed reports whether the request may be made.
func (d Decision) Allowed() bool { return d.Action == Allow }
