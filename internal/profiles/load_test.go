package profiles

import (
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"agentbox/internal/policy"
	builtin "agentbox/profiles"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil { //nolint:gosec // a file of the repository
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; go test ./internal/profiles -update writes it. Got:\n%s", path, got)
	}
}

const good = `version = 1
description = "all keys"
[agent]
command = ["claude", "--x"]
args = ["-p"]
install = "npm i"
env = { A = "{repo} {{literal} {} {placeholder.main.last20}" }
pass = ["TERM", "LC_*"]
[[agent.file]]
path = "~/.x.json"
content = '{"key": "{placeholder.main}", "nested": {"a": {}}}'
[workspace]
mode = "readonly"
hide = [".env*", "secrets/**"]
[network]
default = "allow"
[[network.rule]]
action = "deny"
host = "*.Evil.Test"
ports = [443, 80]
inspect = false
[[network.rule]]
action = "allow"
host = "api.good.test."
[[credential]]
name = "main"
source = { keyring = "k", env = "E" }
hosts = ["API.good.test"]
header = "Authorization:Bearer {token}"
env = "KEY"
shape = "sk-"
[budget]
time = "1h30m"
[limits]
memory = "1.5GiB"
cpus = 2
pids = 100
[isolation]
runtime = "gvisor"
`

