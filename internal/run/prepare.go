package run

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"agentbox/internal/plan"
	"agentbox/internal/rootfs"
	"agentbox/internal/shimwire"
	"agentbox/internal/transport"
	"agentbox/internal/workspace"
)

// Directories of a run below Params.Dir.
const (
	dirRoot    = "root" // the container's root, a skeleton
	dirLink    = "link" // bound at shimwire.Dir
	dirScratch = "git"  // filtered copies and empty sources
)

// hostname is the container's own.
const hostname = "agentbox"

// prepare lays everything on the host that the container is made from. It makes no container.
func (x *execution) prepare(ctx context.Context) (Spec, shimwire.Config, error) {
	var err error
	if x.boundary, err = newBoundary(x.Plan, x.Log, x.Secrets, x.Password, x.history(), x.Asking, time.Now()); err != nil {
		return Spec{}, shimwire.Config{}, err
	}
	files, err := x.Plan.Files(x.Secrets.Placeholder)
	if err != nil {
		return Spec{}, shimwire.Config{}, err
	}
	tree, err := x.root(ctx, x.rootOptions(files))
	if err != nil {
		return Spec{}, shimwire.Config{}, fmt.Errorf("laying the container's root: %w", err)
	}
	for _, w := range tree.Warnings {
		x.Warn(w)
	}
	mounts, repo, err := x.mounts(ctx, tree)
	if err != nil {
		return Spec{}, shimwire.Config{}, err
	}
	if err := x.listen(); err != nil {
		return Spec{}, shimwire.Config{}, err
	}
	spec := x.spec(tree, mounts)
	config, err := x.config(spec, repo)
	return spec, config, err
}

// root lays the skeleton of the host's toolchain, or what goes over an image.
func (x *execution) root(ctx context.Context, o rootfs.Options) (rootfs.Tree, error) {
	dir := filepath.Join(x.Dir, dirRoot)
	if x.ofImage() {
		return x.onImage(ctx, dir, o)
	}
	return rootfs.Build(dir, o)
}

func (x *execution) rootOptions(files []plan.File) rootfs.Options {
	u := x.Plan.Binding.User
	o := rootfs.Options{
		User:     rootfs.User{UID: u.UID, GID: u.GID, Name: u.Name, Group: u.Group, Home: u.Home},
		Hostname: hostname, CA: x.boundary.ca(), Roots: x.Plan.Binding.Roots, Masked: x.Plan.Binding.Masked,
		Repo:   x.Plan.Binding.Repo,
		Points: []rootfs.Point{{Path: shimwire.Dir, Dir: true}},
	}
	if dir := x.Plan.Binding.GitDir; dir != "" {
		o.Shown = append(o.Shown, rootfs.Point{Path: dir, Dir: true})
	}
	for _, m := range x.Others {
		o.Shown = append(o.Shown, rootfs.Point{Path: m.Target, Dir: m.Dir})
	}
	for _, h := range x.Plan.Binding.KnownHosts {
		o.Hosts = append(o.Hosts, rootfs.HostLine{Name: h.String(), Addr: x.boundary.address(h)})
	}
	for _, k := range x.Plan.Binding.Kept {
		o.Points = append(o.Points, rootfs.Point{Path: k.Target, Dir: true})
	}
	o.Files = append(o.Files, x.Seeds...)
	for _, f := range files {
		o.Files = append(o.Files, rootfs.File{Path: f.Path, Content: []byte(f.Content)})
	}
	if id, err := workspace.Identity(x.Repo, x.Configs); err != nil {
		x.Warn("reading your git identity: " + err.Error())
	} else {
		id = append(append(id, workspace.Rewrites(gitHosts(x.Plan))...), x.gitSigning()...)
		o.Files = append(o.Files, rootfs.File{Path: filepath.Join(u.Home, ".gitconfig"), Content: id})
	}
	if x.Plan.Grants.Isolation.Runtime == "gvisor" {
		x.seeds = o.Files
	}
	return o
}

// mounts puts the repository and the shim after what fills the root. It also gives the repository's own mounts.
func (x *execution) mounts(ctx context.Context, tree rootfs.Tree) ([]Mount, []workspace.Mount, error) {
	scratch := filepath.Join(x.Dir, dirScratch)
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return nil, nil, err
	}
	var err error
	if x.Plan.Grants.Workspace.Mode != plan.Review { // there the agent changes nothing that git would follow
		if x.before, err = workspace.Remember(x.Repo, x.Survey); err != nil {
			return nil, nil, err
		}
	}
	repo, warnings, err := x.repository(ctx, scratch)
	if err != nil {
		return nil, nil, err
	}
	others, places, more, err := workspace.OtherMounts(x.Others, scratch)
	if err != nil {
		return nil, nil, err
	}
	if err := x.watch(repo, places); err != nil {
		return nil, nil, err
	}
	repo = append(repo, others...)
	for _, w := range append(warnings, more...) {
		x.Warn(w)
	}
	x.shown, x.hidden = true, map[file]bool{}
	for _, path := range x.Survey.Hidden {
		x.hidden[identity(path)] = true
	}
	var all []Mount
	for _, m := range tree.Mounts {
		all = append(all, Mount{Type: m.Type, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly, Options: m.Options})
	}
	all = append(all, x.kept(tree)...)
	for _, m := range repo {
		kind := "bind"
		if m.Upper != "" {
			kind = "overlay"
		}
		all = append(all, Mount{Type: kind, Source: m.Source, Target: m.Target, Upper: m.Upper, Work: m.Work, ReadOnly: m.ReadOnly})
	}
	link := filepath.Join(x.Dir, dirLink)
	all = append(all, Mount{Type: "bind", Source: link, Target: shimwire.Dir, ReadOnly: true},
		Mount{Type: "bind", Source: x.Shim, Target: shimwire.ShimPath, ReadOnly: true})
	sealed, err := seal(all)
	return sealed, repo, err
}

