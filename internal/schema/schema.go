// Package schema writes JSON Schemas of the files that agentbox reads, for editors and checkers that know TOML.
//
// It owns the form; what keys there are, and what they mean, it takes from internal/profiles, which makes that list
// from the types that files are read into. What a schema refuses, the reader refuses too; the reader refuses more.
package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"agentbox/internal/profiles"
)

// Kinds are the kinds of files that there is a schema of: a profile (and agentbox.toml, which has the same keys), a
// named set, and an organisation's policy.
func Kinds() []string { return []string{"profile", "set", "policy"} }

// For gives the JSON Schema (draft-07) of a kind of file, indented, with a line feed at its end.
func For(kind string) ([]byte, error) {
	var b builder
	var title, text string
	switch kind {
	case "profile":
		b = builder{keys: profiles.Keys(), layer: true}
		title, text = "agentbox profile", "A profile of agentbox (NAME.toml), or what holds for every profile of a repository or a person (agentbox.toml)."
	case "set":
		b = builder{keys: profiles.SetKeys()}
		title, text = "agentbox named set", "Network rules under one name (sets/NAME.toml), for network.use of profiles."
	case "policy":
		b = builder{keys: profiles.FloorKeys()}
		title, text = "agentbox policy", "An organisation's floors (/etc/agentbox/policy.toml), which nothing loosens."
	default:
		return nil, fmt.Errorf("there is no schema of %q: %s", kind, strings.Join(Kinds(), ", "))
	}
	root, err := b.table("")
	if err != nil {
		return nil, err
	}
	root.Schema, root.ID = "http://json-schema.org/draft-07/schema#", "urn:agentbox:schema:"+kind+":1"
	root.Title, root.Description = title, text
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err = enc.Encode(root)
	return out.Bytes(), err
}

// node is the part of JSON Schema that is written.
type node struct {
	Schema      string           `json:"$schema,omitempty"`
	ID          string           `json:"$id,omitempty"`
	Title       string           `json:"title,omitempty"`
	Description string           `json:"description,omitempty"`
	Type        string           `json:"type,omitempty"`
	Const       any              `json:"const,omitempty"`
	Enum        []string         `json:"enum,omitempty"`
	Pattern     string           `json:"pattern,omitempty"`
	Minimum     float64          `json:"minimum,omitempty"` // 0 is none
	Maximum     float64          `json:"maximum,omitempty"`
	AnyOf       []*node          `json:"anyOf,omitempty"`
	Default     any              `json:"default,omitempty"`
	Examples    []any            `json:"examples,omitempty"`
	MinItems    int              `json:"minItems,omitempty"`
	Items       *node            `json:"items,omitempty"`
	MinKeys     int              `json:"minProperties,omitempty"`
	Required    []string         `json:"required,omitempty"`
	Names       *node            `json:"propertyNames,omitempty"`
	Properties  map[string]*node `json:"properties,omitempty"`
	Others      any              `json:"additionalProperties,omitempty"` // false, or the schema of what stands under a name of the person's own
}

type builder struct {
	keys  []profiles.Key
	layer bool // the file lies on others, and may leave to them what a whole profile needs
}

// below lists the keys right below a path.
func (b builder) below(path string) []profiles.Key {
	return slices.DeleteFunc(slices.Clone(b.keys), func(k profiles.Key) bool {
		parent, _ := split(k.Path)
		return parent != path
	})
}

func split(path string) (parent, name string) {
	i := strings.LastIndex(path, ".")
	return path[:max(i, 0)], path[i+1:]
}

// table makes the schema of a table from the keys right below its path.
func (b builder) table(path string) (*node, error) {
	n := &node{Type: "object", Properties: map[string]*node{}, Others: false}
	for _, k := range b.below(path) {
		_, name := split(k.Path)
		value, err := b.key(k)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k.Path, err)
		}
		n.Properties[name] = value
		if k.Required && !b.elsewhere(k.Path) {
			n.Required = append(n.Required, name)
		}
	}
	return n, nil
}

