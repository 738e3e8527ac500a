package apply

import (
	"path"
	"slices"
	"strings"

	"agentbox/internal/changes"
)

// choose turns a selection into what is wanted, and tells what is not applied, and why.
func (a *applier) choose(list []changes.Change, sel Selection) []want {
	for _, c := range list {
		a.list[c.Path] = c
	}
	named := clean(sel.Paths)
	for _, c := range list {
		_, byHunk := sel.Hunks[c.Path]
		if sel.All || byHunk || covers(named, c.Path) {
			a.chose(c, sel)
		}
	}
	for _, p := range slices.Concat(named, keys(sel.Hunks)) {
		if !a.anythingAt(p) {
			a.tell(p, Already, "nothing changed there")
		}
	}
	a.chooseNeeded(sel)
	return a.sorted()
}

func clean(paths []string) (out []string) {
	for _, p := range paths {
		p = strings.TrimPrefix(path.Clean("/"+p), "/")
		out = append(out, p)
	}
	return out
}

func keys(m map[string][]string) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

// covers says whether one of the names is the path, or a directory above it. The empty name is the repository.
func covers(names []string, p string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return n == "" || p == n || strings.HasPrefix(p, n+"/") })
}

func (a *applier) anythingAt(name string) bool {
	for p := range a.list {
		if covers([]string{name}, p) {
			return true
		}
	}
	return name == ""
}

// chose takes one change, if nothing speaks against it.
func (a *applier) chose(c changes.Change, sel Selection) bool {
	seen, looked := sel.Seen[c.Path]
	yes := sel.AllLater || covers(clean(sel.Later), c.Path)
	switch {
	case c.Fate != changes.Applies:
		a.tell(c.Path, Refused, c.Why)
	case looked && seen != c.Mark:
		a.tell(c.Path, Stale, "the agent changed it after it was shown")
	case c.Later != "" && !yes:
		a.tell(c.Path, Waiting, c.Later)
	default:
		a.wants[c.Path] = want{Path: changes.Name(c.Path), Mark: c.Mark, Hunks: sel.Hunks[c.Path], Yes: yes}
		return true
	}
	return false
}

// chooseNeeded adds what the chosen can't do without: where a directory takes a file's place, or a file a directory's, what
// was there must go.
func (a *applier) chooseNeeded(sel Selection) {
	for _, w := range a.sorted() {
		c := a.list[string(w.Path)]
		if c.After.Kind != changes.Absent {
			for dir := path.Dir(c.Path); dir != "."; dir = path.Dir(dir) {
				up, changed := a.list[dir]
				if _, wanted := a.wants[dir]; changed && !wanted && up.After.Kind == changes.Dir && up.Before.Kind != changes.Dir {
					a.chose(up, sel)
				}
			}
		}
		if c.Before.Kind == changes.Dir && c.After.Kind != changes.Dir {
			for p, down := range a.list {
				if _, wanted := a.wants[p]; !wanted && strings.HasPrefix(p, c.Path+"/") {
					a.chose(down, sel)
				}
			}
		}
	}
}

// sorted gives what is wanted, by path.
func (a *applier) sorted() (out []want) {
	for _, w := range a.wants {
		out = append(out, w)
	}
	slices.SortFunc(out, func(x, y want) int { return strings.Compare(string(x.Path), string(y.Path)) })
	return out
}
