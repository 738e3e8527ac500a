package tui

import (
	"context"
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"agentbox/internal/changes"
)

// model is the screen. It changes nothing but itself: what the person wants done is its choice, once it has ended.
type model struct {
	ctx     context.Context
	source  Source
	latest  Latest
	title   string
	summary string
	live    bool
	paint   paint
	keys    map[string]func(*model) tea.Cmd

	list          list
	pane          pane
	width, height int
	reading       bool // the right side has the keys
	help          bool
	ask           *question
	note          string // what the last key came to, until the next

	choice Choice
	ended  bool
}

// question is asked at the bottom. Only its own key is a yes; every other key is a no.
type question struct {
	name string // what it is about, as the agent called it; "" for all
	text string
	key  string
	keys string // what they do
	yes  func(*model) tea.Cmd
	no   string
}

// read is a text that was loaded.
type read struct {
	path string
	mark string // of what it is
	text changes.Text
	err  error
}

func newModel(ctx context.Context, r Review) *model {
	items := make([]item, len(r.Changes))
	for i, c := range r.Changes {
		it := item{Change: c}
		it.on = it.group() == usual
		items[i] = it
	}
	return &model{ctx: ctx, source: r.Source, latest: r.Latest, title: r.Title, summary: Summary(r.Changes), live: r.Live, paint: paint{r.Colour}, keys: keys(), list: newList(items), width: 80, height: 24}
}

// Init loads the first text, and begins to wait for changes.
func (m *model) Init() tea.Cmd {
	if !m.live {
		return m.look()
	}
	return tea.Batch(m.look(), m.await())
}

// look loads the text of the change under the cursor, unless it is there. Lines of what it was stay until it has come.
func (m *model) look() tea.Cmd {
	it := m.list.current()
	switch {
	case it == nil, m.pane.path == it.Path && m.pane.mark == it.Mark:
		return nil
	case m.pane.path == it.Path:
		m.pane.loading, m.pane.mark = true, it.Mark
	default:
		m.pane = waiting(it)
	}
	source, ctx, c := m.source, m.ctx, it.Change
	return func() tea.Msg {
		text, err := source.Diff(ctx, c)
		return read{c.Path, c.Mark, text, err}
	}
}

// show puts a text on the right side that was loaded; where the person was in it, they stay.
func (m *model) show(r read) {
	it := m.list.current()
	if it == nil || it.Path != r.path || it.Mark != r.mark {
		return // the person has gone on, or the text has
	}
	old := m.pane
	m.pane = loaded(it, r.text, r.err)
	m.pane.stay(old)
	if old.jumps {
		m.pane.jump(1)
	}
}

// Update takes what happened.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case read:
		m.show(msg)
	case listed:
		return m, m.renew(msg)
	case tea.KeyPressMsg:
		return m, m.key(msg.String())
	}
	return m, nil
}

// key answers one key.
func (m *model) key(key string) tea.Cmd {
	m.note = ""
	switch {
	case key == "ctrl+c":
		return m.end(Keep)
	case m.help:
		m.help = false
		return nil
	case m.ask != nil:
		return m.answer(key)
	}
	if do, ok := m.keys[key]; ok {
		return do(m)
	}
	return nil
}

func (m *model) answer(key string) tea.Cmd {
	q := m.ask
	m.ask = nil
	if key == q.key {
		return q.yes(m)
	}
	m.note = q.no
	return nil
}

// end closes the screen with a choice.
func (m *model) end(do Action) tea.Cmd {
	m.choice = Choice{Do: do}
	if do == Apply {
		m.choice.Picked = m.picked()
	}
	m.ended = true
	return tea.Quit
}

func (m *model) picked() (picks []Pick) {
	for i := range m.list.items {
		it := &m.list.items[i]
		if !it.on || it.group() == outside {
			continue
		}
		picks = append(picks, Pick{Change: it.Change, Hunks: it.hunks})
	}
	return picks
}

func (m *model) apply() tea.Cmd {
	if n, _, _ := m.list.taken(); n == 0 {
		m.note = "nothing is selected"
		return nil
	}
	return m.end(Apply)
}

func (m *model) discard() tea.Cmd {
	if m.live {
		m.note = "the run goes on: it can be discarded when it has ended"
		return nil
	}
	m.ask = &question{text: fmt.Sprintf("throw away all %s of the run?", count(len(m.list.items), "change")),
		key: "D", keys: "D throws them away · any other key keeps them",
		yes: func(m *model) tea.Cmd { return m.end(Discard) }, no: "nothing was thrown away"}
	return nil
}

