package plan

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"agentbox/internal/policy"
)

// everything has something in every field.
func everything(t testing.TB) Grants {
	return Grants{
		Profile: "p", Description: "d", Tier: "medium",
		Agent: Agent{Command: []string{"agent", "-x"}, Args: []string{"-y"}, Rootfs: "image", Image: "a@sha256:1", Containerfile: "c",
			Env: map[string]string{"A": "1"}, Files: []File{{"~/.a", "a"}}, Pass: []string{"TERM"}, Install: "install it", Keep: []string{"~/.k"}, Seed: []string{"~/.s"}},
		Workspace: Workspace{Mode: Review, Backend: "overlay", Hide: append(Nothing().Workspace.Hide, ".env", "salt", "!.env.test"), Caches: []string{"npm"}},
		Mounts:    []Mount{{Source: "~/data", Target: "~/data", Write: true, Origin: "p.toml:6"}},
		Use:       []string{"npm"},
		Network:   policy.Set{Default: policy.Ask, Only: []policy.Pattern{pattern(t, "a.test")}, Rules: []policy.Rule{allowRule(t, "a.test")}},
		Git:       []GitRule{{Remote: "a.test/b/c", Fetch: true, Push: []string{"refs/heads/x"}, Force: true, Delete: true, Origin: "p.toml:1"}},
		Credentials: []Credential{{Name: "c", Hosts: []policy.Host{host(t, "a.test")}, Ports: []uint16{443}, Methods: []string{"GET"}, Paths: []policy.PathPattern{pathPattern(t, "/a")},
			Header: "A: {token}", Basic: "u:{token}", Query: "q", Body: "b", Env: "C", Shape: "s", Claims: "{}", TTL: time.Hour, Origin: "p.toml:2",
			Source: Source{Keyring: "k", Env: "E", Command: []string{"get"}, File: "~/f", GitHubApp: &GitHubApp{ID: 1, Key: "k", Repos: []string{"a/b"}, Permissions: map[string]string{"contents": "read"}},
				OAuth: &OAuth{Login: "claude", File: "~/f", Keyring: "k"}}}},
		Signing:   Signing{Commits: "ask"},
		Budget:    Budget{Time: time.Hour, USD: "5.00", Tokens: 1, Requests: 1, ToolCalls: 1, Denials: 1, OnLimit: "stop"},
		Limits:    Limits{Memory: 1, CPUs: 1, Pids: 1, Disk: 1},
		Isolation: Isolation{Runtime: "gvisor"},
		Servers:   []Server{{Name: "s", Command: []string{"s"}, Env: map[string]string{"A": "1"}, Allow: []string{"a"}, Ask: []string{"b"}, Deny: []string{"c"}, Origin: "p.toml:3"}},
		Memory:    Memory{Scope: "repo", TTL: time.Hour}, Telemetry: "http://127.0.0.1:4318", Origins: map[string]string{"tier": "p.toml:4"},
	}
}

