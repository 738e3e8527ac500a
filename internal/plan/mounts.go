package plan

import (
	"path"
	"strings"
)

// mounts compares what is shown beside the repository. Another place inside is Wider, too: something else lay there.
func (d *differ) mounts() {
	was := byName(d.from.Mounts, func(m Mount) string { return m.Source })
	is := byName(d.to.Mounts, func(m Mount) string { return m.Source })
	for _, source := range union(was, is) {
		old, had := was[source]
		now, has := is[source]
		at, shown := "mount."+source, clean(source)
		switch {
		case !has:
			d.at(Tighter, at, gone(old.Origin, ""), "no longer shows %s of this machine", shown)
		case !had:
			d.at(Wider, at, now.Origin, "shows %s of this machine%s%s", shown, now.elsewhere(), now.writing())
		case old.Target != now.Target:
			d.at(Wider, at+".target", now.Origin, "shows %s of this machine at %s%s", shown, clean(now.Target), now.writing())
		case now.Write && !old.Write:
			d.at(Wider, at+".write", now.Origin, "lets the agent change %s of this machine", shown)
		case old.Write && !now.Write:
			d.at(Tighter, at+".write", now.Origin, "no longer lets the agent change %s of this machine", shown)
		}
	}
}

func (m Mount) elsewhere() string {
	if m.Target == m.Source {
		return ""
	}
	return " at " + clean(m.Target)
}

func (m Mount) writing() string {
	if !m.Write {
		return ", read-only"
	}
	return " and lets the agent change it"
}

// mounts says what is shown beside the repository: as it is on this machine, where one has decided it.
func (t *page) mounts(p Plan) {
	for i, m := range p.Grants.Mounts {
		what, hidden := m, ""
		if i < len(p.Binding.Shown) {
			s := p.Binding.Shown[i]
			what.Source, what.Target = s.Source, s.Target
			if s.Hidden > 0 {
				hidden = ", without " + count(s.Hidden, "hidden path")
			}
		}
		end := " · read-only"
		if m.Write {
			end = " · WRITABLE: what the agent changes there is changed at once"
		}
		t.line(m.Write, "mount", "%s%s%s%s (%s)", clean(what.Source), what.elsewhere(), end, hidden, clean(m.Origin))
	}
}

// mounted is about a path that lies in what is shown beside the repository.
func (g Grants) mounted(p string) (Explanation, bool) {
	for _, m := range g.Mounts {
		rel, ok := below(p, m.Target)
		if !ok {
			continue
		}
		if by, hidden := g.hiddenBy(rel); hidden && rel != "." {
			return by, true
		}
		e := Explanation{Decision: "read", Rule: m.Origin, Reason: "a [[mount]] shows " + clean(m.Source) + " there, read-only",
			Change: "taking the [[mount]] out of " + file(m.Origin) + " hides it; write = true there lets the agent change it"}
		if m.Write {
			e.Decision, e.Reason = "write", "a [[mount]] shows "+clean(m.Source)+" there, and lets the agent change it; git directories in it stay read-only"
			e.Change = "without write = true it is read-only"
		}
		return e, true
	}
	return Explanation{}, false
}

// below gives p relative to dir, when it is that or lies in it.
func below(p, dir string) (string, bool) {
	dir = path.Clean(dir)
	if p == dir {
		return ".", true
	}
	return strings.CutPrefix(p, dir+"/")
}
