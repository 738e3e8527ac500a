//go:build linux

package shim

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// inNamespaces runs the shim once more in user and mount namespaces of its own, and gives its exit code.
func inNamespaces(args []string) int {
	// Nobody could say who is who in the namespace of a process that nobody may look at; and there is nothing in this one.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		complain("making a namespace: %v", err)
		return exitInternal
	}
	one := func(id int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
	}
	p, err := os.StartProcess("/proc/self/exe", args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: one(os.Getuid()), GidMappings: one(os.Getgid()), Pdeathsig: syscall.SIGKILL}})
	if err != nil {
		complain("making a namespace: %v", err)
		return exitInternal
	}
	state, err := p.Wait()
	if err != nil {
		complain("waiting for the kernel: %v", err)
		return exitInternal
	}
	return state.ExitCode()
}

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
