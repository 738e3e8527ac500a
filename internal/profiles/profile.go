// Package profiles reads profiles, strictly, into values that cannot be wrong.
//
// It owns the TOML format: its keys, its scalars, its templates, how layers lie on each other, and every message about a
// mistake in it, which names file, line and column. It does no I/O of its own: bytes and fs.FS values are handed in.
package profiles

import (
	"agentbox/internal/policy"
)

// Profile is one profile, all its layers merged and checked. Zero values are what no layer said; defaults that the
// format promises are filled in by what uses them (internal/plan), because a tier changes them.
type Profile struct {
	Name        string       `toml:"-"`
	Origin      string       `toml:"-"`
	Chain       []string     `toml:"-"` // what it extends, the root first, itself last
	Origins     Origins      `toml:"-"`
	Version     int          `toml:"version,required"`
	Extends     Name         `toml:"extends"`
	Description string       `toml:"description"`
	Tier        Tier         `toml:"tier"`
	Agent       Agent        `toml:"agent,required"`
	Workspace   Workspace    `toml:"workspace"`
	Mounts      []Mount      `toml:"mount"`
	Network     Network      `toml:"network"`
	Git         []GitRule    `toml:"git"`
	Credentials []Credential `toml:"credential"`
	Signing     Signing      `toml:"signing"`
	Budget      Budget       `toml:"budget"`
	Limits      Limits       `toml:"limits"`
	Isolation   Isolation    `toml:"isolation"`
	Servers     []Server     `toml:"mcp"`
	Memory      Memory       `toml:"memory"`
	Telemetry   Telemetry    `toml:"telemetry"`
}

// Level says whose a layer is. Later ones lie on top.
type Level int

// The levels.
const (
	BuiltIn Level = iota
	Repo
	User
	Grants       // the person's, for this repository: what "always" gave
	Flags        // the command line
	Organisation // /etc/agentbox/policy.toml: under them all, as a floor
)

// Place is where a value was written. The zero Place is nowhere: a default.
type Place struct {
	Level Level
	File  string // as messages name it: "built-in/claude.toml", ".agentbox/billing.toml", "~/.config/agentbox/agentbox.toml"
	Line  int
	Col   int
}

// Agent is the program that is run.
type Agent struct {
	Command       []string           `toml:"command,required"`
	Args          []string           `toml:"args"`
	Install       string             `toml:"install"`
	Rootfs        Rootfs             `toml:"rootfs"`        // "host", or one of the next two
	Image         Image              `toml:"image"`         // NAME@sha256:…
	Containerfile RepoPath           `toml:"containerfile"` // below the repo
	Env           map[EnvName]string `toml:"env"`
	Pass          []EnvPattern       `toml:"pass"`
	Files         []File             `toml:"file"` // by path
	Keep          []HomePath         `toml:"keep"` // directories that outlive the run
	Seed          []HomePath         `toml:"seed"` // files of the host's home that are copied in
}

// File is first-run state. Path starts with "~/" or "/tmp/" and is clean.
type File struct {
	Origin  string `toml:"-"`
	Path    string `toml:"path,required"`
	Content string `toml:"content"`
}

// Workspace says how the repo is seen.
type Workspace struct {
	Mode    Mode     `toml:"mode"`
	Backend Backend  `toml:"backend"`
	Hide    []string `toml:"hide"`
	Show    []string `toml:"show"`
	Caches  []Cache  `toml:"caches"`
}

// Mount is a file or directory of the person's machine, outside of the repository, that is shown inside.
type Mount struct {
	Origin string   `toml:"-"`
	Source HostPath `toml:"source,required"`
	Target HostPath `toml:"target"` // where it is inside; "" is Source
	Write  bool     `toml:"write"`  // the agent may write to it
}

// Network is the default, the named sets and the rules.
type Network struct {
	Default Action `toml:"default"`
	Use     []Name `toml:"use"`
	Rules   []Rule `toml:"rule"`
}

// Rule is one rule. Ports is never empty. Those of named sets stand behind the profile's own once layers are merged.
type Rule struct {
	Origin  string               `toml:"-"` // "built-in/claude.toml:12"
	Set     Name                 `toml:"-"` // the named set that it came from, or ""
	Model   bool                 `toml:"-"` // that set is a model's API
	Granted bool                 `toml:"-"` // the person allowed it in this repository
	Action  Action               `toml:"action,required"`
	Host    policy.Pattern       `toml:"host,required"`
	Ports   []Port               `toml:"ports"`
	Methods []Method             `toml:"methods"`
	Paths   []policy.PathPattern `toml:"paths"`
	Inspect bool                 `toml:"inspect"`

	Scheme     Scheme   `toml:"scheme"`
	WebSocket  *bool    `toml:"websocket"` // true: upgrades alone; false: none of them; left out: both
	Protocol   Protocol `toml:"protocol"`  // "tcp"; "" is http
	MaxRequest ByteSize `toml:"max_request"`
	MaxSent    ByteSize `toml:"max_sent"`
	Private    []Prefix `toml:"private"`
}

