package reference

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"agentbox/internal/profiles"
)

func tree() *cobra.Command {
	root := &cobra.Command{Use: "box", Short: "Do things", Long: "Does things.", Example: "  box do it"}
	verb := &cobra.Command{
		Use: "do THING [flags]", Short: "Do one|all", RunE: func(*cobra.Command, []string) error { return nil },
		Long: "Does one <b> thing in ~/.config, with --quick. See \"agentbox run\".\n\n  kept   as it is\n\nExit codes: the thing's own; 2 usage.", Example: "  box do it",
	}
	verb.Flags().BoolP("quick", "q", false, "no `PAUSE`")
	verb.Flags().Bool("unseen", false, "")
	_ = verb.Flags().MarkHidden("unseen")
	root.AddCommand(verb, &cobra.Command{Use: "secret-verb", Hidden: true, RunE: verb.RunE})
	return root
}

func TestAVerbsPage(t *testing.T) {
	pages := Verbs(tree(), nil)
	if len(pages) != 3 || pages[2].Name != "box-do.md" {
		t.Fatalf("got %d pages", len(pages))
	}
	want := notice + "# box do\n\nDo one|all.\n\n```text\nbox do THING [flags]\n```\n\n" +
		"Does one \\<b\\> thing in `~/.config`, with `--quick`. See `agentbox run`.\n\n```text\nkept   as it is\n```\n\n" +
		"## Options\n\n| option | |\n|---|---|\n| `-h, --help` | help for do |\n| `-q, --quick PAUSE` | no PAUSE |\n\n" +
		"## Exit codes\n\nThe thing's own.\n\n| code | |\n|---|---|\n| 2 | Usage. |\n\n## Examples\n\n```sh\nbox do it\n```\n\nSee also [box](box.md).\n"
	if got := string(pages[2].Content); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if !strings.Contains(string(pages[0].Content), "| [`box do`](box-do.md) | Do one\\|all |") {
		t.Errorf("the list of verbs is:\n%s", pages[0].Content)
	}
}

// Every key of every file stands in the page, in the table it belongs to.
func TestEveryKeyIsThere(t *testing.T) {
	page := string(Keys().Content)
	for _, f := range files() {
		for _, k := range f.keys {
			table, name := "", k.Path
			if i := strings.LastIndex(k.Path, "."); i >= 0 {
				table, name = k.Path[:i], k.Path[i+1:]
			}
			section := f.title
			if i := slices.IndexFunc(f.keys, func(t profiles.Key) bool { return t.Path == table }); i >= 0 {
				section = f.title + ": `[" + table + "]`"
				if f.keys[i].Kind == profiles.Tables {
					section = f.title + ": `[[" + table + "]]`"
				}
			}
			_, after, _ := strings.Cut(page, "# "+section+"\n")
			body, _, _ := strings.Cut(after, "\n##")
			if !strings.Contains(body, "`"+name+"`") {
				t.Errorf("%s: %s is not in its table", section, name)
			}
		}
	}
}
