package hostinfo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Delegated returns the cgroup v2 controllers that a rootless container of the person can be limited by: those that
// systemd gave to the person's service manager, where Podman puts containers under it, else those of this process's
// own cgroup. root is "/" on a real machine.
func Delegated(root string, uid int) ([]string, error) {
	manager := filepath.Join(root, "sys/fs/cgroup/user.slice", fmt.Sprintf("user-%d.slice/user@%d.service", uid, uid), "cgroup.controllers")
	if data, err := os.ReadFile(manager); err == nil {
		return strings.Fields(string(data)), nil
	}
	return Controllers(root)
}
