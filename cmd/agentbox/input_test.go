package main

import (
	"errors"
	"io"
	"testing"

	"github.com/creack/pty"
)

// What is typed after the agent's end is not read for it, also by who was waiting already.
func TestNoKeyIsTakenAfterTheEnd(t *testing.T) {
	master, slave, err := pty.Open()
	must(t, err)
	defer master.Close()
	defer slave.Close()
	in, err := newAgentInput(slave)
	must(t, err)
	type read struct {
		text string
		err  error
	}
	reads := make(chan read)
	go func() {
		for {
			buf := make([]byte, 10)
			n, err := in.Read(buf)
			reads <- read{string(buf[:n]), err}
			if err != nil {
				return
			}
		}
	}()
	_, err = io.WriteString(master, "a\n")
	must(t, err)
	if got := <-reads; got != (read{"a\n", nil}) {
		t.Errorf("before the end: %+v", got)
	}
	in.end()
	in.end()
	_, err = io.WriteString(master, "b\n")
	must(t, err)
	if got := <-reads; got.text != "" || !errors.Is(got.err, io.EOF) {
		t.Errorf("after the end: %+v", got)
	}
	buf := make([]byte, 10)
	if n, err := slave.Read(buf); err != nil || string(buf[:n]) != "b\n" {
		t.Errorf("another reader gets %q, %v", buf[:n], err)
	}
}
