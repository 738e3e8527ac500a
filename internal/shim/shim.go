//go:build linux

// Package shim is what runs as PID 1 of the container: it opens the container's listeners and gives them to
// the host, proves the boundary from inside, starts the agent, reaps, forwards signals, and ends everything as
// soon as the host is gone.
//
// It stands inside the boundary with no more rights than the agent, so the host trusts nothing it says without
// checking; what it owes the host is to die with it. Package shimwire is the conversation. The same program has
// more roles: "exec" is the agent's process just before it becomes the agent, "janitor" removes a run's
// directory on the host when agentbox is gone, "hold" keeps namespaces for a build, "overlay" has the host's kernel make an overlay, to see whether it does, and under the names of gpg and ssh-keygen it is git's program for
// signatures, which asks the host for them. It imports the standard library (without net) and x/sys only.
package shim

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"agentbox/internal/shimwire"
)

const (
	execRole     = "exec"
	janitorRole  = "janitor"
	holdRole     = "hold"
	overlayRole  = "overlay"
	overHereRole = "overlay-here"
)

// Exit codes of the shim that are not the agent's own.
const (
	exitUsage    = 2
	exitInternal = 125
	exitRefused  = 126 // the self-test failed and the host went on nevertheless
	exitNotFound = 127
	exitKilled   = 137 // the host is gone
)

// Main runs the role that args (as os.Args) ask for and returns the exit code.
func Main(args []string) int {
	harden()
	switch {
	case len(args) > 0 && args[0] == shimwire.SignGPG:
		return askGPG(args[1:])
	case len(args) > 0 && args[0] == shimwire.SignSSH:
		return askSSH(args[1:])
	case len(args) == 1:
		return runPID1()
	case len(args) == 2 && args[1] == execRole:
		return becomeAgent()
	case len(args) == 3 && args[1] == janitorRole:
		return janitor(args[2])
	case len(args) == 2 && args[1] == holdRole:
		return hold()
	case len(args) > 3 && args[1] == overlayRole:
		return inNamespaces(append([]string{args[0], overHereRole}, args[2:]...))
	case len(args) > 3 && args[1] == overHereRole:
		return tryOverlays(args[2], args[3:])
	}
	complain("usage: agentbox-shim | agentbox-shim janitor DIR | agentbox-shim hold | agentbox-shim overlay|overlay-here SCRATCH DIR...")
	return exitUsage
}

// harden is the first act of every role. Without it, and without Yama, the agent could trace PID 1, which runs
// as the same user, and take its descriptors. Descriptors that came from whoever started the shim end with it.
func harden() {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		complain("switching off ptrace of the shim: %v", err)
		os.Exit(exitInternal)
	}
	unix.Umask(0o022)
	closeOnExec(3)
}

// TakeName gives the calling thread the name that ps shows. It is for the eye alone: nothing decides by it.
func TakeName() {
	name := append([]byte("agentbox-shim"), 0)
	_ = unix.Prctl(unix.PR_SET_NAME, pointer(name), 0, 0, 0)
}

// closeOnExec marks every descriptor from first on.
func closeOnExec(first uint) {
	if unix.CloseRange(first, ^uint(0)>>32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	names, err := os.ReadDir("/proc/self/fd") // kernels before 5.11, and gVisor
	if err != nil {
		return
	}
	for _, n := range names {
		if fd, ok := number(n.Name()); ok && fd >= int(first) {
			unix.CloseOnExec(fd)
		}
	}
}

// killAll ends every other process of the container. Anywhere else than as PID 1 it does nothing.
func killAll() {
	if os.Getpid() == 1 {
		_ = unix.Kill(-1, unix.SIGKILL) // ESRCH: nobody is left
	}
}

func complain(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "agentbox-shim: "+format+"\n", args...)
}
