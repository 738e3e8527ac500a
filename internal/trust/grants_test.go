package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/BurntSushi/toml"
)

// another reads a grants file with a reader of TOML that is not the one under test.
type another struct {
	Version int
	Repo    string
	Network struct {
		Rule []struct {
			Action, Host   string
			Ports          []uint16
			Methods, Paths []string
			Scheme         string
			WebSocket      *bool
			Protocol       string
			MaxRequest     string `toml:"max_request"`
			MaxSent        string `toml:"max_sent"`
			Private        []string
		}
	}
}

func readBack(t *testing.T, path string) another {
	t.Helper()
	var a another
	meta, err := toml.DecodeFile(path, &a)
	must(t, err)
	if len(meta.Undecoded()) > 0 {
		t.Fatalf("keys that no profile has: %v", meta.Undecoded())
	}
	return a
}

func newGrants(t *testing.T) Grants {
	t.Helper()
	return GrantsOf(filepath.Join(t.TempDir(), "agentbox"), "/home/ann/Billing Service")
}

func content(t *testing.T, g Grants) string {
	t.Helper()
	data, err := os.ReadFile(g.Path)
	must(t, err)
	return string(data)
}

func api() Rule {
	return Rule{Host: "api.github.com", Ports: []uint16{443}, Methods: []string{"GET", "HEAD"}, Paths: []string{"/repos/**"}}
}

func TestGrantsPath(t *testing.T) {
	for repo, want := range map[string]string{
		"/home/ann/Billing Service": "/c/repos/billing-service-", "/x/.dotfiles": "/c/repos/dotfiles-", "/": "/c/repos/repo-",
		"/x/日本": "/c/repos/repo-", "/x/" + strings.Repeat("a", 300): "/c/repos/" + strings.Repeat("a", 40) + "-",
	} {
		got := GrantsPath("/c", repo)
		if rest, ok := strings.CutPrefix(got, want); !ok || len(rest) != len("12345678.toml") {
			t.Errorf("%s: %s", repo, got)
		}
	}
	if GrantsPath("/c", "/a/x") == GrantsPath("/c", "/b/x") {
		t.Error("two repositories have one file")
	}
}

func TestAddListRemove(t *testing.T) {
	g := newGrants(t)
	if rules, err := g.ListRules(); err != nil || rules != nil {
		t.Fatalf("before anything: %v, %v", rules, err)
	}
	if _, err := g.Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("before anything: %v", err)
	}
	for i, r := range []Rule{api(), {Host: "example.com"}, {Host: "api.github.com", Ports: []uint16{8443}}} {
		if added, err := g.AddRule(r, noon()); err != nil || !added {
			t.Fatalf("rule %d: %v, %v", i, added, err)
		}
	}
	want := preamble + `version = 1
repo = "/home/ann/Billing Service"

# added 2026-01-02T12:00:00Z
[[network.rule]]
action = "allow"
host = "api.github.com"
ports = [443]
methods = ["GET", "HEAD"]
paths = ["/repos/**"]

# added 2026-01-02T12:00:00Z
[[network.rule]]
action = "allow"
host = "example.com"
ports = [443]

# added 2026-01-02T12:00:00Z
[[network.rule]]
action = "allow"
host = "api.github.com"
ports = [8443]
`
	if got := content(t, g); got != want {
		t.Fatalf("the file is\n%s", got)
	}
	if data, err := g.Read(); err != nil || string(data) != want {
		t.Errorf("read: %q, %v", data, err)
	}
	same := api()
	slices.Reverse(same.Methods)
	for _, r := range []Rule{same, {Host: "example.com", Ports: []uint16{443, 443}}} {
		if added, err := g.AddRule(r, noon()); err != nil || added || content(t, g) != want {
			t.Errorf("a rule that is there: %v, %v", added, err)
		}
	}
	rules, err := g.ListRules()
	must(t, err)
	if len(rules) != 3 || rules[0].Number != 1 || rules[2].Number != 3 || !rules[1].Added.Equal(noon()) || rules[0].Line != 7 ||
		rules[0].Text != "allow GET, HEAD of api.github.com port 443 at /repos/**" || rules[1].Text != "allow every method of example.com port 443 at every path" {
		t.Errorf("listed %+v", rules)
	}
	if removed, err := g.RemoveRule("2"); err != nil || len(removed) != 1 || removed[0].Host != "example.com" {
		t.Fatalf("removed %+v, %v", removed, err)
	}
	if strings.Contains(content(t, g), "example.com") || len(readBack(t, g.Path).Network.Rule) != 2 {
		t.Errorf("after removing:\n%s", content(t, g))
	}
	if removed, err := g.RemoveRule("API.github.com"); err != nil || len(removed) != 2 {
		t.Fatalf("removed %+v, %v", removed, err)
	}
	if got := content(t, g); got != preamble+"version = 1\nrepo = \"/home/ann/Billing Service\"\n" {
		t.Errorf("after removing all:\n%q", got)
	}
	before := content(t, g)
	_, err = g.RemoveRule("1")
	wantError(t, err, `no rule "1"`)
	if content(t, g) != before {
		t.Error("the file changed")
	}
}

