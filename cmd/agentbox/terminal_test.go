package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"agentbox/internal/session"
)

// home is a person's surroundings with a repository in them.
type home struct {
	t    *testing.T
	dir  string
	repo string
	env  []string
}

func newHome(t *testing.T) home {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	h := home{t: t, dir: dir, repo: filepath.Join(dir, "repo")}
	h.env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR=", "XDG_STATE_HOME=", "XDG_CONFIG_HOME=", "XDG_CACHE_HOME=", "NO_COLOR=", "TERM=xterm-256color", "SSH_TTY=",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	h.write("repo/main.go", "package main\n\nfunc old() {}\n")
	h.command("git", "init", "-q", ".").run()
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h home) write(name, content string) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	must(h.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(h.t, os.WriteFile(path, []byte(content), 0o644))
}

func (h home) read(name string) string {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(h.dir, name))
	must(h.t, err)
	return string(data)
}

// program is one in the repository.
type program struct {
	t *testing.T
	*exec.Cmd
}

func (h home) command(name string, args ...string) program {
	cmd := exec.CommandContext(h.t.Context(), name, args...)
	cmd.Dir, cmd.Env = h.repo, h.env
	return program{h.t, cmd}
}

func (c program) run() string {
	c.t.Helper()
	out, err := c.CombinedOutput()
	if err != nil {
		c.t.Fatalf("%v: %v\n%s", c.Args, err, out)
	}
	return string(out)
}

// left makes a run that left what lies in "upper". end ends it.
func (h home) left() (s *session.Session, end func()) {
	h.t.Helper()
	vars := map[string]string{}
	for _, e := range h.env {
		name, value, _ := strings.Cut(e, "=")
		vars[name] = value
	}
	paths, err := session.FindPaths(func(name string) (string, bool) { v := vars[name]; return v, v != "" }, os.Getuid())
	must(h.t, err)
	s, err = session.Create(paths, session.Meta{Profile: "claude", Repo: h.repo, Started: time.Now().UTC()}, rand.Reader)
	must(h.t, err)
	must(h.t, layWork(filepath.Join(s.Dir, session.WorkDir), h.repo, s.Meta.ID, filepath.Join(h.dir, "upper")))
	ended := false
	end = func() {
		if !ended {
			ended = true
			must(h.t, s.End(session.End{Time: time.Now().UTC()}))
		}
	}
	h.t.Cleanup(end)
	return s, end
}

// tty is a program on a terminal.
type tty struct {
	t    *testing.T
	cmd  *exec.Cmd
	f    *os.File
	all  bytes.Buffer
	seen int
}

func (c program) onTerminal(cols, rows uint16) *tty {
	c.t.Helper()
	f, err := pty.StartWithSize(c.Cmd, &pty.Winsize{Cols: cols, Rows: rows})
	must(c.t, err)
	c.t.Cleanup(func() { _ = f.Close() })
	return &tty{t: c.t, cmd: c.Cmd, f: f}
}

// until reads until the terminal shows text that it did not show before.
func (t *tty) until(text string) {
	t.t.Helper()
	buf := make([]byte, 4096)
	for !strings.Contains(t.all.String()[t.seen:], text) {
		n, err := t.f.Read(buf)
		t.all.Write(buf[:n])
		if err != nil {
			t.t.Fatalf("waiting for %q: %v\n%q", text, err, t.all.String()[t.seen:])
		}
	}
	t.seen += strings.Index(t.all.String()[t.seen:], text) + len(text)
}

func (t *tty) typed(keys string) {
	t.t.Helper()
	_, err := io.WriteString(t.f, keys)
	must(t.t, err)
}

// ended reads the rest and gives it with the exit code.
func (t *tty) ended() (rest string, code int) {
	t.t.Helper()
	data, _ := io.ReadAll(t.f) // a terminal's end is EIO
	t.all.Write(data)
	_ = t.cmd.Wait()
	return t.all.String()[t.seen:], t.cmd.ProcessState.ExitCode()
}

// On a terminal a patch shows what a terminal would obey; in a pipe it is what was written, byte by byte.
func TestDiffIsRawInAPipeOnly(t *testing.T) {
	h := newHome(t)
	evil := "x\x1b[2J\u202ey\xff\r"
	h.write("upper/main.go", evil+"\n")
	_, end := h.left()
	end()
	if out := h.command("agentbox", "diff").run(); !strings.Contains(out, "+"+evil+"\n") {
		t.Errorf("in a pipe: %q", out)
	}
	for _, env := range []string{"NO_COLOR=1", "NO_COLOR="} {
		c := h.command("agentbox", "diff")
		c.Env = append(c.Env, env)
		out, code := c.onTerminal(80, 24).ended()
		if code != 0 || !strings.Contains(out, `+x\u001b[2J\u202ey\xff\u000d`) || strings.Contains(out, "\x1b[2J") || strings.Contains(out, "\u202e") {
			t.Errorf("on a terminal: exit %d: %q", code, out)
		}
		if colour := strings.Contains(out, "\x1b["); colour != (env == "NO_COLOR=") {
			t.Errorf("with %s: %q", env, out)
		}
	}
}

// With --watch every change shows by itself, and the end of the run ends it.
func TestDiffWatches(t *testing.T) {
	h := newHome(t)
	must(t, os.Mkdir(filepath.Join(h.dir, "upper"), 0o755))
	s, end := h.left()
	c := h.command("agentbox", "diff", "--watch", "--json")
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	lines := bufio.NewScanner(out)
	for _, step := range []struct{ file, want string }{
		{"", `"live":true,"changes":[]}`}, {"a.txt", `"path":"a.txt"`}, {"b.txt", `"path":"b.txt"`},
	} {
		if step.file != "" {
			must(t, os.WriteFile(filepath.Join(s.Dir, "work/tree/upper", step.file), []byte("x\n"), 0o644))
		}
		for lines.Scan() && !strings.Contains(lines.Text(), step.want) {
		}
		if !strings.Contains(lines.Text(), step.want) {
			t.Fatalf("after %q: %q lacks %q", step.file, lines.Text(), step.want)
		}
	}
	end()
	for lines.Scan() {
	}
	must(t, c.Wait())
}
