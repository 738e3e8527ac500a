package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

type builder struct {
	host     host
	opt      Options
	dir      string
	root     string
	home     string   // of the person, in root
	entries  []entry  // of data/etc.txt
	binds    []string // targets that come from the host whole
	mounts   []Mount
	warnings []string
	resolved map[string]string // the caller's points
}

// Build lays a skeleton in dir, which it makes and which must not exist. os.RemoveAll removes it.
func Build(dir string, opt Options) (Tree, error) {
	if err := opt.check(); err != nil {
		return Tree{}, fmt.Errorf("building the container's root: %w", err)
	}
	b := &builder{host: host(opt.Host), opt: opt, dir: dir, root: filepath.Join(dir, "root"), entries: etcEntries()}
	for _, step := range []func() error{
		b.makeDirs, b.system, b.tmpfs, b.roots, b.etc, b.points, b.seed, b.nss, b.mask,
	} {
		if err := step(); err != nil {
			return Tree{}, fmt.Errorf("building the container's root: %w", err)
		}
	}
	b.submounts()
	slices.SortStableFunc(b.mounts, func(x, y Mount) int {
		return strings.Count(x.Target, "/") - strings.Count(y.Target, "/")
	})
	return Tree{Root: b.root, Home: b.home, Mounts: b.mounts, Points: b.resolved, Warnings: b.warnings}, nil
}

func (b *builder) makeDirs() error {
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return err
	}
	for _, d := range []string{"", "etc", "dev", "proc", "sys", "run", "tmp", "var", "var/tmp", "var/lib", "var/cache"} {
		if err := os.Mkdir(filepath.Join(b.root, d), 0o755); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{"var/run": "/run", "var/lock": "/run/lock"} {
		if err := os.Symlink(target, filepath.Join(b.root, link)); err != nil {
			return err
		}
	}
	return nil
}

// system lays /usr, and its neighbours as the host has them: links where /usr is merged.
func (b *builder) system() error {
	for _, d := range []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		info, err := b.host.lstat("/" + d)
		if err != nil {
			continue
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if err := b.bind("/" + d); err != nil {
				return err
			}
			continue
		}
		target, err := os.Readlink(b.host.real("/" + d))
		if err != nil {
			return err
		}
		if err := os.Symlink(target, filepath.Join(b.root, d)); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) roots() error {
	for _, r := range b.opt.Roots {
		if err := b.bind(r); err != nil {
			return err
		}
	}
	return nil
}

// bind shows a host path read-only at the same path. Links on the way to it are laid as links.
func (b *builder) bind(p string) error {
	real, _, err := b.host.resolve(p)
	if err != nil {
		return fmt.Errorf("binding %s: %w", p, err)
	}
	if within(b.opt.User.Home, real) {
		return fmt.Errorf("binding %s: it would show the home directory", p)
	}
	info, err := b.host.lstat(real)
	if err != nil {
		return fmt.Errorf("binding %s: %w", p, err)
	}
	target, err := b.point(p, info.IsDir())
	if err != nil {
		return err
	}
	if withinAny(target, b.binds) {
		return nil
	}
	b.binds = append(b.binds, target)
	b.mounts = append(b.mounts, bindMount(b.host.real(real), target))
	return nil
}

func bindMount(source, target string) Mount {
	return Mount{Source: source, Target: target, Type: "bind", ReadOnly: true,
		Options: []string{"rbind", "rprivate", "ro", "nosuid", "nodev"}}
}

// point makes sure that p can be mounted on, and returns where p is once links are followed. Links of the
// host on the way become links of the skeleton.
func (b *builder) point(p string, dir bool) (string, error) {
	todo, at := components(p), "/"
	for links := 0; len(todo) > 0; {
		next := filepath.Join(at, todo[0])
		todo = todo[1:]
		if withinAny(next, b.binds) {
			return b.existing(filepath.Join(append([]string{next}, todo...)...))
		}
		target, isLink := b.link(next)
		if isLink {
			if links++; links > 40 {
				return "", fmt.Errorf("following %s: %w", p, errTooManyLinks)
			}
			if filepath.IsAbs(target) {
				at = "/"
			}
			todo = append(components(target), todo...)
			continue
		}
		if err := b.make(next, dir || len(todo) > 0); err != nil {
			return "", err
		}
		at = next
	}
	return at, nil
}

