//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// names of the ways out of a container
const (
	passedPath  = "proxy alone, listeners passed"
	relayedPath = "proxy alone, relayed"
	wholePath   = "inside agentbox run"
	alonePath   = "proxy alone, on the host"
)

// throughContainers measures what a container costs: a client in namespaces as a container has, whose listeners are
// passed or relayed, and one in a real container of agentbox run.
func (b *bench) throughContainers(ctx context.Context, all []*contender) {
	figures := containerFigures()
	if !slices.ContainsFunc(figures, func(f figure) bool { return b.wanted(f.name) }) {
		return
	}
	own := all[len(all)-2]
	ways := []*contender{
		{name: alonePath, child: b.client, inside: true, proxy: own.child, way: own.way, err: own.err},
		b.clientOf(passedPath, func() (*child, error) { return b.play(ctx, "pass") }),
		b.clientOf(relayedPath, func() (*child, error) { return b.play(ctx, "relay") }),
		b.clientOf(wholePath, func() (*child, error) { return b.realContainer(ctx) }),
	}
	for _, c := range ways {
		if c.err == nil {
			_, c.err = c.child.ask(job{Kind: "latency", Way: c.way, Count: 200})
		}
		if c.err != nil {
			fmt.Fprintf(b.out, "\n%s: not measured: %v", c.name, c.err)
		}
	}
	for _, f := range figures {
		if b.wanted(f.name) {
			b.race(f, ways, func(c *contender, j job) (outcome, error) { return c.child.ask(j) })
		}
	}
}

func containerFigures() []figure {
	aim := []target{{one: wholePath, other: passedPath, ratio: 0.95}, {one: wholePath, other: alonePath, ratio: 0.95}, {one: relayedPath, other: passedPath, ratio: 0.65}}
	const second = 700 * time.Millisecond
	return []figure{
		{name: "from inside a container: small requests per second, 16 warm connections", format: "%.0f", job: job{Kind: "small", Conns: 16, For: second}, value: perSecond, targets: aim},
		{name: "from inside a container: throughput of one 64 MB answer", unit: " MB/s", format: "%.0f", job: job{Kind: "big", Conns: 1}, value: megabytes, targets: aim},
		{name: "from inside a container: new connections with one request each, per second", format: "%.0f", job: job{Kind: "connect", Conns: 4, For: second}, value: perSecond, targets: aim},
	}
}

// clientOf is a contender whose client is a process of its own, which knows its proxy from its environment.
func (b *bench) clientOf(name string, start func() (*child, error)) *contender {
	c := &contender{name: name, inside: true}
	c.child, c.err = start()
	if c.err == nil {
		c.way = way{Env: true, Authority: net443(inspectedName), Name: inspectedName, Header: c.child.place.Header}
		if c.child.place.CA != "" {
			c.way.Roots = c.child.place.CA
		}
	}
	return c
}

// realContainer starts the client with agentbox run, in surroundings of its own.
func (b *bench) realContainer(ctx context.Context) (*child, error) {
	if _, err := os.Stat(b.agentbox); err != nil {
		return nil, err
	}
	b.repo = filepath.Join(b.work, "repo")
	conf := filepath.Join(b.work, "config")
	if err := errors.Join(os.Mkdir(b.repo, 0o755), os.MkdirAll(filepath.Join(conf, "agentbox", "profiles"), 0o700)); err != nil {
		return nil, err
	}
	git := exec.CommandContext(ctx, "git", "init", "-q", b.repo)
	self, err := os.Executable()
	if err := errors.Join(err, git.Run()); err != nil {
		return nil, err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(b.repo, "client"), program, 0o755); err != nil {
		return nil, err
	}
	if err := b.configure(conf); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, b.agentbox, "run", "bench", "--workspace", "direct", "--", filepath.Join(b.repo, "client"), "load")
	cmd.Dir = b.repo
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+conf, "XDG_STATE_HOME="+filepath.Join(b.work, "state"),
		"XDG_CACHE_HOME="+filepath.Join(b.work, "cache"), "BENCH_TOKEN="+realToken)
	return b.greet(cmd, "agentbox run")
}

// configure writes the person's own files: the profile, and where the benchmark's names lead.
func (b *bench) configure(conf string) error {
	home, err := os.UserHomeDir()
	if err != nil {
		return err
	}
	text := fmt.Sprintf("[upstream]\nca = %q\n[upstream.hosts]\n%q = %q\n%q = %q\n", filepath.Join(b.work, serverCA),
		inspectedName, b.server, splicedName, b.server)
	return errors.Join(
		os.Symlink(filepath.Join(home, ".config", "containers"), filepath.Join(conf, "containers")),
		write(filepath.Join(conf, "agentbox", "profiles"), "bench.toml", []byte(profile)),
		write(filepath.Join(conf, "agentbox"), "config.toml", []byte(text)),
	)
}
