// Package podman carries out run.Runtime on Podman, through its v5 bindings; it is their only importer.
//
// Connect owns the connection and, where there was no service to connect to, the service it started; Close ends it.
// Every container belongs to whoever created it, and removes itself when its PID 1 ends, also when agentbox is gone.
package podman

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containers/podman/v5/pkg/bindings"
	"github.com/containers/podman/v5/pkg/bindings/containers"
	"github.com/containers/podman/v5/pkg/errorhandling"
	"github.com/containers/podman/v5/pkg/specgen"
	spec "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"agentbox/internal/run"
)

// Engine is a connection to Podman. It may still be on its way: whatever needs it waits for it.
type Engine struct {
	service *service // nil when the connection is to somebody else's service

	ready   chan struct{}   // closed when the connection is there, or is not to be had
	conn    context.Context // carries the bindings' client, and nothing else
	version string
	err     error
}

var _ run.Runtime = (*Engine)(nil)

// Options of Connect.
type Options struct {
	URI        string   // "" uses, in this order, $CONTAINER_HOST, the user's socket, a service of our own
	Podman     string   // the program for a service of our own; "" finds it on PATH
	OCIRuntime string   // path of an OCI runtime for a service of our own, which is then always started; "" for the default
	Dir        string   // where the socket of a service of our own lives; 0700
	Without    []string // variables of our own that a service gets nothing of: they hold secrets
	Look       bool     // start no service: only find out which Podman it would be. Such an Engine makes no container
}

// Connect begins to connect to Podman, and returns at once: a service takes its time to start, in which the caller
// has other things to do. Ready tells how it went. ctx bounds the connection's life.
func Connect(ctx context.Context, o Options) (*Engine, error) {
	logrus.SetLevel(logrus.PanicLevel) // the bindings log to stderr, which is the person's
	e := &Engine{ready: make(chan struct{})}
	uri, err := existing(o)
	if err != nil {
		return nil, err
	}
	if uri == "" && o.Look {
		return look(ctx, e, o)
	}
	if uri == "" {
		if e.service, err = startService(o); err != nil {
			return nil, err
		}
		uri = "unix://" + e.service.socket
	}
	go func() {
		defer close(e.ready)
		e.connect(ctx, uri, o)
	}()
	return e, nil
}

// look asks the program for its version, in a third of the time that a service takes to start.
func look(ctx context.Context, e *Engine, o Options) (*Engine, error) {
	program, err := o.program()
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(e.ready)
		out, err := exec.CommandContext(ctx, program, "--version").Output()
		if err != nil {
			e.err = fmt.Errorf("asking %s for its version: %w", program, err)
			return
		}
		if fields := strings.Fields(string(out)); len(fields) > 0 {
			e.version = fields[len(fields)-1] // "podman version 5.4.2"
		}
		if e.version == "" {
			e.err = fmt.Errorf("asking %s for its version: it said nothing", program)
		}
	}()
	return e, nil
}

func (e *Engine) connect(ctx context.Context, uri string, o Options) {
	conn, err := bindings.NewConnection(ctx, uri)
	if err != nil && e.service != nil && e.service.again(o) {
		conn, err = bindings.NewConnection(ctx, uri)
	}
	if err != nil {
		e.err = e.connectError(uri, err)
		return
	}
	e.conn = conn
	if v := bindings.ServiceVersion(conn); v != nil {
		e.version = v.String()
	}
}

