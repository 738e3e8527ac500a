package rootfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// ErrNotFound is when no directory of PATH has the program.
var ErrNotFound = errors.New("not found on PATH")

// InstallError is when a program is installed where it can't be shown without showing too much.
type InstallError struct {
	Program string
	Reason  error
}

func (e *InstallError) Error() string {
	return fmt.Sprintf("looking for what %s needs: %v", e.Program, e.Reason)
}

func (e *InstallError) Unwrap() error { return e.Reason }

// Hint says what to do about it.
func (e *InstallError) Hint() string {
	return "install it in a directory of its own (npm install -g, or a directory below ~/.local/share), or in /usr/local"
}

// Program is the agent's program on the host.
type Program struct {
	Path        string   // as found
	Real        string   // without links
	InstallRoot string   // what holds it and what it cannot run without; "" when /usr does
	Roots       []string // InstallRoot and those of its interpreters, none below another, to be bound read-only
	Masked      []string // existing files and directories in Roots that are shown empty
	links       []string // those between Path and Real
}

// Inside returns the path by which to start the program: as found, when the links on the way to it are visible
// in roots, else Real. Many programs care about the name by which they are called.
func (p Program) Inside(roots []string) string {
	for _, hop := range append(p.links, p.Path) {
		if strings.Count(hop, "/") > 1 && !withinAny(hop, append(systemDirs(), roots...)) {
			return p.Real
		}
	}
	return p.Path
}

type finder struct {
	host  host
	path  string
	home  string
	guard guard
	depth int
}

// FindProgram finds a program, by name or by absolute path, and what of the host it needs to run: of an npm
// program the whole outermost node_modules, where its dependencies and native packages are, and node; of one
// in a known toolchain that toolchain; else the directory that it is installed in, or the file alone where
// that directory is shared with other things. private names agentbox's own directories.
func FindProgram(name, path, home string, private ...string) (Program, error) {
	return findOn("/", name, path, home, private)
}

func findOn(h host, name, path, home string, private []string) (Program, error) {
	f := finder{host: h, path: path, home: filepath.Clean(home), guard: newGuard(h, home, private)}
	p, err := f.find(name)
	if err != nil {
		return Program{}, err
	}
	p.Roots = outermost(p.Roots)
	return p, nil
}

func (f finder) find(name string) (Program, error) {
	p, err := f.look(name)
	if err != nil {
		return Program{}, err
	}
	if p.InstallRoot, p.Masked, err = f.installRoot(p.Real); err != nil {
		return Program{}, &InstallError{p.Path, err}
	}
	if p.InstallRoot != "" {
		p.Roots = append(p.Roots, p.InstallRoot)
	}
	more, err := f.interpreter(p)
	if err != nil {
		return Program{}, &InstallError{p.Path, err}
	}
	p.Roots = append(p.Roots, more.Roots...)
	p.Masked = append(p.Masked, more.Masked...)
	return p, nil
}

func (f finder) look(name string) (Program, error) {
	if filepath.IsAbs(name) {
		if p, ok := f.executable(filepath.Clean(name)); ok {
			return p, nil
		}
		return Program{}, fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	if name == "" || strings.Contains(name, "/") {
		return Program{}, fmt.Errorf("%q is neither a name nor an absolute path: %w", name, ErrNotFound)
	}
	for _, dir := range filepath.SplitList(f.path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		if p, ok := f.executable(filepath.Join(dir, name)); ok {
			return p, nil
		}
	}
	return Program{}, fmt.Errorf("%q: %w", name, ErrNotFound)
}

func (f finder) executable(p string) (Program, bool) {
	real, hops, err := f.host.resolve(p)
	if err != nil {
		return Program{}, false
	}
	info, err := f.host.lstat(real)
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return Program{}, false
	}
	return Program{Path: p, Real: real, links: hops}, true
}

