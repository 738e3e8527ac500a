package tui

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"agentbox/internal/changes"
)

// texts are what a source gives, and how often it was asked.
type texts struct {
	of    map[string]changes.Text
	asked []string
}

func (t *texts) Diff(_ context.Context, c changes.Change) (changes.Text, error) {
	t.asked = append(t.asked, c.Path)
	if text, ok := t.of[c.Path]; ok {
		return text, nil
	}
	return changes.Text{}, errors.New("it went away")
}

func file(mode fs.FileMode) changes.State {
	return changes.State{Kind: changes.File, Mode: mode, Size: 10}
}

// modified is a change of a file that can be applied.
func modified(path string) changes.Change {
	return changes.Change{Path: path, Before: file(0o644), After: file(0o644), Added: 2, Removed: 1, Fate: changes.Applies, Mark: "mark of " + path}
}

func twoHunks() changes.Text {
	return changes.Text{Hunks: []changes.Hunk{
		{ID: "h1", OldStart: 1, OldLines: 2, NewStart: 1, NewLines: 2, Lines: []changes.Line{{Op: ' ', Text: "kept"}, {Op: '-', Text: "old one"}, {Op: '+', Text: "new one"}}},
		{ID: "h2", OldStart: 40, OldLines: 1, NewStart: 40, NewLines: 2, Lines: []changes.Line{{Op: ' ', Text: "kept too"}, {Op: '+', Text: "new two", NoEOL: true}}},
	}}
}

// example has one of everything.
func example() ([]changes.Change, *texts) {
	hook := modified("package.json")
	hook.Later = "npm runs its scripts"
	env := modified(".env")
	env.Fate, env.Why = changes.Hidden, "a hide pattern names it"
	both := modified("both.go")
	both.ChangedOutside = true
	logo := changes.Change{Path: "logo.png", Before: file(0o644), After: file(0o755), Binary: true, Fate: changes.Applies}
	return []changes.Change{env, both, logo, modified("main.go"), hook},
		&texts{of: map[string]changes.Text{"both.go": twoHunks(), "main.go": twoHunks(), "package.json": twoHunks(), "logo.png": {Binary: true}}}
}

// screen is a model as a program would drive it.
type screen struct {
	t *testing.T
	*model
}

func open(t *testing.T, list []changes.Change, source Source, width, height int) screen {
	t.Helper()
	s := screen{t, newModel(t.Context(), Review{Title: "run x7k2", Changes: list, Source: source})}
	s.send(tea.WindowSizeMsg{Width: width, Height: height})
	s.follow(s.Init())
	return s
}

func (s screen) send(msg tea.Msg) {
	_, cmd := s.Update(msg)
	s.follow(cmd)
}

// follow runs a command and hands the model what it comes to.
func (s screen) follow(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	if msg := cmd(); msg != nil {
		s.send(msg)
	}
}

// press presses keys by name.
func (s screen) press(keys ...string) {
	special := map[string]rune{"tab": tea.KeyTab, "enter": tea.KeyEnter, "esc": tea.KeyEscape, "up": tea.KeyUp, "down": tea.KeyDown, "space": tea.KeySpace,
		"pgdown": tea.KeyPgDown, "pgup": tea.KeyPgUp, "end": tea.KeyEnd, "home": tea.KeyHome, "right": tea.KeyRight, "left": tea.KeyLeft}
	for _, k := range keys {
		key := tea.Key{Text: k}
		if code, ok := special[k]; ok {
			key = tea.Key{Code: code}
		} else if k == "ctrl+c" {
			key = tea.Key{Code: 'c', Mod: tea.ModCtrl}
		} else {
			key.Code = []rune(k)[0]
		}
		s.send(tea.KeyPressMsg(key))
	}
}

// text is the screen without its styles, having checked that it fits.
func (s screen) text() string {
	s.t.Helper()
	text := ansi.Strip(s.View().Content)
	lines := strings.Split(text, "\n")
	if len(lines) > max(s.height, 1) {
		s.t.Errorf("%d lines on a screen of %d", len(lines), s.height)
	}
	for _, l := range lines {
		if n := ansi.StringWidth(l); n > s.width {
			s.t.Errorf("a line of %d cells on a screen of %d: %q", n, s.width, l)
		}
	}
	return text
}

