package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"agentbox/internal/approval"
	"agentbox/internal/session"
)

func newApprovals(a *app) *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use: "approvals [RUN]", Short: "List the requests that wait for your answer",
		Long: `Lists the questions of all live runs, or of RUN alone, which is an id of agentbox ps, or its beginning. Each is a request
that a rule, or the default, of its profile says to ask you about; it waits, and others pass. agentbox approve and
agentbox deny answer; whoever answers first is heard. Without an answer it is denied after five minutes, or after
[approvals] timeout of ~/.config/agentbox/config.toml.

With --watch it goes on and tells each question and each answer as it comes. A run that is watched so can ask you also
when it has no terminal itself.

Exit codes: 0 fine, 1 a run can't be reached, or there is no such run, 2 usage.`,
		Example: "  agentbox approvals\n  agentbox approvals --watch\n  agentbox approvals x7k2 --json | jq -r '.[].id'",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(cmd, errors.New("agentbox approvals takes one run at most"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if watch {
				return a.watchApprovals(cmd.Context(), args, asJSON)
			}
			return a.listApprovals(cmd.Context(), args, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON; with --watch a change a line")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on, and tell what changes")
	return cmd
}

// waiting is a question with the run that asks it.
type waiting struct {
	Run     string `json:"run"`
	Profile string `json:"profile"`
	Repo    string `json:"repo"`
	approval.Question
	info session.Info
}

// liveSessions are the runs that can ask: all of them, or the one that args name.
func (a *app) liveSessions(args []string) ([]session.Info, error) {
	if len(args) == 1 {
		info, err := a.session(args)
		if err != nil {
			return nil, err
		}
		if !info.Live {
			return nil, fmt.Errorf("run %s has ended already", info.ID)
		}
		return []session.Info{info}, nil
	}
	paths, err := a.paths()
	if err != nil {
		return nil, err
	}
	all, err := session.List(paths)
	var live []session.Info
	for _, i := range all {
		if i.Live {
			live = append(live, i)
		}
	}
	return live, err
}

// questions gives those of the runs. A run that does not answer is in the error; the others are given all the same. One
// that is about to start, or to end, asks nothing.
func questions(ctx context.Context, infos []session.Info) ([]waiting, error) {
	out, errs := []waiting{}, []error{}
	for _, i := range infos {
		open, err := pending(ctx, i)
		if !deaf(err) {
			errs = append(errs, err)
		}
		for _, q := range open {
			out = append(out, waiting{Run: i.ID, Profile: i.Profile, Repo: i.Repo, Question: q, info: i})
		}
	}
	return out, errors.Join(errs...)
}

// deaf reports that nobody listens at a run's control socket.
func deaf(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

func pending(ctx context.Context, i session.Info) ([]approval.Question, error) {
	var open []approval.Question
	err := talk(ctx, i, func(ctx context.Context, c *session.Client) (err error) {
		open, err = c.Pending(ctx)
		return err
	})
	return open, err
}

// talk connects to a run for as long as an answer may take.
func talk(ctx context.Context, i session.Info, do func(context.Context, *session.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	c, err := session.Dial(i)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return do(ctx, c)
}

func (a *app) listApprovals(ctx context.Context, args []string, asJSON bool) error {
	infos, err := a.liveSessions(args)
	if err != nil {
		return err
	}
	all, err := questions(ctx, infos)
	if asJSON {
		return errors.Join(json.NewEncoder(a.out).Encode(all), err)
	}
	if len(all) == 0 && err == nil {
		a.say("nothing waits for an answer")
	}
	return errors.Join(a.printQuestions(all), err)
}

func (a *app) printQuestions(all []waiting) error {
	if len(all) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tRUN\tAGE\tLEFT\tWAITERS\tRULE\tWHAT")
	for _, q := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", q.ID, q.Run, age(time.Since(q.Asked)), left(q.Question), q.Waiters, escaped(q.Rule), escaped(q.What()))
	}
	return w.Flush()
}

// left is how long a question still waits.
func left(q approval.Question) string { return max(0, time.Until(q.Until)).Round(time.Second).String() }

// watchLine is what --watch --json prints.
type watchLine struct {
	Run string `json:"run"`
	session.Change
}

// look is how often --watch looks for runs that have begun.
const look = time.Second

// watchApprovals tells what changes: of one run until it ends, of all until it is interrupted.
func (a *app) watchApprovals(ctx context.Context, args []string, asJSON bool) error {
	infos, err := a.liveSessions(args)
	if err != nil {
		return err
	}
	if len(infos) == 0 {
		a.say("no run is live; those that begin are watched as they do (Ctrl-C ends this)")
	}
	w := &approvalWatch{app: a, json: asJSON, followed: map[string]bool{}}
	if len(args) == 1 {
		return w.follow(ctx, infos[0])
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		for _, i := range infos {
			if w.begin(i.ID) {
				all.Go(func() {
					switch err := w.follow(ctx, i); {
					case deaf(err):
						w.again(i.ID)
					case err != nil:
						a.say("%s", err)
					}
				})
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if infos, err = a.liveSessions(nil); err != nil {
			a.say("%s", err)
		}
	}
}

// approvalWatch prints the changes of several runs.
type approvalWatch struct {
	*app
	json bool

	mu       sync.Mutex
	followed map[string]bool // runs
}

// begin reports whether a run is to be followed from now on.
func (w *approvalWatch) begin(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	begins := !w.followed[id]
	w.followed[id] = true
	return begins
}

// again lets a run be tried again.
func (w *approvalWatch) again(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.followed, id)
}

func (w *approvalWatch) follow(ctx context.Context, i session.Info) error {
	c, err := session.Dial(i)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	told := map[string]bool{}
	return c.Watch(ctx, func() { w.say("watching run %s (%s, %s)", i.ID, i.Profile, i.Repo) }, func(change session.Change) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.json {
			return json.NewEncoder(w.out).Encode(watchLine{i.ID, change})
		}
		return w.print(i, change, told)
	})
}

func (w *approvalWatch) print(i session.Info, change session.Change, told map[string]bool) error {
	now := time.Now().Format("15:04:05")
	var err error
	switch q := change.Question; {
	case q == nil && change.Outcome != nil:
		delete(told, change.Outcome.ID)
		_, err = fmt.Fprintf(w.out, "%s  %s  %s\n", now, change.Outcome.ID, escaped(change.Outcome.String()))
	case q != nil && !told[q.ID]: // another waiter is no news for a person
		told[q.ID] = true
		_, err = fmt.Fprintf(w.out, "%s  %s  run %s asks: %s (%s)\n          agentbox approve %s, or agentbox deny %s\n", now, q.ID, i.ID, escaped(q.What()), escaped(q.Rule), q.ID, q.ID)
	}
	return err
}

// findQuestion finds the one question, of any live run, whose id begins so.
func (a *app) findQuestion(ctx context.Context, id string) (waiting, error) {
	infos, err := a.liveSessions(nil)
	if err != nil {
		return waiting{}, err
	}
	all, err := questions(ctx, infos)
	var found []waiting
	for _, q := range all {
		if strings.HasPrefix(q.ID, id) {
			found = append(found, q)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return waiting{}, errors.Join(notFound(ctx, infos, id), err)
	}
	ids := make([]string, len(found))
	for i, q := range found {
		ids[i] = q.ID
	}
	return waiting{}, &session.Problem{Err: fmt.Errorf("%q is the start of several questions: %s", id, strings.Join(ids, ", ")), Hint: "give more of the id"}
}

// notFound says that there is no such question, or how it was answered.
func notFound(ctx context.Context, infos []session.Info, id string) error {
	for _, i := range infos {
		var o approval.Outcome
		err := talk(ctx, i, func(ctx context.Context, c *session.Client) (err error) {
			o, err = c.Outcome(ctx, id)
			return err
		})
		if err == nil && o.ID == id {
			return &approval.Settled{Outcome: o}
		}
	}
	return &session.Problem{Err: fmt.Errorf("no question %q waits for an answer", id), Hint: "`agentbox approvals` lists those that do"}
}

// completionTime bounds what a press of Tab waits for: a run that does not answer must not hang the shell.
const completionTime = time.Second

// openQuestions lists ids for completion.
func openQuestions(a *app, _ []string) []cobra.Completion {
	infos, _ := a.liveSessions(nil) // those that can be read
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	all, _ := questions(ctx, infos)
	var out []cobra.Completion
	for _, q := range all {
		out = append(out, cobra.CompletionWithDesc(q.ID, printable(q.What())))
	}
	return out
}
