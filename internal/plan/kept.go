package plan

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"agentbox/internal/caches"
)

// Kept is a directory that outlives the run, for this repository and profile alone.
type Kept struct {
	Name     string `json:"name"`   // of a cache, "npm"; of an agent's state, "~/.claude/projects"
	State    bool   `json:"state"`  // it is the agent's, and no cache
	Source   string `json:"source"` // on the host, of agentbox's own
	Target   string `json:"target"` // inside
	ReadOnly bool   `json:"read_only,omitempty"`
}

// keptOf says where everything that is kept lies, here and inside.
func keptOf(h Host, g Grants) ([]Kept, error) {
	var out []Kept
	for _, word := range g.Workspace.Caches {
		cache, ok := caches.Find(word)
		if !ok {
			return nil, &Refusal{Text: fmt.Sprintf("there is no cache %q", word), Tip: "take it out of workspace.caches"}
		}
		_, readOnly := caches.Split(word)
		for _, dir := range cache.Dirs {
			out = append(out, Kept{Name: cache.Name, Source: caches.At(h.Caches, cache.Name, dir), Target: filepath.Join(h.User.Home, dir), ReadOnly: readOnly})
		}
	}
	for _, path := range g.Agent.Keep {
		dir := strings.TrimPrefix(path, "~/")
		out = append(out, Kept{Name: path, State: true, Source: caches.At(h.State, path, dir), Target: filepath.Join(h.User.Home, dir)})
	}
	for _, k := range out {
		if err := apart(k, h); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// apart refuses what would lie over, or in, something else of this machine that is shown.
func apart(k Kept, h Host) error {
	for _, other := range append([]string{h.Repo}, h.Roots...) {
		if !caches.Overlap(k.Target, other) {
			continue
		}
		what, tip := "the programs of this machine at "+other+", which are shown read-only", "take it out of the profile: it can't be kept here"
		if other == h.Repo {
			what = "the repository"
		}
		return &Refusal{Text: fmt.Sprintf("%q can't be kept between runs: %s and %s overlap", k.Name, k.Target, what), Tip: tip}
	}
	return nil
}

// seedsOf lists the files that are copied in. One that the programs of this machine hide is refused.
func seedsOf(h Host, g Grants) (out []string, err error) {
	for _, path := range g.Agent.Seed {
		file := filepath.Join(h.User.Home, strings.TrimPrefix(path, "~/"))
		for _, other := range append([]string{h.Repo}, h.Roots...) {
			if caches.Overlap(file, other) {
				return nil, &Refusal{Text: fmt.Sprintf("%q can't be copied in: %s is shown as it is", path, other), Tip: "take it out of agent.seed"}
			}
		}
		out = append(out, file)
	}
	return out, nil
}

// cacheEnv has tools use the caches that are kept.
func cacheEnv(g Grants, home string) map[string]string {
	env := map[string]string{}
	for _, word := range g.Workspace.Caches {
		cache, _ := caches.Find(word)
		for name, value := range cache.Env {
			env[name] = strings.ReplaceAll(value, "{home}", home)
		}
	}
	return env
}

// caches compares which caches are kept, and which of them are written to.
func (d *differ) caches(from, to []string) {
	const path = "workspace.caches"
	was, is := writable(from), writable(to)
	for _, name := range union(was, is) {
		old, had := was[name]
		now, has := is[name]
		at := origin(d.to, path, slices.IndexFunc(to, cacheNamed(name)))
		lost := gone(origin(d.from, path, slices.IndexFunc(from, cacheNamed(name))), "")
		switch {
		case !has:
			d.at(Tighter, path, lost, "no longer keeps the cache of %s for later runs", clean(name))
		case !had && now:
			d.at(Wider, path, at, "keeps the cache of %s for later runs", clean(name))
		case !had:
			d.at(Wider, path, at, "reads the cache of %s that other runs have filled", clean(name))
		case now && !old:
			d.at(Wider, path, at, "writes to the cache of %s, which it only read", clean(name))
		case old && !now:
			d.at(Tighter, path, at, "only reads the cache of %s", clean(name))
		}
	}
}

// writable says of each cache whether it may be written to.
func writable(words []string) map[string]bool {
	out := map[string]bool{}
	for _, word := range words {
		name, readOnly := caches.Split(word)
		out[name] = out[name] || !readOnly
	}
	return out
}

func cacheNamed(name string) func(string) bool {
	return func(word string) bool { n, _ := caches.Split(word); return n == name }
}

// kept says what outlives the run.
func (t *page) kept(g Grants) {
	if len(g.Workspace.Caches) > 0 {
		t.line(false, "caches", "%s · kept for later runs of this profile in this repository", words(g.Workspace.Caches))
	}
	if len(g.Agent.Keep) > 0 {
		t.line(true, "keeps", "%s · what the agent writes there is there in later runs of this profile in this repository", words(g.Agent.Keep))
	}
	if len(g.Agent.Seed) > 0 {
		t.line(true, "copies in", "%s · as it is in your home directory", words(g.Agent.Seed))
	}
}

// survives explains what of the agent's own home is kept, or copied from the person's.
func (g Grants) survives(p string, e *Explanation) bool {
	rel := strings.TrimPrefix(p, "~/")
	if rel == p {
		return false
	}
	for i, word := range g.Workspace.Caches {
		cache, _ := caches.Find(word)
		if !slices.ContainsFunc(cache.Dirs, func(dir string) bool { return caches.Within(rel, dir) }) {
			continue
		}
		*e = Explanation{Decision: "write", Rule: origin(g, "workspace.caches", i), Change: "take " + quoted(word) + " out of workspace.caches",
			Reason: "yours is not there: the cache of " + cache.Name + " is kept for later runs of this profile in this repository"}
		if _, readOnly := caches.Split(word); readOnly {
			e.Decision, e.Reason = "read", "yours is not there: the cache of "+cache.Name+" is the one that runs of this profile in this repository have filled"
		}
		return true
	}
	for i, path := range g.Agent.Keep {
		if caches.Within(p, path) {
			*e = Explanation{Decision: "write", Rule: origin(g, "agent.keep", i), Change: "take " + quoted(path) + " out of agent.keep",
				Reason: "yours is not there: what the agent writes there is kept for later runs of this profile in this repository"}
			return true
		}
	}
	if i := slices.Index(g.Agent.Seed, p); i >= 0 {
		*e = Explanation{Decision: "read", Rule: cmp.Or(origin(g, "agent.seed", i), "built-in"), Change: "take " + quoted(p) + " out of agent.seed",
			Reason: "a copy of yours is there, which the agent may change; yours stays as it is"}
		return true
	}
	return false
}
