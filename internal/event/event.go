// Package event says what happened at the boundary: one Event for everything that crosses it or is refused.
//
// It owns the shape of an event and nothing else: who writes events down, who shows them and who counts them
// import it. An Event is a value; once emitted it is never changed.
package event

import "time"

// Kind names what an event is about. The value is what the log holds, so it never changes its meaning.
type Kind string

// The kinds of events of a run.
const (
	RunStart    Kind = "run.start"    // the plan's hash, profile and repo; always the first event
	RunSelfTest Kind = "run.selftest" // what the launch self-test found
	RunEnd      Kind = "run.end"      // exit code and reason; always the last event
	RunStop     Kind = "run.stop"     // a person, a signal or a budget asked the run to end
	RunLeft     Kind = "run.left"     // something of the run could not be removed at its end; path: the container's name or a directory, and reason

	ImagePulled Kind = "image.pulled" // before the run: the image that is its root came from a registry; path: its name; detail: digest, id, layers

	FileShown Kind = "file.shown" // a file that is to be hidden appeared while the run went on, and was not; path: relative to the repository

	NetRequest  Kind = "net.request"  // one request (or one spliced connection) and the decision on it
	NetResponse Kind = "net.response" // how an allowed request ended: status, bytes, duration
	NetRefused  Kind = "net.refused"  // a connection that never became a request: wrong SNI, not TLS, a bad CONNECT
	DNSRefused  Kind = "dns.refused"  // a name that may not be looked up was asked for

	ApprovalAsked    Kind = "approval.asked"    // a request waits for a person's answer; detail: the question's id
	ApprovalAnswered Kind = "approval.answered" // how that ended: decision, and in detail by whom and how far it reaches

	CommitsFetched Kind = "commits.fetched" // what was committed inside came into the repository, or not and why; detail: refs
	LaterChanged   Kind = "later.changed"   // in direct mode: a file was changed that the person's own tools would execute; path, and reason

	SignRequest Kind = "sign.request" // a program inside wants something signed, and the decision on it
	SignMade    Kind = "sign.made"    // the host signed it, or why it could not

	CredentialUse     Kind = "credential.use"     // a placeholder was swapped for the real value
	CredentialRefused Kind = "credential.refused" // a placeholder was seen where it may not go, or its source failed
	CredentialSeen    Kind = "credential.seen"    // a placeholder went out in the body of a request, as what it is; once for each host
	CredentialMint    Kind = "credential.mint"    // a value was fetched for the first time, or that failed; detail: source, expires
	CredentialRenew   Kind = "credential.renew"   // … was fetched again, near the end of the one before
	CredentialRevoke  Kind = "credential.revoke"  // a value was taken back, or that failed; or it was cut off in this run
)

// Agent is who everything inside a run's container is, for whom credentials are used and commits are signed.
const Agent = "agent"

// Decision is the answer that was given.
type Decision string

// The two answers an event can record; events that decide nothing leave it empty.
const (
	Allow Decision = "allow"
	Deny  Decision = "deny"
)

// Event is one thing that happened. The zero value of a field means that it does not apply.
// Strings may hold bytes that an agent chose: whoever shows them to a person escapes them.
type Event struct {
	Seq        uint64            `json:"seq"`  // 1, 2, 3 … within a run; set by the log
	Time       time.Time         `json:"time"` // UTC; set by the log
	Run        string            `json:"run"`  // the run's id; set by the log
	Kind       Kind              `json:"kind"`
	Decision   Decision          `json:"decision,omitempty"`
	Host       string            `json:"host,omitempty"` // canonical, or as asked when it has no canonical form
	Port       uint16            `json:"port,omitempty"`
	Method     string            `json:"method,omitempty"`
	Path       string            `json:"path,omitempty"` // without the query, which may hold secrets
	Status     int               `json:"status,omitempty"`
	BytesUp    int64             `json:"bytes_up,omitempty"`   // bytes of body, agent to host
	BytesDown  int64             `json:"bytes_down,omitempty"` // bytes of body, host to agent
	Millis     int64             `json:"ms,omitempty"`
	Rule       string            `json:"rule,omitempty"`   // which rule decided, as "profile:line" or a built-in name
	Reason     string            `json:"reason,omitempty"` // one plain sentence
	Count      uint64            `json:"count,omitempty"`  // how many alike this event stands for; 0 is 1
	Via        string            `json:"via,omitempty"`    // "proxy" (asked by CONNECT) or "direct" (by name and port)
	Credential string            `json:"credential,omitempty"`
	Who        string            `json:"who,omitempty"`   // of a credential or a signature: for whom it is; Agent
	Alarm      bool              `json:"alarm,omitempty"` // something inside tried what nothing does by mistake
	ExitCode   *int              `json:"exit_code,omitempty"`
	Detail     map[string]string `json:"detail,omitempty"`

	// What else of a request was judged, so that it can be judged again.
	Scheme    string `json:"scheme,omitempty"`    // "https", "http", "tcp"; "" of a tunnel whose requests are still to come
	WebSocket bool   `json:"websocket,omitempty"` // it asks for a WebSocket
	Size      int64  `json:"size,omitempty"`      // bytes of its body as announced; -1: not announced
	MethodBy  string `json:"method_by,omitempty"` // what in it asks the server for another method
	PathBy    string `json:"path_by,omitempty"`   // … or for another path
	Git       *Git   `json:"git,omitempty"`       // what it does to a git repository
}

// Git is what a request does to a git repository. What was too long ends in Cut.
type Git struct {
	Repo string   `json:"repo"`
	Op   string   `json:"op"`             // "fetch" or "push"
	Refs []string `json:"refs,omitempty"` // of a push: "update refs/heads/main"
	Flaw string   `json:"flaw,omitempty"` // why it is of no repository: "it breaks off"
}

// Cut ends text, or is the last of a list, of which the log holds only the beginning.
const Cut = "…"

// Times is how many alike the event stands for.
func (e Event) Times() uint64 { return max(e.Count, 1) }

// Sink takes events. Emit returns only when the event is where it has to be; an error means that it is not,
// and the caller must not let the thing happen (fail closed). Emit is safe for concurrent use.
type Sink interface {
	Emit(Event) error
}
