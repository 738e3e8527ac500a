package later

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

func file(content string) *File {
	return &File{Mode: 0o644, Read: func() ([]byte, error) { return []byte(content), nil }}
}

// Every pattern of the data file is needed by, or fits, a path: each example fits its own entry, in any case.
func TestEveryEntryFitsItsExamples(t *testing.T) {
	entries, err := list()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		for _, example := range e.Examples {
			if !e.fits(fold(example)) || !e.fits(fold("deep/down/"+strings.ToUpper(example))) {
				t.Errorf("%q: the example %q does not fit", e.Why, example)
			}
			content := "https://elsewhere.example/x {" // no JSON, and a new host
			if Match(example, file(""), file(content)) == "" {
				t.Errorf("%q is not listed", example)
			}
		}
		for _, p := range e.Names {
			sample := strings.NewReplacer("**", "x/y", "*", "x").Replace(p)
			if !e.fits(fold("a/" + sample)) {
				t.Errorf("the pattern %q does not fit %q", p, sample)
			}
		}
	}
}

func TestMatch(t *testing.T) {
	exe := file("")
	exe.Mode = 0o755
	link := file("")
	link.Mode = 0o777 | fs.ModeSymlink
	tests := []struct {
		path          string
		before, after *File
		want          string // a part of the reason
	}{
		{"main.go", nil, file("package main"), ""},
		{"README.md", file("a"), file("b"), ""},
		{"Makefile", file("a"), nil, ""},
		{"src/MAKEFILE", file("a"), file("b"), "build tool"},
		{"Makefile. ", nil, file("b"), "build tool"},
		{".v\u200cscode/tasks.json", nil, file("b"), "editor"},
		{".vscode", nil, link, "editor"},
		{".github", nil, link, "continuous integration"},
		{"sub/.github/workflows", nil, link, "continuous integration"},
		{"hooks", nil, link, "hook"},
		{"gradle", nil, link, "JVM"},
		{"node_modules", nil, link, "package manager"},
		{"data/link", nil, link, ""},
		{"fixture/config", file("a"), file("b"), "repository"},
		{"fixture/commondir", nil, file("b"), "repository"},
		{"package.json", file(`{}`), file(`{"directories":{"bin":"x"}}`), "scripts"},
		{"package.json", file(`{}`), file(`{"nx":{"targets":{}}}`), "scripts"},
		{"run", nil, exe, "becomes executable"},
		{"run", file(""), exe, "becomes executable"},
		{"run", exe, exe, "is executable"},
		{"package.json", file(`{"name":"a","scripts":{"x":"y"}}`), file(`{"name":"b", "scripts": {"x": "y"}}`), ""},
		{"package.json", file(`{"scripts":{"x":"y"}}`), file(`{"scripts":{"x":"z"}}`), "scripts"},
		{"package.json", file(`{"scripts":{"x":"y"}}`), file(`{"scripts":{"x":"z"},"scripts":{"x":"y"}}`), "scripts"},
		{"package.json", file(`{"scripts":{}}`), file(`{"scripts":{},"Scripts":{"postinstall":"x"}}`), "scripts"},
		{"package.json", file(`{}`), file(`{`), "scripts"},
		{"package.json", nil, file(`{"name":"a"}`), ""},
		{"package.json", nil, file(`{"bin":"a"}`), "scripts"},
		{"package.json", nil, &File{Mode: 0o644, Read: func() ([]byte, error) { return nil, errors.New("x") }}, "scripts"},
		{"yarn.lock", file("resolved https://registry.npmjs.org/a"), file("resolved https://registry.npmjs.org/b"), ""},
		{"yarn.lock", file("resolved https://mirror.corp/a"), file("resolved https://mirror.corp/b"), ""},
		{"yarn.lock", file("resolved https://mirror.corp/a"), file("resolved https://evil.example/a"), "another place"},
		{"yarn.lock", file(""), file("resolved https://registry.npmjs.org@evil.example/a"), "another place"},
		{"package-lock.json", file(""), file(`"git+ssh://git@evil.example/a.git"`), "another place"},
		{"package-lock.json", file(""), file(`"git@evil.example:a/b"`), "another place"},
	}
	for _, test := range tests {
		got := Match(test.path, test.before, test.after)
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%q: %q, want %q", test.path, got, test.want)
		}
	}
}

// A list that can't be read, or says what nobody understands, is an error.
func TestParseIsStrict(t *testing.T) {
	for _, text := range []string{
		"[[entry]]\nnames = [\"a\"]\nwhy = \"x\"\n",
		"[[entry]]\nnames = [\"A\"]\nwhy = \"x\"\nexamples = [\"A\"]\n",
		"[[entry]]\nnames = [\"a//b\"]\nwhy = \"x\"\nexamples = [\"a\"]\n",
		"[[entry]]\nnames = [\"[\"]\nwhy = \"x\"\nexamples = [\"a\"]\n",
		"[[entry]]\nnames = [\"a\"]\nwhy = \"x\"\nexamples = [\"a\"]\nnmaes = []\n",
		"[[entry",
	} {
		if _, err := parse([]byte(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
