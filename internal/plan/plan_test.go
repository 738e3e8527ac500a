package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

var update = flag.Bool("update", false, "write the golden files")

const full = `version = 1
description = "everything at once"

[agent]
command = ["agent", "--go"]
args = ["--default"]
install = "npm install -g agent"
env = { PLAIN = "1", WHERE = "{repo}/x", KEYED = "key={placeholder.main}" }
pass = ["EDITOR", "MY_*"]

[[agent.file]]
path = "~/.agent.json"
content = '''{"repo": "{repo}", "key": "{placeholder.main.last20}", "o": {}}'''

[workspace]
hide = [".env*", "secrets/**"]

[[mount]]
source = "~/data"

[[mount]]
source = "/srv/models"
target = "/models"
write = true

[[network.rule]]
action = "allow"
host = "api.good.test"

[[network.rule]]
action = "allow"
host = "*.blind.test"
ports = [443, 8443]
inspect = false

[[network.rule]]
action = "deny"
host = "bad.blind.test"

[[credential]]
name = "main"
source = { keyring = "main", env = "REAL_KEY" }
hosts = ["api.good.test"]
header = "Authorization: Bearer {token}"
env = "AGENT_KEY"
shape = "sk-"
methods = ["GET", "POST"]
paths = ["/v1/**"]
ports = [443]

[budget]
time = "2h"

[limits]
memory = "4GiB"
cpus = 1.5
pids = 512
`

func load(t *testing.T, text string) profiles.Profile {
	t.Helper()
	l, err := profiles.Parse("full", []byte(text), "full.toml")
	if err != nil {
		t.Fatal(err)
	}
	return l.Profile
}

func inputs(t *testing.T, text string) Inputs {
	return Inputs{
		Profile: load(t, text),
		Host: Host{
			User: User{UID: 1000, GID: 1000, Name: "ann", Group: "ann", Home: "/home/ann"},
			Repo: "/home/ann/my repo", Directory: "/home/ann/my repo/sub", Program: "/usr/bin/agent",
			Path: "/usr/bin:/bin", Shell: "/usr/bin/zsh",
			Env:    map[string]string{"TERM": "xterm", "LC_ALL": "C", "MY_ONE": "{home}", "AWS_SECRET_ACCESS_KEY": "leak", "REAL_KEY": "leak", "AGENT_KEY": "leak", "SSH_AUTH_SOCK": "leak"},
			Roots:  []string{"/home/ann/.nvm"},
			Masked: []string{"/home/ann/.nvm/.npmrc"},
			Hidden: []string{"/home/ann/my repo/.env"},
			Engine: EngineFacts{Version: "5.4.2", Runtime: "crun", Memory: true, Pids: true, GVisorProblem: "runsc is not installed"},
		},
	}
}

func resolve(t *testing.T, in Inputs) Plan {
	t.Helper()
	p, err := Resolve(in)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGolden(t *testing.T) {
	in := inputs(t, full)
	in.Host.GitDir = "/home/ann/main/.git"
	in.Host.Shown = []Shown{{Source: "/home/ann/data", Target: "/home/ann/data", Dir: true, Hidden: 2}, {Source: "/srv/models", Target: "/models", Write: true, Dir: true}}
	in.Config.Upstream.CA = profiles.HostPaths{"~/ca.pem"}
	in.Config.Upstream.Hosts = map[policy.Host]profiles.Endpoint{host(t, "api.good.test"): "127.0.0.1:9443"}
	in.Host.Warnings = []string{"labels are off:\x1b[2J SELinux does not confine the container"}
	p := resolve(t, in)
	var text bytes.Buffer
	if err := WriteText(&text, p); err != nil {
		t.Fatal(err)
	}
	js, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "full.txt", text.Bytes())
	golden(t, "full.json", append(js, '\n'))
	golden(t, "full.canonical.json", append(p.Grants.Canonical(), '\n'))
	for _, out := range [][]byte{text.Bytes(), js} {
		if bytes.Contains(out, []byte("leak")) {
			t.Error("a value of the host's environment is in the plan")
		}
	}
}

