package plan

import (
	"net/url"
	"strings"
	"testing"
	"testing/fstest"

	"agentbox/internal/profiles"
)

// Somebody asks about the paths that would hurt most: what git obeys, and what is not theirs to show.
func TestWhyTellsTheGuardsOfTheRepository(t *testing.T) {
	g := granted(t, asked) // hides "*.pem" and others
	g.Workspace.Hide = append(g.Workspace.Hide, "config", "HEAD")
	g.Origins["workspace.hide"] = "p.toml:1"
	for _, g.Workspace.Mode = range []Mode{Review, Direct} {
		tellsTheGuards(t, g)
	}
	g.Workspace.Mode = ReadOnly
	if e := g.WhyPath(".git/HEAD"); e.Decision != "read" || e.Change == "" {
		t.Errorf("readonly: %+v", e)
	}
}

func tellsTheGuards(t *testing.T, g Grants) {
	t.Helper()
	g.Mounts = []Mount{{Source: "~/data", Target: "~/data", Origin: "mine.toml:3"}, {Source: "/srv/m", Target: "/m", Write: true, Origin: "mine.toml:6"}}
	for _, tc := range []struct{ path, decision, reason string }{
		{".git/config", "read", "a filtered copy"},
		{".git/config.worktree", "read", "a filtered copy"},
		{".git/hooks", "read", "read-only"},
		{".git/hooks/pre-commit", "read", "your own git obeys"},
		{".git/worktrees/x/gitdir", "read", "read-only"},
		{".git/commondir", "read", "read-only"},
		{".git/modules/lib/hooks/x", "read", "read-only"},
		{".git/modules/lib/config", "read", "a filtered copy"},
		{".git/config.bak", "hidden", "copy of git's configuration"},
		{".git/.git-credentials", "hidden", "copy of git's configuration"},
		{"./.git/hooks/../config", "read", "a filtered copy"},
		{"lib/.git", "read", "below the top are read-only"},
		{"lib/.git/hooks/x", "read", "below the top are read-only"},
		{"lib/.git/config", "read", "a filtered copy"},
		{".git/HEAD", "write", "git works inside"},
		{".git/refs/heads/main", "write", "git works inside"},
		{"~/.ssh/id_rsa", "hidden", "home directory, which is not there"},
		{"~", "hidden", "home directory, which is not there"},
		{"/etc/shadow", "hidden", "not in the repository"},
		{"../x", "hidden", "not in the repository"},
		{"a/../../x", "hidden", "not in the repository"},
		{"/usr/bin/git", "read", "/usr are shown read-only"},
		{"config", "hidden", "workspace.hide"},
		{"~/data", "read", "[[mount]]"},
		{"~/data/a/b", "read", "[[mount]]"},
		{"~/data/a/HEAD", "hidden", "workspace.hide"},
		{"~/database", "hidden", "home directory"},
		{"/m/a", "write", "lets the agent change it"},
		{"/srv/m/a", "hidden", "not in the repository"},
	} {
		e := g.WhyPath(tc.path)
		if e.Decision != tc.decision || !strings.Contains(e.Reason, tc.reason) || e.Rule == "" || e.Change == "" || tc.decision != "write" && strings.Contains(e.Change, "to hide it") {
			t.Errorf("%s, in mode %s: %+v", tc.path, g.Workspace.Mode, e)
		}
	}
}

// What is told to hide a path is a pattern that the reader takes, and that names it.
func TestThePatternOfWhyHidesThePath(t *testing.T) {
	for _, rel := range []string{"main.go", "a/b", "!a", "~x", "a[b", "a*b/c?", `back\slash`, "...", "**", "[a]/**", "x y", `it's "quoted"`, "*", "a/!b"} {
		g := granted(t, asked)
		g.Workspace.Hide = nil
		_, snippet, ok := strings.Cut(g.WhyPath(rel).Change, "\n\n")
		if !ok {
			t.Errorf("%q: nothing is told", rel)
			continue
		}
		f, err := profiles.LoadFloors([]byte("version = 1\n"+strings.Replace(snippet, `"...", `, "", 1)), "x.toml")
		if err != nil {
			t.Errorf("%q: %v", rel, err)
			continue
		}
		g.Workspace.Hide = f.Workspace.Hide
		if g.WhyPath(rel).Decision != "hidden" || g.WhyPath("other").Decision == "hidden" {
			t.Errorf("%q is not hidden by %q alone", rel, f.Workspace.Hide)
		}
	}
	for _, rel := range []string{".", "", "a\x1b[2J", "a\xff"} {
		if e := granted(t, asked).WhyPath(rel); strings.Contains(e.Change, "[workspace]") {
			t.Errorf("%q: %+v", rel, e)
		}
	}
}

