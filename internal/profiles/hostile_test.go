package profiles

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"
)

// full repeats a piece until the file is as large as one may be.
func full(head, piece, tail string) string {
	return head + strings.Repeat(piece, (maxFile-len(head)-len(tail))/len(piece)) + tail
}

// numbered repeats a piece with a number in it.
func numbered(head, piece string, n int) string {
	var b strings.Builder
	b.WriteString(head)
	for i := range n {
		fmt.Fprintf(&b, piece, i)
	}
	return b.String()
}

// hostileFiles are as large, as long or as deep as can be. Where reading them took the square of their size, the tests
// would not end.
func hostileFiles() map[string]string {
	return map[string]string{
		"dots in a key":         full("a", ".a", " = 1"),
		"dots in a header":      full("[a", ".a", "]"),
		"dotted keys":           numbered("", "a.b.c.d.e.k%d = 1\n", 190_000),
		"brackets":              full("a = ", "[", ""),
		"brackets that close":   "a = " + strings.Repeat("[", 1<<21-8) + strings.Repeat("]", 1<<21-8),
		"braces":                full("a = ", "{a=", ""),
		"mixed":                 full("a = ", "[{a=", ""),
		"brackets in comments":  full("a = [ #", "[", "\n]"),
		"brackets in a string":  full("description = '", "[{", "'"),
		"keys":                  numbered("", "%d=1\n", 460_000),
		"keys of agent.env":     numbered("[agent.env]\n", "A%d=''\n", 300_000),
		"one key":               full("description = \"", "x", "\""),
		"unknown key":           full("", "x", " = 1"),
		"a wrong value":         full("tier = \"", "x", "\""),
		"values on a line":      full("workspace.hide = [", "1,", "]"),
		"words on a line":       full("workspace.hide = [", "'x',", "]"),
		"rules on a line":       full("network.rule = [", "{host='a.test',action='deny'},", "]"),
		"rules":                 full("", "[[network.rule]]\n", ""),
		"valid rules":           numbered("version=1\nagent.command=['x']\n", "[[network.rule]]\nhost='h%d.test'\naction='allow'\n", 49_000),
		"ports":                 full("[[network.rule]]\nports = [", "1,", "]"),
		"tables":                numbered("", "[a%d.b]\n", 300_000),
		"arrays of tables":      full("", "[[a]]\n[a.b]\n", ""),
		"credentials":           numbered("", "[[credential]]\nname='n%d'\n", 120_000),
		"named twice":           full("", "[[credential]]\nname='n'\n", ""),
		"comments":              full("", "#\n", ""),
		"empty lines":           full("", "\r\n", ""),
		"one long comment":      full("#", "x", ""),
		"an open string":        full("a = \"\"\"", "\\\n", ""),
		"quotes":                full("a = ", "''''", ""),
		"templates":             full("agent.install = '", "{x}", "'"),
		"templates of contents": full("version=1\nagent.command=['x']\nagent.file = [{path='~/a',content='", "{x}", "'}]"),
		"underscores":           full("a = 1", "_1", ""),
		"digits":                full("a = ", "1", ""),
		"digits of a float":     full("a = 1.", "1", ""),
		"not UTF-8 at the end":  full("#", "x", "\xff"),
		"wide characters":       full("workspace.hide = [", "'😀',1,", "]"),
		"carriage returns":      full("a = '''", "\r", ""),
		"extends":               full("extends = '", "x", "'"),
		"sets":                  full("version=1\nagent.command=['x']\nnetwork.use = [", "'x',", "]"),
		"many sets":             numbered("version=1\nagent.command=['x']\nnetwork.use = [", "'x%d',", 900) + "]",
		"the most a file holds": full("", "\x00", ""),
	}
}

func TestHostileFilesAreReadQuickly(t *testing.T) {
	for what, text := range hostileFiles() {
		t.Run(what, func(t *testing.T) {
			if len(text) > maxFile {
				t.Fatalf("%d bytes", len(text))
			}
			l, err := Load("x", Files{User: fstest.MapFS{"profiles/x.toml": {Data: []byte(text)}}, UserDir: "~"})
			problems, _ := err.(Problems)
			if err == nil != (what == "valid rules") || err != nil && (len(problems) == 0 || len(problems) > maxProblems) {
				t.Errorf("%d problems, %v, %s", len(problems), l.Warnings, err)
			}
			for _, p := range problems {
				if len(p.Error()) > 4000 {
					t.Errorf("a message of %d bytes: %.200s", len(p.Error()), p.Error())
				}
			}
		})
	}
}

func TestWhatIsTooMuchIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		full("#", "x", "yy") + "z":                                 "x.toml:1:1: the file is larger than 4 MiB",
		"a = " + strings.Repeat("[", 65) + strings.Repeat("]", 65): "x.toml:1:69: more than 64 values stand within each other",
		"a" + strings.Repeat(".a", 64) + " = 1":                    "x.toml:1:129: more than 64 tables stand within each other",
		"[a" + strings.Repeat(".a", 64) + "]":                      "x.toml:1:130: more than 64 tables stand within each other",
		"[a]\na" + strings.Repeat(".a", 63) + " = 1":               "x.toml:2:127: more than 64 tables stand within each other",
		numbered("agent.env = {", "A%d=1,", 1000) + "B=1}":         "agent.env has 1001 keys, and may have 1000",
		"workspace.hide = [" + strings.Repeat("'x',", 1001) + "]":  "workspace.hide has 1001 elements, and may have 1000",
		"a = [" + strings.Repeat("1,", maxNodes) + "]":             "x.toml:1:1: the file holds more than 524288 values",
		strings.Repeat("[[mcp]]\n", 257):                           "mcp has 257 elements, and may have 256",
		strings.Repeat("[[network.rule]]\n", 50_001):               "network.rule has 50001 elements, and may have 50000",
	} {
		if len(text) > maxFile {
			text += "z"
		}
		_, err := Parse("x", []byte(text), "x.toml")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %.300v, want %s", err, want)
		}
	}
	deep := "a" + strings.Repeat(".a", 63) + " = 1\nb = " + strings.Repeat("[", 63) + "'[[[['" + strings.Repeat("]", 63) + " # [[[[\n"
	if _, f := parse(newSource("x", User, []byte(deep))); f != nil {
		t.Errorf("refused: %s", f.text)
	}
}

func TestTheBytesOfAFile(t *testing.T) {
	plain := "version = 1\n[agent]\ncommand = [\"x\"]\nenv = { A = '''a\nb''' }\n"
	for what, text := range map[string]string{"LF": plain, "CRLF": strings.ReplaceAll(plain, "\n", "\r\n"), "BOM": "\xef\xbb\xbf" + plain} {
		l, err := Parse("x", []byte(text), "x.toml")
		if err != nil || strings.ReplaceAll(l.Profile.Agent.Env["A"], "\r\n", "\n") != "a\nb" || l.Profile.Origins.All()["agent.env.A"] != (Place{User, "x.toml", 4, 9}) || l.Profile.Origins.All()["version"] != (Place{User, "x.toml", 1, 1}) {
			t.Errorf("%s: %v, %+v", what, err, l.Profile.Origins.All())
		}
	}
	for text, want := range map[string]string{
		"a = 1\nb = 'äö\xff'\n":       "x.toml:2:8: the file is not UTF-8 text\n     2 | b = 'äö\uFFFD'\n       |        ^",
		"\xff\xfea\x00":               "x.toml:1:1: the file is not UTF-8 text\n     1 | \uFFFD\uFFFDa\uFFFD\n       | ^",
		"# \xed\xa0\x80":              "x.toml:1:3: the file is not UTF-8 text\n     1 | # \uFFFD\uFFFD\uFFFD\n       |   ^",
		"a = 'x\x00'":                 "x.toml:1:7: not valid TOML: invalid character\n     1 | a = 'x\uFFFD'\n       |       ^",
		"version = 1\r\nxx = 'ä' 1\n": "x.toml:2:10: not valid TOML: expected newline but got U+0031 '1'\n     2 | xx = 'ä' 1\n       |          ^",
		"a = 1\n\xef\xbb\xbfb = 2":    "x.toml:2:1: not valid TOML: invalid character at start of key: ï\n     2 | \uFFFDb = 2\n       | ^",
		"a = \"":                      "x.toml:1:6: not valid TOML: basic string not terminated by \"\n     1 | a = \"\n       |      ^",
	} {
		_, err := Parse("x", []byte(text), "x.toml")
		if err == nil || err.Error() != want {
			t.Errorf("%q:\ngot  %q\nwant %q", text, err, want)
		}
	}
}

// The place of any offset is what counting lines and characters from the start says.
func TestPlacesAreCounted(t *testing.T) {
	text := strings.Repeat("aä😀\r\n\n", 30) + strings.Repeat("é", 2000) + "\nz"
	d := dice{rand.New(rand.NewPCG(1, 2))} //nolint:gosec // not a secret
	src := newSource("x", User, []byte(text))
	for range 5000 {
		offset := d.IntN(len(text) + 1)
		before := text[:offset]
		start := strings.LastIndexByte(before, '\n') + 1
		want := Place{User, "x", strings.Count(before, "\n") + 1, len([]rune(before[start:])) + 1}
		if c := text[start:offset]; strings.ToValidUTF8(c, "") != c {
			continue // within a character
		}
		if got := src.place(offset); got != want {
			t.Fatalf("%d: got %+v, want %+v", offset, got, want)
		}
	}
}
