package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// overlayTime bounds how long the kernel is asked.
const overlayTime = 20 * time.Second

// TryOverlay has the kernel make overlays over directories as it would for a container, with the shim and in a scratch directory
// that the caller removes. It asks in a namespace of its own, which is quick; where people may make none, in Podman's.
func TryOverlay(ctx context.Context, shim, scratch string, lower ...string) error {
	ctx, cancel := context.WithTimeout(ctx, overlayTime)
	defer cancel()
	args := append([]string{"overlay", scratch}, lower...)
	own := exec.CommandContext(ctx, shim, args...)
	own.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if said(own) == nil {
		return nil
	}
	return said(exec.CommandContext(ctx, "podman", append([]string{"unshare", shim}, args...)...))
}

// said gives the program's last words as its error.
func said(cmd *exec.Cmd) error {
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return errors.New(strings.TrimPrefix(last, "agentbox-shim: "))
	}
	return fmt.Errorf("asking it: %w", err)
}
