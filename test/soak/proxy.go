package main

import (
	"bufio"
	"context"
	"encoding/json"
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

// Names of the servers, which no name service knows.
const (
	inspectedName = "soak.test"
	splicedName   = "spliced.soak.test"
	plainName     = "plain.soak.test"
	tcpName       = "tcp.soak.test"
	deniedName    = "denied.test"
	tcpPort       = 5432
)

const profile = `version = 1
[agent]
command = ["env", "--"]

[network]
default = "deny"
use = ["npm", "go"]

[[network.rule]]
action = "allow"
host = "` + inspectedName + `"

[[network.rule]]
action = "deny"
host = "` + inspectedName + `"
paths = ["/denied/**"]

[[network.rule]]
action = "allow"
host = "` + splicedName + `"
inspect = false

[[network.rule]]
action = "allow"
host = "` + plainName + `"
ports = [80]

[[network.rule]]
action = "allow"
host = "` + tcpName + `"
ports = [5432]
protocol = "tcp"

[[credential]]
name = "soak"
source = { env = "SOAK_TOKEN" }
hosts = ["` + inspectedName + `"]
header = "Authorization: Bearer {token}"
env = "SOAK_TOKEN"
`

const realToken = "soak-real-0123456789abcdef"

// orders is what the proxy process is told in its first line.
type orders struct {
	Roots string            // PEM of the servers' authority
	Fixed map[string]string // name → address
}

// place is what it answers.
type place struct {
	Addr, CA, Placeholder string
}

// state is what it answers to each further line.
type state struct {
	Heap        uint64 // bytes, after a collection
	Goroutines  int
	Descriptors int
	Resident    string // as the kernel writes it
}

func rules() (policy.Set, error) {
	loaded, err := profiles.Load("soak", profiles.Files{
		BuiltIn: builtin.Files(), User: fstest.MapFS{"profiles/soak.toml": {Data: []byte(profile)}}, UserDir: "user",
	})
	if err != nil {
		return policy.Set{}, err
	}
	g, err := plan.Grant(plan.GrantInputs{Profile: loaded.Profile})
	return g.Network, err
}

// serveProxy is the proxy process, with its event log in dir. It ends with its input.
func serveProxy(ctx context.Context, dir string, in io.Reader, out io.Writer) (err error) {
	lines := bufio.NewReader(in)
	var o orders
	if err := readLine(lines, &o); err != nil {
		return err
	}
	log, err := eventlog.Create(filepath.Join(dir, "events.jsonl"), "soak", time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	p, at, err := newProxy(ctx, o, log)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- p.ServeProxy(l) }()
	defer func() { err = errors.Join(err, p.Close(), <-served) }()
	at.Addr = l.Addr().String()
	if err := tell(out, at); err != nil {
		return err
	}
	return answerStates(lines, out)
}

func newProxy(ctx context.Context, o orders, log *eventlog.Writer) (*proxy.Proxy, place, error) {
	set, err := rules()
	if err != nil {
		return nil, place{}, err
	}
	fixed := map[policy.Host]string{}
	for name, addr := range o.Fixed {
		h, err := policy.ParseHost(name)
		if err != nil {
			return nil, place{}, err
		}
		fixed[h] = addr
	}
	ca, err := proxy.NewCA(time.Now())
	if err != nil {
		return nil, place{}, err
	}
	host, err := policy.ParseHost(inspectedName)
	if err != nil {
		return nil, place{}, err
	}
	broker, err := secrets.NewBroker(ctx, []secrets.Credential{{Name: "soak", Source: token(realToken), Hosts: []policy.Host{host}, Header: "Authorization: Bearer {token}"}})
	if err != nil {
		return nil, place{}, err
	}
	judge := gate.New(set, log)
	p, err := proxy.New(proxy.Config{CA: ca, Gate: judge, Events: judge, Injector: broker, ExtraRoots: []byte(o.Roots), Fixed: fixed})
	return p, place{CA: string(ca.PEM()), Placeholder: broker.Placeholder("soak")}, err
}

// answerStates tells how the process is for each line that comes.
func answerStates(lines *bufio.Reader, out io.Writer) error {
	for {
		if _, err := lines.ReadString('\n'); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := tell(out, current()); err != nil {
			return err
		}
	}
}

func current() state {
	runtime.GC()
	runtime.GC() // what finalizers and pools held until now
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	open, _ := os.ReadDir("/proc/self/fd")
	status, _ := os.ReadFile("/proc/self/status")
	return state{Heap: m.HeapAlloc, Goroutines: runtime.NumGoroutine(), Descriptors: len(open), Resident: resident(string(status))}
}

func tell(out io.Writer, what any) error {
	line, err := json.Marshal(what)
	if err != nil {
		return err
	}
	_, err = out.Write(append(line, '\n'))
	return err
}

func readLine(in *bufio.Reader, into any) error {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("reading a line of the other process: %w", err)
	}
	return json.Unmarshal(line, into)
}

// token is a credential's source that always gives the same.
type token string

func (t token) Fetch(context.Context) (secrets.Lease, error) {
	return secrets.Lease{Value: secrets.New(string(t))}, nil
}
