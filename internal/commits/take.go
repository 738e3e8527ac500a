package commits

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"agentbox/internal/policy"
)

// head is where the person stands.
type head struct {
	branch string // refs/heads/…
	commit string // "" before the first one
}

func (r Repo) head(ctx context.Context) (head, error) {
	var h head
	var err error
	h.branch, err = line(r.host(ctx, "symbolic-ref", "-q", "HEAD"))
	if err != nil && exitCode(err) != 1 {
		return h, fmt.Errorf("reading which branch is checked out: %w", err)
	}
	h.commit, err = line(r.host(ctx, "rev-parse", "-q", "--verify", "HEAD^{commit}"))
	if err != nil && exitCode(err) != 1 {
		return h, fmt.Errorf("reading which commit is checked out: %w", err)
	}
	return h, nil
}

// Taken says what a FastForward or a Pick did.
type Taken struct {
	Branch   string // the person's
	From, To string // its commit before and now
	Commits  int    // that were picked
	Unread   []string
}

// FastForward moves the person's branch, its index and its work tree to the tip of b. It refuses where it would lose
// a change that is not committed, and then changes nothing.
func FastForward(ctx context.Context, repo Repo, run string, b Branch, work string) (Taken, error) {
	h, err := repo.ready(ctx)
	if err != nil {
		return Taken{}, err
	}
	t := Taken{Branch: strings.TrimPrefix(h.branch, "refs/heads/"), From: h.commit, To: b.Tip}
	err = withShadow(ctx, repo, work, func(s *shadow) error {
		if h.commit != "" {
			_, err := s.git(ctx, "merge-base", "--is-ancestor", h.commit, b.Tip)
			if exitCode(err) == 1 {
				return refuse("cherry-pick them instead", "%s and the run's commits have parted: it can't be fast-forwarded", t.Branch)
			}
			if err != nil {
				return err
			}
		}
		return s.move(ctx, run, h, b.Tip, &t)
	})
	return t, err
}

// Pick puts copies of b's commits on the person's branch. They are made aside: where one does not fit, nothing has
// changed.
func Pick(ctx context.Context, repo Repo, run string, b Branch, work string) (Taken, error) {
	h, err := repo.ready(ctx)
	if err != nil {
		return Taken{}, err
	}
	if h.commit == "" || b.More {
		return Taken{}, refuse("git cherry-pick takes them one by one, by their names", "these commits can't be cherry-picked as a whole")
	}
	for _, c := range b.Commits {
		if c.Merge {
			return Taken{}, refuse("git merge "+b.Ref, "there is a merge among the commits (%s), which can't be cherry-picked", c.ID[:12])
		}
	}
	t := Taken{Branch: strings.TrimPrefix(h.branch, "refs/heads/"), From: h.commit, Commits: len(b.Commits)}
	err = withShadow(ctx, repo, work, func(s *shadow) error {
		to, err := s.pick(ctx, h, b)
		if err != nil {
			return err
		}
		t.To = to
		return s.move(ctx, run, h, to, &t)
	})
	return t, err
}

// ready refuses what can't be moved.
func (r Repo) ready(ctx context.Context) (head, error) {
	if r.Root == r.Git {
		return head{}, refuse("git branch NAME REF, with a ref of git for-each-ref refs/agentbox, makes a branch of them",
			"a bare repository has no work tree to take commits into")
	}
	h, err := r.head(ctx)
	if err != nil {
		return h, err
	}
	if !strings.HasPrefix(h.branch, "refs/heads/") {
		return h, refuse("git switch to the branch that is to have them", "no branch is checked out")
	}
	for _, name := range []string{"MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply", "sequencer", "BISECT_LOG"} {
		if _, err := os.Lstat(filepath.Join(r.Git, name)); err == nil {
			return h, refuse("finish or abort it first (git status says what it is)", "an operation of git is unfinished here (%s)", name)
		}
	}
	return h, nil
}

// move brings the work tree, the index and the branch from h to the commit to.
func (s *shadow) move(ctx context.Context, run string, h head, to string, t *Taken) error {
	// Files whose times alone differ are no changes; that some do is what the exit code says.
	if _, err := s.onTree(ctx, "update-index", "-q", "--refresh"); err != nil && exitCode(err) != 1 {
		return explainTree(err)
	}
	from := h.commit
	if from == "" {
		var err error
		if from, err = s.emptyTree(ctx); err != nil {
			return err
		}
	}
	if err := s.unhidden(ctx, run, from, to); err != nil {
		return err
	}
	if _, err := s.onTree(ctx, "read-tree", "-m", "-u", from, to); err != nil {
		return explainTree(err)
	}
	old := h.commit
	if old == "" {
		old = strings.Repeat("0", len(to))
	}
	_, err := s.repo.host(ctx, "update-ref", "-m", "agentbox apply "+run, h.branch, to, old)
	if err != nil { // somebody moved the branch meanwhile: the tree goes back
		_, back := s.onTree(context.WithoutCancel(ctx), "read-tree", "-m", "-u", to, from)
		return errors.Join(fmt.Errorf("moving %s: %w", h.branch, err), back)
	}
	t.Unread, err = s.filtered(ctx, from, to)
	return err
}

