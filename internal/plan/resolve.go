package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"agentbox/internal/policy"
	"agentbox/internal/profiles"
)

// Where the container's own services listen: the proxy on loopback, names on 0.0.0.0 by UDP and TCP.
const (
	ProxyPort = 3128
	DNSPort   = 53
)

// DefaultPids is how many processes a run may have when nobody says.
const DefaultPids = 2048

// Inputs is all that a plan depends on.
type Inputs struct {
	Profile  profiles.Profile
	Floors   profiles.Floors // the organisation's
	Config   profiles.Config
	Manifest string         // Grants.Hash of the built-in and the repository's layers alone
	Args     []string       // what the person gave after --
	Timeout  *time.Duration // of --timeout, in place of the profile's; 0 is none
	Mode     Mode           // of a flag, in place of the profile's; "" leaves it
	Host     Host
}

// Host is what was found out about this machine and person. All paths are absolute with links resolved.
type Host struct {
	User      User
	Repo      string
	GitDir    string            // the repository's git directory where that lies outside of Repo, "" elsewhere
	Directory string            // where the agent starts: Repo or below it
	Program   string            // what Agent.Command[0] was found to be; "" when it was not found
	Path      string            // PATH for inside
	Shell     string            // the person's login shell
	Env       map[string]string // agentbox's own environment
	Tools     map[string]string // variables of it that name something in Roots: NVM_DIR, GOROOT
	Image     ImageFacts        // of the image that is the root; zero where it is the host's own
	Roots     []string          // toolchain roots outside /usr
	Masked    []string          // credential files inside Roots
	Hidden    []string          // matches of the hide patterns
	Shown     []Shown           // what the mounts of the grants are
	NoOverlay string            // why there can be no overlay over the repository; "" when there can
	Remote    Remote            // of the repository, "origin"; zero when it has none
	Engine    EngineFacts
	Signs     Signs // what would sign, if something may be signed
	Terminal  bool
	Caches    string   // where caches of this repository and profile are kept
	State     string   // … and an agent's state
	Warnings  []string // that the plan shows too
}

// EngineFacts is the Podman that was found. Memory, CPUs and Pids say which cgroup controllers are delegated.
type EngineFacts struct {
	Version       string
	Runtime       string // the OCI runtime for ordinary containers: "crun", "runc"
	Connection    string // URI of the service, or "" for one of this run's own
	Memory        bool
	CPUs          bool
	Pids          bool
	GVisor        string // the OCI runtime for gVisor, "runsc"; "" when it cannot be used
	GVisorProblem string // why, and what to do, when it cannot be used
}

// Refusal says that this cannot be run as asked: exit 126.
type Refusal struct {
	Text string
	Tip  string
	Gaps []Gap // what this version cannot carry out, when that is why
}

func (r *Refusal) Error() string { return r.Text }

// Hint says what to do, or "".
func (r *Refusal) Hint() string { return r.Tip }

// NotFound says that the agent's program is not on this machine: exit 127.
type NotFound struct {
	Command string
	Install string // a command, or ""
}

func (e *NotFound) Error() string {
	return fmt.Sprintf("%q is not installed on this machine", e.Command)
}

// Hint says how to install the program.
func (e *NotFound) Hint() string {
	if e.Install == "" {
		return fmt.Sprintf("install %q, or put it on your PATH", e.Command)
	}
	return "install it: " + e.Install
}

// Resolve makes the plan. The error is *Refusals, *Refusal or *NotFound. With a *Refusal that has Gaps, and with *NotFound,
// the plan is given too, whole, to be shown: it cannot be run.
func Resolve(in Inputs) (Plan, error) {
	g, err := Grant(GrantInputs{Profile: in.Profile, Floors: in.Floors, Timeout: in.Timeout, Mode: in.Mode})
	if err != nil {
		return Plan{}, err
	}
	if err := refuse(g); err != nil {
		return Plan{}, err
	}
	b, err := binding(in, g)
	if err != nil {
		return Plan{}, err
	}
	if b.Layer, err = layerOf(in.Host, g); err != nil {
		return Plan{}, err
	}
	if b.Kept, err = keptOf(in.Host, g); err != nil {
		return Plan{}, err
	}
	if b.Seeds, err = seedsOf(in.Host, g); err != nil {
		return Plan{}, err
	}
	p := Plan{Version: 1, Hash: g.Hash(), Manifest: in.Manifest, Grants: g, Binding: b}
	if gaps := gapsError(g); gaps != nil {
		return p, gaps
	}
	if err := refuseRuntime(in, g); err != nil {
		return Plan{}, err
	}
	if err := refuseImage(in.Host.Image); err != nil {
		return p, err
	}
	if in.Host.Program == "" && !b.Image.Used() { // in an image it is looked for when the container is there
		return p, &NotFound{Command: g.Agent.Command[0], Install: g.Agent.Install}
	}
	return p, nil
}

// Network is every rule of the run: those of the grants, and what "origin" means in this repository.
func (p Plan) Network() policy.Set {
	set := p.Grants.Set()
	set.Rules = slices.Concat(set.Rules, p.Binding.Rules)
	return set
}

// Set is what the grants say of the network: rules, and what may be done to repositories.
func (g Grants) Set() policy.Set {
	set := g.Network
	set.Git = nil
	for _, r := range g.Git {
		set.Git = append(set.Git, r.rule())
	}
	return set
}

// rule is what the gate takes. A remote whose host is none names nothing.
func (r GitRule) rule() policy.GitRule {
	name, repo, _ := strings.Cut(r.Remote, "/")
	host, _ := policy.ParseHost(name) // before its outcome is looked at: it is zero then
	return policy.GitRule{Host: host, Repo: repo, Fetch: r.Fetch, Push: r.Push, Force: r.Force, Delete: r.Delete, Origin: r.Origin}
}

