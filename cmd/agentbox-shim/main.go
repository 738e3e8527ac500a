//go:build linux

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command agentbox-shim is PID 1 of an agentbox container, and the host's janitor for a run that was killed.
// Package shim holds all of it.
package main

import (
	"os"

	"agentbox/internal/shim"
)

// A thread names itself, and that of the main thread is the name of the process: initialisation is the last that is
// certain to run there.
func init() { shim.TakeName() }

func main() { os.Exit(shim.Main(os.Args)) }
