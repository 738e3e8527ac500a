// Command soak sends very many requests of every kind through one proxy process and looks whether the process is as it
// was after the first tenth of them: its heap after a collection, its goroutines, its open descriptors. It exits with 1
// when one has grown, or when a request was not answered as it had to be.
//
// Server and clients are this process, the proxy is another one: this program again, with the argument "proxy".
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == "proxy" {
		return serveProxy(ctx, args[1], os.Stdin, os.Stdout)
	}
	s := soak{out: os.Stdout}
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.Int64Var(&s.total, "n", 1_000_000, "requests to send")
	flags.IntVar(&s.workers, "workers", 8, "clients at the same time")
	limit := flags.Duration("limit", time.Hour, "give up after so long")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	return s.run(ctx)
}