func (s screen) shows(want ...string) {
	s.t.Helper()
	for _, w := range want {
		if text := s.text(); !strings.Contains(text, w) {
			s.t.Errorf("the screen lacks %q:\n%s", w, text)
		}
	}
}

// paths are what was picked.
func (s screen) paths() (paths []string) {
	for _, p := range s.choice.Picked {
		paths = append(paths, p.Change.Path)
	}
	slices.Sort(paths)
	return paths
}

func TestTheScreen(t *testing.T) {
	list, source := example()
	s := open(t, list, source, 80, 24)
	s.shows("run x7k2 · 5 changes, +8 -4, 1 binary, 1 with another mode, 50 B", "WOULD EXECUTE LATER (1)", "[ ] M! package.json", "changes (3)", "[x] C  both.go", "[x] M  logo.png", "binary +x",
		"[x] M  main.go", "never applied (1)", " -  M  .env", "3 of 4 selected; 1 that would execute later left out; 1 changed here too", "a apply selected · q keep")
	s.shows("conflict: this file was changed here too", "@@ -1,2 +1,2 @@", "-old one", "+new one", "no line feed at the end")
	if !slices.Equal(source.asked, []string{"both.go"}) {
		t.Errorf("before anything was looked at, %q were loaded", source.asked)
	}
	s.press("down")
	s.shows("binary: 10 bytes before, 10 after", "file changed, mode +x")
	s.press("k", "up", "up") // to what would execute later: there is nothing above it
	s.shows("would execute later: npm runs its scripts")
	s.press("G")
	s.shows("never applied: a hide pattern names it")
	s.press("space")
	s.shows("never applied: a hide pattern names it")
	s.press("?")
	s.shows("Ctrl-C is q", "Any key goes back")
	s.press("a") // goes back, and does nothing else
	if s.ended {
		t.Error("a key that closes the help applied")
	}
}

// Nothing is applied, or thrown away, without the key that says so.
func TestOnlyItsOwnKeyIsAChoice(t *testing.T) {
	for _, test := range []struct {
		keys string
		want Action
	}{
		{"q", Keep}, {"ctrl+c", Keep}, {"a", Apply}, {"d D", Discard},
		{"d q q", Keep}, {"d d q", Keep}, {"d y q", Keep}, {"d enter q", Keep}, {"d ctrl+c", Keep}, {"space D q", Keep}, {"y D Y q", Keep},
	} {
		list, source := example()
		s := open(t, list, source, 80, 24)
		keys := strings.Fields(test.keys)
		for i, k := range keys {
			if s.ended {
				t.Errorf("%s ended at key %d", test.keys, i)
			}
			s.press(k)
		}
		if !s.ended || s.choice.Do != test.want {
			t.Errorf("%s: ended %v with %v, want %v", test.keys, s.ended, s.choice.Do, test.want)
		}
		if test.want != Apply && s.choice.Picked != nil {
			t.Errorf("%s: picked %v", test.keys, s.choice.Picked)
		}
	}
}

// What would execute later is not taken by any key that takes others, and by its own only after a second one.
func TestWhatWouldExecuteLaterNeedsItsOwnYes(t *testing.T) {
	list, source := example()
	usual := []string{"both.go", "logo.png", "main.go"}
	for _, test := range []struct {
		keys string
		want []string
	}{
		{"a", usual},
		{"* a", nil}, // everything usual is taken: the key leaves it
		{"* * a", usual},
		{"home space q a", usual}, // any other key is a no
		{"home space space a", usual},
		{"home space enter a", usual},
		{"home y a", usual}, // there was no question
		{"home space y a", append([]string{"package.json"}, usual...)},
		{"home space y space a", usual},         // left again
		{"home space y space space n a", usual}, // and asked again
		{"home n space y a", append([]string{"package.json"}, usual...)},
	} {
		s := open(t, list, source, 80, 24)
		s.press(strings.Fields(test.keys)...)
		want := slices.Clone(test.want)
		slices.Sort(want)
		if got := s.paths(); !slices.Equal(got, want) {
			t.Errorf("%s: picked %q, want %q", test.keys, got, want)
		}
	}
	s := open(t, list, source, 80, 24)
	s.press("home", "space")
	s.shows("package.json: npm runs its scripts", "y takes it all the same · any other key leaves it out")
}

