package commits

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// memory bounds the address space of the git that unpacks what comes out of a run.
const memory = 4 << 30

// Server is a command that speaks as git-upload-pack on its standard streams, for the run's repository.
type Server struct {
	Command []string
	Env     []string
}

// Prefix is where the refs of a run are kept.
func Prefix(run string) string { return "refs/agentbox/" + run + "/" }

// Fetched is what arrived of a run: its refs, by their names below the run's prefix ("HEAD", "heads/main"), and those that
// were kept back.
type Fetched struct {
	Refs    map[string]string
	Refused []Refused
}

// Refused is a ref that did not come. Both texts are the agent's, as far as they go.
type Refused struct{ Name, Why string }

// Fetch takes the commits of a run from server into the repository. work is a directory of ours; what is made in it
// is removed. A branch that git refuses keeps back itself, and those that hold its commits. It fails where nothing comes;
// nothing in the repository has changed then, but for a pack that nothing refers to.
func Fetch(ctx context.Context, repo Repo, run string, server Server, work string) (_ Fetched, err error) {
	if !validBranch(run) || strings.Contains(run, "/") {
		return Fetched{}, fmt.Errorf("fetching the run's commits: %q is not the name of a run", run)
	}
	dir, err := os.MkdirTemp(work, "commits-")
	if err != nil {
		return Fetched{}, fmt.Errorf("fetching the run's commits: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := newShadow(ctx, repo, filepath.Join(dir, "git"))
	if err != nil {
		return Fetched{}, err
	}
	f := fetcher{shadow: s, run: run, server: server, limit: gitTime}
	refused, err := f.fetch(ctx)
	if err != nil {
		return Fetched{}, fmt.Errorf("fetching the run's commits: %w", err)
	}
	refs, err := s.arrived(ctx, run)
	if err != nil {
		return Fetched{}, fmt.Errorf("fetching the run's commits: %w", err)
	}
	if err := s.hand(ctx, run, refs, refused); err != nil {
		return Fetched{}, fmt.Errorf("taking the run's commits over: %w", err)
	}
	return Fetched{Refs: refs, Refused: refused}, nil
}

// fetcher takes refs of one run into a shadow.
type fetcher struct {
	*shadow
	run    string
	server Server
	limit  time.Duration // for one conversation with the server
}

// all are the branches, and HEAD.
func (f *fetcher) all() []string {
	to := Prefix(f.run)
	return []string{"+refs/heads/*:" + to + "heads/*", "+" + strings.TrimSuffix(carried, "HEAD") + "*:" + to + "*"}
}

func (f *fetcher) refs(ctx context.Context, specs []string) error {
	_, err := f.ask(ctx, specs, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-gc", "--no-recurse-submodules",
		"--no-show-forced-updates")
	return err
}

var errNoAnswer = errors.New("the run's repository did not answer")

// ask has git talk with the server.
func (f *fetcher) ask(ctx context.Context, refs []string, verb ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.limit, fmt.Errorf("%w within %v", errNoAnswer, f.limit))
	defer cancel()
	args := []string{
		"-c", "protocol.file.allow=always", "-c", "protocol.version=0", "-c", "fetch.fsckObjects=true", "-c", "transfer.fsckObjects=true",
		"-c", "fetch.unpackLimit=1", "-c", "pack.threads=1", "-c", "core.alternateRefsCommand=true", "-c", "fetch.recurseSubmodules=false",
	}
	args = append(append(args, verb...), "--upload-pack=ulimit -S -v unlimited; exec "+shellWords(f.server.Command), f.dir)
	env := slices.DeleteFunc(slices.Clone(f.server.Env), func(e string) bool { return strings.HasPrefix(e, "GIT_") })
	env = append(env, f.env...)
	taken, err := f.taken()
	if err != nil {
		return "", err
	}
	env = append(env, "GIT_ALLOW_PROTOCOL=file", fmt.Sprintf("%s=%d", takenVariable, taken))
	out, err := call{dir: f.dir, env: env, args: append(args, refs...), memory: memory}.run(ctx)
	return out, ours(err)
}

// ours takes out of git's complaint what the server says in its own words, which begin with its name.
func ours(err error) error {
	var e *gitError
	if !errors.As(err, &e) {
		return err
	}
	if said, _, found := strings.Cut(e.said, "fsck error in packed object"); found {
		_, said, _ = strings.Cut(strings.Split(strings.TrimSpace(said), "\n")[0], ": ")
		return refuse("agentbox apply takes the changed files, without the commits", "git refuses what was committed: %s", said)
	}
	for l := range strings.Lines(e.said) {
		if text, ok := strings.CutPrefix(l, "agentbox: "); ok {
			return errors.New(strings.TrimSpace(text))
		}
	}
	return err
}

// arrived reads the refs that the fetch made.
func (s *shadow) arrived(ctx context.Context, run string) (map[string]string, error) {
	out, err := s.git(ctx, "for-each-ref", "--format=%(objectname) %(objecttype) %(refname)", Prefix(run))
	if err != nil {
		return nil, err
	}
	refs := map[string]string{}
	for l := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimSuffix(l, "\n"), " ", 3)
		if len(f) == 3 && f[1] == "commit" && isID(f[0]) {
			refs[strings.TrimPrefix(f[2], Prefix(run))] = f[0]
		}
	}
	return refs, nil
}

