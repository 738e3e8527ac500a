// Package plan turns what was asked for into one immutable value that says everything a run may do, before it
// does anything.
//
// Grant and Resolve are pure: no I/O, no clock, no environment; their inputs carry them. A Plan has two halves. Grants
// is what may be done, free of this machine, and hashed: all layers of the profile, held to the floors of its tier and
// of the organisation. Binding is how it is done here: paths, engine, person. `run` executes a Plan and decides nothing.
//
// Grants can be asked without a machine: Diff says what one allows that another does not, ManifestOf lists them, Why
// explains one answer, and Unsupported tells what this version cannot carry out, which Resolve refuses.
package plan

import (
	"time"

	"agentbox/internal/policy"
)

// Plan is everything a run does. It is a value: nothing changes it after Resolve.
type Plan struct {
	Version  int     `json:"version"`  // of this format: 1
	Hash     string  `json:"hash"`     // "sha256:…" of the canonical JSON of Grants
	Manifest string  `json:"manifest"` // the hash without the person's and the organisation's layers and flags: what CI compares
	Grants   Grants  `json:"grants"`
	Binding  Binding `json:"binding"`
}

// Grants says what may be done: all layers merged, floors applied. Nothing in it names this machine.
type Grants struct {
	Profile     string            `json:"profile"`
	Description string            `json:"description,omitempty"`
	Tier        string            `json:"tier"` // "low" when no layer says
	Agent       Agent             `json:"agent"`
	Workspace   Workspace         `json:"workspace"`
	Mounts      []Mount           `json:"mounts,omitempty"`
	Use         []string          `json:"use"`     // named sets; their rules are in Network, but those of "origin", which Binding knows
	Network     policy.Set        `json:"network"` // canonical order is not kept: rules stand as written; without Git, which Set adds
	Git         []GitRule         `json:"git"`
	Credentials []Credential      `json:"credentials"`
	Signing     Signing           `json:"signing,omitzero"`
	Budget      Budget            `json:"budget"`
	Limits      Limits            `json:"limits"`
	Isolation   Isolation         `json:"isolation"`
	Servers     []Server          `json:"mcp"`
	Memory      Memory            `json:"memory"`
	Telemetry   string            `json:"telemetry,omitempty"` // an OTLP endpoint
	Origins     map[string]string `json:"origins,omitempty"`   // where each value comes from: "workspace.mode" → ".agentbox/x.toml:3", "tier medium", "default", "--timeout"; not hashed
}

// Agent is the program, before arguments of the person.
type Agent struct {
	Command       []string          `json:"command"`
	Args          []string          `json:"args,omitempty"`          // used when the person gives none
	Rootfs        string            `json:"rootfs"`                  // "host", "image" or "containerfile"
	Image         string            `json:"image,omitempty"`         // with its digest
	Containerfile string            `json:"containerfile,omitempty"` // below the repo
	Env           map[string]string `json:"env,omitempty"`           // may hold templates, see Expand
	Files         []File            `json:"files,omitempty"`         // first-run state
	Pass          []string          `json:"pass,omitempty"`          // names of host variables that are handed in (TERM, LANG, …)
	Install       string            `json:"install,omitempty"`       // how to install the program, for the hint of exit 127
	Keep          []string          `json:"keep,omitempty"`          // directories of its home that outlive the run, "~/.claude/projects"
	Seed          []string          `json:"seed,omitempty"`          // files of the host's home that are copied into its own
}

// File is seeded below the home directory. Content may hold templates, see Expand.
type File struct {
	Path    string `json:"path"` // "~/.claude.json"
	Content string `json:"content"`
}

// Mode is how the repo is seen.
type Mode string

// The workspace modes.
const (
	Direct   Mode = "direct"
	Review   Mode = "review"
	ReadOnly Mode = "readonly"
)

// Workspace says what of the repo is seen and how.
type Workspace struct {
	Mode    Mode     `json:"mode"`
	Backend string   `json:"backend,omitempty"`
	Hide    []string `json:"hide,omitempty"`   // patterns relative to the repo, in order; "!" shows what those before it hide
	Caches  []string `json:"caches,omitempty"` // of tools, that outlive the run: "npm", "npm:ro"
}

// GitRule says what may be fetched from and pushed to one repository.
type GitRule struct {
	Remote string   `json:"remote"` // "github.com/acme/billing"
	Fetch  bool     `json:"fetch"`
	Push   []string `json:"push,omitempty"`   // patterns of refs
	Force  bool     `json:"force,omitempty"`  // also what is no fast-forward
	Delete bool     `json:"delete,omitempty"` // also deletions
	Origin string   `json:"origin,omitempty"`
}

