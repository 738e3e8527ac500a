package run

import (
	"context"
	"io"
)

// Runtime makes containers. Its implementations are internal/run/podman, on a real engine, and
// internal/run/runtest, a fake; both pass the contract suite of internal/run/runtest.
type Runtime interface {
	// Create makes a container that is not started. On an error nothing is left of it.
	Create(ctx context.Context, spec Spec) (Container, error)
	// Remove removes a container by name, running or not. One that is not there is not an error.
	Remove(ctx context.Context, name string) error
}

// Container is one container, made by a Runtime. Its methods are called in the order of the interface.
type Container interface {
	// Attach connects the streams. It returns when nothing that the container writes from now on can be missed,
	// and the function it returns waits until all output has been written to the streams.
	Attach(ctx context.Context, streams Streams) (wait func() error, err error)
	// Start starts PID 1.
	Start(ctx context.Context) error
	// Remove kills what still runs and leaves nothing. It may be called at any time, and twice.
	Remove(ctx context.Context) error
}

// Streams are the container's standard streams. With a terminal all output goes to Out and Err is unused. A nil In is
// an empty one.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Spec is all that a Runtime needs to know of a container. It has no network, no capabilities, no new privileges and
// a read-only root, always: there is no field for that.
type Spec struct {
	Name     string
	Labels   map[string]string
	Hostname string
	Rootfs   string   // a directory of this run; or
	Image    string   // the id of an image in the engine's own store, of which nothing but the files is used
	Command  []string // PID 1 with its arguments, absolute inside
	UID, GID int      // the person's: the same number inside and outside
	Rooted   bool     // the person is root inside, as the steps of a build are that join it; UID and GID are 0
	Terminal bool
	Mounts   []Mount // in this order
	Seccomp  string  // path of a profile (JSON) on the host
	ShmSize  int64   // bytes of /dev/shm
	Limits   Limits
	// OCIRuntime is a name that the engine knows; "" is the engine's own choice.
	OCIRuntime string
}

// Images shows what is in an image of the engine's store, for a run whose root is one. A Runtime on a real engine is one too.
type Images interface {
	// Peek hands what is in the image of spec to see, without running anything of it. Of spec only the image, the name and
	// the labels count; the name is free again when Peek returns.
	Peek(ctx context.Context, spec Spec, see func(Contents) error) error
}

// Contents are the files of one image.
type Contents interface {
	// Archive writes a tar archive of what is at an absolute path, links on the way followed, as entries below its last
	// name. The error is fs.ErrNotExist when nothing is there.
	Archive(path string, w io.Writer) error
}

// Limits of a container. Zero leaves the engine's default, and is what a machine without the cgroup controller gets.
type Limits struct {
	Memory int64 // bytes
	CPUs   float64
	Pids   int64
}

// Mount is one mount of a container. Options are those of mount(8) beside "ro" and "rbind".
type Mount struct {
	Type     string // "bind", "tmpfs" or "overlay"
	Source   string // of an overlay: what is below
	Target   string
	Upper    string // of an overlay: where what is written goes; of a read-only one: what is on top
	Work     string // of an overlay: the kernel's own, beside Upper
	ReadOnly bool
	Options  []string
}
