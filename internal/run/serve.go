package run

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"agentbox/internal/commits"
	"agentbox/internal/plan"
	"agentbox/internal/rootfs"
	"agentbox/internal/workspace"
)

// Serving is what a git-upload-pack is made of that reads a run's .git in a sandbox of its own: what an agent may have made
// of it is nothing for the host's git to open. There is no proxy, no shim and no way out; the .git is read-only.
type Serving struct {
	ID      string // of the run
	Binding plan.Binding
	Repo    workspace.Repo
	Work    string // the run's layer
	Dir     string // an empty directory of this alone, 0700; the caller removes it
	Seccomp string
	Git     string // the program, absolute
	Runtime Runtime

	In       io.Reader
	Out, Err io.Writer
}

// ServeTime bounds a serving, inside: it ends when nobody outside is left to end it, too.
const ServeTime = 2 * time.Minute

// serveMemory bounds the memory of what serves, where there is no limit of the run's own that holds.
const serveMemory = 4 << 30

// Serve serves until the other end has what it wants.
func Serve(ctx context.Context, s Serving) (err error) {
	spec, err := s.spec()
	if err != nil {
		return err
	}
	c, err := s.Runtime.Create(ctx, spec)
	if err != nil {
		return err
	}
	defer func() {
		if rerr := c.Remove(ctx); err == nil {
			err = rerr
		}
	}()
	wait, err := c.Attach(ctx, Streams{In: s.In, Out: s.Out, Err: s.Err})
	if err != nil {
		return err
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	return wait()
}

func (s Serving) spec() (Spec, error) {
	u := s.Binding.User
	tree, err := rootfs.Build(filepath.Join(s.Dir, dirRoot), rootfs.Options{
		User:     rootfs.User{UID: u.UID, GID: u.GID, Name: u.Name, Group: u.Group, Home: u.Home},
		Hostname: hostname, Roots: s.Binding.Roots, Masked: s.Binding.Masked,
		Repo: s.Repo.Common, Untrusting: true,
	})
	if err != nil {
		return Spec{}, fmt.Errorf("laying the container's root: %w", err)
	}
	mounts, err := s.mounts(tree)
	if err != nil {
		return Spec{}, err
	}
	spec := Spec{
		Name: "agentbox-" + s.ID + "-git", Hostname: hostname, Rootfs: tree.Root, Command: s.command(),
		Labels: map[string]string{"agentbox.run": s.ID},
		UID:    u.UID, GID: u.GID, Mounts: mounts, Seccomp: s.Seccomp, OCIRuntime: s.Binding.Engine.Runtime,
	}
	if s.Binding.Enforced["memory"] {
		spec.Limits.Memory = serveMemory
	}
	if s.Binding.Enforced["pids"] {
		spec.Limits.Pids = 64
	}
	return spec, nil
}

// command is PID 1, which needs no environment and is given none.
func (s Serving) command() []string {
	const script = `ulimit -v "$1"; cd /; exec timeout -s KILL "$2" env -i PATH="$3" HOME=/nonexistent ` +
		`GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null LC_ALL=C sh -c "$4" sh "$5"`
	return []string{"/bin/sh", "-c", script, "sh", fmt.Sprint(serveMemory >> 10), fmt.Sprint(int(ServeTime.Seconds())),
		filepath.Dir(s.Git) + ":/usr/bin:/bin", commits.Script, s.Repo.Git}
}

func (s Serving) mounts(tree rootfs.Tree) ([]Mount, error) {
	scratch := filepath.Join(s.Dir, dirScratch)
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return nil, err
	}
	git, err := workspace.Served(s.Repo, workspace.Layer{Work: s.Work}, scratch)
	if err != nil {
		return nil, err
	}
	var all []Mount
	for _, m := range tree.Mounts {
		all = append(all, Mount{Type: m.Type, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly, Options: m.Options})
	}
	for _, m := range git {
		kind := "bind"
		if m.Upper != "" {
			kind = "overlay"
		}
		all = append(all, Mount{Type: kind, Source: m.Source, Target: m.Target, Upper: m.Upper, Work: m.Work, ReadOnly: true})
	}
	return seal(all)
}

// Committed reports whether a run in the review mode may have made commits: whether there are objects that were not there.
func Committed(work string) (bool, error) { return committed(work) }