// hand puts the packs, then the refs into the host's repository, and takes away refs of this run that are no more. One that is
// refused now stays what it was.
func (s *shadow) hand(ctx context.Context, run string, refs map[string]string, refused []Refused) error {
	packs, err := filepath.Glob(filepath.Join(s.dir, "objects", "pack", "*.pack"))
	if err != nil {
		return err
	}
	for _, p := range packs {
		if err := s.handPack(ctx, p); err != nil {
			return err
		}
	}
	old, err := s.repo.refs(ctx, run)
	if err != nil {
		return err
	}
	stays := maps.Clone(refs)
	for _, r := range refused {
		stays[r.Name] = ""
	}
	var b strings.Builder
	for name := range old {
		if _, stays := stays[name]; !stays {
			fmt.Fprintf(&b, "delete %s%s\x00\x00", Prefix(run), name)
		}
	}
	if b.Len() > 0 { // first: what goes may be in the way of what comes
		if _, err := s.repo.hostIn(ctx, strings.NewReader(b.String()), "update-ref", "--no-deref", "-z", "--stdin"); err != nil {
			return err
		}
		b.Reset()
	}
	for name, id := range refs {
		fmt.Fprintf(&b, "update %s%s\x00%s\x00\x00", Prefix(run), name, id)
	}
	_, err = s.repo.hostIn(ctx, strings.NewReader(b.String()), "update-ref", "--no-deref", "-z", "--stdin")
	return err
}

func (s *shadow) handPack(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	_, err = call{dir: s.repo.Root, env: []string{"GIT_DIR=" + s.repo.Git}, in: f, memory: memory,
		args: []string{"index-pack", "--stdin", "--threads=1"}}.run(ctx)
	return err
}

// refs gives those of a run that the repository has.
func (r Repo) refs(ctx context.Context, run string) (map[string]string, error) {
	out, err := r.host(ctx, "for-each-ref", "--format=%(objectname) %(refname)", Prefix(run))
	if err != nil {
		return nil, err
	}
	refs := map[string]string{}
	for l := range strings.Lines(out) {
		if id, name, ok := strings.Cut(strings.TrimSuffix(l, "\n"), " "); ok {
			refs[strings.TrimPrefix(name, Prefix(run))] = id
		}
	}
	return refs, nil
}

// Has reports whether refs of a run are there.
func Has(ctx context.Context, repo Repo, run string) (bool, error) {
	refs, err := repo.refs(ctx, run)
	return len(refs) > 0, err
}

// Forget takes the refs of a run away. Its objects go when git collects its garbage.
func Forget(ctx context.Context, repo Repo, run string) error {
	refs, err := repo.refs(ctx, run)
	if err != nil || len(refs) == 0 {
		return err
	}
	var b strings.Builder
	for name, id := range refs {
		fmt.Fprintf(&b, "delete %s%s\x00%s\x00", Prefix(run), name, id)
	}
	_, err = repo.hostIn(ctx, strings.NewReader(b.String()), "update-ref", "--no-deref", "-z", "--stdin")
	return err
}

// shellWords quotes words for sh.
func shellWords(words []string) string {
	var out []string
	for _, w := range words {
		out = append(out, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
	}
	return strings.Join(out, " ")
}
