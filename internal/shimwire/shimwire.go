// Package shimwire is the conversation between agentbox and its shim, PID 1 of the container, over one unix
// stream socket: JSON messages, one a line, and descriptors beside the Listeners message.
//
// The shim speaks first: Hello → Config → Listeners (+ descriptors) → Ready → SelfTest → Start →
// Started → (Stopped/Continue, Signal, Resize)* → Exit. Either side closing the socket ends the run: the shim
// kills everything in the container as soon as it reads end of file.
package shimwire

// Version must be equal on both sides; the shim is embedded in agentbox, so it always is.
const Version = 1

// Where things are inside the container. Dir is a read-only bind of a directory of this run.
const (
	Dir       = "/run/agentbox"
	ShimPath  = Dir + "/shim"
	Socket    = Dir + "/host.sock"  // the control socket: one connection, then unlinked by the host
	RelaySock = Dir + "/relay.sock" // Relay mode only: one connection per accepted connection
)

// Mode is how the container's listeners reach the host.
type Mode string

// The modes of a transport.
const (
	Pass  Mode = "pass"  // descriptors over SCM_RIGHTS; the host accepts in the container's network namespace
	Relay Mode = "relay" // the shim accepts and copies to RelaySock, after one line of RelayHeader
)

// Listen is one listener that the shim opens. Network is "tcp4" or "udp4"; Addr an IPv4 address and port.
type Listen struct {
	Network string `json:"network"`
	Addr    string `json:"addr"`
}

// Message is a line of the conversation; exactly one field is set.
type Message struct {
	Hello     *Hello     `json:"hello,omitempty"`     // shim
	Config    *Config    `json:"config,omitempty"`    // host
	Listeners *Listeners `json:"listeners,omitempty"` // shim, with descriptors in Pass mode, in Config.Listen's order
	Ready     *Ready     `json:"ready,omitempty"`     // host: the listeners are served, run the self-test
	SelfTest  *SelfTest  `json:"selftest,omitempty"`  // shim
	Start     *Start     `json:"start,omitempty"`     // host: start the agent
	Started   *Started   `json:"started,omitempty"`   // shim
	Stopped   *Stopped   `json:"stopped,omitempty"`   // shim: the agent was stopped by job control
	Continue  *Continue  `json:"continue,omitempty"`  // host
	Signal    *Signal    `json:"signal,omitempty"`    // host
	Resize    *Size      `json:"resize,omitempty"`    // host
	Exit      *Exit      `json:"exit,omitempty"`      // shim: the agent ended; everything else is being killed
	Error     *Error     `json:"error,omitempty"`     // shim: could not go on; it exits after this
}

// Hello is the shim's first message.
type Hello struct {
	Version int `json:"version"`
	PID     int `json:"pid"` // always 1 in a container
}

// Config is all the shim needs to know.
type Config struct {
	Mode     Mode     `json:"mode"`
	Listen   []Listen `json:"listen"`
	Agent    Agent    `json:"agent"`
	Files    []File   `json:"files"`
	SelfTest Expect   `json:"selftest"`
}

// Agent is the program to run. Argv[0] is an absolute path or a name to find on the PATH of Env.
type Agent struct {
	Argv     []string `json:"argv"`
	Env      []string `json:"env"` // all of it; nothing is inherited
	Dir      string   `json:"dir"`
	Terminal bool     `json:"terminal"` // the container has a terminal: give it to the agent's process group
	Size     Size     `json:"size"`
	Nproc    uint64   `json:"nproc"`  // RLIMIT_NPROC of the agent; 0 leaves it
	Nofile   uint64   `json:"nofile"` // RLIMIT_NOFILE of the agent; 0 leaves it
}

// File is one file to lay in the container before the agent starts, with its parent directories (0700).
// Path is absolute and must lie on a tmpfs of the container (the home directory or /tmp).
type File struct {
	Path    string `json:"path"`
	Mode    uint32 `json:"mode"`
	Content []byte `json:"content"`
}

// Size is a terminal's size in characters. The zero value means unknown.
type Size struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// Expect is what the launch self-test must find. What a runtime cannot report is switched off by the host,
// per runtime, in one place.
type Expect struct {
	Seccomp    bool     `json:"seccomp"`      // /proc/self/status says Seccomp: 2
	NoNewPrivs bool     `json:"no_new_privs"` // NoNewPrivs: 1
	UID        int      `json:"uid"`          // the uid and gid that everything must run as
	GID        int      `json:"gid"`
	Absent     []string `json:"absent"`     // paths that must not exist (host sockets, homes)
	Empty      []string `json:"empty"`      // paths that must be absent, empty files or empty directories (hidden)
	AnyGroups  bool     `json:"any_groups"` // supplementary groups beside GID are tolerated
	Unreadable []string `json:"unreadable"` // paths that must not open for reading or be absent (/etc/shadow)
	ReadOnly   []string `json:"read_only"`  // paths that must refuse a write with EROFS ("/", "/usr", the git guard)
	Mounts     []string `json:"mounts"`     // every mount point that was asked for; nil leaves mounts unjudged
	Trees      []string `json:"trees"`      // those of them that bring along what is mounted below their source
	Writable   []string `json:"writable"`   // those below which something may be written
	Canary     string   `json:"canary"`     // a host:port that the proxy must answer 403 to on CONNECT
	Proxy      string   `json:"proxy"`      // the proxy's address inside, "127.0.0.1:3128"
}

// Listeners says that the listeners are open.
type Listeners struct {
	Count int `json:"count"`
}

// Ready has no content.
type Ready struct{}

// SelfTest is what was found; the run goes on only if every check is OK.
type SelfTest struct {
	Checks []Check `json:"checks"`
	Micros int64   `json:"micros"`
}

// Check is one line of the self-test.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"` // what was found, when it is not what was expected
}

// Start has no content.
type Start struct{}

// Started says that the agent runs.
type Started struct {
	PID int `json:"pid"`
}

// Stopped says that the agent's process group was stopped by Signal (SIGTSTP …).
type Stopped struct {
	Signal int `json:"signal"`
}

// Continue has no content.
type Continue struct{}

// Signal is to be sent to the agent's process group.
type Signal struct {
	Number int `json:"number"`
}

// Exit is how the agent ended: Code for a normal exit, else Signal.
type Exit struct {
	Code   int `json:"code"`
	Signal int `json:"signal,omitempty"`
}

// Error kinds that the host treats apart.
const (
	ErrNotFound      = "not-found"      // the agent's program is not there: exit 127
	ErrNotExecutable = "not-executable" // it is there and cannot be run: exit 127 too
	ErrInternal      = "internal"       // anything else: exit 125
)

// Error is why the shim could not go on.
type Error struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// RelayHeader is the first line of a connection to RelaySock: what was accepted inside.
// A "udp4" connection then carries DNS messages in both directions, each after two bytes of length.
type RelayHeader struct {
	Network string `json:"network"` // "tcp4" or "udp4"
	Local   string `json:"local"`   // the address that was connected to
	Remote  string `json:"remote"`
}
