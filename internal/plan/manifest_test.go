package plan

import (
	"bytes"
	"math/rand/v2"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

func granted(t testing.TB, text string) Grants {
	t.Helper()
	l, err := profiles.Parse("work", []byte(text), ".agentbox/work.toml")
	if err != nil {
		t.Fatal(err)
	}
	g, err := Grant(GrantInputs{Profile: l.Profile})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestManifest(t *testing.T) {
	golden(t, "full.manifest.json", ManifestOf(granted(t, full)).JSON())
}

func TestManifestHasEveryGrant(t *testing.T) {
	m := ManifestOf(everything(t))
	for _, kind := range []string{"command", "environment", "file", "workspace", "cache", "network", "git", "credential", "signing", "mcp", "memory", "telemetry"} {
		if !slices.ContainsFunc(m.Grants, func(i ManifestItem) bool { return i.Kind == kind && i.What != "" && i.Expires != "" }) {
			t.Errorf("nothing of kind %q in %+v", kind, m.Grants)
		}
	}
	for _, i := range m.Grants {
		if lineOf.MatchString(i.Origin) {
			t.Errorf("%+v changes with every line", i)
		}
	}
}

func TestManifestOfEqualsIsTheSame(t *testing.T) {
	seeds(t, 200, func(t *testing.T, r *rand.Rand) {
		g := randomGrants(t, r)
		for i := range g.Network.Rules { // the lines differ, the files do not
			g.Network.Rules[i].Origin = "p.toml:1"
		}
		if a, b := ManifestOf(g).JSON(), ManifestOf(shuffled(r, g)).JSON(); !bytes.Equal(a, b) {
			t.Errorf("%s\n%s", a, b)
		}
	})
	moved := granted(t, "# one line more\n"+full)
	if a, b := ManifestOf(granted(t, full)).JSON(), ManifestOf(moved).JSON(); !bytes.Equal(a, b) {
		t.Errorf("%s\n%s", a, b)
	}
}

const asked = `version = 1
tier = "low"

[agent]
command = ["work"]

[workspace]
hide = [".env*", "secrets/**", "top/*.pem", "build/", "a/**/z"]

[[network.rule]]
action = "allow"
host = "api.good.test"
methods = ["GET"]
paths = ["/v1/**"]

[[network.rule]]
action = "deny"
host = "bad.test"

[[network.rule]]
action = "ask"
host = "ask.test"

[[mcp]]
name = "files"
command = ["serve"]
allow = ["read_*", "*list*"]
ask = ["read_secret"]
deny = ["read_shadow*"]
`

func address(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestWhyURL(t *testing.T) {
	g := granted(t, asked)
	for _, tc := range []struct{ method, url, decision, rule, change string }{
		{"GET", "https://api.good.test/v1/a", "allow", ".agentbox/work.toml:10", `action = "deny"`},
		{"POST", "https://api.good.test/v1/a", "deny", "network.default (default)", `methods = ["POST"]`},
		{"GET", "https://api.good.test/v1/../v2", "deny", ".agentbox/work.toml:10", "plain form"},
		{"GET", "http://other.test:8080/x/y?z=1", "deny", "network.default (default)", `ports = [8080]`},
		{"GET", "https://bad.test/", "deny", ".agentbox/work.toml:16", "change or delete the rule at .agentbox/work.toml:16"},
		{"GET", "https://ask.test/", "ask", ".agentbox/work.toml:20", "change or delete"},
		{"GET", "https://metadata.google.internal/", "deny", "built-in", "nothing changes that"},
		{"GET", "https://127.0.0.1/", "deny", "built-in", "no rule can name it"},
		{"GET", "gopher://other.test/", "deny", "built-in", "no rule can name it"},
	} {
		e := g.WhyURL(tc.method, address(t, tc.url))
		if e.Decision != tc.decision || e.Rule != tc.rule || e.Reason == "" || !strings.Contains(e.Change, tc.change) {
			t.Errorf("%s %s: %+v", tc.method, tc.url, e)
		}
	}
}

// What is told to change an answer changes it.
func TestTheSnippetOfWhyChangesTheAnswer(t *testing.T) {
	for _, tc := range []struct{ method, url, want string }{
		{"POST", "https://api.good.test/v1/a", "allow"}, {"GET", "http://other.test:8080/x/y?z=1", "allow"}, {"PUT", "https://other.test", "allow"},
		{"GET", "https://other.test/a*b%22'", "allow"}, {"GET", "https://api.good.test/v1/a", "deny"},
	} {
		e := granted(t, asked).WhyURL(tc.method, address(t, tc.url))
		_, snippet, _ := strings.Cut(e.Change, "\n\n")
		if after := granted(t, asked+snippet).WhyURL(tc.method, address(t, tc.url)); after.Decision != tc.want || after.Decision == e.Decision {
			t.Errorf("%s %s is %+v with\n%s", tc.method, tc.url, after, snippet)
		}
	}
	high := granted(t, strings.Replace(asked, `"low"`, `"high"`, 1))
	if e := high.WhyURL("POST", address(t, "https://other.test/")); !strings.Contains(e.Change, `action = "ask"`) {
		t.Errorf("tier high is told %+v", e)
	}
}

func TestWhyIsLimitedByTheOrganisation(t *testing.T) {
	floors, err := profiles.LoadFloors([]byte("version = 1\n[workspace]\nhide = [\"*.key\"]\n[network]\nonly = [\"only.test\"]\n[[network.rule]]\naction = \"deny\"\nhost = \"only.test\"\n"), organisationFile)
	if err != nil {
		t.Fatal(err)
	}
	g, err := Grant(GrantInputs{Profile: load(t, full), Floors: floors})
	if err != nil {
		t.Fatal(err)
	}
	for url, rule := range map[string]string{"https://api.good.test/": organisationFile + ":5", "https://only.test/": organisationFile + ":6"} {
		if e := g.WhyURL("GET", address(t, url)); e.Decision != "deny" || e.Rule != rule || !strings.Contains(e.Change, "whoever keeps "+organisationFile) {
			t.Errorf("%+v", e)
		}
	}
	if e := g.WhyPath("my.key"); e.Decision != "hidden" || e.Rule != organisationFile+":3" || !strings.Contains(e.Change, "whoever keeps") {
		t.Errorf("%+v", e)
	}
}

func TestWhyTool(t *testing.T) {
	g := granted(t, asked)
	for name, want := range map[string]string{
		"files.read_file": "allow", "files.xlisty": "allow", "files.read_secret": "ask", "files.read_shadow": "deny", "files.read_shadow_too": "deny",
		"files.write": "deny", "other.read_file": "deny", "files": "deny",
	} {
		if e := g.WhyTool(name); e.Decision != want || e.Reason == "" || e.Change == "" || e.Rule == "" {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestWhyPath(t *testing.T) {
	g := granted(t, asked)
	for rel, want := range map[string]string{
		".env": "hidden", "sub/.env.local": "hidden", "./secrets": "hidden", "secrets/a/b": "hidden", "sub/secrets/a": "write", "top/a.pem": "hidden", "sub/top/a.pem": "hidden", "sub/top/cacert.pem": "write",
		"build/x": "hidden", "sub/build/x": "hidden", "a/z": "hidden", "a/b/c/z/y": "hidden", "a/b": "write", "main.go": "write", "../other": "hidden", "/etc/passwd": "hidden",
	} {
		if e := g.WhyPath(rel); e.Decision != want || e.Reason == "" || e.Change == "" || e.Rule == "" {
			t.Errorf("%s: %+v", rel, e)
		}
	}
	e := g.WhyPath("main.go")
	_, snippet, _ := strings.Cut(e.Change, "\n\n")
	if _, err := toml.Decode(snippet, &map[string]any{}); err != nil || !strings.Contains(snippet, `"...", "main.go"`) {
		t.Errorf("%v in %s", err, snippet)
	}
	g.Workspace.Mode = ReadOnly
	if e := g.WhyPath("main.go"); e.Decision != "read" {
		t.Errorf("%+v", e)
	}
}

func TestOriginRules(t *testing.T) {
	rules, problem := OriginRules(ParseRemote("https://me:token@github.com/acme/billing.git"))
	if problem != "" {
		t.Fatal(problem)
	}
	set := policy.Set{Default: policy.Deny, Rules: rules}
	g := Grants{Network: set}
	for _, ok := range []string{"GET /acme/billing/info/refs?service=git-upload-pack", "GET /acme/billing.git/info/refs", "HEAD /acme/billing.git/info/refs", "POST /acme/billing/git-upload-pack", "POST /acme/billing.git/git-upload-pack"} {
		method, path, _ := strings.Cut(ok, " ")
		if e := g.WhyURL(method, address(t, "https://github.com"+path)); e.Decision != "allow" {
			t.Errorf("%s: %+v", ok, e)
		}
	}
	for _, bad := range []string{
		"POST /acme/billing.git/git-receive-pack", "POST /acme/billing/info/refs", "GET /acme/billing/git-upload-pack", "GET /acme/other.git/info/refs", "POST /acme/other/git-upload-pack",
		"GET /acme/billing", "GET /acme/billing.git/HEAD", "POST /acme/billing.git/info/lfs/objects/batch", "POST /acme/billing/../other/git-upload-pack", "POST /acme/billing/git-upload-pack/../git-receive-pack",
		"POST /acme/billing.git/git-upload-pack/x", "POST //acme/billing/git-upload-pack", "POST /acme/billing.git.git/git-upload-pack", "PUT /acme/billing/git-upload-pack",
	} {
		method, path, _ := strings.Cut(bad, " ")
		if e := g.WhyURL(method, address(t, "https://github.com"+path)); e.Decision != "deny" {
			t.Errorf("%s: %+v", bad, e)
		}
	}
	for _, elsewhere := range []string{"https://gitlab.com/acme/billing/info/refs", "https://github.com:8443/acme/billing/info/refs", "http://github.com/acme/billing/info/refs"} {
		if e := g.WhyURL("GET", address(t, elsewhere)); e.Decision != "deny" {
			t.Errorf("%s: %+v", elsewhere, e)
		}
	}
}

func TestRemotesWithoutRules(t *testing.T) {
	for remote, want := range map[string]string{
		"": "no remote", "git@github:acme/billing.git": "cannot be named", "ssh://git@10.0.0.1/acme/billing": "cannot be named", "/srv/git/billing.git": "by file", "../billing": "by file",
		"file:///srv/billing": "by file", "http://github.com/acme/billing": "by http", "git://github.com/a/b": "by git", "https://127.0.0.1/a/b": "cannot be named", "https://git/a/b": "cannot be named",
		"https://github.com": "cannot be named", "https://github.com/": "cannot be named", "https://github.com/*": "cannot be named", "https://github.com/a/**": "cannot be named",
		"https://*.github.com/a/b": "cannot be named", "https://github.com/a/../b": "cannot be named",
	} {
		if rules, problem := OriginRules(ParseRemote(remote)); len(rules) > 0 || !strings.Contains(problem, want) {
			t.Errorf("%q: %d rules, %q", remote, len(rules), problem)
		}
	}
	for in, want := range map[string]string{
		"https://u:p@Example.org:8443/a/b.git/": "Example.org:8443/a/b", "git@github.com:acme/billing.git": "github.com/acme/billing", "ssh://git@h.test:22/x": "h.test:22/x",
	} {
		if got := ParseRemote(in).String(); got != want {
			t.Errorf("%q is %q", in, got)
		}
	}
}

// git inside rewrites addresses of ssh, so that their rules are those of the same repository by https.
func TestRemotesBySSHAreFetchedFromByHTTPS(t *testing.T) {
	want, _ := OriginRules(ParseRemote("https://github.com/acme/billing"))
	for _, remote := range []string{
		"git@github.com:acme/billing.git", "git@github.com:/acme/billing", "github.com:acme/billing.git", "ssh://git@github.com/acme/billing", "ssh://git@github.com:22/acme/billing.git/",
		"ssh://github.com:2222/acme/billing", "git+ssh://git@github.com/acme/billing",
	} {
		if rules, problem := OriginRules(ParseRemote(remote)); problem != "" || !reflect.DeepEqual(rules, want) {
			t.Errorf("%s: %+v %s", remote, rules, problem)
		}
	}
}

func TestOriginIsBoundToTheRepository(t *testing.T) {
	in := inputs(t, strings.Replace(full, "[[network.rule]]", "[network]\nuse = [\"origin\"]\n\n[[network.rule]]", 1))
	in.Host.Engine.CPUs = true
	in.Host.Remote = ParseRemote("https://git.good.test:8443/acme/billing")
	p := resolve(t, in)
	hash := p.Hash
	if len(p.Network().Rules) != len(p.Grants.Network.Rules)+2 || p.Binding.Remote != "git.good.test:8443/acme/billing" || len(p.Binding.Warnings) != 0 {
		t.Errorf("%+v", p.Binding)
	}
	if !slices.Contains(p.Binding.ListenTCP, 8443) || !slices.ContainsFunc(p.Binding.KnownHosts, func(h policy.Host) bool { return h.String() == "git.good.test" }) {
		t.Errorf("listens on %v, knows %v", p.Binding.ListenTCP, p.Binding.KnownHosts)
	}
	in.Host.Remote = ParseRemote("file:///srv/billing")
	p = resolve(t, in)
	if len(p.Binding.Rules) != 0 || len(p.Binding.Warnings) != 1 || !strings.Contains(p.Binding.Warnings[0], "git remote set-url") {
		t.Errorf("%+v", p.Binding)
	}
	if p.Hash != hash || p.Hash == resolve(t, inputs(t, full)).Hash {
		t.Error("the hash tells the remote, or does not tell origin")
	}
}

func TestFileLeavesLinesOut(t *testing.T) {
	for in, want := range map[string]string{
		"agentbox.toml:3": "agentbox.toml", "agentbox.toml:3, npm.toml:4": "agentbox.toml, npm.toml", "default": "default", "tier medium": "tier medium", "": "", "was a.toml:12": "was a.toml",
	} {
		if got := file(in); got != want {
			t.Errorf("%q is %q", in, got)
		}
	}
}

func TestManifestTellsWhenThingsEnd(t *testing.T) {
	g := everything(t)
	g.Budget.Time, g.Credentials[0].TTL, g.Memory.TTL = 2*time.Hour, time.Hour, 48*time.Hour
	g.Network.Rules = append(g.Network.Rules, policy.Rule{Action: policy.Ask, Host: pattern(t, "ask.test"), Ports: []uint16{443}, Origin: "a.toml:1"},
		policy.Rule{Action: policy.Deny, Host: pattern(t, "deny.test"), Ports: []uint16{443}})
	expires := func(kind, what string) string {
		for _, i := range ManifestOf(g).Grants {
			if i.Kind == kind && strings.Contains(i.What, what) {
				return i.Expires
			}
		}
		return "not there"
	}
	for _, tc := range [][3]string{
		{"credential", "adds", "after 1h"}, {"memory", "remembers", "after 48h"}, {"cache", "npm", "never"}, {"command", "runs", "after 2h"},
		{"network", "asks for every method to ask.test", "after 2h"}, {"network", "deny.test", "not there"},
	} {
		if got := expires(tc[0], tc[1]); got != tc[2] {
			t.Errorf("%s %s ends %q, not %q", tc[0], tc[1], got, tc[2])
		}
	}
	g.Budget.Time, g.Credentials[0].TTL, g.Memory.TTL = 0, 0, 0
	if a, b, c := expires("credential", "adds"), expires("command", "runs"), expires("memory", ""); a != "at the end of the run" || b != a || c != "never" {
		t.Errorf("%q, %q, %q", a, b, c)
	}
}
