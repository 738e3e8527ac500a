package main

import (
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// janitor is a tiny process that removes the run's directory when this one is gone, however it went.
type janitor struct {
	cmd  *exec.Cmd
	pipe io.Closer
}

func startJanitor(shim, dir string) (*janitor, error) {
	cmd := exec.Command(shim, "janitor", dir)
	cmd.Dir = "/"
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the janitor: %w", err)
	}
	return &janitor{cmd, pipe}, nil
}

func (j *janitor) close() {
	_ = j.pipe.Close()
	_ = j.cmd.Wait() // there is nothing left for it to do, so nothing to fail at
}
