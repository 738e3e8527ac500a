package subprocess

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// A program's children end with it: the pipe that the grandchild holds is closed by its end alone.
func TestTheWholeGroupEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cmd := Command(ctx, "sh", "-c", "sleep 1000 & echo started; wait")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "started\n" {
		t.Fatal(line, err)
	}
	cancel()
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Error(string(rest), err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it was not killed")
	}
}

// Who leaves a child behind that holds the output open is not waited for as long as that lives.
func TestAChildThatStaysIsNotWaitedFor(t *testing.T) {
	cmd := Command(t.Context(), "sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000' &")
	said := &Output{Most: 100}
	cmd.Stdout = said
	if err := cmd.Run(); !errors.Is(err, exec.ErrWaitDelay) {
		t.Error(err)
	}
	if pid := strings.TrimSpace(string(said.Bytes())); pid == "" || exec.Command("kill", pid).Run() != nil {
		t.Errorf("process %q was not there any more", pid)
	}
}

// A program that prints without end ends when it has printed too much.
func TestWhoPrintsWithoutEndIsStopped(t *testing.T) {
	cmd := Command(t.Context(), "yes")
	said := &Output{Most: 100, Strict: true}
	cmd.Stdout = said
	if err := cmd.Run(); err == nil || !said.Over() || len(said.Bytes()) != 100 {
		t.Error(err, said.Over(), len(said.Bytes()))
	}
}

func TestOutputIsBounded(t *testing.T) {
	o := &Output{Most: 5}
	for range 3 {
		if n, err := o.Write([]byte("abc")); n != 3 || err != nil {
			t.Error(n, err)
		}
	}
	if string(o.Bytes()) != "abcab" || !o.Over() {
		t.Errorf("kept %q, %v", o.Bytes(), o.Over())
	}
	kept := o.Bytes()
	if o.Wipe(); string(kept) != "\x00\x00\x00\x00\x00" {
		t.Errorf("left %q", kept)
	}
	endless := &Output{Most: 5}
	if err := endless.ReadAll(strings.NewReader("abcdefgh")); err != nil || string(endless.Bytes()) != "abcde" || !endless.Over() {
		t.Error(err, endless)
	}
}
