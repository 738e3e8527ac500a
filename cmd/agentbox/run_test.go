package main

import (
	"errors"
	"strings"
	"testing"

	"agentbox/internal/run"
)

func TestRunsAreRefusedWhereThereIsNoBoundary(t *testing.T) {
	if err := runsOn("linux"); err != nil {
		t.Errorf("on Linux: %v", err)
	}
	for system, name := range map[string]string{"darwin": "macOS", "freebsd": "freebsd"} {
		var refused *run.Failure
		if err := runsOn(system); !errors.As(err, &refused) || refused.Code != run.CodeRefused {
			t.Errorf("on %s: %v, want a refusal", system, err)
		} else if !strings.Contains(refused.Text, name) || refused.Hint == "" {
			t.Errorf("on %s: %q, hint %q", system, refused.Text, refused.Hint)
		}
	}
}
