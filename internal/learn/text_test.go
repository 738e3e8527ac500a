package learn

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

// What Edit writes loads, and says what the proposal says.
func TestEditWritesWhatIsProposed(t *testing.T) {
	var log []string
	for i := range 20 {
		log = append(log, fmt.Sprintf("GET a.test/some/longer/path/%d/%d", i, i))
	}
	p := Propose(Input{Rules: policy.Set{Default: policy.Deny}, Log: refusedRequests(append(log, "POST b.test/a*b/%C3%A9", "CONNECT c.test")...)})
	for _, text := range []string{"", "version = 1\n", "version = 1\n[network]\ndefault = \"deny\"", "version = 1\n\n[[network.rule]]\naction = \"allow\"\nhost = \"z.test\"\n\n\n"} {
		edited, ok := Edit(text, p)
		if !ok {
			t.Fatalf("%q can't be edited", text)
		}
		loaded, err := profiles.Parse("x", []byte(edited+"\n[agent]\ncommand = [\"x\"]\n"), "x.toml")
		if err != nil {
			t.Fatalf("%v\n%s", err, edited)
		}
		var got []string
		for _, r := range loaded.Profile.Network.Rules {
			got = append(got, fmt.Sprint(r.Host, r.Methods, r.Paths))
		}
		for _, r := range p.Rules {
			if want := fmt.Sprint(r.Host, r.Methods, r.Texts()); !strings.Contains(strings.Join(got, "\n"), want) {
				t.Errorf("%s is not in %q", want, got)
			}
		}
	}
}

func TestEditAddsToUse(t *testing.T) {
	p := Proposal{Sets: []SetUse{{Set: profiles.NamedSet{Name: "npm"}}, {Set: profiles.NamedSet{Name: "go"}}}}
	for before, want := range map[string]string{
		"": "version = 1\n\n[network]\nuse = [\"...\", \"npm\", \"go\"]\n",
		"version = 1\n[network]\nuse = [\"...\", \"pypi\"] # mine\n": "version = 1\n[network]\nuse = [\"...\", \"pypi\", \"npm\", \"go\"] # mine\n",
		"version = 1\n[network]\nuse = []\n":                         "version = 1\n[network]\nuse = [\"npm\", \"go\"]\n",
		"version = 1\n[network] # x\ndefault = \"deny\"\n":           "version = 1\n[network] # x\nuse = [\"...\", \"npm\", \"go\"]\ndefault = \"deny\"\n",
		"version = 1\n[network]\nuse = [\n \"a\",\n]\n":              "cannot",
		"version = 1\nnetwork.use = [\"a\"]\n":                       "cannot",
		"version = 1\nnetwork = { use = [] }\n":                      "cannot",
	} {
		got, ok := Edit(before, p)
		if !ok {
			got = "cannot"
		}
		if got != want {
			t.Errorf("%q:\n got %q\nwant %q", before, got, want)
		}
	}
}

// The real patch makes of the file before and the diff the file after.
func TestADiffIsOneThatPatchApplies(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	text := func(n int) string {
		var b strings.Builder
		for range n {
			fmt.Fprintf(&b, "line %d\n", r.IntN(8))
		}
		return b.String()
	}
	for i := range 40 {
		before := text(r.IntN(40))
		after := before
		for range 1 + r.IntN(3) {
			at := 0
			if n := strings.Count(after, "\n"); n > 0 {
				at = len(strings.Join(strings.SplitAfter(after, "\n")[:r.IntN(n+1)], ""))
			}
			after = after[:at] + text(1+r.IntN(4)) + after[at:]
		}
		if r.IntN(4) == 0 {
			before = strings.TrimSuffix(before, "\n")
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "f")
		if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		diff := Unified("f", "f", before, after)
		cmd := exec.Command("git", "apply", "--unidiff-zero", "--allow-empty", "-")
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(strings.NewReplacer("--- f", "--- a/f", "+++ f", "+++ b/f").Replace(diff))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%d: %v: %s\n%s", i, err, out, diff)
		}
		if got, _ := os.ReadFile(file); string(got) != after {
			t.Fatalf("%d: got\n%q\nwant\n%q\n%s", i, got, after, diff)
		}
	}
}
