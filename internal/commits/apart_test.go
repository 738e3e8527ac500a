package commits

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// on makes a branch with a commit of its own, and goes back.
func (l *lab) on(branch, from string) string {
	l.t.Helper()
	l.in(l.agent, "checkout", "-q", "-b", branch, from)
	l.write(l.agent, strings.ReplaceAll(branch, "/", "-"), branch+"\n")
	id := l.commit(l.agent, branch)
	l.in(l.agent, "checkout", "-q", "main")
	return id
}

// forged puts a branch onto a commit of a tree that git would not make.
func (l *lab) forged(branch, tree string) string {
	l.t.Helper()
	id := l.object("commit", "tree "+tree+"\nparent "+l.in(l.agent, "rev-parse", "main")+"\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nforged\n")
	l.in(l.agent, "update-ref", "refs/heads/"+branch, id)
	return id
}

// A branch that git refuses keeps back itself and what holds its commit; all others come, and nothing of it does.
func TestABadBranchKeepsOnlyItselfBack(t *testing.T) {
	l := newLab(t, "sha1")
	good := map[string]string{"HEAD": l.in(l.agent, "rev-parse", "HEAD"), "heads/main": l.in(l.agent, "rev-parse", "HEAD")}
	for i := range 6 {
		name := fmt.Sprintf("good/%d", i)
		good["heads/"+name] = l.on(name, "main")
	}
	evil := l.object("tree", l.entry("100644", ".git", l.object("blob", "planted")))
	bad := l.forged("evil", evil)
	above := l.object("commit", "tree "+l.in(l.agent, "rev-parse", "main^{tree}")+"\nparent "+bad+"\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nupon\n")
	l.in(l.agent, "update-ref", "refs/heads/good/upon-evil", above)
	l.forged("gone", strings.Repeat("1", 40))
	f, err := l.fetch()
	must(t, err)
	if !maps.Equal(f.Refs, good) {
		t.Errorf("arrived %v\nwant %v", f.Refs, good)
	}
	var names []string
	for _, r := range f.Refused {
		names = append(names, r.Name)
		if r.Name != "heads/gone" && !strings.Contains(r.Why, "hasDotgit") {
			t.Errorf("of %s it says %q", r.Name, r.Why)
		}
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "heads/evil heads/gone heads/good/upon-evil" {
		t.Errorf("refused %s", got)
	}
	for _, id := range []string{bad, above, evil} {
		if _, err := try(l.host, "cat-file", "-e", id); err == nil {
			t.Errorf("%s is in the host's repository", id)
		}
	}
	if out, err := try(l.host, "fsck", "--full", "--strict"); err != nil {
		t.Errorf("fsck: %s", out)
	}
}

// What came of a branch before it went bad stays.
func TestABranchThatGoesBadStaysAsItCame(t *testing.T) {
	l := newLab(t, "sha1")
	was := l.on("work", "main")
	l.on("gone", "main")
	l.mustFetch()
	l.in(l.agent, "branch", "-D", "gone")
	l.forged("work", l.object("tree", l.entry("100644", "..", l.object("blob", "planted"))))
	l.mustFetch()
	if got := l.refs(); !strings.Contains(got, "/heads/work "+was) || strings.Contains(got, "/heads/gone ") {
		t.Errorf("refs\n%s", got)
	}
}

// Split up, the branches of a run bring no more than they may together.
func TestTheLimitIsOneForAllBranches(t *testing.T) {
	l := newLab(t, "sha1")
	for i, name := range []string{"one", "two", "three"} {
		l.in(l.agent, "checkout", "-q", "-b", name, "main")
		random := noise(800_000)
		for at := range random { // so that none is a delta to another
			random[at] ^= byte(1 << i)
		}
		l.write(l.agent, "random", string(random))
		l.commit(l.agent, name)
	}
	l.limit = "1000000"
	f, err := l.fetch()
	must(t, err)
	if len(f.Refused) != 2 || len(f.Refs) != 3 { // one of the three, on which HEAD stands, and main
		t.Errorf("came %v, refused %v", f.Refs, f.Refused)
	}
	for _, r := range f.Refused {
		if !strings.Contains(r.Why, "larger than") {
			t.Errorf("of %s it says %q", r.Name, r.Why)
		}
	}
}

// An agent that makes any number of bad branches is asked for so many of them.
func TestTriesAreBounded(t *testing.T) {
	l := newLab(t, "sha1")
	for i := range 8 {
		l.forged(fmt.Sprintf("evil/%d", i), l.object("tree", l.entry("100644", ".git", l.object("blob", fmt.Sprint(i)))))
	}
	s, err := newShadow(t.Context(), l.repo(), l.work+"/git")
	must(t, err)
	defer func() { must(t, s.remove()) }()
	f := fetcher{shadow: s, run: theRun, server: l.server(), limit: gitTime}
	units, err := f.units(t.Context())
	must(t, err)
	a := apart{fetcher: &f, tries: maxTries - 5}
	a.halves(t.Context(), units)
	if a.tries != maxTries || len(a.refused)+a.came < 8 {
		t.Errorf("%d tries, %d refused, %d came", a.tries, len(a.refused), a.came)
	}
}
