// Package e2e runs the built agentbox as a person would, on a real Podman, and looks at what comes out of it and at
// what is left.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/modelserver"
)

// limit bounds one run of agentbox: a hang is a failure with a name.
const limit = 4 * time.Minute

// box is a person's surroundings: a repository, and agentbox's own directories, all of this test alone.
type box struct {
	t    *testing.T
	repo string
	conf string // XDG_CONFIG_HOME
	env  []string
	mode string // of --workspace, for every run; "" leaves it to the profile, which is the review mode
}

func newBox(t *testing.T) *box {
	t.Helper()
	root, err := os.MkdirTemp("", "abx") // short, and without the test's name in it
	must(t, err)
	t.Cleanup(func() { removeAll(t, root) })
	b := &box{t: t, repo: filepath.Join(root, "repo"), conf: filepath.Join(root, "config")}
	must(t, os.MkdirAll(filepath.Join(b.conf, "agentbox", "profiles"), 0o700))
	b.shareContainersConfig()
	b.env = append(slices.DeleteFunc(os.Environ(), ofThisTest),
		"XDG_CONFIG_HOME="+b.conf, "XDG_STATE_HOME="+filepath.Join(root, "state"), "XDG_CACHE_HOME="+filepath.Join(root, "cache"))
	b.initRepo()
	t.Cleanup(b.nothingLeft)
	return b
}

// directBox is a box whose runs all work on the repository itself: for tests of the direct mode, and for those that look at what
// is written as it is written, or that write to the repository for the agent to see.
func directBox(t *testing.T) *box {
	t.Helper()
	b := newBox(t)
	b.mode = "direct"
	return b
}

// removeAll removes what a test made, with what the kernel left of the overlay of a run that was killed and not tidied: that
// belongs to somebody else.
func removeAll(t *testing.T, dir string) {
	t.Helper()
	if os.RemoveAll(dir) == nil {
		return
	}
	if out, err := exec.Command("podman", "unshare", "rm", "-rf", "--", dir).CombinedOutput(); err != nil {
		t.Errorf("removing %s: %v: %s", dir, err, out)
	}
}

// takeAll applies what the latest run changed, so that the test finds it in the repository.
func (b *box) takeAll() {
	b.t.Helper()
	b.agentbox("apply", "--all").exits(0)
}

// ofThisTest are variables that would make a run depend on who runs the tests.
func ofThisTest(e string) bool {
	name, _, _ := strings.Cut(e, "=")
	return strings.HasPrefix(name, "XDG_") && name != "XDG_RUNTIME_DIR" || strings.HasSuffix(name, "_API_KEY")
}

// shareContainersConfig keeps Podman's own configuration, which lives beside agentbox's.
func (b *box) shareContainersConfig() {
	dir := os.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		must(b.t, err)
		dir = filepath.Join(home, ".config")
	}
	must(b.t, os.Symlink(filepath.Join(dir, "containers"), filepath.Join(b.conf, "containers")))
}

func (b *box) initRepo() {
	must(b.t, os.MkdirAll(b.repo, 0o755))
	b.git("init", "-q", "-b", "main", ".")
	b.git("config", "user.name", "A Person")
	b.git("config", "user.email", "person@example.com")
	b.write("README.md", "# a repository\n")
	b.git("add", ".")
	b.git("commit", "-q", "-m", "start")
}

func (b *box) git(args ...string) string {
	b.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = b.repo, append(slices.Clone(b.env), "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (b *box) write(name, content string) {
	b.t.Helper()
	path := filepath.Join(b.repo, name)
	must(b.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(b.t, os.WriteFile(path, []byte(content), 0o644))
}

func (b *box) read(name string) string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.repo, name))
	must(b.t, err)
	return string(text)
}

// profile writes a profile of the person's own.
func (b *box) profile(name, text string) {
	b.t.Helper()
	must(b.t, os.WriteFile(filepath.Join(b.conf, "agentbox", "profiles", name+".toml"), []byte(text), 0o600))
}

// config writes the person's config.toml.
func (b *box) config(text string) {
	b.t.Helper()
	must(b.t, os.WriteFile(filepath.Join(b.conf, "agentbox", "config.toml"), []byte(text), 0o600))
}

// setenv adds a variable to the environment that agentbox is run in.
func (b *box) setenv(name, value string) { b.env = append(b.env, name+"="+value) }

// model starts a model server and routes hosts to it by the person's own configuration. Its key is what the
// environment variables hold that the built-in profiles name.
func (b *box) model(c modelserver.Config) *modelserver.Server {
	b.t.Helper()
	c.Key = "real-" + strings.Repeat("k3y", 12)
	for _, a := range realAgents() {
		c.Hosts = append(c.Hosts, a.host)
	}
	s, err := modelserver.Start(c)
	must(b.t, err)
	b.t.Cleanup(func() { must(b.t, s.Close()) })
	ca := filepath.Join(b.conf, "agentbox", "model-ca.pem")
	must(b.t, os.WriteFile(ca, s.CAPEM(), 0o600))
	text := "[upstream]\nca = \"" + ca + "\"\n[upstream.hosts]\n"
	for _, h := range slices.Compact(slices.Sorted(slices.Values(c.Hosts))) {
		text += "\"" + h + "\" = \"" + s.Addr() + "\"\n"
	}
	b.config(text)
	for _, a := range realAgents() {
		b.setenv(a.source, c.Key)
	}
	return s
}

// result is how a command ended.
type result struct {
	t        *testing.T
	code     int
	out, err string
}

