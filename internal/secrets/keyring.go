package secrets

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/zalando/go-keyring"
)

// Service is the name under which agentbox keeps its secrets in a keyring.
const Service = "agentbox"

// ErrNotFound says that the keyring works and has no such secret.
var ErrNotFound = errors.New("there is no such secret in the keyring")

// KeyringError is a keyring that could not do what was asked.
type KeyringError struct {
	Text string
	Tip  string
	Err  error // ErrNotFound, a context's error, or the keyring's own
}

func (e *KeyringError) Error() string { return e.Text }

// Hint says what to do.
func (e *KeyringError) Hint() string { return e.Tip }

func (e *KeyringError) Unwrap() error { return e.Err }

// Keyring is the person's own, on this machine. Timeout bounds each call, because a locked keyring waits for a person
// who may see no question; 0 is 30 seconds, long enough to type a password.
type Keyring struct{ Timeout time.Duration }

// Get reads a secret. The error is *KeyringError and never holds the value.
func (k Keyring) Get(ctx context.Context, name string) (Secret, error) {
	var value string
	err := k.call(ctx, name, func() (err error) {
		value, err = keyring.Get(Service, name)
		return err
	})
	if err != nil {
		return Secret{}, err
	}
	return New(value), nil
}

// Set stores a secret, in place of one of that name.
func (k Keyring) Set(ctx context.Context, name string, value Secret) error {
	return k.call(ctx, name, func() error { return keyring.Set(Service, name, value.Reveal()) })
}

// Delete removes a secret.
func (k Keyring) Delete(ctx context.Context, name string) error {
	return k.call(ctx, name, func() error { return keyring.Delete(Service, name) })
}

// call runs do in a goroutine that a hanging keyring keeps for as long as the process lives: the library gives no
// way to call it off.
func (k Keyring) call(ctx context.Context, name string, do func() error) error {
	if err := reachable(filepath.Join("/run/user", strconv.Itoa(os.Getuid()))); err != nil {
		return err
	}
	timeout := k.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return explain(name, err)
	case <-ctx.Done():
		return &KeyringError{"the keyring did not answer: it is probably locked", unlockTip, ctx.Err()}
	}
}

const unlockTip = `unlock it (log in to the desktop, or "gnome-keyring-daemon --unlock"), or use a credential that comes from a variable`

// reachable sees that a D-Bus session is there before the library looks for one: where it finds none it starts one,
// a process that nobody ends. Dir is where a session's socket is when no variable says so.
func reachable(dir string) error {
	if runtime.GOOS != "linux" {
		return nil
	}
	if addr := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); addr != "" && !strings.HasPrefix(addr, "autolaunch:") {
		return nil
	}
	for _, name := range []string{"bus", "dbus-session"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil && os.Getenv("DBUS_SESSION_BUS_ADDRESS") == "" {
			return nil
		}
	}
	return &KeyringError{Text: "there is no keyring here: no D-Bus session runs", Tip: `run inside "dbus-run-session", or use a credential that comes from a variable`}
}

// explain turns what the library says into what a person can act on.
func explain(name string, err error) error {
	if err == nil {
		return nil
	}
	said := err.Error()
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(said, w) {
				return true
			}
		}
		return false
	}
	switch {
	case errors.Is(err, keyring.ErrNotFound):
		return &KeyringError{fmt.Sprintf("the keyring has no secret %q", name), "store it: agentbox secret set " + name, ErrNotFound}
	case has("org.freedesktop.secrets was not provided", "ServiceUnknown", "No such object path", "UnknownMethod"):
		return &KeyringError{"there is no keyring here: no secret service runs in the D-Bus session", "install and start gnome-keyring, KWallet or KeePassXC, or use a credential that comes from a variable", err}
	case has("unlock correct collection", "locked", "Locked", "prompt", "Prompt"):
		return &KeyringError{"the keyring is locked", unlockTip, err}
	case errors.Is(err, keyring.ErrUnsupportedPlatform):
		return &KeyringError{"there is no keyring on this system", "use a credential that comes from a variable", err}
	}
	return &KeyringError{"the keyring failed: " + said, `see "agentbox doctor"`, err}
}
