package rootfs

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Env is what Scan looks at.
type Env struct {
	Host    string // the directory that stands for the host's root, "" is "/"
	Home    string
	Repo    string   // PATH entries in it stay
	Private []string // agentbox's own directories: no root may contain or lie in one
	Getenv  func(string) string
}

// Toolchains is what of the host outside /usr is shown, read-only, at the same paths.
type Toolchains struct {
	Roots   []string          // absolute, sorted, none below another
	Masked  []string          // existing files and directories in Roots that are shown empty, sorted
	Path    string            // PATH inside
	Env     map[string]string // variables of the host that name something in Roots
	Dropped []string          // why an entry of PATH or a variable is left out, for a person
}

type scan struct {
	env     Env
	host    host
	guard   guard
	roots   []string
	masked  []string
	dropped []string
	vars    map[string]string
}

// Scan finds the toolchains that the person uses: of the roots in data/roots.txt, those that an entry of PATH
// lies in, or that a program in an entry of PATH is a link into, and what these do not work without. A root
// that exists and is not on PATH is not shown. Besides the list, an active Python virtual environment is a
// root: a PATH entry next to a pyvenv.cfg. Roots are read-only inside: what installs into them (cargo install,
// pip install --user) needs another place.
func Scan(env Env) (Toolchains, error) {
	if !filepath.IsAbs(env.Home) || env.Getenv == nil {
		return Toolchains{}, fmt.Errorf("looking for toolchains: %q is not a home directory", env.Home)
	}
	s := &scan{env: env, host: host(env.Host), vars: map[string]string{}}
	s.guard = newGuard(s.host, env.Home, env.Private)
	candidates := s.candidates()
	entries := filepath.SplitList(env.Getenv("PATH"))
	for _, entry := range entries {
		s.follow(entry, candidates)
	}
	s.roots = outermost(s.roots)
	slices.Sort(s.masked)
	return Toolchains{
		Roots: s.roots, Masked: slices.Compact(s.masked), Path: s.path(entries), Env: s.visibleVars(candidates), Dropped: unique(s.dropped),
	}, nil
}

// candidate is a root of the list as it is on this machine.
type candidate struct {
	path string // as named
	real string
	spec root
}

func (s *scan) candidates() []candidate {
	var all []candidate
	for _, r := range knownRoots() {
		all = append(all, s.locate(r)...)
	}
	return all
}

// locate returns where a root is on this machine: where its variable says, else at its usual place.
func (s *scan) locate(r root) []candidate {
	pattern := s.expand(r.path)
	if r.env != "" {
		if v := s.env.Getenv(r.env); v != "" && filepath.IsAbs(v) {
			pattern = escapeMeta(filepath.Join(v, r.below))
		}
	}
	var all []candidate
	for _, p := range s.host.glob(pattern) {
		real, _, err := s.host.resolve(p)
		if err != nil {
			continue
		}
		p = filepath.Clean(p)
		if err := s.guard.check(p, real); err != nil {
			s.dropped = append(s.dropped, err.Error())
			continue
		}
		all = append(all, candidate{p, real, r})
	}
	return all
}