func TestTheUpstreamProxyIsSaidLoudly(t *testing.T) {
	config := profiles.Upstream{
		Proxy: "http://proxy.corp.example:3128", ProxyUser: "ann", ProxyPassword: &profiles.ProxyPassword{Keyring: "corp-proxy", Env: "CORP"},
		NoProxy: []profiles.NoProxy{"10.0.0.0/8", "*.corp.example"}, CA: profiles.HostPaths{"/etc/a.pem", "~/b.pem"},
		ClientCertificates: []profiles.ClientCertificate{{Hosts: []policy.Host{host(t, "api.good.test"), host(t, "pinned.good.test")}, Cert: "~/ann.pem", Key: "/keys/ann.key"}},
	}
	var out bytes.Buffer
	for _, proxy := range []profiles.ProxyURL{"http://proxy.corp.example:3128", "socks5h://proxy.corp.example:1080", "socks5://proxy.corp.example:1080"} {
		in := inputs(t, full)
		in.Config.Upstream = config
		in.Config.Upstream.Proxy = proxy
		p := resolve(t, in)
		if u := p.Binding.Upstream.Proxy; u.Resolves() == strings.HasPrefix(string(proxy), "socks5:") || u.Password.Keyring != "corp-proxy" || u.Password.Env != "CORP" {
			t.Errorf("got %+v", u)
		}
		page := &page{}
		page.upstream(p.Binding.Upstream, append(p.Network().Rules, policy.Rule{Action: policy.Allow, Host: pattern(t, "pinned.good.test")}))
		out.WriteString(page.b.String() + "\n")
		if !strings.Contains(textOf(t, p), "everything else goes through the proxy") {
			t.Error("the plan does not say it")
		}
		js, err := json.Marshal(p.Binding.Upstream)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(js, '\n', '\n'))
	}
	for line := range strings.Lines(out.String()) {
		if strings.TrimSpace(line) != "" && line[0] != '!' && line[0] != '{' {
			t.Errorf("not loud: %q", line)
		}
	}
	golden(t, "upstream.txt", out.Bytes())
	if in := inputs(t, full); (*UpstreamProxy)(nil).Resolves() || strings.Contains(textOf(t, resolve(t, in)), "proxy ") {
		t.Error("a proxy that there is not is said")
	}
}

