package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	builtin "agentbox/profiles"

	"agentbox/internal/changes"
	"agentbox/internal/commits"
	"agentbox/internal/later"
	"agentbox/internal/run"
	"agentbox/internal/session"
)

// commitOptions are those of "agentbox apply RUN --commits [BRANCH]".
type commitOptions struct {
	commits     bool
	branch      string // of the run; "" where one can be meant alone
	yes         bool   // without asking
	willExecute bool   // also what the person's own tools would execute later
	json        bool   // only list
}

// addFlags adds what belongs to --commits alone.
func (o *commitOptions) addFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.commits, "commits", false, "the commits that were made inside, onto the branch that is checked out here; then PATHS is a branch of the run")
	f.BoolVarP(&o.yes, "yes", "y", false, "with --commits: without asking")
}

// commitsOnto is applyCommits for what a command line names.
func (a *app) commitsOnto(cmd *cobra.Command, id string, branch []string, o commitOptions) error {
	if len(branch) > 1 {
		return usage(cmd, errors.New("--commits takes one branch of the run at most"))
	}
	if len(branch) == 1 {
		o.branch = branch[0]
	}
	if id != "" {
		info, err := a.session([]string{id})
		if err != nil {
			return err
		}
		return a.applyCommits(cmd.Context(), info, o)
	}
	info, err := a.latestCommits(cmd.Context())
	if err != nil {
		return err
	}
	return a.applyCommits(cmd.Context(), info, o)
}

// latestCommits is the latest run of this repository that committed something.
func (a *app) latestCommits(ctx context.Context) (session.Info, error) {
	all, root, err := a.runsHere()
	if err != nil {
		return session.Info{}, err
	}
	repo, err := gitAt(root)
	if err != nil {
		return session.Info{}, err
	}
	for _, info := range slices.Backward(all) {
		made, err := run.Committed(filepath.Join(info.Dir, session.WorkDir))
		if err != nil {
			return session.Info{}, err
		}
		has, err := commits.Has(ctx, repo, info.ID)
		if err != nil {
			return session.Info{}, err
		}
		if made || has {
			return info, nil
		}
	}
	return session.Info{}, &session.Problem{Err: errors.New("no run of this repository committed anything"), Hint: "agentbox ps --all lists the runs"}
}

// shortRun is what is typed to name a run.
func shortRun(id string) string { return id[strings.LastIndexByte(id, '-')+1:] }

// applyCommits shows the commits of a run and puts them onto the person's branch: by a fast-forward where they stand on it,
// else as copies.
func (a *app) applyCommits(ctx context.Context, info session.Info, o commitOptions) error {
	repo, err := gitAt(info.Repo)
	if err != nil {
		return err
	}
	if repo.Hidden, err = hiddenFrom(info); err != nil {
		return err
	}
	list, refused, err := a.commitsOf(ctx, info, repo)
	if err != nil {
		return err
	}
	if o.json {
		return writeCommitsJSON(a.out, list)
	}
	if err := allRefused(info, list, refused, o.branch); err != nil {
		return err
	}
	if len(list) == 0 {
		a.say("run %s made no commit that is not on your branch", info.ID)
		return nil
	}
	b, err := chosen(list, o.branch)
	if err != nil {
		return err
	}
	risky := executing(ctx, repo, b)
	var text strings.Builder
	writeCommits(&text, b, risky)
	if _, err := io.WriteString(a.out, text.String()); err != nil {
		return err
	}
	if err := a.agreed(text.String(), b, risky, o); err != nil {
		return err
	}
	return a.take(ctx, info, repo, b)
}

// hiddenFrom gives the patterns of what was hidden from a run; where its layer is gone, what is hidden from every one.
func hiddenFrom(info session.Info) ([]string, error) {
	source, err := changes.Open(filepath.Join(info.Dir, session.WorkDir))
	if errors.Is(err, fs.ErrNotExist) {
		return builtin.Hidden(), nil
	}
	if err != nil {
		return nil, err
	}
	return source.Base.Hide, nil
}

