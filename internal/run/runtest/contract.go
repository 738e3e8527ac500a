// Package runtest holds what every run.Runtime promises, as tests, and a fake Runtime that keeps the same promises.
//
// The suite runs on Podman (internal/run/podman) and on the fake, so that what is tested on the fake is true.
package runtest

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentbox/internal/run"
)

// Maker gives a Spec whose PID 1 runs a shell script; Rootfs, mounts and seccomp are the implementation's own.
type Maker func(t *testing.T, name, script string) run.Spec

// Contract is the suite. Names of containers are unique to the test process.
func Contract(t *testing.T, rt run.Runtime, spec Maker) {
	t.Run("output is kept apart and complete", func(t *testing.T) { outputApart(t, rt, spec) })
	t.Run("input arrives and ends", func(t *testing.T) { inputEnds(t, rt, spec) })
	t.Run("a terminal is a terminal", func(t *testing.T) { terminal(t, rt, spec) })
	t.Run("nothing written late is lost", func(t *testing.T) { lateOutput(t, rt, spec) })
	t.Run("remove ends what runs", func(t *testing.T) { removeRunning(t, rt, spec) })
	t.Run("remove is idempotent and by name", func(t *testing.T) { removeTwice(t, rt, spec) })
	t.Run("a name is used once", func(t *testing.T) { nameOnce(t, rt, spec) })
	t.Run("a spec that cannot be leaves nothing", func(t *testing.T) { badSpec(t, rt, spec) })
	t.Run("writes reach the mount", func(t *testing.T) { mounts(t, rt, spec) })
}

// limit bounds each test: a hang is a failure with a name, not a stuck machine.
const limit = 60 * time.Second

func name(t *testing.T) string {
	clean := strings.NewReplacer("/", "-", " ", "-", "#", "-").Replace(strings.ToLower(t.Name()))
	return "agentbox-test-" + clean[max(0, len(clean)-40):] + "-" + filepath.Base(t.TempDir())
}

type output struct{ out, err bytes.Buffer }

// start creates, attaches and starts; the container is removed when the test ends.
func start(t *testing.T, rt run.Runtime, s run.Spec, in io.Reader) (*output, func() error, run.Container) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	c, err := rt.Create(ctx, s)
	if err != nil {
		t.Fatalf("creating: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Remove(context.WithoutCancel(ctx)); err != nil {
			t.Errorf("removing: %v", err)
		}
	})
	var o output
	wait, err := c.Attach(ctx, run.Streams{In: in, Out: &o.out, Err: &o.err})
	if err != nil {
		t.Fatalf("attaching: %v", err)
	}
	if err := c.Start(ctx); err != nil {
		t.Fatalf("starting: %v", err)
	}
	return &o, wait, c
}

func finish(t *testing.T, wait func() error) {
	t.Helper()
	if err := wait(); err != nil {
		t.Fatalf("waiting: %v", err)
	}
}

func outputApart(t *testing.T, rt run.Runtime, spec Maker) {
	o, wait, _ := start(t, rt, spec(t, name(t), "echo to out; echo to err >&2"), nil)
	finish(t, wait)
	if got := o.out.String(); got != "to out\n" {
		t.Errorf("stdout is %q", got)
	}
	if got := o.err.String(); got != "to err\n" {
		t.Errorf("stderr is %q", got)
	}
}

func inputEnds(t *testing.T, rt run.Runtime, spec Maker) {
	in := strings.Repeat("0123456789abcde\n", 8192) // 128 KiB: more than a pipe holds
	o, wait, _ := start(t, rt, spec(t, name(t), "wc -c"), strings.NewReader(in))
	finish(t, wait)
	if got := strings.TrimSpace(o.out.String()); got != "131072" {
		t.Errorf("%q bytes of input arrived, want 131072", got)
	}
}

