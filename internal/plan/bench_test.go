package plan

import (
	"fmt"
	"strings"
	"testing"

	"agentbox/internal/profiles"
)

// manyRules is a built-in profile and a repo layer, of so many rules together.
func manyRules(n int) (builtIn, repo string) {
	write := func(from, to int) string {
		var b strings.Builder
		for i := from; i < to; i++ {
			fmt.Fprintf(&b, "[[network.rule]]\naction = %q\nhost = \"h%d.example.com\"\nports = [443, %d]\n", []string{"allow", "deny"}[i%5/4], i, 1024+i)
			if i%3 == 0 {
				fmt.Fprintf(&b, "methods = [\"GET\", \"HEAD\"]\npaths = [\"/api/v%d/**\"]\n", i)
			}
			b.WriteString("\n")
		}
		return b.String()
	}
	return "version = 1\n[agent]\ncommand = [\"work\"]\n" + write(0, n/2), "version = 1\n" + write(n/2, n)
}

func manyFiles(n int) profiles.Files {
	builtIn, repo := manyRules(n)
	return profiles.Files{BuiltIn: fileAt("work.toml", builtIn), Repo: fileAt(".agentbox/work.toml", repo)}
}

func BenchmarkPlan10kRules(b *testing.B) {
	files := manyFiles(10_000)
	l, err := profiles.Load("work", files)
	if err != nil {
		b.Fatal(err)
	}
	in := GrantInputs{Profile: l.Profile}
	g, err := Grant(in)
	if err != nil || len(g.Network.Rules) != 10_000 {
		b.Fatal(len(g.Network.Rules), err)
	}
	for name, f := range map[string]func(){
		"Load":        func() { _, err = profiles.Load("work", files) },
		"Grant":       func() { _, err = Grant(in) },
		"Hash":        func() { _ = g.Hash() },
		"Compile":     func() { _ = g.Network.Compile() },
		"Unsupported": func() { _ = g.Unsupported() },
		"Manifest":    func() { _ = ManifestOf(g) },
		"DiffNothing": func() { _ = Diff(Nothing(), g) },
		"All": func() {
			l, _ := profiles.Load("work", files)
			g, err = Grant(GrantInputs{Profile: l.Profile})
			_ = g.Hash()
			_ = g.Network.Compile()
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f()
			}
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}

// A plan of many rules is still one screen.
func TestManyRulesFitOnOneScreen(t *testing.T) {
	l, err := profiles.Load("work", manyFiles(10_000))
	if err != nil {
		t.Fatal(err)
	}
	in := inputs(t, full)
	in.Profile = l.Profile
	var b strings.Builder
	if err := WriteText(&b, resolve(t, in)); err != nil {
		t.Fatal(err)
	}
	if rows := strings.Count(b.String(), "\n"); rows > 24 || !strings.Contains(b.String(), "and 9993 rules") {
		t.Errorf("%d rows:\n%s", rows, b.String())
	}
}
