// Package changes reads what an agent did to its copy of a repository.
//
// It owns how a run's record of the start (Base) is written and read, and what the two back ends leave behind: an
// overlay's upper over its lower, in the kernel's encoding and in fuse-overlayfs's, and a private copy. It only reads:
// the upper may be mounted, and written to, at the same time. Nothing below the upper or the repository is opened
// through a link. Its cost grows with what changed, not with the repository.
package changes

import (
	"io/fs"
	"sync"
	"time"
)

// Kind is what lies at a path.
type Kind string

// The kinds. What is special is a FIFO, a socket or a device.
const (
	Absent  Kind = ""
	File    Kind = "file"
	Link    Kind = "link"
	Dir     Kind = "dir"
	Special Kind = "special"
)

// State is one side of a change.
type State struct {
	Kind    Kind        `json:"kind"`
	Mode    fs.FileMode `json:"mode"` // permission bits
	Size    int64       `json:"size,omitempty"`
	Link    string      `json:"link,omitempty"`    // where a link leads, as it is written
	Special string      `json:"special,omitempty"` // "fifo", "socket" or "device"
}

// Fate is what an apply does with a change that was chosen.
type Fate string

// The fates. All but Applies are told to the person and never applied; Change.Why says the reason.
const (
	Applies    Fate = "applies"
	Hidden     Fate = "hidden"     // a hide pattern names it
	NeverMade  Fate = "special"    // a FIFO, a socket or a device
	Unreadable Fate = "unreadable" // nobody but the agent can read it, or only part of it is there
	GitsOwn    Fate = "git"        // git would take the name for a repository's own
	Dropped    Fate = "dropped"    // nothing but setuid, setgid or sticky bits, which are never carried over
)

// Change is what became of one path.
type Change struct {
	Path           string `json:"path"` // slash-separated, below the root; any bytes but NUL
	Before         State  `json:"before"`
	After          State  `json:"after"`
	Binary         bool   `json:"binary,omitempty"`
	Added          int    `json:"added,omitempty"`   // lines; 0 for what is binary or larger than MaxDiff
	Removed        int    `json:"removed,omitempty"` // lines
	Fate           Fate   `json:"fate"`
	Why            string `json:"why,omitempty"`             // of the fate, or of what is not carried over; for people
	Later          string `json:"later,omitempty"`           // why the person's own tools would execute it later; "": they would not
	ChangedOutside bool   `json:"changed_outside,omitempty"` // the person's file changed too, since the start: an apply merges, or leaves a conflict
	Mark           string `json:"mark"`                      // names this state of the agent's side: another mark is another content
}

// The back ends that a Base names.
const (
	Overlay     = "overlay"        // the kernel's
	FuseOverlay = "fuse-overlayfs" // which marks deletions by files named .wh.NAME where it can't make devices
	Copy        = "copy"           // <work>/copy is the private copy
)

// Base is the record of a run's start.
type Base struct {
	Version     int       `json:"version"`      // BaseVersion
	Run         string    `json:"run"`          // the run's name, for files that are laid beside others
	Root        string    `json:"root"`         // the repository's top on the host, absolute
	Git         string    `json:"git"`          // its git directory, absolute; "" for none
	Backend     string    `json:"backend"`      // Overlay, FuseOverlay or Copy
	Began       time.Time `json:"began"`        // Moment(Root), taken before the agent could see the tree
	Copied      time.Time `json:"copied"`       // back end Copy: Moment(<work>/copy), when the copy was whole
	Head        string    `json:"head"`         // the commit that HEAD named; "" for none
	Hide        []string  `json:"hide"`         // the hide patterns, in order; "!" shows what those before it hide
	MountPoints []string  `json:"mount_points"` // what agentbox itself made in the upper: slash-separated, below the root; for Copy also what the copy leaves out
}

// BaseVersion is the version of the record that this package writes and reads.
const BaseVersion = 1

// Source is what one run left, or is still writing.
type Source struct {
	Base Base
	Work string // <session>/work

	reading sync.Mutex
	read    bool // index was
	index   index
}

// MaxDiff is the size in bytes of the largest file whose lines are compared.
const MaxDiff = 8 << 20

// Text is the difference of a file, line by line.
type Text struct {
	Binary   bool   `json:"binary,omitempty"`    // it has no lines to compare
	TooLarge bool   `json:"too_large,omitempty"` // one side is larger than MaxDiff
	Hunks    []Hunk `json:"hunks,omitempty"`
}

// Hunk is a run of lines that changed, with three lines around it.
type Hunk struct {
	ID                 string `json:"id"` // names the hunk by its place and lines, for a selection
	OldStart, OldLines int    // from 1, as in a unified diff
	NewStart, NewLines int
	Lines              []Line `json:"lines"`
}

// Line is a line of a hunk.
type Line struct {
	Op    byte   `json:"op"`               // ' ', '-' or '+'
	Text  string `json:"text"`             // without the line feed; any bytes
	NoEOL bool   `json:"no_eol,omitempty"` // the file ends here without a line feed
}
