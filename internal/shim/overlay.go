//go:build linux

package shim

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// tryOverlays mounts an overlay over each directory, with its upper layer in scratch, and writes to it. It is called in user and
// mount namespaces of its own, which take the mounts along when it ends. What is below is not touched.
func tryOverlays(scratch string, lower []string) int {
	for i, dir := range lower {
		if err := tryOverlay(filepath.Join(scratch, strconv.Itoa(i)), dir); err != nil {
			complain("an overlay over %s: %v", dir, err)
			return 1
		}
	}
	return 0
}

func tryOverlay(scratch, lower string) error {
	upper, work, merged := filepath.Join(scratch, "upper"), filepath.Join(scratch, "work"), filepath.Join(scratch, "merged")
	for _, dir := range []string{upper, work, merged} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	err := unix.Mount("overlay", merged, "overlay", unix.MS_NOSUID|unix.MS_NODEV, "lowerdir="+lower+",upperdir="+upper+",workdir="+work+",userxattr")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(merged, ".agentbox-try"), nil, 0o600)
}