// commitsOf lists what a run committed, and fetches it first where that has not been done.
func (a *app) commitsOf(ctx context.Context, info session.Info, repo commits.Repo) (list []commits.Branch, refused []commits.Refused, err error) {
	if info.Live {
		return nil, nil, &session.Problem{Err: fmt.Errorf("run %s goes on: its commits come when it has ended, since what serves them must not read a .git that is being written", info.ID),
			Hint: fmt.Sprintf("agentbox apply %[1]s takes the changed files now; agentbox stop %[1]s ends it", shortRun(info.ID))}
	}
	work := filepath.Join(info.Dir, session.WorkDir)
	made, err := run.Committed(work)
	if err != nil {
		return nil, nil, fmt.Errorf("looking for the run's commits: %w", err)
	}
	fetched, err := commits.Has(ctx, repo, info.ID)
	if err != nil {
		return nil, nil, err
	}
	if made && !fetched {
		got, err := a.fetchCommits(ctx, info.ID, repo, work)
		if err != nil {
			return nil, nil, err
		}
		refused = got.Refused
	}
	list, err = commits.List(ctx, repo, info.ID, info.Dir)
	return list, refused, err
}

// forgetCommits takes the refs of a run away that is discarded.
func forgetCommits(ctx context.Context, info session.Info) error {
	repo, err := gitAt(info.Repo)
	if err != nil {
		return err
	}
	return commits.Forget(ctx, repo, info.ID)
}

// allRefused is an error when what is asked for, a branch or whatever there is, was kept back.
func allRefused(info session.Info, list []commits.Branch, refused []commits.Refused, branch string) error {
	here := func(b commits.Branch) bool { return branch == "" || b.Name == branch }
	at := slices.IndexFunc(refused, func(r commits.Refused) bool { return branch == "" || r.Name == "heads/"+branch })
	if at < 0 || slices.ContainsFunc(list, here) {
		return nil
	}
	return &session.Problem{Err: fmt.Errorf("nothing of run %s is taken: %s", info.ID, printable(refused[at].Why)),
		Hint: fmt.Sprintf("agentbox apply %s takes the files without the commits", shortRun(info.ID))}
}

func chosen(list []commits.Branch, name string) (commits.Branch, error) {
	if name == "" && len(list) == 1 {
		return list[0], nil
	}
	var names []string
	for _, b := range list {
		if b.Name == name && name != "" {
			return b, nil
		}
		names = append(names, branchName(b))
	}
	hint := "they are on " + printable(strings.Join(names, ", "))
	if name == "" {
		return commits.Branch{}, &usageError{errors.New("the run has commits on more than one branch: name one"), hint}
	}
	return commits.Branch{}, &usageError{fmt.Errorf("the run has no new commits on a branch called %s", printable(name)), hint}
}

func branchName(b commits.Branch) string {
	if b.Name == "" {
		return "no branch"
	}
	return printable(b.Name)
}

func commitCount(b commits.Branch) string {
	if b.More {
		return fmt.Sprintf("more than %d commits", len(b.Commits))
	}
	return times(uint64(len(b.Commits)), "commit")
}

// risk is a file that the person's own tools would execute later.
type risk struct{ path, why string }

func executing(ctx context.Context, repo commits.Repo, b commits.Branch) (out []risk) {
	side := func(s commits.Side) *later.File {
		if s.Absent() {
			return nil
		}
		return &later.File{Mode: modeOf(s.Mode), Read: func() ([]byte, error) { return repo.Content(ctx, s, later.MaxRead) }}
	}
	for _, f := range b.Files {
		if why := later.Match(f.Path, side(f.Before), side(f.After)); why != "" {
			out = append(out, risk{f.Path, why})
		}
	}
	return out
}

// modeOf is git's mode of a file.
func modeOf(git string) fs.FileMode {
	switch git {
	case "100755":
		return 0o755
	case "120000":
		return fs.ModeSymlink | 0o777
	case "160000": // a submodule
		return fs.ModeDir | 0o755
	}
	return 0o644
}

