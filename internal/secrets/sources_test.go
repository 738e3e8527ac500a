package secrets

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const hidden = "t0p-s3cret-value"

func sh(script string) Command { return Command{Argv: []string{"sh", "-c", script}, Dir: "/"} }

func TestACommandPrintsTheValue(t *testing.T) {
	for _, script := range []string{"echo " + hidden, "printf " + hidden, "printf '" + hidden + "\\r\\n'", "echo " + hidden + "; echo talk >&2"} {
		lease, err := sh(script).Fetch(t.Context())
		if err != nil || lease.Value.Reveal() != hidden {
			t.Errorf("%s: %q, %v", script, lease.Value.Reveal(), err)
		}
	}
	lease, err := sh("pwd").Fetch(t.Context())
	if err != nil || lease.Value.Reveal() != "/" {
		t.Errorf("it runs in %q, %v", lease.Value.Reveal(), err)
	}
	lease, err = Command{Argv: []string{"echo", "$HOME; $(id)"}, Dir: "/"}.Fetch(t.Context())
	if err != nil || lease.Value.Reveal() != "$HOME; $(id)" {
		t.Errorf("a shell read it: %q, %v", lease.Value.Reveal(), err)
	}
}

func TestACommandThatGivesNoValue(t *testing.T) {
	for _, tc := range []struct{ script, want, hint string }{
		{"exit 3", `command "sh" failed with exit code 3`, `try "sh" by hand`},
		{"echo " + hidden + "; exit 1", "failed with exit code 1", "by hand"},
		{"kill -9 $$", "ended by a signal", "by hand"},
		{"true", "printed nothing", "alone on one line"},
		{"echo; echo '  '", "printed nothing", "alone"},
		{"echo " + hidden + "; echo more", "more than one line", "alone"},
		{"printf '" + hidden + "\\r" + hidden + "'", "more than one line", "alone"},
		{"printf '" + hidden + "\\033[2J'", "control characters", "alone"},
		{"printf '" + hidden + "\\000'", "control characters", "alone"},
		{"printf '" + hidden + "\\377'", "bytes that are not text", "alone"},
		{"head -c 70000 /dev/zero | tr '\\0' x", "more than 64 KiB", "alone"},
		{"exec yes " + hidden, "more than 64 KiB", "alone"},
	} {
		lease, err := sh(tc.script).Fetch(t.Context())
		var hinted interface{ Hint() string }
		if err == nil || !errors.As(err, &hinted) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(hinted.Hint(), tc.hint) || !lease.Value.IsZero() {
			t.Errorf("%s: %v, want %q and a hint with %q", tc.script, err, tc.want, tc.hint)
		}
		if err != nil && strings.Contains(err.Error(), hidden) {
			t.Errorf("%s: the error repeats what was printed: %s", tc.script, err)
		}
	}
	_, err := Command{Argv: []string{"no-such-program-here"}, Dir: "/"}.Fetch(t.Context())
	if err == nil || !strings.Contains(err.Error(), "not installed") {
		t.Errorf("a program that is not there: %v", err)
	}
}

// What a command says on standard error is for the person. The agent, who sees the error, gets none of it.
func TestWhatACommandSays(t *testing.T) {
	for script, want := range map[string]string{
		"printf 'log in \\033[31mfirst\\n' >&2; exit 1":   "log in [31mfirst",
		"echo " + hidden + " | tee /dev/stderr; exit 1":   "[not shown: it repeats what was printed]",
		"head -c 3000 /dev/zero | tr '\\0' y >&2; exit 1": strings.Repeat("y", 200) + "…",
	} {
		_, err := sh(script).Fetch(t.Context())
		var said interface {
			Said() string
			Hint() string
		}
		if !errors.As(err, &said) || said.Said() != want {
			t.Errorf("%q: %v", script, err)
			continue
		}
		if strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "first") || strings.Contains(said.Hint(), "\x1b") {
			t.Errorf("%q: the error repeats it: %s", script, err)
		}
	}
}

// A command that hangs is ended with all that it started, also what ignores signals.
func TestACommandThatHangs(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	alive, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = alive.Close() }()
	c := sh("trap '' TERM INT; (trap '' TERM; echo up; exec sleep 1000) > " + fifo + " & wait")
	c.Timeout = time.Second
	_, err = c.Fetch(t.Context())
	var hinted interface{ Hint() string }
	if err == nil || !errors.As(err, &hinted) || !strings.Contains(err.Error(), "did not end within 1s") || !strings.Contains(hinted.Hint(), "log in") {
		t.Errorf("said: %v", err)
	}
	// The end of the file comes when its child is gone, which would hold it for a thousand seconds.
	if text, err := io.ReadAll(alive); err != nil || string(text) != "up\n" {
		t.Errorf("its child said %q, %v", text, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sh("sleep 1000").Fetch(ctx); err == nil || !strings.Contains(err.Error(), "called off") && !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
}

// An agent that writes the repository must not choose what runs on the host.
func TestACommandOfTheRepositoryIsNotRun(t *testing.T) {
	repo, other := t.TempDir(), t.TempDir()
	ran := filepath.Join(other, "ran")
	if err := os.WriteFile(filepath.Join(repo, "gh"), []byte("#!/bin/sh\ntouch "+ran+"\necho token\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(repo, "gh"), filepath.Join(other, "linked")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", repo+":"+os.Getenv("PATH"))
	for _, program := range []string{"gh", filepath.Join(repo, "gh"), filepath.Join(other, "linked")} {
		_, err := Command{Argv: []string{program}, Dir: "/", Outside: repo}.Fetch(t.Context())
		if err == nil || !strings.Contains(err.Error(), "in the repository") {
			t.Errorf("%s: %v", program, err)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("it was run")
	}
}

func TestAFileHoldsTheValue(t *testing.T) {
	dir, repo := t.TempDir(), t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	good := write(filepath.Join(dir, "good"), hidden+"\n", 0o600)
	lease, err := File{Path: good, Outside: repo}.Fetch(t.Context())
	if err != nil || lease.Value.Reveal() != hidden {
		t.Errorf("%q, %v", lease.Value.Reveal(), err)
	}
	inside := write(filepath.Join(repo, "token"), hidden+"\n", 0o600)
	link, way := filepath.Join(dir, "link"), filepath.Join(dir, "way")
	fifo := filepath.Join(dir, "fifo")
	for _, err := range []error{os.Symlink(inside, link), os.Symlink(repo, way), syscall.Mkfifo(fifo, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		inside:                                      "lies in the repository",
		link:                                        "lies in the repository",
		filepath.Join(way, "token"):                 "lies in the repository",
		filepath.Join(dir, "none"):                  "can't be read: no such file",
		write(dir+"/group", hidden, 0o640):          "can be read or changed by others (mode 640)",
		write(dir+"/world", hidden, 0o604):          "can be read or changed by others (mode 604)",
		write(dir+"/empty", "\n", 0o600):            "holds nothing",
		write(dir+"/two", hidden+"\nmore\n", 0o600): "more than one line",
		write(dir+"/ctl", hidden+"\x07", 0o600):     "control characters",
		write(dir+"/big", strings.Repeat("x", maxValue+1), 0o600): "more than 64 KiB",
		fifo: "is not a file",
		dir:  "is not a file",
	} {
		lease, err := File{Path: path, Outside: repo}.Fetch(t.Context())
		var hinted interface{ Hint() string }
		if err == nil || !errors.As(err, &hinted) || hinted.Hint() == "" || !strings.Contains(err.Error(), want) || !lease.Value.IsZero() || strings.Contains(err.Error(), hidden) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