// GitRule says what may be fetched from and pushed to one repository.
type GitRule struct {
	Origin string       `toml:"-"`
	Remote Remote       `toml:"remote,required"` // "github.com/acme/billing"
	Fetch  bool         `toml:"fetch"`           // true when left out
	Push   []RefPattern `toml:"push"`            // "refs/heads/agentbox/*"; none: no push
	Force  bool         `toml:"force"`           // also what is no fast-forward
	Delete bool         `toml:"delete"`          // also deletions
}

// Credential is one credential, by name. It has one slot, in which {token} stands once, or a header and Basic.
type Credential struct {
	Origin  string               `toml:"-"`
	Name    Name                 `toml:"name,required"`
	Source  Source               `toml:"source,required"`
	Hosts   []policy.Host        `toml:"hosts,required"`
	Ports   []Port               `toml:"ports"`   // none: every port
	Methods []Method             `toml:"methods"` // none: every method
	Paths   []policy.PathPattern `toml:"paths"`   // none: every path
	Header  Header               `toml:"header"`
	Basic   BasicLogin           `toml:"basic"`
	Query   Parameter            `toml:"query"`
	Body    BodyField            `toml:"body"`
	Env     EnvName              `toml:"env"`
	Shape   Shape                `toml:"shape"`
	Claims  Claims               `toml:"claims"`
	TTL     Duration             `toml:"ttl"` // how long a run may use it; 0: as long as it lasts
}

// Source is where the value is: one of its fields, or Env and Keyring together: the variable if it is set, then the
// keyring.
type Source struct {
	Keyring   Name       `toml:"keyring"`
	Env       EnvName    `toml:"env"`
	Command   []string   `toml:"command"`
	File      HostPath   `toml:"file"` // absolute, or "~/…"
	GitHubApp *GitHubApp `toml:"github_app"`
	OAuth     *OAuth     `toml:"oauth"`
}

// OAuth is the subscription login of an agent on this machine, where that agent keeps it or in one of the other two.
type OAuth struct {
	Login   LoginName `toml:"login,required"`
	File    HostPath  `toml:"file"`
	Keyring Name      `toml:"keyring"` // an account that holds what the agent's file would
}

// GitHubApp mints tokens of one hour for the repositories and permissions named.
type GitHubApp struct {
	ID          int64                 `toml:"id,required"`
	Key         Name                  `toml:"key,required"` // the private key's account in the keyring
	Repos       []RepoName            `toml:"repos,required"`
	Permissions map[Permission]Access `toml:"permissions,required"`
}

// Signing says whether git inside gets signatures of the person's key, which stays on the host.
type Signing struct {
	Commits Action `toml:"commits"` // and annotated tags
}

// Budget says when a run ends by itself. Zero is never.
type Budget struct {
	Time      Duration `toml:"time"`
	USD       Money    `toml:"usd"`
	Tokens    Count    `toml:"tokens"`
	Requests  Count    `toml:"requests"`
	ToolCalls Count    `toml:"tool_calls"`
	Denials   Count    `toml:"denials"`
	OnLimit   OnLimit  `toml:"on_limit"`
}

// Limits of the container. Zero is the runtime's default.
type Limits struct {
	Memory ByteSize `toml:"memory"`
	CPUs   float64  `toml:"cpus"`
	Pids   int64    `toml:"pids"`
	Disk   ByteSize `toml:"disk"` // of what the review mode keeps apart
}

// Isolation says what the container runs under.
type Isolation struct {
	Runtime Runtime `toml:"runtime"`
}

// Server is one tool server (MCP), by name. Patterns are names of tools; "*" is any run of characters.
type Server struct {
	Origin  string             `toml:"-"`
	Name    Name               `toml:"name,required"`
	Command []string           `toml:"command,required"`
	Env     map[EnvName]string `toml:"env"`
	Allow   []ToolPattern      `toml:"allow"`
	Ask     []ToolPattern      `toml:"ask"`
	Deny    []ToolPattern      `toml:"deny"`
}

// Memory says what outlives a run.
type Memory struct {
	Scope Scope    `toml:"scope"`
	TTL   Duration `toml:"ttl"`
}

// Telemetry says where events are sent besides the log.
type Telemetry struct {
	OTLP URL `toml:"otlp"`
}

