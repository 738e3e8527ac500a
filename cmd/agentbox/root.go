package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"agentbox/internal/kept"
	"agentbox/internal/layerfiles"
	"agentbox/internal/plan"
	"agentbox/internal/profiles"
	"agentbox/internal/rootfs"
	"agentbox/internal/run"
	"agentbox/internal/workspace"
)

// version is set by the build.
var version = "unknown"

// Exit codes of the verbs that run nothing.
const (
	exitFine    = 0
	exitFinding = 1
	exitUsage   = 2
)

// app is what every verb is made with: the outside world, so that a verb reads none of it by itself.
type app struct {
	in, out, err *os.File
	getenv       func(string) string
	uid          int
	kept         map[string]string // variables that were taken out of the environment
}

// Main runs the command line and returns the exit code.
func Main(args []string) int {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, uid: os.Getuid()}
	root := newRoot(a)
	root.SetArgs(args)
	if err := keepToSelf(); err != nil {
		return a.report(root, err)
	}
	verb, err := root.ExecuteContextC(context.Background())
	if err == nil {
		return exitFine
	}
	return a.report(verb, err)
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "agentbox",
		Short: "Run a coding agent in a boundary it cannot talk its way past",
		Long: `agentbox hands a coding agent real work in this repository without handing it the machine: a rootless
Podman container that sees the repository and nothing else, one allowlisting HTTPS proxy as the only
way out, placeholders in place of every credential, and an event for everything that crosses.`,
		Example: `  agentbox run claude                     the agent, as if it were run without agentbox
  agentbox run claude --dry-run           what it would be allowed to do
  agentbox run shell -- make test         any command, in the same boundary
  agentbox diff                           what it changed
  agentbox apply                          take of it what you like
  agentbox ps                             what runs now
  agentbox doctor                         what this machine lacks, and how to fix it`,
		SilenceErrors: true, SilenceUsage: true,
		Version: version,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err) })
	root.CompletionOptions.DisableDefaultCmd = true // newCompletion is ours
	root.AddCommand(newRun(a), newPs(a), newStop(a), newEvents(a), newDiff(a), newApply(a), newUndo(a), newDiscard(a), newApprovals(a), newApprove(a), newDeny(a), newReplay(a), newLearn(a), newSecret(a), newProfile(a), newCheck(a), newManifest(a), newWhy(a), newDiffPlan(a), newTrust(a), newGrants(a), newImage(a), newDoctor(a), newGc(a), newCompletion(a), newVersion(a), newServeCommits(a))
	addCompleters(root, a)
	return root
}

// usageError is a command line that makes no sense.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(cmd *cobra.Command, err error) error {
	return &usageError{err, fmt.Sprintf("%s --help", cmd.CommandPath())}
}

// exactly is cobra.ExactArgs with a message that says what is missing.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usage(cmd, fmt.Errorf("%s takes %s", cmd.CommandPath(), what))
		}
		return nil
	}
}

// exitCode is an exit code without a message: everything has been said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// hinted is any error that knows what to do next.
type hinted interface{ Hint() string }

// hintText is the same, of errors whose Hint is a field.
type hintText interface {
	error
	HintText() string
}

// report prints err and its hint, each on a line of its own, and gives the exit code. It is the one table of both.
func (a *app) report(verb *cobra.Command, err error) int {
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	number, hint := classify(err)
	if verb.Name() != "run" && number >= run.CodeBudget {
		number = exitFinding
	}
	if verb.Name() == "run" && number == exitUsage {
		number = run.CodeRefused
	}
	for _, one := range statements(err) {
		a.say("%s", one)
	}
	if hint != "" {
		for _, line := range strings.Split(hint, "\n") {
			a.say("hint: %s", line)
		}
	}
	return number
}

// statements takes apart an error that is several problems or refusals, each of which is told by itself.
func statements(err error) (each []string) {
	var problems profiles.Problems
	var refusals *plan.Refusals
	switch whole := err.Error(); {
	case errors.As(err, &problems) && problems.Error() == whole:
		for _, p := range problems {
			each = append(each, p.Error())
		}
	case errors.As(err, &refusals) && refusals.Error() == whole:
		each = strings.Split(whole, "\n")
	default:
		each = []string{whole}
	}
	return each
}

func classify(err error) (code int, hint string) {
	var (
		failure  *run.Failure
		refusal  *workspace.Refusal
		planned  *plan.Refusal
		strange  *kept.Problem
		absent   *plan.NotFound
		problems profiles.Problems
		unknown  *profiles.NotFound
		layer    *layerfiles.Problem
		word     *usageError
	)
	switch {
	case errors.As(err, &failure):
		return failure.Code, failure.Hint
	case errors.As(err, &refusal):
		return run.CodeRefused, refusal.Hint
	case errors.As(err, &strange):
		return run.CodeRefused, strange.Hint()
	case errors.As(err, &planned):
		return run.CodeRefused, planned.Hint()
	case errors.As(err, &absent):
		return run.CodeNotFound, absent.Hint()
	case errors.As(err, &problems), errors.As(err, &unknown), errors.As(err, &layer):
		return run.CodeRefused, hintOf(err)
	case errors.Is(err, rootfs.ErrNotFound):
		return run.CodeNotFound, hintOf(err)
	case errors.As(err, &word):
		return exitUsage, word.hint
	case strings.HasPrefix(err.Error(), "unknown command"):
		return exitUsage, "agentbox --help"
	}
	return run.CodeFailed, hintOf(err)
}

func hintOf(err error) string {
	var h hinted
	if errors.As(err, &h) {
		return h.Hint()
	}
	var p hintText
	if errors.As(err, &p) {
		return p.HintText()
	}
	return ""
}

// say is talk: one line on stderr, or several of an error. It may repeat what a repository says.
func (a *app) say(format string, args ...any) {
	fmt.Fprintln(a.err, escapedLines("agentbox: "+fmt.Sprintf(format, args...)))
}
