package profiles

import (
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"agentbox/internal/policy"
	builtin "agentbox/profiles"
)

func builtInSets(t *testing.T) map[string]NamedSet {
	t.Helper()
	sets := map[string]NamedSet{}
	files, err := fs.Glob(builtin.Files(), "sets/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatal("no sets", err)
	}
	for _, file := range files {
		data, err := fs.ReadFile(builtin.Files(), file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(path.Base(file), ".toml")
		set, err := LoadSet(name, data, file)
		if err != nil {
			t.Error(err)
		}
		sets[name] = set
	}
	return sets
}

// A set that is no model's API lets nobody write: GET and HEAD, and the POST that says what a git fetch already has.
func TestEverySetButModelsIsReadOnly(t *testing.T) {
	models := []string{"anthropic", "dashscope", "gemini", "openai"}
	for name, set := range builtInSets(t) {
		if set.Model != slices.Contains(models, name) {
			t.Errorf("%s: model = %t", name, set.Model)
		}
		for _, r := range set.Rules {
			if _, exact := r.Host.Exact(); !exact && r.Host.String() != "*.archive.ubuntu.com" {
				t.Errorf("%s: %s is not one host", name, r.Host)
			}
			if r.Action != "allow" || !r.Inspect || slices.ContainsFunc(r.Ports, func(p Port) bool { return p != 443 && p != 80 }) {
				t.Errorf("%s: %+v", name, r)
			}
			if !set.Model && !readOnly(r) {
				t.Errorf("%s lets one write to %s: %v", name, r.Host, r.Methods)
			}
		}
	}
}

func readOnly(r Rule) bool {
	fetch := len(r.Methods) == 1 && r.Methods[0] == "POST" && len(r.Paths) == 1 && strings.HasSuffix(r.Paths[0].String(), "/git-upload-pack")
	write := func(m Method) bool { return m != "GET" && m != "HEAD" }
	return fetch || len(r.Methods) > 0 && !slices.ContainsFunc(r.Methods, write)
}

// What the clients of each registry ask for is allowed, and what publishes, uploads or pushes is denied.
func TestSetsAllowReadingAndDenyWriting(t *testing.T) {
	sets, tried := builtInSets(t), map[string]bool{}
	for _, c := range []struct{ set, allowed, denied string }{
		{"anthropic", "POST https://api.anthropic.com/v1/messages", "GET https://statsig.anthropic.com/"},
		{"openai", "POST https://api.openai.com/v1/responses", "GET https://chatgpt.com/"},
		{"dashscope", "POST https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions", "POST https://oss-cn-hangzhou.aliyuncs.com/x"},
		{"gemini", "POST https://generativelanguage.googleapis.com/v1beta/models/x:generateContent", "POST https://play.googleapis.com/log"},
		{"npm", "GET https://registry.npmjs.org/@scope%2fname", "PUT https://registry.npmjs.org/@scope%2fname"},
		{"npm", "GET https://registry.npmjs.org/x/-/x-1.0.0.tgz", "PUT https://registry.npmjs.org/-/user/org.couchdb.user:me"},
		{"npm", "HEAD https://registry.yarnpkg.com/x", "POST https://registry.npmjs.org/-/npm/v1/security/advisories/bulk"},
		{"node", "GET https://nodejs.org/dist/v22.0.0/node-v22.0.0-headers.tar.gz", "POST https://nodejs.org/"},
		{"pypi", "GET https://pypi.org/simple/x/", "POST https://upload.pypi.org/legacy/"},
		{"pypi", "GET https://files.pythonhosted.org/packages/x.whl", "POST https://pypi.org/legacy/"},
		{"go", "GET https://proxy.golang.org/golang.org/x/net/@v/list", "POST https://proxy.golang.org/"},
		{"go", "GET https://sum.golang.org/lookup/golang.org/x/net@v0.1.0", "GET https://storage.googleapis.com/"},
		{"crates", "GET https://index.crates.io/se/rd/serde", "PUT https://crates.io/api/v1/crates/new"},
		{"crates", "GET https://static.crates.io/crates/serde/serde-1.0.0.crate", "DELETE https://crates.io/api/v1/crates/x/1.0.0/yank"},
		{"rust", "GET https://static.rust-lang.org/dist/channel-rust-stable.toml", "GET http://static.rust-lang.org/"},
		{"debian", "GET http://deb.debian.org/debian/dists/trixie/InRelease", "PUT http://deb.debian.org/x"},
		{"debian", "GET https://security.debian.org/debian-security/dists/x", "GET https://ftp.debian.org/"},
		{"ubuntu", "GET http://de.archive.ubuntu.com/ubuntu/dists/noble/InRelease", "GET http://evil.ubuntu.com/"},
		{"alpine", "GET https://dl-cdn.alpinelinux.org/alpine/v3.22/main", "POST https://dl-cdn.alpinelinux.org/x"},
		{"github", "GET https://github.com/acme/billing.git/info/refs", "POST https://github.com/acme/billing.git/git-receive-pack"},
		{"github", "POST https://github.com/acme/billing.git/git-upload-pack", "POST https://github.com/acme/git-upload-pack"},
		{"github", "POST https://github.com/acme/billing/git-upload-pack", "POST https://github.com/acme/billing/git-receive-pack/x/git-upload-pack"},
		{"github", "GET https://raw.githubusercontent.com/a/b/main/x", "POST https://github.com/acme/billing.git/info/lfs/objects/batch"},
		{"github", "GET https://api.github.com/repos/a/b", "POST https://api.github.com/graphql"},
		{"github", "GET https://codeload.github.com/a/b/tar.gz/main", "POST https://api.github.com/gists"},
		{"github", "GET https://release-assets.githubusercontent.com/x", "GET https://gist.github.com/x"},
		{"github", "GET https://objects.githubusercontent.com/x", "POST https://uploads.github.com/repos/a/b/releases/1/assets"},
		{"gitlab", "POST https://gitlab.com/group/sub/name.git/git-upload-pack", "POST https://gitlab.com/group/sub/name.git/git-receive-pack"},
		{"gitlab", "GET https://gitlab.com/group/sub/name.git/info/refs", "POST https://gitlab.com/api/v4/projects"},
		{"rubygems", "GET https://index.rubygems.org/info/rails", "POST https://rubygems.org/api/v1/gems"},
		{"maven", "GET https://repo.maven.apache.org/maven2/x.pom", "PUT https://repo1.maven.org/maven2/x.jar"},
		{"gradle", "GET https://plugins.gradle.org/m2/x", "POST https://plugins.gradle.org/api/v1/publish"},
		{"packagist", "GET https://repo.packagist.org/p2/a/b.json", "POST https://packagist.org/downloads/"},
		{"nuget", "GET https://api.nuget.org/v3/index.json", "PUT https://www.nuget.org/api/v2/package"},
		{"hex", "GET https://repo.hex.pm/packages/x", "POST https://hex.pm/api/packages"},
	} {
		set := policy.Set{Default: policy.Deny, Rules: (Network{Rules: sets[c.set].Rules}).Set().Rules}
		if d := set.Decide(request(t, c.allowed)); d.Action != policy.Allow {
			t.Errorf("%s: %s: %s", c.set, c.allowed, d.Reason())
		}
		if d := set.Decide(request(t, c.denied)); d.Action != policy.Deny {
			t.Errorf("%s: %s is let through: %s", c.set, c.denied, d.Reason())
		}
		tried[c.set] = true
	}
	for name := range sets {
		if !tried[name] {
			t.Errorf("nothing is tried with the set %s", name)
		}
	}
}

func request(t *testing.T, line string) policy.Request {
	t.Helper()
	method, address, _ := strings.Cut(line, " ")
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(443)
	if u.Scheme == "http" {
		port = 80
	}
	return policy.Request{Host: must(policy.ParseHost(u.Host)), Port: port, Scheme: u.Scheme, Method: method, Path: u.EscapedPath()}
}

// The profiles that are shipped are free of warnings, and each may do what it did before there were sets: reach its
// model, and nothing else.
func TestBuiltInProfilesReachTheirModelAlone(t *testing.T) {
	want := map[string][]string{
		"claude": {"api.anthropic.com"}, "opencode": {"api.anthropic.com"}, "codex": {"api.openai.com"},
		"claude-login": {"api.anthropic.com", "platform.claude.com"}, "codex-login": {"chatgpt.com", "auth.openai.com"},
		"pi": {"api.anthropic.com"}, "continue": {"api.anthropic.com"}, "copilot": {"api.anthropic.com"},
		"qwen":   {"dashscope-intl.aliyuncs.com"},
		"gemini": {"generativelanguage.googleapis.com"}, "demo": {"api.example.com"}, "shell": nil,
	}
	files := Files{BuiltIn: builtin.Files()}
	for _, name := range files.Names() {
		if name == "image-build" {
			continue // has a test of its own, below
		}
		l, err := Load(name, files)
		if err != nil || len(l.Warnings) > 0 {
			t.Errorf("%s: %v %v", name, err, l.Warnings)
			continue
		}
		if name == "image-build" { // it runs no agent
			if !slices.Equal(l.Profile.Network.Use, []Name{"debian", "npm"}) {
				t.Errorf("%s uses %v", name, l.Profile.Network.Use)
			}
			continue
		}
		hosts, ok := want[name]
		if !ok {
			t.Errorf("nothing is said here about %s", name)
		}
		var got []string
		login := strings.HasSuffix(name, "-login") // by paths: a login opens more at these hosts than models
		for _, r := range l.Profile.Network.Rules {
			if login && len(r.Paths) == 0 {
				t.Errorf("%s opens all of %s", name, r.Host)
			}
			got = append(got, r.Host.String())
			if slices.Compare(r.Ports, []Port{443}) != 0 || r.Action != "allow" || !r.Inspect || r.Model != (name != "demo" && !login) {
				t.Errorf("%s: %+v", name, r)
			}
		}
		if !slices.Equal(got, hosts) || l.Profile.Network.Default != "" {
			t.Errorf("%s reaches %v, and by default %q", name, got, l.Profile.Network.Default)
		}
	}
}

// What builds the shipped images only reads, from registries of packages.
func TestBuildsOfShippedImagesOnlyRead(t *testing.T) {
	l := must(Load("image-build", Files{BuiltIn: builtin.Files()}))
	if len(l.Warnings) > 0 || len(l.Profile.Network.Rules) == 0 || l.Profile.Network.Default != "" || len(l.Profile.Credentials) > 0 {
		t.Errorf("warnings %v, %d rules, default %q, credentials %v", l.Warnings, len(l.Profile.Network.Rules), l.Profile.Network.Default, l.Profile.Credentials)
	}
	for _, r := range l.Profile.Network.Rules {
		if !slices.Contains([]Name{"debian", "npm"}, r.Set) || r.Action != "allow" || !r.Inspect || r.Model || !slices.Equal(r.Methods, []Method{"GET", "HEAD"}) {
			t.Errorf("%+v", r)
		}
	}
}