func TestHunksArePicked(t *testing.T) {
	list, source := example()
	picks := func(keys string) []string {
		s := open(t, list, source, 80, 24)
		s.press(strings.Fields(keys)...)
		for _, p := range s.choice.Picked {
			if p.Change.Path == "both.go" {
				return append([]string{"taken"}, p.Hunks...)
			}
		}
		return nil
	}
	for keys, want := range map[string][]string{
		"a":                         {"taken"},
		"n space a":                 {"taken", "h2"},
		"n n space a":               {"taken", "h1"},
		"n space n space a":         nil,
		"n space space a":           {"taken"}, // both again: the whole
		"n space esc space a":       {"taken"}, // from a part to the whole
		"space n space a":           {"taken", "h1"},
		"space n n space p space a": {"taken"},
		"enter space a":             nil, // above the hunks it is the whole file
	} {
		if got := picks(keys); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", keys, got, want)
		}
	}
	s := open(t, list, source, 80, 24)
	s.press("n", "space")
	s.shows("[~] C  both.go", ">·@@ -1,2 +1,2 @@", " x@@ -40,1 +40,2 @@")
}

// Names and contents that an agent chose move no cursor, end no line and reorder nothing.
func TestWhatAnAgentChoseIsWrittenOut(t *testing.T) {
	evil := "a\x1b[2J\x1b]0;t\x07\r\n\u202egpj.exe\u200b\xff\x9b31m"
	c := modified(evil)
	c.Later = "why " + evil
	l := modified("link" + evil)
	l.After = changes.State{Kind: changes.Link, Link: evil}
	d := modified("dropped")
	d.Fate, d.Why = changes.Hidden, evil
	source := &texts{of: map[string]changes.Text{evil: {Hunks: []changes.Hunk{{ID: "1", Lines: []changes.Line{{Op: '+', Text: evil}}}}}}}
	for _, colour := range []bool{true, false} {
		m := newModel(t.Context(), Review{Title: "run " + evil, Changes: []changes.Change{c, l, d}, Source: source, Colour: colour})
		s := screen{t, m}
		s.follow(s.Init())
		for _, keys := range []string{"home", "space", "q", "n", "space", "y", "esc", "down", "down", "space"} {
			s.press(keys)
			harmless(t, s.View().Content)
		}
	}
}

// harmless allows the sequences of paint, line feeds, and what is printed.
func harmless(t *testing.T, content string) {
	t.Helper()
	var p paint
	p.colour = true
	ours := []string{reset, p.mark(true), p.mark(false)}
	for st := plain; st <= cursor; st++ {
		ours = append(ours, p.open(st), paint{}.open(st))
	}
	for _, seq := range ours {
		if seq != "" {
			content = strings.ReplaceAll(content, seq, "")
		}
	}
	content = strings.ReplaceAll(content, "\n", "")
	if got := Escaped(content); got != content {
		t.Errorf("the screen holds what a terminal obeys: %q", content)
	}
}

// Every size is drawn within itself, also while something is asked and in the help.
func TestEverySizeFits(t *testing.T) {
	list, source := example()
	list = append(list, modified(strings.Repeat("d/", 100)+"漢字"+strings.Repeat("x", 300)+".go"))
	source.of[list[len(list)-1].Path] = changes.Text{Hunks: []changes.Hunk{{ID: "1", Lines: []changes.Line{{Op: '+', Text: strings.Repeat("漢字 and \x1b tabs\t", 300)}}}}}
	for _, size := range [][2]int{{80, 24}, {200, 60}, {72, 10}, {71, 9}, {40, 12}, {20, 5}, {10, 3}, {3, 2}, {1, 1}, {0, 0}} {
		s := open(t, list, source, size[0], size[1])
		for _, key := range strings.Fields("down down G home space y n n pgdown end pgup esc d q ? q space") {
			s.press(key)
			_ = s.text()
		}
		s.send(tea.WindowSizeMsg{Width: 80, Height: 24})
		s.shows("a apply selected")
	}
}

// The keys of a question are seen however long the name is that it is about, and the name's end is.
func TestALongNameHidesNoQuestion(t *testing.T) {
	c := modified(strings.Repeat("very/long/", 40) + "Makefile")
	c.Later = "make runs it"
	s := open(t, []changes.Change{c}, &texts{}, 50, 6)
	s.press("space")
	s.shows("Makefile: make runs", "y takes it all the same")
}