// What is told to show a path shows it, whatever hides it: in the person's own file, which lies over all others.
func TestWhatShowsAPathShowsIt(t *testing.T) {
	base := fstest.MapFS{"p.toml": {Data: []byte("version = 1\nagent.command = ['x']\nworkspace.hide = ['a', '*.e', 's/**']\n")}}
	repo := fstest.MapFS{".agentbox/p.toml": {Data: []byte("version = 1\n[workspace]\nhide = ['...', 'a*', '*b']\n")}}
	with := func(own string) Grants {
		t.Helper()
		l, err := profiles.Load("p", profiles.Files{BuiltIn: base, Repo: repo, User: fstest.MapFS{"profiles/p.toml": {Data: []byte("version = 1\n" + own)}}, UserDir: "~"})
		if err != nil {
			t.Fatal(err)
		}
		g, err := Grant(GrantInputs{Profile: l.Profile})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	for _, rel := range []string{".env", "deep/.env", "a", "ab", "x.e", "s/deep/x", "!b", "~b", "server.key", "ID_RSA", "[b", "*b"} {
		e := with("").WhyPath(rel)
		_, snippet, ok := strings.Cut(e.Change, "\n\n")
		if e.Decision != "hidden" || !ok {
			t.Errorf("%s: %+v", rel, e)
			continue
		}
		g := with(snippet)
		if e := g.WhyPath(rel); e.Decision == "hidden" || g.WhyPath(".env.local").Decision != "hidden" {
			t.Errorf("%s with %s: %+v", rel, snippet, e)
		}
	}
	g := with("")
	g.Workspace.Hide = append(g.Workspace.Hide, "s/key")
	g.Origins[item("workspace.hide", len(g.Workspace.Hide)-1)] = organisationFile + ":3"
	if e := g.WhyPath("s/key"); !strings.Contains(e.Change, "only whoever keeps") {
		t.Errorf("what the organisation hides: %+v", e)
	}
}

func npmSet(t *testing.T) profiles.NamedSet {
	t.Helper()
	set, err := profiles.LoadSet("npm", []byte("version = 1\ndescription = 'Packages'\n[[rule]]\naction = 'allow'\nhost = 'registry.npmjs.org'\nmethods = ['GET', 'HEAD']\n"), "npm.toml")
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// npm install fails at the registry: the first answer is the set made for it, then a grant, then the rule.
func TestWhyNamesTheSetThatHasAHost(t *testing.T) {
	set, g := npmSet(t), granted(t, asked)
	ask := func(method, address string) string {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		return g.WhyURL(method, u, set).Change
	}
	change, at := ask("GET", "https://registry.npmjs.org/left-pad"), 0
	for _, part := range []string{`use = ["...", "npm"]`, "agentbox grants add registry.npmjs.org --method GET --method HEAD\n", "[[network.rule]]", `methods = ["GET", "HEAD"]`} {
		i := strings.Index(change[at:], part)
		if i < 0 {
			t.Fatalf("%q is not in its place in:\n%s", part, change)
		}
		at += i
	}
	if strings.Contains(change, "left-pad") {
		t.Errorf("one page is allowed:\n%s", change)
	}
	for _, other := range []string{ask("PUT", "https://registry.npmjs.org/left-pad"), ask("GET", "https://registry.npmjs.org:8443/"), ask("GET", "https://other.test/")} {
		if strings.Contains(other, "npm\"") || !strings.Contains(other, "agentbox grants add ") {
			t.Errorf("the set does not allow it:\n%s", other)
		}
	}
	if put := ask("PUT", "https://registry.npmjs.org/it's"); !strings.Contains(put, `--method PUT --path '/it'\''s'`) {
		t.Errorf("got:\n%s", put)
	}
	g.Use = append(g.Use, "npm")
	if change := ask("GET", "https://registry.npmjs.org/"); strings.Contains(change, "use = ") {
		t.Errorf("it is in use:\n%s", change)
	}
}
