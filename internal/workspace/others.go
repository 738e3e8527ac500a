package workspace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"agentbox/internal/policy"
)

// Asked is a file or directory beside the repository that a profile shows. Its paths are absolute and clean.
type Asked struct {
	Source, Target string
	Write          bool
	Origin         string // where the profile says so
}

// Other is one that may be shown. Its source is free of links.
type Other struct {
	Asked
	Dir    bool
	Survey Survey // of a directory: what in it is hidden, and the git directories in it
}

// Around is what a mount must leave alone.
type Around struct {
	Repo    Repo
	Person  Person
	Sockets []string // ways into the host
	Roots   []string // what is shown of this machine's programs
}

// Others holds what profiles ask for to what may be shown at all, whoever asks. Patterns are those of workspace.hide.
func Others(around Around, asked []Asked, patterns []string) ([]Other, error) {
	list, err := policy.ParseHideList(patterns)
	if err != nil {
		return nil, err
	}
	var out []Other
	for _, a := range asked {
		o, err := around.other(a, out)
		if err != nil {
			return nil, err
		}
		if o.Dir {
			s := surveyor{repo: Repo{Root: a.Source, Git: a.Source, Common: a.Source}, list: list, beside: true}
			if err := s.walk(); err != nil {
				return nil, err
			}
			slices.Sort(s.out.Hidden)
			s.out.Hidden = topmost(slices.Compact(s.out.Hidden))
			o.Survey = s.out
		}
		out = append(out, o)
	}
	return out, nil
}

func (n Around) other(a Asked, before []Other) (Other, error) {
	for _, path := range []string{a.Source, a.Target} {
		if err := checkText(path, Person{}); err != nil {
			return Other{}, err
		}
	}
	info, err := plainPlace(a)
	if err != nil {
		return Other{}, err
	}
	if err := n.checkSource(a); err != nil {
		return Other{}, err
	}
	if err := checkGitSource(a, info); err != nil {
		return Other{}, err
	}
	if err := n.checkTarget(a, before); err != nil {
		return Other{}, err
	}
	return Other{Asked: a, Dir: info.IsDir()}, nil
}

func (a Asked) refuse(hint, format string, args ...any) error {
	return refuse(hint, "the [[mount]] at %s: %s", a.Origin, fmt.Sprintf(format, args...))
}

// plainPlace gives what lies at a source: a plain file or a directory, that no link leads to.
func plainPlace(a Asked) (fs.FileInfo, error) {
	real, err := filepath.EvalSymlinks(a.Source)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, a.refuse("create it, or take the [[mount]] out", "%s is not there", quote(a.Source))
	}
	if err != nil {
		return nil, a.refuse("take the [[mount]] out", "%s cannot be looked at: %v", quote(a.Source), err)
	}
	if real != a.Source {
		return nil, a.refuse(fmt.Sprintf("write source = %q, if that is what you mean", real), "a link on the way makes %s lead to %s", quote(a.Source), quote(real))
	}
	info, err := os.Lstat(real)
	if err != nil {
		return nil, a.refuse("take the [[mount]] out", "%s cannot be looked at: %v", quote(a.Source), err)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return nil, a.refuse("only files and directories can be shown", "%s is a socket, a device or a pipe, which leads out of the boundary", quote(a.Source))
	}
	return info, nil
}

// keys are places in a home directory that hold keys, logins, or what programs outside run.
var keys = []string{
	".ssh", ".gnupg", ".local/share/keyrings", ".password-store", ".aws", ".azure", ".kube", ".docker", ".config/gcloud", ".config/gh",
	".config/containers", ".local/share/containers", ".netrc", ".git-credentials", ".config/git", ".gitconfig", ".npmrc", ".pypirc", ".mozilla",
	".config/google-chrome", ".config/chromium", ".claude", ".claude.json", ".codex", ".config/systemd", ".config/autostart", ".bashrc", ".bash_profile",
	".profile", ".zshrc", ".zshenv", ".config/fish", ".local/bin",
}

// system are places of the machine's own that are never shown this way.
var system = []string{"/proc", "/sys", "/dev", "/run", "/var/run", "/etc", "/boot", "/root", "/var/lib/docker", "/var/lib/containers", "/var/lib/containerd"}

const narrower = "show a directory that holds only what the agent needs"

func overlap(a, b string) bool { return within(a, b) || within(b, a) }

