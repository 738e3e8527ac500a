package profiles

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"agentbox/internal/policy"
	builtin "agentbox/profiles"
)

// dice makes random valid profiles.
type dice struct{ *rand.Rand }

func (d dice) maybe() bool { return d.IntN(2) == 0 }

func oneOfThese[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

// text is anything that a string of TOML can hold, but for braces, which begin templates, and NUL.
func (d dice) text() string {
	pieces := []string{"a", " ", "\n", "\t", "'", "'''", `"`, `"""`, `\`, "é", "😀", "\u202e", "\x01", "\x7f", "\r", "\r\n", "#", "[x]", "=", "word", "\u00a0", "\ufeff", "$HOME", "\U0001F1E9"}
	var b strings.Builder
	for range d.IntN(8) {
		b.WriteString(oneOfThese(d, pieces...))
	}
	return b.String()
}

func some[T any](d dice, most int, item func(i int) T) (out []T) {
	if d.maybe() {
		return nil
	}
	for i := range 1 + d.IntN(most) {
		out = append(out, item(i))
	}
	return out
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (d dice) profile() Profile {
	p := Profile{Version: 1, Description: d.text(), Tier: oneOfThese[Tier](d, "", "low", "medium", "high", "critical")}
	p.Agent = d.agent()
	p.Workspace = Workspace{Mode: oneOfThese[Mode](d, "", "direct", "readonly", "review"), Hide: some(d, 3, func(i int) string { return fmt.Sprintf("secrets-%d/**", i) })}
	if p.Workspace.Mode == "review" {
		p.Workspace.Backend = oneOfThese[Backend](d, "", "overlay", "copy")
	}
	p.Workspace.Caches = some(d, 3, func(i int) Cache { return Cache(Caches()[i]) })
	p.Network = Network{Default: oneOfThese[Action](d, "", "deny", "ask", "allow"), Rules: some(d, 5, d.rule)}
	p.Network.Use = some(d, 3, func(i int) Name { return Name([]string{"origin", "npm", "go"}[i]) })
	p.Mounts = some(d, 3, func(i int) Mount {
		return Mount{Source: HostPath(fmt.Sprintf("~/data-%d", i)), Target: oneOfThese[HostPath](d, "", HostPath(fmt.Sprintf("/data/%d", i))), Write: d.maybe()}
	})
	p.Git = some(d, 3, func(i int) GitRule {
		return GitRule{Remote: Remote(fmt.Sprintf("git.test/a/b%d", i)), Fetch: d.maybe(), Force: d.maybe(), Delete: d.maybe(), Push: some(d, 2, func(i int) RefPattern { return RefPattern(fmt.Sprintf("refs/heads/x%d/*", i)) })}
	})
	if p.Credentials = some(d, 4, d.credential); p.Credentials != nil {
		p.Network.Default = "allow"
	}
	p.Budget = Budget{Time: oneOfThese[Duration](d, 0, 1, 90e9, 3*24*3600e9), USD: oneOfThese[Money](d, 0, 1, 5_000_000, 5_100_000, 123_456_789), Tokens: Count(d.IntN(3)),
		Requests: Count(d.IntN(3)), ToolCalls: Count(d.IntN(3)), Denials: Count(d.IntN(3))}
	if p.Budget != (Budget{}) {
		p.Budget.OnLimit = oneOfThese[OnLimit](d, "", "ask", "stop")
	}
	p.Signing.Commits = oneOfThese[Action](d, "", "deny")
	p.Limits = Limits{Memory: oneOfThese[ByteSize](d, 0, 16<<20, 3<<29, 1e9+1), CPUs: oneOfThese(d, 0, 0.5, 2, 1.0/3, 4096), Pids: oneOfThese[int64](d, 0, 8, 512)}
	p.Isolation.Runtime = oneOfThese[Runtime](d, "", "auto", "container", "gvisor", "microvm")
	p.Servers = some(d, 3, func(i int) Server {
		return Server{Name: Name(fmt.Sprintf("s%d", i)), Command: []string{"x", d.text()}, Env: d.env("S"), Allow: []ToolPattern{"read_*"}, Ask: some(d, 2, func(i int) ToolPattern { return ToolPattern(fmt.Sprintf("t%d", i)) })}
	})
	if p.Memory.Scope = oneOfThese[Scope](d, "", "none", "session", "profile", "repo", "user"); p.Memory.Scope == "repo" {
		p.Memory.TTL = oneOfThese[Duration](d, 0, 30*24*3600e9)
	}
	p.Telemetry.OTLP = oneOfThese[URL](d, "", "http://127.0.0.1:4318")
	return p
}

func (d dice) env(prefix string) map[EnvName]string {
	if d.maybe() {
		return nil
	}
	out := map[EnvName]string{}
	for i := range d.IntN(3) {
		out[EnvName(fmt.Sprintf("%s_%d", prefix, i))] = d.text()
	}
	return out
}

func (d dice) agent() Agent {
	a := Agent{Command: append([]string{"x" + d.text()}, some(d, 2, func(int) string { return d.text() })...), Args: some(d, 2, func(int) string { return d.text() }), Install: d.text(), Env: d.env("A"),
		Pass: some(d, 2, func(i int) EnvPattern { return EnvPattern(fmt.Sprintf("P%d_*", i)) }), Files: some(d, 3, func(i int) File {
			return File{Path: fmt.Sprintf("~/.file %d", i), Content: d.text()}
		})}
	switch d.IntN(4) {
	case 0:
		a.Rootfs = "host"
	case 1:
		a.Image = Image("registry.test/x@sha256:" + strings.Repeat("0", 64))
	case 2:
		a.Containerfile = "build/Containerfile"
	}
	return a
}

func (d dice) rule(i int) Rule {
	r := Rule{Action: oneOfThese[Action](d, "allow", "ask", "deny"), Host: must(policy.ParsePattern(fmt.Sprintf("%sh%d.rules.test", oneOfThese(d, "", "*."), i))), Ports: oneOfThese(d, []Port{443}, []Port{1, 65535, 80}), Inspect: d.maybe()}
	if r.Inspect {
		r.Methods = some(d, 3, func(i int) Method { return Method([]string{"GET", "HEAD", "M-SEARCH"}[i]) })
		r.Paths = some(d, 2, func(i int) policy.PathPattern { return must(policy.ParsePathPattern(fmt.Sprintf("/api%d/**", i))) })
		if r.Scheme = oneOfThese[Scheme](d, "", "https", "http"); d.maybe() {
			on := d.maybe()
			r.WebSocket = &on
		}
	}
	if _, exact := r.Host.Exact(); exact && d.IntN(4) == 0 && len(r.Ports) > 1 {
		r.Inspect, r.Methods, r.Paths, r.Scheme, r.WebSocket, r.Protocol = true, nil, nil, "", nil, "tcp"
	}
	if r.Action != "deny" {
		r.MaxSent = oneOfThese[ByteSize](d, 0, 50e6, 1<<20)
		if r.Inspect && r.Protocol == "" {
			r.MaxRequest = oneOfThese[ByteSize](d, 0, 10e6, 1)
		}
	}
	if r.Action == "allow" {
		r.Private = some(d, 2, func(i int) Prefix { return must(ParsePrefix([]string{"10.0.0.0/8", "fd00::/8"}[i])) })
	}
	return r
}

func (d dice) credential(i int) Credential {
	c := Credential{Name: Name(fmt.Sprintf("c%d", i)), Hosts: []policy.Host{must(policy.ParseHost(fmt.Sprintf("c%d.cred.test", i)))}, Header: "Authorization: Bearer {token}", Env: EnvName(fmt.Sprintf("C_%d", i)),
		Shape: oneOfThese[Shape](d, "", "sk-"), TTL: oneOfThese[Duration](d, 0, 3600e9)}
	switch d.IntN(4) {
	case 0:
		c.Basic = "x-access-token:{token}"
	case 1:
		c.Header, c.Query = "", "key"
	case 2:
		c.Header, c.Body, c.Shape, c.Claims = "", "auth.refresh_token", "jwt", `{"email": "a@b.test"}`
	}
	if d.IntN(2) == 0 {
		c.Ports, c.Methods, c.Paths = []Port{443, 8443}, []Method{"GET"}, []policy.PathPattern{must(policy.ParsePathPattern("/a/**"))}
	}
	switch d.IntN(5) {
	case 0:
		c.Source = Source{Env: "E", Keyring: "k"}
	case 1:
		c.Source = Source{Keyring: "k"}
	case 2:
		c.Source = Source{Command: []string{"gh", d.text()}}
	case 3:
		c.Source = Source{File: "~/.token"}
	default:
		c.Source = Source{GitHubApp: &GitHubApp{ID: 7, Key: "k", Repos: []RepoName{"acme/billing"}, Permissions: map[Permission]Access{"contents": "write", "issues": "read"}}}
	}
	return c
}

// bare leaves out where things were written, which differs between a profile and its printed form, and the rules of
// named sets, which are loaded anew.
func placeless(p Profile) Profile {
	p.Name, p.Origin, p.Chain, p.Origins, p.Extends = "", "", nil, Origins{}, ""
	p.Network.Rules, p.Git, p.Credentials, p.Servers, p.Agent.Files = slices.Clone(p.Network.Rules), slices.Clone(p.Git), slices.Clone(p.Credentials), slices.Clone(p.Servers), slices.Clone(p.Agent.Files)
	for i := range p.Network.Rules {
		p.Network.Rules[i].Origin = ""
	}
	for i := range p.Git {
		p.Git[i].Origin = ""
	}
	for i := range p.Mounts {
		p.Mounts[i].Origin = ""
	}
	for i := range p.Credentials {
		p.Credentials[i].Origin = ""
	}
	for i := range p.Servers {
		p.Servers[i].Origin = ""
	}
	for i := range p.Agent.Files {
		p.Agent.Files[i].Origin = ""
	}
	return p
}

// reload loads what a profile prints as.
func reload(p Profile, origins bool) (Profile, []byte, error) {
	text := Print(p, origins)
	user := fstest.MapFS{"profiles/printed.toml": {Data: text}}
	l, err := Load("printed", Files{BuiltIn: builtin.Files(), User: user, UserDir: "~"})
	return l.Profile, text, err
}

func TestWhatIsPrintedLoadsAsTheSame(t *testing.T) {
	for seed := range uint64(600) {
		d := dice{rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // not a secret
		p := d.profile()
		first, text, err := reload(p, d.maybe())
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		own := placeless(first)
		own.Network.Rules = slices.DeleteFunc(own.Network.Rules, func(r Rule) bool { return r.Set != "" })
		if len(own.Network.Rules) == 0 {
			own.Network.Rules = nil
		}
		if !reflect.DeepEqual(own, placeless(p)) {
			t.Fatalf("seed %d:\ngot  %+v\nwant %+v\n%s", seed, own, placeless(p), text)
		}
		second, again, err := reload(first, true)
		if err != nil || !reflect.DeepEqual(placeless(second), placeless(first)) {
			t.Fatalf("seed %d: %v\n%s", seed, err, again)
		}
	}
}

func TestPrintedBuiltInProfilesLoadAsTheSame(t *testing.T) {
	for _, name := range shipped().Names() {
		l, err := Load(name, shipped())
		if err != nil {
			t.Fatal(err)
		}
		for _, origins := range []bool{false, true} {
			again, text, err := reload(l.Profile, origins)
			if err != nil || !reflect.DeepEqual(placeless(again), placeless(l.Profile)) {
				t.Errorf("%s: %v\n%s", name, err, text)
			}
		}
	}
}

func FuzzPrint(f *testing.F) {
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Parse("x", data, "x.toml")
		if err != nil {
			return
		}
		text := Print(l.Profile, len(data)%2 == 0)
		again, err := Parse("x", text, "y.toml")
		if err != nil || !reflect.DeepEqual(placeless(again.Profile), placeless(l.Profile)) {
			t.Errorf("%v\n%s", err, text)
		}
	})
}
