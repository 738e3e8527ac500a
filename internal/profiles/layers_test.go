package profiles

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// tree is files by name, each with version = 1 in front.
func tree(files ...string) fstest.MapFS {
	out := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		out[files[i]] = &fstest.MapFile{Data: []byte("version = 1\n" + files[i+1])}
	}
	return out
}

const program = "agent.command = [\"x\"]\n"

func loaded(t *testing.T, name string, f Files) Profile {
	t.Helper()
	if f.User != nil && f.UserDir == "" {
		f.UserDir = "~/.config/agentbox"
	}
	l, err := Load(name, f)
	if err != nil {
		t.Fatal(err)
	}
	return l.Profile
}

// told is what a person is told, without the snippets: place and text of each problem.
func told(t *testing.T, name string, f Files) (out []string) {
	t.Helper()
	if f.User != nil && f.UserDir == "" {
		f.UserDir = "~/.config/agentbox"
	}
	_, err := Load(name, f)
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatalf("got %v", err)
	}
	for _, p := range problems {
		out = append(out, fmt.Sprintf("%s:%d:%d: [%s] %s", p.File, p.Line, p.Col, p.Code, p.Text))
	}
	return out
}

func wantTold(t *testing.T, name string, f Files, want ...string) {
	t.Helper()
	if got := told(t, name, f); !slices.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func TestLayersLieInTheirOrder(t *testing.T) {
	hide := func(s string) string { return "[workspace]\nhide = [\"...\", \"" + s + "\"]\n" }
	f := Files{
		BuiltIn: tree("claude.toml", "description = \"built in\"\ntier = \"low\"\n"+program+hide("1")),
		Repo:    tree("agentbox.toml", hide("2"), ".agentbox/claude.toml", hide("3"), ".agentbox/billing.toml", "extends = \"claude\"\ntier = \"high\"\n"+hide("4")),
		User:    tree("agentbox.toml", hide("5"), "profiles/claude.toml", hide("6"), "profiles/billing.toml", "description = \"mine\"\n"+hide("7"), "profiles/other.toml", "nonsense = 1"),
		Grants:  []byte("version = 1\nrepo = \"/r\"\n[[network.rule]]\naction = \"allow\"\nhost = \"a.test\"\n"), GrantsFile: "grants/x.toml",
	}
	p := loaded(t, "billing", f)
	if got := strings.Join(p.Workspace.Hide, ""); got != "1234567" {
		t.Errorf("got %s", got)
	}
	if p.Description != "mine" || p.Tier != "high" || p.Extends != "claude" || !slices.Equal(p.Chain, []string{"claude", "billing"}) || p.Origin != "~/.config/agentbox/profiles/billing.toml" {
		t.Errorf("got %+v", p)
	}
	for path, want := range map[string]Place{
		"description":          {User, "~/.config/agentbox/profiles/billing.toml", 2, 1},
		"tier":                 {Repo, ".agentbox/billing.toml", 3, 1},
		"extends":              {Repo, ".agentbox/billing.toml", 2, 1},
		"agent.command":        {BuiltIn, "built-in/claude.toml", 4, 7},
		"workspace.hide":       {User, "~/.config/agentbox/profiles/billing.toml", 4, 1},
		"workspace.hide[1]":    {Repo, "agentbox.toml", 3, 16},
		"workspace.hide[6]":    {User, "~/.config/agentbox/profiles/billing.toml", 4, 16},
		"network.rule[0].host": {Grants, "grants/x.toml", 5, 1},
	} {
		if got := p.Origins.All()[path]; got != want {
			t.Errorf("%s: got %+v", path, got)
		}
	}
	if p.Network.Rules[0].Origin != "grants/x.toml:3" {
		t.Errorf("got %+v", p.Network.Rules[0])
	}
	if p := loaded(t, "claude", f); strings.Join(p.Workspace.Hide, "") != "12356" || p.Extends != "" || p.Tier != "low" {
		t.Errorf("got %+v", p)
	}
}

func TestListsAddOrReplaceByOneRule(t *testing.T) {
	credential := func(name, header string) string {
		return "[[credential]]\nname = \"" + name + "\"\nsource = { env = \"E\" }\nhosts = [\"" + name + ".test\"]\nheader = \"" + header + ": {token}\"\nenv = \"T_" + strings.ToUpper(name) + "\"\n"
	}
	lower := program + "args = [\"-c\", \"a\"]\n" // a key of the root, known nowhere
	lower = strings.Replace(lower, "args", "agent.args", 1) + `agent.pass = ["TERM", "LANG"]
[agent.env]
A = "1"
B = "1"
[[agent.file]]
path = "~/a"
content = "1"
[network]
default = "allow"
[[network.rule]]
action = "deny"
host = "one.test"
[[git]]
remote = "github.com/acme/a"
` + credential("one", "X-A") + "ttl = \"1h\"\n" + credential("two", "X-B")
	upper := `agent.args = ["...", "-c", "b"]
agent.pass = ["LANG", "...", "TZ"]
[agent.env]
B = "2"
C = "2"
[[agent.file]]
path = "~/b"
[[agent.file]]
path = "~/a"
content = "2"
[[network.rule]]
action = "deny"
host = "one.test"
ports = [80]
[[git]]
remote = "GitHub.com/acme/a.git"
fetch = false
[limits]
pids = 9
` + credential("three", "X-C") + credential("one", "X-D")
	lower = strings.ReplaceAll(lower, "host = \"one.test\"", "host = \"deny.test\"")
	p := loaded(t, "x", Files{BuiltIn: tree("x.toml", lower), User: tree("profiles/x.toml", upper)})
	if !slices.Equal(p.Agent.Args, []string{"-c", "a", "-c", "b"}) {
		t.Errorf("words of a command line were dropped: %q", p.Agent.Args)
	}
	if !slices.Equal(p.Agent.Pass, []EnvPattern{"LANG", "TERM", "TZ"}) {
		t.Errorf("got %q", p.Agent.Pass)
	}
	if want := map[EnvName]string{"A": "1", "B": "2", "C": "2"}; !reflect.DeepEqual(p.Agent.Env, want) {
		t.Errorf("got %v", p.Agent.Env)
	}
	if len(p.Agent.Files) != 2 || p.Agent.Files[0].Content != "2" || p.Agent.Files[1].Path != "~/b" {
		t.Errorf("got %+v", p.Agent.Files)
	}
	if len(p.Network.Rules) != 2 || p.Network.Rules[1].Ports[0] != 80 {
		t.Errorf("got %+v", p.Network.Rules)
	}
	if len(p.Git) != 1 || p.Git[0].Fetch {
		t.Errorf("a remote in another spelling: %+v", p.Git)
	}
	if c := p.Credentials; len(c) != 3 || c[0].Header != "X-D: {token}" || c[0].TTL != 0 || c[1].Name != "two" || c[2].Name != "three" {
		t.Errorf("got %+v", c)
	}
	if p.Limits.Pids != 9 || p.Network.Default != "allow" {
		t.Errorf("got %+v", p)
	}
}

// Only what lies below is replaced: two of one name in a file are a mistake, also where one lies below.
func TestOneFileNamesAnEntryOnce(t *testing.T) {
	git := "[[git]]\nremote = \"github.com/a/b\"\n"
	f := Files{BuiltIn: tree("x.toml", program+"network.default = \"allow\"\n"+git), User: tree("profiles/x.toml", git+git)}
	wantTold(t, "x", f, `~/.config/agentbox/profiles/x.toml:5:10: [duplicate] "github.com/a/b" is at ~/.config/agentbox/profiles/x.toml:2 already`)
}

func TestAListReplacesTheOneBelow(t *testing.T) {
	below := tree("x.toml", program+"workspace.hide = [\"a\", \"b\"]\n")
	for upper, want := range map[string]string{"[\"c\"]": "c", "[]": "", "[\"...\"]": "ab", "[\"c\", \"...\", \"a\"]": "cab", "[\"b\", \"...\"]": "ba"} {
		p := loaded(t, "x", Files{BuiltIn: below, User: tree("agentbox.toml", "workspace.hide = "+upper)})
		if got := strings.Join(p.Workspace.Hide, ""); got != want {
			t.Errorf("%s: got %s, want %s", upper, got, want)
		}
	}
	if p := loaded(t, "y", Files{User: tree("profiles/y.toml", program+"workspace.hide = [\"...\", \"c\"]\n")}); !slices.Equal(p.Workspace.Hide, []string{"c"}) {
		t.Errorf("over nothing: %q", p.Workspace.Hide)
	}
	wantTold(t, "x", Files{BuiltIn: below, User: tree("agentbox.toml", "workspace.hide = [\"...\", \"c\", \"...\"]\n[[network.rule]]\naction = \"deny\"\nhost = \"a.test\"\nmethods = [\"...\"]\n[[mcp]]\nname = \"m\"\ncommand = [\"x\", \"...\"]\nask = [\"*\"]\n")},
		`~/.config/agentbox/agentbox.toml:2:31: [ellipsis] "..." stands here a second time`,
		`~/.config/agentbox/agentbox.toml:6:12: [ellipsis] "..." stands for the same list in the layers below, and network.rule.methods is not merged with one`,
		`~/.config/agentbox/agentbox.toml:9:17: [ellipsis] "..." stands for the same list in the layers below, and mcp.command is not merged with one`)
}

func TestExtends(t *testing.T) {
	f := func(files ...string) Files { return Files{BuiltIn: tree("claude.toml", program), User: tree(files...)} }
	const dir = "~/.config/agentbox/profiles/"
	wantTold(t, "a", f("profiles/a.toml", "extends = \"a\""), dir+`a.toml:2:11: [extends-cycle] profile "a" extends itself`)
	wantTold(t, "a", f("profiles/a.toml", "extends = \"b\"", "profiles/b.toml", "extends = \"c\"", "profiles/c.toml", "extends = \"b\""),
		dir+`c.toml:2:11: [extends-cycle] profile "b" extends itself: b → c → b`)
	wantTold(t, "a", f("profiles/a.toml", "extends = \"cluade\""), dir+`a.toml:2:11: [unknown-profile] there is no profile "cluade"`)
	wantTold(t, "a", f("profiles/a.toml", "extends = \"Not A Name\"\n"+program), dir+`a.toml:2:11: [bad-value] "Not A Name" is not a name`)
	wantTold(t, "a", f("profiles/a.toml", "extends = \"../claude\"\n"+program), dir+`a.toml:2:11: [bad-value] "../claude" is not a name`)
	wantTold(t, "claude", f("agentbox.toml", "extends = \"b\""), `~/.config/agentbox/agentbox.toml:2:1: [extends-here] ~/.config/agentbox/agentbox.toml lies under every profile, and extends none`)
	two := Files{BuiltIn: tree("a.toml", program, "b.toml", program), Repo: tree(".agentbox/x.toml", "extends = \"a\""), User: tree("profiles/x.toml", "extends = \"b\"")}
	wantTold(t, "x", two, dir+`x.toml:2:11: [extends-disagree] profile "x" extends "b" here, and "a" at .agentbox/x.toml:2`)
	two.User = tree("profiles/x.toml", "extends = \"a\"")
	if p := loaded(t, "x", two); p.Extends != "a" {
		t.Errorf("got %+v", p)
	}

	chain := func(n int) Files {
		files := []string{"profiles/p0.toml", program}
		for i := range n {
			files = append(files, fmt.Sprintf("profiles/p%d.toml", i+1), fmt.Sprintf("extends = \"p%d\"", i))
		}
		return Files{User: tree(files...)}
	}
	if p := loaded(t, "p16", chain(16)); len(p.Chain) != 17 || p.Extends != "p15" || p.Chain[0] != "p0" {
		t.Errorf("got %v", p.Chain)
	}
	wantTold(t, "p17", chain(17), dir+"p1.toml:2:11: [extends-depth] more than 16 profiles extend each other")
}

// What a file extends is its own affair: not the chain's end, whichever level says so.
func TestTheChainIsNotWhatTheUppermostFileExtends(t *testing.T) {
	f := Files{BuiltIn: tree("a.toml", program, "b.toml", "extends = \"a\"", "c.toml", "extends = \"b\""), User: tree("profiles/b.toml", "extends = \"a\"")}
	if p := loaded(t, "c", f); p.Extends != "b" || !slices.Equal(p.Chain, []string{"a", "b", "c"}) {
		t.Errorf("got %q, %v", p.Extends, p.Chain)
	}
}

func TestAllProblemsOfAllFilesAreTold(t *testing.T) {
	f := Files{
		BuiltIn: tree("a.toml", program+"workspace.mode = 3\n"),
		Repo:    tree("agentbox.toml", "nonsense = 1\n[network]\ndefault = \"ask\"\n", ".agentbox/a.toml", "tier = \"x\""),
		User:    tree("profiles/b.toml", "extends = \"a\"\n[limits]\npids = 1\n[[credential]]\nname = \"c\"\n", "profiles/a.toml", "network.use = [\"nmp\"]"),
		Grants:  []byte("version = 2\nagent = {}\n[[network.rule]]\n"), GrantsFile: "grants.toml",
	}
	wantTold(t, "b", f,
		`built-in/a.toml:3:18: [wrong-type] workspace.mode must be a string, and is a number`,
		`agentbox.toml:2:1: [unknown-key] unknown key "nonsense"`,
		`.agentbox/a.toml:2:8: [bad-value] "x" is not a choice here`,
		`~/.config/agentbox/profiles/a.toml:2:16: [unknown-set] there is no named set "nmp"`,
		`~/.config/agentbox/profiles/b.toml:4:8: [bad-value] pids must be between 8 and 4194304`,
		`~/.config/agentbox/profiles/b.toml:5:1: [missing-key] credential.hosts is missing`,
		`~/.config/agentbox/profiles/b.toml:5:1: [missing-key] credential.source is missing`,
		`grants.toml:1:1: [missing-key] repo is missing`,
		`grants.toml:1:11: [bad-version] version 2 is not one that this agentbox reads`,
		`grants.toml:2:1: [unknown-key] unknown key "agent"`,
		`grants.toml:3:1: [missing-key] network.rule.action is missing`,
		`grants.toml:3:1: [missing-key] network.rule.host is missing`,
	)
}

func TestAFileThatIsNotTOMLHasOneProblemAndTheOthersTheirs(t *testing.T) {
	f := Files{BuiltIn: tree("a.toml", "x = "), User: tree("profiles/b.toml", "extends = \"a\"\nnonsense = 1\n")}
	wantTold(t, "b", f, "built-in/a.toml:2:5: [not-toml] not valid TOML: expected value, not eof",
		`~/.config/agentbox/profiles/b.toml:3:1: [unknown-key] unknown key "nonsense"`)
}

func TestGrants(t *testing.T) {
	f := Files{BuiltIn: tree("a.toml", program), GrantsFile: "g.toml"}
	f.Grants = []byte("version = 1\nrepo = \"rel/./x\"\n[workspace]\nmode = \"direct\"\n[network]\ndefault = \"allow\"\nuse = []\n")
	for _, repo := range []string{"", "rel", "/r/../x", "/r/"} {
		g := Files{BuiltIn: f.BuiltIn, GrantsFile: "g.toml", Grants: []byte("version = 1\nrepo = \"" + repo + "\"\n")}
		wantTold(t, "a", g, fmt.Sprintf("g.toml:2:8: [bad-value] %q is not the absolute path of a repository", repo))
	}
	wantTold(t, "a", f, `g.toml:2:8: [bad-value] "rel/./x" is not the absolute path of a repository`, `g.toml:3:1: [unknown-key] unknown key "workspace"`,
		`g.toml:6:1: [unknown-key] unknown key "default"`, `g.toml:7:1: [unknown-key] unknown key "use"`)
	f.Grants = []byte("version = 1\nrepo = \"/r\"\n[[git]]\nremote = \"github.com/a/b\"\npush = [\"refs/heads/x\"]\n[[network.rule]]\naction = \"allow\"\nhost = \"github.com\"\n")
	if p := loaded(t, "a", f); len(p.Git) != 1 || p.Git[0].Origin != "g.toml:3" || p.Origins.All()["git[0].push"].Level != Grants {
		t.Errorf("got %+v", p.Git)
	}
}

func TestNamedSets(t *testing.T) {
	set := func(host string) string {
		return "description = \"x\"\n[[rule]]\naction = \"allow\"\nhost = \"" + host + "\"\n"
	}
	f := Files{
		BuiltIn: tree("a.toml", program+"[network]\nuse = [\"one\", \"origin\", \"two\"]\n[[network.rule]]\naction = \"deny\"\nhost = \"own.test\"\n", "sets/one.toml", set("one.test"), "sets/two.toml", "model = true\n"+set("two.test"), "sets/three.toml", "nonsense"),
		Repo:    tree("sets/one.toml", set("evil.test"), ".agentbox/sets/one.toml", set("evil.test")),
		User:    tree("sets/two.toml", set("mine.test"), "agentbox.toml", "[[network.rule]]\naction = \"deny\"\nhost = \"late.test\"\n"),
	}
	p := loaded(t, "a", f)
	var got []string
	for _, r := range p.Network.Rules {
		got = append(got, fmt.Sprintf("%s %s %v", r.Host, r.Set, r.Model))
	}
	if want := []string{"own.test  false", "late.test  false", "one.test one false", "mine.test two false"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if !slices.Equal(p.Network.Use, []Name{"one", "origin", "two"}) {
		t.Errorf("got %q", p.Network.Use)
	}
	if at := p.Origins.All()["network.rule[2].host"]; at != (Place{BuiltIn, "built-in/sets/one.toml", 5, 1}) {
		t.Errorf("got %+v", at)
	}
	f.User = nil
	if p := loaded(t, "a", f); !p.Network.Rules[2].Model {
		t.Errorf("got %+v", p.Network.Rules)
	}
	if names := f.SetNames(); !slices.Equal(names, []string{"one", "origin", "three", "two"}) {
		t.Errorf("got %q", names)
	}
	f.User = tree("profiles/a.toml", "network.use = [\"three\", \"...\", \"free\"]")
	wantTold(t, "a", f, `~/.config/agentbox/profiles/a.toml:2:32: [unknown-set] there is no named set "free"`,
		`built-in/sets/three.toml:2:9: [not-toml] not valid TOML: expected = after a key, but the document ends there`)
}

func TestNames(t *testing.T) {
	f := Files{
		BuiltIn: tree("claude.toml", program, "sets/npm.toml", ""),
		Repo:    tree("agentbox.toml", "", ".agentbox/billing.toml", "", ".agentbox/Bad Name.toml", "", ".agentbox/claude.toml", ""),
		User:    tree("agentbox.toml", "", "profiles/mine.toml", ""),
	}
	if got := f.Names(); !slices.Equal(got, []string{"billing", "claude", "mine"}) {
		t.Errorf("got %q", got)
	}
	if got := f.RepoNames(); !slices.Equal(got, []string{"billing", "claude"}) {
		t.Errorf("got %q", got)
	}
	if got := (Files{}).Names(); got != nil {
		t.Errorf("got %q", got)
	}
	for _, name := range []string{"cluade", "Bad Name", "../claude", "claude.toml", "", ".", "CLAUDE", "agentbox"} {
		_, err := Load(name, f)
		var missing *NotFound
		if !errors.As(err, &missing) || !slices.Equal(missing.Names, f.Names()) {
			t.Errorf("%q: %v", name, err)
		}
	}
	_, err := Load("cluade", f)
	if hint := err.(*NotFound).Hint(); hint != `did you mean "claude"? profiles: billing, claude, mine` {
		t.Error(hint)
	}
}

// refusing is a file system in which one file cannot be opened.
type refusing struct {
	fs.FS
	name string
	err  error
}

func (r refusing) Open(name string) (fs.File, error) {
	if name == r.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: r.err}
	}
	return r.FS.Open(name)
}

