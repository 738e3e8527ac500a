//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing/fstest"
	"time"

	"agentbox/internal/eventlog"
	"agentbox/internal/gate"
	"agentbox/internal/plan"
	"agentbox/internal/policy"
	"agentbox/internal/profiles"
	"agentbox/internal/proxy"
	"agentbox/internal/secrets"
	builtin "agentbox/profiles"
)

// profile is what a team's profile looks like: several sets, rules by method and path, denials, a credential.
const profile = `version = 1
description = "What the benchmark asks for"

[agent]
command = ["env", "--"]

[workspace]
mode = "direct"

[network]
default = "deny"
use = ["npm", "pypi", "go", "crates", "debian", "github", "node", "maven"]

[[network.rule]]
action = "allow"
host = "` + inspectedName + `"
methods = ["GET", "HEAD", "POST"]
paths = ["/api/v1/**", "/static/**", "/healthz"]

[[network.rule]]
action = "deny"
host = "` + inspectedName + `"
paths = ["/api/v1/admin/**", "/internal/**"]

[[network.rule]]
action = "deny"
host = "*.` + manyNames + `"
methods = ["DELETE", "PUT"]

[[network.rule]]
action = "allow"
host = "*.` + manyNames + `"

[[network.rule]]
action = "allow"
host = "` + splicedName + `"
inspect = false

[[credential]]
name = "bench"
source = { env = "BENCH_TOKEN" }
hosts = ["` + inspectedName + `"]
header = "Authorization: Bearer {token}"
env = "BENCH_TOKEN"

[isolation]
runtime = "container"
`

const realToken = "bench-real-0123456789abcdef0123456789abcdef0123" // as long as its placeholder, as tokens are that have a shape

// rules reads the profile as a run does.
func rules() (policy.Set, error) {
	loaded, err := profiles.Load("bench", profiles.Files{
		BuiltIn: builtin.Files(), User: fstest.MapFS{"profiles/bench.toml": {Data: []byte(profile)}}, UserDir: "user",
	})
	if err != nil {
		return policy.Set{}, err
	}
	g, err := plan.Grant(plan.GrantInputs{Profile: loaded.Profile})
	return g.Network, err
}

// armed is agentbox's proxy with everything around it that a run has: rules, gate, an event log on the disk, a credential.
type armed struct {
	proxy  *proxy.Proxy
	log    *eventlog.Writer
	broker *secrets.Broker
	place  place
}

// newArmed leads every name of the benchmark to the server at addr. Without a credential nothing is put into requests, and
// nothing looked for in answers.
func newArmed(ctx context.Context, dir, addr string, credential bool) (*armed, error) {
	set, err := rules()
	if err != nil {
		return nil, err
	}
	trusted, err := os.ReadFile(filepath.Join(dir, serverCA))
	if err != nil {
		return nil, err
	}
	ca, err := proxy.NewCA(time.Now())
	if err != nil {
		return nil, err
	}
	a := &armed{}
	if a.log, err = eventlog.Create(filepath.Join(dir, fmt.Sprintf("events-%d.jsonl", os.Getpid())), "bench", time.Now); err != nil {
		return nil, err
	}
	fixed, err := routes(addr)
	if err != nil {
		return nil, err
	}
	if a.broker, err = newBroker(ctx, fixed.inspected); err != nil {
		return nil, err
	}
	judge := gate.New(set, a.log)
	config := proxy.Config{CA: ca, Gate: judge, Events: judge, ExtraRoots: trusted, Fixed: fixed.all}
	if credential {
		config.Injector, config.Scrubber = a.broker, a.broker
	}
	a.proxy, err = proxy.New(config)
	a.place = place{CA: string(ca.PEM()), Header: "Authorization: Bearer " + a.broker.Placeholder("bench")}
	return a, err
}

// token is a credential's source that always gives the same.
type token string

func (t token) Fetch(context.Context) (secrets.Lease, error) {
	return secrets.Lease{Value: secrets.New(string(t))}, nil
}

func newBroker(ctx context.Context, host policy.Host) (*secrets.Broker, error) {
	credential := secrets.Credential{Name: "bench", Source: token(realToken), Hosts: []policy.Host{host}, Header: "Authorization: Bearer {token}"}
	b, err := secrets.NewBroker(ctx, []secrets.Credential{credential})
	if err != nil {
		return nil, err
	}
	b.Preload()
	return b, errors.Join(b.Problems(ctx)...)
}

// routed are the names of the benchmark with the address that they lead to.
type routed struct {
	inspected policy.Host
	all       map[policy.Host]string
}

// maxHosts is how many distinct hosts can be had.
const maxHosts = 20_000

func routes(addr string) (r routed, err error) {
	r.all = make(map[policy.Host]string, maxHosts+2)
	if r.inspected, err = policy.ParseHost(inspectedName); err != nil {
		return r, err
	}
	names := []string{inspectedName, splicedName}
	for i := range maxHosts {
		names = append(names, fmt.Sprintf("h%d.%s", i, manyNames))
	}
	for _, name := range names {
		h, err := policy.ParseHost(name)
		if err != nil {
			return r, err
		}
		r.all[h] = addr
	}
	return r, nil
}

func (a *armed) close() error {
	err := a.proxy.Close()
	a.broker.Close()
	return errors.Join(err, a.log.Close())
}

// ours serves agentbox's proxy on loopback.
func ours(credential bool) part {
	return func(ctx context.Context, dir string, in io.Reader, out io.Writer) error {
		return serveOurs(ctx, dir, in, out, credential)
	}
}

func serveOurs(ctx context.Context, dir string, in io.Reader, out io.Writer, credential bool) (err error) {
	a, err := newArmed(ctx, dir, os.Getenv(serverEnv), credential)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- a.proxy.ServeProxy(l) }()
	a.place.Addr = l.Addr().String()
	runtime.GC() // what the preparation left is none of the proxy's
	if err := tell(out, a.place); err != nil {
		return err
	}
	if err := untilEnd(in); err != nil {
		return err
	}
	return errors.Join(a.proxy.Close(), <-served)
}

// serverEnv tells a part where the server is.
const serverEnv = "PROXYBENCH_SERVER"