// unhidden refuses a change of what was hidden from the run.
func (s *shadow) unhidden(ctx context.Context, run, from, to string) error {
	list, err := policy.ParseHideList(s.repo.Hidden)
	if err != nil {
		return err
	}
	files, err := s.files(ctx, from, to)
	if err != nil {
		return err
	}
	for _, f := range files {
		if list.Hides(f.Path, false) {
			return refuse(fmt.Sprintf("take the files instead: agentbox apply %s; the commits stay below %s\na profile shows such a file to the agent by workspace.show", run, Prefix(run)),
				"the commits change %q, which was hidden from the run", f.Path)
		}
	}
	return nil
}

// explainTree says what git refused in words of its own.
func explainTree(err error) error {
	var e *gitError
	if !errors.As(err, &e) {
		return err
	}
	said, _, _ := strings.Cut(e.said, "\n")
	said = strings.TrimPrefix(strings.TrimPrefix(said, "error: "), "fatal: ")
	return refuse("commit it or put it aside (git stash), then try again", "something here that is not committed is in the way: %s", said)
}

// pick makes the copies, in a work tree of nothing: only what conflicts would be written there. It gives the last.
func (s *shadow) pick(ctx context.Context, h head, b Branch) (string, error) {
	tree := filepath.Join(filepath.Dir(s.dir), "tree")
	if err := os.Mkdir(tree, 0o700); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(s.dir, "info", "sparse-checkout"), []byte("/.agentbox-nothing\n"), 0o600); err != nil {
		return "", err
	}
	env, err := s.repo.committer(ctx)
	if err != nil {
		return "", err
	}
	env = append(env, s.env...)
	env = append(env, "GIT_WORK_TREE="+tree, "GIT_OBJECT_DIRECTORY="+filepath.Join(s.repo.common(), "objects"))
	git := func(args ...string) (string, error) {
		sparse := []string{"-c", "core.sparseCheckout=true", "-c", "core.sparseCheckoutCone=false", "-c", "index.sparse=false",
			"-c", "rerere.enabled=false", "-c", "commit.gpgSign=false", "-c", "advice.detachedHead=false"}
		return call{dir: tree, env: env, args: append(sparse, args...)}.run(ctx)
	}
	if _, err := git("update-ref", "--no-deref", "HEAD", h.commit); err != nil {
		return "", err
	}
	if _, err := git("read-tree", "-m", "-u", h.commit); err != nil {
		return "", err
	}
	args := []string{"cherry-pick", "--allow-empty", "--allow-empty-message", "--keep-redundant-commits"}
	for _, c := range b.Commits {
		args = append(args, c.ID)
	}
	if _, err := git(args...); err != nil {
		files, _ := git("diff", "--name-only", "-z", "--diff-filter=U")
		if files == "" {
			return "", err
		}
		return "", refuse("git cherry-pick by hand, and settle what conflicts: "+h.commit[:12]+".."+b.Ref,
			"the commits don't fit onto %s: %s", strings.TrimPrefix(h.branch, "refs/heads/"), strings.Join(strings.Split(strings.Trim(files, "\x00"), "\x00"), ", "))
	}
	return line(git("rev-parse", "HEAD"))
}

// committer is the person as git knows them here.
func (r Repo) committer(ctx context.Context) ([]string, error) {
	var env []string
	for _, v := range []struct{ name, key string }{{"NAME", "user.name"}, {"EMAIL", "user.email"}} {
		value, err := line(r.host(ctx, "config", "--get", v.key))
		if err != nil || value == "" {
			return nil, refuse(`git config user.name "Your Name"; git config user.email you@example.com`, "git does not know who you are (%s)", v.key)
		}
		env = append(env, "GIT_COMMITTER_"+v.name+"="+value)
	}
	return env, nil
}

// filtered names the files of a change that the person's git would have put through a filter when it wrote them.
func (s *shadow) filtered(ctx context.Context, from, to string) ([]string, error) {
	files, err := s.files(ctx, from, to)
	if err != nil {
		return nil, err
	}
	var names strings.Builder
	for _, f := range files {
		if f.After.Mode == "100644" || f.After.Mode == "100755" {
			names.WriteString(f.Path + "\x00")
		}
	}
	env := append([]string{"GIT_WORK_TREE=" + s.repo.Root, "GIT_INDEX_FILE=" + filepath.Join(s.repo.Git, "index")}, s.env...)
	out, err := call{dir: s.repo.Root, env: env, in: strings.NewReader(names.String()), args: []string{"check-attr", "-z", "--stdin", "filter"}}.run(ctx)
	if err != nil {
		return nil, err
	}
	var list []string
	values := strings.Split(out, "\x00")
	for ; len(values) > 3; values = values[3:] {
		if values[2] != "unspecified" && values[2] != "unset" {
			list = append(list, values[0])
		}
	}
	return list, nil
}