func TestGoodProfile(t *testing.T) {
	loaded, err := Parse("good", []byte(good), "somewhere/good.toml")
	if err != nil {
		t.Fatal(err)
	}
	p := loaded.Profile
	origins := p.Origins.All()
	for path, line := range map[string]int{"description": 2, "agent.env.A": 7, "agent.file[0].content": 11, "network.rule[1].host": 24, "credential[0].source.env": 27, "workspace.hide[1]": 14} {
		if got := origins[path]; got.Line != line || got.File != "somewhere/good.toml" || got.Level != User {
			t.Errorf("%s is at %+v, want line %d", path, got, line)
		}
	}
	p.Origins = Origins{}
	pattern := func(s string) policy.Pattern {
		v, err := policy.ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	host, err := policy.ParseHost("api.good.test")
	if err != nil {
		t.Fatal(err)
	}
	want := Profile{
		Name: "good", Origin: "somewhere/good.toml", Chain: []string{"good"}, Version: 1, Description: "all keys",
		Agent: Agent{
			Command: []string{"claude", "--x"}, Args: []string{"-p"}, Install: "npm i",
			Env:  map[EnvName]string{"A": "{repo} {{literal} {} {placeholder.main.last20}"},
			Pass: []EnvPattern{"TERM", "LC_*"}, Files: []File{{Origin: "somewhere/good.toml:9", Path: "~/.x.json", Content: `{"key": "{placeholder.main}", "nested": {"a": {}}}`}},
		},
		Workspace: Workspace{Mode: "readonly", Hide: []string{".env*", "secrets/**"}},
		Network: Network{Default: "allow", Rules: []Rule{
			{Origin: "somewhere/good.toml:17", Action: "deny", Host: pattern("*.evil.test"), Ports: []Port{443, 80}},
			{Origin: "somewhere/good.toml:22", Action: "allow", Host: pattern("api.good.test"), Ports: []Port{443}, Inspect: true},
		}},
		Credentials: []Credential{{Origin: "somewhere/good.toml:25", Name: "main", Source: Source{Keyring: "k", Env: "E"}, Hosts: []policy.Host{host}, Header: "Authorization: Bearer {token}", Env: "KEY", Shape: "sk-"}},
		Budget:      Budget{Time: Duration(90 * time.Minute)}, Limits: Limits{Memory: 3 << 29, CPUs: 2, Pids: 100}, Isolation: Isolation{"gvisor"},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
}

func TestDefaults(t *testing.T) {
	l, err := Parse("x", []byte("version = 1\nagent.command = [\"x\"]\n[limits]\n[[network.rule]]\naction = \"deny\"\nhost = \"a.test\"\n[[git]]\nremote = \"git.test/a/b\"\n"), "x.toml")
	if err != nil {
		t.Fatal(err)
	}
	p := l.Profile
	if p.Workspace.Mode != "" || p.Network.Default != "" || p.Isolation.Runtime != "" || p.Agent.Rootfs != "" {
		t.Errorf("what a tier decides is decided: %+v", p)
	}
	if r := p.Network.Rules[0]; !reflect.DeepEqual(r.Ports, []Port{443}) || !r.Inspect || !p.Git[0].Fetch {
		t.Errorf("got %+v, %+v", r, p.Git[0])
	}
}

func shipped() Files { return Files{BuiltIn: builtin.Files()} }

func TestEveryBuiltInProfileLoads(t *testing.T) {
	names := shipped().Names()
	for _, want := range []string{"shell", "demo"} {
		if !strings.Contains(" "+strings.Join(names, " ")+" ", " "+want+" ") {
			t.Errorf("no %s among %v", want, names)
		}
	}
	for _, name := range names {
		if l, err := Load(name, shipped()); err != nil || len(l.Warnings) > 0 {
			t.Error(err, l.Warnings)
		}
	}
}

func TestConfig(t *testing.T) {
	c, err := LoadConfig([]byte("[upstream]\nca = \"~/ca.pem\"\n[upstream.hosts]\n\"API.good.test\" = \"127.0.0.1:9443\"\n\"b.good.test\" = \"[::1]:1\"\n"), "config.toml")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for h, e := range c.Upstream.Hosts {
		got[h.String()] = string(e)
	}
	if want := map[string]string{"api.good.test": "127.0.0.1:9443", "b.good.test": "[::1]:1"}; !reflect.DeepEqual(got, want) || !slices.Equal(c.Upstream.CA, HostPaths{"~/ca.pem"}) {
		t.Errorf("got %v, %q", got, c.Upstream.CA)
	}
	if c, err := LoadConfig(nil, "config.toml"); err != nil || !reflect.DeepEqual(c, Config{}) {
		t.Errorf("empty: %v, %v", c, err)
	}
}

func TestBadConfig(t *testing.T) {
	bad := `upstrem = 1
[upstream]
ca = "ca.pem"
proxi = "x"
[upstream.hosts]
"127.0.0.1" = "127.0.0.1:9443"
"a.test" = "localhost:9443"
"A.test" = "127.0.0.1:0"
"*.b.test" = 3
"c.test" = "127.0.0.1:1"
"C.test." = "127.0.0.1:2"
`
	_, err := LoadConfig([]byte(bad), "config.toml")
	if err == nil {
		t.Fatal("taken")
	}
	golden(t, "testdata/config.txt", err.Error()+"\n")
}

func TestConfigOfACorporateNetwork(t *testing.T) {
	c, err := LoadConfig([]byte(`[upstream]
ca = ["~/ca.pem", "/etc/corp/ca.pem"]
proxy = "https://Proxy.corp.example:3128/"
proxy_user = "CORP\\ann"
proxy_password = { env = "CORP_PROXY", keyring = "corp-proxy" }
no_proxy = ["DB.corp.example", "*.Internal", "10.1.2.3/8", "192.168.0.7", "fd00::1/16"]

[[upstream.client_certificate]]
hosts = ["API.corp.example", "b.corp.example"]
cert = "~/ann.pem"
key = "/home/ann/ann.key"

[[upstream.client_certificate]]
hosts = ["c.corp.example"]
cert = "~/c.pem"
key = "~/c.key"
`), "config.toml")
	if err != nil {
		t.Fatal(err)
	}
	u := c.Upstream
	if !slices.Equal(u.CA, HostPaths{"~/ca.pem", "/etc/corp/ca.pem"}) || u.Proxy != "https://proxy.corp.example:3128" || u.ProxyUser != `CORP\ann` ||
		*u.ProxyPassword != (ProxyPassword{Keyring: "corp-proxy", Env: "CORP_PROXY"}) ||
		!slices.Equal(u.NoProxy, []NoProxy{"db.corp.example", "*.internal", "10.0.0.0/8", "192.168.0.7/32", "fd00::/16"}) ||
		len(u.ClientCertificates) != 2 || len(u.ClientCertificates[0].Hosts) != 2 || u.ClientCertificates[0].Cert.Under("/home/ann") != "/home/ann/ann.pem" ||
		u.ClientCertificates[0].Key.Under("/home/bob") != "/home/ann/ann.key" {
		t.Errorf("got %+v", u)
	}
	for _, proxy := range []string{"http://10.0.0.1:3128", "socks5://[fd00::1]:1080", "socks5h://localhost:9050", "http://proxy:8080"} {
		if c, err := LoadConfig([]byte("[upstream]\nproxy = \""+proxy+"\"\n"), "config.toml"); err != nil || string(c.Upstream.Proxy) != proxy {
			t.Errorf("%s: got %q, %v", proxy, c.Upstream.Proxy, err)
		}
	}
}

func TestBadConfigOfACorporateNetwork(t *testing.T) {
	var all strings.Builder
	for _, bad := range []string{
		`proxy = "http://ann:s3cret@proxy.corp.example:3128"`, `proxy = "http://ann:s3cr%et@proxy.corp.example:3128"`, `proxy = "ann:s3cret@proxy:1"`,
		`proxy = "proxy.corp.example:3128"`, `proxy = "http://proxy.corp.example"`, `proxy = "http://[fd00::1]"`, `proxy = "ftp://proxy.corp.example:21"`, `proxy = "http://:3128"`,
		`proxy = "http://proxy.corp.example:0"`, `proxy = "http://proxy.corp.example:3128/path"`, `proxy = "http://proxy.corp.example:3128?a=s"`, `proxy = "http://pro xy:3128"`, `proxy = 3128`,
		"proxy = \"http://p:1\"\nproxy_user = \"ann\"", "proxy = \"http://p:1\"\nproxy_password = { env = \"X\" }", "proxy = \"http://p:1\"\nproxy_user = \"ann\"\nproxy_password = {}",
		"proxy = \"http://p:1\"\nproxy_user = \"ann\"\nproxy_password = \"s3cret\"", "proxy = \"http://p:1\"\nproxy_user = \"ann:s3cret\"\nproxy_password = { env = \"X\" }",
		"proxy = \"http://p:1\"\nproxy_user = \"ann\"\nproxy_password = { enw = \"X\" }",
		`proxy_user = "ann"`, `no_proxy = ["a.corp.example"]`, "proxy = \"http://p:1\"\nno_proxy = [\"*\", \"10.0.0.0/40\", \"a.*.example\", \"http://a.example\", \"fe80::1%eth0\", 3]",
		`ca = ["ca.pem", 3]`, `ca = ["~/../x.pem"]`,
		"[[upstream.client_certificate]]\nhosts = [\"*.corp.example\"]\ncert = \"ann.pem\"", "[[upstream.client_certificate]]\nhosts = []\ncert = \"~/a.pem\"\nkey = \"~/a.key\"",
		"[[upstream.client_certificate]]\nhosts = [\"a.corp.example\", \"A.corp.example\"]\ncert = \"~/a.pem\"\nkey = \"~/a.key\"",
	} {
		_, err := LoadConfig([]byte("[upstream]\n"+bad+"\n"), "config.toml")
		if err == nil {
			t.Errorf("%s was taken", bad)
			continue
		}
		all.WriteString(err.Error() + "\n\n")
	}
	if strings.Contains(all.String(), "s3c") {
		t.Error("a password is shown")
	}
	golden(t, "testdata/config-corporate.txt", all.String())
}

func TestScalars(t *testing.T) {
	for in, want := range map[string]int64{"1B": 1, "512MiB": 512 << 20, "1.5GiB": 3 << 29, "2 GB": 2e9, "1KiB": 1024, "1KB": 1000, "4TiB": 4 << 40} {
		var b ByteSize
		if err := b.UnmarshalText([]byte(in)); err != nil || int64(b) != want {
			t.Errorf("%q is %d, %v", in, b, err)
		}
	}
	for _, in := range []string{"", "1", "-1B", "1GiBs", "0B", "1e3B", "99999999999TiB", "GiB", "1gib", "NaNB"} {
		if err := new(ByteSize).UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
	for _, in := range []string{"", "1", "0s", "-2h", "2 h", "forever"} {
		if err := new(Duration).UnmarshalText([]byte(in)); err == nil {
			t.Errorf("duration %q was taken", in)
		}
	}
}

func TestTemplates(t *testing.T) {
	got := Templates(`{"a":{"b":{}}} {repo} {{home} {{{user} { x } {A} {0} {a.b-c.d} {placeholder.x.last20}`)
	if want := []string{"repo", "a.b-c.d", "placeholder.x.last20"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestColumnsCountCharactersAndNothingRedrawsTheScreen(t *testing.T) {
	text := "version = 1\r\n[agent]\r\ncommand = [\"x\"]\r\nenv = { A = \"äö😀\", B-C = \"\" } # \u202e\u200f \u00a0end\r\n"
	_, err := Parse("x", []byte(text), "x.toml")
	want := "x.toml:4:20: \"B-C\" is not a name of an environment variable\n" +
		"     4 | env = { A = \"äö😀\", B-C = \"\" } # \ufffd\ufffd \ufffdend\n       |                    ^\n  hint: use letters, digits and underscores, such as \"API_TOKEN\""
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("\x00"))
	f.Add([]byte("a = \x1b"))
	for _, file := range archives(f) {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, member := range a.Files {
			f.Add(member.Data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := Parse("x", data, "x.toml")
		problems, ok := err.(Problems)
		if err != nil && (!ok || len(problems) == 0) {
			t.Fatalf("got %T", err)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Col < 1 || p.Text == "" || strings.ContainsAny(p.Error(), "\x00\x1b\r") {
				t.Errorf("got %+v", p)
			}
		}
	})
}
