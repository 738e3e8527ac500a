package hostinfo

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

func podmanOf(t *testing.T, version string) Podman {
	t.Helper()
	data, err := os.ReadFile("testdata/info-" + version + ".json")
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePodman(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParsePodman(t *testing.T) {
	old := Podman{
		Version: Version{4, 3, 1}, Rootless: true, CgroupVersion: "v2", CgroupManager: "cgroupfs",
		Controllers: []string{}, Runtime: "crun", RuntimePath: "/usr/bin/crun", RuntimeVersion: "1.8.1",
		Driver: "overlay", NativeOverlayDiff: true, GraphRoot: "/home/boxdev/.local/share/containers/storage",
		Socket: "/run/user/4242/podman/podman.sock", UIDs: 65537, GIDs: 65537, Seccomp: true,
	}
	if got := podmanOf(t, "4.3.1"); !reflect.DeepEqual(got, old) {
		t.Errorf("4.3.1:\n got %+v\nwant %+v", got, old)
	}
	recent := old
	recent.Version, recent.RuntimeVersion = Version{5, 4, 2}, "1.21"
	recent.CgroupManager, recent.Controllers = "systemd", []string{"cpu", "memory", "pids"}
	if got := podmanOf(t, "5.4.2"); !reflect.DeepEqual(got, recent) {
		t.Errorf("5.4.2:\n got %+v\nwant %+v", got, recent)
	}
}

func TestParsePodmanMountProgram(t *testing.T) {
	p, err := ParsePodman([]byte(`{"version":{"Version":"4.9.4-rhel"},"store":{"graphOptions":{
		"overlay.mount_program":{"Executable":"/usr/bin/fuse-overlayfs","Package":"x"}}}}`))
	if err != nil || p.MountProgram != "/usr/bin/fuse-overlayfs" || p.Version != (Version{4, 9, 4}) {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestParsePodmanRefuses(t *testing.T) {
	for _, bad := range []string{"", "Error: no", "{}", `{"version":{"Version":"new"}}`} {
		if p, err := ParsePodman([]byte(bad)); err == nil {
			t.Errorf("%q was accepted as %+v", bad, p)
		}
	}
}

func TestVersionAtLeast(t *testing.T) {
	for v, want := range map[Version]bool{{4, 2, 9}: false, {4, 3, 0}: true, {4, 10, 0}: true, {5, 0, 0}: true, {3, 9, 9}: false} {
		if got := v.AtLeast(4, 3); got != want {
			t.Errorf("%v at least 4.3: got %v", v, got)
		}
	}
}

// tree writes files, by path, below a new root.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestControllers(t *testing.T) {
	root := tree(t, map[string]string{
		"proc/self/cgroup": "0::/user.slice/a\n",
		"sys/fs/cgroup/user.slice/a/cgroup.controllers": "cpu memory pids\n",
	})
	got, err := Controllers(root)
	if want := []string{"cpu", "memory", "pids"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestControllersWithoutCgroup2(t *testing.T) {
	for name, cgroup := range map[string]string{"v1": "4:memory:/a\n", "hybrid": "4:memory:/a\n0::/a\n"} {
		root := tree(t, map[string]string{"proc/self/cgroup": cgroup})
		if got, err := Controllers(root); !errors.Is(err, ErrNoCgroup2) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestSubIDs(t *testing.T) {
	root := tree(t, map[string]string{"etc/subuid": "# a comment\nann:100000:65536\nbob:165536:65536\n1000:300000:10\nbroken\n"})
	ranges, free, err := SubIDs(root, "etc/subuid", "ann", 1000)
	want := []Range{{100000, 65536}, {300000, 10}}
	if err != nil || !slices.Equal(ranges, want) || free != 300010 {
		t.Errorf("got %v, %d, %v, want %v, 300010", ranges, free, err, want)
	}
	ranges, free, err = SubIDs(root, "etc/subgid", "ann", 1000)
	if err != nil || len(ranges) != 0 || free != 100000 {
		t.Errorf("without a file: got %v, %d, %v", ranges, free, err)
	}
}
