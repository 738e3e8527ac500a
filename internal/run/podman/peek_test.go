package podman

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containers/podman/v5/libpod/define"
	"github.com/containers/podman/v5/pkg/bindings/containers"

	"agentbox/internal/run"
	"agentbox/test/registry"
)

// demanding is an image that wants to be run in a way of its own, and whose /etc is not what programs expect.
func demanding(t *testing.T, s shop) string {
	t.Helper()
	p := s.push(t, "team/demanding", registry.Image{Docker: true,
		Layers: [][]registry.File{{{Path: "bin/"}, {Path: "etc/"}, {Path: "data/"}, {Path: "etc/a", Content: []byte("own"), Mode: 0o644}, {Path: "etc/b", Link: "etc/a", Kind: tar.TypeLink},
			{Path: "etc/pipe", Kind: tar.TypeFifo, Mode: 0o644}, {Path: "etc/hosts", Link: "/etc/pipe"}, {Path: "etc/up", Link: "../../../../../../etc/hostname"}}},
		Config: map[string]any{"Env": []string{"A=b", "LD_PRELOAD=/x"}, "User": "nobody:nobody", "Entrypoint": []string{"/bin/x"}, "Cmd": []string{"y"}, "StopSignal": "SIGCONT",
			"ExposedPorts": map[string]any{"80/tcp": map[string]any{}}, "Volumes": map[string]any{"/data": map[string]any{}}, "WorkingDir": "/data",
			"Labels":      map[string]string{"agentbox.run": "another", "io.containers.capabilities": "SYS_ADMIN", "PODMAN_SYSTEMD_UNIT": "x.service"},
			"Healthcheck": map[string]any{"Test": []string{"CMD", "/bin/x"}, "Interval": 1_000_000_000}}})
	must(t, s.engine.Pull(t.Context(), p.Ref, nil))
	i, err := s.engine.Image(t.Context(), p.Ref)
	must(t, err)
	if !i.Healthcheck || !i.Entrypoint || !slices.Contains(i.Volumes, "/data") {
		t.Fatalf("the image lost what it asks for: %+v", i)
	}
	return i.ID
}

func inspect(t *testing.T, e *Engine, name string) *define.InspectContainerData {
	t.Helper()
	conn, stop, err := e.with(t.Context())
	must(t, err)
	defer stop()
	data, err := containers.Inspect(conn, name, nil)
	must(t, err)
	return data
}

func gone(t *testing.T, e *Engine, name string) {
	t.Helper()
	conn, stop, err := e.with(t.Context())
	must(t, err)
	defer stop()
	if there, err := containers.Exists(conn, name, nil); err != nil || there {
		t.Errorf("the container is left: %v, %v", there, err)
	}
}

// What is looked into never runs, and is removed whatever becomes of it. It gives what is in the image, and nothing that a link
// of it names on the host.
func TestPeekRunsNothingAndLeavesNothing(t *testing.T) {
	s := openShop(t, false)
	spec := run.Spec{Name: "agentbox-peek-" + filepath.Base(socketDir(t)), Labels: map[string]string{RunLabel: "this"}, Image: demanding(t, s), Command: []string{"/none"}}
	kinds := map[string]byte{}
	must(t, s.engine.Peek(t.Context(), spec, func(c run.Contents) error {
		if d := inspect(t, s.engine, spec.Name); d.State.Status != "created" || d.State.Pid != 0 || len(d.Mounts) != 0 || d.Config.Labels[RunLabel] != "this" {
			t.Errorf("while it is looked into: %+v, mounts %v, labels %v", d.State, d.Mounts, d.Config.Labels)
		}
		var etc, pipe, up bytes.Buffer
		must(t, c.Archive("/etc", &etc))
		for r := tar.NewReader(&etc); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			kinds[strings.Trim(h.Name, "/")] = h.Typeflag
		}
		must(t, c.Archive("/etc/hosts", &pipe)) // nobody waits at its other end
		if h, err := tar.NewReader(&pipe).Next(); err != nil || h.Typeflag != tar.TypeFifo {
			t.Errorf("a pipe comes as %+v, %v", h, err)
		}
		if err := c.Archive("/etc/up", &up); !errors.Is(err, fs.ErrNotExist) {
			host, _ := os.ReadFile("/etc/hostname")
			t.Errorf("a link out of the image leads to %q (the host's is %q), %v", up.String(), host, err)
		}
		return nil
	}))
	gone(t, s.engine, spec.Name)
	if kinds["etc/a"]+kinds["etc/b"] != tar.TypeReg+tar.TypeLink || kinds["etc/pipe"] != tar.TypeFifo || kinds["etc/up"] != tar.TypeSymlink {
		t.Errorf("its /etc comes as %q", kinds)
	}
	enough := errors.New("enough")
	if err := s.engine.Peek(t.Context(), spec, func(run.Contents) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("a look that fails says %v", err)
	}
	gone(t, s.engine, spec.Name)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.engine.Peek(ctx, spec, func(c run.Contents) error { cancel(); return c.Archive("/etc", io.Discard) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a look that was ended says %v", err)
	}
	gone(t, s.engine, spec.Name)
}