func textOf(t *testing.T, p Plan) string {
	t.Helper()
	var out strings.Builder
	if err := WriteText(&out, p); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestGoldenSmall(t *testing.T) {
	in := inputs(t, "version = 1\n[agent]\ncommand = [\"sh\"]\n[workspace]\nmode = \"readonly\"\n")
	in.Args = []string{"-c", "it's"}
	in.Host.Directory = in.Host.Repo
	var text bytes.Buffer
	if err := WriteText(&text, resolve(t, in)); err != nil {
		t.Fatal(err)
	}
	golden(t, "small.txt", text.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil { //nolint:gosec // a file of the repository
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; go test ./internal/plan -update writes it. Got:\n%s", path, got)
	}
}

func TestHashIgnoresHowItIsWritten(t *testing.T) {
	first := resolve(t, inputs(t, full)).Hash
	same := map[string]func(s string) string{
		"a comment":      func(s string) string { return "# a line more\n\n" + s },
		"a description":  func(s string) string { return strings.Replace(s, "everything", "anything", 1) },
		"order of names": func(s string) string { return strings.Replace(s, `".env*", "secrets/**"`, `"secrets/**", ".env*"`, 1) },
		"order of ports": func(s string) string { return strings.Replace(s, "443, 8443", "8443, 443", 1) },
		"host's spelling": func(s string) string {
			return strings.Replace(s, `host = "api.good.test"`, `host = "API.Good.Test."`, 1)
		},
		"order of rules": func(s string) string {
			rule := "[[network.rule]]\naction = \"allow\"\nhost = \"api.good.test\"\n\n"
			return strings.Replace(s, rule, "", 1) + "\n" + rule
		},
	}
	for what, edit := range same {
		text := edit(full)
		if text == full {
			t.Fatalf("%s: nothing was edited", what)
		}
		if got := resolve(t, inputs(t, text)).Hash; got != first {
			t.Errorf("%s changes the hash", what)
		}
	}
	in := inputs(t, full)
	in.Host = Host{User: User{Name: "bob", Home: "/root"}, Repo: "/other", Program: "/opt/agent"}
	if got := resolve(t, in).Hash; got != first {
		t.Error("another machine changes the hash")
	}
}

func TestHashSeesEveryGrant(t *testing.T) {
	seen := map[string]string{resolve(t, inputs(t, full)).Hash: "the original"}
	for _, edit := range [][2]string{
		{`"agent", "--go"`, `"agent", "--evil"`}, {`PLAIN = "1"`, `PLAIN = "2"`}, {`"EDITOR"`, `"VISUAL"`},
		{`".env*", `, ``}, {`api.good.test"`, `api.evil.test"`}, {`8443`, `9443`}, {`inspect = false`, `inspect = true`},
		{`host = "*.blind.test"`, `host = "blind.test"`}, {`"2h"`, `"3h"`}, {`"4GiB"`, `"5GiB"`}, {`pids = 512`, `pids = 513`},
		{`cpus = 1.5`, `cpus = 1.6`}, {`Bearer {token}`, `token {token}`}, {`keyring = "main"`, `keyring = "other"`},
		{`"o": {}`, `"o": {"a": 1}`}, {`action = "deny"`, `action = "allow"`},
		{`source = "~/data"`, `source = "~/dat"`}, {`target = "/models"`, `target = "/model"`}, {`write = true`, `write = false`},
		{"[workspace]", "[workspace]\nmode = \"readonly\""},
	} {
		text := strings.ReplaceAll(full, edit[0], edit[1])
		if text == full {
			t.Fatalf("%q is not in the profile", edit[0])
		}
		hash := resolve(t, inputs(t, text)).Hash
		if was, ok := seen[hash]; ok {
			t.Errorf("%q → %q has the hash of %s", edit[0], edit[1], was)
		}
		seen[hash] = edit[1]
	}
}

func TestArgumentsOfThePersonReplaceTheProfiles(t *testing.T) {
	in := inputs(t, full)
	if got := resolve(t, in).Binding.Argv; !reflect.DeepEqual(got, []string{"/usr/bin/agent", "--go", "--default"}) {
		t.Errorf("without arguments: %q", got)
	}
	in.Args = []string{"-p", "hello"}
	if got := resolve(t, in).Binding.Argv; !reflect.DeepEqual(got, []string{"/usr/bin/agent", "--go", "-p", "hello"}) {
		t.Errorf("with arguments: %q", got)
	}
}

func TestFlagsReplaceTheProfiles(t *testing.T) {
	in, timeout := inputs(t, full), 90*time.Second
	in.Timeout, in.Mode = &timeout, ReadOnly
	g := resolve(t, in).Grants
	if g.Budget.Time != timeout || g.Workspace.Mode != ReadOnly {
		t.Errorf("got %v, %v", g.Budget.Time, g.Workspace.Mode)
	}
}

func TestHostVariablesThatThePlanDoesNotNameAreAbsent(t *testing.T) {
	env := resolve(t, inputs(t, full)).Binding.Env
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if value == "leak" || name == "SSH_AUTH_SOCK" || name == "REAL_KEY" || name == "AGENT_KEY" {
			t.Errorf("%s is handed in", e)
		}
	}
	for _, want := range []string{"TERM=xterm", "LC_ALL=C", "MY_ONE={home}", "WHERE=/home/ann/my repo/x", "HOME=/home/ann", "SHELL=/usr/bin/zsh", "https_proxy=http://127.0.0.1:3128", "NODE_EXTRA_CA_CERTS=" + CAPath, "GIT_SSL_CAINFO=" + BundlePath} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if !slices.IsSorted(env) {
		t.Error("not sorted")
	}
}

// A profile that is decoded without the check of profiles.Load must still not hand the real value in.
func TestARealValueIsNeverPassed(t *testing.T) {
	in := inputs(t, full)
	in.Profile.Agent.Pass = append(in.Profile.Agent.Pass, "REAL_*", "AGENT_KEY")
	for _, e := range resolve(t, in).Binding.Env {
		if strings.Contains(e, "leak") {
			t.Errorf("%s is handed in", e)
		}
	}
}

func TestEnvironAndFilesHoldPlaceholders(t *testing.T) {
	in := inputs(t, full)
	in.Host.Repo = `/home/ann/a"b{home}`
	p := resolve(t, in)
	placeholder := func(name string) string { return "sk-" + name + "-0123456789abcdefghij" }
	env, err := p.Environ(placeholder)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"AGENT_KEY=sk-main-0123456789abcdefghij", "KEYED=key=sk-main-0123456789abcdefghij", `WHERE=/home/ann/a"b{home}/x`} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing in %q", want, env)
		}
	}
	if !slices.IsSorted(env) {
		t.Error("not sorted")
	}
	files, err := p.Files(placeholder)
	if err != nil {
		t.Fatal(err)
	}
	want := []File{{"/home/ann/.agent.json", `{"repo": "/home/ann/a\"b{home}", "key": "0123456789abcdefghij", "o": {}}`}}
	if !reflect.DeepEqual(files, want) {
		t.Errorf("got %q", files)
	}
}

