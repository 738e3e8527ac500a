// Package run carries out a plan: it owns the lifetime of everything that a run is made of, and decides nothing.
//
//	prepare ──► create ──► attach ──► start PID 1 ──► take its listeners ──► serve names and proxy
//	                                                                              │
//	   leave nothing ◄── drain output ◄── supervise ◄── start the agent ◄── self-test
//
// Each arrow that fails goes straight to "leave nothing". The agent starts only when everything before it has
// happened. It ends when it ends by itself, when a budget, a person or a signal says so, when the log can't be
// written, and when this process dies: the shim inside ends it as soon as its socket closes.
//
// Runtime is how containers are made (internal/run/podman); transport.Transport is how their listeners reach this
// process. Events go to the log first; an event that can't be written ends the run.
package run
