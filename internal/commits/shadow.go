package commits

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// shadow is a git directory of our own that stands over the host's objects. Nothing is configured in it but what is
// written here, so git in it executes nothing that anybody else chose.
type shadow struct {
	dir  string
	repo Repo
	env  []string // for git in it
}

// plain are the settings of the host's repository that say how files are written, and execute nothing.
var plain = []string{
	"core.filemode", "core.symlinks", "core.ignorecase", "core.precomposeunicode", "core.autocrlf", "core.eol",
	"core.sparsecheckout", "core.sparsecheckoutcone", "index.sparse",
}

// newShadow makes one in dir, which must not exist.
func newShadow(ctx context.Context, repo Repo, dir string) (_ *shadow, err error) {
	s := &shadow{dir: dir, repo: repo}
	s.env = []string{"GIT_DIR=" + dir, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_ATTR_NOSYSTEM=1"}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("making a place for the run's commits: %w", err), os.RemoveAll(dir))
		}
	}()
	for _, d := range []string{"", "objects/info", "objects/pack", "refs/heads", "info"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	config, err := s.config(ctx)
	if err != nil {
		return nil, err
	}
	have, err := s.have(ctx)
	if err != nil {
		return nil, err
	}
	for name, content := range map[string]string{
		"HEAD": "ref: refs/heads/none\n", "config": config, "packed-refs": have,
		"objects/info/alternates": filepath.Join(repo.common(), "objects") + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	return s, errors.Join(s.copies(repo.common(), "shallow", "info/attributes"), s.copies(repo.Git, "info/sparse-checkout"))
}

func (s *shadow) remove() error { return os.RemoveAll(s.dir) }

// copies takes over small files of a git directory of the host's, which the agent can't write.
func (s *shadow) copies(git string, names ...string) error {
	for _, name := range names {
		path := filepath.Join(git, name)
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(s.dir, name), data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *shadow) config(ctx context.Context) (string, error) {
	format, err := line(s.repo.host(ctx, "rev-parse", "--show-object-format"))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("[core]\n\trepositoryformatversion = 1\n\tprotectHFS = true\n\tprotectNTFS = true\n" +
		"\tpackedGitWindowSize = 32m\n\tpackedGitLimit = 256m\n\tbigFileThreshold = 16m\n")
	if format == "sha256" {
		b.WriteString("[extensions]\n\tobjectFormat = sha256\n")
	}
	set, err := s.repo.host(ctx, "config", "-z", "--list")
	if err != nil {
		return "", err
	}
	for entry := range strings.SplitSeq(set, "\x00") {
		name, value, given := strings.Cut(entry, "\n")
		if !slices.Contains(plain, name) {
			continue
		}
		if !given { // "key" alone is "key = true"
			value = "true"
		}
		section, key, _ := strings.Cut(name, ".")
		fmt.Fprintf(&b, "[%s]\n\t%s = %s\n", section, key, quoteConfig(value))
	}
	return b.String(), nil
}

func quoteConfig(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(value) + `"`
}

// have is what the host has already, as refs that a fetch tells the other end of.
func (s *shadow) have(ctx context.Context) (string, error) {
	out, err := s.repo.host(ctx, "for-each-ref", "--format=%(objectname) %(objecttype)", "--sort=-committerdate", "--count=4000")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# pack-refs with: sorted\n")
	seen := map[string]bool{}
	for l := range strings.Lines(out) {
		id, kind, _ := strings.Cut(strings.TrimSpace(l), " ")
		if kind == "commit" && isID(id) && !seen[id] {
			seen[id] = true
			fmt.Fprintf(&b, "%s refs/have/%05d\n", id, len(seen))
		}
	}
	if head, err := line(s.repo.host(ctx, "rev-parse", "-q", "--verify", "HEAD^{commit}")); err == nil && isID(head) && !seen[head] {
		fmt.Fprintf(&b, "%s refs/have/%05d\n", head, len(seen)+1)
	}
	return b.String(), nil
}

// git runs git in the shadow.
func (s *shadow) git(ctx context.Context, args ...string) (string, error) {
	return call{dir: s.dir, env: s.env, args: args}.run(ctx)
}

// onTree runs git in the shadow over the host's own work tree, index and objects.
func (s *shadow) onTree(ctx context.Context, args ...string) (string, error) {
	env := append([]string{"GIT_WORK_TREE=" + s.repo.Root, "GIT_INDEX_FILE=" + filepath.Join(s.repo.Git, "index"),
		"GIT_OBJECT_DIRECTORY=" + filepath.Join(s.repo.common(), "objects")}, s.env...)
	return call{dir: s.repo.Root, env: env, args: args}.run(ctx)
}
