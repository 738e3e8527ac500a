package starter

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

func has(facts []Fact, what string) bool {
	return slices.ContainsFunc(facts, func(f Fact) bool { return f.What == what })
}

// Links, out of the repository and within it, a FIFO and a directory of a file's name: none is read, none hangs.
func TestSurveyFollowsNothing(t *testing.T) {
	outside, repo := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, ".npmrc"), "registry=https://outside.acme.example/\n")
	write(t, filepath.Join(outside, "go.mod"), "module x\n")
	write(t, filepath.Join(repo, "real", "npmrc"), "registry=https://inside.acme.example/\n")
	for link, target := range map[string]string{".npmrc": filepath.Join(outside, ".npmrc"), "sub": outside, "real/.npmrc": "npmrc", "loop": "."} {
		if err := os.Symlink(target, filepath.Join(repo, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(repo, "pip.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(repo, "Cargo.toml"), 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(repo)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	for name, fsys := range map[string]fs.FS{"os.Root": root.FS(), "os.DirFS": os.DirFS(repo)} {
		if f := Survey(fsys, nil); len(f.Registries)+len(f.Needs)+len(f.Hide) != 0 {
			t.Errorf("%s: something was followed: %+v", name, f)
		}
	}
}

// A FIFO that takes the place of a file which was regular when it was listed does not hang the survey either: its
// content is not read once it is open.
func TestSurveyReadsRegularFilesOnly(t *testing.T) {
	f := Survey(turned{fstest.MapFS{".npmrc": {Data: []byte("registry=https://npm.acme.example/\n"), Mode: 0o644}}}, nil)
	if len(f.Registries) != 0 {
		t.Errorf("a file that is not regular any more was read: %+v", f.Registries)
	}
}

// turned gives files that are pipes once they are open.
type turned struct{ fstest.MapFS }

func (t turned) Open(name string) (fs.File, error) {
	f, err := t.MapFS.Open(name)
	if err != nil || name == "." {
		return f, err
	}
	return pipe{f}, nil
}

type pipe struct{ fs.File }

func (p pipe) Stat() (fs.FileInfo, error) {
	info, err := p.File.Stat()
	return pipeInfo{info}, err
}

type pipeInfo struct{ fs.FileInfo }

func (pipeInfo) Mode() fs.FileMode { return fs.ModeNamedPipe }

func TestSurveyStaysWithinBounds(t *testing.T) {
	in := strings.Repeat("d/", maxLevels)
	deep := fstest.MapFS{in + "d/id_dsa": {}, in + "id_rsa": {}, "a/b/c/d/go.mod": {}, "a/b/c/Cargo.toml": {}}
	if f := Survey(deep, nil); len(f.Hide) != 1 || !has(f.Hide, in+"id_rsa") || has(f.Needs, "go") || !has(f.Needs, "crates") || !f.Partial {
		t.Errorf("deep: %+v", f)
	}
	wide := fstest.MapFS{"zzz/go.mod": {Data: []byte("x")}}
	for i := range maxEntries {
		wide[fmt.Sprintf("aaa/%06d", i)] = &fstest.MapFile{}
	}
	if f := Survey(wide, nil); has(f.Needs, "go") || !f.Partial {
		t.Errorf("wide: needs %v, partial %v", f.Needs, f.Partial)
	}
	many := fstest.MapFS{}
	for i := range maxReads + 10 {
		many[fmt.Sprintf("%03d/.npmrc", i)] = &fstest.MapFile{Data: fmt.Appendf(nil, "registry=https://r%03d.acme.example/\n", i)}
	}
	if f := Survey(many, nil); len(f.Registries) > maxReads || len(f.Registries) == 0 || !f.Partial {
		t.Errorf("many: %d registries, partial %v", len(f.Registries), f.Partial)
	}
	large := fstest.MapFS{".npmrc": {Data: []byte(strings.Repeat("#\n", maxContent) + "registry=https://npm.acme.example/\n")}}
	if f := Survey(large, nil); len(f.Registries) != 0 {
		t.Errorf("a file was read beyond its bound: %+v", f.Registries)
	}
}

func TestSurveyFindsOrigin(t *testing.T) {
	tests := []struct {
		remotes []string
		host    string
		works   bool
	}{
		{nil, "", false},
		{[]string{"", "https://github.com/a/b"}, "", false},
		{[]string{"https://github.com/a/b.git"}, "github.com", true},
		{[]string{"https://you:TOPSECRET@github.com/a/b.git"}, "github.com", true},
		{[]string{"git@github.com:a/b.git"}, "github.com", true},
		{[]string{"ssh://git@git.acme.example:2222/a/b"}, "git.acme.example", true},
		{[]string{"http://github.com/a/b"}, "github.com", false},
		{[]string{"../other"}, "", false},
		{[]string{"https://10.0.0.1/a/b"}, "", false},
	}
	for _, test := range tests {
		got := Survey(fstest.MapFS{}, test.remotes).Origin
		if got.Host != test.host || got.Host != "" && (got.Problem == "") != test.works {
			t.Errorf("%q: %+v", test.remotes, got)
		}
	}
}

// A profile lies over what a team or a person says for every profile: a first one says nothing that would loosen it.
func TestInitLeavesTheTeamsTierModeAndTimeAlone(t *testing.T) {
	free := string(Profile(Facts{}, Options{Name: "a", Base: "claude"}))
	held := string(Profile(Facts{}, Options{Name: "a", Base: "claude", Time: Fact{"1h", "agentbox.toml"}}))
	for _, got := range []string{free, held} {
		p := loads(t, []byte(got)).Profile
		for _, never := range []string{"\ntier", "\nmode"} {
			if strings.Contains(got, never) {
				t.Errorf("%q is active:\n%s", never, got)
			}
		}
		if p.Tier != "" && p.Tier != "low" {
			t.Errorf("the tier is %q", p.Tier)
		}
	}
	if !strings.Contains(free, "\ntime = \"2h\"") {
		t.Errorf("nobody said a time, and the profile has none:\n%s", free)
	}
	if strings.Contains(held, "\ntime") || !strings.Contains(held, "1h by agentbox.toml") {
		t.Errorf("the team's time is not left alone:\n%s", held)
	}
}

func TestInitOnAShellSpeaksOfNoModel(t *testing.T) {
	got := string(Profile(Facts{}, Options{Name: "a", Base: "shell"}))
	if strings.Contains(got, "model") || !strings.Contains(got, "description = \"Commands in a\"") {
		t.Errorf("got:\n%s", got)
	}
}

// Comments are read in windows of a hundred columns, whatever is in the repository.
func TestInitWritesLinesOfAHundredColumns(t *testing.T) {
	long := strings.Repeat("some-directory/", 4) + "file.json"
	f := Facts{Languages: []string{"Go", "Python"}, Hide: []Fact{{"x", long}}, Tracked: []Fact{{"y", long}}, Registries: []Fact{{"npm.acme.example", long}},
		Packages: []Fact{{"apt", long}}, Devcontainer: ".devcontainer/devcontainer.json", Partial: true}
	for line := range strings.Lines(string(Profile(f, Options{Name: strings.Repeat("a", 30), Base: "claude", Sets: builtInSets(t)}))) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > mostColumns {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestSecretsAreFoundDeepAndByName(t *testing.T) {
	files := fstest.MapFS{}
	names := []string{"gcp-credentials-prod.json", "my-service-account-1.json", "id_rsa_deploy", "tls.key", ".netrc", ".pypirc", "kubeconfig"}
	for _, name := range names {
		files["a/b/c/d/e/"+name] = &fstest.MapFile{Data: []byte("x")}
	}
	files["a/b/c/d/e/id_rsa.pub"] = &fstest.MapFile{Data: []byte("x")}
	f := Survey(files, nil)
	for _, name := range names {
		if !has(f.Hide, "a/b/c/d/e/"+name) {
			t.Errorf("%s is not hidden: %v", name, f.Hide)
		}
	}
	if len(f.Hide) != len(names) || f.Partial {
		t.Errorf("hidden are %v, partial %v", f.Hide, f.Partial)
	}
}

// A bound that was hit is said where people look, in the profile and on the terminal.
func TestABoundThatWasHitIsSaid(t *testing.T) {
	f := Survey(fstest.MapFS{strings.Repeat("d/", maxLevels+1) + ".env": {Data: []byte("x")}}, nil)
	if !strings.Contains(strings.Join(f.Lines(), "\n"), "secrets deeper in it may be missing") ||
		!strings.Contains(string(Profile(f, Options{Name: "a", Base: "claude"})), "secrets deeper in it may be missing") {
		t.Errorf("it is not said: %q", f.Lines())
	}
}

func TestTrackedFilesAreNotHidden(t *testing.T) {
	facts := Facts{Hide: []Fact{{".env", ".env"}, {".env.local", ".env.local"}}}
	facts = facts.Spare(func(p string) bool { return p == ".env" })
	got := string(Profile(facts, Options{Name: "a", Base: "claude"}))
	if !strings.Contains(got, "\n  # \".env\",") || !strings.Contains(got, "\n  \".env.local\",") {
		t.Errorf("got:\n%s", got)
	}
	hide := loads(t, []byte(got)).Profile.Workspace.Hide
	if slices.Contains(hide, ".env") || !slices.Contains(hide, ".env.local") {
		t.Errorf("hidden are %q", hide)
	}
}

func TestNameFrom(t *testing.T) {
	for in, want := range map[string]string{"billing": "billing", "Acme Billing!": "acme-billing", "--x--": "x", "日本": "", "a..b": "a-b",
		strings.Repeat("ab-", 40): strings.TrimSuffix(strings.Repeat("ab-", 21), "-")} {
		if got := NameFrom(in); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

func TestLinesShowNoControls(t *testing.T) {
	f := Facts{Hide: []Fact{{"a", "x\x1b[31m\n\u202ey"}}, Makefile: "Make\rfile"}
	for _, line := range f.Lines() {
		if strings.ContainsAny(line, "\x1b\r\n\u202e") {
			t.Errorf("%q", line)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestQuoteEscapesWhatIsNotSeen(t *testing.T) {
	if got, want := quote("a\"\\\n\x1b\u202e\U000E0001é"), `"a\"\\\u000A\u001B\u202E\U000E0001é"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
