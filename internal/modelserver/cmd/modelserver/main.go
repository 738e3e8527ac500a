// Command modelserver runs a scripted model API for trying agents by hand and for benches. It prints one JSON object
// with its address on stdout and serves until it is told to end.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"agentbox/internal/modelserver"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "modelserver:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	cfg, caOut, verbose, err := parse(args)
	if err != nil {
		return err
	}
	if verbose {
		cfg.OnAsk = func(r modelserver.Request) { fmt.Fprintln(os.Stderr, r.Method, r.Host, r.Path) }
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server, err := modelserver.Start(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	if caOut != "" {
		if err := os.WriteFile(caOut, server.CAPEM(), 0o644); err != nil {
			return fmt.Errorf("writing the CA: %w", err)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"addr": server.Addr(), "ca": caOut}); err != nil {
		return fmt.Errorf("writing the address: %w", err)
	}
	<-ctx.Done()
	return nil
}

func parse(args []string) (cfg modelserver.Config, caOut string, verbose bool, err error) {
	cfg.Task = modelserver.DefaultTask()
	f := flag.NewFlagSet("modelserver", flag.ContinueOnError)
	f.StringVar(&cfg.Addr, "addr", "127.0.0.1:0", "where to listen")
	f.BoolVar(&cfg.Plain, "plain", false, "speak HTTP without TLS")
	f.StringVar(&caOut, "ca-out", "", "file to write the CA certificate to")
	f.StringVar(&cfg.Key, "key", "", "the API key to insist on")
	f.StringVar(&cfg.Task.File, "file", cfg.Task.File, "the file that the agent is to write")
	f.StringVar(&cfg.Task.Content, "content", cfg.Task.Content, "what the file is to hold")
	f.StringVar(&cfg.Task.Command, "command", cfg.Task.Command, "what the agent is to run")
	f.StringVar(&cfg.Task.Final, "final", cfg.Task.Final, "the model's last words")
	f.BoolVar(&verbose, "v", false, "print each request on stderr")
	err = f.Parse(args)
	return cfg, caOut, verbose, err
}
