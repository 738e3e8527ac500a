package images

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"go.podman.io/storage/pkg/fileutils"
	"golang.org/x/sys/unix"

	"agentbox/internal/layerfiles"
	"agentbox/internal/policy"
	"agentbox/internal/sys"
)

// What a context may hold at most.
const (
	maxContextFiles = 50_000
	maxContextBytes = 1 << 30
	maxListing      = 64 << 20
)

// Context is what of a repository goes to the engine: files that git tracks or would add, that neither the ignore file nor
// the profile's hidden paths leave out, and that the Containerfile takes. Nothing of .git, no link that leads out.
type Context struct {
	root   *os.Root
	top    *os.File // the same directory, from which files are opened by no link
	files  []entry
	Left   []string // links that were left out, for a person
	Digest string
}

type entry struct {
	path string
	link string // what it leads to; "" for a file
	exec bool
	size int64
}

// ContextOptions say what a context is made of.
type ContextOptions struct {
	Root    string   // the repository's top
	Git     bool     // it is one of git
	Hide    []string // patterns of policy.HideList
	Sources []string // what the Containerfile takes
}

// Open gathers a context and reads it once, for its digest. Close ends it.
func Open(ctx context.Context, o ContextOptions) (*Context, error) {
	root, err := os.OpenRoot(o.Root)
	if err != nil {
		return nil, fmt.Errorf("reading what the build takes: %w", err)
	}
	c := &Context{root: root}
	if c.top, err = root.Open("."); err == nil {
		err = c.gather(ctx, o)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("reading what the build takes: %w", err)
	}
	return c, nil
}

// Close closes the repository's directory.
func (c *Context) Close() {
	_ = c.root.Close()
	if c.top != nil {
		_ = c.top.Close()
	}
}

// Files are the paths, in order.
func (c *Context) Files() []string {
	var out []string
	for _, e := range c.files {
		out = append(out, e.path)
	}
	return out
}

func (c *Context) gather(ctx context.Context, o ContextOptions) error {
	if len(o.Sources) > 0 {
		names, err := listed(ctx, c.root, o)
		if err != nil {
			return err
		}
		admit, err := admission(c.root, o)
		if err != nil {
			return err
		}
		if err := c.take(names, admit); err != nil {
			return err
		}
	}
	sum := sha256.New()
	if err := c.write(ctx, sum, nil); err != nil {
		return err
	}
	c.Digest = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// listed are the files that git knows or would add; in what is no repository of git, all.
func listed(ctx context.Context, root *os.Root, o ContextOptions) ([]string, error) {
	if !o.Git {
		return walked(root)
	}
	cmd, err := layerfiles.GitCommand(ctx, o.Root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--full-name")
	if err != nil {
		return nil, err
	}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limited{w: &out, left: maxListing}, &limited{w: &complaint, left: 4096}
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("asking git for the files: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	names := strings.Split(strings.TrimSuffix(out.String(), "\x00"), "\x00")
	slices.Sort(names)
	return slices.Compact(names), nil
}

// limited fails what writes more than there is room for.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errors.New("it is too long")
	}
	return l.w.Write(p)
}

func walked(root *os.Root) (names []string, err error) {
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return nil
		case len(names) >= 20*maxContextFiles:
			return errors.New("there are too many files")
		}
		names = append(names, p)
		return nil
	})
	return names, err
}

// admission says which of the paths go along.
func admission(root *os.Root, o ContextOptions) (func(string) (bool, error), error) {
	hide, err := policy.ParseHideList(o.Hide)
	if err != nil {
		return nil, err
	}
	ignore, err := ignored(root)
	if err != nil {
		return nil, err
	}
	return func(p string) (bool, error) {
		if p == "" || strings.HasSuffix(p, "/") || !fs.ValidPath(p) || !taken(o.Sources, p) || hide.Hides(p, false) {
			return false, nil
		}
		if slices.ContainsFunc(strings.Split(p, "/"), func(s string) bool { return strings.EqualFold(s, ".git") }) {
			return false, nil
		}
		if ignore == nil {
			return true, nil
		}
		out, err := ignore.MatchesResult(p)
		if err != nil {
			return false, err
		}
		return !out.IsMatched(), nil
	}, nil
}

const maxIgnore = 256 << 10

// ignored reads the ignore file: .containerignore, or .dockerignore where there is none.
func ignored(root *os.Root) (*fileutils.PatternMatcher, error) {
	for _, name := range []string{".containerignore", ".dockerignore"} {
		info, err := root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() || info.Size() > maxIgnore {
			return nil, fmt.Errorf("%s is no file of at most %d bytes", name, maxIgnore)
		}
		data, err := root.ReadFile(name)
		if err != nil {
			return nil, err
		}
		return patterns(string(data))
	}
	return nil, nil
}

func patterns(text string) (*fileutils.PatternMatcher, error) {
	var all []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		rest, negated := strings.CutPrefix(line, "!")
		rest = strings.TrimPrefix(path.Clean("/"+strings.TrimSpace(rest)), "/")
		if rest == "" {
			continue
		}
		if negated {
			rest = "!" + rest
		}
		all = append(all, rest)
	}
	return fileutils.NewPatternMatcher(all)
}

