package podman

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"agentbox/internal/run"
	"agentbox/internal/run/runtest"
)

// root makes the least of a root directory on the host's /usr.
func root(t *testing.T) string {
	dir := t.TempDir()
	for _, d := range []string{"usr", "proc", "sys", "dev", "tmp", "var", "var/tmp", "run", "etc", "mnt", "work"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		must(t, os.Symlink("usr/"+d, filepath.Join(dir, d)))
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func engine(t *testing.T) *Engine {
	t.Helper()
	e, err := Connect(t.Context(), Options{Dir: socketDir(t)})
	must(t, err)
	t.Cleanup(e.Close)
	return e
}

// socketDir is short: a unix socket's path has at most 107 bytes.
func socketDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "abx")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

func maker(t *testing.T) runtest.Maker {
	profile := filepath.Join(t.TempDir(), "seccomp.json")
	must(t, WriteSeccomp(profile))
	info, err := os.Open("/proc/self/mountinfo")
	must(t, err)
	defer func() { must(t, info.Close()) }()
	usr, err := run.SealSubmounts([]run.Mount{{Type: "bind", Source: "/usr", Target: "/usr", ReadOnly: true}}, info)
	must(t, err)
	return func(t *testing.T, name, script string) run.Spec {
		return run.Spec{Name: name, Rootfs: root(t), Command: []string{"/bin/sh", "-c", script}, Hostname: "box",
			UID: os.Getuid(), GID: os.Getgid(), Seccomp: profile,
			Mounts: append(slices.Clone(usr), run.Mount{Type: "tmpfs", Target: "/tmp", Options: []string{"size=64m", "mode=1777"}})}
	}
}

func TestContract(t *testing.T) {
	runtest.Contract(t, engine(t), maker(t))
}

// TestContractOnGVisor runs the suite on runsc where there is one that can be used: with Podman 5.4 there must be.
func TestContractOnGVisor(t *testing.T) {
	runsc, problem := FindGVisor(t.Context())
	if problem != "" {
		if os.Getenv("AGENTBOX_E2E_PODMAN") == "5.4" {
			t.Fatalf("gVisor can't be used: %s", problem)
		}
		if !strings.Contains(problem, "not installed") && !strings.Contains(problem, "too old") {
			t.Errorf("gVisor can't be used, and the reason is %q", problem)
		}
		return
	}
	dir := socketDir(t)
	wrapper, err := WrapGVisor(runsc, dir)
	must(t, err)
	e, err := Connect(t.Context(), Options{Dir: dir, OCIRuntime: wrapper})
	must(t, err)
	t.Cleanup(e.Close)
	runtest.Contract(t, e, maker(t))
}

func TestReleaseYear(t *testing.T) {
	for version, want := range map[string]string{
		"runsc version release-20221102.1\nspec: 1.1.0-rc.1\n": "2022",
		"runsc version 0.0~20240729.0\nspec: 1.2.0\n":          "2024",
		"runsc version VERSION_MISSING\n":                      "",
	} {
		if got := releaseYear(version); got != want {
			t.Errorf("%q: %q, want %q", version, got, want)
		}
	}
}

func inside(t *testing.T, script string) string {
	t.Helper()
	e := engine(t)
	return insideOf(t, e, maker(t)(t, "agentbox-test-"+filepath.Base(t.TempDir())+"-"+filepath.Base(socketDir(t)), script))
}

func insideOf(t *testing.T, e *Engine, s run.Spec) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := e.Create(ctx, s)
	must(t, err)
	defer func() { must(t, c.Remove(ctx)) }()
	var out strings.Builder
	wait, err := c.Attach(ctx, run.Streams{Out: &out, Err: &out})
	must(t, err)
	must(t, c.Start(ctx))
	must(t, wait())
	return out.String()
}

func TestServiceEndsWithItsEngine(t *testing.T) {
	s, err := startService(Options{Dir: socketDir(t)})
	must(t, err)
	if !answers(s.socket) {
		t.Fatal("the service does not answer")
	}
	if said := s.stop(); said != "" {
		t.Errorf("the service said %q", said)
	}
	if _, err := os.Stat(s.socket); err == nil {
		t.Error("the socket of the service is still there")
	}
	if err := s.cmd.Process.Signal(os.Interrupt); err == nil {
		t.Error("the service is still running")
	}
}

func TestNoPodmanIsSaid(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("CONTAINER_HOST", "")
	_, err := Connect(t.Context(), Options{Dir: socketDir(t)})
	if err != ErrNoPodman {
		t.Fatalf("got %v", err)
	}
}

func TestBrokenPodmanSaysItsOwnWords(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "podman")
	must(t, os.WriteFile(broken, []byte("#!/bin/sh\necho 'cannot find newuidmap' >&2\nexit 125\n"), 0o755))
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("CONTAINER_HOST", "")
	e, err := Connect(t.Context(), Options{Dir: socketDir(t), Podman: broken})
	must(t, err)
	defer e.Close()
	err = e.Ready(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cannot find newuidmap") {
		t.Fatalf("got %v", err)
	}
}

// TestAServiceThatEndsTooSoonIsStartedAgain: on a busy machine a service took itself for idle before it had served anybody.
func TestAServiceThatEndsTooSoonIsStartedAgain(t *testing.T) {
	real, err := exec.LookPath("podman")
	must(t, err)
	dir := t.TempDir()
	soon := filepath.Join(dir, "podman")
	must(t, os.WriteFile(soon, []byte("#!/bin/sh\nif mkdir '"+dir+"/once' 2>/dev/null; then exit 0; fi\nexec '"+real+"' \"$@\"\n"), 0o755))
	e, err := Connect(t.Context(), Options{Dir: socketDir(t), Podman: soon})
	must(t, err)
	defer e.Close()
	must(t, e.Ready(t.Context()))
	if !e.Own() {
		return // somebody else's was there
	}
	if e.Version() == "" {
		t.Error("it has no version")
	}
}

// TestHostEnvironmentStaysOutside: Podman hands proxy variables of the host in unless told not to.
func TestHostEnvironmentStaysOutside(t *testing.T) {
	t.Setenv("http_proxy", "http://leak.example:1")
	t.Setenv("HTTPS_PROXY", "http://leak.example:1")
	t.Setenv("SECRET_OF_MINE", "leak")
	if got := inside(t, "env"); strings.Contains(got, "leak") {
		t.Errorf("the environment inside holds the host's:\n%s", got)
	}
}

func TestNothingButLoopback(t *testing.T) {
	got := inside(t, "cat /proc/net/dev | tail -n +3 | cut -d: -f1; tail -n +2 /proc/net/route; grep -E '^Cap(Eff|Bnd|Prm|Inh|Amb)|NoNewPrivs|Seccomp:' /proc/self/status")
	want := "    lo\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A service of this run's own is there as long as it is wanted, however long nobody asks it for anything.
func TestAServiceOutlastsASilence(t *testing.T) {
	seconds, err := strconv.Atoi(idleSeconds)
	must(t, err)
	e := engine(t)
	must(t, e.Ready(t.Context()))
	if !e.Own() {
		return // somebody else's stays anyway
	}
	select {
	case <-e.service.ended:
		t.Fatalf("it ended while nobody asked: %s", e.service.out)
	case <-time.After(time.Duration(seconds+2) * time.Second):
	}
	must(t, e.Remove(t.Context(), "agentbox-test-none"))
}
