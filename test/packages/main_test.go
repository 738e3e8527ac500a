package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

func TestTheReleasesOwnSectionIsTaken(t *testing.T) {
	in, err := os.Open("../../.goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	var out bytes.Buffer
	if err := run([]string{"1.2.3", "amd64", "bin/agentbox", "2026-01-02T03:04:05Z"}, in, &out); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Name, Version, Arch, Mtime string
		Overrides                  map[string]struct{ Depends []string }
		Contents                   []struct{ Src, Dst string }
	}
	if err := yaml.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "agentbox" || got.Version != "1.2.3" || got.Arch != "amd64" || got.Contents[0].Dst != "/usr/bin/agentbox" {
		t.Errorf("%+v", got)
	}
	for _, left := range []string{"{{", "bindir", "formats", "dependencies"} {
		if strings.Contains(out.String(), left) {
			t.Errorf("%q is left in it", left)
		}
	}
	for _, kind := range []string{"deb", "rpm", "apk"} {
		if len(got.Overrides[kind].Depends) == 0 {
			t.Errorf("%s needs nothing", kind)
		}
	}
}

func TestUnknownTemplatesAreRefused(t *testing.T) {
	in := strings.NewReader("\nnfpms:\n  - maintainer: \"{{ .Env.NOBODY }}\"\n\nhomebrew_casks:\n")
	if err := run([]string{"1", "amd64", "b", "d"}, in, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), ".Env.NOBODY") {
		t.Errorf("%v", err)
	}
}
