package doctor

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// box is a healthy machine, as files and answers, that a test then spoils.
type box struct {
	Machine
	env      map[string]string
	programs map[string]string // name → path
	answers  map[string]string // command line → stdout
	errs     map[string]error  // command line → failure
}

func healthy(t *testing.T) *box {
	t.Helper()
	info, err := os.ReadFile("../hostinfo/testdata/info-5.4.2.json")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	b := &box{
		env:      map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000"},
		programs: map[string]string{"git": "/usr/bin/git", "podman": "/usr/bin/podman", "runsc": "/usr/bin/runsc"},
		answers: map[string]string{
			"podman info --format json": string(info),
			"podman unshare true":       "",
			"runsc --version":           "runsc version 0.0~20240729.0\nspec: 1.2.0\n",
		},
		errs: map[string]error{},
	}
	b.Machine = Machine{
		OS: "linux", Root: root, UID: os.Getuid(), User: "ann", StateDir: "/home/ann/.local/state/agentbox",
		Getenv: func(name string) string { return b.env[name] },
		LookPath: func(name string) (string, error) {
			if path, ok := b.programs[name]; ok {
				return path, nil
			}
			return "", errors.New("not found")
		},
		Output: func(_ context.Context, name string, args ...string) ([]byte, error) {
			line := strings.Join(append([]string{name}, args...), " ")
			if err := b.errs[line]; err != nil {
				return nil, err
			}
			out, ok := b.answers[line]
			if !ok {
				return nil, errors.New("unexpected command " + line)
			}
			return []byte(out), nil
		},
		Dial:    func(context.Context, string) error { return nil },
		Free:    func(string) (uint64, error) { return 100 << 30, nil },
		Keyring: func(context.Context) (bool, error) { return false, nil },
		Shim:    func() error { return nil },
	}
	if b.UID == 0 {
		b.UID = 1000
	}
	for _, name := range []string{"newuidmap", "newgidmap"} {
		path := filepath.Join(root, name)
		b.programs[name] = path
		b.write(t, name, "")
		if err := os.Chmod(path, 0o755|os.ModeSetuid); err != nil {
			t.Fatal(err)
		}
	}
	b.write(t, "etc/subuid", "ann:100000:65536\n")
	b.write(t, "etc/subgid", "ann:100000:65536\n")
	b.write(t, "proc/sys/kernel/yama/ptrace_scope", "1\n")
	if err := os.MkdirAll(filepath.Join(root, "run/user/1000"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(filepath.Join(root, "run/user/1000"), b.UID, -1); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *box) write(t *testing.T, path, content string) {
	t.Helper()
	full := filepath.Join(b.Root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// info changes Podman's description of itself.
func (b *box) info(old, replacement string) {
	const line = "podman info --format json"
	b.answers[line] = strings.ReplaceAll(b.answers[line], old, replacement)
}

func find(t *testing.T, findings []Finding, id string) Finding {
	t.Helper()
	i := slices.IndexFunc(findings, func(f Finding) bool { return f.ID == id })
	if i < 0 {
		t.Fatalf("no finding %q in %+v", id, findings)
	}
	return findings[i]
}

func TestHealthyMachine(t *testing.T) {
	findings := Run(t.Context(), healthy(t).Machine)
	for _, f := range findings {
		if f.Status != OK {
			t.Errorf("%+v", f)
		}
	}
	var out bytes.Buffer
	if err := WriteText(&out, findings); err != nil || !strings.HasSuffix(out.String(), "\n\nagents can run\n") {
		t.Errorf("got %v and\n%s", err, out.String())
	}
	if Failed(findings) {
		t.Error("a healthy machine fails")
	}
}

func TestProblems(t *testing.T) {
	tests := map[string]struct {
		spoil  func(t *testing.T, b *box)
		id     string
		status Status
		fix    string // a part of it
	}{
		"root": {func(_ *testing.T, b *box) { b.UID = 0 }, "user", Fail, "useradd"},
		"no shim": {func(_ *testing.T, b *box) { b.Shim = func() error { return errors.New("none") } },
			"shim", Fail, "make build"},
		"no podman on Debian": {func(_ *testing.T, b *box) { delete(b.programs, "podman") },
			"podman", Fail, "sudo apt install podman"},
		"no podman on Fedora": {func(t *testing.T, b *box) {
			delete(b.programs, "podman")
			b.write(t, "etc/os-release", "NAME=Fedora\nID=fedora\n")
		}, "podman", Fail, "sudo dnf install podman"},
		"no podman on Rocky": {func(t *testing.T, b *box) {
			delete(b.programs, "podman")
			b.write(t, "etc/os-release", "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n")
		}, "podman", Fail, "sudo dnf install podman"},
		"broken podman": {func(_ *testing.T, b *box) { b.errs["podman info --format json"] = errors.New("boom") },
			"podman", Fail, "podman info"},
		"chatty podman": {func(_ *testing.T, b *box) { b.answers["podman info --format json"] = "hello" },
			"podman", Fail, "install"},
		"old podman": {func(_ *testing.T, b *box) { b.info("5.4.2", "4.2.0") }, "podman", Fail, "4.3"},
		"rootful":    {func(_ *testing.T, b *box) { b.info(`"rootless": true`, `"rootless": false`) }, "rootless", Fail, "CONTAINER_HOST"},
		"no seccomp": {func(_ *testing.T, b *box) { b.info(`"seccompEnabled": true`, `"seccompEnabled": false`) }, "seccomp", Fail, "CONFIG_SECCOMP"},
		"cgroup v1":  {func(_ *testing.T, b *box) { b.info(`"v2"`, `"v1"`) }, "cgroups", Warn, "unified_cgroup_hierarchy"},
		"not memory": {func(_ *testing.T, b *box) { b.info(`"memory",`, ``) }, "controllers", Warn, "Delegate=cpu"},
		"held by v1": {func(t *testing.T, b *box) {
			b.info(`"memory",`, ``)
			b.write(t, "proc/self/cgroup", "4:cpu,memory:/x\n0::/x\n")
		}, "controllers", Warn, "cgroup_no_v1"},
		"vfs":  {func(_ *testing.T, b *box) { b.info(`"overlay"`, `"vfs"`) }, "storage", Warn, "driver = \"overlay\""},
		"runc": {func(_ *testing.T, b *box) { b.info(`"crun"`, `"runc"`) }, "runtime", Warn, "crun"},
		"old gVisor": {func(_ *testing.T, b *box) { b.answers["runsc --version"] = "runsc version 0.0~20221219.0\n" },
			"gvisor", Warn, "2024"},
		"untried gVisor": {func(_ *testing.T, b *box) { b.answers["runsc --version"] = "runsc version release-20230904.0\n" },
			"gvisor", Warn, "2024"},
		"broken gVisor": {func(_ *testing.T, b *box) { b.errs["runsc --version"] = errors.New("boom") }, "gvisor", Warn, "install"},
		"fuse-overlayfs": {func(_ *testing.T, b *box) {
			b.info(`"graphOptions": {}`, `"graphOptions": {"overlay.mount_program":{"Executable":"/usr/bin/fuse-overlayfs"}}`)
		}, "storage", Warn, "mount_program"},
		"dead socket": {func(t *testing.T, b *box) {
			b.write(t, "run/user/4242/podman/podman.sock", "")
			b.Dial = func(context.Context, string) error { return errors.New("refused") }
		}, "service", Warn, "podman.socket"},
		"no subordinate ids": {func(t *testing.T, b *box) {
			b.write(t, "etc/subuid", "bob:100000:65536\n")
			b.info(`65536`, `0`)
		}, "subids", Fail, "sudo usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ann"},
		"no git":       {func(_ *testing.T, b *box) { delete(b.programs, "git") }, "git", Fail, "apt install git"},
		"no Linux":     {func(_ *testing.T, b *box) { b.OS = "darwin" }, "system", Fail, "inside a Linux machine"},
		"no newuidmap": {func(_ *testing.T, b *box) { delete(b.programs, "newuidmap") }, "newuidmap", Fail, "apt install uidmap"},
		"powerless newgidmap": {func(t *testing.T, b *box) {
			if err := os.Chmod(b.programs["newgidmap"], 0o755); err != nil {
				t.Fatal(err)
			}
		}, "newuidmap", Fail, "chmod u+s"},
		"no user namespaces": {func(t *testing.T, b *box) {
			b.errs["podman unshare true"] = errors.New("boom")
			b.write(t, "proc/sys/user/max_user_namespaces", "0\n")
		}, "user-namespaces", Fail, "user.max_user_namespaces=15000"},
		"user namespaces for root only": {func(t *testing.T, b *box) {
			b.errs["podman unshare true"] = errors.New("boom")
			b.write(t, "proc/sys/kernel/unprivileged_userns_clone", "0\n")
		}, "user-namespaces", Fail, "kernel.unprivileged_userns_clone=1"},
		"restricted by AppArmor": {func(t *testing.T, b *box) {
			b.errs["podman unshare true"] = errors.New("boom")
			b.write(t, "proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")
		}, "user-namespaces", Fail, "kernel.apparmor_restrict_unprivileged_userns=0"},
		"user namespaces fail for an unknown reason": {func(_ *testing.T, b *box) {
			b.errs["podman unshare true"] = errors.New("boom")
		}, "user-namespaces", Fail, "podman unshare true"},
		"no runtime directory": {func(_ *testing.T, b *box) { delete(b.env, "XDG_RUNTIME_DIR") }, "runtime-dir", Fail, "enable-linger ann"},
		"runtime directory gone": {func(_ *testing.T, b *box) { b.env["XDG_RUNTIME_DIR"] = "/run/user/9" },
			"runtime-dir", Fail, "enable-linger"},
		"runtime directory of somebody else": {func(_ *testing.T, b *box) { b.UID++ }, "runtime-dir", Fail, "enable-linger"},
		"open runtime directory": {func(t *testing.T, b *box) {
			if err := os.Chmod(filepath.Join(b.Root, "run/user/1000"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, "runtime-dir", Fail, "chmod 700 /run/user/1000"},
		"long runtime directory": {func(t *testing.T, b *box) {
			long := "/run/" + strings.Repeat("x", 90)
			b.env["XDG_RUNTIME_DIR"] = long
			if err := os.Rename(filepath.Join(b.Root, "run/user/1000"), filepath.Join(b.Root, long)); err != nil {
				t.Fatal(err)
			}
		}, "runtime-dir", Fail, "enable-linger"},
		"full disk":        {func(_ *testing.T, b *box) { b.Free = func(string) (uint64, error) { return 1 << 20, nil } }, "disk", Fail, "XDG_STATE_HOME"},
		"nearly full disk": {func(_ *testing.T, b *box) { b.Free = func(string) (uint64, error) { return 1 << 30, nil } }, "disk", Warn, "XDG_STATE_HOME"},
		"unknown disk":     {func(_ *testing.T, b *box) { b.Free = func(string) (uint64, error) { return 0, errors.New("boom") } }, "disk", Warn, "XDG_STATE_HOME"},
		"no keyring": {func(_ *testing.T, b *box) {
			b.Keyring = func(context.Context) (bool, error) { return false, errors.New("boom") }
		}, "keyring", Warn, "gnome-keyring"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := healthy(t)
			test.spoil(t, b)
			findings := Run(t.Context(), b.Machine)
			f := find(t, findings, test.id)
			if f.Status != test.status || !strings.Contains(f.Fix, test.fix) {
				t.Errorf("got %+v, want %s with a fix that has %q", f, test.status, test.fix)
			}
			for _, f := range findings {
				if f.Title == "" || (f.Status == Warn || f.Status == Fail) && (f.Fix == "" || f.Detail == "") {
					t.Errorf("says too little: %+v", f)
				}
				if strings.Contains(f.Detail+f.Fix, b.Root) && f.ID != "newuidmap" {
					t.Errorf("names the test's own directory: %+v", f)
				}
			}
			if Failed(findings) != (test.status == Fail) {
				t.Errorf("failed is %v with %+v", Failed(findings), findings)
			}
		})
	}
}

func TestWorthKnowing(t *testing.T) {
	b := healthy(t)
	b.info(`"selinuxEnabled": false`, `"selinuxEnabled": true`)
	b.Keyring = func(context.Context) (bool, error) { return true, nil }
	b.Shim = nil
	b.env["CONTAINER_HOST"] = "ssh://ann:hunter2@example.com/run/podman.sock"
	delete(b.programs, "runsc")
	b.write(t, "proc/sys/kernel/yama/ptrace_scope", "0\n")
	findings := Run(t.Context(), b.Machine)
	for _, id := range []string{"selinux", "keyring", "service", "gvisor", "yama", "shim"} {
		if f := find(t, findings, id); f.Status != Info || f.Detail == "" {
			t.Errorf("got %+v", f)
		}
	}
	if f := find(t, findings, "service"); strings.Contains(f.Detail, "hunter2") || !strings.Contains(f.Detail, "example.com") {
		t.Errorf("got %+v", f)
	}
	if Failed(findings) {
		t.Error("what is worth knowing fails")
	}
}

func TestIDsOfADirectoryService(t *testing.T) {
	b := healthy(t)
	b.write(t, "etc/subuid", "")
	b.write(t, "etc/subgid", "")
	if f := find(t, Run(t.Context(), b.Machine), "subids"); f.Status != OK {
		t.Errorf("Podman maps enough ids, and yet: %+v", f)
	}
}

func TestWriteText(t *testing.T) {
	var out bytes.Buffer
	err := WriteText(&out, []Finding{
		{ID: "a", Title: "one", Status: OK, Detail: "fine"},
		{ID: "b", Title: "two", Status: Fail, Detail: "bad", Fix: "do this\nthen that"},
	})
	want := `ok    one: fine
fail  two: bad
      fix: do this
           then that

1 thing to mend before agents can run
`
	if err != nil || out.String() != want {
		t.Errorf("got %v and\n%s", err, out.String())
	}
}

func TestKeyringWithoutABus(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"nothing set":   {},
		"autolaunch":    {"DBUS_SESSION_BUS_ADDRESS": "autolaunch:"},
		"no socket":     {"XDG_RUNTIME_DIR": t.TempDir()},
		"wrong address": {"DBUS_SESSION_BUS_ADDRESS": "nonsense"},
	} {
		t.Run(name, func(t *testing.T) {
			b := healthy(t)
			b.env, b.Keyring = env, nil
			if _, err := b.secretService(t.Context()); err == nil || !strings.Contains(err.Error(), "D-Bus session") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A bus that takes the connection and then says nothing must not hold doctor up: cancelling ends the question.
func TestKeyringThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			accepted <- c
		}
		cancel()
	}()
	b := healthy(t)
	b.env["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=" + path
	if _, err := b.secretService(ctx); err == nil {
		t.Error("a silent bus answered")
	}
	(<-accepted).Close()
}

func TestInstallCommands(t *testing.T) {
	b := healthy(t)
	for release, want := range map[string]string{
		"ID=debian\n":                       "sudo apt install d",
		"ID=ubuntu\nID_LIKE=debian\n":       "sudo apt install d",
		"ID=arch\n":                         "sudo pacman -S a",
		"ID=opensuse\nID_LIKE=\"suse\"\n":   "sudo zypper install f",
		"ID=\"rhel\"\nID_LIKE=\"fedora\"\n": "sudo dnf install f",
	} {
		b.write(t, "etc/os-release", release)
		if got := b.install("d", "f", "a"); got != want {
			t.Errorf("%q: got %q, want %q", release, got, want)
		}
	}
	b.OS = "darwin"
	if got := b.install("d", "f", "a"); got != "brew install f" {
		t.Errorf("got %q", got)
	}
}

// The real machine answers every question; where the test's surroundings promise a Podman, it is found.
func TestHere(t *testing.T) {
	m := Here(filepath.Join(t.TempDir(), "not", "yet"))
	findings := Run(t.Context(), m)
	ids := map[string]bool{}
	for _, f := range findings {
		if ids[f.ID] || f.Title == "" {
			t.Errorf("twice, or without a title: %+v", f)
		}
		ids[f.ID] = true
	}
	if want := []string{"disk", "gvisor", "keyring", "podman", "shim", "user"}; !subset(want, ids) {
		t.Errorf("got %v, want at least %v", slices.Sorted(maps.Keys(ids)), want)
	}
	if promised := os.Getenv("AGENTBOX_E2E_PODMAN"); promised != "" {
		if f := find(t, findings, "podman"); f.Status != OK || !strings.HasPrefix(f.Detail, promised+".") {
			t.Errorf("want Podman %s, got %+v", promised, f)
		}
		if Failed(findings) {
			t.Errorf("got %+v", findings)
		}
	}
}

func subset(want []string, have map[string]bool) bool {
	return !slices.ContainsFunc(want, func(id string) bool { return !have[id] })
}
