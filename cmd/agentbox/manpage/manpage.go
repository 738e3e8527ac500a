// Package manpage writes a manual page for each verb of a command line.
//
// It owns the form of the pages: what a verb's help says, with its exit codes and its examples in sections of their
// own. The same verbs give the same bytes: no date of the day, no version. Only the generator of agentbox's man/
// links it.
package manpage

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Page is one page; Name is its file's, "agentbox-run.1".
type Page struct {
	Name    string
	Content []byte
}

// Date stands in every page. It changes when the form of the pages does.
const Date = "2026-11-23"

// Extra is what the help of the root has no place for: sections of its page, a title and paragraphs as help texts
// have them.
type Extra struct {
	Title, Text string
}

// Pages makes a page for root and one for each verb below it that is not hidden. The error names every verb that
// says nothing of its exit codes, or gives no example.
func Pages(root *cobra.Command, extra []Extra) ([]Page, error) {
	root.InitDefaultHelpFlag()
	var pages []Page
	var errs []error
	for _, cmd := range Family(root) {
		var more []Extra
		if cmd == root {
			more = extra
		}
		content, err := page(cmd, more)
		errs = append(errs, err)
		pages = append(pages, Page{Name: Title(cmd) + ".1", Content: content})
	}
	return pages, errors.Join(errs...)
}

// Family is cmd and the verbs below it that people see.
func Family(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, below := range cmd.Commands() {
		if below.IsAvailableCommand() {
			all = append(all, Family(below)...)
		}
	}
	return all
}

// Title is a verb's name as that of a page: "agentbox-run".
func Title(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// Synopsis is what stands behind the verb's name: "PROFILE [flags] [-- ARGS]".
func Synopsis(cmd *cobra.Command) string {
	rest := strings.TrimSpace(strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath()))
	if cmd.HasAvailableSubCommands() {
		rest = "VERB " + strings.Replace(rest, "[flags]", "[ARGS]", 1)
		if !strings.Contains(rest, "[ARGS]") {
			rest += "[ARGS]"
		}
	}
	return rest
}

// Describe gives what a verb's help says: what it does, and its exit codes, in the form that ExitCodes parses. Codes is
// "" where the verb has none to say of itself.
func Describe(cmd *cobra.Command) (description, codes string) {
	description, codes = split(cmd.Long)
	if codes == "" && cmd.HasAvailableSubCommands() {
		codes = "each verb's page has its own; 0 fine, 1 a finding or a failure, 2 usage."
	}
	if description == "" {
		description = cmd.Short + "."
	}
	return description, codes
}

func page(cmd *cobra.Command, extra []Extra) ([]byte, error) {
	description, codes := Describe(cmd)
	var problem error
	if codes == "" {
		problem = fmt.Errorf("%s: the long help does not end with \"Exit codes: …\"", cmd.CommandPath())
	} else if cmd.Example == "" {
		problem = fmt.Errorf("%s: there is no example", cmd.CommandPath())
	}
	w := &roff{}
	w.line(`.TH "` + escape(strings.ToUpper(Title(cmd))) + `" 1 ` + Date + ` agentbox "agentbox manual"`)
	w.section("NAME")
	w.line(escape(Title(cmd)) + ` \- ` + escape(uncapital(cmd.Short)))
	w.section("SYNOPSIS")
	w.synopsis(cmd)
	w.section("DESCRIPTION")
	w.text(description)
	w.verbs(cmd)
	w.options(cmd)
	w.section("EXIT STATUS")
	w.exitStatus(codes)
	w.section("EXAMPLES")
	w.literal(cmd.Example)
	for _, e := range extra {
		w.section(e.Title)
		w.text(e.Text)
	}
	w.seeAlso(cmd)
	return w.Bytes(), problem
}

// split parts the paragraph about exit codes from a help text.
func split(long string) (description, codes string) {
	var rest []string
	for _, p := range strings.Split(strings.TrimSpace(long), "\n\n") {
		if after, ok := strings.CutPrefix(p, "Exit codes: "); ok {
			codes = strings.Join(strings.Fields(after), " ")
		} else {
			rest = append(rest, p)
		}
	}
	return strings.TrimSpace(strings.Join(rest, "\n\n")), codes
}

// roff is a page being written.
type roff struct{ bytes.Buffer }

func (w *roff) line(s string) { w.WriteString(s + "\n") }

// request writes a line of the form .NAME "ARG" …
func (w *roff) request(name string, args ...string) {
	w.WriteString("." + name)
	for _, a := range args {
		w.WriteString(` "` + strings.ReplaceAll(escape(a), `"`, `\(dq`) + `"`)
	}
	w.WriteString("\n")
}

func (w *roff) section(title string) { w.request("SH", title) }

func (w *roff) synopsis(cmd *cobra.Command) {
	w.request("B", cmd.CommandPath())
	if rest := Synopsis(cmd); rest != "" {
		w.line(escape(rest))
	}
}

// text writes paragraphs; lines that are indented stand as they are.
func (w *roff) text(s string) {
	for i, p := range strings.Split(s, "\n\n") {
		if i > 0 {
			w.line(".PP")
		}
		w.paragraph(p)
	}
}