// What a person wrote into the file stays, byte for byte.
func TestAnEditedFileKeepsWhatIsInIt(t *testing.T) {
	g := newGrants(t)
	const first = "# mine\r\nversion   = 1 # yes\nrepo = '/home/ann/Billing Service'\ntier=\"high\"\n"
	const middle = "[workspace]   # stays\nhide = [ \"a\",\n  # why\n  \"b\" ]\n\n"
	const rule1 = "[[ network . \"rule\" ]]  # first\naction = \"deny\"\nhost = 'one.example.com'\npaths = [\n  '/a', # [[network.rule]]\n]\n\n"
	const rule2 = "# added 2026-01-02T12:00:00Z\n[[network.rule]]\naction = \"allow\"\n# inner\nhost = \"\"\"\ntwo.example.com\"\"\"\ninspect = false\n"
	const tail = "# after two\n\n[limits]\npids = 5\nx = '''\n# added 2026-01-02T12:00:00Z\n[[network.rule]]\n'''"
	reset := func() {
		must(t, os.MkdirAll(filepath.Dir(g.Path), 0o700))
		must(t, os.WriteFile(g.Path, []byte(first+rule1+middle+rule2+tail), 0o600))
	}
	reset()
	rules, err := g.ListRules()
	must(t, err)
	if len(rules) != 2 || rules[0].Action != "deny" || rules[1].Host != "two.example.com" || !strings.Contains(rules[1].Text, "says more") || rules[0].Line != 5 {
		t.Fatalf("%+v", rules)
	}
	_, err = g.RemoveRule("two.example.com")
	must(t, err)
	if got := content(t, g); got != first+rule1+middle+tail {
		t.Errorf("without the second:\n%s", got)
	}
	_, err = g.RemoveRule("1")
	must(t, err)
	if got := content(t, g); got != first+middle+tail {
		t.Errorf("without both:\n%s", got)
	}
	reset()
	if added, err := g.AddRule(Rule{Host: "two.example.com"}, noon()); err != nil || !added {
		t.Fatalf("a rule that is not the edited one: %v, %v", added, err)
	}
	if got := content(t, g); !strings.HasPrefix(got, first+rule1+middle+rule2+tail+"\n\n# added ") {
		t.Errorf("with a third:\n%s", got)
	}
	if rules, err := g.ListRules(); err != nil || len(rules) != 3 {
		t.Errorf("%+v, %v", rules, err)
	}
}

// A comment that belongs to nobody's rule, and a mark with a line between, stay.
func TestOnlyTheMarkDirectlyAboveGoes(t *testing.T) {
	g := newGrants(t)
	const head = "version = 1\nrepo = \"/home/ann/Billing Service\"\n"
	for _, above := range []string{"# added 2026-01-02T12:00:00Z\n\n", "# added yesterday\n", "# a note\n"} {
		must(t, os.MkdirAll(filepath.Dir(g.Path), 0o700))
		must(t, os.WriteFile(g.Path, []byte(head+above+"[[network.rule]]\naction = \"allow\"\nhost = \"x.com\"\n# last\n"), 0o600))
		_, err := g.RemoveRule("1")
		must(t, err)
		if got := content(t, g); got != head+above+"# last\n" {
			t.Errorf("%q", got)
		}
	}
}

