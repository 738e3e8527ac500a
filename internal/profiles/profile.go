// Package profiles reads profiles and the person's own configuration, strictly, into values that cannot be wrong.
//
// It owns the TOML format: its keys, its scalars, its templates, and every message about a mistake in it, which
// names file, line and column. It does no I/O of its own: bytes and fs.FS values are handed in.
package profiles

import (
	"agentbox/internal/policy"
)

// Profile is one profile as written, checked. Zero values are what the file did not say; defaults that the format
// promises are filled in.
type Profile struct {
	Name        string       `toml:"-"`
	Origin      string       `toml:"-"` // the file, as messages name it
	Version     int          `toml:"version,required"`
	Description string       `toml:"description"`
	Agent       Agent        `toml:"agent,required"`
	Workspace   Workspace    `toml:"workspace"`
	Network     Network      `toml:"network"`
	Credentials []Credential `toml:"credential"`
	Budget      Budget       `toml:"budget"`
	Limits      Limits       `toml:"limits"`
	Isolation   Isolation    `toml:"isolation"`
}

// Agent is the program that is run.
type Agent struct {
	Command []string           `toml:"command,required"`
	Args    []string           `toml:"args"`
	Install string             `toml:"install"`
	Env     map[EnvName]string `toml:"env"`
	Pass    []EnvPattern       `toml:"pass"`
	Files   []File             `toml:"file"`
}

// File is first-run state. Path starts with "~/" or "/tmp/" and is clean.
type File struct {
	Path    string `toml:"path,required"`
	Content string `toml:"content"`
}

// Workspace says how the repo is seen.
type Workspace struct {
	Mode Mode     `toml:"mode"`
	Hide []string `toml:"hide"`
}

// Network is the default and the rules.
type Network struct {
	Default Action `toml:"default"`
	Rules   []Rule `toml:"rule"`
}

// Rule is one rule. Ports is never empty.
type Rule struct {
	Origin  string         `toml:"-"` // "claude.toml:12"
	Action  Action         `toml:"action,required"`
	Host    policy.Pattern `toml:"host,required"`
	Ports   []Port         `toml:"ports"`
	Inspect bool           `toml:"inspect"`
}

// Credential is one credential. Its header holds {token} once.
type Credential struct {
	Origin string        `toml:"-"`
	Name   Name          `toml:"name,required"`
	Source Source        `toml:"source,required"`
	Hosts  []policy.Host `toml:"hosts,required"`
	Header Header        `toml:"header,required"`
	Env    EnvName       `toml:"env"`
	Shape  Shape         `toml:"shape"`
}

// Source is where the value is: the variable if it is set, then the keyring.
type Source struct {
	Keyring Name    `toml:"keyring"`
	Env     EnvName `toml:"env"`
}

// Budget says when a run ends by itself. Zero is never.
type Budget struct {
	Time Duration `toml:"time"`
}

// Limits of the container. Zero is the runtime's default.
type Limits struct {
	Memory ByteSize `toml:"memory"`
	CPUs   float64  `toml:"cpus"`
	Pids   int64    `toml:"pids"`
}

// Isolation says what the container runs under.
type Isolation struct {
	Runtime Runtime `toml:"runtime"`
}

// Config is the person's own configuration, config.toml.
type Config struct {
	Upstream Upstream `toml:"upstream"`
}

// Upstream is the person's own routing to model servers.
type Upstream struct {
	CA    string                   `toml:"ca"` // a PEM file; absolute or "~/…"
	Hosts map[policy.Host]Endpoint `toml:"hosts"`
}

func (p *Profile) defaults() {
	p.Workspace.defaults()
	p.Network.defaults()
	p.Isolation.defaults()
}

func (w *Workspace) defaults() { w.Mode = "direct" }
func (n *Network) defaults()   { n.Default = Action(policy.Deny) }
func (i *Isolation) defaults() { i.Runtime = "container" }
func (r *Rule) defaults()      { r.Ports, r.Inspect = []Port{443}, true }

// Set is the network part as the gate takes it.
func (n Network) Set() policy.Set {
	set := policy.Set{Default: policy.Action(n.Default), Rules: []policy.Rule{}}
	for _, r := range n.Rules {
		rule := policy.Rule{Action: policy.Action(r.Action), Host: r.Host, Inspect: r.Inspect, Origin: r.Origin}
		for _, p := range r.Ports {
			rule.Ports = append(rule.Ports, uint16(p))
		}
		set.Rules = append(set.Rules, rule)
	}
	return set
}