func seal(mounts []Mount) ([]Mount, error) {
	info, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("reading what is mounted here: %w", err)
	}
	defer func() { _ = info.Close() }() // only read
	return SealSubmounts(mounts, info)
}

// listen opens the host's end of the shim's socket, in the directory that the container sees.
func (x *execution) listen() (err error) {
	dir := filepath.Join(x.Dir, dirLink)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	point := filepath.Join(dir, filepath.Base(shimwire.ShimPath))
	if err := os.WriteFile(point, nil, 0o600); err != nil {
		return fmt.Errorf("making the shim's mount point: %w", err)
	}
	if x.endpoint, err = transport.New(shimwire.Mode(x.Plan.Binding.Engine.Transport)).Listen(dir); err != nil {
		return err
	}
	return x.openSigning(dir)
}

func (x *execution) labels() map[string]string { return map[string]string{"agentbox.run": x.ID} }

func (x *execution) spec(tree rootfs.Tree, mounts []Mount) Spec {
	b, g := x.Plan.Binding, x.Plan.Grants
	s := Spec{
		Name: x.name, Hostname: hostname, Rootfs: tree.Root, Image: b.Image.ID, Command: []string{shimwire.ShimPath},
		Labels: x.labels(),
		UID:    b.User.UID, GID: b.User.GID, Terminal: x.Terminal != nil, Mounts: mounts, Seccomp: x.Seccomp,
	}
	if g.Isolation.Runtime != "gvisor" { // the service of a gVisor run knows no other
		s.OCIRuntime = b.Engine.Runtime
	}
	if b.Enforced["memory"] {
		s.Limits.Memory = g.Limits.Memory
	}
	if b.Enforced["cpus"] {
		s.Limits.CPUs = g.Limits.CPUs
	}
	if b.Enforced["pids"] {
		s.Limits.Pids = g.Limits.Pids
	}
	return s
}

// config is what the shim is told.
func (x *execution) config(spec Spec, repo []workspace.Mount) (shimwire.Config, error) {
	env, err := x.Plan.Environ(x.Secrets.Placeholder)
	if err != nil {
		return shimwire.Config{}, err
	}
	c := shimwire.Config{
		Listen: x.boundary.listen(),
		Agent: shimwire.Agent{Argv: x.Plan.Binding.Argv, Env: env, Dir: x.Plan.Binding.Directory,
			Terminal: x.Terminal != nil, Nproc: uint64(processes(x.Plan.Grants.Limits)), Nofile: openFiles},
		SelfTest: x.expect(spec, repo),
	}
	if x.Terminal != nil {
		c.Agent.Size = x.Terminal.Size()
	}
	for _, f := range x.seeds {
		c.Files = append(c.Files, shimwire.File{Path: f.Path, Mode: 0o600, Content: f.Content})
	}
	return c, nil
}

// openFiles is how many descriptors each process may have: enough for a development server that watches a tree.
const openFiles = 65536

// processes is how many the agent may have. It is a resource limit as well as a cgroup's, because many machines
// delegate no pids controller.
func processes(l plan.Limits) int64 {
	if l.Pids > 0 {
		return l.Pids
	}
	return 2048
}

// expect is what the self-test must find. What a runtime can't report is left out here and nowhere else.
func (x *execution) expect(spec Spec, repo []workspace.Mount) shimwire.Expect {
	u := x.Plan.Binding.User
	e := shimwire.Expect{
		Seccomp: true, NoNewPrivs: true, UID: u.UID, GID: u.GID,
		Absent: x.Sockets, Empty: slices.Clone(x.Plan.Binding.Hidden), Unreadable: []string{"/etc/shadow", "/etc/gshadow"},
		ReadOnly: x.readOnly(),
		Canary:   x.boundary.canary, Proxy: netip.AddrPortFrom(loopback, plan.ProxyPort).String(),
	}
	for _, m := range repo {
		if m.ReadOnly {
			e.ReadOnly = append(e.ReadOnly, m.Target)
		}
		if m.Kind == workspace.Hide {
			e.Empty = append(e.Empty, m.Target)
		}
	}
	e.ReadOnly = append(e.ReadOnly, x.keptReadOnly...)
	for _, m := range spec.Mounts {
		e.Mounts = append(e.Mounts, m.Target)
		if m.Type == "bind" {
			e.Trees = append(e.Trees, m.Target)
		}
		if !m.ReadOnly {
			e.Writable = append(e.Writable, m.Target)
		}
	}
	if x.Plan.Grants.Isolation.Runtime == "gvisor" { // its own kernel reports no filter
		e.Seccomp = false
	}
	return e
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