// taken reports whether a source names p or a directory above it.
func taken(sources []string, p string) bool {
	parts := strings.Split(p, "/")
	return slices.ContainsFunc(sources, func(s string) bool {
		s = strings.TrimPrefix(path.Clean("/"+s), "/")
		if s == "" {
			return true
		}
		pattern := strings.Split(s, "/")
		if len(pattern) > len(parts) {
			return false
		}
		for i, part := range pattern {
			if ok, err := path.Match(part, parts[i]); err == nil && !ok {
				return false
			}
		}
		return true
	})
}

// take looks at each path that is admitted. A directory on the way that is a link is not gone through.
func (c *Context) take(names []string, admit func(string) (bool, error)) error {
	dirs := map[string]bool{".": true}
	total := int64(0)
	for _, name := range names {
		ok, err := admit(name)
		if err != nil {
			return err
		}
		if !ok || !c.plain(path.Dir(name), dirs) {
			continue
		}
		info, err := c.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		c.add(name, info)
		if total += info.Size(); len(c.files) > maxContextFiles || total > maxContextBytes {
			return fmt.Errorf("it is more than %d files or %d MiB: name less in COPY, or leave out more in .containerignore", maxContextFiles, maxContextBytes>>20)
		}
	}
	return nil
}

// plain reports whether a path is of directories alone.
func (c *Context) plain(dir string, known map[string]bool) bool {
	ok, seen := known[dir]
	if seen {
		return ok
	}
	info, err := c.root.Lstat(dir)
	known[dir] = err == nil && info.IsDir() && c.plain(path.Dir(dir), known)
	return known[dir]
}

func (c *Context) add(name string, info fs.FileInfo) {
	switch mode := info.Mode(); {
	case mode.IsRegular():
		c.files = append(c.files, entry{path: name, exec: mode&0o100 != 0, size: info.Size()})
	case mode&fs.ModeSymlink != 0:
		to, err := c.root.Readlink(name)
		inside := path.Clean(path.Join(path.Dir(name), to))
		if err != nil || path.IsAbs(to) || inside == ".." || strings.HasPrefix(inside, "../") {
			c.Left = append(c.Left, name)
			return
		}
		c.files = append(c.files, entry{path: name, link: to})
	}
}

// ErrChanged says that a file became something else between looking and sending.
var ErrChanged = errors.New("the repository changed while it was read")

// Write writes the context as a tar, with what else the engine gets; it fails where that is not what Digest is of.
// Extra never stands below the name of a file: what comes later in an archive takes the place of what came before.
func (c *Context) Write(ctx context.Context, w io.Writer, extra map[string][]byte) error {
	sum := sha256.New()
	t := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		if c.holds(name) {
			return fmt.Errorf("%q is agentbox's own name, and the repository has a file of it", name)
		}
		if err := put(t, &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(extra[name]))}, bytes.NewReader(extra[name])); err != nil {
			return err
		}
	}
	if err := c.write(ctx, sum, t); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != c.Digest {
		return ErrChanged
	}
	return t.Close()
}

// holds reports whether name, or something below it, is one of the files.
func (c *Context) holds(name string) bool {
	return slices.ContainsFunc(c.files, func(e entry) bool { return e.path == name || strings.HasPrefix(e.path, name+"/") })
}

// write goes through all files, for the digest and, where there is one, into a tar.
func (c *Context) write(ctx context.Context, sum hash.Hash, t *tar.Writer) error {
	made := map[string]bool{".": true}
	for _, e := range c.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if t != nil {
			if err := parents(t, path.Dir(e.path), made); err != nil {
				return err
			}
		}
		if err := c.one(e, sum, t); err != nil {
			return err
		}
	}
	return nil
}

func parents(t *tar.Writer, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	if err := parents(t, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	return t.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755})
}

func (c *Context) one(e entry, sum hash.Hash, t *tar.Writer) error {
	mode := int64(0o644)
	if e.exec {
		mode = 0o755
	}
	fmt.Fprintf(sum, "%d:%s%d:%s%o:%d:", len(e.path), e.path, len(e.link), e.link, mode, e.size)
	if e.link != "" {
		return put(t, &tar.Header{Name: e.path, Typeflag: tar.TypeSymlink, Linkname: e.link, Mode: 0o777}, nil)
	}
	// By no link, also none that has taken a directory's place since it was looked at: it may lead to what is hidden.
	fd, err := sys.OpenBeneath(int(c.top.Fd()), e.path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%q: %w", e.path, ErrChanged)
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: e.path, Err: err}
	}
	f := os.NewFile(uintptr(fd), e.path)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != e.size {
		return fmt.Errorf("%q: %w", e.path, ErrChanged)
	}
	return put(t, &tar.Header{Name: e.path, Typeflag: tar.TypeReg, Mode: mode, Size: e.size}, io.TeeReader(io.LimitReader(f, e.size), sum))
}

// put writes one entry; without a tar it only reads.
func put(t *tar.Writer, h *tar.Header, r io.Reader) error {
	w := io.Discard
	if t != nil {
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		w = t
	}
	if r == nil {
		return nil
	}
	n, err := io.Copy(w, r)
	if err == nil && n != h.Size {
		return fmt.Errorf("%q: %w", h.Name, ErrChanged)
	}
	return err
}
