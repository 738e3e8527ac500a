package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"agentbox/internal/event"
	"agentbox/internal/plan"
	"agentbox/internal/rootfs"
	"agentbox/internal/shimwire"
)

// Builder makes images. Its implementation is internal/run/podman.
type Builder interface {
	Runtime
	// PID is that of a running container's PID 1, as the engine's machine has it.
	PID(ctx context.Context, name string) (int, error)
	// Build makes an image, tells each line of what is said meanwhile, and gives the image's id. A step that fails is a
	// *StepError. When ctx ends, so does the build.
	Build(ctx context.Context, spec BuildSpec, told func(line string)) (string, error)
}

// BuildSpec is all that a Builder needs to know. Every step runs in the namespaces that are named, without the right to
// anything that an ordinary build needs no right to: there is no field for that.
type BuildSpec struct {
	Script        string // a Containerfile whose images are ids
	Files         func(ctx context.Context, w io.Writer, extra map[string][]byte) error
	Args          map[string]string
	Tag           string
	Labels        map[string]string
	Seccomp       string // path of a profile on the host
	Network, PIDs string // paths of namespaces
	Certificates  []byte // PEM, shown to each RUN that asks for the secret of this id
	CertificateID string
}

// StepError says what the engine says of a step that failed.
type StepError struct{ Text string }

func (e *StepError) Error() string { return e.Text }

// BuildParams is what a build is made of.
type BuildParams struct {
	ID       string
	Plan     plan.Plan // of the build: network rules, and no credentials
	Dir      string    // a directory of this build alone, 0700; the caller removes it
	Shim     string    // the shim's program on the host
	Sockets  []string  // sockets of the host that must not be seen inside
	Spec     BuildSpec // but for namespaces and certificates
	Builder  Builder
	Log      Log
	Password Password
	Told     func(line string)
	Wipe     func(ctx context.Context) error // as Params has it
	Warn     func(text string)
}

// Build makes an image inside the boundary. A container without a network holds the namespaces: its listeners are served as
// those of a run are, each step joins it, and its PID 1 is the shim. So a step's only way out is the proxy, and when
// agentbox is gone, however it went, so is every process of every step.
func Build(ctx context.Context, p BuildParams) (id string, err error) {
	x := &building{execution: execution{name: "agentbox-" + p.ID, Params: Params{ID: p.ID, Plan: p.Plan, Dir: p.Dir, Shim: p.Shim,
		Seccomp: p.Spec.Seccomp, Sockets: p.Sockets, Runtime: p.Builder, Log: p.Log, Password: p.Password, Out: io.Discard, Err: io.Discard,
		Wipe: p.Wipe, Warn: p.Warn}}, p: p}
	start := event.Event{Kind: event.RunStart, Detail: map[string]string{"plan": p.Plan.Hash, "profile": p.Plan.Grants.Profile,
		"repo": p.Plan.Binding.Repo, "build": p.Spec.Tag}}
	if err := x.record(start); err != nil {
		return "", err
	}
	id, err = x.build(ctx)
	err = errors.Join(err, x.close(ctx))
	code, reason := 0, "the image was built"
	if err != nil {
		code, reason = asFailure(err).Code, err.Error()
	}
	return id, errors.Join(err, x.record(event.Event{Kind: event.RunEnd, ExitCode: &code, Reason: reason}))
}

type building struct {
	execution
	p BuildParams
}

func (x *building) build(ctx context.Context) (string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // an event that cannot be recorded ends all
		select {
		case <-x.Log.Failed():
			cancel(errors.New("the event log could not be written"))
		case <-ctx.Done():
		}
	}()
	spec, config, err := x.holder()
	if err != nil {
		return "", err
	}
	if err := x.create(ctx, spec); err != nil {
		return "", err
	}
	if err := x.meet(ctx, config); err != nil {
		return "", err
	}
	go func() { // a holder that is gone has taken its processes along; what follows would have nothing to join
		for {
			select {
			case _, ok := <-x.link.Messages():
				if !ok {
					cancel(errors.New("the container that holds the build's namespaces has ended"))
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	held, err := x.hold(ctx)
	if err != nil {
		return "", fmt.Errorf("holding the namespaces of the build: %w", err)
	}
	defer held.close()
	s := x.p.Spec
	s.Network, s.PIDs = held.path(0), held.path(1)
	s.Certificates, err = rootfs.Bundle(x.boundary.ca())
	if err != nil {
		return "", err
	}
	id, err := x.p.Builder.Build(ctx, s, x.p.Told)
	if err != nil {
		return "", errors.Join(context.Cause(ctx), err)
	}
	return id, nil
}

// holder is the container whose namespaces the steps join. There is nothing in it but the shim.
func (x *building) holder() (Spec, shimwire.Config, error) {
	var err error
	if x.boundary, err = newBoundary(x.Plan, x.Log, nil, x.Password, nil, Asking{}, time.Now()); err != nil {
		return Spec{}, shimwire.Config{}, err
	}
	root := filepath.Join(x.Dir, dirRoot)
	for _, dir := range []string{"proc", "sys", "dev", "etc", "tmp", "run" + string(filepath.Separator) + filepath.Base(shimwire.Dir)} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return Spec{}, shimwire.Config{}, fmt.Errorf("laying the root of the build's holder: %w", err)
		}
	}
	if err := x.listen(); err != nil {
		return Spec{}, shimwire.Config{}, err
	}
	s := Spec{Name: x.name, Hostname: hostname, Rootfs: root, Command: []string{shimwire.ShimPath}, Labels: map[string]string{"agentbox.run": x.ID},
		Rooted: true, Seccomp: x.Seccomp, OCIRuntime: x.Plan.Binding.Engine.Runtime, Mounts: []Mount{
			{Type: "bind", Source: filepath.Join(x.Dir, dirLink), Target: shimwire.Dir, ReadOnly: true},
			{Type: "bind", Source: x.Shim, Target: shimwire.ShimPath, ReadOnly: true},
		}}
	return s, shimwire.Config{Listen: x.boundary.listen(), Agent: shimwire.Agent{Argv: []string{shimwire.ShimPath}, Dir: "/"},
		SelfTest: shimwire.Expect{Seccomp: true, NoNewPrivs: true, AnyGroups: true, Absent: x.Sockets, ReadOnly: []string{"/", shimwire.Dir},
			Canary: x.boundary.canary, Proxy: netip.AddrPortFrom(loopback, plan.ProxyPort).String()}}, nil
}

// hold opens the namespaces of the holder, and has a process of this machine show exactly these to the engine.
func (x *building) hold(ctx context.Context) (*held, error) {
	pid, err := x.p.Builder.PID(ctx, x.name)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close() // the process has its own
		}
	}()
	for _, kind := range []string{"net", "pid", "user"} {
		f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/" + kind)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		if same, err := sameFile(f, "/proc/self/ns/"+kind); err != nil || same {
			return nil, errors.Join(err, fmt.Errorf("the holder has no %s namespace of its own", kind))
		}
	}
	h, err := startHeld(x.Shim, files)
	if err != nil {
		return nil, err
	}
	// It was the holder that was looked at: it lives, and the engine says that it has this number still.
	if again, err := x.p.Builder.PID(ctx, x.name); err != nil || again != pid {
		h.close()
		return nil, errors.Join(err, errors.New("the holder has ended"))
	}
	return h, nil
}

func sameFile(f *os.File, path string) (bool, error) {
	a, err := f.Stat()
	if err != nil {
		return false, err
	}
	b, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return os.SameFile(a, b), nil
}
