package manpage

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func tree() (root, verb *cobra.Command) {
	root = &cobra.Command{Use: "box", Short: "Do things", Long: "Does things.", Example: "  box do it"}
	verb = &cobra.Command{
		Use: "do THING [flags]", Short: "Do one thing", RunE: func(*cobra.Command, []string) error { return nil },
		Long: `Does one thing; 'quoted', -dashed, with a back\slash.
.begins with a dot

  kept   as it is

Exit codes: the thing's own, 0-123; 124 too late, 125 box failed, and it
says why; 128+n a signal, and 137 box stop.`,
		Example: "  box do it -- --well\n  .dotted",
	}
	verb.Flags().BoolP("quick", "q", false, "no `PAUSE`")
	root.AddCommand(verb, &cobra.Command{Use: "secret-verb", Hidden: true, RunE: verb.RunE})
	return root, verb
}

func TestAPageHasItsSections(t *testing.T) {
	root, _ := tree()
	pages, err := Pages(root, []Extra{{Title: "FILES", Text: "None."}})
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) != 2 || pages[0].Name != "box.1" || pages[1].Name != "box-do.1" {
		t.Fatalf("got %d pages: %s", len(pages), pages[0].Name)
	}
	want := `.TH "BOX\-DO" 1 2026-11-23 agentbox "agentbox manual"
.SH "NAME"
box\-do \- do one thing
.SH "SYNOPSIS"
.B "box do"
THING [flags]
.SH "DESCRIPTION"
Does one thing; \(aqquoted\(aq, \-dashed, with a back\eslash. .begins with a dot
.PP
.nf
.RS 4
kept   as it is
.RE
.fi
.SH "OPTIONS"
.TP
\fB\-h\fR, \fB\-\-help\fR
help for do
.TP
\fB\-q\fR, \fB\-\-quick\fR \fIPAUSE\fR
no PAUSE
.SH "EXIT STATUS"
The thing\(aqs own, 0\-123.
.TP
.B "124"
Too late.
.TP
.B "125"
Box failed, and it says why.
.TP
.B "128+n"
A signal.
.TP
.B "137"
Box stop.
.SH "EXAMPLES"
.nf
.RS 4
box do it \-\- \-\-well
\&.dotted
.RE
.fi
.SH "SEE ALSO"
.BR box (1)
`
	if got := string(pages[1].Content); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, part := range []string{".SH \"FILES\"\nNone.\n", ".SH \"VERBS\"\n.TP\n.B \"do THING\"\n", ".BR box\\-do (1)\n"} {
		if !strings.Contains(string(pages[0].Content), part) {
			t.Errorf("the root's page lacks %q:\n%s", part, pages[0].Content)
		}
	}
}

func TestAVerbMustSayHowItEnds(t *testing.T) {
	root, verb := tree()
	verb.Long = "Does one thing."
	if _, err := Pages(root, nil); err == nil || err.Error() != `box do: the long help does not end with "Exit codes: …"` {
		t.Errorf("got %v", err)
	}
	root, verb = tree()
	verb.Example = ""
	if _, err := Pages(root, nil); err == nil || err.Error() != "box do: there is no example" {
		t.Errorf("got %v", err)
	}
}