func agentbox() string {
	if bin := os.Getenv("AGENTBOX_BIN"); bin != "" {
		return bin
	}
	return "../../bin/agentbox"
}

// command is agentbox with args, in the repository.
func (b *box) command(args ...string) *exec.Cmd {
	b.t.Helper()
	bin, err := filepath.Abs(agentbox())
	must(b.t, err)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	b.t.Cleanup(cancel)
	if b.mode != "" && len(args) > 0 && args[0] == "run" {
		args = slices.Insert(slices.Clone(args), 1, "--workspace", b.mode)
	}
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir, cmd.Env = b.repo, b.env
	return cmd
}

// agentbox runs it to its end, without a terminal.
func (b *box) agentbox(args ...string) result {
	b.t.Helper()
	return finish(b.t, b.command(args...))
}

// alone runs agentbox where no terminal is to be had, not even /dev/tty.
func (b *box) alone(args ...string) result {
	b.t.Helper()
	cmd := b.command(args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return finish(b.t, cmd)
}

// finish runs a command to its end.
func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	return finishWith(t, cmd, func() {})
}

// finishWith runs a command to its end; started is called, in a goroutine of its own, when there is a process.
func finishWith(t *testing.T, cmd *exec.Cmd, started func()) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Start()
	if err == nil {
		go started()
		err = cmd.Wait()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", strings.Join(cmd.Args, " "), err)
	}
	return result{t, cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// shell runs a script inside.
func (b *box) shell(script string) result {
	b.t.Helper()
	return b.agentbox("run", "shell", "--", "sh", "-c", script)
}

// exits checks the exit code.
func (r result) exits(code int) result {
	r.t.Helper()
	if r.code != code {
		r.t.Fatalf("exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", r.code, code, r.out, r.err)
	}
	return r
}

// says checks that stderr holds each text.
func (r result) says(texts ...string) result {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.err, text) {
			r.t.Errorf("stderr does not say %q:\n%s", text, r.err)
		}
	}
	return r
}

// prints checks stdout.
func (r result) prints(want string) result {
	r.t.Helper()
	if r.out != want {
		r.t.Errorf("stdout is %q, want %q\nstderr:\n%s", r.out, want, r.err)
	}
	return r
}

// events are those of the latest run.
func (b *box) events() []event.Event {
	b.t.Helper()
	return decode(b.t, strings.NewReader(b.agentbox("events", "--json").exits(0).out))
}

func decode(t *testing.T, r io.Reader) []event.Event {
	t.Helper()
	var out []event.Event
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var e event.Event
		must(t, json.Unmarshal(s.Bytes(), &e))
		out = append(out, e)
	}
	must(t, s.Err())
	return out
}

// ofKind filters events.
func ofKind(events []event.Event, kind event.Kind) []event.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e event.Event) bool { return e.Kind != kind })
}

// nothingLeft fails the test when a run left a container, a process, a mount, a socket or a directory.
func (b *box) nothingLeft() {
	b.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		left := b.leftovers()
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			b.t.Errorf("something is left of a run:\n%s", left)
			return
		}
		pause() // Podman's own clean-up process may outlive the container for a moment
	}
}

// pause lets others work between two looks at what the kernel offers no event for.
func pause() {
	timer := time.NewTimer(50 * time.Millisecond)
	<-timer.C
}

func (b *box) leftovers() string {
	var left strings.Builder
	add := func(what, text string) {
		if text = strings.TrimSpace(text); text != "" {
			left.WriteString(what + ": " + text + "\n")
		}
	}
	add("containers", b.podman("ps", "-a", "--filter", "label=agentbox.run", "--format", "{{.Names}} {{.Status}}"))
	add("networks", strings.ReplaceAll(b.podman("network", "ls", "--format", "{{.Name}}"), "podman", ""))
	add("volumes", b.podman("volume", "ls", "-q"))
	add("processes", processes(b.env))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(b.t, err)
	for _, line := range strings.Split(string(mounts), "\n") {
		if strings.Contains(line, "agentbox/20") {
			add("mount", line)
		}
	}
	entries, err := os.ReadDir(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "agentbox"))
	if err == nil {
		for _, e := range entries {
			add("runtime directory", e.Name())
		}
	}
	return left.String()
}

func (b *box) podman(args ...string) string {
	b.t.Helper()
	out, err := exec.Command("podman", args...).Output()
	if err != nil {
		b.t.Fatalf("podman %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// processes lists those of this test's own runs: agentbox, its shim and janitor, Podman's service and monitor. They
// are known by this test's state directory in their environment, or by their program.
func processes(env []string) string {
	var state string
	for _, e := range env {
		if strings.HasPrefix(e, "XDG_STATE_HOME=") {
			state = e
		}
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var out strings.Builder
	for _, dir := range dirs {
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(cmdline) == 0 {
			continue // it has ended, or is a zombie
		}
		args := strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
		program := filepath.Base(args[0])
		environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
		mine := strings.Contains("\x00"+string(environ), "\x00"+state+"\x00")
		if program == "conmon" || strings.HasPrefix(program, "agentbox-shim") || (mine && !isPause(args)) {
			out.WriteString(dir + " " + strings.Join(args, " ") + "\n")
		}
	}
	return out.String()
}

// isPause knows Podman's own pause process, which keeps the person's user namespace and is Podman's to end.
func isPause(args []string) bool {
	program := filepath.Base(args[0])
	return program == "catatonit" || program == "podman pause"
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
