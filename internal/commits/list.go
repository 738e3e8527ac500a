package commits

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxListed bounds how many commits of a branch are listed.
const maxListed = 1000

// Branch is one ref of a run with what is new in it.
type Branch struct {
	Name    string   // "main"; "" is HEAD where no branch stands there
	Ref     string   // in the host's repository
	Tip     string   // its commit
	Forward bool     // the person's branch is in its history
	Commits []Commit // that the person's branch does not have, the oldest first, at most 1000
	More    bool     // there are more
	Files   []File   // that differ from where the two histories part
}

// Commit is one commit. Every text in it is the agent's.
type Commit struct {
	ID        string
	Merge     bool
	Subject   string
	Author    Person
	Committer Person
	When      time.Time // as the commit says
	Signature Signature
}

// Person is who a commit says made it.
type Person struct {
	Name string `json:"name"`
	Mail string `json:"mail"`
}

// Signature is what the host's git found of a commit's.
type Signature struct {
	State string `json:"state"` // "" none, "good", "bad", "unknown": it can't be verified here
	By    string `json:"by,omitempty"`
	Why   string `json:"why,omitempty"` // of one that is not good
}

// File is a path that commits change. A side that is not there has the mode "000000".
type File struct {
	Path          string
	Before, After Side
}

// Side is what git knows of a file: its mode ("100644") and the name of its content.
type Side struct{ Mode, ID string }

// Absent reports that there is nothing on this side.
func (s Side) Absent() bool { return s.Mode == "000000" }

// List gives the branches of a run that hold something the person's branch does not, and what that is.
func List(ctx context.Context, repo Repo, run, work string) ([]Branch, error) {
	refs, err := repo.refs(ctx, run)
	if err != nil || len(refs) == 0 {
		return nil, err
	}
	head, err := repo.head(ctx)
	if err != nil {
		return nil, err
	}
	l := lister{repo: repo, run: run, head: head.commit}
	err = withShadow(ctx, repo, work, func(s *shadow) error {
		l.shadow = s
		return l.list(ctx, refs)
	})
	if err != nil {
		return nil, fmt.Errorf("listing the run's commits: %w", err)
	}
	return l.out, nil
}

func withShadow(ctx context.Context, repo Repo, work string, do func(*shadow) error) (err error) {
	dir, err := os.MkdirTemp(work, "commits-")
	if err != nil {
		return err
	}
	defer func() { // what was to be done is done: a directory of ours that stays is no reason to fail
		if rerr := os.RemoveAll(dir); err == nil {
			err = rerr
		}
	}()
	s, err := newShadow(ctx, repo, filepath.Join(dir, "git"))
	if err != nil {
		return err
	}
	return do(s)
}

type lister struct {
	repo   Repo
	run    string
	head   string // "" before the first commit
	shadow *shadow
	out    []Branch
}

// list takes the branches in the order of their names; HEAD only where no branch has its commit.
func (l *lister) list(ctx context.Context, refs map[string]string) error {
	var names []string
	branches := map[string]bool{}
	for name, id := range refs {
		if name != "HEAD" {
			names = append(names, name)
			branches[id] = true
		}
	}
	slices.Sort(names)
	if id, ok := refs["HEAD"]; ok && !branches[id] {
		names = append([]string{"HEAD"}, names...)
	}
	for _, name := range names {
		b, err := l.branch(ctx, name, refs[name])
		if err != nil {
			return err
		}
		if len(b.Commits) > 0 {
			l.out = append(l.out, b)
		}
	}
	return nil
}

func (l *lister) branch(ctx context.Context, name, tip string) (Branch, error) {
	b := Branch{Ref: Prefix(l.run) + name, Tip: tip}
	b.Name, _ = strings.CutPrefix(name, "heads/")
	if name == "HEAD" {
		b.Name = ""
	}
	what := []string{tip}
	if l.head != "" {
		what = append(what, "^"+l.head)
	}
	var err error
	if b.Commits, err = l.commits(ctx, what); err != nil || len(b.Commits) == 0 {
		return b, err
	}
	if b.More = len(b.Commits) > maxListed; b.More {
		b.Commits = b.Commits[len(b.Commits)-maxListed:]
	}
	base := ""
	if l.head != "" {
		// Without a common ancestor all that is in it is new.
		base, err = line(l.shadow.git(ctx, "merge-base", l.head, tip))
		if err != nil && exitCode(err) != 1 {
			return b, err
		}
	}
	b.Forward = base == l.head
	b.Files, err = l.shadow.files(ctx, base, tip)
	return b, err
}

// fields are those of a commit, each ended by a NUL, which none can hold.
const fields = "%H%x00%P%x00%an%x00%ae%x00%cn%x00%ce%x00%ct%x00%G?%x00%GS%x00%s%x00"

