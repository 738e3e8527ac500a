package run

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// held is a process that has files open for others to find.
type held struct {
	cmd  *exec.Cmd
	pipe io.Closer
}

// startHeld has a process in the user namespace of the engine hold files: from there the engine may look at nothing outside.
// The last file is that namespace. Joining one takes a process of a single thread, which is nsenter and no program in Go.
func startHeld(shim string, files []*os.File) (*held, error) {
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return nil, &Failure{Code: CodeFailed, Text: "building an image takes nsenter, which is not on this machine", Hint: "install util-linux"}
	}
	cmd := exec.Command(nsenter, "--preserve-credentials", fmt.Sprintf("--user=/proc/self/fd/%d", 3+len(files)-1), "--", shim, "hold")
	cmd.Dir, cmd.Env, cmd.ExtraFiles = "/", []string{}, files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting what holds them: %w", err)
	}
	h := &held{cmd, pipe}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		h.close()
		return nil, errors.New("what holds them did not start")
	}
	return h, nil
}

// path is where others find a file, by its place among those that are held. It is no other file while this process lives:
// the number is not given away before the process was waited for.
func (h *held) path(i int) string { return fmt.Sprintf("/proc/%d/fd/%d", h.cmd.Process.Pid, 3+i) }

func (h *held) close() {
	_ = h.pipe.Close()
	_ = h.cmd.Wait() // there is nothing left for it to do, so nothing to fail at
}
