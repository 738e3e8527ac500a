package main

import (
	"bufio"
	"errors"
	"fmt"
	"golang.org/x/term"
	"io"
	"os"
	"strings"

	"agentbox/internal/sys"
)

// errNobody says that there is no terminal at which a person could be asked.
var errNobody = errors.New("there is no terminal to ask at")

// ask puts a question to the person at the terminal, whatever the standard streams are, and takes a no for anything
// but a yes. What it is about is shown with it where standard error, which has it already, leads elsewhere.
func (a *app) ask(about, question string) (bool, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false, errNobody
	}
	defer tty.Close()
	if !term.IsTerminal(int(a.err.Fd())) {
		_, _ = io.WriteString(tty, about)
	}
	// What was typed before the question is no answer to it.
	if err := sys.FlushInput(int(tty.Fd())); err != nil {
		return false, fmt.Errorf("asking at the terminal: %w", err)
	}
	fmt.Fprintf(tty, "%s [y/N] ", question)
	line, err := bufio.NewReader(io.LimitReader(tty, 1024)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("reading the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
