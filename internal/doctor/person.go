package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/godbus/dbus/v5"
)

// system says at once where no agent runs, whatever else is there.
func (m Machine) system() Finding {
	f := Finding{ID: "system", Title: "system", Status: OK, Detail: m.OS}
	if m.OS != "linux" {
		f.Status, f.Detail = Fail, "agents run on Linux only, and this is "+m.OS
		f.Fix = "run agentbox inside a Linux machine of yours; here it checks and explains profiles"
	}
	return f
}

func (m Machine) user() Finding {
	f := Finding{ID: "user", Title: "user", Status: OK, Detail: m.User}
	if m.UID == 0 {
		f.Status, f.Detail = Fail, "agentbox refuses to run as root: what an agent breaks out of would then be root's"
		f.Fix = "run it as an ordinary user; on a machine that has none: sudo useradd -m -s /bin/bash dev && sudo loginctl enable-linger dev && sudo machinectl shell dev@"
	}
	return f
}

func (m Machine) shim() Finding {
	f := Finding{ID: "shim", Title: "built-in PID 1 of containers", Status: OK, Detail: "present"}
	if m.Shim == nil {
		f.Status, f.Detail = Info, "not looked for"
		return f
	}
	if err := m.Shim(); err != nil {
		f.Status, f.Detail, f.Fix = Fail, err.Error(), "make build (a plain `go build` leaves it out), or install a release"
	}
	return f
}

// longestSocket is what agentbox adds to the runtime directory for its longest socket, and unix sockets hold 107.
const longestSocket = len("/agentbox/20060102-150405-abcdef/control.sock")

func (m Machine) runtimeDir() Finding {
	dir := m.Getenv("XDG_RUNTIME_DIR")
	f := Finding{ID: "runtime-dir", Title: "XDG_RUNTIME_DIR", Status: OK, Detail: dir}
	fail := func(detail, fix string) Finding {
		f.Status, f.Detail, f.Fix = Fail, detail, fix
		return f
	}
	login := fmt.Sprintf("log in through systemd (ssh or the console, not su): sudo loginctl enable-linger %s, then export XDG_RUNTIME_DIR=/run/user/%d", m.User, m.UID)
	if dir == "" {
		return fail("it is not set, so sockets have no private place", login)
	}
	info, err := os.Stat(filepath.Join(m.Root, dir))
	if err != nil {
		return fail(dir+" cannot be read, or is not there", login)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || ok && int(s.Uid) != m.UID {
		return fail(fmt.Sprintf("%s is not a directory of yours", dir), login)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fail(fmt.Sprintf("%s can be entered by others (mode %o)", dir, info.Mode().Perm()), "chmod 700 "+dir)
	}
	if len(dir)+longestSocket > 107 {
		return fail(fmt.Sprintf("%s is too long for the sockets in it (at most %d bytes)", dir, 107-longestSocket), login)
	}
	return f
}

func (m Machine) keyring(ctx context.Context) Finding {
	f := Finding{ID: "keyring", Title: "keyring", Status: OK, Detail: "it answers"}
	check := m.Keyring
	if check == nil {
		if m.OS != "linux" {
			f.Status, f.Detail = Info, "not asked on this system"
			return f
		}
		check = m.secretService
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	locked, err := check(ctx)
	switch {
	case err != nil:
		f.Status, f.Detail = Warn, fmt.Sprintf("%v; credentials can come from the environment only", err)
		f.Fix = m.install("gnome-keyring dbus-user-session", "gnome-keyring", "gnome-keyring") +
			", then log in again; without a desktop: dbus-run-session -- sh -c 'gnome-keyring-daemon --unlock --components=secrets; exec bash'"
	case locked:
		f.Status, f.Detail = Info, "it is locked, and will ask for its password at the first use"
	}
	return f
}

// secretService asks the session bus for the Secret Service. It starts it where the bus knows how, and unlocks
// nothing.
func (m Machine) secretService(ctx context.Context) (locked bool, err error) {
	address := m.Getenv("DBUS_SESSION_BUS_ADDRESS")
	if dir := m.Getenv("XDG_RUNTIME_DIR"); address == "" && dir != "" {
		address = "unix:path=" + filepath.Join(dir, "bus")
	}
	if address == "" || strings.HasPrefix(address, "autolaunch:") {
		return false, errors.New("there is no D-Bus session")
	}
	conn, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return false, fmt.Errorf("there is no D-Bus session: %w", err)
	}
	defer func() { _ = conn.Close() }() // only asked
	collection := conn.Object("org.freedesktop.secrets", "/org/freedesktop/secrets/aliases/default")
	var value dbus.Variant
	err = collection.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0,
		"org.freedesktop.Secret.Collection", "Locked").Store(&value)
	if ctx.Err() != nil {
		return false, errors.New("the Secret Service gave no answer in time")
	}
	if err != nil {
		return false, fmt.Errorf("no Secret Service with a default keyring is on the D-Bus session: %w", err)
	}
	locked, _ = value.Value().(bool)
	return locked, nil
}

// Below enough, a run may fill the disk before it ends; below least, it can hardly begin.
const (
	least  = 100 << 20
	enough = 2 << 30
)

func (m Machine) disk() Finding {
	f := Finding{ID: "disk", Title: "room for runs", Status: OK}
	dir := existing(filepath.Join(m.Root, m.StateDir))
	n, err := m.Free(dir)
	shown, _ := filepath.Rel(m.Root, dir)
	shown = filepath.Join("/", shown)
	switch {
	case err != nil:
		f.Status, f.Detail = Warn, err.Error()
	case n < least:
		f.Status = Fail
		f.Detail = fmt.Sprintf("%d MB are free in %s", n>>20, shown)
	case n < enough:
		f.Status = Warn
		f.Detail = fmt.Sprintf("%d MB are free in %s", n>>20, shown)
	default:
		f.Detail = fmt.Sprintf("%d GB are free in %s", n>>30, shown)
	}
	if f.Status != OK {
		f.Fix = "free some space on that file system, or point XDG_STATE_HOME at another"
	}
	return f
}

// existing returns dir or its nearest ancestor that exists.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}
