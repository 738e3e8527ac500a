package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"agentbox/internal/run"
	"agentbox/internal/run/podman"
)

// The bar goes by the bytes that are known, never back, and never beyond its end.
func TestPullProgress(t *testing.T) {
	p := &pullProgress{layers: map[string]podman.Progress{}}
	p.add(podman.Progress{Layer: "a"})
	if got := p.text(); got != "0 of 1 parts" || strings.Contains(p.bar(), "#") {
		t.Errorf("before any number: %q %q", got, p.bar())
	}
	p.add(podman.Progress{Layer: "a", Read: 2_000_000, Total: 4_000_000})
	p.add(podman.Progress{Layer: "a", Read: 1_000_000})
	p.add(podman.Progress{Layer: "b", Done: true, Here: true})
	if got := p.text(); got != "2.0 MB of 4.0 MB, 1 of 2 parts" || strings.Count(p.bar(), "#") != 12 {
		t.Errorf("in the middle: %q %q", got, p.bar())
	}
	p.add(podman.Progress{Layer: "a", Done: true})
	if got := p.text(); got != "4.0 MB of 4.0 MB, 2 of 2 parts" || strings.Contains(p.bar(), ".") {
		t.Errorf("at the end: %q %q", got, p.bar())
	}
	for i := range 2 * maxLayers {
		p.add(podman.Progress{Layer: strings.Repeat("x", i+1)})
	}
	if len(p.layers) > maxLayers {
		t.Errorf("%d layers are kept", len(p.layers))
	}
}

// Sizes that a registry makes up neither break the bar nor turn into less than nothing.
func TestPullProgressOfMadeUpSizes(t *testing.T) {
	for _, most := range []int64{1 << 60, 1<<63 - 1, -1} {
		p := &pullProgress{layers: map[string]podman.Progress{}}
		for _, name := range []string{"a", "b", "c"} {
			p.add(podman.Progress{Layer: name, Total: most})
			p.add(podman.Progress{Layer: name, Read: most, Total: most, Done: true})
		}
		if bar, text := p.bar(), p.text(); len(bar) != 26 || strings.Contains(text, "-") {
			t.Errorf("of %d bytes: %s %s", most, bar, text)
		}
	}
}

// What a registry says stays in its own line, and redraws nothing.
func TestPullFailuresAreEscaped(t *testing.T) {
	err := pullFailure("r.test/x@sha256:0", errors.New("denied: \x1b[2J\nagentbox: hint: do as I say\u202e"))
	if text := err.Error(); strings.ContainsAny(text, "\x1b\n\u202e") || !strings.Contains(text, "denied") {
		t.Errorf("%q", text)
	}
}

func TestPullFailuresSayWhatToDo(t *testing.T) {
	for text, want := range map[string]string{
		"unauthorized: access denied": "podman login r.test", "tls: failed to verify certificate: x509: unknown authority": "certs.d/r.test",
		"manifest unknown: manifest unknown": "has no image with this digest", "no image found in manifest list for architecture": "index which has one",
		"the digest did not match": "nothing of it was kept", "connection reset by peer": "fetches the rest",
	} {
		var f *run.Failure
		if err := pullFailure("r.test/x@sha256:0", errors.New(text)); !errors.As(err, &f) || !strings.Contains(f.Hint, want) || !strings.Contains(f.Text, text) {
			t.Errorf("%s: %+v", text, f)
		}
	}
}

// Anybody can write a label: an image that was pulled, and says that agentbox built it, is the person's.
func TestPruneRemovesWhatAgentboxBuilt(t *testing.T) {
	used := time.Now()
	rows := []imageRow{
		{ID: "recorded", Known: true, Used: &used}, {ID: "its record is lost", named: namedByUs([]string{"localhost/agentbox/claude:0"})},
		{ID: "pulled", named: namedByUs([]string{"registry.test/team/agent:1"})}, {ID: "named by the person too", named: namedByUs([]string{"localhost/agentbox/claude:0", "registry.test/x:1"})},
		{ID: "without a name", named: namedByUs(nil)},
	}
	var gone []string
	for _, r := range goes(rows, imagePruneOptions{all: true}, time.Now()) {
		gone = append(gone, r.ID)
	}
	if want := []string{"recorded", "its record is lost"}; !slices.Equal(gone, want) {
		t.Errorf("removed are %q, want %q", gone, want)
	}
}
