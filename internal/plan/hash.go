package plan

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"agentbox/internal/policy"
)

// Hash is the same for the same grants, however their profile was written: the order of rules and names, the lines
// they stand on, doubles and texts for people do not count.
func (g Grants) Hash() string {
	sum := sha256.Sum256(g.Canonical())
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Canonical is compact JSON with sorted keys.
func (g Grants) Canonical() []byte {
	g.Origins = nil
	g.Description, g.Agent.Install = "", ""
	g.Agent.Pass, g.Workspace.Hide = list(g.Agent.Pass), list(g.Workspace.Hide)
	g.Agent.Files = sorted(g.Agent.Files, func(f File) string { return f.Path })
	g.Network.Rules = canonicalRules(g.Network.Rules)
	g.Credentials = canonicalCredentials(g.Credentials)
	var tree any
	dec := json.NewDecoder(bytes.NewReader(encoded(g)))
	dec.UseNumber() // a float64 does not hold every number of bytes
	if err := dec.Decode(&tree); err != nil {
		panic("plan: grants are not JSON: " + err.Error()) // what encoded just wrote
	}
	return encoded(tree) // encoding/json sorts the keys of maps
}

func canonicalRules(rules []policy.Rule) []policy.Rule {
	out := make([]policy.Rule, 0, len(rules))
	for _, r := range rules {
		r.Origin = ""
		r.Ports = slices.Compact(slices.Sorted(slices.Values(r.Ports)))
		out = append(out, r)
	}
	out = sorted(out, func(r policy.Rule) string { return string(encoded(r)) })
	return slices.CompactFunc(out, func(a, b policy.Rule) bool { return bytes.Equal(encoded(a), encoded(b)) })
}

func canonicalCredentials(cs []Credential) []Credential {
	out := make([]Credential, 0, len(cs))
	for _, c := range cs {
		c.Origin = ""
		c.Hosts = sorted(c.Hosts, policy.Host.String)
		out = append(out, c)
	}
	return sorted(out, func(c Credential) string { return c.Name })
}

// sorted copies: a plan's own slices stay as they are.
func sorted[T any, K cmp.Ordered](s []T, key func(T) K) []T {
	out := append([]T{}, s...)
	slices.SortStableFunc(out, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	return out
}

func encoded(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("plan: grants do not encode: " + err.Error()) // only finite numbers and strings are in them
	}
	return bytes.TrimSpace(b.Bytes())
}
