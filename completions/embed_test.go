package completions

import (
	"strings"
	"testing"
)

// What the scripts do is tested in the shells themselves, by test/completions.
func TestForHasWhatItNames(t *testing.T) {
	for shell := range names() {
		script, ok := For(shell)
		if !ok || !strings.Contains(string(script), "__complete") {
			t.Errorf("%s: the script does not ask agentbox", shell)
		}
		if shell != "powershell" && strings.Contains(string(script), "eval ") {
			t.Errorf("%s: the script hands something to eval", shell)
		}
	}
	if _, ok := For("../agentbox.bash"); ok {
		t.Error("any file is a shell")
	}
}
