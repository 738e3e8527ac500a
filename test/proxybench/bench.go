//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// bench is one measurement with all its parts.
type bench struct {
	agentbox, srt, allocs, only string
	rounds, hosts, streams      int
	out                         io.Writer

	work     string // scratch directory
	repo     string // of the run in a container
	server   string // where the server is
	roots    string // PEM of its authority
	client   *child
	children []*child
}

// contender is a way to the server, and the process that is measured on it.
type contender struct {
	name   string
	child  *child // nil without a proxy
	inside bool   // the child has, or is, the client too
	proxy  *child // with inside: the proxy, where the child is only the client
	way    way
	err    error // why it is not there
}

// names of the contenders
const (
	direct      = "direct TLS, no proxy"
	goproxyBare = "goproxy, as it comes"
	goproxyBest = "goproxy, with stores and pools"
	mitm        = "mitmproxy"
	squid       = "squid, ssl-bump"
	srtSpliced  = "srt's proxy, spliced"
	srtOpened   = "srt's proxy, opened"
	inspected   = "agentbox, inspected"
	uncredited  = "agentbox, no credential"
	spliced     = "agentbox, spliced"
)

func (b *bench) run(ctx context.Context) (err error) {
	if b.agentbox, err = filepath.Abs(b.agentbox); err != nil {
		return err
	}
	if b.work, err = os.MkdirTemp("", "agentbox-proxybench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.work) }()
	if err := authorities(b.work); err != nil {
		return err
	}
	defer b.stopAll()
	if err := b.begin(ctx); err != nil {
		return err
	}
	b.header()
	all := b.contenders(ctx)
	b.warmUp(all)
	b.figures(ctx, all)
	fmt.Fprintf(b.out, "\nload at the end: %s. Compare ratios only, and only within one run.\n", machineLoad())
	return nil
}

// begin starts the server and the client.
func (b *bench) begin(ctx context.Context) error {
	s, err := b.play(ctx, "serve")
	if err != nil {
		return err
	}
	b.server = s.place.Addr
	pem, err := os.ReadFile(filepath.Join(b.work, serverCA))
	if err != nil {
		return err
	}
	b.roots = string(pem)
	b.client, err = b.play(ctx, "load")
	return err
}

func (b *bench) stopAll() {
	for i := len(b.children) - 1; i >= 0; i-- {
		b.children[i].stop()
	}
}

func (b *bench) header() {
	cpus, _ := os.ReadFile("/proc/cpuinfo")
	fmt.Fprintf(b.out, "agentbox's proxy: %d processors, load %s, %d rounds\n", bytes.Count(cpus, []byte("\nprocessor"))+1, machineLoad(), b.rounds)
	fmt.Fprintf(b.out, "values are min / median / max of the rounds; ratios are taken round by round, and their median is judged\n")
	fmt.Fprintf(b.out, "agentbox has %s in force, with its event log on the disk and a credential put into each inspected request and looked for in its answer\n", ruleCount())
}

func ruleCount() string {
	set, err := rules()
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d rules", len(set.Rules))
}

func machineLoad() string {
	data, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(data))
	if len(fields) < 1 {
		return "unknown"
	}
	return fields[0]
}

// contenders starts every proxy. One that can't be had says why.
func (b *bench) contenders(ctx context.Context) []*contender {
	all := []*contender{{name: direct, way: way{Authority: b.server, Name: inspectedName, Roots: b.roots}}}
	known := net443(inspectedName)
	_, port, _ := strings.Cut(b.server, ":")
	looked := loopbackName + ":" + port
	self := func(name string) func(context.Context) (*child, error) {
		return func(ctx context.Context) (*child, error) { return b.play(ctx, name) }
	}
	for _, c := range []struct {
		name            string
		start           func(context.Context) (*child, error)
		authority, host string
	}{
		{goproxyBare, self("goproxy"), looked, loopbackName},
		{goproxyBest, self("goproxy-tuned"), looked, loopbackName},
		{mitm, b.mitmproxy, looked, loopbackName},
		{squid, b.squid, looked, loopbackName},
		{srtSpliced, b.srtProxy(false), looked, loopbackName},
		{srtOpened, b.srtProxy(true), looked, loopbackName},
		{uncredited, self("agentbox-bare"), known, inspectedName},
		{inspected, self("agentbox"), known, inspectedName},
	} {
		child, err := c.start(ctx)
		one := &contender{name: c.name, child: child, err: err}
		if err == nil {
			one.way = way{Proxy: child.place.Addr, Authority: c.authority, Name: c.host, Header: child.place.Header, Roots: b.trusted(child)}
		}
		all = append(all, one)
	}
	own := all[len(all)-1]
	copied := &contender{name: spliced, child: own.child, way: own.way, err: own.err}
	copied.way.Authority, copied.way.Name, copied.way.Header, copied.way.Roots = net443(splicedName), splicedName, "", b.roots
	return append(all, copied)
}

// trusted is what the client believes: a proxy that opens tunnels and does not open this one shows as an error.
func (b *bench) trusted(proxy *child) string {
	if proxy.place.CA == "" {
		return b.roots
	}
	return proxy.place.CA
}

func net443(name string) string { return name + ":443" }

// warmUp takes out of the race who does not even answer.
func (b *bench) warmUp(all []*contender) {
	for _, c := range all {
		if c.err == nil {
			_, c.err = b.client.ask(job{Kind: "latency", Way: c.way, Count: 200})
		}
		if c.err != nil {
			fmt.Fprintf(b.out, "%s: not measured: %v\n", c.name, c.err)
		}
	}
}
