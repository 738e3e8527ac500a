package changes

import (
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"agentbox/internal/later"
)

// twin gives another name in the same directory that would be the same where case is ignored.
func (l *lister) twin(rel string) (string, error) {
	dir, name := path.Split(rel)
	dir = strings.TrimSuffix(dir, "/")
	names, ok := l.folded[dir]
	if !ok {
		var err error
		if names, err = l.namesIn(dir); err != nil {
			return "", err
		}
		l.folded[dir] = names
	}
	for _, other := range names[later.Fold(name)] {
		if other != name {
			return other, nil
		}
	}
	return "", nil
}

// namesIn gives the names that a directory shows inside.
func (l *lister) namesIn(dir string) (map[string][]string, error) {
	upper, hides, err := l.upper.list(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it went meanwhile
	}
	if err != nil {
		return nil, err
	}
	here, gone := l.sort(upper)
	names, not := map[string][]string{}, map[string]bool{}
	for _, e := range here {
		names[later.Fold(e.name)] = append(names[later.Fold(e.name)], e.name)
		not[e.name] = true
	}
	for _, name := range gone {
		not[name] = true
	}
	if hides || l.s.Base.Backend == Copy {
		return names, nil
	}
	host, _, err := l.host.list(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			err = nil
		}
		return names, err
	}
	for _, e := range host {
		if !not[e.name] {
			names[later.Fold(e.name)] = append(names[later.Fold(e.name)], e.name)
		}
	}
	return names, nil
}

// leadsOut says whether a link may lead out of the repository: its target is elsewhere, or on its way lies another link.
func (l *lister) leadsOut(rel, target string) bool {
	if path.IsAbs(target) {
		in, err := filepath.Rel(l.s.Base.Root, path.Clean(target))
		if err != nil {
			return true
		}
		return l.wanders(strings.Split(in, "/")) || strings.Contains(target, "/../")
	}
	way := strings.Split(path.Dir(rel)+"/"+target, "/")
	return l.wanders(way)
}

// wanders walks a way from the top.
func (l *lister) wanders(way []string) bool {
	at := ""
	for _, part := range way {
		switch part {
		case "", ".":
			continue
		case "..":
			if at == "" {
				return true
			}
			at = strings.TrimSuffix(path.Dir("/" + at)[1:], "/")
			continue
		}
		at = join(at, part)
		if l.isLink(at) {
			return true
		}
	}
	return false
}

func (l *lister) isLink(rel string) bool {
	if n, err := l.upper.lstat(rel); err == nil {
		return n.kind() == Link
	}
	n, err := l.host.lstat(rel)
	return err == nil && n.kind() == Link
}
