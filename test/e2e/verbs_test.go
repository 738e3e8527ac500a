package e2e

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"

	"agentbox/internal/event"
	"agentbox/internal/modelserver"
)

// decodeJSON reads what a verb printed with --json.
func decodeJSON[T any](r result) T {
	r.t.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.out), &v); err != nil {
		r.t.Fatalf("%v in %q\n%s", err, r.out, r.err)
	}
	return v
}

// psRow is what ps --json prints of a run.
type psRow struct {
	ID, Profile, Repo string
	Live              bool
	End               *struct {
		ExitCode int    `json:"exit_code"`
		Reason   string `json:"reason"`
	}
	Status *struct {
		State           string
		Allowed, Denied int64
	}
}

func TestPs(t *testing.T) {
	b := newBox(t)
	b.agentbox("ps").exits(0).prints("").says("nothing runs")
	if out := b.agentbox("ps", "--json").exits(0).out; out != "[]\n" {
		t.Errorf("got %q", out)
	}
	l := b.start(`curl -s -o /dev/null https://evil.test/; echo ready; while :; do read x </proc/uptime; done`)
	rows := decodeJSON[[]psRow](b.agentbox("ps", "--json").exits(0))
	if len(rows) != 1 || !rows[0].Live || rows[0].Profile != "shell" || rows[0].Repo != b.repo || rows[0].Status == nil ||
		rows[0].Status.State != "running" || rows[0].Status.Allowed != 0 || rows[0].Status.Denied != 1 {
		t.Fatalf("got %+v", rows)
	}
	text := b.agentbox("ps").exits(0).out
	if fields := strings.Fields(strings.Split(text, "\n")[1]); fields[0] != rows[0].ID || fields[2] != "running" || fields[4] != "0" || fields[5] != "1" {
		t.Errorf("got %q", text)
	}
	l.signal(syscall.SIGTERM)
	l.end().exits(143)
	b.agentbox("ps").exits(0).prints("")
	ended := decodeJSON[[]psRow](b.agentbox("ps", "-a", "--json").exits(0))
	if len(ended) != 1 || ended[0].Live || ended[0].End == nil || ended[0].End.ExitCode != 143 {
		t.Errorf("got %+v", ended)
	}
}

func TestStopOfWhatDoesNotRun(t *testing.T) {
	b := newBox(t)
	b.agentbox("stop", "nonsense").exits(1).prints("").says(`no run "nonsense"`, "agentbox ps")
	b.shell("true").exits(0)
	id := decodeJSON[[]psRow](b.agentbox("ps", "--all", "--json").exits(0))[0].ID
	b.agentbox("stop", id).exits(1).says("has ended already")
	b.agentbox("events", "nonsense").exits(1).says(`no run "nonsense"`)
}

