package terminal_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"agentbox/test/terminal"
)

func start(t *testing.T, command ...string) (*terminal.Terminal, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	dir := t.TempDir()
	term, err := terminal.Start(ctx, terminal.Config{
		Socket: filepath.Join(dir, "s"), Command: command, Dir: dir,
		Env: []string{"PATH=" + os.Getenv("PATH"), "MARK=of the test"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return term, ctx
}

func TestTypeAndRead(t *testing.T) {
	term, ctx := start(t, "sh", "-c", `echo "ready $MARK"; read -r line; echo "got <$line> in $(stty size)"`)
	defer func() { _ = term.Close() }()
	if _, err := term.Wait(ctx, "ready of the test"); err != nil {
		t.Fatal(err)
	}
	if err := term.Type(ctx, "-l Enter; $x"); err != nil {
		t.Fatal(err)
	}
	if err := term.Press(ctx, "Enter"); err != nil {
		t.Fatal(err)
	}
	if _, err := term.Wait(ctx, "got <-l Enter; $x> in 40 120"); err != nil {
		t.Fatal(err)
	}
}

func TestWaitTellsWhatItSaw(t *testing.T) {
	term, ctx := start(t, "sh", "-c", "echo something else; read -r _")
	defer func() { _ = term.Close() }()
	if _, err := term.Wait(ctx, "something else"); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := term.Wait(short, "absent"); err == nil || !errors.Is(err, context.Canceled) {
		t.Errorf("waiting in vain gives %v", err)
	}
}

// TestCloseEndsTheProgram has one that shrugs off the hangup that the end of a terminal is.
func TestCloseEndsTheProgram(t *testing.T) {
	term, ctx := start(t, "sh", "-c", `trap "" HUP TERM; echo "pid=$$."; while :; do read -r _ || sleep 1; done`)
	screen, err := term.Wait(ctx, ".")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(screen, "pid=")
	number, _, _ := strings.Cut(rest, ".")
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	if err := term.Close(); err != nil {
		t.Fatal(err)
	}
	for alive(pid) {
		select {
		case <-ctx.Done():
			t.Fatalf("process %d outlives its terminal", pid)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// alive says whether a process runs still; one that has ended and waits to be reaped does not.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
