package main

import (
	"slices"
	"testing"

	"agentbox/internal/plan"
)

// TestALoginInTheKeyringIsUsed: it was listed as stored and used by nobody.
func TestALoginInTheKeyringIsUsed(t *testing.T) {
	for _, c := range []struct {
		source plan.Source
		want   []string
	}{
		{plan.Source{Env: "A", Keyring: "b"}, []string{"env A", "keyring b"}},
		{plan.Source{Keyring: "b"}, []string{"keyring b"}},
		{plan.Source{GitHubApp: &plan.GitHubApp{ID: 1, Key: "k"}}, []string{"keyring k"}},
		{plan.Source{OAuth: &plan.OAuth{Login: "codex", Keyring: "mine"}}, []string{"keyring mine"}},
		{plan.Source{OAuth: &plan.OAuth{Login: "codex", File: "~/x"}}, []string{"login codex"}},
	} {
		if got := origins(c.source); !slices.Equal(got, c.want) {
			t.Errorf("%+v reads %q, want %q", c.source, got, c.want)
		}
	}
}
