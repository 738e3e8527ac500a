package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"agentbox/internal/plan"
	"agentbox/internal/policy"
	"agentbox/internal/profiles"
	"agentbox/internal/trust"
	builtin "agentbox/profiles"
)

// consentCase is a repository whose layers were accepted once, and are otherwise now.
type consentCase struct {
	t           *testing.T
	repo, state string
	user        map[string]string // the person's own files
}

func newConsentCase(t *testing.T) *consentCase {
	repo, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &consentCase{t: t, repo: repo, state: t.TempDir()}
}

// wider is what a run would ask about.
func (c *consentCase) wider(agentbox string, floors profiles.Floors, fl flags) consent {
	c.t.Helper()
	snapshot := map[string][]byte{"agentbox.toml": []byte(agentbox)}
	user := fstest.MapFS{}
	for name, text := range c.user {
		user[name] = &fstest.MapFile{Data: []byte(text)}
	}
	l := layers{repo: c.repo, state: c.state, uid: os.Getuid(), snapshot: snapshot,
		files: profiles.Files{BuiltIn: builtin.Files(), Repo: trust.FS(snapshot), User: user, UserDir: "~/.config/agentbox"}}
	d, err := l.decide("shell", floors, fl)
	if err != nil {
		c.t.Fatal(err)
	}
	return d.consent
}

func (c *consentCase) accepted(agentbox string) {
	c.t.Helper()
	if err := c.wider(agentbox, profiles.Floors{}, flags{}).accept(true, time.Now()); err != nil {
		c.t.Fatal(err)
	}
}

func (c *consentCase) asks(got consent, want ...string) {
	c.t.Helper()
	texts := make([]string, len(got.wider))
	for i, ch := range got.wider {
		texts[i] = ch.Text
	}
	if len(texts) != len(want) {
		c.t.Fatalf("asks about %q, want %q", texts, want)
	}
	for i := range want {
		if !strings.Contains(texts[i], want[i]) {
			c.t.Errorf("asks about %q, want %q", texts[i], want[i])
		}
	}
}

const careful = "version = 1\n[workspace]\nmode = \"readonly\"\n[budget]\ntime = \"1m\"\n"

// The agent deletes what held it, and the next run happens to be given flags that say the same. Once it is recorded as
// widening nothing, the run after that, without flags, would be asked about nothing.
func TestFlagsDoNotHideWhatIsLoosened(t *testing.T) {
	c := newConsentCase(t)
	c.accepted(careful)
	minute := time.Minute
	c.asks(c.wider("version = 1\n", profiles.Floors{}, flags{mode: plan.ReadOnly, timeout: &minute}), "works on a copy of your repository", "without a time limit")
}

// Without the flags the profile is refused by its own tier, so that what they hide can't be judged: then nothing is
// recorded, and the next run asks.
func TestWhatCannotBeJudgedIsNotRecorded(t *testing.T) {
	c := newConsentCase(t)
	c.accepted("version = 1\ntier = \"medium\"\n[workspace]\nmode = \"readonly\"\n[budget]\ntime = \"1m\"\n")
	loose := "version = 1\ntier = \"medium\"\n[workspace]\nmode = \"direct\"\n[budget]\ntime = \"8h\"\n"
	minute := time.Minute
	with := c.wider(loose, profiles.Floors{}, flags{mode: plan.ReadOnly, timeout: &minute})
	if err := with.accept(false, time.Now()); err != nil {
		t.Fatal(err)
	}
	c.asks(c.wider(loose, profiles.Floors{}, flags{mode: plan.ReadOnly}), "8h instead of 1m")
}

// Who says nothing gets the review mode, so that a repository which writes to the person's files at once is asked about.
func TestTheDirectModeIsWiderThanNothingSaid(t *testing.T) {
	const direct = "version = 1\n[workspace]\nmode = \"direct\"\n"
	c := newConsentCase(t)
	c.asks(c.wider(direct, profiles.Floors{}, flags{}), "writes to your files as it goes (the mode was review)")
	c.accepted("version = 1\n")
	c.asks(c.wider(direct, profiles.Floors{}, flags{mode: plan.Review}), "writes to your files as it goes (the mode was review)")
}

// The same under an organisation's policy, which may be gone or other tomorrow.
func TestFloorsDoNotHideWhatIsLoosened(t *testing.T) {
	c := newConsentCase(t)
	c.accepted(careful)
	floors := profiles.Floors{Workspace: profiles.FloorWorkspace{Mode: "readonly"}, Budget: profiles.Budget{Time: profiles.Duration(time.Minute)}}
	c.asks(c.wider("version = 1\n", floors, flags{}), "works on a copy of your repository", "without a time limit")
}

