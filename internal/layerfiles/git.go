package layerfiles

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"agentbox/internal/subprocess"
)

const (
	gitTime  = 20 * time.Second // for all of it: a configuration that includes a FIFO would wait for ever
	maxTree  = 16 << 20         // bytes of one tree object
	maxTotal = 64 << 20         // bytes of all files
)

// Git gives agentbox.toml and .agentbox/*.toml as of a commit of the repository whose top is repoDir. It reads what is in
// the object store, raw, by one git process that runs no hook, filter, pager, monitor, alias or helper and fetches nothing,
// whatever the repository's configuration says. Entries that are links or submodules are listed; reading them is an
// error. Errors that the person can do something about are Problems.
func Git(ctx context.Context, repoDir, ref string) (fs.FS, error) {
	return gitAt(ctx, repoDir, ref, gitTime)
}

func gitAt(ctx context.Context, repoDir, ref string, limit time.Duration) (fs.FS, error) {
	if err := checkRef(ref); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	g := git{dir: repoDir, ref: ref}
	files, err := g.layers(limited)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("reading %q of %q: %w", ref, repoDir, ctx.Err())
	case limited.Err() != nil:
		return nil, problem("try `git cat-file -t HEAD` there: it waits for something", "reading %q of %q: git did not answer within %v", ref, repoDir, limit)
	case err != nil:
		return nil, err
	}
	return files, nil
}

// checkRef refuses what could be more than the name of one commit: the name goes to git as a line of its input.
func checkRef(ref string) error {
	bad := ref == "" || len(ref) > 1024 || strings.HasPrefix(ref, "-") ||
		strings.ContainsFunc(ref, func(r rune) bool {
			return unicode.IsControl(r) || unicode.IsSpace(r) || r == ':' || r == unicode.ReplacementChar
		})
	if bad {
		return problem("name a branch, a tag or a commit, as in: origin/main", "reading a commit: %q is not the name of one", ref)
	}
	return nil
}

// git reads one commit.
type git struct {
	dir, ref string
	in       io.Writer
	out      *bufio.Reader
	total    int64
}

// GitCommand is git with everything off that executes, reaches out, waits for a person or changes something. The person's own
// configuration is read, for safe.directory; the repository's can then name commands, and nothing runs them.
func GitCommand(ctx context.Context, dir string, args ...string) (*exec.Cmd, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, problem("install git", "reading a commit: %w", err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a commit: %w", err)
	}
	off := []string{"--no-pager", "--no-replace-objects", "--literal-pathspecs",
		"-c", "protocol.allow=never", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat",
		"-c", "core.sshCommand=false", "-c", "core.alternateRefsCommand=false", "-c", "credential.helper=", "-c", "core.askPass=",
		"-c", "safe.bareRepository=explicit", "-c", "gc.auto=0", "-c", "maintenance.auto=false"}
	cmd := subprocess.Command(ctx, program, append(off, args...)...)
	cmd.Dir, cmd.Env = real, gitEnv(filepath.Dir(real))
	return cmd, nil
}

