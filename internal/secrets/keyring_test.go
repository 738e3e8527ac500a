package secrets

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// Each test here runs itself again as a process of its own, because the keyring library keeps one D-Bus connection,
// found by the environment, for a whole process.
const childEnv = "SECRETS_KEYRING_CHILD"

func isChild(t *testing.T) bool { return os.Getenv(childEnv) == t.Name() }

// child runs the test that calls it with nothing of the environment but what is given, and a home of its own.
func child(t *testing.T, env []string, wrap ...string) {
	t.Helper()
	home, err := os.MkdirTemp("", "kr") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	argv := append(wrap, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append([]string{childEnv + "=" + t.Name(), "HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + home, "LANG=C.UTF-8"}, env...)
	for i, e := range cmd.Env {
		cmd.Env[i] = strings.ReplaceAll(e, "{home}", home)
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("PASS")) {
		t.Fatalf("%v\n%s", err, out)
	}
}

// A real gnome-keyring in a private D-Bus session: what is set is got, what is deleted is gone, and once it is
// locked, with nobody there to type the password, a reading ends by itself and says why.
func TestRealKeyring(t *testing.T) {
	if !isChild(t) {
		child(t, []string{"XDG_RUNTIME_DIR={home}"}, "dbus-run-session", "--")
		return
	}
	bus := startKeyring(t)
	k, ctx := Keyring{Timeout: 20 * time.Second}, t.Context()
	if _, err := k.Get(ctx, "anthropic"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.(*KeyringError).Hint(), "agentbox secret set anthropic") {
		t.Fatalf("before it is set: %v", err)
	}
	for _, value := range []string{real, "second, with ünïcode"} {
		if err := k.Set(ctx, "anthropic", New(value)); err != nil {
			t.Fatal(err)
		}
		if got, err := k.Get(ctx, "anthropic"); err != nil || got.Reveal() != value {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	for _, name := range []string{"zeta", "lease/run/app/1"} {
		if err := k.Set(ctx, name, New("x")); err != nil {
			t.Fatal(err)
		}
	}
	lock(t, bus)
	if names, err := k.List(ctx); err != nil || !slices.Equal(names, []string{"anthropic", "zeta"}) {
		t.Errorf("listed: %q, %v", names, err)
	}
	_, err := Keyring{Timeout: time.Second}.Get(ctx, "anthropic")
	var said *KeyringError
	if !errors.As(err, &said) || !strings.Contains(said.Error(), "locked") || said.Hint() == "" {
		t.Fatalf("locked: %v", err)
	}
}

func TestRealKeyringForgets(t *testing.T) {
	if !isChild(t) {
		child(t, nil, "dbus-run-session", "--") // without XDG_RUNTIME_DIR
		return
	}
	startKeyring(t)
	k := Keyring{Timeout: 20 * time.Second}
	if err := errors.Join(k.Set(t.Context(), "a", New(real)), k.Delete(t.Context(), "a")); err != nil {
		t.Fatal(err)
	}
	_, err := k.Get(t.Context(), "a")
	if deleted := k.Delete(t.Context(), "a"); !errors.Is(err, ErrNotFound) || !errors.Is(deleted, ErrNotFound) {
		t.Fatalf("got %v, deleted again %v", err, deleted)
	}
}

// startKeyring starts an unlocked keyring and returns once it is ready: in the foreground it closes its standard output then.
// It owns its name before, and may not survive a call that comes too early.
func startKeyring(t *testing.T) *dbus.Conn {
	t.Helper()
	bus, err := dbus.ConnectSessionBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close() })
	cmd := exec.CommandContext(t.Context(), "gnome-keyring-daemon", "--unlock", "--foreground", "--components=secrets")
	cmd.Stdin, cmd.Stderr = strings.NewReader("password"), os.Stderr
	ready, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); t.Logf("the keyring: %v", cmd.Wait()) })
	_, err = io.Copy(io.Discard, ready)
	var owned bool
	if said := bus.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, "org.freedesktop.secrets").Store(&owned); !owned {
		t.Fatal("the keyring did not start", err, said)
	}
	return bus
}

func lock(t *testing.T, bus *dbus.Conn) {
	t.Helper()
	var locked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	login := dbus.ObjectPath("/org/freedesktop/secrets/collection/login")
	call := bus.Object("org.freedesktop.secrets", "/org/freedesktop/secrets").Call("org.freedesktop.Secret.Service.Lock", 0, []dbus.ObjectPath{login})
	if err := call.Store(&locked, &prompt); err != nil || !slices.Contains(locked, login) {
		t.Fatalf("locking: %v, %v", locked, err)
	}
}

// A service that takes the connection and never speaks is what a hanging keyring looks like.
func TestAKeyringThatHangs(t *testing.T) {
	if !isChild(t) {
		child(t, []string{"DBUS_SESSION_BUS_ADDRESS=unix:path={home}/bus"})
		return
	}
	l, err := net.Listen("unix", filepath.Join(os.Getenv("HOME"), "bus"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Keyring{Timeout: time.Millisecond}.Get(t.Context(), "a")
	var said *KeyringError
	if !errors.As(err, &said) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(said.Hint(), "unlock") {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Keyring{}).Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Fatalf("called off: %v", err)
	}
}

func TestNoSecretServiceInTheSession(t *testing.T) {
	if !isChild(t) {
		// a session whose bus knows of no service to start
		config := `<busconfig><type>session</type><listen>unix:tmpdir=/tmp</listen><policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
		path := filepath.Join(t.TempDir(), "bus.conf")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		child(t, nil, "dbus-run-session", "--config-file="+path, "--")
		return
	}
	_, err := Keyring{Timeout: 20 * time.Second}.Get(t.Context(), "a")
	var said *KeyringError
	if !errors.As(err, &said) || !strings.Contains(said.Error(), "no secret service") || said.Hint() == "" {
		t.Fatalf("got %v", err)
	}
}

// Without a session the library would start one by itself, and leave it running.
func TestNoSessionAndNoneIsStarted(t *testing.T) {
	if !isChild(t) {
		bin := t.TempDir()
		script := "#!/bin/sh\n: >" + bin + "/started\n"
		if err := os.WriteFile(filepath.Join(bin, "dbus-launch"), []byte(script), 0o700); err != nil { //nolint:gosec // it is a program
			t.Fatal(err)
		}
		child(t, []string{"PATH=" + bin + ":/usr/bin:/bin", "DBUS_SESSION_BUS_ADDRESS=autolaunch:"})
		if _, err := os.Stat(filepath.Join(bin, "started")); err == nil {
			t.Error("a session was started")
		}
		return
	}
	_, err := Keyring{Timeout: 20 * time.Second}.Get(t.Context(), "a")
	if err == nil || !strings.Contains(err.Error(), "no keyring here") {
		t.Fatalf("got %v", err)
	}
}

func TestASessionIsLookedForWhereTheLibraryLooks(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	if err := reachable(dir); err == nil {
		t.Error("there is none, and it was found")
	}
	if err := os.WriteFile(filepath.Join(dir, "bus"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reachable(dir); err != nil {
		t.Error(err)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "autolaunch:")
	if err := reachable(dir); err == nil {
		t.Error("autolaunch was taken")
	}
}