func TestFilesThatAProgramCannotEdit(t *testing.T) {
	const head = "version = 1\nrepo = \"/home/ann/Billing Service\"\n"
	for name, test := range map[string]struct{ text, add, remove string }{
		"inline rules":        {head + "network.rule = [{action = \"allow\", host = \"x.com\"}]\n", "cannot be changed", "editor"},
		"an inline network":   {head + "network = {rule = [{action = \"allow\", host = \"x.com\"}]}\n", "cannot be changed", "editor"},
		"no TOML":             {head + "x = \n", "grants file", "grants file"},
		"no version":          {"repo = \"/home/ann/Billing Service\"\n", "version = 1", "version = 1"},
		"another version":     {"version = 2\nrepo = \"/home/ann/Billing Service\"\n", "version = 1", "version = 1"},
		"no repository":       {"version = 1\n", "which repository", "which repository"},
		"another repository":  {"version = 1\nrepo = \"/other\"\n", "is about", "is about"},
		"rules are no list":   {head + "[network]\nrule = 5\n", "not a list", "not a list"},
		"rules are no tables": {head + "[network]\nrule = [5]\n", "not a table", "not a table"},
		"a port is none":      {head + "[[network.rule]]\nhost = \"x.com\"\nports = [70000]\n", "not a port", "not a port"},
		"nested too deep":     {head + "x = " + strings.Repeat("[", maxOpen+1), "opening brackets", "opening brackets"},
		"nested with braces":  {head + "x = " + strings.Repeat("{a=", maxOpen+1), "opening brackets", "opening brackets"},
		"nested":              {head + "x = " + strings.Repeat("[", maxOpen), "grants file", "grants file"},
		"invalid UTF-8":       {head + "# \xff\n", "grants file", "grants file"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGrants(t)
			must(t, os.MkdirAll(filepath.Dir(g.Path), 0o700))
			must(t, os.WriteFile(g.Path, []byte(test.text), 0o600))
			_, err := g.AddRule(api(), noon())
			wantError(t, err, test.add)
			_, err = g.RemoveRule("1")
			wantError(t, err)
			if !strings.Contains(err.Error()+err.(interface{ HintText() string }).HintText(), test.remove) {
				t.Errorf("%v", err)
			}
			if content(t, g) != test.text {
				t.Error("the file changed")
			}
		})
	}
}

// Whatever a rule holds comes back from the file as it was, by another reader of TOML too; or it is refused.
func TestWhateverARuleHoldsComesBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	runes := []rune("ab.*/\"\\'#[]{}=\n\r\t\x00\x1f\x7f\u0085\u200b\u202e\u2028é日😀\U000e0001\ufffd\ufeff")
	text := func() string {
		s := make([]rune, 1+random.IntN(12))
		for i := range s {
			s[i] = runes[random.IntN(len(runes))]
		}
		return string(s)
	}
	texts := func() (out []string) {
		for range random.IntN(4) {
			out = append(out, text())
		}
		return out
	}
	for round := range 25 {
		g := GrantsOf(filepath.Join(t.TempDir(), "c"), "/home/"+strings.ReplaceAll(text(), "/", "-"))
		var want []Rule
		before := []string{""}
		for range 5 {
			r := Rule{Host: fmt.Sprintf("%d%s", len(want), text()), Ports: []uint16{uint16(1 + random.IntN(65535))}, Methods: texts(), Paths: texts()}
			if random.IntN(2) == 0 {
				r.Scheme, r.Protocol, r.MaxRequest, r.MaxSent, r.Private = text(), text(), text(), text(), texts()
				r.WebSocket = []string{"", "true", "false"}[random.IntN(3)]
			}
			if len(want) > 0 {
				before = append(before, content(t, g))
			}
			if added, err := g.AddRule(r, noon()); err != nil || !added {
				t.Fatalf("round %d: %s: %v, %v", round, shown(r), added, err)
			}
			want = append(want, r)
		}
		back := readBack(t, g.Path)
		rules, err := g.ListRules()
		must(t, err)
		if back.Repo != g.Repo || back.Version != 1 || len(back.Network.Rule) != len(want) || len(rules) != len(want) {
			t.Fatalf("round %d: %+v", round, back)
		}
		for i, r := range back.Network.Rule {
			got := Rule{r.Host, r.Ports, r.Methods, r.Paths, r.Scheme, "", r.Protocol, r.MaxRequest, r.MaxSent, r.Private}
			if r.WebSocket != nil {
				got.WebSocket = fmt.Sprint(*r.WebSocket)
			}
			if r.Action != "allow" || shown(got) != shown(want[i]) || shown(rules[i].Rule) != shown(want[i]) {
				t.Fatalf("round %d: got %s, want %s", round, shown(got), shown(want[i]))
			}
		}
		// Taking the last back leaves the file that was there before it.
		for i := len(want) - 1; i > 0; i-- {
			_, err := g.RemoveRule(fmt.Sprint(i + 1))
			must(t, err)
			if got := content(t, g); got != before[i] {
				t.Fatalf("round %d: after removing %d:\n%q\nwant\n%q", round, i+1, got, before[i])
			}
		}
	}
}

