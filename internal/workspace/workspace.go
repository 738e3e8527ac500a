// Package workspace turns a repository on this machine into the mounts that a container gets.
//
// It owns three answers: which directory is the repository and whether it may be handed over (Find), what in it
// must not be seen (Survey), and which binds, in which order, show it (Mounts) so that nothing which the host's git
// executes can be written from inside and no credential of `.git/config` can be read. It never runs git: every file
// of the repository is read as data. What it writes on the host is a run's scratch directory and, in direct mode,
// the mount points that keep an agent from making a file git would obey: an empty `.git/hooks`, an empty
// `.git/config.worktree` and a `.git/commondir` that names `.git` itself. They are harmless and stay, because
// removing a mount point would take the guard off another run. In review mode nothing is written on the host's side but
// the run's Layer: mount points are made there.
//
// A bind hides a path only while the path stays the same file: the kernel drops a mount whose mount point is
// replaced from the host (an editor's save, `git config`). Watch reports that, and the run must then stop.
package workspace

import (
	"errors"
	"fmt"
)

// Mode is how the repository is shown.
type Mode string

// The modes.
const (
	Direct   Mode = "direct"   // read-write, live
	Review   Mode = "review"   // what is changed lies apart, in a Layer
	ReadOnly Mode = "readonly" // nothing in it can be changed
)

// Repo is a repository that may be handed over. The paths are absolute and free of links.
type Repo struct {
	Root      string // the top of the work tree; of a bare repository, all of it
	Git       string // the work tree's git directory: Root/.git, or what the file of that name leads to; of a bare repository, Root
	Common    string // the git directory with the objects and the configuration: Git, or what a linked worktree shares with others
	Directory string // where the person stood: Root or below
}

// Kind says why a mount is there.
type Kind string

// The kinds of mounts.
const (
	Tree   Kind = "tree"   // the repository itself and its .git
	Pin    Kind = "pin"    // a directory bound onto itself, so that it cannot be renamed away with a guard in it
	Guard  Kind = "guard"  // something the host's git obeys: read-only
	Filter Kind = "filter" // a filtered copy in place of a git configuration: read-only
	Hide   Kind = "hide"   // an empty file or directory in place of something hidden: read-only
)

// Mount is one bind, or an overlay. Mounts come in the order in which they must be made; no two have the same target.
type Mount struct {
	Source   string // of an overlay: what is below, and is never written to
	Target   string
	Upper    string // of an overlay: where writes go; "" for a bind
	Work     string // of an overlay: the kernel's own, beside Upper
	ReadOnly bool
	Kind     Kind
}

// Refusal is an error about the person's input, with what to do instead.
type Refusal struct {
	Text string
	Hint string
}

func (r *Refusal) Error() string { return r.Text }

// HintText is the line to show below the error.
func (r *Refusal) HintText() string { return r.Hint }

func refuse(hint, format string, args ...any) error {
	return &Refusal{Text: fmt.Sprintf(format, args...), Hint: hint}
}

// Hint gives the advice of a Refusal in err's chain, or "".
func Hint(err error) string {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Hint
	}
	return ""
}