// gitEnv is all of git's environment: no variable of the caller's can point git at another repository or program.
func gitEnv(above string) []string {
	env := []string{
		"LC_ALL=C", "GIT_NO_LAZY_FETCH=1", "GIT_ALLOW_PROTOCOL=none", "GIT_NO_REPLACE_OBJECTS=1", "GIT_OPTIONAL_LOCKS=0",
		"GIT_TERMINAL_PROMPT=0", "GIT_PAGER=cat", "GIT_ASKPASS=false", "SSH_ASKPASS=false", "GIT_SSH_COMMAND=false",
		"GIT_CEILING_DIRECTORIES=" + above,
	}
	for _, name := range []string{"PATH", "HOME", "XDG_CONFIG_HOME"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// layers runs the one process and asks it for one object after the other.
func (g *git) layers(ctx context.Context) (memory, error) {
	cmd, err := GitCommand(ctx, g.dir, "cat-file", "--batch")
	if err != nil {
		return nil, err
	}
	stderr := &subprocess.Output{Most: 4096}
	cmd.Stderr = stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("running git: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("running git: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("running git: %w", err)
	}
	g.in, g.out = in, bufio.NewReader(out)
	files, err := g.read()
	if err != nil {
		_ = cmd.Cancel() // it may be in the midst of an object that nobody reads
	}
	_ = in.Close()
	_ = cmd.Wait()
	switch {
	case errors.Is(err, errMissing):
		return nil, g.missing(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE):
		return nil, g.died(string(stderr.Bytes()))
	case err != nil:
		return nil, g.wrap(err)
	}
	return files, nil
}

func (g *git) wrap(err error) error {
	if p, ok := errors.AsType[*Problem](err); ok {
		return problem(p.Hint, "reading %q of %q: %w", g.ref, g.dir, err)
	}
	return fmt.Errorf("reading %q of %q: %w", g.ref, g.dir, err)
}

// errMissing says that the ref names no commit here.
var errMissing = errors.New("there is no such commit here")

// read walks from the commit to the files.
func (g *git) read() (memory, error) {
	commit, err := g.object(g.ref+"^{commit}", "commit", MaxFile)
	if err != nil {
		return nil, err
	}
	tree, err := g.tree(commit.id + "^{tree}")
	if err != nil {
		return nil, err
	}
	files := memory{}
	for _, e := range tree {
		switch {
		case e.name == "agentbox.toml":
			err = g.add(files, e.name, e)
		case e.name == ".agentbox" && e.kind() == unix.S_IFDIR:
			err = g.addDir(files, e)
		case e.name == ".agentbox":
			files[e.name] = e.refused(e.name)
		}
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

func (g *git) addDir(files memory, dir treeEntry) error {
	tree, err := g.tree(dir.id)
	if err != nil {
		return err
	}
	for _, e := range tree {
		if strings.HasSuffix(e.name, ".toml") {
			if err := g.add(files, ".agentbox/"+e.name, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// add reads one file into the set.
func (g *git) add(files memory, name string, e treeEntry) error {
	if _, twice := files[name]; twice {
		return fmt.Errorf("%q is there twice", name)
	}
	if len(files) == MaxFiles {
		return fmt.Errorf("there are more than %d files", MaxFiles)
	}
	if e.kind() != unix.S_IFREG {
		files[name] = e.refused(name)
		return nil
	}
	blob, err := g.object(e.id, "blob", MaxFile)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	if g.total += int64(len(blob.data)); g.total > maxTotal {
		return fmt.Errorf("the files have more than %d bytes together", maxTotal)
	}
	files[name] = entry{data: blob.data, kind: unix.S_IFREG}
	return nil
}

func (g *git) tree(name string) ([]treeEntry, error) {
	tree, err := g.object(name, "tree", maxTree)
	if err != nil {
		return nil, err
	}
	return parseTree(tree.data, len(tree.id)/2)
}

// object is one answer of `git cat-file --batch`.
type object struct {
	id   string
	data []byte
}

func (g *git) object(name, want string, limit int64) (object, error) {
	if _, err := io.WriteString(g.in, name+"\n"); err != nil {
		return object{}, err
	}
	header, err := g.out.ReadString('\n')
	if err != nil {
		return object{}, err
	}
	f := strings.Fields(header)
	if len(f) != 3 || f[1] != want {
		return object{}, unavailable(want, header)
	}
	size, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || size < 0 {
		return object{}, fmt.Errorf("git answered %q", strings.TrimSpace(header))
	}
	if size > limit {
		return object{}, problem("make it smaller", "a %s has more than %d bytes", want, limit)
	}
	data := make([]byte, size+1) // a line feed follows
	if _, err := io.ReadFull(g.out, data); err != nil {
		return object{}, err
	}
	return object{id: f[0], data: data[:size]}, nil
}

// unavailable says what an answer other than the object means.
func unavailable(want, header string) error {
	line := strings.TrimSpace(header)
	switch {
	case strings.HasSuffix(line, " ambiguous"):
		return problem("write more digits of the commit", "several objects have a name that begins so")
	case want == "commit":
		return errMissing
	case strings.HasSuffix(line, " missing"):
		return problem("this may be a partial clone: fetch the commit whole, as in `git fetch --refetch --no-filter`, or check it out once",
			"its objects are not in this clone, and nothing is fetched for this")
	}
	return fmt.Errorf("git answered %q for a %s", line, want)
}

// treeEntry is an entry of a tree object.
type treeEntry struct {
	mode     uint32
	name, id string
}

// kind is the entry's type; that of a submodule is none of a file's.
func (e treeEntry) kind() uint32 { return e.mode & unix.S_IFMT }

// refused stands for an entry that is not read.
func (e treeEntry) refused(name string) entry {
	what, kind := "something unknown", uint32(0)
	switch e.kind() {
	case unix.S_IFLNK:
		what, kind = "a symbolic link", unix.S_IFLNK
	case unix.S_IFDIR:
		what, kind = "a directory", unix.S_IFDIR
	case 0o160000:
		what = "a submodule"
	case unix.S_IFREG:
		what, kind = "a file, not a directory", unix.S_IFREG
	}
	return entry{kind: kind, err: problem("commit the file itself in its place", "reading %q: it is %s, which is not followed here", name, what)}
}

// parseTree reads a raw tree: "mode name\0" and the object's name in binary, for each entry.
func parseTree(data []byte, idLen int) ([]treeEntry, error) {
	var entries []treeEntry
	for len(data) > 0 {
		head, rest, ok := bytes.Cut(data, []byte{0})
		octal, name, named := strings.Cut(string(head), " ")
		mode, err := strconv.ParseUint(octal, 8, 32)
		if !ok || !named || err != nil || len(rest) < idLen {
			return nil, errors.New("a tree is damaged: run `git fsck`")
		}
		entries = append(entries, treeEntry{mode: uint32(mode), name: name, id: hex.EncodeToString(rest[:idLen])})
		data = rest[idLen:]
	}
	return entries, nil
}

// missing explains a ref that names no commit: in a shallow clone it may exist elsewhere.
func (g *git) missing(ctx context.Context) error {
	hint := "`git branch -a` and `git log` show what there is; `git fetch origin` gets what is new"
	if cmd, err := GitCommand(ctx, g.dir, "rev-parse", "--is-shallow-repository"); err == nil {
		if out, err := cmd.Output(); err == nil && strings.TrimSpace(string(out)) == "true" {
			hint = "this clone is shallow: have it fetch everything (actions/checkout: `fetch-depth: 0`), or run `git fetch origin main`"
		}
	}
	return g.wrap(problem(hint, "%w", errMissing))
}

// died explains why git ended before it answered.
func (g *git) died(stderr string) error {
	line, _, _ := strings.Cut(strings.TrimSpace(stderr), "\n")
	line = strings.TrimPrefix(line, "fatal: ")
	switch {
	case strings.Contains(stderr, "not a git repository"):
		return g.wrap(problem("give the top directory of a working tree", "it is not a git repository"))
	case strings.Contains(stderr, "dubious ownership"), strings.Contains(stderr, "unsafe repository"):
		return g.wrap(problem(fmt.Sprintf("if you trust it: git config --global --add safe.directory %q", g.dir), "the repository belongs to another user"))
	case strings.Contains(stderr, "safe.bareRepository"):
		return g.wrap(problem("give the top directory of a working tree", "it is a bare repository"))
	case line == "":
		line = "git ended without an answer"
	}
	return g.wrap(errors.New(strings.Map(printable, line)))
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '?'
}
