package main

import (
	"os"
	"path/filepath"
	"testing"
)

// What is not a site of ours stays.
func TestOnlyASiteIsReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := empty(filepath.Join(dir, "new")); err != nil {
		t.Errorf("a place that is not there: %v", err)
	}
	mine := filepath.Join(dir, "mine.txt")
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := empty(dir); err == nil {
		t.Error("a directory with other things was taken away")
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, made), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := empty(dir); err != nil {
		t.Errorf("a site was not taken away: %v", err)
	}
}
