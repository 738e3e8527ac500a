package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"agentbox/internal/apply"
	"agentbox/internal/session"
)

// reviewed is a person at the review of a run that changed two files.
func reviewed(t *testing.T) (home, *session.Session) {
	t.Helper()
	h := newHome(t)
	h.write("upper/main.go", "package main\n\nfunc new() {}\n")
	h.write("upper/other.txt", "other\n")
	s, end := h.left()
	end()
	return h, s
}

// ready24 is what the screen says when it takes keys.
const ready24 = "a apply selected"

func TestTheReviewOnATerminal(t *testing.T) {
	for _, test := range []struct {
		name, keys string
		check      func(h home, s *session.Session, rest string)
	}{
		{"keep", "q", func(h home, s *session.Session, rest string) {
			if !strings.Contains(rest, "kept apart from your files: agentbox diff "+shortID(s.Meta.ID)) {
				t.Errorf("it says %q", rest)
			}
		}},
		{"apply all", "a", func(h home, _ *session.Session, _ string) {
			if !strings.Contains(h.read("repo/main.go"), "new") || h.read("repo/other.txt") != "other\n" {
				t.Error("not all was applied")
			}
		}},
		{"apply one", " a", func(h home, _ *session.Session, _ string) { // the cursor stands on the first
			if !strings.Contains(h.read("repo/main.go"), "old") || h.read("repo/other.txt") != "other\n" {
				t.Error("something else was applied")
			}
		}},
		{"discard", "dD", func(_ home, s *session.Session, _ string) {
			if session.HasWork(s.Dir) {
				t.Error("it is there")
			}
		}},
		{"discard, and then not", "dq\x03", func(_ home, s *session.Session, _ string) {
			if !session.HasWork(s.Dir) {
				t.Error("it is gone")
			}
		}},
		{"a paste is no key", "\x1b[200~dDaa\x1b[201~q", func(h home, s *session.Session, _ string) {
			if !session.HasWork(s.Dir) || !strings.Contains(h.read("repo/main.go"), "old") {
				t.Error("it was obeyed")
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, s := reviewed(t)
			term := h.command("agentbox", "apply").onTerminal(80, 24)
			term.until(ready24)
			term.typed(test.keys)
			rest, code := term.ended()
			if code != 0 {
				t.Errorf("exit %d: %q", code, rest)
			}
			if !strings.Contains(rest, "\x1b[?1049l") {
				t.Errorf("the screen is not given back: %q", rest)
			}
			test.check(h, s, rest)
			if test.name != "apply all" && test.name != "apply one" && !strings.Contains(h.read("repo/main.go"), "old") {
				t.Error("something was applied")
			}
		})
	}
}

// What was typed before the review stands there was meant for something else.
func TestWhatIsTypedAheadIsNoChoice(t *testing.T) {
	h, s := reviewed(t)
	term := h.command("agentbox", "apply").onTerminal(80, 24)
	term.typed("adD\r")
	term.until(ready24)
	term.typed("q")
	rest, code := term.ended()
	if code != 0 || !strings.Contains(rest, "kept apart") || !session.HasWork(s.Dir) || !strings.Contains(h.read("repo/main.go"), "old") {
		t.Errorf("exit %d: %q", code, rest)
	}
}

// However the review ends that nobody ended it, everything is kept.
func TestASignalKeeps(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		h, s := reviewed(t)
		term := h.command("agentbox", "apply").onTerminal(80, 24)
		term.until(ready24)
		must(t, term.cmd.Process.Signal(sig))
		_, _ = term.ended()
		if !session.HasWork(s.Dir) || !strings.Contains(h.read("repo/main.go"), "old") {
			t.Errorf("%v: it was not kept as it was", sig)
		}
	}
}

// What the agent changes while the person looks is not what the person saw, and is not applied.
func TestWhatChangedSinceIsNotApplied(t *testing.T) {
	h, s := reviewed(t)
	term := h.command("agentbox", "apply").onTerminal(80, 24)
	term.until(ready24)
	must(t, os.WriteFile(filepath.Join(s.Dir, "work/tree/upper/main.go"), []byte("package main\n\nfunc evil() {}\n"), 0o644))
	term.typed("a")
	rest, code := term.ended()
	if code != 1 || !strings.Contains(rest, "changed since  main.go") {
		t.Errorf("exit %d: %q", code, rest)
	}
	if !strings.Contains(h.read("repo/main.go"), "old") || h.read("repo/other.txt") != "other\n" {
		t.Error("what was not looked at was applied, or what was is not")
	}
}

// A directory that is picked brings nothing along: neither what was left out in it, nor what is made there while the
// person looks.
func TestADirectoryBringsNothingAlong(t *testing.T) {
	h := newHome(t)
	h.write("upper/d/a.txt", "a\n")
	h.write("upper/d/left.txt", "left\n")
	h.write("upper/d/Makefile", "all:\n\tevil\n")
	s, end := h.left()
	end()
	term := h.command("agentbox", "apply").onTerminal(80, 24)
	term.until(ready24)
	must(t, os.WriteFile(filepath.Join(s.Dir, "work/tree/upper/d/since.txt"), []byte("x\n"), 0o644))
	term.typed("G a") // d/left.txt stands last
	rest, _ := term.ended()
	if got := h.read("repo/d/a.txt"); got != "a\n" {
		t.Errorf("what was picked is not applied: %q", rest)
	}
	for _, name := range []string{"left.txt", "Makefile", "since.txt"} {
		if _, err := os.Lstat(filepath.Join(h.repo, "d", name)); err == nil {
			t.Errorf("d/%s came along", name)
		}
	}
}

func TestOutcomesAreWrittenOut(t *testing.T) {
	got := outcomeLine(apply.Outcome{Path: "a\x1b[2J", Result: apply.Conflict, Why: "b\u202e", Beside: "c\n"})
	if want := `conflict       a\u001b[2J: b\u202e; the agent's version: c\u000a`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// While the run goes on its changes come onto the screen by themselves, and are not taken unseen.
func TestTheReviewOfALiveRun(t *testing.T) {
	h := newHome(t)
	h.write("upper/main.go", "package main\n\nfunc new() {}\n")
	h.write("upper/other.txt", "WWWWWWWW\n")
	s, end := h.left()
	term := h.command("agentbox", "apply").onTerminal(80, 24)
	term.until("the run goes on")
	upper := filepath.Join(s.Dir, "work/tree/upper")
	must(t, os.MkdirAll(filepath.Join(upper, "dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(upper, "dir/QQQQ.txt"), []byte("later\n"), 0o644))
	term.until("QQQQ.txt") // the screen writes what is another letter only: these are in no word of it
	term.typed("G")
	term.until("WWWWWWWW")
	must(t, os.WriteFile(filepath.Join(upper, "other.txt"), []byte("ZZZZZZZZ\n"), 0o644))
	term.until("ZZZZZZZZ")
	end()
	term.typed("a")
	if rest, code := term.ended(); code != 0 || !strings.Contains(rest, "1 applied") {
		t.Errorf("exit %d: %q", code, rest)
	}
	for name, want := range map[string]bool{"other.txt": false, "dir/QQQQ.txt": false} {
		if _, err := os.Stat(filepath.Join(h.repo, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !strings.Contains(h.read("repo/main.go"), "new") {
		t.Error("what was looked at is not applied")
	}
}
