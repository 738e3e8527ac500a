package plan

import "fmt"

// Backend is how the review mode keeps apart what is changed.
type Backend string

// The backends.
const (
	Overlaid Backend = "overlay"
	Copied   Backend = "copy"
)

// layer chooses the backend: the one that was asked for, else an overlay where there can be one.
func layerOf(h Host, g Grants) (Layer, error) {
	if g.Workspace.Mode != Review {
		return Layer{}, nil
	}
	why := h.NoOverlay
	if g.Isolation.Runtime == "gvisor" {
		why = "gVisor mounts none"
	}
	switch asked := Backend(g.Workspace.Backend); {
	case asked == Copied:
		return Layer{Backend: string(Copied), Overlay: why == ""}, nil
	case why == "":
		return Layer{Backend: string(Overlaid), Overlay: true}, nil
	case asked == Overlaid:
		return Layer{}, &Refusal{Text: fmt.Sprintf("the profile asks for backend = \"overlay\", and there can be no overlay here: %s", why),
			Tip: `leave backend out, or write backend = "copy"`}
	}
	return Layer{Backend: string(Copied), Why: why}, nil
}