// A file that is there and cannot be read is never passed over: it might have denied something.
func TestAFileThatCannotBeReadIsNotPassedOver(t *testing.T) {
	base := tree("a.toml", program+"network.use = [\"s\"]\n", "sets/s.toml", "description = \"x\"\nrule = [{ action = \"deny\", host = \"a.test\" }]\n")
	odd := errors.New("it is owned by somebody else")
	for _, c := range []struct {
		files Files
		want  string
	}{
		{Files{BuiltIn: base, Repo: refusing{tree(), "agentbox.toml", fs.ErrPermission}}, "reading agentbox.toml: permission denied"},
		{Files{BuiltIn: base, Repo: refusing{tree(), ".agentbox/a.toml", odd}}, "reading .agentbox/a.toml: it is owned by somebody else"},
		{Files{BuiltIn: base, User: refusing{tree(), "profiles/a.toml", fs.ErrPermission}, UserDir: "~/c"}, "reading ~/c/profiles/a.toml: permission denied"},
		{Files{BuiltIn: base, User: refusing{tree(), "sets/s.toml", fs.ErrPermission}, UserDir: "~/c"}, "reading ~/c/sets/s.toml: permission denied"},
		{Files{BuiltIn: refusing{base, "sets/s.toml", fs.ErrInvalid}}, "reading built-in/sets/s.toml: invalid argument"},
		{Files{BuiltIn: base, Repo: tree("agentbox.toml/x", "")}, "reading agentbox.toml: it is not a regular file"},
		{Files{BuiltIn: base, Repo: tree(".agentbox/a.toml/x", "")}, "reading .agentbox/a.toml: it is not a regular file"},
		{Files{BuiltIn: base, Repo: fstest.MapFS{"agentbox.toml": {Mode: fs.ModeNamedPipe}}}, "reading agentbox.toml: it is not a regular file"},
	} {
		_, err := Load("a", c.files)
		if err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	none := refusing{tree(), "agentbox.toml", fs.ErrNotExist}
	if _, err := Load("a", Files{BuiltIn: base, Repo: none, User: none}); err != nil {
		t.Error(err)
	}
}

// said lays upper on lower as Print writes them: what is zero, or nil, is not said.
func said(lower, upper reflect.Value) reflect.Value {
	out := reflect.New(upper.Type()).Elem()
	out.Set(upper)
	switch {
	case upper.Type() == reflect.TypeFor[Origins]():
	case plainStruct(upper.Type()):
		for i := range upper.NumField() {
			out.Field(i).Set(said(lower.Field(i), upper.Field(i)))
		}
	case upper.Kind() == reflect.Map:
		if lower.IsNil() {
			break
		}
		both := reflect.MakeMap(upper.Type())
		for _, m := range []reflect.Value{lower, upper} {
			for _, k := range m.MapKeys() {
				both.SetMapIndex(k, m.MapIndex(k))
			}
		}
		out.Set(both)
	case upper.Kind() == reflect.Slice && plainStruct(upper.Type().Elem()):
		list := slices.Collect(func(yield func(reflect.Value) bool) {
			for i := range lower.Len() {
				yield(lower.Index(i))
			}
		})
		for i := range upper.Len() {
			list = added(list, upper.Index(i))
		}
		out.Set(reflect.Append(reflect.Zero(upper.Type()), list...))
	case upper.IsZero():
		out.Set(lower)
	}
	return out
}

func added(list []reflect.Value, v reflect.Value) []reflect.Value {
	name := map[reflect.Type]string{reflect.TypeFor[File](): "Path", reflect.TypeFor[GitRule](): "Remote", reflect.TypeFor[Mount](): "Source", reflect.TypeFor[Credential](): "Name", reflect.TypeFor[Server](): "Name"}[v.Type()]
	for i := range list {
		if name != "" && list[i].FieldByName(name).String() == v.FieldByName(name).String() {
			list[i] = v
			return list
		}
	}
	return append(list, v)
}

// Layers of random profiles give what laying their values on each other gives, and each value's place is a line of the
// file that has its key.
func TestLayersOfRandomProfiles(t *testing.T) {
	fine := 0
	for seed := range uint64(600) {
		d := dice{rand.New(rand.NewPCG(seed, 1))} //nolint:gosec // not a secret
		lower, upper := d.profile(), d.profile()
		lower.Network.Use, upper.Network.Use = nil, nil
		files := Files{
			BuiltIn: fstest.MapFS{"x.toml": {Data: Print(lower, false)}},
			User:    fstest.MapFS{"profiles/x.toml": {Data: Print(upper, d.maybe())}}, UserDir: "~",
		}
		l, err := Load("x", files)
		if err != nil {
			continue // together they may contradict each other
		}
		fine++
		want := placeless(said(reflect.ValueOf(lower), reflect.ValueOf(upper)).Interface().(Profile))
		if got := placeless(l.Profile); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d:\ngot  %+v\nwant %+v", seed, got, want)
		}
		checkPlaces(t, l.Profile, map[string]string{"built-in/x.toml": string(Print(lower, false)), "~/profiles/x.toml": string(files.User.(fstest.MapFS)["profiles/x.toml"].Data)})
	}
	if fine < 200 {
		t.Errorf("only %d were valid", fine)
	}
}

