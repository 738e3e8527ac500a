package apply

import (
	"io"

	"agentbox/internal/changes"
	"agentbox/internal/later"
)

// waits tells that a path waits for a yes of its own. What is to be there is looked at once more: picked hunks or a merge can
// make of two sides that execute nothing a text that does, and the person may have made executable what the agent wrote to.
func (a *applier) waits(p *place, was pin, c changes.Change, after changes.State, read func() ([]byte, error)) bool {
	if a.wants[c.Path].Yes || after.Kind != changes.File {
		return false
	}
	var before *later.File
	if was.kind() == changes.File {
		before = &later.File{Mode: was.perm(), Read: func() ([]byte, error) {
			f, err := openPinned(p, was)
			return bounded(f, err)
		}}
	}
	why := later.Match(c.Path, before, &later.File{Mode: after.Mode, Read: read})
	if why != "" {
		a.tell(c.Path, Waiting, why)
	}
	return why != ""
}

// read gives the agent's text as far as it decides whether it would execute later.
func (t theirs) read() ([]byte, error) {
	if t.text != nil {
		return t.text, nil
	}
	return bounded(io.NopCloser(limited(t.file)), nil)
}
