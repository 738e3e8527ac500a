package docs

import (
	"bufio"
	"bytes"
	"context"
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

	"agentbox/internal/modelserver"
)

// documented is the person that the documentation speaks to: a home of the test's own with ~/src/billing in it, where commands are
// typed; a model server behind the hosts of the built-in profiles; a keyring; the pinned agents and agentbox on the PATH.
type documented struct {
	t    *testing.T
	root string
	home string
	env  []string
	said string // by the last command
}

// limit bounds one block of commands: a hang is a failure with a name.
const limit = 4 * time.Minute

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newDocumented(t *testing.T) *documented {
	t.Helper()
	root, err := os.MkdirTemp("", "abx")
	must(t, err)
	d := &documented{t: t, root: root, home: filepath.Join(root, "home")}
	t.Cleanup(d.remove)
	own, err := os.UserHomeDir()
	must(t, err)
	for _, dir := range []string{"home/.config/agentbox/profiles", "home/src/billing", "bin"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	containers := filepath.Join(own, ".config", "containers")
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		containers = filepath.Join(dir, "containers")
	}
	must(t, os.Symlink(containers, filepath.Join(d.home, ".config", "containers")))
	d.env = append(slices.DeleteFunc(os.Environ(), ofThisTest), "HOME="+d.home, "PATH="+d.path(),
		"XDG_DATA_HOME="+filepath.Join(own, ".local", "share")) // where Podman's storage is
	d.model()
	d.keyring()
	if out, code := d.script(prelude + repository); code != 0 {
		t.Fatalf("making the repository: %s", out)
	}
	return d
}

// ofThisTest are variables that would make what is shown depend on who runs the tests.
func ofThisTest(e string) bool {
	name, _, _ := strings.Cut(e, "=")
	return strings.HasPrefix(name, "XDG_") && name != "XDG_RUNTIME_DIR" || strings.HasSuffix(name, "_API_KEY") || name == "HOME" || name == "PATH" ||
		name == "CI"
}

// path leads to agentbox and the pinned agents.
func (d *documented) path() string {
	program := os.Getenv("AGENTBOX_BIN")
	if program == "" {
		program = "../../bin/agentbox"
	}
	program, err := filepath.Abs(program)
	must(d.t, err)
	must(d.t, os.Symlink(program, filepath.Join(d.root, "bin", "agentbox")))
	agents := os.Getenv("AGENTBOX_TEST_AGENTS")
	if agents == "" {
		agents = "/var/cache/agentbox-test/agents"
	}
	agents = filepath.Join(agents, "node_modules", ".bin")
	if _, err := os.Stat(agents); err != nil {
		d.t.Fatalf("the agents are not installed: run test/agents/install (%v)", err)
	}
	return filepath.Join(d.root, "bin") + ":" + agents + ":" + os.Getenv("PATH")
}

// model starts a model server, to which the person's own configuration routes the hosts of the built-in profiles.
func (d *documented) model() {
	key := "real-" + strings.Repeat("k3y", 12)
	s, err := modelserver.Start(modelserver.Config{Key: key})
	must(d.t, err)
	d.t.Cleanup(func() { must(d.t, s.Close()) })
	own := filepath.Join(d.home, ".config", "agentbox")
	must(d.t, os.WriteFile(filepath.Join(own, "model-ca.pem"), s.CAPEM(), 0o600))
	text := "[upstream]\nca = \"" + filepath.Join(own, "model-ca.pem") + "\"\n[upstream.hosts]\n"
	for _, h := range []string{"api.anthropic.com", "api.openai.com", "generativelanguage.googleapis.com"} {
		text += "\"" + h + "\" = \"" + s.Addr() + "\"\n"
	}
	must(d.t, os.WriteFile(filepath.Join(own, "config.toml"), []byte(text), 0o600))
	d.env = append(d.env, "ANTHROPIC_API_KEY="+key, "OPENAI_API_KEY="+key, "GEMINI_API_KEY="+key)
}

// keyring starts a bus, and an unlocked keyring on it.
func (d *documented) keyring() {
	place := filepath.Join(d.root, "keyring")
	must(d.t, os.Mkdir(place, 0o700))
	address := "unix:path=" + filepath.Join(place, "bus")
	bus := d.begin(nil, "dbus-daemon", "--session", "--nofork", "--print-address=1", "--address="+address)
	_, err := bufio.NewReader(bus).ReadString('\n') // it says where it listens once it does
	must(d.t, err)
	ring := d.begin([]string{"HOME=" + place, "XDG_RUNTIME_DIR=" + place, "PATH=" + os.Getenv("PATH"), "DBUS_SESSION_BUS_ADDRESS=" + address},
		"gnome-keyring-daemon", "--unlock", "--foreground", "--components=secrets")
	_, err = io.Copy(io.Discard, ring) // it closes its output once it is ready
	must(d.t, err)
	d.env = append(d.env, "DBUS_SESSION_BUS_ADDRESS="+address)
}

// begin starts a program that ends with the test; a password is what it is given to read.
func (d *documented) begin(env []string, name string, args ...string) io.Reader {
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdin = env, strings.NewReader("password")
	out, err := cmd.StdoutPipe()
	must(d.t, err)
	must(d.t, cmd.Start())
	d.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return out
}

// script runs a bash script without a terminal, and gives all that it prints.
func (d *documented) script(text string) (output string, code int) {
	d.t.Helper()
	file := filepath.Join(d.root, "script")
	must(d.t, os.WriteFile(file, []byte(text), 0o600))
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", file)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = d.home, d.env, &syscall.SysProcAttr{Setsid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		d.t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// remove takes all of it away, with what the kernel left of an overlay, which belongs to somebody else.
func (d *documented) remove() {
	if os.RemoveAll(d.root) == nil {
		return
	}
	if out, err := exec.Command("podman", "unshare", "rm", "-rf", "--", d.root).CombinedOutput(); err != nil {
		d.t.Errorf("removing %s: %v: %s", d.root, err, out)
	}
}
