// Package reference writes the pages of docs/ that are made from code: one for each verb, and one for every key of the
// files that people write.
//
// It owns the form of these pages, in Markdown; what they say, it takes from the verbs' own help and from
// internal/profiles. The same code gives the same bytes. Only the generator of agentbox's documentation links it.
package reference

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"agentbox/cmd/agentbox/manpage"
)

// Page is one page; Name is its file's, "agentbox-run.md".
type Page struct {
	Name    string
	Content []byte
}

// notice stands in every page, where editors see it and readers do not.
const notice = "<!-- `make generate` writes this page. -->\n"

// Verbs makes a page for root and each verb below it that is not hidden, and README.md, which lists them. Extra are
// sections of root's page.
func Verbs(root *cobra.Command, extra []manpage.Extra) []Page {
	root.InitDefaultHelpFlag()
	pages := []Page{{Name: "README.md", Content: list(root)}}
	for _, cmd := range manpage.Family(root) {
		var more []manpage.Extra
		if cmd == root {
			more = extra
		}
		pages = append(pages, Page{Name: manpage.Title(cmd) + ".md", Content: verb(cmd, more)})
	}
	return pages
}

func list(root *cobra.Command) []byte {
	w := &markdown{}
	w.say(notice + "# Commands\n")
	w.say("What each says of itself with `--help`, and its manual page. [agentbox](agentbox.md) is the program.\n")
	w.say("| command | |\n|---|---|")
	for _, cmd := range manpage.Family(root)[1:] {
		w.say("| [`%s`](%s.md) | %s |", cmd.CommandPath(), manpage.Title(cmd), cell(cmd.Short))
	}
	return w.bytes()
}

func verb(cmd *cobra.Command, extra []manpage.Extra) []byte {
	description, codes := manpage.Describe(cmd)
	w := &markdown{}
	w.say(notice+"# %s\n\n%s.\n", cmd.CommandPath(), text(cmd.Short))
	w.say("```text\n%s\n```\n", strings.TrimSpace(cmd.CommandPath()+" "+manpage.Synopsis(cmd)))
	w.paragraphs(description)
	w.verbs(cmd)
	w.options(cmd)
	w.exitCodes(codes)
	w.say("## Examples\n\n```sh\n%s\n```\n", unindented(cmd.Example))
	for _, e := range extra {
		w.say("## %s\n", e.Title[:1]+strings.ToLower(e.Title[1:]))
		w.paragraphs(e.Text)
	}
	if cmd.HasParent() {
		w.say("See also [%s](%s.md).", cmd.Parent().CommandPath(), manpage.Title(cmd.Parent()))
	}
	return w.bytes()
}

// markdown is a page being written.
type markdown struct{ strings.Builder }

func (w *markdown) say(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

// bytes is the page, with one line feed at its end.
func (w *markdown) bytes() []byte { return []byte(strings.TrimRight(w.String(), "\n") + "\n") }

// paragraphs writes a help text; lines that are indented stand as they are.
func (w *markdown) paragraphs(s string) {
	for p := range strings.SplitSeq(s, "\n\n") {
		w.paragraph(strings.Split(p, "\n"))
	}
}

func (w *markdown) paragraph(lines []string) {
	for len(lines) > 0 {
		n := 1
		for n < len(lines) && indented(lines[n]) == indented(lines[0]) {
			n++
		}
		if indented(lines[0]) {
			w.say("```text\n%s\n```\n", unindented(strings.Join(lines[:n], "\n")))
		} else {
			w.say("%s\n", text(strings.Join(lines[:n], "\n")))
		}
		lines = lines[n:]
	}
}

func indented(line string) bool {
	return strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "\t")
}

func unindented(s string) string {
	lines := strings.Split(strings.Trim(s, "\n"), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, "  ")
	}
	return strings.Join(lines, "\n")
}

func (w *markdown) verbs(cmd *cobra.Command) {
	if !cmd.HasAvailableSubCommands() {
		return
	}
	w.say("## Verbs\n\n| verb | |\n|---|---|")
	for _, below := range cmd.Commands() {
		if below.IsAvailableCommand() {
			w.say("| [`%s`](%s.md) | %s |", below.Name(), manpage.Title(below), cell(below.Short))
		}
	}
	w.say("")
}

func (w *markdown) options(cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	w.say("## Options\n\n| option | |\n|---|---|")
	cmd.Flags().VisitAll(w.option) // sorted by name
	w.say("")
}

func (w *markdown) option(f *pflag.Flag) {
	if f.Hidden || f.Deprecated != "" {
		return
	}
	kind, usage := pflag.UnquoteUsage(f)
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	if kind != "" {
		name += " " + kind
	}
	w.say("| `%s` | %s |", name, cell(usage))
}

func (w *markdown) exitCodes(codes string) {
	lead, list := manpage.ExitCodes(codes)
	w.say("## Exit codes\n")
	if lead != "" {
		w.say("%s\n", text(lead))
	}
	if len(list) == 0 {
		return
	}
	w.say("| code | |\n|---|---|")
	for _, c := range list {
		w.say("| %s | %s |", c.Number, cell(c.Meaning))
	}
	w.say("")
}

// word is what in a help text reads as code: files, options, and what stands in quotes.
var word = regexp.MustCompile("`[^`]+`|\"agentbox [^\"]+\"|(^|[\\s(])(~/[\\w./*-]+|--[a-z][a-z-]+|/etc/[\\w./-]+)")

// text makes plain text Markdown that reads as it.
func text(s string) string {
	var out strings.Builder
	for {
		at := word.FindStringSubmatchIndex(s)
		if at == nil {
			return out.String() + escape(s)
		}
		from, to, code := at[0], at[1], strings.Trim(s[at[0]:at[1]], "`\"")
		if at[4] >= 0 {
			from, code = at[4], strings.TrimRight(s[at[4]:at[5]], ".")
			to = from + len(code)
		}
		out.WriteString(escape(s[:from]) + "`" + code + "`")
		s = s[to:]
	}
}

func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "<", `\<`, ">", `\>`, "[", `\[`, "]", `\]`, "#", `\#`).Replace(s)
}

// cell is text in a table.
func cell(s string) string {
	return strings.ReplaceAll(text(strings.Join(strings.Fields(s), " ")), "|", `\|`)
}
