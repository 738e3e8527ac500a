package profiles

import (
	"strings"
	"testing"
	"testing/fstest"

	builtin "agentbox/profiles"
)

// A printed profile goes to the output of CI too, where a line of a file's content must not be taken for a command.
func TestWhatIsPrintedIsNoCommandOfCI(t *testing.T) {
	const hostile = "a\n::error::forged\n \t::set-output name=x::y\n##[error]forged\n"
	user := fstest.MapFS{"profiles/x.toml": {Data: []byte("version = 1\nextends = \"shell\"\n[[agent.file]]\npath = \"~/x\"\ncontent = " + quotedTOML(hostile) + "\n")}}
	l, err := Load("x", Files{BuiltIn: builtin.Files(), User: user, UserDir: "~"})
	if err != nil {
		t.Fatal(err)
	}
	printed := string(Print(l.Profile, true))
	for line := range strings.Lines(printed) {
		if strings.HasPrefix(strings.TrimSpace(line), "::") || strings.Contains(line, "##[") {
			t.Errorf("CI would obey %q", line)
		}
	}
	again, err := Load("x", Files{BuiltIn: builtin.Files(), User: fstest.MapFS{"profiles/x.toml": {Data: []byte(printed)}}, UserDir: "~"})
	if err != nil || again.Profile.Agent.Files[0].Content != hostile {
		t.Errorf("it came back as %q, %v", again.Profile.Agent.Files, err)
	}
}

func quotedTOML(s string) string {
	return `"` + strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(s) + `"`
}
