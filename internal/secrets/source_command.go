package secrets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"time"
	"unicode"

	"agentbox/internal/subprocess"
)

// CommandTime is how long a command may take: long enough to unlock a password manager by hand.
const CommandTime = 30 * time.Second

// maxValue bounds a value. Nothing that fits into a header is longer.
const maxValue = 64 << 10

// Command is a value that a program of the host prints on its standard output, as its only line. No shell reads Argv.
type Command struct {
	Argv    []string
	Dir     string        // where it runs: never in the repository, which could tell it what to do
	Env     []string      // nil: that of agentbox
	Timeout time.Duration // 0: CommandTime
	Outside string        // a directory that agents write: a program in it is not run; "" is none
}

// commandError says what was wrong with a command, and never repeats what it printed on standard output. What it said on
// standard error is for the person alone: Error and Hint reach the agent.
type commandError struct {
	text, tip string
	said      string
	err       error
}

// Said is the beginning of what the command had to say, or "". It may hold anything that the command knows.
func (e *commandError) Said() string { return e.said }

func (e *commandError) Error() string { return e.text }

// Hint says what to do.
func (e *commandError) Hint() string { return e.tip }

// Temporary is false, whatever ended it: nobody is asked the same again and again.
func (e *commandError) Temporary() bool { return false }

func (e *commandError) Unwrap() error { return e.err }

// Fetch runs the command once. It and all that it started end with ctx, or when its time is over.
func (c Command) Fetch(ctx context.Context) (Lease, error) {
	limit := c.Timeout
	if limit == 0 {
		limit = CommandTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out, said := &subprocess.Output{Most: maxValue, Strict: true}, &subprocess.Output{Most: 4 << 10}
	defer out.Wipe()
	cmd := subprocess.Command(ctx, c.Argv[0], c.Argv[1:]...)
	if cmd.Err == nil && within(cmd.Path, c.Outside) {
		return Lease{}, &commandError{text: fmt.Sprintf("command %q is %s, in the repository, where an agent could have put it", c.Argv[0], cmd.Path),
			tip: "name the program by its full path, or take the repository off your PATH"}
	}
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.Dir, c.Env, out, said
	err := cmd.Run()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil && !out.Over() { // else it is the output that is wrong
		return Lease{}, c.explain(err, limit, said, out)
	}
	value, err := c.line(out)
	return Lease{Value: value}, err
}

// explain says how the command failed.
func (c Command) explain(err error, limit time.Duration, said, out *subprocess.Output) error {
	e := &commandError{err: err, tip: c.Tip()}
	var exit *exec.ExitError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.text = fmt.Sprintf("command %q did not end within %s", c.Argv[0], limit)
		e.tip = "it may wait for a question that nobody sees: log in to it first, then start agentbox again"
	case errors.Is(err, context.Canceled):
		e.text = fmt.Sprintf("command %q was called off", c.Argv[0])
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		e.text = fmt.Sprintf("command %q is not installed, or not on PATH", c.Argv[0])
		e.tip = "install it, or name another source of the credential"
	case errors.As(err, &exit) && exit.Exited():
		e.text = fmt.Sprintf("command %q failed with exit code %d", c.Argv[0], exit.ExitCode())
	case errors.As(err, &exit):
		e.text = fmt.Sprintf("command %q ended by a signal", c.Argv[0])
	case errors.Is(err, exec.ErrWaitDelay):
		e.text = fmt.Sprintf("command %q left a process behind that holds its output", c.Argv[0])
	default:
		e.text = fmt.Sprintf("command %q could not be run: %s", c.Argv[0], err)
	}
	e.said = shown(said, out)
	return e
}

// line takes the one line that was printed.
func (c Command) line(out *subprocess.Output) (Secret, error) {
	bad := func(what string) (Secret, error) {
		return Secret{}, &commandError{text: fmt.Sprintf("command %q printed %s", c.Argv[0], what), tip: c.Tip()}
	}
	line, flaw := oneLine(out)
	if flaw != "" {
		return bad(flaw)
	}
	return wrap(line), nil
}

// oneLine gives what was read without the end of its line, or says what is wrong with it.
func oneLine(out *subprocess.Output) (line []byte, flaw string) {
	if out.Over() {
		return nil, fmt.Sprintf("more than %d KiB, which is no token", out.Most>>10)
	}
	text := bytes.TrimRight(out.Bytes(), "\r\n")
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return nil, "nothing"
	case bytes.ContainsAny(text, "\r\n"):
		return nil, "more than one line, and the token must be the only one"
	case bytes.ContainsFunc(text, unicode.IsControl):
		return nil, "control characters, which no token has"
	case bytes.ContainsRune(text, unicode.ReplacementChar):
		return nil, "bytes that are not text"
	}
	return bytes.Clone(text), ""
}

// Tip says how a person finds out.
func (c Command) Tip() string {
	return fmt.Sprintf("try %q by hand, as the profile has it: it must print the token, alone on one line", c.Argv[0])
}

// shown is the beginning of what was said on standard error, on one line, unless a word of standard output is in it: a
// token may be said twice.
func shown(said, out *subprocess.Output) string {
	const most = 200
	words := strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, string(said.Bytes())))
	for _, secret := range bytes.Fields(out.Bytes()) {
		if len(secret) >= 4 && bytes.Contains(said.Bytes(), secret) {
			return "[not shown: it repeats what was printed]"
		}
	}
	text := strings.Join(words, " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
