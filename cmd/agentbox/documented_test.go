package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"agentbox/internal/site"
	"agentbox/test/docs"
)

// What the documentation says that one may type, one may: verbs and flags are there, in whatever is shown as code, and their values
// are such as the flags take, in what is shown as commands.
func TestDocumentedVerbsAndFlags(t *testing.T) {
	pages, err := site.Read(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for name, page := range pages.Pages {
		if name == "CHANGELOG.md" {
			continue // it speaks of other versions
		}
		for _, b := range page.Blocks {
			for i, line := range strings.Split(b.Text, "\n") {
				if b.Language == "text" {
					break
				}
				for _, words := range typed(docs.Uncommented(strings.TrimPrefix(line, "$ "))) {
					count++
					if err := understood(words, true); err != nil {
						t.Errorf("%s:%d: %s: %v", name, b.Line+i, strings.Join(words, " "), err)
					}
				}
			}
		}
		for _, s := range page.Spans {
			for _, words := range typed(s.Text) {
				count++
				if err := understood(words, false); err != nil {
					t.Errorf("%s:%d: %s: %v", name, s.Line, strings.Join(words, " "), err)
				}
			}
		}
	}
	if count < 150 {
		t.Errorf("only %d commands were found", count)
	}
}

// begins is where a command of ours may begin: in a line, or behind another.
var begins = regexp.MustCompile(`(?:^|[|;&(] *|^(?:[A-Z_]+=\S+ )+|^sudo )agentbox ([a-z-]+(?:\s|$).*)`)

// typed are the words behind "agentbox" of each command of ours in a line, up to where the shell would end it.
func typed(line string) (all [][]string) {
	for _, m := range begins.FindAllStringSubmatch(line, -1) {
		all = append(all, shellWords(m[1]))
	}
	return all
}

// shellWords splits as a shell does, as far as documentation needs it.
func shellWords(s string) (words []string) {
	var word strings.Builder
	quote, in := rune(0), false
	end := func() {
		if in {
			words = append(words, word.String())
		}
		word.Reset()
		in = false
	}
	for _, r := range s {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, in = r, true
		case r == ' ':
			end()
		case strings.ContainsRune("|;&<>)", r):
			end()
			return words
		default:
			word.WriteRune(r)
			in = true
		}
	}
	end()
	return words
}

// understood asks the command line itself. With values, those of flags are parsed too.
func understood(words []string, values bool) error {
	cmd, rest, err := newRoot(&app{getenv: os.Getenv}).Find(words)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	if cmd.DisableFlagParsing {
		return nil
	}
	if cmd.HasSubCommands() && len(rest) > 0 && regexp.MustCompile(`^[a-z-]+$`).MatchString(rest[0]) {
		return fmt.Errorf("there is no verb %s", rest[0])
	}
	if values {
		cmd.SetOut(io.Discard)
		return cmd.ParseFlags(rest)
	}
	return known(cmd, rest)
}

// known looks each flag up, whatever stands for its value.
func known(cmd *cobra.Command, words []string) error {
	for _, w := range words {
		name, _, _ := strings.Cut(strings.TrimPrefix(w, "--"), "=")
		if w == "--" {
			return nil
		}
		if strings.HasPrefix(w, "--") && cmd.Flag(name) == nil {
			return fmt.Errorf("there is no flag --%s", name)
		}
	}
	return nil
}

func TestWhatIsDocumentedWronglyIsFound(t *testing.T) {
	for line, good := range map[string]bool{
		"agentbox run claude --timeout 30m -- --anything": true, "agentbox run claude --timeout soon": false, "agentbox run claude --time 30m": false,
		"agentbox rum claude": false, "agentbox secret sat x": false, "agentbox profile show claude --origin | less": true,
		"pass show x | agentbox secret set x": true, `agentbox deny x --reason "no; --not"`: true, "pass show x | agentbox secret put x": false,
	} {
		found := typed(line)
		if len(found) != 1 {
			t.Errorf("%s: %d commands", line, len(found))
			continue
		}
		if err := understood(found[0], true); (err == nil) != good {
			t.Errorf("%s: %v", line, err)
		}
	}
}
