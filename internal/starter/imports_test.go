package starter

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func TestImports(t *testing.T) {
	for path, archive := range archives(t, "testdata/imports/*.txtar", 5) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			in := archive.Files[0]
			got, err := Import(in.Data, strings.TrimPrefix(in.Name, "in/"), claudeOptions(t))
			if err != nil {
				t.Fatal(err)
			}
			var notes strings.Builder
			for _, n := range got.Notes {
				notes.WriteString(n.String() + "\n")
			}
			golden(t, path, archive, "profile.toml", got.Profile)
			golden(t, path, archive, "notes", []byte(notes.String()))
			if bytes.Contains(got.Profile, []byte("TOPSECRET")) || strings.Contains(notes.String(), "TOPSECRET") {
				t.Error("a secret of the file came out")
			}
			if whole := strings.Contains(string(archive.Comment), "whole"); got.Whole() != whole {
				t.Errorf("nothing was lost: %v, want %v", got.Whole(), whole)
			}
			loads(t, got.Profile)
		})
	}
}
