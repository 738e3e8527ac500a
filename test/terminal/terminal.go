// Package terminal drives full-screen programs in tests, as a person at a terminal would: it types, and it reads the
// screen. The terminal is a tmux server of its own, which a Terminal owns and ends.
package terminal

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Config says what runs in the terminal.
type Config struct {
	Socket  string   // path of the tmux socket to make, in a directory that the user can write
	Command []string // program and arguments
	Dir     string
	Env     []string            // "NAME=value"; the whole environment
	User    *syscall.Credential // nil: the caller's own
	Columns int                 // 0 means 120
	Rows    int                 // 0 means 40
}

// Terminal is a terminal with one program in it. What the program leaves on its screen stays when it has ended.
type Terminal struct {
	cfg Config
}

// Start opens a terminal and runs the command in it.
func Start(ctx context.Context, cfg Config) (*Terminal, error) {
	if cfg.Columns == 0 {
		cfg.Columns = 120
	}
	if cfg.Rows == 0 {
		cfg.Rows = 40
	}
	t := &Terminal{cfg: cfg}
	args := []string{
		"-f", "/dev/null", "start-server", ";",
		"set-option", "-g", "remain-on-exit", "on", ";",
		"set-option", "-gq", "remain-on-exit-format", "", ";", // it would scroll what the program left; since tmux 3.3
		"set-option", "-g", "focus-events", "on", ";",
		"set-option", "-g", "default-terminal", "tmux-256color", ";",
		"new-session", "-d", "-x", fmt.Sprint(cfg.Columns), "-y", fmt.Sprint(cfg.Rows), "-c", cfg.Dir, "--",
	}
	_, err := t.tmux(ctx, append(args, cfg.Command...)...)
	return t, err
}

// Close ends the terminal and kills what runs in its first process group.
func (t *Terminal) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	pid, err := t.tmux(ctx, "display-message", "-p", "#{pane_pid}")
	if err != nil {
		return err
	}
	if _, err := t.tmux(ctx, "kill-server"); err != nil {
		return err
	}
	leader, err := strconv.Atoi(strings.TrimSpace(pid))
	if err != nil || leader <= 1 {
		return fmt.Errorf("ending the terminal's program: no process %q", pid)
	}
	if err := syscall.Kill(-leader, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("ending the terminal's program: %w", err)
	}
	return nil
}

// Type types text as it stands.
func (t *Terminal) Type(ctx context.Context, text string) error {
	_, err := t.tmux(ctx, "send-keys", "-l", "--", text)
	return err
}

// Press presses keys by tmux's names for them, such as Enter, Escape, C-c.
func (t *Terminal) Press(ctx context.Context, keys ...string) error {
	_, err := t.tmux(ctx, append([]string{"send-keys", "--"}, keys...)...)
	return err
}

// Screen is what the terminal shows, lines ended by \n, without trailing blanks and colours.
func (t *Terminal) Screen(ctx context.Context) (string, error) {
	return t.tmux(ctx, "capture-pane", "-p")
}

// Wait blocks until the screen shows text and returns the screen. When the context ends first, the error holds what
// was there instead.
func (t *Terminal) Wait(ctx context.Context, text string) (string, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last string
	for {
		if now, err := t.Screen(ctx); err == nil {
			last = now
		} else if ctx.Err() == nil {
			return last, err
		}
		if strings.Contains(last, text) {
			return last, nil
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("waiting for %q on the screen: %w; it shows:\n%s", text, ctx.Err(), last)
		case <-tick.C:
		}
	}
}

func (t *Terminal) tmux(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "tmux", append([]string{"-u", "-S", t.cfg.Socket}, args...)...)
	cmd.Dir, cmd.Env = t.cfg.Dir, t.cfg.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: t.cfg.User}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("running tmux %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