func allowRule(t testing.TB, name string) policy.Rule {
	t.Helper()
	return policy.Rule{Action: policy.Allow, Host: pattern(t, name), Ports: []uint16{443}, Methods: []string{"GET"}, Paths: []policy.PathPattern{pathPattern(t, "/a")}, Inspect: true, Origin: "p.toml:5",
		Scheme: "https", WebSocket: policy.WebSocketNever, MaxRequest: 1, MaxSent: 2, Private: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
}

func pattern(t testing.TB, s string) policy.Pattern {
	t.Helper()
	p, err := policy.ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func pathPattern(t testing.TB, s string) policy.PathPattern {
	t.Helper()
	p, err := policy.ParsePathPattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// variant is a change of one leaf of a value, named by its path.
type variant struct {
	path  string
	apply func()
	undo  func()
}

// variants walks a value that is reached by pointers and gives one change for every leaf in it.
func variants(t *testing.T, v reflect.Value, at string) []variant {
	set := func(to any) []variant {
		old := reflect.New(v.Type()).Elem()
		old.Set(v)
		return []variant{{at, func() { v.Set(reflect.ValueOf(to).Convert(v.Type())) }, func() { v.Set(old) }}}
	}
	switch v.Interface().(type) {
	case policy.Host:
		return set(host(t, "other.test"))
	case policy.Pattern:
		return set(pattern(t, "other.test"))
	case policy.PathPattern:
		return set(pathPattern(t, "/other"))
	case netip.Prefix:
		return set(netip.MustParsePrefix("192.168.0.0/16"))
	case []policy.GitRule:
		return nil // Grants.Set fills it in, of Grants.Git
	}
	switch v.Kind() {
	case reflect.String:
		return set("other")
	case reflect.Int, reflect.Int64, reflect.Uint16:
		return set(7)
	case reflect.Float64:
		return set(7.5)
	case reflect.Bool:
		return set(!v.Bool())
	case reflect.Pointer:
		return variants(t, v.Elem(), at)
	case reflect.Slice:
		if v.Len() == 0 {
			t.Fatalf("%s is empty: give it something in everything()", at)
		}
		return append(set(reflect.Zero(v.Type()).Interface()), variants(t, v.Index(0), at+"[0]")...)
	case reflect.Map:
		return set(reflect.Zero(v.Type()).Interface())
	case reflect.Struct:
		var out []variant
		for i := range v.NumField() {
			out = append(out, variants(t, v.Field(i), at+"."+v.Type().Field(i).Name)...)
		}
		return out
	}
	t.Fatalf("%s is of a kind that this test does not know: %s", at, v.Kind())
	return nil
}

// uncounted is what allows nothing: where things stand, and what only floors look at.
func uncounted(path string) bool {
	return strings.HasSuffix(path, ".Origin") || strings.HasPrefix(path, ".Origins") || path == ".Network.Rules[0].Model"
}

// unheard is what no decision depends on in a rule with methods and paths, which is inspected in any case. The next test
// sees it in one without.
//
// Whose a rule is, no file of a repository says: it is the same on both sides of every comparison.
func unheard(path string) bool {
	return path == ".Network.Rules[0].Inspect" || path == ".Network.Rules[0].By"
}

func TestDiffSeesWhatIsNoLongerInspected(t *testing.T) {
	seen, unseen := everything(t), everything(t)
	for _, g := range []*Grants{&seen, &unseen} {
		g.Network.Rules[0].Methods, g.Network.Rules[0].Paths, g.Git = nil, nil, nil
		g.Network.Rules[0].WebSocket, g.Network.Rules[0].MaxRequest = "", 0
	}
	unseen.Network.Rules[0].Inspect = false
	if there, back := Diff(seen, unseen), Diff(unseen, seen); len(there) != 1 || len(back) != 1 || there[0].Kind != Wider || back[0].Kind != Tighter {
		t.Errorf("%+v, %+v", there, back)
	}
}

func TestDiffCoversEveryFieldOfGrants(t *testing.T) {
	g := everything(t)
	list := variants(t, reflect.ValueOf(&g).Elem(), "")
	if len(list) < 70 {
		t.Fatalf("only %d leaves were found", len(list))
	}
	for _, v := range list {
		v.apply()
		changes, back := Diff(everything(t), g), Diff(g, everything(t))
		hash := g.Hash()
		v.undo()
		switch {
		case unheard(v.path):
			continue
		case uncounted(v.path):
			if len(changes)+len(back) > 0 || hash != g.Hash() {
				t.Errorf("%s counts, and should not: %v", v.path, changes)
			}
			continue
		case len(changes) == 0 || len(back) == 0:
			t.Errorf("Diff does not see that %s changed", v.path)
		case hash == g.Hash() && v.path != ".Description" && v.path != ".Agent.Install" && !strings.HasPrefix(v.path, ".Use"):
			t.Errorf("the hash does not see that %s changed", v.path)
		}
		if v.path == ".Description" || v.path == ".Profile" || v.path == ".Workspace.Backend" || strings.HasPrefix(v.path, ".Use") {
			continue
		}
		if len(Widenings(changes))+len(Widenings(back)) == 0 {
			t.Errorf("%s changed, and neither way is wider: %v, %v", v.path, changes, back)
		}
	}
	if len(Diff(g, everything(t))) > 0 {
		t.Error("the changes were not undone")
	}
}

func TestDiffWithNothing(t *testing.T) {
	g := everything(t)
	for _, c := range Diff(Nothing(), g) {
		if c.Kind != Wider || strings.Contains(c.Text, "instead of") || strings.Contains(c.Text, "in place of") {
			t.Errorf("%+v", c)
		}
	}
	for _, c := range Diff(g, Nothing()) {
		if c.Kind != Tighter {
			t.Errorf("%+v", c)
		}
	}
	if got := Diff(Nothing(), Nothing()); len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

// Random grants: few names and values, so that two of them have much in common.

func someOf(r *rand.Rand, from ...string) []string {
	out := []string{}
	for _, s := range from {
		if r.IntN(2) == 0 {
			out = append(out, s)
		}
	}
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func oneOf[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func randomGrants(t testing.TB, r *rand.Rand) Grants {
	g := Grants{
		Profile: "p", Tier: oneOf(r, tierNames()...), Use: someOf(r, "npm", "origin"),
		Agent: Agent{Command: []string{oneOf(r, "a", "b")}, Args: someOf(r, "x", "y"), Rootfs: oneOf(r, "host", "image"), Image: oneOf(r, "", "a", "b"),
			Containerfile: oneOf(r, "", "a"), Env: randomTable(r), Pass: someOf(r, "TERM", "LANG"), Install: oneOf(r, "", "a", "b"), Keep: someOf(r, "~/.k", "~/.l"), Seed: someOf(r, "~/.s", "~/.t")},
		Workspace: Workspace{Mode: oneOf(r, Direct, Review, ReadOnly), Backend: oneOf(r, "", "copy"), Hide: someOf(r, ".env", "s"), Caches: someOf(r, "npm", "pip", "uv:ro")},
		Network:   randomSet(t, r),
		Signing:   Signing{oneOf(r, "", "ask", "allow")},
		Budget: Budget{Time: time.Duration(r.IntN(3)) * time.Hour, USD: oneOf(r, "", "5.00", "6.00"), Tokens: r.Int64N(3), Requests: r.Int64N(3), ToolCalls: r.Int64N(3),
			Denials: r.Int64N(3), OnLimit: oneOf(r, "ask", "stop")},
		Limits:    Limits{Memory: r.Int64N(3), CPUs: float64(r.IntN(3)), Pids: r.Int64N(3), Disk: r.Int64N(3)},
		Isolation: Isolation{oneOf(r, "container", "gvisor", "microvm")},
		Memory:    Memory{Scope: oneOf(r, "none", "repo", "user"), TTL: time.Duration(r.IntN(3))},
		Telemetry: oneOf(r, "", "a", "b"),
	}
	for _, name := range someOf(r, "~/.a", "~/.b") {
		g.Agent.Files = append(g.Agent.Files, File{name, oneOf(r, "1", "2")})
	}
	for _, name := range someOf(r, "~/a", "/srv/b") {
		g.Mounts = append(g.Mounts, Mount{Source: name, Target: oneOf(r, name, "/c"), Write: r.IntN(2) == 0})
	}
	for _, name := range someOf(r, "a.test/x", "b.test/y") {
		g.Git = append(g.Git, GitRule{Remote: name, Fetch: r.IntN(2) == 0, Push: someOf(r, "refs/a", "refs/b")})
	}
	for _, name := range someOf(r, "one", "two") {
		c := Credential{Name: name, Source: Source{Env: oneOf(r, "A", "B")}, Header: oneOf(r, "A: {token}", "B: {token}"), Env: oneOf(r, "", "X", "Y"), Shape: oneOf(r, "", "s"), TTL: time.Duration(r.IntN(3)) * time.Hour}
		for _, h := range someOf(r, "a.test", "b.test") {
			c.Hosts = append(c.Hosts, host(t, h))
		}
		c.Methods, c.Basic = someOf(r, "GET", "POST"), oneOf(r, "", "u:{token}", "v:{token}")
		for _, p := range someOf(r, "/a/**", "/a/b", "/c") {
			c.Paths = append(c.Paths, pathPattern(t, p))
		}
		for _, p := range someOf(r, "443", "8443") {
			c.Ports = append(c.Ports, map[string]uint16{"443": 443, "8443": 8443}[p])
		}
		g.Credentials = append(g.Credentials, c)
	}
	for _, name := range someOf(r, "s1", "s2") {
		g.Servers = append(g.Servers, Server{Name: name, Command: []string{oneOf(r, "a", "b")}, Env: randomTable(r), Allow: someOf(r, "a", "b"), Ask: someOf(r, "a", "b"), Deny: someOf(r, "a", "b")})
	}
	return g
}

func randomTable(r *rand.Rand) map[string]string {
	out := map[string]string{}
	for _, name := range someOf(r, "A", "B") {
		out[name] = oneOf(r, "1", "2")
	}
	return out
}

func randomSet(t testing.TB, r *rand.Rand) policy.Set {
	set := policy.Set{Default: oneOf(r, policy.Allow, policy.Ask, policy.Deny, policy.Deny), Rules: []policy.Rule{}}
	if r.IntN(3) == 0 {
		set.Only = []policy.Pattern{pattern(t, "*.a.test"), pattern(t, oneOf(r, "a.test", "b.test"))}
	}
	for i := range r.IntN(4) {
		rule := policy.Rule{Action: oneOf(r, policy.Allow, policy.Ask, policy.Deny), Host: pattern(t, oneOf(r, "a.test", "*.a.test", "b.test")), Ports: []uint16{oneOf[uint16](r, 443, 80)},
			Inspect: true, Origin: fmt.Sprintf("p.toml:%d", i+1)}
		switch r.IntN(3) {
		case 0:
			rule.Methods = someOf(r, "GET", "POST")
		case 1:
			rule.Paths = []policy.PathPattern{pathPattern(t, oneOf(r, "/a", "/a/**", "/b"))}
		}
		if rule.Action == policy.Allow && len(rule.Methods)+len(rule.Paths) == 0 {
			rule.Inspect = r.IntN(2) == 0
		}
		set.Rules = append(set.Rules, rule)
	}
	return set
}

func seeds(t *testing.T, n int, check func(t *testing.T, r *rand.Rand)) {
	for seed := range uint64(n) {
		check(t, rand.New(rand.NewPCG(seed, 1))) //nolint:gosec // tests that can be run again
		if t.Failed() {
			t.Fatalf("with seed %d", seed)
		}
	}
}

func TestNothingChangesBetweenEquals(t *testing.T) {
	seeds(t, 500, func(t *testing.T, r *rand.Rand) {
		g := randomGrants(t, r)
		if got := Diff(g, g); len(got) > 0 {
			t.Errorf("%+v", got)
		}
		if got := Diff(g, shuffled(r, g)); len(got) > 0 {
			t.Errorf("in another order: %+v", got)
		}
		if g.Hash() != shuffled(r, g).Hash() {
			t.Error("another order changes the hash")
		}
	})
}

func shuffled(r *rand.Rand, g Grants) Grants {
	mix(r, &g.Agent.Pass)
	mix(r, &g.Agent.Files)
	mix(r, &g.Workspace.Hide)
	mix(r, &g.Use)
	mix(r, &g.Network.Rules)
	mix(r, &g.Network.Only)
	mix(r, &g.Git)
	mix(r, &g.Credentials)
	mix(r, &g.Servers)
	return g
}

func mix[T any](r *rand.Rand, s *[]T) {
	*s = slices.Clone(*s)
	r.Shuffle(len(*s), func(i, j int) { (*s)[i], (*s)[j] = (*s)[j], (*s)[i] })
}

// What one way allows, the other way forbids, or it cannot be compared and is Wider both ways.
func TestWiderOneWayIsTighterTheOther(t *testing.T) {
	seeds(t, 2000, func(t *testing.T, r *rand.Rand) {
		a, b := randomGrants(t, r), randomGrants(t, r)
		there, back := Diff(a, b), Diff(b, a)
		for _, c := range there {
			ok := slices.ContainsFunc(back, func(o Change) bool {
				return o.Path == c.Path && (c.Kind == Other && o.Kind == Other || c.Kind != Other && o.Kind != Other && (c.Kind == Wider || o.Kind == Wider))
			})
			if !ok {
				t.Errorf("%+v has no counterpart in %+v", c, back)
			}
		}
		a.Network, b.Network = policy.Set{}, policy.Set{} // other rules may mean the same
		if len(there) == 0 && a.Hash() != b.Hash() {
			t.Errorf("no change, but other hashes:\n%s\n%s", a.Canonical(), b.Canonical())
		}
		if len(Widenings(there)) == 0 && len(Widenings(back)) == 0 && slices.ContainsFunc(there, func(c Change) bool { return c.Kind == Tighter }) {
			t.Errorf("tighter both ways: %+v", there)
		}
	})
}

// Every sentence that Diff has, for each field of Grants, both ways.
func TestDiffSaysInPlainWords(t *testing.T) {
	g := everything(t)
	var b strings.Builder
	say := func(mark string, changes []Change) {
		for _, c := range changes {
			fmt.Fprintf(&b, "  %s %-7s %s: %s (%s)\n", mark, c.Kind, c.Path, c.Text, c.Origin)
		}
	}
	for _, v := range variants(t, reflect.ValueOf(&g).Elem(), "") {
		v.apply()
		fmt.Fprintf(&b, "%s\n", v.path)
		say(">", Diff(everything(t), g))
		say("<", Diff(g, everything(t)))
		v.undo()
	}
	b.WriteString("from nothing\n")
	say(">", Diff(Nothing(), g))
	b.WriteString("to nothing\n")
	say(">", Diff(g, Nothing()))
	golden(t, "diff.txt", []byte(b.String()))
}
