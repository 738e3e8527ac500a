//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"agentbox/internal/shimbin"
	"agentbox/internal/shimwire"
	"agentbox/internal/transport"
	"agentbox/internal/transport/transporttest"
)

const proxyInside = "127.0.0.1:3128"

// contained is a client in namespaces like a container's, whose way out is agentbox's proxy over one of its transports:
// all of a run's path but the engine that makes containers. The jobs of its input go to that client.
func contained(mode string) part {
	return func(ctx context.Context, dir string, in io.Reader, out io.Writer) (err error) {
		a, err := newArmed(ctx, dir, os.Getenv(serverEnv), true)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.close()) }()
		return within(ctx, shimwire.Mode(mode), a, in, out)
	}
}

func within(ctx context.Context, mode shimwire.Mode, a *armed, in io.Reader, out io.Writer) error {
	dir, err := os.MkdirTemp("", "run")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := layShim(dir); err != nil {
		return err
	}
	endpoint, err := transport.New(mode).Listen(dir)
	if err != nil {
		return err
	}
	defer func() { _ = endpoint.Close() }()
	cmd := transporttest.Container(dir, "")
	cmd.Stderr = os.Stderr
	forward, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Wait() }()
	link, err := start(ctx, endpoint, a)
	if err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	defer func() { _ = link.Close() }()
	return relayJobs(a.place, in, forward, answers, out)
}

// relayJobs passes jobs in and outcomes out; the client's first line is answered with the place instead.
func relayJobs(at place, in io.Reader, forward io.WriteCloser, answers io.Reader, out io.Writer) error {
	lines := bufio.NewReader(answers)
	if _, err := lines.ReadBytes('\n'); err != nil {
		return fmt.Errorf("starting the client in the container: %w", err)
	}
	if err := tell(out, at); err != nil {
		return err
	}
	for jobs := bufio.NewReaderSize(in, 1<<20); ; {
		line, err := jobs.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return forward.Close()
		}
		if err != nil {
			return err
		}
		if _, err := forward.Write(line); err != nil {
			return err
		}
		if line, err = lines.ReadBytes('\n'); err != nil {
			return err
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
}

// layShim puts the shim where the container looks for it.
func layShim(dir string) error {
	made, err := shimbin.Install(dir)
	if err != nil {
		return err
	}
	return os.Rename(made, filepath.Join(dir, filepath.Base(shimwire.ShimPath)))
}

// start takes the container's listener and lets its client run.
func start(ctx context.Context, endpoint transport.Endpoint, a *armed) (*transport.Link, error) {
	agent := transporttest.Agent(transporttest.ProbePath, "load")
	agent.Env = append(agent.Env, "HTTPS_PROXY=http://"+proxyInside)
	link, err := endpoint.Accept(ctx, shimwire.Config{
		Listen: []shimwire.Listen{{Network: "tcp4", Addr: proxyInside}}, Agent: agent, SelfTest: transporttest.Expect(),
	})
	if err != nil {
		return nil, err
	}
	go func() { _ = a.proxy.ServeProxy(link.Listeners()[0].TCP) }()
	result, err := link.Ready(ctx)
	if err != nil {
		return nil, errors.Join(err, link.Close())
	}
	for _, check := range result.Checks {
		if !check.OK {
			return nil, errors.Join(fmt.Errorf("the self-test: %s: %s", check.Name, check.Detail), link.Close())
		}
	}
	return link, link.Start()
}