// shown is all of a rule, with empty lists as no lists.
func shown(r Rule) string {
	return fmt.Sprintf("%q %d %q %q %q %q %q %q %q %q", r.Host, r.Ports, r.Methods, r.Paths, r.Scheme, r.WebSocket, r.Protocol, r.MaxRequest, r.MaxSent, r.Private)
}

func TestRulesThatNoFileHolds(t *testing.T) {
	g := newGrants(t)
	for _, r := range []Rule{{}, {Host: "\xff"}, {Host: "x", Ports: []uint16{0}}, {Host: "x", Methods: []string{""}}, {Host: "x", Paths: []string{"/\xff"}}, {Host: "x", WebSocket: "yes"}, {Host: "x", Scheme: "\xff"}, {Host: "x", Private: []string{""}}} {
		_, err := g.AddRule(r, noon())
		wantError(t, err, "grants file")
	}
	if _, err := os.Lstat(g.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
}

func TestConcurrentGrants(t *testing.T) {
	g := newGrants(t)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if _, err := g.AddRule(Rule{Host: fmt.Sprintf("h%d.example.com", i)}, noon()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if rules, err := g.ListRules(); err != nil || len(rules) != 10 {
		t.Errorf("%d rules, %v", len(rules), err)
	}
}

func TestGrantsThatOthersCouldHaveWritten(t *testing.T) {
	g := newGrants(t)
	_, err := g.AddRule(api(), noon())
	must(t, err)
	if info, _ := os.Stat(g.Path); info.Mode() != 0o600 {
		t.Errorf("mode is %v", info.Mode())
	}
	must(t, os.Chmod(g.Path, 0o606))
	_, err = g.Read()
	wantError(t, err, "other users")
	must(t, os.Rename(g.Path, g.Path+".real"))
	must(t, os.Symlink(g.Path+".real", g.Path))
	_, err = g.ListRules()
	wantError(t, err, "symbolic link")
	_, err = g.AddRule(Rule{Host: "x.com"}, noon())
	wantError(t, err, "symbolic link")
}

func TestAllGrants(t *testing.T) {
	config := filepath.Join(t.TempDir(), "agentbox")
	if all, err := AllGrants(config); err != nil || len(all) != 0 {
		t.Errorf("nothing: %v, %v", all, err)
	}
	for _, repo := range []string{"/x/b", "/x/a"} {
		_, err := GrantsOf(config, repo).AddRule(api(), noon())
		must(t, err)
	}
	all, err := AllGrants(config)
	if err != nil || len(all) != 2 || all[0].Repo != "/x/a" || all[1].Repo != "/x/b" {
		t.Errorf("%+v, %v", all, err)
	}
	must(t, os.Rename(all[0].Path, filepath.Join(config, "repos", "copy.toml")))
	all, err = AllGrants(config)
	if err == nil || !strings.Contains(err.Error(), "another file") || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
}

// However a file is written: what is removed from it is the rule alone, or nothing is.
func FuzzGrantsFile(f *testing.F) {
	const head = "version = 1\nrepo = \"/r\"\n"
	for _, seed := range []string{
		"", "[[network.rule]]\nhost = \"a\"\n", "# added 2026-01-02T12:00:00Z\r\n[[network.rule]]\r\nhost = 'a'\r\n\r\n[[network.rule]]\r\n",
		"[network]\nuse = []\n[[network.rule]]\n[network.rule.x]\ny = 1\n[[network.rule]]\n", "network.rule = [{}, {host = \"b\"}]",
		"[[network.rule]]\nx = '''\n[[network.rule]]\n'''\n# end", "[[network.rule]] # a\n#b\n[a]#c\n", "\xef\xbb\xbf", "[[network.rule.x]]\n",
		"x = " + strings.Repeat("[", 5000),
	} {
		f.Add(head + seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := parse([]byte(text))
		if err != nil || len(doc.spans) == 0 {
			return
		}
		for i := range doc.granted {
			edited := cut(doc.data, doc.spans[i:i+1])
			keep := slices.Delete(slices.Clone(doc.granted), i, i+1)
			if err := verify(doc, edited, keep); err != nil {
				t.Errorf("removing rule %d: %v\n%q\nbecame\n%q", i+1, err, text, edited)
			}
		}
		added := appendRule(doc.data, api(), noon())
		if err := verify(doc, added, append(slices.Clone(doc.granted), Granted{Rule: api(), Action: "allow"})); err != nil {
			t.Errorf("adding: %v\n%q\nbecame\n%q", err, text, added)
		}
	})
}