func TestListeners(t *testing.T) {
	in := inputs(t, strings.Replace(full, "443, 8443", "443, 8443, 53, 3128", 1))
	p := resolve(t, in)
	if want := []uint16{22, 80, 443, 8443}; !reflect.DeepEqual(p.Binding.ListenTCP, want) {
		t.Errorf("got %v", p.Binding.ListenTCP)
	}
	if got := p.Binding.KnownHosts; len(got) != 1 || got[0].String() != "api.good.test" {
		t.Errorf("known hosts %v", got)
	}
}

func TestRefusals(t *testing.T) {
	gvisor := full + "\n[isolation]\nruntime = \"gvisor\"\n"
	for name, tc := range map[string]struct {
		text string
		edit func(*Inputs)
		want string
	}{
		"gvisor not there": {gvisor, func(*Inputs) {}, "runsc is not installed"},
		"reserved env":     {strings.Replace(full, "PLAIN", "HTTPS_PROXY", 1), func(*Inputs) {}, "HTTPS_PROXY, which agentbox sets"},
		"reserved slot":    {strings.Replace(full, "AGENT_KEY", "SSL_CERT_FILE", 1), func(*Inputs) {}, "SSL_CERT_FILE, which agentbox sets"},
		"negative time":    {full, func(in *Inputs) { d := -time.Second; in.Timeout = &d }, "negative"},
	} {
		in := inputs(t, tc.text)
		tc.edit(&in)
		_, err := Resolve(in)
		var refusal *Refusal
		if !errors.As(err, &refusal) || !strings.Contains(refusal.Error(), tc.want) || refusal.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	in := inputs(t, gvisor)
	in.Host.Engine.GVisor = "runsc"
	if e := resolve(t, in).Binding.Engine; e.Runtime != "runsc" || e.Transport != "relay" {
		t.Errorf("gvisor runs on %+v", e)
	}
}

func TestProgramNotInstalled(t *testing.T) {
	in := inputs(t, full)
	in.Host.Program = ""
	_, err := Resolve(in)
	var missing *NotFound
	if !errors.As(err, &missing) || missing.Hint() != "install it: npm install -g agent" {
		t.Errorf("got %v", err)
	}
}

func TestExpand(t *testing.T) {
	vars := map[string]string{"repo": "/a {home} \"b\"\n", "home": "/h", "placeholder.x": "short", "placeholder.y": strings.Repeat("a", 30) + "0123456789"}
	for _, tc := range []struct {
		in, want string
		json     bool
	}{
		{"{repo}", "/a {home} \"b\"\n", false},
		{`{"p":"{repo}","e":{}}`, `{"p":"/a {home} \"b\"\n","e":{}}`, true},
		{"{{repo} {{ {{x", "{repo} {{ {{x", false},
		{"{ home } {Home} ${HOME} {0}", "{ home } {Home} ${HOME} {0}", false},
		{"{placeholder.x.last20}", "short", false},
		{"{placeholder.y.last20}", "aaaaaaaaaa0123456789", false},
	} {
		if got, err := Expand(tc.in, vars, tc.json); err != nil || got != tc.want {
			t.Errorf("%q → %q, %v; want %q", tc.in, got, err, tc.want)
		}
	}
	for _, bad := range []string{"{unknown}", "{placeholder.z}", "{placeholder.z.last20}", "{home.last20}"} {
		if _, err := Expand(bad, vars, false); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestResolveLeavesItsInputsAlone(t *testing.T) {
	in := inputs(t, full)
	in.Host.Roots = []string{"/z", "/a"}
	resolve(t, in)
	was, is := load(t, full), in.Profile
	same := reflect.DeepEqual(is.Origins.All(), was.Origins.All())
	was.Origins, is.Origins = profiles.Origins{}, profiles.Origins{}
	if !same || !reflect.DeepEqual(in.Host.Roots, []string{"/z", "/a"}) || !reflect.DeepEqual(is, was) {
		t.Error("the inputs were changed")
	}
}

func host(t testing.TB, s string) policy.Host {
	t.Helper()
	h, err := policy.ParseHost(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestASecretThatIsPassedIsWarnedOfAndNotShown(t *testing.T) {
	in := inputs(t, full)
	in.Host.Env["MY_TOKEN"] = "very-secret"
	p := resolve(t, in)
	if !slices.Contains(p.Binding.Env, "MY_TOKEN=very-secret") {
		t.Fatal("what the profile asks for is not handed in")
	}
	js, err := json.Marshal(p)
	var text strings.Builder
	if err := errors.Join(err, WriteText(&text, p)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(js)+text.String(), "very-secret") {
		t.Error("the value is shown")
	}
	if !strings.Contains(text.String(), "! warning     the agent gets your $MY_TOKEN as it is") {
		t.Errorf("no warning in\n%s", text.String())
	}
}