// elsewhere reports whether another layer may have the key.
func (b builder) elsewhere(path string) bool {
	return b.layer && (path == "agent" || path == "agent.command")
}

// key makes the schema of what stands under one key, with what is said about it.
func (b builder) key(k profiles.Key) (*node, error) {
	n, err := b.value(k)
	if err != nil {
		return nil, err
	}
	n.Description = sentence(k.Doc, k.Enum)
	if k.Path == "version" {
		n.Const = 1
	}
	if k.Default != "" {
		if n.Default, err = literal(k.Default); err != nil {
			return nil, err
		}
	}
	if k.Example != "" {
		example, err := literal(k.Example)
		if err != nil {
			return nil, err
		}
		n.Examples = []any{example}
	}
	if b, ok := bounds()[k.Path]; ok {
		n.Minimum, n.Maximum = b[0], b[1]
	}
	if slices.Contains(filled(), k.Path) {
		if n.Type == "array" {
			n.MinItems = 1
		} else {
			n.MinKeys = 1
		}
	}
	return n, nil
}

// filled are lists and tables that mean nothing when they are empty, which the reader says in its own words.
func filled() []string {
	return []string{"agent.command", "network.rule.ports", "rule.ports", "network.only",
		"credential.source", "credential.hosts", "credential.ports", "credential.methods", "credential.paths", "mcp.command"}
}

// bounds are those of numbers whose type says nothing of them.
func bounds() map[string][2]float64 {
	return map[string][2]float64{"limits.cpus": {0.01, 4096}, "limits.pids": {8, 4194304}, "budget.usd": {0.000001, 1e9}}
}

func (b builder) value(k profiles.Key) (*node, error) {
	switch k.Kind {
	case profiles.Table:
		return b.table(k.Path)
	case profiles.Tables:
		items, err := b.table(k.Path)
		return &node{Type: "array", Items: items}, err
	case profiles.Map:
		return &node{Type: "object", Names: &node{Pattern: k.KeyPattern}, Others: scalar(k, k.Items)}, nil
	case profiles.List:
		items := scalar(k, k.Items)
		if k.Items == profiles.String && b.layer && !b.inList(k.Path) {
			items = orEllipsis(items)
		}
		return &node{Type: "array", Items: items}, nil
	}
	return scalar(k, k.Kind), nil
}

// inList reports whether a key is in a list of tables, which is not merged element by element.
func (b builder) inList(path string) bool {
	return slices.ContainsFunc(b.keys, func(k profiles.Key) bool {
		return k.Kind == profiles.Tables && strings.HasPrefix(path, k.Path+".")
	})
}

// orEllipsis lets "..." stand for what the layers below gave.
func orEllipsis(n *node) *node {
	switch {
	case n.Enum != nil:
		n.Enum = append(slices.Clone(n.Enum), "...")
	case n.Pattern != "":
		return &node{AnyOf: []*node{n, {Const: "...", Description: "What the layers below gave."}}}
	}
	return n
}

func scalar(k profiles.Key, kind profiles.Kind) *node {
	n := &node{Enum: k.Enum, Pattern: k.Pattern, Minimum: k.Min}
	if k.Max < 1<<53 { // what is larger is no limit, and JSON would not hold it
		n.Maximum = k.Max
	}
	switch kind {
	case profiles.Integer, profiles.Number, profiles.Boolean:
		n.Type = string(kind)
	default:
		n.Type = "string"
	}
	return n
}

// literal reads a value as TOML writes it.
func literal(s string) (any, error) {
	var out map[string]any
	if _, err := toml.Decode("x = "+s, &out); err != nil {
		return nil, err
	}
	return out["x"], nil
}

// sentence makes a line of help one; a word of the format stays as it is written.
func sentence(s string, words []string) string {
	first, _, _ := strings.Cut(s, " ")
	switch {
	case s == "":
		return ""
	case slices.Contains(words, strings.TrimSuffix(first, ":")), strings.HasSuffix(first, ":"):
		return s + "."
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}