// escapeMeta keeps a path that a variable gives from being read as a pattern.
func escapeMeta(p string) string {
	if !strings.ContainsAny(p, `*?[\`) {
		return p
	}
	return globMeta.Replace(p)
}

func (s *scan) expand(p string) string {
	if rest, ok := strings.CutPrefix(p, "~/"); ok {
		return filepath.Join(s.env.Home, rest)
	}
	return p
}

// follow adds the roots that an entry of PATH leads to.
func (s *scan) follow(entry string, candidates []candidate) {
	if !filepath.IsAbs(entry) || s.ofSystem(entry) {
		return
	}
	real, _, err := s.host.resolve(entry)
	if err != nil {
		return
	}
	s.use(filepath.Clean(entry), candidates)
	s.use(real, candidates)
	s.useVenv(filepath.Dir(filepath.Clean(entry)), candidates)
	if s.ofSystem(real) || !withinAny(real, s.roots) {
		return
	}
	for _, p := range s.host.glob(escapeGlob(real) + "*") {
		if info, err := s.host.lstat(p); err == nil && info.Mode().Type() != 0 {
			if target, _, err := s.host.resolve(p); err == nil && !s.ofSystem(target) {
				s.use(target, candidates)
			}
		}
	}
}

// use adds the candidate that p lies in, the innermost when there are several.
func (s *scan) use(p string, candidates []candidate) {
	best := -1
	for i, c := range candidates {
		if (within(p, c.path) || within(p, c.real)) && (best < 0 || len(c.path) > len(candidates[best].path)) {
			best = i
		}
	}
	if best < 0 {
		return
	}
	c := candidates[best]
	s.add(c)
	for _, w := range c.spec.with {
		for _, more := range s.locate(w) {
			s.add(more)
		}
	}
}

func (s *scan) add(c candidate) {
	if slices.Contains(s.roots, c.path) {
		return
	}
	s.roots = append(s.roots, c.path)
	if c.real != c.path {
		s.roots = append(s.roots, c.real)
	}
	s.masked = append(s.masked, c.masked(s.host)...)
}

// masked returns what of a root may hold a credential, on this machine, now.
func (c candidate) masked(h host) []string {
	var all []string
	for _, m := range c.spec.masks {
		all = append(all, h.glob(escapeGlob(c.real)+m)...)
	}
	return all
}

func (s *scan) useVenv(dir string, candidates []candidate) {
	cfg := filepath.Join(dir, "pyvenv.cfg")
	if info, err := s.host.lstat(cfg); err != nil || !info.Mode().IsRegular() {
		return
	}
	if !s.inRepo(dir) {
		real, _, err := s.host.resolve(dir)
		if err != nil {
			return
		}
		if err := s.guard.check(dir, real); err != nil {
			s.dropped = append(s.dropped, err.Error())
			return
		}
		s.add(candidate{dir, real, root{masks: []string{"pip.conf"}}})
	}
	if target, _, err := s.host.resolve(filepath.Join(dir, "bin/python")); err == nil {
		s.use(target, candidates)
	}
}

func (s *scan) inRepo(p string) bool { return s.env.Repo != "" && within(p, s.env.Repo) }

func (s *scan) ofSystem(p string) bool { return withinAny(p, systemDirs()) }

// systemDirs are shown whole.
func systemDirs() []string {
	return []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}
}

func (s *scan) visible(p string) bool {
	return s.ofSystem(p) || s.inRepo(p) || withinAny(p, s.roots)
}

// path is the person's PATH without what is not visible inside.
func (s *scan) path(entries []string) string {
	var all []string
	for _, e := range entries {
		if e == "" || !filepath.IsAbs(e) {
			continue
		}
		e = filepath.Clean(e)
		real, hops, err := s.host.resolve(e)
		if err != nil || !s.host.isDir(real) {
			continue
		}
		switch shown := s.visible(e) && s.visible(real) && s.allVisible(hops); {
		case shown:
			all = append(all, e)
		case s.visible(real):
			all = append(all, real)
		default:
			s.dropped = append(s.dropped, fmt.Sprintf("%s is on PATH and not a known toolchain: it is not shown", e))
		}
	}
	return strings.Join(unique(append(all, "/usr/local/bin", "/usr/bin", "/bin")), ":")
}

// allVisible leaves links at the top level aside, which the skeleton has too.
func (s *scan) allVisible(hops []string) bool {
	return !slices.ContainsFunc(hops, func(h string) bool {
		return strings.Count(h, "/") > 1 && !s.visible(h)
	})
}

func unique(all []string) []string {
	var out []string
	for _, s := range all {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// visibleVars returns the variables that moved a root which is shown, and the well-known ones that name a
// directory in one.
func (s *scan) visibleVars(candidates []candidate) map[string]string {
	names := []string{"GOROOT", "JAVA_HOME", "VIRTUAL_ENV", "CONDA_PREFIX", "M2_HOME", "MAVEN_HOME", "GRADLE_HOME", "DENO_INSTALL"}
	for _, c := range candidates {
		if c.spec.below == "" {
			names = append(names, c.spec.env)
		}
		for _, w := range c.spec.with {
			names = append(names, w.env)
		}
	}
	for _, n := range names {
		v := ""
		if n != "" {
			v = s.env.Getenv(n)
		}
		if real, _, err := s.host.resolve(filepath.Clean("/" + v)); filepath.IsAbs(v) && err == nil && s.visible(filepath.Clean(v)) && s.visible(real) {
			s.vars[n] = v
		}
	}
	return s.vars
}

// outermost sorts paths and drops those that are the same as, or below, another.
func outermost(paths []string) []string {
	var out []string
	slices.SortFunc(paths, func(a, b string) int { return strings.Compare(a+"/", b+"/") })
	for _, p := range paths {
		if !withinAny(p, out) {
			out = append(out, p)
		}
	}
	return out
}

// guard says what may not be shown as a root, whoever asks.
type guard struct {
	home    []string // as named, and resolved
	secret  []string // nothing in them, nothing that contains them
	shared  []string // not themselves, nothing that contains them
	systems []string // nothing in them
}

func newGuard(h host, home string, private []string) guard {
	g := guard{
		home:    []string{filepath.Clean(home)},
		shared:  []string{"/", "/home", "/opt", "/var", "/srv", "/mnt", "/media", "/nix", "/gnu", "/tmp", "/var/tmp", "/var/lib", "/var/cache", "/Users"},
		systems: []string{"/proc", "/sys", "/dev", "/run", "/etc", "/boot", "/var/run", "/lost+found"},
	}
	if real, _, err := h.resolve(home); err == nil && real != g.home[0] {
		g.home = append(g.home, real)
	}
	secret, shared := privateDirs()
	for _, base := range g.home {
		g.shared = append(g.shared, base)
		for _, d := range secret {
			g.secret = append(g.secret, filepath.Join(base, d))
		}
		for _, d := range shared {
			g.shared = append(g.shared, filepath.Join(base, d))
		}
	}
	for _, p := range private {
		g.secret = append(g.secret, filepath.Clean(p))
		if real, _, err := h.resolve(p); err == nil {
			g.secret = append(g.secret, real)
		}
	}
	for _, p := range slices.Clone(g.secret) {
		if real, _, err := h.resolve(p); err == nil {
			g.secret = append(g.secret, real)
		}
	}
	return g
}

// check reports why a root, as named or as resolved, may not be shown.
func (g guard) check(paths ...string) error {
	for _, p := range paths {
		switch {
		case slices.ContainsFunc(g.shared, func(d string) bool { return within(d, p) }):
			return fmt.Errorf("%s holds more than a toolchain: it is not shown", p)
		case slices.ContainsFunc(g.secret, func(d string) bool { return within(d, p) || within(p, d) }):
			return fmt.Errorf("%s holds or lies in private files: it is not shown", p)
		case withinAny(p, g.systems):
			return fmt.Errorf("%s belongs to the system: it is not shown", p)
		case g.ofOthers(p):
			return fmt.Errorf("%s lies in another person's home directory: it is not shown", p)
		}
	}
	return nil
}

// ofOthers reports whether p lies in the home directory of someone else.
func (g guard) ofOthers(p string) bool {
	if withinAny(p, g.home) || within(p, "/home/linuxbrew/.linuxbrew") {
		return false
	}
	homes := []string{"/root", "/home", "/var/home", "/Users"}
	for _, h := range g.home {
		if d := filepath.Dir(h); filepath.Base(d) == "home" || filepath.Base(d) == "Users" {
			homes = append(homes, d)
		}
	}
	return withinAny(p, homes)
}
