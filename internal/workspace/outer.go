package workspace

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"agentbox/internal/policy"
)

// maxIncludes is how deep git follows include.path.
const maxIncludes = 10

// located is a variable with the file that it was read from.
type located struct {
	entry
	file string
}

// ConfigFiles lists the configuration files, present or not, that git reads for a person beside a repository's.
// configHome is XDG_CONFIG_HOME or its default.
func ConfigFiles(home, configHome string) []string {
	return []string{"/etc/gitconfig", filepath.Join(configHome, "git", "config"), filepath.Join(home, ".gitconfig")}
}

// readIncluding reads a configuration with all that it includes. want says of a condition ("" for none) whether
// it holds.
func readIncluding(file, home string, want func(cond, file string) bool, depth int) ([]located, error) {
	entries, err := readConfig(file)
	if err != nil {
		return nil, err
	}
	var out []located
	for _, e := range entries {
		out = append(out, located{e, file})
		if !e.isInclude() || depth >= maxIncludes || !want(e.sub, file) {
			continue
		}
		more, err := readIncluding(e.pathFrom(filepath.Dir(file), home), home, want, depth+1)
		if err != nil {
			continue // git would not run at all; what cannot be read cannot be obeyed
		}
		out = append(out, more...)
	}
	return out, nil
}

func (e entry) isInclude() bool {
	return e.key == "path" && (e.section == "include" || e.section == "includeif") && e.value != ""
}

// pathFrom is the value as a path, relative to base.
func (e entry) pathFrom(base, home string) string { return expand(e.value, base, home) }

func expand(value, base, home string) string {
	if rest, ok := strings.CutPrefix(value, "~/"); ok && home != "" {
		return filepath.Join(home, rest)
	}
	if filepath.IsAbs(value) {
		return filepath.Clean(value)
	}
	return filepath.Join(base, value)
}

func always(string, string) bool { return true }

// outer guards what the host's git obeys outside of .git: included configurations, hook directories, programs that
// configuration names, all of them only where they lie in the repository. Conditions are taken as true.
func (b *builder) outer(configs []string) error {
	home := ""
	if n := len(configs); n > 0 {
		home = filepath.Dir(configs[n-1])
	}
	files := append([]string{filepath.Join(b.repo.Common, "config"), filepath.Join(b.repo.Common, "config.worktree")}, configs...)
	if b.repo.Git != b.repo.Common {
		files = append(files, filepath.Join(b.repo.Git, "config.worktree"))
	}
	for _, file := range files {
		entries, err := readIncluding(file, home, always, 0)
		if err != nil {
			return err
		}
		if err := b.guardInside(file); err != nil {
			return err
		}
		for _, e := range entries {
			if err := b.obeyed(e, home); err != nil {
				return err
			}
		}
	}
	return b.hookLinks(filepath.Join(b.repo.Common, "hooks"))
}

// obeyed guards or hides what one variable points at.
func (b *builder) obeyed(e located, home string) error {
	switch {
	case e.isInclude():
		return b.included(e.pathFrom(filepath.Dir(e.file), home))
	case e.name() == "core.hookspath" && e.value != "":
		return b.hooksPath(e.pathFrom(b.repo.Root, home))
	case e.section == "credential" || e.section == "http" && (e.key == "cookiefile" || e.key == "sslkey"):
		return b.words(e, home, b.hideInside)
	case harmless[e.section+"."+e.key] || e.hasSub && harmless[e.section+".*."+e.key]:
		return nil
	default:
		return b.words(e, home, b.guardInside)
	}
}

// words applies do to every existing file that a value may name.
func (b *builder) words(e located, home string, do func(string) error) error {
	split := func(r rune) bool { return strings.ContainsRune(" \t\n\"'`!;&|()<>=", r) }
	for _, word := range append(strings.FieldsFunc(e.value, split), e.value) {
		if !strings.Contains(word, "/") && e.section != "http" {
			continue
		}
		path := expand(word, b.repo.Root, home)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			if err := b.soften(e, do(path)); err != nil {
				return err
			}
		}
	}
	return nil
}

// soften makes a warning of a refusal: a program reached through a link is no reason not to run.
func (b *builder) soften(e located, err error) error {
	var r *Refusal
	if !errors.As(err, &r) {
		return err
	}
	b.warn("git's configuration (%s) runs or reads a file of this repository that the agent can replace: %s", quote(e.name()), r.Text)
	return nil
}

// guardInside guards a file and, where it is reached through a link, what the link leads to.
func (b *builder) guardInside(path string) error {
	if real := resolved(path); real != path && b.repo.inside(real) {
		if err := b.guardPath(real); err != nil {
			return err
		}
	}
	if !b.repo.inside(path) {
		return nil
	}
	if b.mode == Direct && !within(path, resolved(filepath.Dir(path))) {
		return b.refuseLink(path)
	}
	return b.guardPath(path)
}