// A pipe where the engine looks for names would have it wait for ever: it is never asked for anything then. A name that leads nowhere
// is none.
func TestPeekWaitsForNoPipe(t *testing.T) {
	s := openShop(t, false)
	file := func(path, link string) registry.File {
		if link == "" {
			return registry.File{Path: path, Kind: tar.TypeFifo, Mode: 0o644}
		}
		return registry.File{Path: path, Link: link}
	}
	for name, c := range map[string]struct {
		files []registry.File
		fits  bool
	}{
		"pipe":    {[]registry.File{file("etc/passwd", "")}, false},
		"link":    {[]registry.File{file("data/pipe", ""), file("etc/passwd", "/data/next"), file("data/next", "../data/pipe")}, false},
		"up":      {[]registry.File{file("pipe", ""), file("etc/passwd", "../../../../pipe")}, false},
		"loop":    {[]registry.File{file("etc/passwd", "passwd")}, false},
		"large":   {[]registry.File{{Path: "etc/passwd", Content: make([]byte, maxPasswd+1)}}, false},
		"nowhere": {[]registry.File{file("etc/passwd", "/none/of/it")}, true},
		"file":    {[]registry.File{{Path: "data/passwd", Content: []byte("a:x:0:0:::\n")}, file("etc/passwd", "../data/passwd")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := s.push(t, "team/"+name, registry.Image{Layers: [][]registry.File{append([]registry.File{{Path: "etc/"}, {Path: "data/"}}, c.files...)}})
			must(t, s.engine.Pull(t.Context(), p.Ref, nil))
			i, err := s.engine.Image(t.Context(), p.Ref)
			must(t, err)
			spec := run.Spec{Name: "agentbox-pipe-" + filepath.Base(socketDir(t)), Image: i.ID, Command: []string{"/none"}}
			seen := false
			err = s.engine.Peek(t.Context(), spec, func(c run.Contents) error { seen = true; return c.Archive("/etc", io.Discard) })
			if c.fits && err != nil || !c.fits && (err == nil || seen) {
				t.Errorf("asked %t, %v", seen, err)
			}
			gone(t, s.engine, spec.Name)
		})
	}
}

// Nothing that an image says of how it wants to be run is in the container that is made of it.
func TestAnImageDoesNotSayHowItIsRun(t *testing.T) {
	s := openShop(t, false)
	spec := maker(t)(t, "agentbox-image-"+filepath.Base(socketDir(t)), "")
	spec.Rootfs, spec.Image, spec.Command, spec.Labels, spec.Mounts = "", demanding(t, s), []string{"/ours"}, map[string]string{RunLabel: "this"}, nil
	c, err := s.engine.Create(t.Context(), spec)
	must(t, err)
	defer func() { must(t, c.Remove(t.Context())) }()
	d := inspect(t, s.engine, spec.Name)
	is := func(what string, ok bool, got any) {
		if !ok {
			t.Errorf("%s is the image's: %+v", what, got)
		}
	}
	is("the check of its health", d.Config.Healthcheck == nil || slices.Equal(d.Config.Healthcheck.Test, []string{"NONE"}), d.Config.Healthcheck)
	is("PID 1", d.Path == "/ours" && !slices.Contains(d.Args, "/bin/x") && !slices.Contains(d.Args, "y"), d.Args)
	is("the user", d.Config.User == fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()), d.Config.User)
	is("the environment", !slices.ContainsFunc(d.Config.Env, func(e string) bool { return e == "A=b" || strings.HasPrefix(e, "LD_PRELOAD") }), d.Config.Env)
	is("a mount", len(d.Mounts) == 0, d.Mounts)
	is("a port", len(d.HostConfig.PortBindings) == 0, d.HostConfig.PortBindings)
	is("the directory", d.Config.WorkingDir == "/", d.Config.WorkingDir)
	is("the run", d.Config.Labels[RunLabel] == "this", d.Config.Labels)
	is("a capability", len(d.EffectiveCaps)+len(d.BoundingCaps) == 0, d.EffectiveCaps)
}
