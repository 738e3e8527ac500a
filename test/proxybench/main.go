//go:build linux

// Command proxybench measures agentbox's egress proxy beside what it competes with: no proxy, bare goproxy, mitmproxy,
// squid and srt's proxy. The server, the client and each proxy are processes of their own; the contenders take turns
// within each round, so that a noisy machine disturbs all of them alike; what is judged is the median of the rounds'
// ratios. It judges nothing by its exit code: a target that is missed and a contender that this machine lacks are told.
//
// The same program plays every part: without a part's name it is the one that starts the others and prints the figures.
// A part tells where it serves in one line on its standard output, and ends when its standard input does.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"agentbox/internal/transport/transporttest"
)

func main() {
	if transporttest.PlaysContainer() {
		os.Exit(transporttest.Play())
	}
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "proxybench:", err)
		os.Exit(1)
	}
}

// part is what this program can be besides the one that measures.
type part func(ctx context.Context, dir string, in io.Reader, out io.Writer) error

func parts() map[string]part {
	return map[string]part{
		"serve": serve, "load": load, "goproxy": bareGoproxy, "goproxy-tuned": tunedGoproxy, "agentbox": ours(true), "agentbox-bare": ours(false),
		"pass": contained("pass"), "relay": contained("relay"),
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if play, ok := parts()[args[0]]; ok {
			dir := ""
			if len(args) > 1 {
				dir = args[1]
			}
			return play(ctx, dir, os.Stdin, os.Stdout)
		}
	}
	b := bench{out: os.Stdout}
	flags := flag.NewFlagSet("proxybench", flag.ContinueOnError)
	flags.IntVar(&b.rounds, "n", 7, "rounds of each figure")
	flags.IntVar(&b.hosts, "hosts", 10_000, "distinct hosts of the memory figure")
	flags.IntVar(&b.streams, "streams", 1000, "open streams of the memory figure")
	flags.StringVar(&b.agentbox, "agentbox", "bin/agentbox", "the program that is measured with a container")
	flags.StringVar(&b.srt, "srt", "", "the directory of srt's package, @anthropic-ai/sandbox-runtime (empty: leave it out)")
	flags.StringVar(&b.allocs, "allocs", "", "internal/proxy's test program, for the allocations (empty: leave them out)")
	flags.StringVar(&b.only, "only", "", "measure only figures whose name has this in it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return b.run(ctx)
}