// Of thousands of changes only what is in the window is drawn, and only what is looked at is loaded.
func TestThousandsOfChangesCostWhatIsSeen(t *testing.T) {
	source := &texts{of: map[string]changes.Text{}}
	var list []changes.Change
	for i := range 20000 {
		list = append(list, modified(fmt.Sprintf("dir%03d/file%05d.go", i/100, i)))
	}
	s := open(t, list, source, 80, 24)
	draw := testing.AllocsPerRun(10, func() { _ = s.View() })
	few := open(t, list[:20], source, 80, 24)
	if base := testing.AllocsPerRun(10, func() { _ = few.View() }); draw > 2*base+100 {
		t.Errorf("drawing takes %v allocations, %v with few changes", draw, base)
	}
	s.press("end")
	s.shows("file19999.go")
	s.press("home")
	if len(source.asked) > 4 {
		t.Errorf("%d texts were loaded", len(source.asked))
	}
}

// A text that comes late does not take the place of another one's.
func TestALateTextIsDropped(t *testing.T) {
	list, source := example()
	s := open(t, list, source, 80, 24)
	s.send(read{path: "main.go", text: twoHunks()})
	if s.pane.path != "both.go" {
		t.Errorf("the pane shows %q", s.pane.path)
	}
	s.press("end", "up") // main.go
	s.send(read{path: "both.go", err: errors.New("too slow")})
	if s.pane.path != "main.go" || strings.Contains(s.text(), "too slow") {
		t.Errorf("the pane shows %q:\n%s", s.pane.path, s.text())
	}
}

// Keys that come before the text does select nothing that is not seen: the way to the first hunk is gone when it is there.
func TestKeysBeforeTheText(t *testing.T) {
	list, source := example()
	s := screen{t, newModel(t.Context(), Review{Title: "run", Changes: list, Source: source})}
	load := s.Init()
	s.press("n", "space")
	s.shows("still being loaded", "[x] C  both.go")
	s.follow(load)
	s.press("space")
	s.shows("[~] C  both.go", ">·@@ -1,2 +1,2 @@")
}

func TestALiveRunIsNotThrownAway(t *testing.T) {
	list, source := example()
	m := newModel(t.Context(), Review{Title: "run", Live: true, Changes: list, Source: source})
	s := screen{t, m}
	s.press("d", "D")
	if s.ended {
		t.Error("it was")
	}
	s.press("d")
	s.shows("the run goes on")
}

func TestNothingChangedAndNothingSelected(t *testing.T) {
	s := open(t, nil, &texts{}, 80, 24)
	s.shows("nothing was changed")
	s.press("space", "n", "down", "G", "pgup", "tab", "end", "a")
	s.shows("nothing is selected")
	if s.ended {
		t.Error("nothing was applied")
	}
}

// With NO_COLOR there is no colour, only bold and reversed.
func TestNoColour(t *testing.T) {
	list, source := example()
	s := open(t, list, source, 80, 24)
	s.press("home", "space", "y", "n")
	for _, seq := range strings.Split(s.View().Content, "\x1b[")[1:] {
		if code, _, _ := strings.Cut(seq, "m"); !slices.Contains([]string{"0", "1", "7", "27"}, code) {
			t.Errorf("the sequence %q is there", code)
		}
	}
}

// A pane that is scrolled through shows every row of a text, whatever their length.
func TestEveryRowIsReached(t *testing.T) {
	c := modified("long.txt")
	var lines []changes.Line
	for i := range 60 {
		lines = append(lines, changes.Line{Op: '+', Text: fmt.Sprintf("<%d>", i) + strings.Repeat("x", i*7)})
	}
	source := &texts{of: map[string]changes.Text{"long.txt": {Hunks: []changes.Hunk{{ID: "1", NewLines: 60, Lines: lines}}}}}
	for _, step := range []string{"down", "pgdown"} {
		s := open(t, []changes.Change{c}, source, 40, 9)
		s.press("enter")
		seen := ""
		for range 1000 {
			seen += s.text()
			s.press(step)
		}
		for i := range 60 {
			if !strings.Contains(seen, fmt.Sprintf("<%d>", i)) {
				t.Errorf("%s: line %d is never seen", step, i)
			}
		}
		s.press("home")
		s.shows("long.txt")
	}
}