func TestEvents(t *testing.T) {
	b := newBox(t)
	b.agentbox("events").exits(1).says("there is no run yet")
	l := b.start(`curl -s -o /dev/null https://evil.test/; echo ready; while :; do read x </proc/uptime; done`)
	id := b.liveRun()
	follow := b.launch("events", "-f", "--json")
	first, err := follow.out.ReadString('\n')
	must(t, err)
	if !strings.Contains(first, `"run.start"`) {
		t.Errorf("it begins with %s", first)
	}
	b.agentbox("stop", id).exits(0)
	l.end().exits(137)
	rest := decode(t, strings.NewReader(follow.end().exits(0).out))
	kinds := []event.Kind{}
	for _, e := range rest {
		kinds = append(kinds, e.Kind)
	}
	if want := []event.Kind{event.RunSelfTest, event.NetRequest, event.RunStop, event.RunEnd}; !slices.Equal(kinds, want) {
		t.Errorf("got %v, want %v", kinds, want)
	}
	text := b.agentbox("events", id).exits(0).out
	for _, want := range []string{"run.start", "net.request", "deny", "evil.test:443", "run.stop", "stopped by agentbox stop", "run.end", "exit 137"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if got := b.agentbox("events", "-f", id).exits(0).out; got != text {
		t.Errorf("followed after the end:\n%s\nwant\n%s", got, text)
	}
}

func TestVersion(t *testing.T) {
	b := newBox(t)
	v := decodeJSON[map[string]string](b.agentbox("version", "--json").exits(0))
	if v["agentbox"] == "" || v["podman_bindings"] != "v5.8.3" || v["goproxy"] != "v1.9.2" || !strings.HasPrefix(v["go"], "go1.") {
		t.Errorf("got %v", v)
	}
	if out := b.agentbox("version").exits(0).out; !strings.HasPrefix(out, "agentbox "+v["agentbox"]) {
		t.Errorf("got %q", out)
	}
}

func TestDoctor(t *testing.T) {
	b := newBox(t)
	text := b.agentbox("doctor").exits(0).out
	type finding struct{ ID, Status, Detail, Fix string }
	findings := decodeJSON[[]finding](b.agentbox("doctor", "--json").exits(0))
	for _, f := range findings {
		if f.Status == "fail" || f.Status == "warn" && f.Fix == "" {
			t.Errorf("got %+v", f)
		}
		if f.ID == "podman" && (f.Status != "ok" || !strings.Contains(text, f.Detail)) {
			t.Errorf("got %+v and %s", f, text)
		}
	}
	if len(findings) < 8 {
		t.Errorf("only %d things are looked at", len(findings))
	}
	b.setenv("PATH", b.toolbox(t))
	if out := b.agentbox("doctor").exits(1).out; !strings.Contains(out, "not installed") {
		t.Errorf("without Podman:\n%s", out)
	}
}

func TestDryRunMakesNothing(t *testing.T) {
	b := newBox(t)
	b.profile("cred", withCredential)
	b.setenv("MY_TOKEN", "v4lue-of-mine")
	before := snapshot(t, b.repo)
	plan := func(args ...string) (hash string) {
		r := b.agentbox(append([]string{"run", "cred", "--dry-run", "--json"}, args...)...).exits(0)
		if strings.Contains(r.out, "v4lue-of-mine") {
			t.Errorf("the plan holds the value:\n%s", r.out)
		}
		hash, _ = decodeJSON[map[string]any](r)["hash"].(string)
		return hash
	}
	one, two, other := plan(), plan(), plan("--workspace", "readonly")
	if one == "" || one != two || one == other {
		t.Errorf("the hashes are %q, %q and with another mode %q", one, two, other)
	}
	text := b.agentbox("run", "cred", "--dry-run").exits(0).out
	for _, want := range []string{"review: it works in a copy", "allow api.anthropic.com", "mine from your $MY_TOKEN, only to api.anthropic.com", "a placeholder in $MODEL_KEY", one} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if after := snapshot(t, b.repo); after != before {
		t.Errorf("the repository has changed:\n%s\nbefore\n%s", after, before)
	}
	b.agentbox("ps", "--all").exits(0).prints("")
	b.nothingLeft()
}

// keyring starts a bus and an unlocked keyring of this test's own. It returns a way to lock it.
func (b *box) keyring() (lock func()) {
	t := b.t
	t.Helper()
	home := filepath.Join(filepath.Dir(b.repo), "keyring")
	must(t, os.MkdirAll(home, 0o700))
	address := "unix:path=" + filepath.Join(home, "bus")
	background(t, "dbus-daemon", "--session", "--nofork", "--address="+address)
	appears(t, filepath.Join(home, "bus"))
	bus, err := dbus.Connect(address)
	must(t, err)
	t.Cleanup(func() { _ = bus.Close() })
	cmd := exec.Command("gnome-keyring-daemon", "--unlock", "--foreground", "--components=secrets")
	cmd.Env = []string{"HOME=" + home, "XDG_RUNTIME_DIR=" + home, "PATH=" + os.Getenv("PATH"), "DBUS_SESSION_BUS_ADDRESS=" + address}
	cmd.Stdin = strings.NewReader("password")
	ready, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	_, err = io.Copy(io.Discard, ready) // it closes its output once it is ready; a call that comes earlier may be its end
	must(t, err)
	b.setenv("DBUS_SESSION_BUS_ADDRESS", address)
	return func() {
		t.Helper()
		login := []dbus.ObjectPath{"/org/freedesktop/secrets/collection/login"}
		must(t, bus.Object("org.freedesktop.secrets", "/org/freedesktop/secrets").Call("org.freedesktop.Secret.Service.Lock", 0, login).Err)
	}
}

const fromKeyring = `version = 1
[agent]
command = ["sh"]
[[network.rule]]
action = "allow"
host = "api.anthropic.com"
[[credential]]
name = "mine"
source = { keyring = "mine" }
hosts = ["api.anthropic.com"]
header = "x-api-key: {token}"
env = "MODEL_KEY"
`

// ask makes one request with the placeholder and goes on whatever comes of it.
const ask = `curl -s -o /dev/null -w '%{http_code}\n' -H "x-api-key: $MODEL_KEY" https://api.anthropic.com/v1/models; echo on`

func TestASecretOfTheKeyring(t *testing.T) {
	b := newBox(t)
	b.model(modelserver.Config{})
	b.profile("ring", fromKeyring)
	lock := b.keyring()
	value := "real-" + strings.Repeat("k3y", 12)

	b.agentbox("run", "ring", "--", "-c", ask).exits(0).prints("403\non\n").says("agentbox secret set mine")
	set := b.command("secret", "set", "mine")
	set.Stdin = strings.NewReader(value + "\n")
	out, err := set.CombinedOutput()
	if err != nil || strings.Contains(string(out), value) {
		t.Fatalf("%v: %s", err, out)
	}
	b.agentbox("run", "ring", "--", "-c", ask).exits(0).prints("200\non\n").says("credential  mine  used 1 time")

	lock()
	b.agentbox("run", "ring", "--", "-c", ask).exits(0).prints("403\non\n").says("REFUSED 1 time")
	refused := ofKind(b.events(), event.CredentialRefused)
	if len(refused) != 1 || refused[0].Credential != "mine" || !strings.Contains(refused[0].Reason, "locked") {
		t.Errorf("got %+v", refused)
	}
}

func TestRemovingASecret(t *testing.T) {
	b := newBox(t)
	b.keyring()
	b.agentbox("secret", "rm", "mine").exits(1).says("mine")
	set := b.command("secret", "set", "mine")
	set.Stdin = strings.NewReader("v4lue")
	must(t, set.Run())
	b.agentbox("secret", "rm", "mine").exits(0).says(`removed "mine"`)
	b.agentbox("secret", "rm", "mine").exits(1)
	b.agentbox("secret", "set", "mine").exits(2).says("the secret is empty")
	b.agentbox("secret", "set", "no such name!").exits(2)
}

func TestWithoutAKeyring(t *testing.T) {
	b := newBox(t)
	b.model(modelserver.Config{})
	b.profile("ring", fromKeyring)
	b.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/bus")
	set := b.command("secret", "set", "mine")
	set.Stdin = strings.NewReader("v4lue-of-mine")
	out, err := set.CombinedOutput()
	if err == nil || set.ProcessState.ExitCode() != 1 || strings.Contains(string(out), "v4lue") || !strings.Contains(string(out), "keyring") {
		t.Errorf("%v: %s", err, out)
	}
	b.agentbox("run", "ring", "--", "-c", ask).exits(0).prints("403\non\n").says("keyring")
	refused := ofKind(b.events(), event.CredentialRefused)
	if len(refused) != 1 || refused[0].Credential != "mine" || !strings.Contains(refused[0].Reason, "keyring") {
		t.Errorf("got %+v", refused)
	}
}