func (w *roff) paragraph(p string) {
	var asIs, prose []string
	flush := func() {
		w.prose(strings.Join(prose, " "))
		if len(asIs) > 0 {
			w.literal(strings.Join(asIs, "\n"))
		}
		asIs, prose = nil, nil
	}
	for _, l := range strings.Split(p, "\n") {
		if strings.HasPrefix(l, "  ") || strings.HasPrefix(l, "\t") {
			asIs = append(asIs, l)
			continue
		}
		if len(asIs) > 0 {
			flush()
		}
		prose = append(prose, l)
	}
	flush()
}

// width is where lines of prose are broken in the source, which is all that it is for.
const width = 72

func (w *roff) prose(s string) {
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && len(line)+1+len(word) > width {
			w.line(escape(line))
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	if line != "" {
		w.line(escape(line))
	}
}

// literal writes lines as they are.
func (w *roff) literal(s string) {
	lines := strings.Split(strings.Trim(s, "\n"), "\n")
	w.line(".nf")
	w.line(".RS 4")
	for _, l := range lines {
		w.line(escape(strings.TrimPrefix(l, "  ")))
	}
	w.line(".RE")
	w.line(".fi")
}

func (w *roff) verbs(cmd *cobra.Command) {
	if !cmd.HasAvailableSubCommands() {
		return
	}
	w.section("VERBS")
	for _, below := range cmd.Commands() {
		if below.IsAvailableCommand() {
			w.line(".TP")
			w.request("B", strings.TrimSpace(strings.TrimSuffix(below.Use, "[flags]")))
			w.prose(below.Short + ".")
		}
	}
}

func (w *roff) options(cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	w.section("OPTIONS")
	cmd.Flags().VisitAll(w.option) // sorted by name
}

func (w *roff) option(f *pflag.Flag) {
	if f.Hidden || f.Deprecated != "" {
		return
	}
	kind, usage := pflag.UnquoteUsage(f)
	names := `\fB\-\-` + escape(f.Name) + `\fR`
	if f.Shorthand != "" {
		names = `\fB\-` + f.Shorthand + `\fR, ` + names
	}
	if kind != "" {
		names += ` \fI` + escape(kind) + `\fR`
	}
	w.line(".TP")
	w.line(names)
	w.prose(usage)
}

// code is where the text of the next exit code begins: "126 refused …", "128+n a signal".
var code = regexp.MustCompile(`(?:^|[,;] (?:and )?)([0-9]+(?:[-–][0-9]+)?(?:\+n)?) `)

// Code is an exit code, or several in one notation ("128+n"), and when it comes.
type Code struct {
	Number, Meaning string
}

// ExitCodes parses "0 fine, 1 a problem, 2 usage." What stands before the first code is a sentence, or "".
func ExitCodes(codes string) (lead string, list []Code) {
	at := code.FindAllStringSubmatchIndex(codes, -1)
	lead = codes
	if len(at) > 0 {
		lead = codes[:at[0][0]]
	}
	if lead = strings.Trim(lead, " ;,"); lead != "" {
		lead = capital(strings.TrimSuffix(lead, ".")) + "."
	}
	for i, m := range at {
		end := len(codes)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		list = append(list, Code{codes[m[2]:m[3]], capital(strings.Trim(codes[m[1]:end], " ,;.")) + "."})
	}
	return lead, list
}

// exitStatus turns the paragraph about exit codes into a list.
func (w *roff) exitStatus(codes string) {
	lead, list := ExitCodes(codes)
	if lead != "" {
		w.prose(lead)
	}
	for _, c := range list {
		w.line(".TP")
		w.request("B", c.Number)
		w.prose(c.Meaning)
	}
}

func (w *roff) seeAlso(cmd *cobra.Command) {
	var names []string
	if cmd.HasParent() {
		names = append(names, Title(cmd.Parent()))
		for _, sibling := range cmd.Parent().Commands() {
			if sibling != cmd && sibling.IsAvailableCommand() && cmd.Parent().HasParent() {
				names = append(names, Title(sibling))
			}
		}
	}
	for _, below := range cmd.Commands() {
		if below.IsAvailableCommand() {
			names = append(names, Title(below))
		}
	}
	if len(names) == 0 {
		return
	}
	w.section("SEE ALSO")
	for i, n := range names {
		comma := ","
		if i == len(names)-1 {
			comma = ""
		}
		w.line(".BR " + escape(n) + " (1)" + comma)
	}
}

// escape makes s plain text for roff.
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "~", `\(ti`, "^", `\(ha`, "`", `\(ga`, "'", `\(aq`,
		"…", "...", "–", `\(en`, "—", `\(em`, "→", `\(->`, "≤", `\(<=`, "·", `\(bu`).Replace(strings.TrimRight(s, " \t"))
	s = strings.ReplaceAll(s, "\t", "    ")
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, `\(aq`) {
		s = `\&` + s
	}
	return s
}

// capital begins a sentence; the program's own name stays as it is.
func capital(s string) string {
	if strings.HasPrefix(s, "agentbox") {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// uncapital makes a sentence's first word stand within a line, unless it is a name.
func uncapital(s string) string {
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}
