// Package findings holds what a check of a repository finds, and writes it for people, programs, code scanners and CI.
//
// It owns the formats: text, JSON, SARIF 2.1.0 and GitHub's annotations. What a finding says may come from a hostile
// repository; no format lets it redraw a terminal, forge a command for a CI runner, or leave the repository's tree.
package findings

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Severity says what a finding means for the outcome.
type Severity string

// The severities. All but Warning fail a check; Warning does when the check is strict.
const (
	Error    Severity = "error"    // a file or a profile that cannot be used
	Warning  Severity = "warning"  // it can be used, but not as somebody may expect
	Widening Severity = "widening" // something is allowed that was not
	Stale    Severity = "stale"    // a committed manifest does not say what the profiles say
)

// Finding is one thing that was found. Line and Col count from 1, Col in characters (code points); 0 is unknown.
type Finding struct {
	Code     string   `json:"code"` // stable, kebab-case: "unknown-key"
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`           // one sentence, lower case, no full stop
	Hint     string   `json:"hint,omitempty"`    // what to do
	File     string   `json:"file,omitempty"`    // relative to the repository's root, with slashes; "" when no file is to blame
	Line     int      `json:"line,omitempty"`    //
	Col      int      `json:"col,omitempty"`     //
	Profile  string   `json:"profile,omitempty"` // the profile that it is about, "" for a file by itself
	Snippet  string   `json:"snippet,omitempty"` // the source line
}

// Rule explains a code.
type Rule struct {
	Code    string
	Summary string // one line
	Help    string // what to do about it, sentences
}

// Report is the outcome of one check.
type Report struct {
	Version  string // of agentbox
	Rules    []Rule // explanations of codes; those of codes that do not occur too
	Profiles []string
	Findings []Finding
}

// Sort puts findings in order, by file and place, and drops the ones that say the same of the same place.
func Sort(fs []Finding) []Finding {
	out := slices.Clone(fs)
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col),
			cmp.Compare(a.Profile, b.Profile), cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(out)
}

// Count says how many findings have the severity.
func Count(fs []Finding, s Severity) (n int) {
	for _, f := range fs {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Failed says whether the findings fail a check.
func Failed(fs []Finding, strict bool) bool {
	return slices.ContainsFunc(fs, func(f Finding) bool { return strict || f.Severity != Warning })
}

// Text writes findings for people, as messages about profiles look: place, text, the line with a mark, the hint.
func Text(w io.Writer, fs []Finding) error {
	var b strings.Builder
	for _, f := range fs {
		f.text(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (f Finding) text(b *strings.Builder) {
	b.WriteString(f.place())
	if f.Severity != Error {
		fmt.Fprintf(b, "%s: ", f.Severity)
	}
	fmt.Fprintf(b, "%s\n", plain(f.Message))
	if snippet, mark := window(plain(f.Snippet), f.Col); snippet != "" && f.Line > 0 && f.Col > 0 {
		fmt.Fprintf(b, "%6d | %s\n       | %s^\n", f.Line, snippet, strings.Repeat(" ", mark))
	}
	for _, line := range strings.Split(strings.TrimSpace(f.Hint), "\n") {
		if line != "" {
			fmt.Fprintf(b, "  hint: %s\n", plain(line))
		}
	}
}

// place is "FILE:LINE:COL: ", as far as it is known. A line never begins with what a repository says.
func (f Finding) place() string {
	if f.File == "" {
		return "agentbox: "
	}
	s := plain(f.File)
	if strings.HasPrefix(s, ":") {
		s = "./" + s
	}
	if f.Line > 0 {
		s += fmt.Sprintf(":%d", f.Line)
		if f.Col > 0 {
			s += fmt.Sprintf(":%d", f.Col)
		}
	}
	return s + ": "
}

// window cuts a long line to what stands around the column.
func window(s string, col int) (string, int) {
	const before, width = 60, 110
	runes := []rune(s)
	at := max(0, min(col-1, len(runes)))
	start := max(0, at-before)
	return string(runes[start:min(len(runes), start+width)]), at - start
}

// plain keeps bytes of a repository from redrawing the screen, and from giving commands to a CI runner that reads
// this output: GitHub's takes "##[" anywhere in a line for one. Each character stays one character.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return utf8.RuneError
		}
		return r
	}, s)
	return strings.ReplaceAll(s, "##[", "##\uFFFD")
}
