package commits

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"agentbox/internal/layerfiles"
)

// Repo is the host's repository.
type Repo struct {
	Root   string // the top of its work tree; of a bare repository, its git directory
	Git    string // the work tree's git directory
	Common string // of a linked worktree: the git directory with the objects; "" is Git

	// Hidden are the patterns of what was hidden from the run (policy.HideList). Commits that change it are not taken: what
	// was committed there is no work on the file, which was empty or not there.
	Hidden []string
}

func (r Repo) common() string { return cmp.Or(r.Common, r.Git) }

// Refusal is an error that the person can do something about.
type Refusal struct {
	Text string
	Hint string
}

func (r *Refusal) Error() string { return r.Text }

// HintText is the line to show below the error.
func (r *Refusal) HintText() string { return r.Hint }

func refuse(hint, format string, args ...any) error {
	return &Refusal{Text: fmt.Sprintf(format, args...), Hint: hint}
}

const (
	gitTime   = 2 * time.Minute
	maxOutput = 64 << 20 // bytes that are taken of what git prints
	maxSaid   = 4 << 10  // and of its complaints
)

// call is one call of git.
type call struct {
	dir    string   // where it runs
	env    []string // beside the house's
	args   []string
	in     io.Reader
	memory int64 // bytes of address space, 0 for any
	first  int   // so many bytes of what it prints are enough; 0: all of it is needed
}

// gitError is how a call of git ended that did not end well.
type gitError struct {
	verb string
	code int
	said string // escaped by whoever shows it
}

func (e *gitError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("git %s: %s", e.verb, cmp.Or(e.said, fmt.Sprintf("exit code %d", e.code))))
}

// run runs git and gives what it printed. Nothing that a configuration names is executed: see layerfiles.GitCommand.
func (c call) run(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, gitTime)
	defer cancel()
	cmd, err := layerfiles.GitCommand(ctx, c.dir, c.args...)
	if err != nil {
		return "", err
	}
	if c.memory > 0 {
		limitMemory(cmd, c.memory)
	}
	// First a signal that git tidies after, then, when it has ended or would not, one that none of its children outlives.
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(cmd.Env, c.env...)
	out, said := &bounded{left: cmp.Or(c.first, maxOutput)}, &bounded{left: maxSaid}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.in, out, said
	err = cmd.Run()
	if cmd.Process != nil && ctx.Err() != nil {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // its group may have ended
	}
	return out.buf.String(), c.explain(ctx, err, out, said)
}

// verb is the first argument that is no setting.
func (c call) verb() string {
	for i := 0; i < len(c.args); i++ {
		if c.args[i] != "-c" {
			return c.args[i]
		}
		i++
	}
	return ""
}

func (c call) explain(ctx context.Context, err error, out, said *bounded) error {
	verb := c.verb()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("git %s: %w", verb, context.Cause(ctx))
	case out.over && c.first == 0:
		return fmt.Errorf("git %s: it prints more than %d bytes", verb, maxOutput)
	case errors.As(err, &exit):
		return &gitError{verb: verb, code: exit.ExitCode(), said: strings.TrimSpace(said.buf.String())}
	case err != nil:
		return fmt.Errorf("git %s: %w", verb, err)
	}
	return nil
}

// limitMemory bounds the address space of git and what it starts: an object can be a bomb. What the limit is not for,
// the server on the other end, takes it off again.
func limitMemory(cmd *exec.Cmd, bytes int64) {
	cmd.Args = append([]string{"/bin/sh", "-c", fmt.Sprintf(`ulimit -S -v %d; exec "$@"`, bytes>>10), "sh", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
}

// bounded keeps what is written to it up to a limit, and takes the rest without a word.
type bounded struct {
	buf  bytes.Buffer
	left int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.buf.Write(p[:n])
	b.left -= n
	b.over = b.over || n < len(p)
	return len(p), nil
}

// exitCode gives git's own when err is one.
func exitCode(err error) int {
	var e *gitError
	if errors.As(err, &e) {
		return e.code
	}
	return -1
}

// host runs git in the host's repository.
func (r Repo) host(ctx context.Context, args ...string) (string, error) {
	return call{dir: r.Root, env: []string{"GIT_DIR=" + r.Git}, args: args}.run(ctx)
}

func (r Repo) hostIn(ctx context.Context, in io.Reader, args ...string) (string, error) {
	return call{dir: r.Root, env: []string{"GIT_DIR=" + r.Git}, args: args, in: in}.run(ctx)
}

// line is the first line of what git printed.
func line(text string, err error) (string, error) {
	text, _, _ = strings.Cut(text, "\n")
	return text, err
}
