package podman

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// overlayTime bounds how long the kernel is asked.
const overlayTime = 20 * time.Second

// TryOverlay has the kernel make overlays over directories as it would for a container, with the shim and in a scratch directory
// that the caller removes. It asks in a namespace of its own, which is quick; where people may make none, in Podman's, once
// that is ready: of two Podmans that are both the first since boot, one loses the socket that it was handed.
func TryOverlay(ctx context.Context, ready func(context.Context) error, shim, scratch string, lower ...string) error {
	ctx, cancel := context.WithTimeout(ctx, overlayTime)
	defer cancel()
	args := append([]string{scratch}, lower...)
	if said(exec.CommandContext(ctx, shim, append([]string{"overlay"}, args...)...)) == nil {
		return nil
	}
	if err := ready(ctx); err != nil {
		return err
	}
	return said(exec.CommandContext(ctx, "podman", append([]string{"unshare", shim, "overlay-here"}, args...)...))
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
