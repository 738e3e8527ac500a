package plan

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/policy"
)

// Hash is "sha256:…" of Canonical: the same for the same grants, however their profile was written.
func (g Grants) Hash() string {
	sum := sha256.Sum256(g.Canonical())
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Canonical is compact JSON with sorted keys that holds what may be done and nothing else. Where things stand, texts for
// people, the order of what is a set and doubles do not count. Rules of a named set count like the same rules written
// out; of the names only "origin" counts, whose rules are not in Grants.
func (g Grants) Canonical() []byte {
	rules := g.Network.Rules
	g.Network.Rules = nil
	var tree map[string]any
	dec := json.NewDecoder(bytes.NewReader(encoded(bare(g))))
	dec.UseNumber() // a float64 does not hold every number of bytes
	if err := dec.Decode(&tree); err != nil {
		panic("plan: grants are not JSON: " + err.Error()) // what encoded just wrote
	}
	tree["network"].(map[string]any)["rules"] = canonicalRules(rules)
	var b bytes.Buffer
	writeCanonical(&b, tree)
	return b.Bytes()
}

// written is JSON that is canonical already.
type written []byte

func writeCanonical(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case written:
		b.Write(v)
	case map[string]any:
		for i, key := range slices.Sorted(maps.Keys(v)) {
			b.WriteByte("{,"[min(i, 1)])
			b.Write(encoded(key))
			b.WriteByte(':')
			writeCanonical(b, v[key])
		}
		if len(v) == 0 {
			b.WriteByte('{')
		}
		b.WriteByte('}')
	default:
		b.Write(encoded(v)) // no list in Grants holds tables with keys that encoding/json would not sort
	}
}

// bare takes out what does not count, and sorts what is a set. It copies what it changes.
func bare(g Grants) Grants {
	g.Description, g.Agent.Install, g.Origins = "", "", nil
	g.Agent.Pass, g.Workspace.Hide, g.Workspace.Caches = list(g.Agent.Pass), orderless(g.Workspace.Hide), list(g.Workspace.Caches)
	g.Agent.Keep, g.Agent.Seed = list(g.Agent.Keep), list(g.Agent.Seed)
	g.Agent.Files = sorted(g.Agent.Files, func(f File) string { return f.Path })
	g.Network.Only = slices.Compact(sorted(g.Network.Only, policy.Pattern.String))
	g.Use = slices.DeleteFunc(list(g.Use), func(name string) bool { return name != originSet })
	g.Mounts = sorted(mapped(g.Mounts, func(m Mount) Mount {
		m.Origin = ""
		return m
	}), func(m Mount) string { return m.Source })
	g.Git = sorted(mapped(g.Git, func(r GitRule) GitRule {
		r.Origin, r.Push = "", list(r.Push)
		return r
	}), func(r GitRule) string { return r.Remote })
	g.Credentials = sorted(mapped(g.Credentials, bareCredential), func(c Credential) string { return c.Name })
	g.Servers = sorted(mapped(g.Servers, func(s Server) Server {
		s.Origin, s.Allow, s.Ask, s.Deny = "", list(s.Allow), list(s.Ask), list(s.Deny)
		return s
	}), func(s Server) string { return s.Name })
	return g
}

// orderless sorts what hides between two patterns that show, and what shows between two that hide: in there order means
// nothing.
func orderless(hide []string) []string {
	out := []string{}
	for len(hide) > 0 {
		_, kind := shows(hide[0])
		end := slices.IndexFunc(hide, func(p string) bool { _, other := shows(p); return other != kind })
		if end < 0 {
			end = len(hide)
		}
		out, hide = append(out, list(hide[:end])...), hide[end:]
	}
	return out
}

func bareCredential(c Credential) Credential {
	c.Origin, c.Hosts = "", slices.Compact(sorted(c.Hosts, policy.Host.String))
	c.Methods, c.Paths = list(c.Methods), slices.Compact(sorted(c.Paths, policy.PathPattern.String))
	c.Ports = slices.Compact(slices.Sorted(slices.Values(c.Ports)))
	if a := c.Source.GitHubApp; a != nil {
		app := *a
		app.Repos = list(app.Repos)
		c.Source.GitHubApp = &app
	}
	return c
}

// canonicalRules writes the rules as a sorted JSON list without doubles.
func canonicalRules(rules []policy.Rule) written {
	var b []byte
	ends := make([]int, len(rules))
	for i, r := range rules {
		b = appendRule(b, r)
		ends[i] = len(b)
	}
	all, texts, start := string(b), make([]string, len(rules)), 0
	for i, end := range ends {
		texts[i], start = all[start:end], end
	}
	slices.Sort(texts)
	out := append(make(written, 0, len(all)+len(rules)+2), '[')
	for i, text := range slices.Compact(texts) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, text...)
	}
	return append(out, ']')
}

// appendRule writes by hand what encoding/json takes ten times as long for: there may be ten thousand. That a rule
// belongs to a model does not count: only what is allowed does. Nor does whether one looks into what is denied.
func appendRule(b []byte, r policy.Rule) []byte {
	b = appendString(append(b, `{"action":`...), string(r.Action))
	b = appendString(append(b, `,"host":`...), r.Host.String())
	b = strconv.AppendBool(append(b, `,"inspect":`...), r.Inspect || r.Action != policy.Allow)
	b = appendNumber(b, "max_request", r.MaxRequest)
	b = appendNumber(b, "max_sent", r.MaxSent)
	b = appendList(b, "methods", r.Methods)
	b = appendList(b, "paths", patterns(r.Paths))
	b = append(b, `,"ports":[`...)
	for i, port := range ordered(r.Ports) {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(port), 10)
	}
	b = appendList(append(b, ']'), "private", prefixes(r.Private))
	b = appendWord(b, "protocol", r.Protocol)
	b = appendWord(b, "scheme", r.Scheme)
	return append(appendWord(b, "websocket", r.WebSocket), '}')
}

func appendNumber(b []byte, key string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(append(append(append(b, `,"`...), key...), `":`...), n, 10)
}

func appendWord(b []byte, key, word string) []byte {
	if word == "" {
		return b
	}
	return appendString(append(append(append(b, `,"`...), key...), `":`...), word)
}

func prefixes(in []netip.Prefix) []string {
	out := make([]string, len(in))
	for i, p := range in {
		out[i] = p.String()
	}
	return out
}

func appendList(b []byte, key string, values []string) []byte {
	if len(values) == 0 {
		return b
	}
	b = append(append(append(b, `,"`...), key...), `":[`...)
	for i, value := range ordered(values) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, value)
	}
	return append(b, ']')
}

// appendString writes a JSON string.
func appendString(b []byte, s string) []byte {
	plain := func(c rune) bool { return c >= ' ' && c < 0x7f && c != '"' && c != '\\' }
	if strings.IndexFunc(s, func(c rune) bool { return !plain(c) }) >= 0 {
		return append(b, encoded(s)...)
	}
	return append(append(append(b, '"'), s...), '"')
}

// ordered is the set without doubles: itself where it is written so.
func ordered[T cmp.Ordered](s []T) []T {
	for i := 1; i < len(s); i++ {
		if s[i-1] >= s[i] {
			return distinct(s)
		}
	}
	return s
}

func patterns(in []policy.PathPattern) []string {
	if len(in) == 0 {
		return nil
	}
	out := make([]string, len(in))
	for i, p := range in {
		out[i] = p.String()
	}
	return out
}

func mapped[T any](s []T, change func(T) T) []T {
	out := make([]T, 0, len(s))
	for _, v := range s {
		out = append(out, change(v))
	}
	return out
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
