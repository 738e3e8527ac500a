//go:build linux

package shim

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A run ended with "waiting for the agent to start: connection reset by peer": what was to be run was as long as the
// reader's buffer, but for the end of its line, which stayed in the socket and reset it when the agent took its place.
func TestWhatIsToBeRunMayHaveAnyLength(t *testing.T) {
	for n := range 4096 {
		spec := execSpec{Path: "/bin/true", Env: []string{strings.Repeat("x", n)}}
		if err := conversation(spec); err != nil {
			t.Fatalf("with %d letters more: %v", n, err)
		}
	}
}

// conversation has converse speak to a reader that goes away when it knows what to run, as the exec role does.
func conversation(spec execSpec) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "spec"), os.NewFile(uintptr(pair[1]), "spec")
	defer ours.Close()
	read := make(chan error, 1)
	go func() {
		got, err := readSpec(theirs)
		if err == nil && got.Env[0] != spec.Env[0] {
			err = fmt.Errorf("%d letters arrived, %d were sent", len(got.Env[0]), len(spec.Env[0]))
		}
		theirs.Close()
		read <- err
	}()
	if err := converse(ours, spec); err != nil {
		return err
	}
	return <-read
}