// Credential is who may use which secret, where and how. Its real value is never part of a plan. It stands in one slot,
// Header, Basic, Query or Body, or in Header and Basic.
type Credential struct {
	Name    string               `json:"name"`
	Source  Source               `json:"source"`
	Hosts   []policy.Host        `json:"hosts"`
	Ports   []uint16             `json:"ports,omitempty"`   // none: every port
	Methods []string             `json:"methods,omitempty"` // none: every method
	Paths   []policy.PathPattern `json:"paths,omitempty"`   // none: every path
	Header  string               `json:"header,omitempty"`  // "Authorization: Bearer {token}"
	Basic   string               `json:"basic,omitempty"`   // "user:{token}"
	Query   string               `json:"query,omitempty"`   // a parameter
	Body    string               `json:"body,omitempty"`    // a field, "refresh_token"
	Env     string               `json:"env"`               // where the placeholder appears
	Shape   string               `json:"shape,omitempty"`   // a prefix that the agent insists on, "sk-ant-api03-"; or "jwt"
	Claims  string               `json:"claims,omitempty"`  // of a JWT
	TTL     time.Duration        `json:"ttl,omitempty"`     // how long the run may use it; 0: to its end
	Origin  string               `json:"origin,omitempty"`
}

// Source is where the real value is read, on the host: exactly one field is set, or Env and Keyring: then the
// variable, if it is set, goes before the keyring.
type Source struct {
	Keyring   string     `json:"keyring,omitempty"` // service "agentbox", this account
	Env       string     `json:"env,omitempty"`     // a variable of agentbox's own environment
	Command   []string   `json:"command,omitempty"` // run on the host
	File      string     `json:"file,omitempty"`    // absolute, or "~/…"
	GitHubApp *GitHubApp `json:"github_app,omitempty"`
	OAuth     *OAuth     `json:"oauth,omitempty"`
}

// OAuth is the login of an agent: in a file, or in the keyring.
type OAuth struct {
	Login   string `json:"login"`
	File    string `json:"file,omitempty"` // absolute, or "~/…"
	Keyring string `json:"keyring,omitempty"`
}

// GitHubApp mints tokens for the repositories and permissions named.
type GitHubApp struct {
	ID          int64             `json:"id"`
	Key         string            `json:"key"`
	Repos       []string          `json:"repos"`
	Permissions map[string]string `json:"permissions"`
}

// Signing says what of git's is signed on the host.
type Signing struct {
	Commits string `json:"commits,omitempty"` // and annotated tags: "ask" or "allow"; "" is deny
}

// Budget is when a run ends by itself. 0 is none.
type Budget struct {
	Time      time.Duration `json:"time"`          // wall clock
	USD       string        `json:"usd,omitempty"` // decimal, "5.00"
	Tokens    int64         `json:"tokens,omitempty"`
	Requests  int64         `json:"requests,omitempty"`
	ToolCalls int64         `json:"tool_calls,omitempty"`
	Denials   int64         `json:"denials,omitempty"`
	OnLimit   string        `json:"on_limit,omitempty"` // "ask" or "stop"
}

// Limits of the container. Zero is the default of the runtime.
type Limits struct {
	Memory int64   `json:"memory"` // bytes
	CPUs   float64 `json:"cpus"`
	Pids   int64   `json:"pids"`
	Disk   int64   `json:"disk,omitempty"` // bytes that the review mode's layer may take
}

// Isolation says what the container runs under.
type Isolation struct {
	Runtime string `json:"runtime"` // "container", "gvisor" or "microvm", never "auto"
}

// Server is one tool server (MCP). Tools that no pattern names are denied; deny beats ask beats allow.
type Server struct {
	Name    string            `json:"name"`
	Command []string          `json:"command"` // run on the host
	Env     map[string]string `json:"env,omitempty"`
	Allow   []string          `json:"allow,omitempty"`
	Ask     []string          `json:"ask,omitempty"`
	Deny    []string          `json:"deny,omitempty"`
	Origin  string            `json:"origin,omitempty"`
}

// Memory says what outlives a run.
type Memory struct {
	Scope string        `json:"scope"` // "none" when no layer says
	TTL   time.Duration `json:"ttl,omitempty"`
}

// Mount is what of the person's machine is shown beside the repository.
type Mount struct {
	Source string `json:"source"` // absolute, or "~/…"
	Target string `json:"target"` // where it is inside, likewise
	Write  bool   `json:"write,omitempty"`
	Origin string `json:"origin,omitempty"`
}

// Shown is a mount as it is on this machine, now. Both paths are absolute and free of links.
type Shown struct {
	Source string `json:"source"`
	Target string `json:"target"`
	Write  bool   `json:"write,omitempty"`
	Dir    bool   `json:"dir,omitempty"`
	Hidden int    `json:"hidden,omitempty"` // how many paths in it are hidden
}

