package tui

import (
	"fmt"
	"io/fs"
	"strings"

	"agentbox/internal/changes"
)

// group says where in the list a change stands.
type group int

const (
	later   group = iota // the person's own tools would execute it later
	usual                // all else that can be applied
	outside              // what is never applied
	groups
)

// item is a change with what the person decided about it.
type item struct {
	changes.Change
	on    bool     // taken, as a whole or in part
	hunks []string // the ids of those, nil for all
	since bool     // it came, or changed after it was taken, while the screen stood: not taken until the person says so
}

func (i *item) group() group {
	switch {
	case i.Fate != changes.Applies:
		return outside
	case i.Later != "":
		return later
	}
	return usual
}

// box is the item's mark in the list.
func (i *item) box() string {
	switch {
	case i.group() == outside:
		return " - "
	case !i.on && i.since:
		return "[?]"
	case !i.on:
		return "[ ]"
	case i.hunks != nil:
		return "[~]"
	}
	return "[x]"
}

// Status is the letter that git would give a change: A, D, M, or T for another kind of file.
func Status(c changes.Change) string {
	switch {
	case c.Before.Kind == changes.Absent:
		return "A"
	case c.After.Kind == changes.Absent:
		return "D"
	case c.Before.Kind != c.After.Kind:
		return "T"
	}
	return "M"
}

// Counts says in a word how large a change is.
func Counts(c changes.Change) string {
	var parts []string
	switch {
	case c.Binary:
		parts = append(parts, "binary")
	case c.Added > 0 || c.Removed > 0:
		parts = append(parts, fmt.Sprintf("+%d -%d", c.Added, c.Removed))
	case c.After.Kind == changes.Dir || c.Before.Kind == changes.Dir:
		parts = append(parts, "directory")
	case c.After.Kind == changes.Link || c.Before.Kind == changes.Link:
		parts = append(parts, "link")
	}
	if mode := ModeChange(c); mode != "" {
		parts = append(parts, mode)
	}
	return strings.Join(parts, " ")
}

// Summary is all changes in a line.
func Summary(list []changes.Change) string {
	var added, removed, binary, modes, links int
	var size int64
	for _, c := range list {
		added, removed, size = added+c.Added, removed+c.Removed, size+c.After.Size
		if c.Binary {
			binary++
		}
		if ModeChange(c) != "" {
			modes++
		}
		if c.After.Kind == changes.Link {
			links++
		}
	}
	s := fmt.Sprintf("%s, +%d -%d", count(len(list), "change"), added, removed)
	for _, part := range []struct {
		n    int
		what string
	}{{binary, "binary"}, {modes, "with another mode"}, {links, "links"}} {
		if part.n > 0 {
			s += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	return s + ", " + bytes(size)
}

// bytes is a size for people.
func bytes(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

// ModeChange is what changed of the permissions: "+x", "-x", or both modes; "" for nothing, and for new and removed files
// unless a new one can be executed.
func ModeChange(c changes.Change) string {
	const exec = fs.FileMode(0o111)
	file := c.After.Kind == changes.File
	switch before, after := c.Before.Mode.Perm(), c.After.Mode.Perm(); {
	case c.Before.Kind == changes.Absent && file && after&exec != 0:
		return "+x"
	case c.Before.Kind != c.After.Kind || c.After.Kind == changes.Link || before == after:
		return ""
	case file && before|exec == after|exec && before&exec == 0:
		return "+x"
	case file && before|exec == after|exec && after&exec == 0:
		return "-x"
	default:
		return fmt.Sprintf("%04o→%04o", before, after)
	}
}
