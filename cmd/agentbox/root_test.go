package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"

	"agentbox/internal/plan"
	"agentbox/internal/profiles"
)

// Whatever reads standard error by lines finds every problem by the program's name, and what belongs to it indented.
func TestEveryProblemIsToldByItself(t *testing.T) {
	_, mistakes := profiles.Parse("x", []byte("version = 1\nagent.command = [\"x\"]\nextend = 1\nteir = 2\n"), "x.toml")
	cases := map[string]struct {
		err  error
		want string
	}{
		"problems": {mistakes, `agentbox: x.toml:3:1: unknown key "extend"
     3 | extend = 1
       | ^
  hint: did you mean "extends"?
agentbox: x.toml:4:1: unknown key "teir"
     4 | teir = 2
       | ^
  hint: did you mean "tier"?
`},
		"refusals": {&plan.Refusals{List: []plan.Refused{{Text: "a is looser", Instead: "write b"}, {Text: "c is looser", Instead: "write d"}}},
			"agentbox: a is looser\nagentbox: c is looser\nagentbox: hint: write b\nagentbox: hint: write d\n"},
		"one": {errors.New("a tale\n  of two lines"), "agentbox: a tale\n  of two lines\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			out, err := os.Create(filepath.Join(t.TempDir(), "err"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = out.Close() }()
			(&app{err: out}).report(&cobra.Command{Use: "run"}, c.err)
			if got, err := os.ReadFile(out.Name()); err != nil || string(got) != c.want {
				t.Errorf("got %v\n%s\nwant\n%s", err, got, c.want)
			}
		})
	}
}