// existing returns a path in something that is bound whole, where no mount point can be made.
func (b *builder) existing(p string) (string, error) {
	real, _, err := b.host.resolve(p)
	if err != nil {
		return "", fmt.Errorf("mounting on %s: %w", p, err)
	}
	return real, nil
}

// link lays p as a link when the host has one there, unless the skeleton has something else already.
func (b *builder) link(p string) (string, bool) {
	inside := filepath.Join(b.root, p)
	if info, err := os.Lstat(inside); err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return "", false
	}
	if target, err := os.Readlink(inside); err == nil {
		return target, true
	}
	target, err := os.Readlink(b.host.real(p))
	if err != nil {
		return "", false
	}
	return target, os.Symlink(target, inside) == nil
}

func (b *builder) make(p string, dir bool) error {
	inside := filepath.Join(b.root, p)
	if info, err := os.Lstat(inside); err == nil {
		if info.IsDir() != dir {
			return fmt.Errorf("making a mount point at %s: something else is there", p)
		}
		return nil
	}
	if dir {
		return os.Mkdir(inside, 0o755)
	}
	return os.WriteFile(inside, nil, 0o644)
}

// tmpfs lays everything that may be written but the repo.
func (b *builder) tmpfs() error {
	u, s := b.opt.User, b.opt.Sizes
	for _, t := range []struct {
		path  string
		size  int64
		def   int64
		mode  fs.FileMode
		flags []string
	}{
		{"/tmp", s.Tmp, 2 << 30, 0o777 | fs.ModeSticky, nil},
		{"/var/tmp", s.VarTmp, 1 << 30, 0o777 | fs.ModeSticky, nil},
		{u.Home, s.Home, 2 << 30, 0o700, []string{"U"}}, // owned by the user that the container runs as
		{"/run", s.Run, 64 << 20, 0o755, []string{"noexec"}},
	} {
		target, err := b.point(t.path, true)
		if err != nil {
			return err
		}
		if withinAny(target, b.binds) {
			// a copy of the host's own directory would be made
			return fmt.Errorf("%s lies in %s, which is shown whole", t.path, target)
		}
		if t.path == u.Home {
			b.home = filepath.Join(b.root, target)
		}
		if err := os.Chmod(filepath.Join(b.root, target), t.mode); err != nil {
			return err
		}
		b.mounts = append(b.mounts, b.tmpfsMount(target, t.size, t.def, t.mode, append(t.flags, "tmpcopyup")))
	}
	b.mounts = append(b.mounts, b.tmpfsMount("/dev/shm", s.Shm, 512<<20, 0o777|fs.ModeSticky, []string{"noexec"}))
	return b.runDirs()
}

func (b *builder) tmpfsMount(target string, size, def int64, mode fs.FileMode, flags []string) Mount {
	if size <= 0 {
		size = def
	}
	octal := mode.Perm()
	if mode&fs.ModeSticky != 0 {
		octal |= 0o1000
	}
	options := append([]string{"rw", "nosuid", "nodev", fmt.Sprintf("size=%d", size),
		fmt.Sprintf("mode=%04o", uint32(octal))}, flags...)
	return Mount{Source: "tmpfs", Target: target, Type: "tmpfs", Options: options}
}

func (b *builder) runDirs() error {
	for dir, mode := range map[string]fs.FileMode{
		"/run/lock":            0o777 | fs.ModeSticky,
		RuntimeDir(b.opt.User): 0o700,
	} {
		if _, err := b.point(dir, true); err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(b.root, dir), mode); err != nil {
			return err
		}
	}
	return b.file("/run/.containerenv", nil, 0o644)
}

