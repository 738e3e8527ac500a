package tui

import (
	tea "charm.land/bubbletea/v2"

	"agentbox/internal/changes"
)

// listed are the changes as they were a moment ago.
type listed struct {
	list  []changes.Change
	live  bool
	err   error
	await bool // somebody waits for the next ones then
}

// await waits until there may be other changes, and lists them.
func (m *model) await() tea.Cmd {
	latest, ctx := m.latest, m.ctx
	if latest == nil {
		return nil
	}
	return func() tea.Msg {
		if err := latest.Wait(ctx); err != nil {
			return nil // the screen is gone
		}
		list, live, err := latest.List(ctx)
		return listed{list, live, err, true}
	}
}

// again lists them at once, for who does not want to wait.
func (m *model) again() tea.Cmd {
	latest, ctx := m.latest, m.ctx
	if latest == nil {
		m.note = "the run has ended: nothing changes any more"
		return nil
	}
	return func() tea.Msg {
		list, live, err := latest.List(ctx)
		return listed{list, live, err, false}
	}
}

// renew takes over what was listed. What the person decided stays with what it was decided about: a change that is another one
// now is not taken any more.
func (m *model) renew(l listed) tea.Cmd {
	if m.ended {
		return nil
	}
	if l.err != nil {
		m.note = "looking again: " + Escaped(l.err.Error())
	} else {
		m.live = l.live
		if items, differs := m.list.merged(l.list); differs {
			m.summary = Summary(l.list)
			m.drop(items)
			m.list.replace(items)
		}
		if !m.list.holds(m.pane.path) {
			m.pane = pane{}
		}
	}
	look := m.look()
	if l.await && m.live {
		return tea.Batch(look, m.await())
	}
	return look
}

// drop takes a question back that was about what is no more.
func (m *model) drop(now []item) {
	if m.ask == nil {
		return
	}
	old := m.list.named(m.ask.name)
	for i := range now {
		if old != nil && now[i].Path == old.Path && now[i].Mark == old.Mark && now[i].Later == old.Later {
			return
		}
	}
	m.ask, m.note = nil, "it changed meanwhile: look at it again"
}

// merged gives the items of a new list, with what was decided about those that are the same.
func (l *list) merged(now []changes.Change) (items []item, differs bool) {
	differs = len(now) != len(l.items)
	before := make(map[string]*item, len(l.items))
	for i := range l.items {
		before[l.items[i].Path] = &l.items[i]
	}
	for _, c := range now {
		it := item{Change: c, since: true}
		old := before[c.Path]
		switch {
		case old == nil:
		case old.Mark == c.Mark && old.Later == c.Later && old.Fate == c.Fate:
			it.on, it.hunks, it.since = old.on, old.hunks, old.since
		default:
			it.since = old.on || old.since
		}
		if it.group() == outside {
			it.on, it.hunks, it.since = false, nil, false
		}
		differs = differs || old == nil || old.Change != c
		items = append(items, it)
	}
	return items, differs
}

// replace puts items in the place of those before. The cursor stays on its change, at its place on the screen; where that
// is gone, near it.
func (l *list) replace(items []item) {
	path, at, below := "", l.at, l.at-l.top
	if it := l.current(); it != nil {
		path = it.Path
	}
	*l = newList(items)
	if i := l.rowOf(path); i >= 0 {
		l.at = i
	} else if path != "" {
		l.near(at)
	}
	l.top = max(l.at-below, 0)
}

// near puts the cursor on the change next to a row.
func (l *list) near(row int) {
	for i := range l.rows {
		if l.rows[i].item >= 0 && (l.current() == nil || i <= row) {
			l.at = i
		}
	}
}

func (l *list) rowOf(path string) int {
	for i, r := range l.rows {
		if r.item >= 0 && l.items[r.item].Path == path {
			return i
		}
	}
	return -1
}

// named is the item of a path, or nil.
func (l *list) named(path string) *item {
	for i := range l.items {
		if l.items[i].Path == path {
			return &l.items[i]
		}
	}
	return nil
}

func (l *list) holds(path string) bool { return l.named(path) != nil }

// waiting counts what came or changed since and nobody decided about.
func (l *list) waiting() (n int) {
	for i := range l.items {
		if l.items[i].since && !l.items[i].on {
			n++
		}
	}
	return n
}
