package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"agentbox/internal/site"
)

const top = "../.."

// verb is agentbox with a verb, at the beginning of a line.
var verb = regexp.MustCompile(`(?m)^(\$ )?agentbox [a-z-]+(\s|$)`)

// Nothing that looks like a command passes for something else.
func TestEveryBlockIsWhatItLooksLike(t *testing.T) {
	blocks, err := Read(top)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, b := range blocks {
		if b.Kind == Nothing && b.Language == "" && verb.MatchString(b.Text) {
			t.Errorf("%s:%d: it has commands of agentbox's, and its first line is none.\n"+
				"Fence commands with ```sh, commands with output as ```console (what is typed behind \"$ \"), and output alone as ```text.", b.Page, b.Line)
		}
		if b.Kind == Runs {
			count++
		}
	}
	if count < 20 {
		t.Errorf("only %d blocks are run", count)
	}
}

// A block that is not run holds at least one command that would be; else the comment says nothing.
func TestNotRunIsSaidOnlyWhereItMustBe(t *testing.T) {
	blocks, err := Read(top)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if b.Kind != NotRun {
			continue
		}
		if !shows(b.Block) {
			t.Errorf("%s:%d: it shows no command: take the comment away", b.Page, b.Line)
		}
		left := strings.Trim(Replace(b.Text, func(int) {}), ":\n ")
		if left == "" {
			t.Errorf("%s:%d: nothing of it would be run anyhow (test/docs/standins.go): take the comment away", b.Page, b.Line)
		}
	}
}

func TestEveryStandInIsUsed(t *testing.T) {
	blocks, err := Read(top)
	if err != nil {
		t.Fatal(err)
	}
	used := map[int]bool{}
	for _, b := range blocks {
		for _, s := range b.Steps() {
			if b.Kind == Runs {
				Replace(s.Text, func(i int) { used[i] = true })
			}
		}
	}
	for i, s := range StandIns() {
		if !used[i] {
			t.Errorf("nothing in the documentation needs the stand-in for %s (%s): take it out of test/docs/standins.go", s.For, s.Why)
		}
	}
}

// What builds and tests agentbox itself is there.
func TestTargetsAndScriptsAreThere(t *testing.T) {
	blocks, err := Read(top)
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile(filepath.Join(top, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		for line := range strings.Lines(b.Text) {
			words := strings.Fields(Uncommented(strings.TrimRight(line, "\n")))
			if b.Kind != Runs || len(words) == 0 {
				continue
			}
			if words[0] == "make" && len(words) > 1 && !regexp.MustCompile(`(?m)^([\w ]* )?`+regexp.QuoteMeta(words[1])+`( [\w ]*)?:`).Match(makefile) {
				t.Errorf("%s:%d: the Makefile has no target %s", b.Page, b.Line, words[1])
			}
			script := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "hack/") })
			if script >= 0 {
				if _, err := os.Stat(filepath.Join(top, words[script])); err != nil {
					t.Errorf("%s:%d: %v", b.Page, b.Line, err)
				}
			}
		}
	}
}

func TestComments(t *testing.T) {
	for text, want := range map[string]How{
		"":                                 {Kind: Runs},
		"run: touch x":                     {Kind: Runs, Setup: "touch x"},
		"run, exit 1: touch x\ntouch y":    {Kind: Runs, Exit: 1, Setup: "touch x\ntouch y"},
		"not run: it needs a real account": {Kind: NotRun, Why: "it needs a real account"},
		"output of: agentbox run demo":     {Kind: Output, From: "agentbox run demo"},
	} {
		if got, err := how(site.Block{Text: "agentbox ps\n", Comment: text}); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"not run", "not run: no", "runs: x", "run it"} {
		if got, err := how(site.Block{Text: "agentbox ps\n", Comment: text}); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestStepsOfABlockWithOutput(t *testing.T) {
	b := Block{Block: site.Block{Line: 7, Text: "$ agentbox ps\nID  RUN\n$ agentbox gc \\\n  --caches\n"}}
	steps := b.Steps()
	if len(steps) != 2 || steps[0].Line != 7 || steps[0].Output[0] != "ID  RUN" || steps[1].Line != 9 || steps[1].Text != "agentbox gc \\\n  --caches" {
		t.Errorf("got %+v", steps)
	}
}

func TestOutputIsComparedInShape(t *testing.T) {
	shown := []string{"  profile   claude · 12 things", "…", "agentbox: ended · 472ms · run 20261123-155408-tk89", "  log  /home/you/.local/x"}
	output := "noise\nprofile claude · 3 things\nmore\nagentbox: ended · 1.2s · run 20270101-000000-aaaa\nlog /tmp/abx/home/.local/x\n"
	if err := Differs(shown, output); err != nil {
		t.Error(err)
	}
	for _, wrong := range []string{"profile codex · 3 things", "agentbox: stopped · 1s · run 20261123-155408-tk89"} {
		if Differs([]string{wrong}, output) == nil {
			t.Errorf("%q passes", wrong)
		}
	}
	if Differs([]string{shown[2], shown[0]}, output) == nil {
		t.Error("lines in another order pass")
	}
}