// checkSource refuses what would open the boundary, whoever asks for it.
func (n Around) checkSource(a Asked) error {
	home := resolved(n.Person.Home)
	if a.Source == "/" || within(home, a.Source) {
		return a.refuse(narrower, "%s holds your home directory", quote(a.Source))
	}
	for _, dir := range system {
		if overlap(a.Source, dir) {
			return a.refuse(narrower, "%s and %s, which is the system's own, overlap", quote(a.Source), dir)
		}
	}
	for _, own := range n.Person.Own {
		if own = resolved(own); overlap(a.Source, own) {
			return a.refuse(narrower, "%s and agentbox's own directory %s overlap", quote(a.Source), quote(own))
		}
	}
	for _, s := range n.Sockets {
		if s = resolved(s); overlap(a.Source, s) {
			return a.refuse(narrower, "%s would show %s, a way into this machine", quote(a.Source), quote(s))
		}
	}
	for _, name := range keys {
		if key := resolved(filepath.Join(home, name)); overlap(a.Source, key) {
			return a.refuse(narrower, "%s and %s overlap, where keys, logins or programs of yours are", quote(a.Source), quote(key))
		}
	}
	for _, other := range n.Person.OtherHomes {
		if other = resolved(other); within(a.Source, other) && !within(home, other) {
			return a.refuse("copy what is needed to a directory of your own", "%s lies in another user's home", quote(a.Source))
		}
	}
	return n.apart(a, a.Source)
}

// apart refuses a second way into the repository, around its guards.
func (n Around) apart(a Asked, path string) error {
	for _, top := range n.Repo.tops() {
		if overlap(path, top) {
			return a.refuse("the repository is shown already; show something beside it", "%s and the repository's %s overlap", quote(path), quote(top))
		}
	}
	return nil
}

// checkGitSource refuses what in a git directory would be obeyed, or can't be filtered.
func checkGitSource(a Asked, info fs.FileInfo) error {
	inGit := slices.Contains(strings.Split(a.Source, "/"), ".git") || info.IsDir() && isGitDir(a.Source)
	if inGit && (a.Write || !info.IsDir()) {
		return a.refuse("show a directory of it read-only, or the work tree", "%s is of a git directory: your own git would obey what the agent writes, and its configuration may hold keys", quote(a.Source))
	}
	return nil
}

// fixed are places inside that something else is mounted at.
var fixed = []string{"/proc", "/sys", "/dev", "/run", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/boot"}

// checkTarget refuses a place inside where something else is.
func (n Around) checkTarget(a Asked, before []Other) error {
	const hint = "write another target"
	home := resolved(n.Person.Home)
	if a.Target == "/" || a.Target == "/tmp" || within(home, a.Target) {
		return a.refuse(hint, "nothing can be laid over %s inside", quote(a.Target))
	}
	taken := slices.Concat(fixed, n.Roots)
	for _, o := range before {
		taken = append(taken, o.Target)
	}
	for _, dir := range taken {
		if overlap(a.Target, dir) {
			return a.refuse(hint, "%s and %s overlap inside", quote(a.Target), quote(dir))
		}
	}
	return n.apart(a, a.Target)
}

// OtherMounts gives the binds that show others, with what in them is hidden and guarded, and the places on the host that must
// stay what they are while the mounts last, for Watch. scratch is as for Mounts.
func OtherMounts(others []Other, scratch string) (mounts, places []Mount, warnings []string, err error) {
	for i, o := range others {
		dir := filepath.Join(scratch, fmt.Sprintf("mount-%d", i+1))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, nil, nil, fmt.Errorf("preparing a [[mount]]: %w", err)
		}
		if _, err := plainPlace(o.Asked); err != nil { // it may have changed since it was looked at
			return nil, nil, nil, err
		}
		b := &builder{repo: Repo{Root: o.Source, Git: o.Source, Common: o.Source}, mode: Direct, scratch: dir, mounts: map[string]Mount{}}
		if !o.Write {
			b.mode = ReadOnly
		}
		if err := b.other(o); err != nil {
			return nil, nil, nil, err
		}
		warnings = append(append(warnings, o.Survey.Warnings...), b.warnings...)
		for _, m := range b.sorted() {
			if m.Target != o.Source {
				places = append(places, m)
			}
			m.Target = o.Target + strings.TrimPrefix(m.Target, o.Source)
			mounts = append(mounts, m)
		}
	}
	return mounts, places, warnings, nil
}

func (b *builder) other(o Other) error {
	b.add(Mount{Source: o.Source, Target: o.Source, Kind: Tree})
	if !o.Dir {
		return nil
	}
	if isGitDir(o.Source) {
		for _, name := range []string{"config", "config.worktree"} {
			if err := b.filtered(filepath.Join(o.Source, name)); err != nil {
				return err
			}
		}
	}
	if err := b.nested(o.Survey.Nested); err != nil {
		return err
	}
	if err := b.hidden(o.Survey.Hidden); err != nil {
		return err
	}
	return b.submounts()
}