// toggle takes what is under the cursor, or leaves it: the whole change, or in the text one of its hunks.
func (m *model) toggle() tea.Cmd {
	it := m.list.current()
	if it == nil {
		return nil
	}
	if it.group() == outside {
		m.note = "never applied: " + Escaped(it.Why)
		return nil
	}
	if m.reading && m.pane.loading {
		m.note = "the text is still being loaded"
		return nil
	}
	flip := func(it *item) { it.on, it.hunks, it.since = !it.on || it.hunks != nil, nil, false }
	if m.reading && m.pane.hunk() >= 0 && len(m.pane.heads) > 1 {
		id, all := m.pane.ids[m.pane.hunk()], m.pane.ids
		flip = func(it *item) { it.toggleHunk(id, all) }
	}
	if it.group() == later && !it.on {
		path := it.Path
		m.ask = &question{name: path, text: Escaped(it.Later),
			key: "y", keys: "y takes it all the same · any other key leaves it out",
			yes: func(m *model) tea.Cmd { flip(m.list.named(path)); return nil }, no: Escaped(it.Path) + " is left out"}
		return nil
	}
	flip(it)
	return nil
}

// keys are what the screen answers to.
func keys() map[string]func(*model) tea.Cmd {
	return map[string]func(*model) tea.Cmd{
		"q": func(m *model) tea.Cmd { return m.end(Keep) },
		"a": (*model).apply, "d": (*model).discard, "space": (*model).toggle,
		"*":   func(m *model) tea.Cmd { m.list.setUsual(!m.list.allUsual()); return nil },
		"?":   func(m *model) tea.Cmd { m.help = true; return nil },
		"r":   (*model).again,
		"tab": (*model).turn, "enter": (*model).turn,
		"right": func(m *model) tea.Cmd { m.reading = true; return nil }, "l": func(m *model) tea.Cmd { m.reading = true; return nil },
		"left": (*model).back, "h": (*model).back, "esc": (*model).back,
		"up": by(-1), "k": by(-1), "down": by(1), "j": by(1),
		"pgup": page(-1), "b": page(-1), "pgdown": page(1), "f": page(1),
		"home": far(-1), "g": far(-1), "end": far(1), "G": far(1),
		"n": hunk(1), "p": hunk(-1), "N": hunk(-1),
	}
}

// turn gives the keys to the other side.
func (m *model) turn() tea.Cmd { m.reading = !m.reading; return nil }

func (m *model) back() tea.Cmd { m.reading = false; return nil }

func by(n int) func(*model) tea.Cmd {
	return func(m *model) tea.Cmd {
		if m.reading {
			m.pane.move(n)
			return nil
		}
		m.list.move(n)
		return m.look()
	}
}

func page(n int) func(*model) tea.Cmd {
	return func(m *model) tea.Cmd { return by(n * max(m.bodyHeight()-1, 1))(m) }
}

// far goes to the beginning or the end.
func far(n int) func(*model) tea.Cmd {
	return func(m *model) tea.Cmd {
		if !m.reading {
			return by(n * len(m.list.rows))(m)
		}
		m.pane.at = pos{}
		if n > 0 {
			m.pane.at.line = max(len(m.pane.lines)-1, 0)
		}
		return nil
	}
}

