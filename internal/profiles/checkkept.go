package profiles

import (
	"path"
	"slices"
	"strings"

	"agentbox/internal/caches"
)

// checkKept sees that nothing that is kept between runs lies in another thing, is written at each start, or holds a login.
func (d *document) checkKept(p *Profile) {
	checkTwice(d, p.Workspace.Caches, "workspace", "caches")
	for i, c := range p.Workspace.Caches {
		name, readOnly := caches.Split(string(c))
		other := Cache(name)
		if !readOnly {
			other += caches.ReadOnly
		}
		if slices.Contains(p.Workspace.Caches[:i], other) {
			d.value([]string{"workspace", "caches", index(i)}, "duplicate", "keep one of them", "the cache %q stands here already", name)
		}
	}
	checkTwice(d, p.Agent.Keep, "agent", "keep")
	for i, k := range p.Agent.Keep {
		if k != "" {
			d.checkKeep(p, i, k.Rel())
		}
	}
}

func (d *document) checkKeep(p *Profile, i int, rel string) {
	at := []string{"agent", "keep", index(i)}
	refuse := func(hint, why string, args ...any) { d.value(at, "bad-value", hint, why, args...) }
	if place := caches.Login(rel); place != "" {
		refuse("name the directories that you need, such as \"~/.claude/projects\" or \"~/.codex/sessions\"",
			"\"~/%s\" can't be kept: ~/%s holds logins", rel, place)
		return
	}
	for _, f := range p.Agent.Files {
		if at, ok := strings.CutPrefix(f.Path, "~/"); ok && caches.Overlap(path.Clean(at), rel) {
			refuse("name the directories beside it that you need", "\"~/%s\" can't be kept: the profile writes %s at each start", rel, f.Path)
			return
		}
	}
	for _, other := range p.Agent.Keep[:i] {
		if o := other.Rel(); other != "" && o != rel && caches.Overlap(o, rel) {
			refuse("keep one of them", "\"~/%s\" and %q overlap", rel, other)
			return
		}
	}
	for _, c := range p.Workspace.Caches {
		cache, _ := caches.Find(string(c))
		if slices.ContainsFunc(cache.Dirs, func(dir string) bool { return caches.Overlap(dir, rel) }) {
			refuse("keep one of them", "\"~/%s\" and the cache %q overlap", rel, cache.Name)
			return
		}
	}
}

// checkSeed refuses to copy what its name says is a login's, and what something else puts there too.
func (d *document) checkSeed(p *Profile) {
	checkTwice(d, p.Agent.Seed, "agent", "seed")
	for i, s := range p.Agent.Seed {
		at, rel := []string{"agent", "seed", index(i)}, s.Rel()
		switch login := caches.LoginFile(rel); {
		case s == "":
		case login != "":
			d.value(at, "bad-value", "a [[credential]] gives the agent a placeholder, and keeps the value outside", "%q is not copied: %s may hold logins", s, login)
		case slices.ContainsFunc(p.Agent.Files, func(f File) bool {
			at, _ := strings.CutPrefix(f.Path, "~/")
			return caches.Overlap(path.Clean(at), rel)
		}):
			d.value(at, "bad-value", "keep one of them", "%q is written by the profile itself", s)
		case slices.ContainsFunc(p.Agent.Keep, func(k HomePath) bool { return k != "" && caches.Overlap(k.Rel(), rel) }):
			d.value(at, "bad-value", "keep one of them", "%q lies in what agent.keep keeps", s)
		}
	}
}
