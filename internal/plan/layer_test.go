package plan

import (
	"errors"
	"strings"
	"testing"
)

func TestTheLayerIsAnOverlayWhereThereCanBeOne(t *testing.T) {
	const why = "the file system keeps no attributes"
	for _, c := range []struct {
		text      string // of [workspace]
		more      string
		noOverlay string
		want      Layer
		refused   bool
	}{
		{text: `mode = "direct"`, noOverlay: why},
		{text: `mode = "review"`, want: Layer{Backend: "overlay", Overlay: true}},
		{text: `mode = "review"`, noOverlay: why, want: Layer{Backend: "copy", Why: why}},
		{text: "mode = \"review\"\nbackend = \"overlay\"", want: Layer{Backend: "overlay", Overlay: true}},
		{text: "mode = \"review\"\nbackend = \"overlay\"", noOverlay: why, refused: true},
		{text: "mode = \"review\"\nbackend = \"copy\"", want: Layer{Backend: "copy", Overlay: true}},
		{text: "mode = \"review\"\nbackend = \"copy\"", noOverlay: why, want: Layer{Backend: "copy"}},
		{text: `mode = "review"`, more: "[isolation]\nruntime = \"gvisor\"\n", want: Layer{Backend: "copy", Why: "gVisor mounts none"}},
	} {
		in := inputs(t, "version = 1\n[agent]\ncommand = [\"x\"]\n[workspace]\n"+c.text+"\n"+c.more)
		in.Host.NoOverlay, in.Host.Engine.GVisor = c.noOverlay, "runsc"
		p, err := Resolve(in)
		var refusal *Refusal
		if c.refused {
			if !errors.As(err, &refusal) || !strings.Contains(refusal.Text, why) || !strings.Contains(refusal.Tip, "copy") {
				t.Errorf("%s: %v", c.text, err)
			}
			continue
		}
		if err != nil || p.Binding.Layer != c.want {
			t.Errorf("%s %q: %+v, %v", c.text, c.noOverlay, p.Binding.Layer, err)
			continue
		}
		if text := textOf(t, p); c.want.Why != "" && !strings.Contains(text, "there can be no overlay here") {
			t.Errorf("%s: the plan does not say why:\n%s", c.text, text)
		}
	}
}
