package podman

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agentbox/internal/run"
	"agentbox/internal/shimbin"
)

// An overlay takes what is written, keeps below what was there, shows what binds lay over it, and is the kernel's own.
func TestAnOverlay(t *testing.T) {
	dir := t.TempDir()
	at := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	for _, d := range []string{"lower/sub/inner", "upper", "work", "inner/upper", "inner/work"} {
		must(t, os.MkdirAll(at(d), 0o755))
	}
	for name, text := range map[string]string{"lower/kept": "kept", "lower/gone": "gone", "lower/sub/file": "below", "lower/sub/inner/x": "deep", "over": "over"} {
		must(t, os.WriteFile(at(name), []byte(text), 0o644))
	}
	s := maker(t)(t, "agentbox-test-overlay-"+filepath.Base(socketDir(t)), `cd /work
cat sub/file sub/inner/x; { echo x >sub/file; } 2>/dev/null || echo " kept"
echo new >kept; rm gone; rm -r sub 2>/dev/null; mkdir made; echo y >sub/inner/y; stat -c %u:%g made
grep -c ' - overlay overlay .*userxattr' /proc/self/mountinfo`)
	// out of order: the engine sorts them, a directory before what is in it
	s.Mounts = append(s.Mounts,
		run.Mount{Type: "bind", Source: at("over"), Target: "/work/sub/file", ReadOnly: true},
		run.Mount{Type: "overlay", Source: at("lower/sub/inner"), Target: "/work/sub/inner", Upper: at("inner/upper"), Work: at("inner/work")},
		run.Mount{Type: "overlay", Source: at("lower"), Target: "/work", Upper: at("upper"), Work: at("work")})
	out := insideOf(t, engine(t), s)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 || lines[0] != "overdeep kept" || lines[2] != "2" {
		t.Errorf("inside: %q", out)
	}
	for name, want := range map[string]string{"lower/kept": "kept", "lower/gone": "gone", "lower/sub/file": "below", "lower/sub/inner/x": "deep", "upper/kept": "new\n", "inner/upper/y": "y\n", "over": "over"} {
		if got, err := os.ReadFile(at(name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	info, err := os.Lstat(at("upper/gone"))
	must(t, err)
	if info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("the mark of what was deleted is %v", info.Mode())
	}
	// it is not the person's to remove, all of it
	if os.RemoveAll(at("work")) == nil {
		t.Error("this shows nothing: the kernel's directory is empty")
	}
	must(t, RemoveAll(t.Context(), at("work")))
	must(t, RemoveAll(t.Context(), at("inner/work")))
}

// The kernel says by itself whether it makes an overlay, before anybody counts on one; and what was tried is the person's to remove.
func TestTheKernelIsAskedForAnOverlay(t *testing.T) {
	dir, scratch := t.TempDir(), t.TempDir()
	shim, err := shimbin.Install(dir)
	must(t, err)
	lower := filepath.Join(dir, "lower")
	must(t, os.Mkdir(lower, 0o755))
	must(t, TryOverlay(t.Context(), engine(t).Ready, shim, scratch, lower, dir))
	must(t, os.RemoveAll(scratch))
	if names, err := os.ReadDir(lower); err != nil || len(names) != 0 {
		t.Errorf("it was written to: %v %v", names, err)
	}
	for _, never := range []string{"/proc", filepath.Join(dir, "gone"), shim} { // a file system that can't be one, and what is no directory
		if err := TryOverlay(t.Context(), engine(t).Ready, shim, t.TempDir(), lower, never); err == nil || !strings.Contains(err.Error(), "over "+never+": ") {
			t.Errorf("over %s: %v", never, err)
		}
	}
}