func (b *builder) points() error {
	points := b.opt.Points
	if b.opt.Repo != "" {
		points = append([]Point{{b.opt.Repo, true}}, points...)
	}
	points = append(points, b.opt.Shown...)
	b.resolved = map[string]string{}
	for _, p := range points {
		at, err := b.point(p.Path, p.Dir)
		if err != nil {
			return err
		}
		b.resolved[p.Path] = at
	}
	return nil
}

func (b *builder) seed() error {
	for _, f := range b.opt.Files {
		p := f.Path
		if rest, ok := strings.CutPrefix(p, "~/"); ok {
			p = filepath.Join(b.opt.User.Home, rest)
		}
		p = filepath.Clean(p)
		if p == b.opt.User.Home || !within(p, b.opt.User.Home) {
			return fmt.Errorf("seeding %q: not below the home directory", f.Path)
		}
		if err := b.seedFile(p, f); err != nil {
			return fmt.Errorf("seeding %q: %w", f.Path, err)
		}
	}
	return nil
}

func (b *builder) seedFile(p string, f File) error {
	target, err := b.point(p, false)
	if err != nil {
		return err
	}
	if withinAny(target, b.binds) || !within(filepath.Join(b.root, target), b.home) {
		return errors.New("it lies in something that is read-only")
	}
	mode := f.Mode
	if mode == 0 {
		mode = 0o600
	}
	if err := b.file(target, f.Content, mode); err != nil {
		return err
	}
	return os.Chmod(filepath.Join(b.root, target), mode) // point has made it with another
}

func (b *builder) file(p string, content []byte, mode fs.FileMode) error {
	return os.WriteFile(filepath.Join(b.root, p), content, mode)
}

// mask shows an empty file or directory over what may hold a credential.
func (b *builder) mask() error {
	if len(b.opt.Masked) == 0 {
		return nil
	}
	file, dir := filepath.Join(b.dir, "empty"), filepath.Join(b.dir, "empty.d")
	if err := errors.Join(os.WriteFile(file, nil, 0o444), os.Mkdir(dir, 0o555)); err != nil {
		return err
	}
	for _, p := range b.opt.Masked {
		real, _, err := b.host.resolve(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("masking %s: %w", p, err)
		}
		source := file
		if b.host.isDir(real) {
			source = dir
		}
		if withinAny(real, b.binds) {
			b.mounts = append(b.mounts, bindMount(source, real))
		}
	}
	return nil
}

// submounts binds again, read-only, what is mounted on the host below something bound: a read-only bind
// leaves the mounts below it as they are.
func (b *builder) submounts() {
	data, err := os.ReadFile(b.host.real("/proc/self/mountinfo"))
	if err != nil {
		return
	}
	var more []Mount
	for _, m := range b.mounts {
		for _, p := range mountPoints(string(data)) {
			if m.Type == "bind" && p != m.Source && within(p, m.Source) {
				more = append(more, bindMount(p, m.Target+strings.TrimPrefix(p, m.Source)))
			}
		}
	}
	for _, m := range more {
		if !b.mounted(m.Target) {
			b.mounts = append(b.mounts, m)
		}
	}
}

func mountPoints(mountinfo string) []string {
	var all []string
	for line := range strings.Lines(mountinfo) {
		if f := strings.Fields(line); len(f) > 4 {
			all = append(all, unescape.Replace(f[4]))
		}
	}
	return all
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// audited reports why a host path that data/etc.txt lays may not be: it must belong to whom the root
// directory belongs, be readable by all and writable by no one else.
func (h host) audited(p string) error {
	top, err := h.lstat("/")
	if err != nil {
		return err
	}
	info, err := h.lstat(p)
	if err != nil {
		return err
	}
	want := fs.FileMode(0o004)
	if info.IsDir() {
		want = 0o005
	}
	switch {
	case owner(info) != owner(top):
		return errors.New("it does not belong to root")
	case info.Mode()&want != want:
		return errors.New("not everyone may read it")
	case info.Mode()&0o022 != 0:
		return errors.New("others than root may write it")
	case !info.IsDir() && !info.Mode().IsRegular():
		return errors.New("it is neither a file nor a directory")
	}
	return nil
}

func owner(info fs.FileInfo) uint32 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Uid
	}
	return 0
}
