package agents_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"agentbox/internal/modelserver"
	"agentbox/test/realagents"
	"agentbox/test/terminal"
)

func TestFullScreen(t *testing.T) {
	for _, a := range realagents.All() {
		t.Run(a.Profile, func(t *testing.T) {
			b := newBench(t, a)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			term := b.terminal(ctx, t)
			if _, err := term.Wait(ctx, a.Ready); err != nil {
				b.dump(t)
				t.Fatal(err)
			}
			if err := term.Type(ctx, "do the task"); err != nil {
				t.Fatal(err)
			}
			if _, err := term.Wait(ctx, "do the task"); err != nil {
				t.Fatal(err)
			}
			b.submit(ctx, t, term)
			screen, err := term.Wait(ctx, b.server.Task().Final)
			if testing.Verbose() || err != nil {
				t.Log(screen)
				b.dump(t)
			}
			if err != nil {
				t.Fatal(err)
			}
			b.check(t, screen, a.Refused)
		})
	}
}

// submit presses Enter until the model is asked. Gemini takes one that follows hard upon the text for part of a paste.
func (b *bench) submit(ctx context.Context, t *testing.T, term *terminal.Terminal) {
	t.Helper()
	for ctx.Err() == nil {
		if err := term.Press(ctx, "Enter"); err != nil {
			t.Fatal(err)
		}
		patience, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := b.server.Wait(patience, func(r modelserver.Request) bool { return r.Turn == 1 })
		cancel()
		if err == nil {
			return
		}
	}
	shown, _ := term.Screen(context.WithoutCancel(ctx))
	t.Fatalf("the model was not asked; the screen shows:\n%s", shown)
}

// terminal starts the agent in a terminal.
func (b *bench) terminal(ctx context.Context, t *testing.T) *terminal.Terminal {
	t.Helper()
	cfg := terminal.Config{
		Socket: filepath.Join(b.home, ".tmux.sock"), Dir: b.repo, Env: b.env,
		Command: b.profile.Agent.Command,
	}
	if os.Getuid() == 0 {
		cfg.User = &syscall.Credential{Uid: unprivileged, Gid: unprivileged}
	}
	term, err := terminal.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = term.Close() })
	return term
}
