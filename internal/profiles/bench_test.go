package profiles

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	builtin "agentbox/profiles"
)

// manyRules is a person's own profile that extends claude and has n rules of its own.
func manyRules(n int) Files {
	var b strings.Builder
	b.WriteString("version = 1\nextends = \"claude\"\n")
	for i := range n {
		fmt.Fprintf(&b, "\n[[network.rule]]\naction = \"allow\"\nhost = \"host-%d.example.com\"\n", i)
		if i%4 == 0 {
			b.WriteString("methods = [\"GET\", \"HEAD\"]\npaths = [\"/api/**\"]\n")
		}
	}
	user := fstest.MapFS{"profiles/many.toml": {Data: []byte(b.String())}}
	return Files{BuiltIn: builtin.Files(), User: user, UserDir: "~/.config/agentbox"}
}

func BenchmarkLoad(b *testing.B) {
	files := manyRules(10000)
	b.ReportAllocs()
	for b.Loop() {
		l, err := Load("many", files)
		if err != nil || len(l.Profile.Network.Rules) < 10000 {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseTree(b *testing.B) {
	data := manyRules(10000).User.(fstest.MapFS)["profiles/many.toml"].Data
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, f := parse(newSource("many.toml", User, data)); f != nil {
			b.Fatal(f)
		}
	}
}