func (l *lister) commits(ctx context.Context, what []string) ([]Commit, error) {
	args := append([]string{"log", "--no-show-signature", "--no-color", "--no-mailmap", "--encoding=UTF-8", "--topo-order",
		"--max-count=" + strconv.Itoa(maxListed+1), "--format=tformat:" + fields}, what...)
	out, err := l.repo.verify(ctx, l.shadow, args)
	if err != nil {
		return nil, err
	}
	n := strings.Count(fields, "%x00")
	var list []Commit
	values := strings.Split(out, "\x00")
	for ; len(values) > n; values = values[n:] {
		values[0] = strings.TrimPrefix(values[0], "\n")
		list = append(list, commitOf(values))
	}
	slices.Reverse(list)
	return list, l.shadow.unverified(ctx, list)
}

// unverified finds the signatures that git does not speak of, because nothing says how they could be verified.
func (s *shadow) unverified(ctx context.Context, list []Commit) error {
	var ids strings.Builder
	for _, c := range list {
		ids.WriteString(c.ID + "\n")
	}
	out, err := call{dir: s.dir, env: s.env, in: strings.NewReader(ids.String()), args: []string{"cat-file", "--batch"}}.run(ctx)
	if err != nil {
		return err
	}
	for i := range list {
		header, rest, _ := strings.Cut(out, "\n")
		f := strings.Fields(header)
		if len(f) != 3 || f[0] != list[i].ID {
			return fmt.Errorf("git cat-file printed what is not understood")
		}
		size, err := strconv.Atoi(f[2])
		if err != nil || size < 0 || size >= len(rest) {
			return fmt.Errorf("git cat-file printed what is not understood")
		}
		headers, _, _ := strings.Cut(rest[:size], "\n\n")
		if out = rest[size+1:]; list[i].Signature.State == "" && strings.Contains(headers, "\ngpgsig") {
			list[i].Signature = signatureOf("E", "")
		}
	}
	return nil
}

// verify runs git in the shadow with the person's own configuration, which says how signatures are verified. The
// repository's is not read: a clone may have come with one.
func (r Repo) verify(ctx context.Context, s *shadow, args []string) (string, error) {
	env := []string{"GIT_DIR=" + s.dir, "GIT_ATTR_NOSYSTEM=1"}
	if home, ok := os.LookupEnv("GNUPGHOME"); ok {
		env = append(env, "GNUPGHOME="+home)
	}
	return call{dir: s.dir, env: env, args: args}.run(ctx)
}

func commitOf(v []string) Commit {
	seconds, _ := strconv.ParseInt(v[6], 10, 64) // git prints a number
	return Commit{ID: v[0], Merge: strings.Contains(v[1], " "), Author: Person{v[2], v[3]}, Committer: Person{v[4], v[5]},
		When: time.Unix(seconds, 0), Signature: signatureOf(v[7], v[8]), Subject: v[9]}
}

func signatureOf(letter, by string) Signature {
	switch letter {
	case "N", "":
		return Signature{}
	case "G":
		return Signature{State: "good", By: by}
	case "B":
		return Signature{State: "bad", By: by, Why: "it does not fit the commit"}
	case "U":
		return Signature{State: "unknown", By: by, Why: "nothing here says whose key that is"}
	case "X", "Y":
		return Signature{State: "bad", By: by, Why: "it or its key has expired"}
	case "R":
		return Signature{State: "bad", By: by, Why: "its key was revoked"}
	}
	return Signature{State: "unknown", By: by, Why: "it can't be verified here"}
}

// files compares two trees; from "" is an empty one.
func (s *shadow) files(ctx context.Context, from, to string) ([]File, error) {
	if from == "" {
		var err error
		if from, err = s.emptyTree(ctx); err != nil {
			return nil, err
		}
	}
	out, err := s.git(ctx, "diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", "--no-ext-diff", "--no-textconv", from, to)
	if err != nil {
		return nil, err
	}
	var list []File
	values := strings.Split(out, "\x00")
	for ; len(values) > 1; values = values[2:] {
		f := strings.Fields(values[0])
		if len(f) != 5 {
			return nil, fmt.Errorf("git diff-tree printed what is not understood")
		}
		list = append(list, File{Path: values[1], Before: Side{strings.TrimPrefix(f[0], ":"), f[2]}, After: Side{f[1], f[3]}})
	}
	return list, nil
}

// Content gives a file's content as git keeps it: at most limit bytes of it.
func (r Repo) Content(ctx context.Context, s Side, limit int) ([]byte, error) {
	out, err := call{dir: r.Root, env: []string{"GIT_DIR=" + r.Git}, args: []string{"cat-file", "blob", s.ID}, first: limit}.run(ctx)
	return []byte(out), err
}

func (s *shadow) emptyTree(ctx context.Context) (string, error) {
	return line(call{dir: s.dir, env: s.env, args: []string{"hash-object", "-t", "tree", "-w", "--stdin"}}.run(ctx))
}
