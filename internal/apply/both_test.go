//go:build linux

package apply

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// person works in the repository while the agent does, and while an apply runs.
type person struct {
	w      *world
	rnd    *rand.Rand
	tokens map[string][]string // by path: lines of the person's that must not be lost
	n      int
}

// once does something: a line more in a file, in its place or by a new file that is renamed over it, a new file, a deletion.
func (p *person) once() {
	name := fmt.Sprintf("f%d", p.rnd.IntN(14))
	path := filepath.Join(p.w.root, name)
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() || p.rnd.IntN(8) == 0 && err == nil {
		if err := os.RemoveAll(path); err == nil {
			delete(p.tokens, name)
		}
		return
	}
	p.n++
	token := fmt.Sprintf("person %d\n", p.n)
	text, _ := os.ReadFile(path)
	at := strings.Index(string(text), "\n") + 1
	if p.rnd.IntN(3) == 0 {
		at = len(text)
	}
	text = []byte(string(text[:at]) + token + string(text[at:]))
	if p.rnd.IntN(2) == 0 {
		must(p.w.t, os.WriteFile(path, text, 0o644))
	} else {
		must(p.w.t, os.WriteFile(path+"~", text, 0o644))
		must(p.w.t, os.Rename(path+"~", path))
	}
	p.tokens[name] = append(p.tokens[name], token)
}

// lost says which of the person's lines are not where they were written.
func (p *person) lost(when string) {
	p.w.t.Helper()
	for name, tokens := range p.tokens {
		text, _ := os.ReadFile(filepath.Join(p.w.root, name))
		for _, token := range tokens {
			if !strings.Contains(string(text), token) {
				p.w.t.Errorf("%s: %q lost %q, and holds %q", when, name, token, text)
			}
		}
	}
}

// Whenever the person writes, and wherever an apply is killed, neither side loses a line.
func TestNeitherSideLosesAnything(t *testing.T) { eachCase(t, cases/3, bothSides) }

func bothSides(t *testing.T, dir string, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	w := newWorld(t, dir)
	for i := range 10 {
		write(t, w.root, fmt.Sprintf("f%d", i), start)
	}
	if rnd.IntN(2) == 0 {
		w.commit()
	} else {
		w.begin()
	}
	agents := agentWrites(w, rnd)
	p := &person{w: w, rnd: rnd, tokens: map[string][]string{}}
	for range rnd.IntN(6) {
		p.once()
	}
	upper := w.snapshot(w.upper)
	if rnd.IntN(2) == 0 {
		verb := "apply"
		for range 3 {
			dead, err := killed(killedPart{Work: w.work, Verb: verb, At: 1 + rnd.IntN(60)})
			must(t, err)
			p.lost("after a kill")
			if rnd.IntN(2) == 0 {
				p.once()
			}
			open, err := Unfinished(w.work)
			must(t, err)
			if !dead || !open {
				break
			}
			verb = "resume"
		}
		w.do("resume")
		p.lost("resumed")
	}
	r, err := applyAll(context.Background(), w.source(), everything, func(string) {
		if rnd.IntN(20) == 0 {
			p.once()
		}
	})
	must(t, err)
	p.lost("applied")
	agentsLines(w, r, agents)
	_, err = undo(context.Background(), w.source(), func(string) {
		if rnd.IntN(20) == 0 {
			p.once()
		}
	})
	must(t, err)
	p.lost("undone")
	w.snapshot(w.upper).same(t, upper, "the agent's side")
	noTemps(w)
	if t.Failed() {
		for _, o := range r.Outcomes {
			t.Logf("%+v", o)
		}
	}
}

// agentWrites lays the agent's changes into the upper, and gives its lines.
func agentWrites(w *world, rnd *rand.Rand) map[string]string {
	lines := map[string]string{}
	for i := range 12 {
		name := fmt.Sprintf("f%d", i)
		switch rnd.IntN(6) {
		case 0:
			w.whiteout(name)
		case 1:
			must(w.t, os.Symlink("f1", filepath.Join(w.upper, name)))
		case 2:
			write(w.t, w.upper, name+"/in", "agent "+name+"\n")
			lines[name+"/in"] = "agent " + name + "\n"
		case 3, 4:
			text := strings.Replace(start, "six\n", "six\nagent "+name+"\n", 1)
			write(w.t, w.upper, name, text)
			lines[name] = "agent " + name + "\n"
		}
	}
	return lines
}

// agentsLines checks that what was reported as applied is there, and what was a conflict lies beside.
func agentsLines(w *world, r Report, lines map[string]string) {
	w.t.Helper()
	for _, o := range r.Outcomes {
		line, ok := lines[o.Path]
		at := o.Path
		switch {
		case !ok || o.Result != Applied && o.Result != Merged && o.Result != Conflict:
			continue
		case o.Result == Conflict && o.Beside == "":
			continue // it stays in the run
		case o.Result == Conflict:
			at = o.Beside
		}
		text, err := os.ReadFile(filepath.Join(w.root, at))
		if err == nil && !strings.Contains(string(text), line) {
			w.t.Errorf("%+v: %q holds %q (%v)", o, at, text, err)
		}
	}
}

func noTemps(w *world) {
	must(w.t, filepath.WalkDir(w.root, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(path), ".agentbox-") {
			w.t.Errorf("%s is left", path)
		}
		return err
	}))
}
