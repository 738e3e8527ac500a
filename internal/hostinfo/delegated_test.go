package hostinfo

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestDelegated(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("proc/self/cgroup", "1:name=systemd:/x\n0::/mine\n")
	if _, err := Delegated(root, 7); !errors.Is(err, ErrNoCgroup2) {
		t.Errorf("without a cgroup v2 tree: %v", err)
	}
	put("sys/fs/cgroup/mine/cgroup.controllers", "pids\n")
	if got, err := Delegated(root, 7); err != nil || !slices.Equal(got, []string{"pids"}) {
		t.Errorf("of its own cgroup: %v, %v", got, err)
	}
	put("sys/fs/cgroup/user.slice/user-7.slice/user@7.service/cgroup.controllers", "cpu memory pids\n")
	if got, err := Delegated(root, 7); err != nil || !slices.Equal(got, []string{"cpu", "memory", "pids"}) {
		t.Errorf("of the person's manager: %v, %v", got, err)
	}
}