// refuse finds what this machine or this version cannot carry out. It never weakens what was asked for.
func refuse(g Grants) error {
	for name := range g.Agent.Env {
		if reserved(name) {
			return &Refusal{Text: fmt.Sprintf("profile %q sets %s, which agentbox sets itself", g.Profile, name), Tip: "take it out of [agent] env"}
		}
	}
	for _, c := range g.Credentials {
		if reserved(c.Env) {
			return &Refusal{Text: fmt.Sprintf("credential %q is to appear in %s, which agentbox sets itself", c.Name, c.Env), Tip: "choose another env"}
		}
	}
	return nil
}

// refuseRuntime finds an isolation that this machine does not have.
func refuseRuntime(in Inputs, g Grants) error {
	if e := in.Host.Engine; g.Isolation.Runtime == "gvisor" && e.GVisor == "" {
		return &Refusal{Text: "the profile asks for gvisor, which cannot be used here" + after(": ", e.GVisorProblem),
			Tip: `install runsc and see "agentbox doctor", or choose runtime = "container" in a profile of your own`}
	}
	return nil
}

func after(separator, s string) string {
	if s == "" {
		return ""
	}
	return separator + s
}

func binding(in Inputs, g Grants) (Binding, error) {
	h := in.Host
	env, err := environment(in, g)
	if err != nil {
		return Binding{}, err
	}
	origin, unusable := originOf(h.Remote, g)
	set := g.Set()
	set.Rules = slices.Concat(set.Rules, origin)
	signs := h.Signs
	if g.Signing.Commits == "" {
		signs = Signs{}
	}
	remote := ""
	if len(origin) > 0 {
		remote = h.Remote.String()
	}
	if g.Agent.Rootfs != hostRoot { // none of this machine's own is shown
		h.Roots, h.Masked = nil, nil
	}
	return Binding{
		Repo: h.Repo, GitDir: h.GitDir, Directory: h.Directory, Argv: argv(in, g), Env: env, User: h.User, Image: imageOf(h.Image, g),
		Roots: list(h.Roots), Masked: list(h.Masked), Hidden: list(h.Hidden), Shown: h.Shown,
		Engine: engine(h.Engine, g), Upstream: upstream(in), Signs: signs, Terminal: h.Terminal,
		Remote: remote, Rules: origin, Warnings: append(warnings(h, g), unusable...), Enforced: enforced(h.Engine, g),
		ListenTCP: listenTCP(set), KnownHosts: knownHosts(set), Uses: g.Uses(),
	}, nil
}

// list is sorted, without doubles, and never nil: a plan as JSON has [] and not null.
func list[T ~string](s []T) []T {
	out := append([]T{}, s...)
	slices.Sort(out)
	return slices.Compact(out)
}

func argv(in Inputs, g Grants) []string {
	args := in.Args
	if len(args) == 0 {
		args = g.Agent.Args
	}
	return slices.Concat([]string{cmp.Or(in.Host.Program, g.Agent.Command[0])}, g.Agent.Command[min(1, len(g.Agent.Command)):], args)
}

func engine(e EngineFacts, g Grants) Engine {
	if g.Isolation.Runtime == "gvisor" {
		return Engine{Version: e.Version, Runtime: e.GVisor, Transport: "relay"} // its service is always this run's own
	}
	return Engine{Version: e.Version, Runtime: e.Runtime, Transport: "pass", Connection: e.Connection}
}

// enforced says which limits hold. Only what the review mode keeps apart is measured: in the other modes what is written
// goes where everything goes.
func enforced(e EngineFacts, g Grants) map[string]bool {
	return map[string]bool{"memory": e.Memory, "cpus": e.CPUs, "pids": e.Pids, "disk": g.Workspace.Mode == Review}
}

// warnings are the host's, one for each secret that is handed in, and one for each limit that this machine cannot hold.
func warnings(h Host, g Grants) []string {
	out := append(append([]string{}, h.Warnings...), exposed(h, g)...)
	missing := func(name, controller string, asked, has bool) {
		if asked && !has {
			out = append(out, fmt.Sprintf("the limit on %s is not enforced: the cgroup controller %q is not delegated to you (see agentbox doctor)", name, controller))
		}
	}
	missing("memory", "memory", g.Limits.Memory > 0, h.Engine.Memory)
	missing("cpus", "cpu", g.Limits.CPUs > 0, h.Engine.CPUs)
	missing("pids", "pids", g.Limits.Pids > 0, h.Engine.Pids)
	return out
}

// listenTCP is the ports at which programs that know no proxy are met: the usual ones and those of the rules.
func listenTCP(s policy.Set) []uint16 {
	ports := []uint16{22, 80, 443}
	for _, r := range s.Rules {
		ports = append(ports, r.Ports...)
	}
	slices.Sort(ports)
	ports = slices.Compact(ports)
	return slices.DeleteFunc(ports, func(p uint16) bool { return p == ProxyPort || p == DNSPort })
}

func knownHosts(s policy.Set) []policy.Host {
	names := map[string]policy.Host{}
	for _, r := range s.Rules {
		if h, ok := r.Host.Exact(); ok && (r.Action == policy.Allow || r.Action == policy.Ask) {
			names[h.String()] = h
		}
	}
	for _, r := range s.Git {
		if r.Fetch || len(r.Push) > 0 {
			names[r.Host.String()] = r.Host
		}
	}
	delete(names, "")
	out := make([]policy.Host, 0, len(names))
	for _, n := range slices.Sorted(maps.Keys(names)) {
		out = append(out, names[n])
	}
	return out
}
