package podman

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// RemoveAll removes a directory with all that a container wrote there. Some of it may belong to a subordinate uid, or be
// closed to its own owner: that takes the user namespace.
func RemoveAll(ctx context.Context, dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "podman", "unshare", "rm", "-rf", "--one-file-system", "--", dir)
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("removing %s: %w: %s", dir, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// removeTime bounds how long a removal goes on after the run's own end.
const removeTime = 5 * cleanupTime