// Ready waits for the connection and says why there is none.
func (e *Engine) Ready(ctx context.Context) error {
	select {
	case <-e.ready:
		return e.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// existing finds a service to connect to; "" when there is none.
func existing(o Options) (string, error) {
	if o.OCIRuntime != "" {
		if o.URI != "" {
			return "", errors.New("a Podman service knows only its own OCI runtimes: leave out --connection, " +
				"so that agentbox starts one that knows " + filepath.Base(o.OCIRuntime))
		}
		return "", nil
	}
	if o.URI != "" {
		return o.URI, nil
	}
	if uri := os.Getenv("CONTAINER_HOST"); uri != "" {
		return uri, nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		socket := filepath.Join(dir, "podman", "podman.sock")
		if info, err := os.Stat(socket); err == nil && info.Mode()&os.ModeSocket != 0 && answers(socket) {
			return "unix://" + socket, nil
		}
	}
	return "", nil
}

func (e *Engine) connectError(uri string, err error) error {
	if e.service == nil {
		return fmt.Errorf("connecting to Podman at %s: %w", uri, err)
	}
	text := e.service.stop()
	if text != "" {
		return fmt.Errorf("starting a Podman service: %s", text)
	}
	return fmt.Errorf("starting a Podman service: %w", err)
}

// Version is the engine's own, "5.4.2". It waits for the connection; "" when there is none.
func (e *Engine) Version() string {
	<-e.ready
	return e.version
}

// Own reports whether the service was started by this Engine.
func (e *Engine) Own() bool { return e.service != nil }

// Close ends a service that Connect started, and waits for it.
func (e *Engine) Close() {
	if e.service != nil {
		e.service.stop()
	}
	<-e.ready
}

// Create makes a container as spec says.
func (e *Engine) Create(ctx context.Context, s run.Spec) (run.Container, error) {
	conn, stop, err := e.with(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	g := generator(s)
	made, err := containers.CreateWithSpec(conn, g, nil)
	if err != nil {
		return nil, fmt.Errorf("creating the container: %w", plain(err))
	}
	return &container{engine: e, id: made.ID, terminal: s.Terminal}, nil
}

// Remove removes a container by name or id.
func (e *Engine) Remove(ctx context.Context, name string) error {
	conn, stop, err := e.with(ctx)
	if err != nil {
		return err
	}
	defer stop()
	opts := new(containers.RemoveOptions).WithForce(true).WithIgnore(true).WithVolumes(true).WithTimeout(0)
	for {
		_, err := containers.Remove(conn, name, opts)
		if err == nil {
			return nil
		}
		if !isConflict(err) {
			return fmt.Errorf("removing the container: %w", plain(err))
		}
		// It is removing itself at this moment, or has just done so.
		exists, err := containers.Exists(conn, name, nil)
		if err != nil {
			return fmt.Errorf("removing the container: %w", plain(err))
		}
		if !exists {
			return nil
		}
	}
}

func isConflict(err error) bool {
	var model *errorhandling.ErrorModel
	return errors.As(err, &model) && (model.ResponseCode == http.StatusConflict || model.ResponseCode == http.StatusNotFound ||
		model.ResponseCode == http.StatusInternalServerError)
}

// with waits for the connection and gives a context that carries it and ends with ctx.
func (e *Engine) with(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := e.Ready(ctx); err != nil {
		return nil, nil, err
	}
	if e.conn == nil {
		return nil, nil, errors.New("this connection was only to look which Podman there is")
	}
	conn, cancel := context.WithCancel(e.conn)
	stop := context.AfterFunc(ctx, cancel)
	return conn, func() { stop(); cancel() }, nil
}

// generator translates a Spec. What stands in no field of Spec is the boundary, and the same for every container.
func generator(s run.Spec) *specgen.SpecGenerator {
	yes, no := true, false
	g := &specgen.SpecGenerator{}
	g.Name, g.Labels, g.Hostname = s.Name, s.Labels, s.Hostname
	if s.Image == "" {
		g.Rootfs, g.Command = s.Rootfs, s.Command
	} else {
		onImage(g, s)
	}
	g.Terminal, g.Stdin = &s.Terminal, &yes
	g.Remove, g.Systemd, g.SdNotifyMode = &yes, "false", "ignore"
	g.HTTPProxy, g.EnvHost, g.UnsetEnvAll = &no, &no, &yes // nothing of the host's environment
	g.Passwd = &no                                         // /etc is ours
	g.LogConfiguration = &specgen.LogConfig{Driver: "none"}
	g.HealthLogDestination, g.HealthMaxLogCount, g.HealthMaxLogSize = "local", 1, 1 // Podman 5 refuses to do without
	timeout := uint(0)
	g.StopTimeout = &timeout

	g.UserNS = specgen.Namespace{NSMode: specgen.KeepID}
	if s.Rooted { // the engine's own, which is where its builds run
		g.UserNS = specgen.Namespace{NSMode: specgen.Host}
	}
	g.User = fmt.Sprintf("%d:%d", s.UID, s.GID)
	g.PidNS = specgen.Namespace{NSMode: specgen.Private}
	g.UtsNS = specgen.Namespace{NSMode: specgen.Private}
	g.IpcNS = specgen.Namespace{NSMode: specgen.Private}
	g.CgroupNS = specgen.Namespace{NSMode: specgen.Private}
	g.NetNS = specgen.Namespace{NSMode: specgen.NoNetwork}
	g.UseImageHosts, g.UseImageResolvConf, g.UseImageHostname = &yes, &yes, &yes
	// Ports below 1024 are an ordinary program's in here: the listeners need no capability.
	g.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}

	g.OCIRuntime = s.OCIRuntime
	g.CapDrop, g.NoNewPrivileges = []string{"all"}, &yes
	// All that is to be written to is mounted by the Spec. What the second one adds beside it is a /dev that belongs to
	// the container's root: gVisor refuses to open the devices of a read-only one for writing.
	g.ReadOnlyFilesystem, g.ReadWriteTmpfs = &yes, &yes
	g.SeccompProfilePath = s.Seccomp
	g.SelinuxOpts = []string{"disable"} // relabelling /usr or a repo is not ours to do
	g.ImageVolumeMode = "ignore"
	if s.ShmSize > 0 {
		g.ShmSize = &s.ShmSize
	}
	g.Rlimits = []spec.POSIXRlimit{
		{Type: "core", Hard: 0, Soft: 0},
	}
	for _, m := range s.Mounts {
		g.Mounts = append(g.Mounts, mount(m))
	}
	g.ResourceLimits = resources(s.Limits)
	return g
}

func mount(m run.Mount) spec.Mount {
	out := spec.Mount{Type: m.Type, Source: m.Source, Destination: m.Target, Options: slices.Clone(m.Options)}
	always := []string{"nosuid", "nodev"}
	switch m.Type {
	case "bind":
		always = append(always, "rbind", "rprivate")
	case "overlay":
		// It goes to the OCI runtime as it is, which mounts it in the container's user namespace; so its marks are in
		// user.* attributes. Podman's own overlay volumes would be a program's, fuse-overlayfs, where storage.conf names one.
		out.Source = "overlay"
		if m.ReadOnly { // nothing is written, so what is on top is one more layer below
			out.Options = append(out.Options, "lowerdir="+m.Upper+":"+m.Source, "userxattr")
		} else {
			out.Options = append(out.Options, "lowerdir="+m.Source, "upperdir="+m.Upper, "workdir="+m.Work, "userxattr")
		}
	default:
		out.Source = "tmpfs"
	}
	if m.ReadOnly {
		always = append(always, "ro")
	} else {
		always = append(always, "rw")
	}
	for _, o := range always {
		if !slices.Contains(out.Options, o) {
			out.Options = append(out.Options, o)
		}
	}
	return out
}

func resources(l run.Limits) *spec.LinuxResources {
	var r spec.LinuxResources
	if l.Memory > 0 {
		swap := l.Memory // no swap beside it
		r.Memory = &spec.LinuxMemory{Limit: &l.Memory, Swap: &swap}
	}
	if l.CPUs > 0 {
		period := uint64(100_000)
		quota := int64(l.CPUs * float64(period))
		r.CPU = &spec.LinuxCPU{Period: &period, Quota: &quota}
	}
	if l.Pids > 0 {
		r.Pids = &spec.LinuxPids{Limit: l.Pids}
	}
	if r.Memory == nil && r.CPU == nil && r.Pids == nil {
		return nil
	}
	return &r
}

// WriteSeccomp writes the seccomp profile of every container to path.
func WriteSeccomp(path string) error {
	profile, err := seccompProfile()
	if err != nil {
		return fmt.Errorf("making the seccomp profile: %w", err)
	}
	return os.WriteFile(path, profile, 0o600)
}

// plain takes the bindings' wrapping off: one sentence instead of three.
func plain(err error) error {
	var model *errorhandling.ErrorModel
	if errors.As(err, &model) && model.Message != "" {
		return errors.New(model.Message)
	}
	return err
}

// cleanupTime bounds what is done after the run's own context has ended.
const cleanupTime = 20 * time.Second