// installRoot returns the smallest thing that real runs from, "" when it is in /usr, and what of it is masked.
func (f finder) installRoot(real string) (string, []string, error) {
	if withinAny(real, systemDirs()) {
		return "", nil, nil
	}
	if dir, ok := f.nodeModules(real); ok {
		return dir, nil, f.guard.check(dir)
	}
	if c, ok := f.known(real); ok {
		return c.real, c.masked(f.host), nil
	}
	dir, err := f.directory(real)
	return dir, nil, err
}

// directory returns what a program that no list knows is installed in.
func (f finder) directory(real string) (string, error) {
	dir := filepath.Dir(real)
	if filepath.Base(dir) == "bin" {
		dir = filepath.Dir(dir)
	}
	if rest, ok := strings.CutPrefix(real, "/opt/"); ok && strings.Contains(rest, "/") {
		dir = "/opt/" + rest[:strings.Index(rest, "/")]
	}
	if f.guard.check(dir) == nil {
		return dir, nil
	}
	return f.alone(real)
}

// alone allows a single file of a directory that is shared, such as ~/bin.
func (f finder) alone(real string) (string, error) {
	dir := filepath.Dir(real)
	for _, d := range []string{"/", "/home", "/tmp", "/var/tmp", "/dev/shm"} {
		if dir == d {
			return "", fmt.Errorf("%s is in %s, where others may put files too", real, d)
		}
	}
	return real, f.guard.check(real)
}

// nodeModules returns the outermost node_modules that real is in.
func (f finder) nodeModules(real string) (string, bool) {
	before, _, ok := strings.Cut(real, "/node_modules/")
	return before + "/node_modules", ok
}

// known returns the toolchain of data/roots.txt at its usual place that real is in, unless it is one of many
// programs of a directory for programs.
func (f finder) known(real string) (candidate, bool) {
	s := scan{env: Env{Home: f.home, Getenv: func(string) string { return "" }}, host: f.host, guard: f.guard}
	for _, r := range knownRoots() {
		if base := filepath.Base(r.path); base == "bin" || r.path == "/opt/*" {
			continue
		}
		for _, c := range s.locate(r) {
			if within(real, c.real) {
				return c, true
			}
		}
	}
	return candidate{}, false
}

// interpreter returns what a script's first line names: a path, or node for an npm program.
func (f finder) interpreter(p Program) (Program, error) {
	name, err := f.shebang(p.Real)
	if err != nil || name == "" {
		return Program{}, err
	}
	if f.depth++; f.depth > 4 {
		return Program{}, fmt.Errorf("%s: too many interpreters", p.Real)
	}
	q, err := f.find(name)
	if err != nil {
		return Program{}, fmt.Errorf("its interpreter: %v", err) //nolint:errorlint // no ErrNotFound: the program itself is there
	}
	q.Roots = append(q.Roots, f.venv(name)...)
	return q, nil
}

// venv returns a virtual environment whose python is a link out of it.
func (f finder) venv(interpreter string) []string {
	dir := filepath.Dir(filepath.Dir(interpreter))
	if _, err := f.host.lstat(filepath.Join(dir, "pyvenv.cfg")); err != nil || f.guard.check(dir) != nil {
		return nil
	}
	return []string{dir}
}

// shebang returns the program that runs a script, a path or a name to be looked up, or "".
func (f finder) shebang(real string) (string, error) {
	file, err := os.Open(f.host.real(real))
	if err != nil {
		return "", err
	}
	line, err := bufio.NewReader(io.LimitReader(file, 4096)).ReadString('\n')
	if closeErr := file.Close(); closeErr != nil || err != nil && !errors.Is(err, io.EOF) {
		return "", errors.Join(err, closeErr)
	}
	fields := strings.Fields(strings.TrimPrefix(line, "#!"))
	if !strings.HasPrefix(line, "#!") || len(fields) == 0 {
		return "", nil
	}
	if filepath.Base(fields[0]) != "env" {
		return fields[0], nil
	}
	for _, arg := range fields[1:] {
		if !strings.HasPrefix(arg, "-") && !strings.Contains(arg, "=") {
			return arg, nil
		}
	}
	return "", nil
}
