package plan

import (
	"bytes"
	"strings"
	"testing"

	"agentbox/internal/profiles"
	builtin "agentbox/profiles"
)

// Who looks at a plan has one screen of 80 columns and 24 rows, with a prompt on it.
func TestBuiltInPlansFitOnOneScreen(t *testing.T) {
	files := profiles.Files{BuiltIn: builtin.Files()}
	for _, name := range files.Names() {
		l, err := profiles.Load(name, files)
		if err != nil {
			t.Fatal(err)
		}
		in := Inputs{Profile: l.Profile, Manifest: "sha256:0123456789abcdef", Host: inputs(t, full).Host}
		in.Host.Roots = []string{"/home/ann/.nvm/versions/node/v24.1.0", "/home/ann/.cargo", "/home/ann/.rustup"}
		in.Host.Engine.CPUs, in.Host.Hidden = true, nil
		var b bytes.Buffer
		if err := WriteText(&b, resolve(t, in)); err != nil {
			t.Fatal(err)
		}
		rows := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if len(rows) > 23 {
			t.Errorf("%s has %d rows:\n%s", name, len(rows), b.String())
		}
		for _, row := range rows {
			if n := len([]rune(row)); n > 80 && !strings.Contains(row, "sha256:") {
				t.Errorf("%s has a row of %d columns: %s", name, n, row)
			}
		}
		if !strings.Contains(b.String(), "changed by  your own layers, flags or the organisation's") {
			t.Errorf("%s does not say that it differs from the manifest", name)
		}
		b.Reset()
		in.Manifest = resolve(t, in).Hash
		if err := WriteText(&b, resolve(t, in)); err != nil || strings.Contains(b.String(), "changed by") {
			t.Errorf("%s differs from itself (%v)", name, err)
		}
	}
}
