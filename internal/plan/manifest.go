package plan

import (
	"bytes"
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"agentbox/internal/policy"
)

// Manifest is the list of everything that grants give: what a team checks in, so that a change of it is seen. It is the
// same for the same grants, whatever lines they stand on.
type Manifest struct {
	Version int            `json:"version"` // of this format: 1
	Profile string         `json:"profile"`
	Tier    string         `json:"tier"`
	Hash    string         `json:"hash"`   // of the grants, restrictions and all
	Grants  []ManifestItem `json:"grants"` // by kind, then in the order of their texts
}

// ManifestItem is one thing that may be done.
type ManifestItem struct {
	Kind    string `json:"kind"`    // "command", "network", "credential" …
	What    string `json:"what"`    // in plain words
	Origin  string `json:"origin"`  // the file that says so, or "default", "tier medium"
	Expires string `json:"expires"` // "at the end of the run", "after 2h", "never"
}

// ManifestOf lists the grants.
func ManifestOf(g Grants) Manifest {
	m := Manifest{Version: 1, Profile: g.Profile, Tier: g.Tier, Hash: g.Hash(), Grants: []ManifestItem{}}
	add := func(kind, what, origin, expires string) {
		m.Grants = append(m.Grants, ManifestItem{kind, what, cmp.Or(file(origin), fromDefault), expires})
	}
	for _, c := range handedOut(g) {
		add(kindOf(c.Path), c.Text, c.Origin, g.expires(c.Path))
	}
	if g.Network.Default != policy.Deny {
		add("network", verb(g.Network.Default)+" what no rule names", g.Origins["network.default"], g.expires(""))
	}
	for _, r := range g.Network.Rules {
		if r.Action != policy.Deny {
			add("network", verb(r.Action)+" "+requests(r)+blind(r), r.Origin, g.expires(""))
		}
	}
	order := []string{"command", "environment", "file", "workspace", "cache", "state", "network", "git", "credential", "signing", "mcp", "memory", "telemetry"}
	slices.SortStableFunc(m.Grants, func(a, b ManifestItem) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), strings.Compare(a.What, b.What), strings.Compare(a.Origin, b.Origin))
	})
	m.Grants = slices.Compact(m.Grants)
	return m
}

// JSON is the manifest as it is checked in.
func (m Manifest) JSON() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(m); err != nil {
		panic("plan: a manifest does not encode: " + err.Error()) // only strings and a number are in it
	}
	return b.Bytes()
}

// handedOut is everything that grants give but for the rules: what Diff says of them next to Nothing, so that what is
// new in Grants is in the manifest too.
func handedOut(g Grants) []Change {
	d := &differ{from: Nothing(), to: g, fresh: true}
	d.agent()
	d.workspace()
	d.origin()
	d.git()
	d.credentials()
	d.signing()
	d.servers()
	d.memory()
	d.telemetry()
	return slices.DeleteFunc(d.changes, func(c Change) bool { return c.Kind != Wider || c.Path == "agent.install" })
}

func kindOf(path string) string {
	for _, k := range []struct{ path, kind string }{
		{"agent.env", "environment"}, {"agent.pass", "environment"}, {"agent.file", "file"}, {"agent.seed", "file"}, {"agent.keep", "state"}, {"agent", "command"},
		{"workspace.caches", "cache"}, {"workspace", "workspace"}, {"network", "network"},
	} {
		if strings.HasPrefix(path, k.path) {
			return k.kind
		}
	}
	kind, _, _ := strings.Cut(path, ".")
	return kind
}

// expires says when what stands at a path ends.
func (g Grants) expires(path string) string {
	kind, rest, _ := strings.Cut(path, ".")
	switch {
	case kind == "memory" && g.Memory.TTL > 0:
		return "after " + short(g.Memory.TTL)
	case kind == "memory", path == "workspace.caches", path == "agent.keep":
		return "never"
	case kind == "credential":
		for _, c := range g.Credentials {
			if c.Name == rest && c.TTL > 0 && looser(int64(g.Budget.Time), int64(c.TTL)) {
				return "after " + short(c.TTL)
			}
		}
	}
	if g.Budget.Time > 0 {
		return "after " + short(g.Budget.Time)
	}
	return "at the end of the run"
}

var lineOf = regexp.MustCompile(`:[0-9]+($|, )`)

// file leaves the lines out, which change with every comment: "agentbox.toml, npm.toml" of "agentbox.toml:3, npm.toml:4".
func file(origin string) string { return lineOf.ReplaceAllString(origin, "$1") }

func blind(r policy.Rule) string {
	if unseen(r) {
		return ", not inspected"
	}
	return ""
}