func checkPlaces(t *testing.T, p Profile, files map[string]string) {
	t.Helper()
	for path, at := range p.Origins.All() {
		lines := strings.Split(files[at.File], "\n")
		line := lines[at.Line-1]
		key := path[strings.LastIndexByte(path, '.')+1:]
		key, _, element := strings.Cut(key, "[")
		runes := []rune(line)
		rest := string(runes[at.Col-1:])
		if !element && !strings.HasPrefix(rest, key+" =") || element && !strings.ContainsAny(rest[:1], `["'`) {
			t.Errorf("%s is not at %+v: %q", path, at, line)
		}
	}
}

// A grant answers what a rule asks about, so it decides; of what a rule denies it never does.
func TestAGrantDecidesWhereARuleAsks(t *testing.T) {
	for action, warned := range map[string]bool{"ask": false, "deny": true} {
		l, err := Load("x", Files{
			BuiltIn: fstest.MapFS{"x.toml": {Data: []byte("version = 1\n[agent]\ncommand = [\"x\"]\n[[network.rule]]\naction = \"" + action + "\"\nhost = \"a.test.example\"\n")}},
			Grants:  []byte("version = 1\nrepo = \"/r\"\n[[network.rule]]\naction = \"allow\"\nhost = \"a.test.example\"\nmethods = [\"POST\"]\n"), GrantsFile: "grants/x.toml",
		})
		if err != nil || (len(l.Warnings) > 0) != warned {
			t.Errorf("%s: %v, %v", action, err, l.Warnings)
		}
	}
}
