//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// streamsLimit is the memory, in MB, that agentbox may take with all streams open.
const streamsLimit = 100

// memoryOfStreams opens streams through each proxy, each on a connection of its own, and looks at the proxy's memory
// while they are open; through agentbox once more with many on each connection.
func (b *bench) memoryOfStreams(all []*contender) {
	name := fmt.Sprintf("memory with %d open streams, each on a connection of its own", b.streams)
	if !b.wanted(name) {
		return
	}
	fmt.Fprintf(b.out, "\n%s\n", name)
	for _, c := range all {
		if c.name == inspected { // first, since a process does not give back at once what it has had
			b.memoryOf(c, "hold2", fmt.Sprintf(", HTTP/2, %d on each", perConnection))
		}
		if c.child != nil && c.name != spliced && c.name != uncredited {
			b.memoryOf(c, "hold", "")
		}
	}
}

func (b *bench) memoryOf(c *contender, kind, how string) {
	if c.err != nil {
		fmt.Fprintf(b.out, "  %-34s not measured: it is not there\n", c.name+how)
		return
	}
	before, err1 := resident(c.child.cmd.Process.Pid)
	_, err := b.client.ask(job{Kind: kind, Way: c.way, Count: b.streams})
	open, err2 := resident(c.child.cmd.Process.Pid)
	_, _ = b.client.ask(job{Kind: "drop", Way: c.way})
	if err := firstOf(err, err1, err2); err != nil {
		fmt.Fprintf(b.out, "  %-34s not measured: %v\n", c.name+how, err)
		return
	}
	verdict := ""
	if c.name == inspected {
		verdict = fmt.Sprintf("(target: at most %d MB, %s)", streamsLimit, word(open <= streamsLimit))
	}
	fmt.Fprintf(b.out, "  %-34s %.1f MB resident, %.1f MB before  %s\n", c.name+how, open, before, verdict)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// flatness is how much more memory agentbox may take after all hosts than after a fifth of them.
const flatness = 1.2

// memoryOfHosts visits distinct hosts through agentbox and looks at its memory on the way.
func (b *bench) memoryOfHosts(all []*contender) {
	n := min(b.hosts, maxHosts)
	name := fmt.Sprintf("memory after %d distinct hosts, a connection and a request each", n)
	if !b.wanted(name) {
		return
	}
	fmt.Fprintf(b.out, "\n%s\n", name)
	c := all[len(all)-2]
	if c.err != nil {
		fmt.Fprintf(b.out, "  %-34s not measured: it is not there\n", c.name)
		return
	}
	const steps = 5
	var seen []float64
	for i := range steps {
		w := c.way
		w.Header = "" // the placeholder may not go there
		if _, err := b.client.ask(job{Kind: "hosts", Way: w, Conns: 4, Count: n / steps, Offset: i * n / steps}); err != nil {
			fmt.Fprintf(b.out, "  %-34s not measured: %v\n", c.name, err)
			return
		}
		mb, err := resident(c.child.cmd.Process.Pid)
		if err != nil {
			fmt.Fprintf(b.out, "  %-34s not measured: %v\n", c.name, err)
			return
		}
		seen = append(seen, mb)
	}
	ratio := seen[steps-1] / seen[0]
	fmt.Fprintf(b.out, "  %-34s %.1f MB resident after each fifth; last to first %.2f  %s\n", c.name, seen, ratio,
		target{ratio: flatness, atMost: true}.verdict(ratio))
}

// allocations runs the benchmark of internal/proxy that counts them.
func (b *bench) allocations(ctx context.Context) {
	const name = "allocations of one inspected request, client and server taken off"
	if !b.wanted(name) {
		return
	}
	fmt.Fprintf(b.out, "\n%s\n", name)
	if b.allocs == "" {
		fmt.Fprintf(b.out, "  not measured: internal/proxy's test program was not given\n")
		return
	}
	cmd := exec.CommandContext(ctx, b.allocs, "-test.run=^$", "-test.bench=^BenchmarkPipeline$", "-test.benchmem", "-test.benchtime=20000x")
	out, err := cmd.Output()
	found := false
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "BenchmarkPipeline") {
			fmt.Fprintf(b.out, "  %s\n", strings.Join(strings.Fields(lines.Text()), " "))
			found = true
		}
	}
	if !found {
		fmt.Fprintf(b.out, "  not measured: %v: the benchmark printed no figure\n", err)
	}
}
