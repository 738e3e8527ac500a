package plan

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const kept = "version = 1\n[agent]\ncommand = [\"agent\"]\nkeep = [\"~/.agent/sessions\"]\nseed = [\"~/.agent/NOTES.md\"]\n[workspace]\nmode = \"direct\"\ncaches = [\"npm\", \"go-build:ro\"]\n"

func TestWhatIsKeptHasAPlaceHereAndInside(t *testing.T) {
	in := inputs(t, kept)
	in.Host.Caches, in.Host.State = "/c/1/work", "/s/1/work"
	p := resolve(t, in)
	want := []Kept{
		{Name: "npm", Source: "/c/1/work/npm/.npm%2F_cacache", Target: "/home/ann/.npm/_cacache"},
		{Name: "go-build", Source: "/c/1/work/go-build/.cache%2Fgo-build", Target: "/home/ann/.cache/go-build", ReadOnly: true},
		{Name: "~/.agent/sessions", State: true, Source: "/s/1/work/~%2F.agent%2Fsessions/.agent%2Fsessions", Target: "/home/ann/.agent/sessions"},
	}
	if !slices.Equal(p.Binding.Kept, want) || !slices.Equal(p.Binding.Seeds, []string{"/home/ann/.agent/NOTES.md"}) {
		t.Errorf("%+v, %q", p.Binding.Kept, p.Binding.Seeds)
	}
	for _, e := range []string{"GOCACHE=/home/ann/.cache/go-build", "npm_config_cache=/home/ann/.npm"} {
		if !slices.Contains(p.Binding.Env, e) {
			t.Errorf("%s is not in %q", e, p.Binding.Env)
		}
	}
	for path, decision := range map[string]string{"~/.npm/_cacache/x": "write", "~/.cache/go-build": "read", "~/.agent/sessions/a/b": "write", "~/.agent/NOTES.md": "read",
		"~/.npm": "hidden", "~/.agent": "hidden", "~/.agent/sessionsx": "hidden"} {
		if e := p.Grants.WhyPath(path); e.Decision != decision || decision != "hidden" && (!strings.Contains(e.Change, "take ") || e.Rule == "") {
			t.Errorf("%s: %+v", path, e)
		}
	}
	m := ManifestOf(p.Grants)
	for _, what := range []ManifestItem{{Kind: "cache", What: "keeps the cache of npm for later runs"}, {Kind: "cache", What: "reads the cache of go-build that other runs have filled"},
		{Kind: "state", What: "keeps its ~/.agent/sessions for later runs"}, {Kind: "file", What: "hands in a copy of your ~/.agent/NOTES.md"}} {
		if !slices.ContainsFunc(m.Grants, func(i ManifestItem) bool { return i.Kind == what.Kind && i.What == what.What }) {
			t.Errorf("the manifest does not say %q", what.What)
		}
	}
}

// A directory that is kept neither hides nor opens what else is shown.
func TestNothingIsKeptOverWhatIsShown(t *testing.T) {
	for dir, says := range map[string]string{"~/.nvm/x": "shown read-only", "~/.nvm": "shown read-only", "~/my repo": "the repository", "~/my repo/x": "the repository"} {
		for _, key := range []string{"keep", "seed"} {
			_, err := Resolve(inputs(t, strings.Replace("version = 1\n[agent]\ncommand = [\"agent\"]\nKEY = [\""+dir+"\"]\n[workspace]\nmode = \"direct\"\n", "KEY", key, 1)))
			var refusal *Refusal
			if !errors.As(err, &refusal) || refusal.Hint() == "" || key == "keep" && !strings.Contains(err.Error(), says) {
				t.Errorf("%s %s: %v", key, dir, err)
			}
		}
	}
}

// What survives is told, whoever adds it, and so is a cache that is to be written to.
func TestKeepingMoreIsWider(t *testing.T) {
	none := Grants{Agent: Agent{Command: []string{"a"}}}
	with := func(change func(*Grants)) Grants { g := none; change(&g); return g }
	for what, more := range map[string][2]Grants{
		"a cache":      {none, with(func(g *Grants) { g.Workspace.Caches = []string{"npm"} })},
		"one to read":  {none, with(func(g *Grants) { g.Workspace.Caches = []string{"npm:ro"} })},
		"one to write": {with(func(g *Grants) { g.Workspace.Caches = []string{"npm:ro"} }), with(func(g *Grants) { g.Workspace.Caches = []string{"npm"} })},
		"state":        {none, with(func(g *Grants) { g.Agent.Keep = []string{"~/.x"} })},
		"a file":       {none, with(func(g *Grants) { g.Agent.Seed = []string{"~/.x"} })},
	} {
		if got := Diff(more[0], more[1]); len(got) != 1 || got[0].Kind != Wider {
			t.Errorf("%s: %+v", what, got)
		}
		if got := Diff(more[1], more[0]); len(got) != 1 || got[0].Kind != Tighter {
			t.Errorf("back from %s: %+v", what, got)
		}
	}
}