// NamedSet is a file of profiles/sets: rules under one name, for network.use.
type NamedSet struct {
	Name        string `toml:"-"`
	Version     int    `toml:"version,required"`
	Description string `toml:"description,required"`
	Model       bool   `toml:"model"` // its hosts are a model's API
	Rules       []Rule `toml:"rule,required"`
}

// Floors is the organisation's /etc/agentbox/policy.toml: nothing that it says can be loosened. What it does not say
// binds nobody.
type Floors struct {
	Origins   map[string]Place `toml:"-"`
	Version   int              `toml:"version,required"`
	Tier      Tier             `toml:"tier"` // at least this one
	Workspace FloorWorkspace   `toml:"workspace"`
	Network   FloorNetwork     `toml:"network"`
	Budget    Budget           `toml:"budget"` // at most
	Limits    Limits           `toml:"limits"` // at most
	Isolation Isolation        `toml:"isolation"`
}

// FloorWorkspace is the workspace part of Floors.
type FloorWorkspace struct {
	Mode Mode     `toml:"mode"` // at least as careful: direct, review, readonly
	Hide []string `toml:"hide"` // hidden everywhere
}

// FloorNetwork is the network part of Floors.
type FloorNetwork struct {
	Default Action           `toml:"default"` // at least as careful: allow, ask, deny
	Only    []policy.Pattern `toml:"only"`    // no rule and no default reaches a host that none of these names; empty: no such limit
	Rules   []Rule           `toml:"rule"`    // deny and ask only
}

// Config is the person's own configuration, config.toml.
type Config struct {
	Upstream  Upstream  `toml:"upstream"`
	Approvals Approvals `toml:"approvals"`
}

// Approvals is how the person is asked.
type Approvals struct {
	Timeout Duration `toml:"timeout"` // how long a question waits for its answer; 0: as long as nobody says otherwise
}

// Upstream is the person's own way to servers.
type Upstream struct {
	CA                 HostPaths                `toml:"ca"` // PEM files
	Hosts              map[policy.Host]Endpoint `toml:"hosts"`
	Proxy              ProxyURL                 `toml:"proxy"`
	ProxyUser          ProxyUser                `toml:"proxy_user"`
	ProxyPassword      *ProxyPassword           `toml:"proxy_password"`
	NoProxy            []NoProxy                `toml:"no_proxy"`
	ClientCertificates []ClientCertificate      `toml:"client_certificate"`
}

// ProxyPassword is where the upstream proxy's password is: the variable if it is set, then the keyring.
type ProxyPassword struct {
	Keyring Name    `toml:"keyring"`
	Env     EnvName `toml:"env"`
}

// ClientCertificate is one of the person's, for some hosts. Both files are PEM.
type ClientCertificate struct {
	Hosts []policy.Host `toml:"hosts,required"`
	Cert  HostPath      `toml:"cert,required"`
	Key   HostPath      `toml:"key,required"`
}

func (r *Rule) defaults()    { r.Ports, r.Inspect = []Port{443}, true }
func (g *GitRule) defaults() { g.Fetch = true }

// Set is the network part as the gate takes it.
func (n Network) Set() policy.Set {
	set := policy.Set{Default: policy.Action(n.Default), Rules: []policy.Rule{}}
	for _, r := range n.Rules {
		rule := policy.Rule{Action: policy.Action(r.Action), Host: r.Host, Paths: r.Paths, Inspect: r.Inspect, Model: r.Model, Origin: r.Origin}
		for _, p := range r.Ports {
			rule.Ports = append(rule.Ports, uint16(p))
		}
		for _, m := range r.Methods {
			rule.Methods = append(rule.Methods, string(m))
		}
		r.Fill(&rule)
		if r.Granted && rule.Action == policy.Allow {
			rule.By = policy.ByPerson
		}
		set.Rules = append(set.Rules, rule)
	}
	return set
}

// Fill adds to what the gate takes all that few rules say.
func (r Rule) Fill(rule *policy.Rule) {
	rule.Scheme, rule.Protocol = string(r.Scheme), string(r.Protocol)
	rule.MaxRequest, rule.MaxSent = int64(r.MaxRequest), int64(r.MaxSent)
	if r.WebSocket != nil {
		rule.WebSocket = policy.WebSocketNever
		if *r.WebSocket {
			rule.WebSocket = policy.WebSocketOnly
		}
	}
	for _, p := range r.Private {
		rule.Private = append(rule.Private, p.prefix)
	}
}

// Rule is what the gate takes.
func (g GitRule) Rule() policy.GitRule {
	out := policy.GitRule{Host: g.Remote.Host(), Repo: g.Remote.Repo(), Fetch: g.Fetch, Force: g.Force, Delete: g.Delete, Origin: g.Origin}
	for _, p := range g.Push {
		out.Push = append(out.Push, string(p))
	}
	return out
}
