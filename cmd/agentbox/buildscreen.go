package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/term"

	"agentbox/internal/images"
	"agentbox/internal/run"
)

// buildScreen tells of a build as it goes on: each step, and what it says. On a terminal the last line of a step stands
// below it until the next comes.
type buildScreen struct {
	app    *app
	file   string
	script images.Script
	quiet  bool
	live   bool
	at     int // the line of the step in the file
	last   []string
}

// lastLines is how many lines of a step are shown again when it fails.
const lastLines = 20

func newBuildScreen(a *app, file string, script images.Script, quiet bool) *buildScreen {
	return &buildScreen{app: a, file: file, script: script, quiet: quiet, live: !quiet && term.IsTerminal(int(a.err.Fd()))}
}

var stepForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:\[(\d+)/\d+\] )?STEP (\d+)/\d+: `)
})

// line takes what the engine says.
func (s *buildScreen) line(text string) {
	m := stepForm().FindStringSubmatch(text)
	if m == nil {
		s.output(text)
		return
	}
	stage, _ := strconv.Atoi(m[1])
	step, _ := strconv.Atoi(m[2])
	found := s.script.Step(max(stage, 1), step)
	if found.Text == "" { // what agentbox itself has put in
		return
	}
	s.at, s.last = found.Line, nil
	if s.quiet {
		return
	}
	s.clear()
	fmt.Fprintf(s.app.err, "%s:%d  %s\n", printable(s.file), found.Line, printable(found.Text))
}

func (s *buildScreen) output(text string) {
	if s.last = append(s.last, text); len(s.last) > lastLines {
		s.last = s.last[1:]
	}
	switch {
	case s.quiet:
	case s.live:
		s.clear()
		fmt.Fprintf(s.app.err, "    %s", shortened(printable(text), 70))
	default:
		fmt.Fprintf(s.app.err, "    %s\n", printable(text))
	}
}

func shortened(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// clear takes the last line of a step off a terminal.
func (s *buildScreen) clear() {
	if s.live {
		fmt.Fprint(s.app.err, "\r\x1b[K")
	}
}

func (s *buildScreen) end() { s.clear() }

// explain says which step failed, and what it said last.
func (s *buildScreen) explain(err error) error {
	var failed *run.StepError
	if !errors.As(err, &failed) {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d: the step failed: %s", s.file, s.at, outcome(failed.Text))
	if s.live || s.quiet { // elsewhere it was all told
		for _, line := range s.last {
			b.WriteString("\n    " + printable(line))
		}
	}
	return &run.Failure{Code: run.CodeFailed, Text: b.String()}
}

// outcome is what an engine's error ends in: the step itself is shown by its place.
func outcome(text string) string {
	if i := strings.LastIndex(text, `": `); i >= 0 {
		text = text[i+3:]
	}
	return strings.TrimPrefix(text, "while running runtime: ")
}
