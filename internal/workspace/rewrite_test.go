//go:build linux

package workspace

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Git itself says where it would go.
func TestRewrites(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	if err := os.WriteFile(config, Rewrites([]string{"github.com", "git.example.com"}), 0o600); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"git@github.com:acme/billing.git":             "https://github.com/acme/billing.git",
		"git@github.com:/acme/billing.git":            "https://github.com/acme/billing.git",
		"github.com:acme/billing":                     "https://github.com/acme/billing",
		"ssh://git@git.example.com/acme/billing":      "https://git.example.com/acme/billing",
		"ssh://git@git.example.com:22/acme/billing":   "https://git.example.com/acme/billing",
		"ssh://github.com/acme/billing":               "https://github.com/acme/billing",
		"git://github.com/acme/billing":               "https://github.com/acme/billing",
		"https://github.com/acme/billing":             "https://github.com/acme/billing",
		"git@github.com.evil.example:acme/billing":    "git@github.com.evil.example:acme/billing",
		"git@elsewhere.example:acme/billing":          "git@elsewhere.example:acme/billing",
		"ssh://git@git.example.com:2222/acme/billing": "ssh://git@git.example.com:2222/acme/billing",
	} {
		cmd := exec.Command("git", "ls-remote", "--get-url", address)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_CONFIG_GLOBAL="+config, "GIT_CONFIG_NOSYSTEM=1")
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s leads to %s (%v), want %s", address, got, err, want)
		}
	}
}

// A repository whose configuration leads to ssh would undo it.
func TestRewritesToSSHAreNotTakenInside(t *testing.T) {
	entries, err := parseConfig([]byte("[url \"git@github.com:\"]\n\tinsteadOf = https://github.com/\n[url \"ssh://git@h.test/\"]\n\tpushInsteadOf = https://h.test/\n[url \"https://h.test/\"]\n\tinsteadOf = h:\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(formatConfig(filterConfig(entries))); strings.Contains(got, "git@") || strings.Contains(got, "ssh") || !strings.Contains(got, "https://h.test/") {
		t.Error(got)
	}
}
