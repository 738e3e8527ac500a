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

// Two roots in one profile are a mistake, so that an image yields to what the base says already.
func TestAnImageYieldsToTheRootOfTheBase(t *testing.T) {
	o := claudeOptions(t)
	base := *o.Merged
	base.Agent.Rootfs = "host"
	o.Merged = &base
	got, err := Import([]byte(`{"image":"r.example/x@sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"}`), "devcontainer.json", o)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(got.Profile), "image") || got.Whole() {
		t.Errorf("it was carried over:\n%s", got.Profile)
	}
}