// The same under what a person forbids, or allows already, in layers of their own.
func TestOwnLayersDoNotHideWhatIsWidened(t *testing.T) {
	const rule = "[[network.rule]]\naction = %q\nhost = \"evil.example.com\"\n"
	for name, own := range map[string]string{"denied": "deny", "allowed": "allow"} {
		t.Run(name, func(t *testing.T) {
			c := newConsentCase(t)
			c.user = map[string]string{"agentbox.toml": "version = 1\n" + strings.ReplaceAll(rule, "%q", `"`+own+`"`)}
			c.asks(c.wider("version = 1\n"+strings.ReplaceAll(rule, "%q", `"allow"`), profiles.Floors{}, flags{}), "allows every method to evil.example.com")
		})
	}
}

// What nothing hides is asked about once.
func TestNothingIsAskedTwice(t *testing.T) {
	c := newConsentCase(t)
	c.asks(c.wider("version = 1\n[[network.rule]]\naction = \"allow\"\nhost = \"a.example.com\"\n", profiles.Floors{}, flags{}), "a.example.com")
	only := profiles.Floors{Network: profiles.FloorNetwork{Only: []policy.Pattern{}}}
	c.asks(c.wider(careful, only, flags{}))
}

// What a repository says is repeated in errors, plans and questions, on a terminal and in the log of a CI runner, which
// takes a line that begins with "::", behind blanks too, and "##[" anywhere for a command.
func TestWhatIsSaidIsNoCommand(t *testing.T) {
	for hostile, want := range map[string]string{
		"open .agentbox/\x1b[2J\n::error::forged\n\xff.toml": "agentbox: open .agentbox/\\u001b[2J\n\\u003a:error::forged\n\\ufffd.toml\n",
		"x\n   ::error::y":      "agentbox: x\n   \\u003a:error::y\n",
		"##[error]x":            "agentbox: ##\\u005berror]x\n",
		"a\u202eb\u200fc\u2028": "agentbox: a\\u202eb\\u200fc\\u2028\n",
		"→ “a::b” [##] 1|\ty":   "agentbox: → “a::b” [##] 1|    y\n",
	} {
		said, err := os.Create(filepath.Join(t.TempDir(), "said"))
		if err != nil {
			t.Fatal(err)
		}
		(&app{err: said}).say("%s", hostile)
		got, err := os.ReadFile(said.Name())
		if err != nil || string(got) != want {
			t.Errorf("%q is said as %q (%v), want %q", hostile, got, err, want)
		}
		if err := said.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A repository that asks for a thousand harmless things cannot hide among them the one that is not: that there are more
// than the screen holds is said last, and no line is longer than a few of a screen.
func TestNothingScrollsAwayUnsaid(t *testing.T) {
	c := consent{profile: "shell", repo: "/r", wider: []plan.Change{{Text: "runs evil"}}}
	for i := range 1000 {
		c.wider = append(c.wider, plan.Change{Text: fmt.Sprintf("sets V%d to %q", i, strings.Repeat("x", 100_000))})
	}
	var b strings.Builder
	writeConsents(&b, []consent{c})
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, "1001 lines") {
		t.Errorf("the last line is %q", last)
	}
	for _, line := range lines {
		if len(line) > 1000 {
			t.Fatalf("a line has %d bytes", len(line))
		}
	}
	if !strings.Contains(lines[3], "characters more") {
		t.Errorf("nothing says that %q is cut", lines[3])
	}
}

// An archive can hold a repository whose configuration is a FIFO: git would wait for somebody to write to it.
func TestARemoteIsNotWaitedFor(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{".git/objects", ".git/refs"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, ".git/HEAD"), []byte("ref: refs/heads/main\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(root, ".git/config"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := originRemote(t.Context(), root); r != (plan.Remote{}) {
		t.Errorf("the remote is %v", r)
	}
}

// A few megabytes of rules that lie under hundreds of small profiles are gigabytes once all of them are known.
func TestManyProfilesWithManyRulesAreBounded(t *testing.T) {
	text := "version = 1\n" + strings.Repeat("[[network.rule]]\naction = \"deny\"\nhost = \"a.example.com\"\n", 45_000)
	files := map[string][]byte{"agentbox.toml": []byte(text)}
	f := builtInFiles()
	f.Repo = trust.FS(files)
	all, looked := crowd{}, 0
	for range 50 {
		if _, _, err := all.granted("shell", f); err != nil {
			if hintOf(err) == "" {
				t.Errorf("%v has no hint", err)
			}
			break
		}
		looked++
	}
	if looked < 6 || looked > 10 { // all the built-in ones, and not many more
		t.Errorf("%d profiles were looked at", looked)
	}
}
