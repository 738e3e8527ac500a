package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"agentbox/internal/approval"
	"agentbox/internal/policy"
	"agentbox/internal/session"
	"agentbox/internal/trust"
)

func newApprove(a *app) *cobra.Command {
	var once, run, always bool
	cmd := &cobra.Command{
		Use: "approve ID", Short: "Allow a request that waits for your answer",
		Long: `Lets everything go on that waits for the question ID, which is an id of agentbox approvals, or its beginning.

  --once    what waits now; the next such request asks again (the default)
  --run     the same request, until its run ends
  --always  the same request, in this repository from now on: the run goes on, and a rule for exactly this host, port,
            method and path is added to your grants for the repository and shown (agentbox grants revoke takes it back)

The same request is one of the same method to the same host, port and path. Nothing is said of its query and its body.
A signature of a commit or a tag is allowed once, and each is a question of its own.

Exit codes: 0 allowed, 1 no such question waits, or it was answered already, 2 usage.`,
		Example: "  agentbox approve q7k2m\n  agentbox approve q7 --run\n  agentbox approve q7k2m --always",
		Args:    exactly(1, "one question"),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope := approval.Once
			switch {
			case once && run, once && always, run && always:
				return usage(cmd, errors.New("--once, --run and --always exclude each other"))
			case run:
				scope = approval.Run
			case always:
				scope = approval.Always
			}
			return a.approve(cmd.Context(), args[0], scope)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "what waits now (the default)")
	cmd.Flags().BoolVar(&run, "run", false, "the same request, until the run ends")
	cmd.Flags().BoolVar(&always, "always", false, "the same request, in this repository from now on")
	return cmd
}

func newDeny(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "deny ID", Short: "Deny a request that waits for your answer",
		Long: `Refuses everything that waits for the question ID, which is an id of agentbox approvals, or its beginning. The agent reads
the reason. The same request is denied without a question for half a minute.

Exit codes: 0 denied, 1 no such question waits, or it was answered already, 2 usage.`,
		Example: "  agentbox deny q7k2m\n  agentbox deny q7k2m --reason \"use the staging host\"",
		Args:    exactly(1, "one question"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(reason) > approval.MaxReason {
				return usage(cmd, fmt.Errorf("the reason is longer than %d bytes", approval.MaxReason))
			}
			return a.answer(cmd.Context(), args[0], func(waiting) (approval.Scope, error) { return approval.Deny, nil }, reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the agent")
	return cmd
}

func (a *app) approve(ctx context.Context, id string, scope approval.Scope) error {
	var q waiting
	err := a.answer(ctx, id, func(found waiting) (approval.Scope, error) {
		q = found
		if err := found.Suits(scope); err != nil {
			return scope, err
		}
		if scope != approval.Always {
			return scope, nil
		}
		_, err := tightest(found.Question)
		return scope, err
	}, "")
	if err != nil || scope != approval.Always {
		return err
	}
	paths, err := a.paths()
	if err != nil {
		return err
	}
	return a.allowAlways(a.out, trust.GrantsOf(paths.Config, q.Repo), q.Question)
}

// answer finds a question and answers it, once the scope is known.
func (a *app) answer(ctx context.Context, id string, choose func(waiting) (approval.Scope, error), reason string) error {
	q, err := a.findQuestion(ctx, id)
	if err != nil {
		return err
	}
	scope, err := choose(q)
	if err != nil {
		return err
	}
	err = talk(ctx, q.info, func(ctx context.Context, c *session.Client) error { return c.Answer(ctx, q.ID, scope, reason) })
	if err != nil {
		return err
	}
	done := map[approval.Scope]string{approval.Once: "allowed once", approval.Run: "allowed for the run", approval.Always: "allowed always", approval.Deny: "denied"}
	if reason != "" {
		reason = " (" + reason + ")"
	}
	a.say("%s: %s%s", done[scope], q.What(), reason)
	return nil
}

// allowAlways adds the rule that lets a question's request through from now on, and shows it.
func (a *app) allowAlways(to io.Writer, g trust.Grants, q approval.Question) error {
	rule, err := tightest(q)
	if err == nil {
		err = a.grant(g, rule)
	}
	if err != nil {
		return fmt.Errorf("it is allowed until the run ends, and not always: %w", err)
	}
	_, err = fmt.Fprintf(to, "# in %s\n%s", escaped(a.tilde(g.Path)), escapedLines(rule.TOML()))
	return err
}

// tightest is the rule that allows the request of a question and as little else as a rule can say.
func tightest(q approval.Question) (trust.Rule, error) {
	no := func(why string) (trust.Rule, error) {
		return trust.Rule{}, &session.Problem{Err: fmt.Errorf("allowing it always: %s", why), Hint: "--run allows it until the run ends"}
	}
	r := trust.Rule{Host: q.Host, Ports: []uint16{q.Port}, Scheme: q.Scheme}
	switch {
	case strings.HasPrefix(q.Rule, policyFile):
		return no("the organisation wants a person asked each time (" + q.Rule + ")")
	case q.Git != "":
		return no("what git may do with a repository is said by [[git]] in a profile")
	case q.Scheme == policy.TCP:
		r.Scheme, r.Protocol = "", policy.TCP
		return r, nil
	case q.Method == "" && q.Path == "":
		return r, nil
	}
	path, ok := policy.ExactPath(q.Path)
	if !ok {
		return no("no rule can name its path: " + policy.PathFlaw(q.Path))
	}
	r.Methods, r.Paths, r.WebSocket = []string{q.Method}, []string{path.String()}, strconv.FormatBool(q.WebSocket)
	return r, nil
}
