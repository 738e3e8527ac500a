package tui

import (
	"strings"
	"testing"
	"unicode"

	"github.com/charmbracelet/x/ansi"
)

func TestEscaped(t *testing.T) {
	for in, want := range map[string]string{
		"plain äöü 漢字 ✓":      "plain äöü 漢字 ✓",
		"a\tb":                "a    b",
		"\x1b[31m":            `\u001b[31m`,
		"a\r\nb\x00":          `a\u000d\u000ab\u0000`,
		"\u202e\u2066":        `\u202e\u2066`,
		"\u200b\ufeff":        `\u200b\ufeff`,
		"\xff\xfe":            `\xff\xfe`,
		"\u009b31m":           `\u009b31m`,
		"\u3164\u2800":        `\u3164\u2800`, // a filler and a blank: letters that nobody sees
		"v\ufe0f":             `v\ufe0f`,
		"e\u0301":             "e\u0301",
		"z\u0301\u0301\u0301": "z\u0301\u0301" + `\u0301`, // what would climb over the line above
		"\U000e0041":          `\ue0041`,
		"\u00a0":              `\u00a0`,
		"\ufffd":              "\ufffd",
	} {
		if got := Escaped(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// Whatever goes in, what comes out is printed and stays on its rows.
func FuzzWrapped(f *testing.F) {
	f.Add("a\x1b[2Jb\u202e漢字", 7)
	f.Add("\t\xff\xfe\x00", 3)
	f.Fuzz(func(t *testing.T, s string, width int) {
		if width < 2 || width > 200 {
			return
		}
		for _, row := range wrapped(paint{}, plain, s, width) {
			bare := strings.NewReplacer("\x1b[7m", "", "\x1b[27m", "", reset, "").Replace(row)
			if n := ansi.StringWidth(bare); n > width {
				t.Errorf("%q at %d: a row of %d cells: %q", s, width, n, bare)
			}
			for _, r := range bare {
				if !unicode.IsPrint(r) {
					t.Errorf("%q: the row %q holds %U", s, bare, r)
				}
			}
		}
	})
}

// A line that is too long to be shown says so: nothing of it is left out silently.
func TestALongLineSaysSo(t *testing.T) {
	rows := wrapped(paint{}, plain, strings.Repeat("x", maxCells)+"rm -rf", 80)
	if last := ansi.Strip(rows[len(rows)-1]); !strings.Contains(strings.Join(rows, ""), "bytes in this line, not all shown") {
		t.Errorf("the last of %d rows is %q", len(rows), last)
	}
	if got := strings.Join(wrapped(paint{}, plain, strings.Repeat("x", maxCells-10)+"rm -rf", 80), ""); !strings.Contains(got, "rm -rf") {
		t.Error("a line that is shown whole is not")
	}
}

func TestFit(t *testing.T) {
	for _, test := range []struct {
		in    string
		width int
		want  string
	}{{"abc", 5, "abc  "}, {"abcdef", 4, "…def"}, {"漢字漢", 4, "…漢 "}, {"x\x1b", 10, `x\u001b   `}, {"abc", 1, " "}, {"abc", 0, ""}} {
		if got := fit(test.in, test.width); got != test.want {
			t.Errorf("%q in %d: %q, want %q", test.in, test.width, got, test.want)
		}
	}
}
