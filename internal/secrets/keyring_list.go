package secrets

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// List names what agentbox has stored for the person, sorted. It reads no value and needs no unlocked keyring. What runs
// keep there for themselves is left out.
func (k Keyring) List(ctx context.Context) ([]string, error) {
	if runtime.GOOS != "linux" {
		return nil, &KeyringError{"this keyring can't be listed", "look at it with the system's own program, under the name " + Service, errors.ErrUnsupported}
	}
	var names []string
	err := k.call(ctx, "", func() (err error) {
		names, err = listItems(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, leaseAccounts) })
	slices.Sort(names)
	return slices.Compact(names), nil
}

const secretService = "org.freedesktop.secrets"

func listItems(ctx context.Context) ([]string, error) {
	bus, err := dbus.ConnectSessionBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer func() { _ = bus.Close() }()
	var unlocked, locked []dbus.ObjectPath
	search := bus.Object(secretService, "/org/freedesktop/secrets").CallWithContext(ctx, "org.freedesktop.Secret.Service.SearchItems", 0, map[string]string{"service": Service})
	if err := search.Store(&unlocked, &locked); err != nil {
		return nil, err
	}
	var names []string
	for _, item := range slices.Concat(unlocked, locked) {
		v, err := bus.Object(secretService, item).GetProperty("org.freedesktop.Secret.Item.Attributes")
		if err != nil {
			return nil, err
		}
		var attributes map[string]string
		if err := v.Store(&attributes); err != nil {
			return nil, err
		}
		names = append(names, attributes["username"])
	}
	return names, nil
}