// writeCommits shows a branch. All that is in it an agent chose.
func writeCommits(w io.Writer, b commits.Branch, risky []risk) {
	fmt.Fprintf(w, "%s on %s, %s changed\n", commitCount(b), branchName(b), times(uint64(len(b.Files)), "file"))
	for _, c := range b.Commits {
		fmt.Fprintf(w, "  %s  %s\n", c.ID[:min(10, len(c.ID))], printable(c.Subject))
		fmt.Fprintf(w, "              %s · %s\n", madeBy(c), signedBy(c.Signature))
	}
	if len(risky) > 0 {
		fmt.Fprintln(w, "your own tools would execute or obey, later:")
	}
	for _, r := range risky {
		fmt.Fprintf(w, "  %s  %s\n", printable(r.path), r.why)
	}
}

func madeBy(c commits.Commit) string {
	who := fmt.Sprintf("%s <%s>", printable(c.Author.Name), printable(c.Author.Mail))
	if c.Committer != c.Author {
		who += fmt.Sprintf(", committed by %s <%s>", printable(c.Committer.Name), printable(c.Committer.Mail))
	}
	return who
}

func signedBy(s commits.Signature) string {
	by := ""
	if s.By != "" {
		by = " by " + printable(s.By)
	}
	switch s.State {
	case "":
		return "not signed"
	case "good":
		return "signed" + by
	case "bad":
		return "BAD signature" + by + ": " + s.Why
	}
	return "signed" + by + ", but " + s.Why
}

// agreed asks. What would execute later needs a yes of its own, also from who says --yes.
func (a *app) agreed(shown string, b commits.Branch, risky []risk, o commitOptions) error {
	if o.yes && len(risky) > 0 && !o.willExecute {
		return &session.Problem{Err: errors.New("among the files are some that your own tools would execute later"),
			Hint: "look at them, then add --will-execute"}
	}
	if o.yes {
		return nil
	}
	question := "fast-forward your branch to them?"
	if !b.Forward {
		question = "your branch has gone another way. Put copies of them onto it?"
	}
	if len(risky) > 0 {
		question = fmt.Sprintf("with what would execute later? %s%s", strings.ToUpper(question[:1]), question[1:])
	}
	yes, err := a.ask(shown, question)
	if errors.Is(err, errNobody) {
		return &session.Problem{Err: errors.New("there is no terminal to ask at, so nothing was changed"), Hint: "--yes takes them without asking"}
	}
	if err == nil && !yes {
		a.say("nothing was changed; the commits stay below %s", printable(b.Ref))
		return exitCode(exitFinding)
	}
	return err
}

func (a *app) take(ctx context.Context, info session.Info, repo commits.Repo, b commits.Branch) error {
	do := commits.Pick
	if b.Forward {
		do = commits.FastForward
	}
	taken, err := do(ctx, repo, info.ID, b, info.Dir)
	if err != nil {
		return err
	}
	a.say("%s is now at %s (it was at %s)", printable(taken.Branch), taken.To[:10], short10(taken.From))
	for i, name := range taken.Unread {
		if i == summaryLines {
			a.say("warning: … and %d more", len(taken.Unread)-i)
			break
		}
		a.say("warning: %s was written as git stores it, without its filter: git checkout -- it, if you want that run", printable(name))
	}
	return nil
}

func short10(id string) string {
	if id == "" {
		return "nothing"
	}
	return id[:10]
}

// commitJSON is a commit for programs.
type commitJSON struct {
	ID        string             `json:"id"`
	Branch    string             `json:"branch"`
	Ref       string             `json:"ref"`
	Forward   bool               `json:"fast_forward"`
	Subject   string             `json:"subject"`
	Author    commits.Person     `json:"author"`
	Committer commits.Person     `json:"committer"`
	Signature *commits.Signature `json:"signature,omitempty"`
}

func writeCommitsJSON(w io.Writer, list []commits.Branch) error {
	out := []commitJSON{}
	for _, b := range list {
		for _, c := range b.Commits {
			j := commitJSON{ID: c.ID, Branch: b.Name, Ref: b.Ref, Forward: b.Forward, Subject: c.Subject, Author: c.Author, Committer: c.Committer}
			if c.Signature.State != "" {
				j.Signature = &c.Signature
			}
			out = append(out, j)
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}
