package workspace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Mounts gives the binds that show repo, in order. scratch is an existing directory of this run alone, outside of
// the repository, that lives as long as the mounts do: filtered copies and empty sources are written to it. configs are the person's own
// git configuration files (see ConfigFiles), which may name hooks or programs inside the repository too.
func Mounts(repo Repo, mode Mode, s Survey, configs []string, scratch string) ([]Mount, []string, error) {
	if repo.inside(resolved(scratch)) {
		return nil, nil, fmt.Errorf("preparing the workspace: the scratch directory %s lies in the repository", quote(scratch))
	}
	b := &builder{repo: repo, mode: mode, scratch: scratch, mounts: map[string]Mount{}}
	if err := b.build(s, configs); err != nil {
		return nil, nil, err
	}
	return b.sorted(), b.warnings, nil
}

func (b *builder) build(s Survey, configs []string) error {
	b.others = s.Shown
	b.marked = b.mode == Review && len(s.Tracked) > 0
	steps := []func() error{
		b.trees,
		func() error { return b.outer(configs) },
		func() error { return b.nested(s.Nested) },
		func() error { return b.hidden(s.Hidden) },
		b.submounts,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

type builder struct {
	repo     Repo
	mode     Mode
	layer    Layer    // in review mode
	others   []string // what else is shown inside
	scratch  string
	copies   int
	mounts   map[string]Mount // by target
	marked   bool             // git tracks something that is hidden: the layer's index says so
	points   []string         // mount points that were made in the layer
	warnings []string
}

func (b *builder) warn(format string, args ...any) {
	b.warnings = append(b.warnings, fmt.Sprintf(format, args...))
}

// strength orders the kinds: a target that is wanted twice gets the stronger.
func strength(k Kind) int { return slices.Index([]Kind{Pin, Tree, Guard, Filter, Hide}, k) }

func (b *builder) add(m Mount) {
	m.ReadOnly = m.ReadOnly || b.mode == ReadOnly
	old, ok := b.mounts[m.Target]
	if !ok || strength(m.Kind) > strength(old.Kind) {
		b.mounts[m.Target] = m
	}
}

// sorted gives the mounts parents first, the repository's top before all. What lies below a hidden directory does not exist any more.
func (b *builder) sorted() []Mount {
	var out []Mount
	for _, m := range b.mounts {
		if !b.belowHidden(m.Target) {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(x, y Mount) int {
		if in := within(x.Target, b.repo.Root); in != within(y.Target, b.repo.Root) {
			return map[bool]int{true: -1, false: 1}[in]
		}
		if d := strings.Count(x.Target, "/") - strings.Count(y.Target, "/"); d != 0 {
			return d
		}
		return strings.Compare(x.Target, y.Target)
	})
	return out
}

func (b *builder) belowHidden(target string) bool {
	for at := filepath.Dir(target); b.repo.inside(at); at = filepath.Dir(at) {
		if b.mounts[at].Kind == Hide {
			return true
		}
	}
	return false
}

// trees mounts the repository, its .git, and what in it git obeys.
func (b *builder) trees() error {
	b.roots()
	if b.mode != ReadOnly {
		if err := b.mountPoints(); err != nil {
			return err
		}
	}
	for _, name := range []string{"config", "config.worktree"} {
		if err := b.filtered(filepath.Join(b.repo.Common, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"commondir", "hooks", "worktrees", "modules"} {
		if err := b.guardPath(filepath.Join(b.repo.Common, name)); err != nil {
			return err
		}
	}
	if err := b.elsewhere(); err != nil {
		return err
	}
	if err := b.looseConfigs(); err != nil {
		return err
	}
	b.alternates()
	return b.modules()
}

// roots mounts the repository and its git directory. The second is a mount of its own, so that it can't be renamed away.
func (b *builder) roots() {
	for _, path := range []string{b.repo.Root, b.repo.Common} {
		m := Mount{Source: path, Target: path, Kind: Tree}
		if b.mode == Review {
			m = b.layer.mount(b.repo, path)
		}
		b.add(m)
	}
}

// mountPoints makes what is missing, so that nothing can be made in its place inside.
func (b *builder) mountPoints() error {
	if b.mode == Review {
		return b.layerPoints()
	}
	hooks := filepath.Join(b.repo.Common, "hooks")
	if err := os.Mkdir(hooks, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("guarding the repository's hooks: %w", err)
	}
	// A commondir file makes git read its configuration and hooks from the directory it names.
	for name, content := range map[string]string{"config": "", "config.worktree": "", "commondir": ".\n"} {
		if err := createFile(filepath.Join(b.repo.Common, name), content); err != nil {
			return fmt.Errorf("guarding the repository's configuration: %w", err)
		}
	}
	return b.checkCommon()
}

// checkCommon refuses a git directory that takes its configuration from another one.
func (b *builder) checkCommon() error {
	text, err := readRegular(filepath.Join(b.repo.Common, "commondir"), maxText)
	if err != nil {
		return fmt.Errorf("guarding the repository's configuration: %w", err)
	}
	if strings.TrimRight(string(text), "\r\n") != "." {
		return refuse("use a plain clone", "%s takes its configuration from another directory (commondir)", quote(b.repo.Common))
	}
	return nil
}

// createFile makes a file with its whole content at once, or leaves the one that is there.
func createFile(path, content string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".agentbox-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.WriteString(content)
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// filtered lays a filtered copy over a configuration file, when it is there.
func (b *builder) filtered(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading git configuration: %w", err)
	}
	if !info.Mode().IsRegular() {
		return refuse("replace it by a plain file", "%s is not a plain file", quote(path))
	}
	entries, err := readConfig(path)
	if err != nil {
		return err
	}
	kept := filterConfig(entries)
	if filepath.Dir(path) == b.repo.Common && filepath.Base(path) == "config" {
		// Nothing can be written to it, so that `git checkout -b x origin/x` must not want to.
		kept = append(kept, entry{section: "branch", key: "autosetupmerge", value: "false"})
		kept = append(kept, b.layer.settings(b.marked)...)
	}
	source, err := b.write(formatConfig(kept))
	if err != nil {
		return err
	}
	b.add(Mount{Source: source, Target: path, ReadOnly: true, Kind: Filter})
	return nil
}

// write puts a copy into the scratch directory.
func (b *builder) write(content []byte) (string, error) {
	b.copies++
	path := filepath.Join(b.scratch, fmt.Sprintf("config-%d", b.copies))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return "", fmt.Errorf("preparing the workspace: %w", err)
	}
	return path, nil
}

// guardPath binds a path onto itself read-only, when it is there, and keeps every directory above it in its place.
func (b *builder) guardPath(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("guarding the repository: %w", err)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return b.refuseLink(path)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return refuse("remove it", "%s is neither a file nor a directory", quote(path))
	}
	if err := checkText(path, Person{}); err != nil {
		return err
	}
	b.add(Mount{Source: path, Target: path, ReadOnly: true, Kind: Guard})
	b.pin(path)
	return nil
}

func (b *builder) refuseLink(path string) error {
	if b.mode != Direct { // nothing that is written here is the host's
		return nil
	}
	return refuse("replace it by what it leads to, or use the readonly mode",
		"%s is a symbolic link, which cannot be guarded", quote(path))
}

func (b *builder) pin(path string) {
	for at := filepath.Dir(path); !slices.Contains(b.repo.tops(), at) && b.repo.inside(at); at = filepath.Dir(at) {
		source := at
		if b.mode == Review {
			source = b.layer.copied(b.repo, at)
		}
		if source != "" {
			b.add(Mount{Source: source, Target: at, Kind: Pin})
		}
	}
}

// looseConfigs hides copies that people and editors leave beside the configuration.
func (b *builder) looseConfigs() error {
	entries, err := os.ReadDir(b.repo.Common)
	if err != nil {
		return fmt.Errorf("guarding the repository: %w", err)
	}
	for _, e := range entries {
		name := strings.TrimPrefix(e.Name(), ".")
		known := e.Name() == "config" || e.Name() == "config.worktree" || e.Name() == "config.lock"
		loose := strings.HasPrefix(name, "config") || name == "credentials" || name == "git-credentials"
		if loose && !known && e.Type().IsRegular() {
			if err := b.hidePath(filepath.Join(b.repo.Common, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// alternates says what is missing where objects are borrowed from somewhere that is not shown. A repository's word is not
// enough to show it.
func (b *builder) alternates() {
	var missing []string
	for _, dir := range alternates(b.repo) {
		if !b.repo.inside(dir) && !slices.ContainsFunc(b.others, func(other string) bool { return within(dir, other) }) {
			missing = append(missing, quote(dir))
		}
	}
	if len(missing) == 0 {
		return
	}
	b.warn("this repository borrows objects from %s, which is not there inside: git will miss them (a [[mount]] of your own with source = %q "+
		"shows it; `git repack -a -d && rm .git/objects/info/alternates` makes the repository stand alone)", strings.Join(missing, " and "), missing[0])
}

// alternates are the directories that a repository says its objects are in, too, with what those say.
func alternates(repo Repo) []string {
	const most = 20
	var out []string
	look := []string{filepath.Join(repo.Common, "objects")}
	for len(look) > 0 && len(out) < most {
		from := look[0]
		look = look[1:]
		text, err := readRegular(filepath.Join(from, "info", "alternates"), maxText)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimRight(line, "\r\n")
			if line == "" || line[0] == '#' {
				continue
			}
			if dir := expand(line, from, ""); !slices.Contains(out, dir) && len(out) < most {
				out, look = append(out, dir), append(look, dir)
			}
		}
	}
	return out
}

// modules filters the configurations of submodules; their git directories are read-only as a whole.
func (b *builder) modules() error {
	dirs := []string{filepath.Join(b.repo.Common, "modules")}
	if b.repo.Git != b.repo.Common {
		dirs = append(dirs, filepath.Join(b.repo.Git, "modules"))
	}
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return !isDir(dir) })
	if len(dirs) > 0 {
		b.warn("submodules are read-only for git inside: no commit can be made in them")
	}
	for _, dir := range dirs {
		if err := b.modulesBelow(dir); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) modulesBelow(dir string) error {
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == "objects" || e.Name() == "refs" || e.Name() == "logs") && isGitDir(filepath.Dir(path)):
			return fs.SkipDir
		case !e.IsDir() && (e.Name() == "config" || e.Name() == "config.worktree") && isGitDir(filepath.Dir(path)):
			return b.filtered(path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("guarding submodules: %w", err)
	}
	return nil
}

// nested guards the git directories and git files of repositories below the top.
func (b *builder) nested(paths []string) error {
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&fs.ModeSymlink != 0 {
			b.warn("%s cannot be guarded", quote(path))
			continue
		}
		if err := b.guardPath(path); err != nil {
			return err
		}
		if !info.IsDir() {
			continue
		}
		if err := b.nestedDir(path); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) nestedDir(git string) error {
	b.warn("%s is a repository of its own: its git directory is read-only inside", quote(filepath.Dir(git)))
	for _, name := range []string{"config", "config.worktree"} {
		if err := b.filtered(filepath.Join(git, name)); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) hidden(paths []string) error {
	for _, path := range paths {
		if err := b.hidePath(path); err != nil {
			return err
		}
	}
	return nil
}

// hidePath lays nothing over a file or a directory. One that has gone since needs no hiding.
func (b *builder) hidePath(path string) error {
	if slices.Contains(b.repo.tops(), path) || !b.repo.inside(path) {
		return fmt.Errorf("hiding %s: it is not below the workspace", quote(path))
	}
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("hiding %s: %w", quote(path), err)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("hiding %s: it has become a link", quote(path))
	}
	source, err := b.empty(info.IsDir())
	if err != nil {
		return err
	}
	b.add(Mount{Source: source, Target: path, ReadOnly: true, Kind: Hide})
	return nil
}

// empty gives the run's empty directory or empty file.
func (b *builder) empty(dir bool) (string, error) {
	path := filepath.Join(b.scratch, "empty")
	if dir {
		path += ".d"
		if err := os.Mkdir(path, 0o500); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("preparing the workspace: %w", err)
		}
		return path, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o400)
	if err != nil {
		return "", fmt.Errorf("preparing the workspace: %w", err)
	}
	return path, f.Close()
}

// submounts shows file systems mounted inside the repository, read-only: a read-only bind of what is above does not reach them,
// and an overlay does not show them. A copy has what is in them already.
func (b *builder) submounts() error {
	if b.mode == Direct {
		return nil
	}
	points, err := MountedBelow(b.repo.tops()...)
	for _, p := range points {
		if b.mode != Review || b.layer.copied(b.repo, p) == "" {
			b.add(Mount{Source: p, Target: p, ReadOnly: true, Kind: Tree})
		}
	}
	return err
}

// MountedBelow lists where file systems are mounted below directories.
func MountedBelow(roots ...string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("reading the mounts of this machine: %w", err)
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var out []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		p := unescape.Replace(f[4])
		if slices.ContainsFunc(roots, func(root string) bool { return p != root && within(p, root) }) {
			out = append(out, p)
		}
	}
	return out, nil
}