// Binding says how the grants are carried out on this machine, for this person, now.
type Binding struct {
	Repo       string          `json:"repo"`              // absolute, links resolved, the top of the work tree
	GitDir     string          `json:"git_dir,omitempty"` // its git directory, where that lies outside of Repo: it is shown too
	Directory  string          `json:"directory"`         // where the agent starts: in Repo
	Argv       []string        `json:"argv"`              // the command with its arguments; [0] is absolute on this host, or a name when it is not there
	Env        []string        `json:"env"`               // the agent's environment but for what holds placeholders, sorted; see Environ
	User       User            `json:"user"`
	Image      Image           `json:"image,omitzero"`  // the root, where it is not the host's own
	Roots      []string        `json:"roots"`           // toolchain roots outside /usr that are bound read-only
	Masked     []string        `json:"masked"`          // credential files inside them that are hidden
	Hidden     []string        `json:"hidden"`          // paths in the repo that match workspace.hide now, absolute
	Shown      []Shown         `json:"shown,omitempty"` // what the mounts of the grants are here
	Layer      Layer           `json:"layer,omitzero"`
	Kept       []Kept          `json:"kept,omitempty"`  // what outlives the run, beside the repository
	Seeds      []string        `json:"seeds,omitempty"` // files of the person's home that are copied in, absolute; one that is not there is left out
	Engine     Engine          `json:"engine"`
	Upstream   Upstream        `json:"upstream"`
	Signs      Signs           `json:"signs,omitzero"`
	Remote     string          `json:"remote,omitempty"` // what the set "origin" means here: "github.com/acme/billing"
	Rules      []policy.Rule   `json:"rules"`            // and its rules, see Plan.Network
	Warnings   []string        `json:"warnings"`         // each shown loudly
	Enforced   map[string]bool `json:"enforced"`         // "memory", "cpus", "pids": whether this machine can
	Terminal   bool            `json:"terminal"`         // the person has one: the agent gets one
	ListenTCP  []uint16        `json:"listen_tcp"`       // on 0.0.0.0, for programs that know no proxy; ProxyPort and DNSPort are not in it
	KnownHosts []policy.Host   `json:"known_hosts"`      // exact names that rules allow or ask about: they get lines in /etc/hosts
	Uses       []Use           `json:"uses"`             // which credential may go where, for whom
}

// User is the person, the same inside and outside.
type User struct {
	UID   int    `json:"uid"`
	GID   int    `json:"gid"`
	Name  string `json:"name"`
	Group string `json:"group"`
	Home  string `json:"home"`
}

// Layer is how the review mode keeps apart what is changed, on this machine.
type Layer struct {
	Backend string `json:"backend"`           // "overlay" or "copy"
	Why     string `json:"why,omitempty"`     // it is a copy that nobody asked for: why there can be no overlay
	Overlay bool   `json:"overlay,omitempty"` // there can be one: of a copy, .git is an overlay all the same
}

// Signs is what signs on this machine, where something may be signed.
type Signs struct {
	With    string `json:"with,omitempty"`    // "ssh key SHA256:…"
	Problem string `json:"problem,omitempty"` // why nothing can be
}

// Engine is the Podman that runs the container.
type Engine struct {
	Version    string `json:"version"`
	Runtime    string `json:"runtime"`    // OCI runtime: "crun", "runsc" …
	Transport  string `json:"transport"`  // "pass" or "relay"
	Connection string `json:"connection"` // URI, or "" for a service of this run's own
}

// Upstream is the person's own routing, from the user's configuration, never a repo's.
type Upstream struct {
	CA                 []string            `json:"ca,omitempty"`    // PEM files of additional roots
	Hosts              map[string]string   `json:"hosts,omitempty"` // host → "127.0.0.1:9443", dialled without address checks
	Proxy              *UpstreamProxy      `json:"proxy,omitempty"`
	ClientCertificates []ClientCertificate `json:"client_certificates,omitempty"`
}

// UpstreamProxy is what everything goes through but Hosts and what is dialled directly.
type UpstreamProxy struct {
	Scheme   string   `json:"scheme"`  // "http", "https", "socks5", "socks5h"
	Address  string   `json:"address"` // "host:port"
	User     string   `json:"user,omitempty"`
	Password Source   `json:"password,omitzero"`   // where it is
	Direct   []string `json:"direct,omitempty"`    // "name" and "*.name"
	DirectTo []string `json:"direct_to,omitempty"` // prefixes
}

// Resolves reports whether the proxy resolves names, so that addresses are not checked here.
func (p *UpstreamProxy) Resolves() bool { return p != nil && p.Scheme != "socks5" }

// ClientCertificate is shown to its hosts alone. Cert and Key are absolute paths of PEM files.
type ClientCertificate struct {
	Hosts []policy.Host `json:"hosts"`
	Cert  string        `json:"cert"`
	Key   string        `json:"key"`
}
