//go:build !gendocs

// Command agentbox runs a coding agent inside a boundary that the agent cannot talk its way past.
package main

import "os"

func main() { os.Exit(Main(os.Args[1:])) }