// hunk goes to the next hunk, and reads.
func hunk(n int) func(*model) tea.Cmd {
	return func(m *model) tea.Cmd {
		m.reading = true
		if m.pane.loading {
			m.pane.jumps = n > 0
		}
		m.pane.jump(n)
		return nil
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// narrow is a screen that has room for one side only.
func (m *model) narrow() bool { return m.width < 72 }

func (m *model) bodyHeight() int { return max(m.height-m.above()-m.below(), 1) }

// above and below are the lines of ours; on a tiny screen only the last remains.
func (m *model) above() int {
	if m.height < 4 {
		return 0
	}
	return 1
}

func (m *model) below() int {
	if m.height < 8 && (m.ask == nil || m.height < 2) {
		return 1
	}
	return 2
}

// View draws.
func (m *model) View() tea.View {
	v := tea.NewView(strings.Join(m.lines(), "\n"))
	v.AltScreen = true
	return v
}

// lines are the screen's, never more than fit.
func (m *model) lines() []string {
	if m.ended {
		return nil
	}
	if m.help {
		return clipped(m.helpLines(), m.width, m.height)
	}
	var out []string
	if m.above() > 0 {
		out = append(out, m.paint.in(strong, pad(m.header(), m.width)))
	}
	if m.height > m.below() {
		out = append(out, m.body(m.bodyHeight())...)
	}
	switch {
	case m.below() < 2:
	case m.ask != nil:
		out = append(out, m.paint.in(warning, pad(m.ask.line(m.width), m.width)))
	default:
		out = append(out, m.paint.in(faint, pad(m.status(), m.width)))
	}
	return clipped(append(out, m.bottom()), m.width, m.height)
}

// line is what is asked. However long the name is, its end is seen, and the reason begins on the line.
func (q *question) line(width int) string {
	if q.name == "" {
		return q.text
	}
	name := Escaped(q.name)
	return fit(q.name, min(ansi.StringWidth(name), width*2/3)) + ": " + q.text
}

func clipped(lines []string, width, height int) []string {
	lines = lines[:min(len(lines), max(height, 0))]
	for i := range lines {
		lines[i] = clip(lines[i], width)
	}
	return lines
}

func (m *model) header() string { return Escaped(m.title) + " · " + m.summary }

// body is both sides, or on a narrow screen the one that has the keys.
func (m *model) body(height int) []string {
	it := m.list.current()
	switch {
	case it == nil:
		return fill([]string{"nothing was changed"}, m.width, height)
	case m.narrow() && m.reading:
		return fill(m.pane.view(m.paint, it, m.width, height, true), m.width, height)
	case m.narrow():
		return fill(m.list.view(m.paint, m.width, height, true), m.width, height)
	}
	left := min(max(m.width*2/5, 28), 60)
	right := m.width - left - 1
	a := fill(m.list.view(m.paint, left, height, !m.reading), left, height)
	b := fill(m.pane.view(m.paint, it, right, height, m.reading), right, height)
	for i := range a {
		a[i] += m.paint.in(faint, "│") + b[i]
	}
	return a
}

func fill(lines []string, width, height int) []string {
	for len(lines) < height {
		lines = append(lines, "")
	}
	for i := range lines {
		lines[i] = pad(lines[i], width)
	}
	return lines
}

// status says what an "a" would do.
func (m *model) status() string {
	n, of, left := m.list.taken()
	s := fmt.Sprintf("%d of %d selected", n, of)
	if m.live {
		s += "; the run goes on"
	}
	if n := m.list.waiting(); n > 0 {
		s += fmt.Sprintf("; %d new or changed since", n)
	}
	if left > 0 {
		s += fmt.Sprintf("; %d that would execute later left out", left)
	}
	both := 0
	for i := range m.list.items {
		if m.list.items[i].ChangedOutside {
			both++
		}
	}
	if both > 0 {
		s += fmt.Sprintf("; %d changed here too", both)
	}
	return s
}

// bottom is the last line: a question, what the last key came to, or the keys.
func (m *model) bottom() string {
	switch {
	case m.ask != nil:
		return m.paint.in(warning, clip(m.ask.keys, m.width))
	case m.note != "":
		return m.paint.in(warning, clip(m.note, m.width))
	}
	return m.hints()
}

// hints are as many keys as fit.
func (m *model) hints() string {
	all := []string{"a apply selected", "q keep for later", "space select", "d discard", "? all keys", "enter diff", "* all/none"}
	if m.reading {
		all = []string{"a apply selected", "q keep for later", "space select hunk", "n/p hunk", "esc list", "? all keys", "d discard"}
	}
	line := ""
	for _, h := range all {
		next := h
		if line != "" {
			next = line + " · " + h
		}
		if ansi.StringWidth(next) > m.width {
			break
		}
		line = next
	}
	return line
}

// helpLines say all keys, on as many rows as it takes.
func (m *model) helpLines() (rows []string) {
	for l := range strings.SplitSeq(`a        apply what is selected       (agentbox undo takes it back)
q        keep everything for later    (agentbox apply, agentbox diff)
d        discard everything; asks once
space    select the file, or in the diff the hunk
*        select all, or none; never what would execute later
enter    into the diff and back       (tab, right, left, esc)
up down  move                         (k, j, page up, page down, home, end)
n p      next and previous hunk
r        look again; while the run goes on that happens by itself
?        this

Ctrl-C is q. [x] is selected, [~] in part, - can't be applied.
[?] came, or changed after it was selected, while you looked: it is
  left out until you select it.
C changed here too, since the run began: it is merged, or left alone
  with the agent's version beside it.
! would execute later, with your rights: space, then y.

Any key goes back.`, "\n") {
		rows = append(rows, wrapped(m.paint, plain, l, m.width)...)
	}
	return rows
}