func terminal(t *testing.T, rt run.Runtime, spec Maker) {
	s := spec(t, name(t), "test -t 0 && test -t 1 && test -t 2 && echo tty; echo err >&2")
	s.Terminal = true
	o, wait, _ := start(t, rt, s, strings.NewReader(""))
	finish(t, wait)
	if got := o.out.String(); !strings.Contains(got, "tty\r\n") || !strings.Contains(got, "err\r\n") {
		t.Errorf("the terminal showed %q", got)
	}
	if o.err.Len() != 0 {
		t.Errorf("with a terminal stderr got %q", o.err.String())
	}
}

func lateOutput(t *testing.T, rt run.Runtime, spec Maker) {
	o, wait, _ := start(t, rt, spec(t, name(t), "head -c 3000000 /dev/zero; printf last"), nil)
	finish(t, wait)
	if o.out.Len() != 3000004 || !strings.HasSuffix(o.out.String(), "last") {
		t.Errorf("got %d bytes, want 3000004", o.out.Len())
	}
}

func removeRunning(t *testing.T, rt run.Runtime, spec Maker) {
	_, wait, c := start(t, rt, spec(t, name(t), "exec sleep 1000"), nil)
	if err := c.Remove(t.Context()); err != nil {
		t.Fatalf("removing: %v", err)
	}
	_ = wait() // it returns; whether the engine calls a cut stream an error is its own affair
}

func removeTwice(t *testing.T, rt run.Runtime, spec Maker) {
	n := name(t)
	_, wait, c := start(t, rt, spec(t, n, "true"), nil)
	finish(t, wait)
	for range 2 {
		if err := c.Remove(t.Context()); err != nil {
			t.Fatalf("removing: %v", err)
		}
		if err := rt.Remove(t.Context(), n); err != nil {
			t.Fatalf("removing by name: %v", err)
		}
	}
}

func nameOnce(t *testing.T, rt run.Runtime, spec Maker) {
	n := name(t)
	_, _, c := start(t, rt, spec(t, n, "exec sleep 1000"), nil)
	if _, err := rt.Create(t.Context(), spec(t, n, "true")); err == nil {
		t.Error("a second container of the same name was created")
	}
	if err := rt.Remove(t.Context(), n); err != nil {
		t.Fatalf("removing by name: %v", err)
	}
	if err := c.Remove(t.Context()); err != nil {
		t.Fatalf("removing: %v", err)
	}
}

func badSpec(t *testing.T, rt run.Runtime, spec Maker) {
	n := name(t)
	s := spec(t, n, "true")
	s.Mounts = append(s.Mounts, run.Mount{Type: "bind", Source: "/does/not/exist", Target: "/mnt"})
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c, err := rt.Create(ctx, s)
	if err == nil {
		var attachErr error
		_, attachErr = c.Attach(ctx, run.Streams{Out: io.Discard, Err: io.Discard})
		if attachErr == nil && c.Start(ctx) == nil {
			t.Error("a container with a mount of nothing was started")
		}
		if err := c.Remove(ctx); err != nil {
			t.Fatalf("removing: %v", err)
		}
	}
	good, err := rt.Create(ctx, spec(t, n, "true")) // the name is free
	if err != nil {
		t.Fatalf("after a failed start something is left: %v", err)
	}
	if err := good.Remove(ctx); err != nil {
		t.Fatalf("removing: %v", err)
	}
}

func mounts(t *testing.T, rt run.Runtime, spec Maker) {
	dir := t.TempDir()
	s := spec(t, name(t), "echo inside >"+dir+"/rw/f; echo no >"+dir+"/ro/f || echo refused")
	for _, d := range []string{"rw", "ro"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(s.Rootfs, dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
		s.Mounts = append(s.Mounts, run.Mount{Type: "bind", Source: filepath.Join(dir, d),
			Target: filepath.Join(dir, d), ReadOnly: d == "ro"})
	}
	o, wait, _ := start(t, rt, s, nil)
	finish(t, wait)
	got, err := os.ReadFile(filepath.Join(dir, "rw", "f"))
	if err != nil || string(got) != "inside\n" {
		t.Errorf("the file on the host holds %q, %v", got, err)
	}
	if o.out.String() != "refused\n" {
		t.Errorf("a write to a read-only mount said %q", o.out.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "ro", "f")); err == nil {
		t.Error("a read-only mount was written to")
	}
}