func (b *builder) hideInside(path string) error {
	if real := resolved(path); !slices.Contains(b.repo.tops(), real) && b.repo.inside(real) {
		return b.hidePath(real)
	}
	return nil
}

// included guards a configuration that another includes. One that is not there could be made inside.
func (b *builder) included(path string) error {
	real := resolved(path)
	if !b.repo.inside(path) && !b.repo.inside(real) {
		return nil
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if b.mode != Direct { // made inside, it is not made on the host
			return nil
		}
		return refuse("create it empty, or take the include out",
			"git's configuration includes %s, which does not exist and could be made by the agent", quote(path))
	}
	if err := b.guardInside(path); err != nil {
		return err
	}
	if b.tracked(real) {
		return nil // its content is in the object store, and a filtered copy would look like a change
	}
	return b.filtered(real)
}

func (b *builder) tracked(path string) bool {
	index, err := readIndex(b.repo.Git, b.repo.Common)
	rel := strings.TrimPrefix(path, b.repo.Root+"/")
	return err == nil && slices.ContainsFunc(index, func(e indexEntry) bool { return e.path == rel })
}

// hooksPath guards the directory that core.hooksPath names. Husky's `_` holds stubs that run what lies beside it.
func (b *builder) hooksPath(path string) error {
	if !b.repo.inside(path) && !b.repo.inside(resolved(path)) {
		return nil
	}
	if filepath.Base(path) == "_" {
		path = filepath.Dir(path)
	}
	if resolved(path) == b.repo.Root {
		if b.mode != Direct {
			return nil
		}
		return refuse("set core.hooksPath to a directory of its own", "core.hooksPath is the repository itself")
	}
	if b.mode == Direct {
		if err := os.MkdirAll(path, 0o777); err != nil {
			return refuse("repair or unset core.hooksPath", "guarding core.hooksPath: %v", err)
		}
	}
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	if err := b.guardInside(path); err != nil {
		return err
	}
	return b.hookLinks(resolved(path))
}

// hookLinks guards the scripts in the repository that hooks are links to.
func (b *builder) hookLinks(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil || b.mode == ReadOnly {
		return nil
	}
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink == 0 || strings.HasSuffix(e.Name(), ".sample") {
			continue
		}
		link := filepath.Join(dir, e.Name())
		target, err := os.Readlink(link)
		if err != nil {
			continue
		}
		path := expand(target, dir, "")
		if _, err := os.Stat(path); b.mode == Direct && errors.Is(err, fs.ErrNotExist) && b.repo.inside(resolved(path)) {
			return refuse("remove the link", "the hook %s leads to a file that does not exist and could be made by the agent", quote(link))
		}
		if err := b.guardInside(path); err != nil {
			return err
		}
	}
	return nil
}

// personal names what of a person's own configuration is worth having inside: all harmless.
var personal = []string{
	"user.name", "user.email", "author.name", "author.email", "committer.name", "committer.email",
	"init.defaultbranch", "core.autocrlf", "core.eol", "core.safecrlf", "core.quotepath", "pull.rebase", "pull.ff",
	"push.default", "merge.conflictstyle", "rebase.autosquash", "rebase.autostash", "diff.algorithm", "fetch.prune",
	"color.ui",
}

// Identity is the content of a ~/.gitconfig for inside: the person's name and habits out of configs (see
// ConfigFiles), with the conditional includes that hold for repo.
func Identity(repo Repo, configs []string) ([]byte, error) {
	home := ""
	if n := len(configs); n > 0 {
		home = filepath.Dir(configs[n-1])
	}
	want := func(cond, file string) bool { return cond == "" || gitdirHolds(cond, file, home, repo.Git) }
	var kept []entry
	for _, file := range configs {
		entries, err := readIncluding(file, home, want, 0)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if clean, ok := filterEntry(e.entry); ok && slices.Contains(personal, e.name()) {
				kept = append(kept, clean)
			}
		}
	}
	return formatConfig(kept), nil
}

// gitdirHolds judges the condition "gitdir:pattern" of an includeIf; others do not hold.
func gitdirHolds(cond, file, home, git string) bool {
	pattern, ok := strings.CutPrefix(cond, "gitdir:")
	if !ok {
		if pattern, ok = strings.CutPrefix(cond, "gitdir/i:"); !ok {
			return false
		}
		pattern, git = strings.ToLower(pattern), strings.ToLower(git)
		home, file = strings.ToLower(home), strings.ToLower(file)
	}
	tail := strings.HasSuffix(pattern, "/")
	switch {
	case strings.HasPrefix(pattern, "~/"), strings.HasPrefix(pattern, "./"):
		pattern = expand(pattern, filepath.Dir(file), home)
	case !strings.HasPrefix(pattern, "/"):
		pattern = "/**/" + pattern
	}
	pattern = strings.TrimSuffix(pattern, "/")
	if tail {
		pattern += "/**"
	}
	return policy.MatchSegments(strings.Split(pattern, "/"), strings.Split(git, "/"))
}
