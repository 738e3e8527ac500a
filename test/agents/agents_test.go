package agents_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentbox/test/realagents"
)

func TestPrintMode(t *testing.T) {
	for _, a := range realagents.All() {
		t.Run(a.Profile, func(t *testing.T) {
			b := newBench(t, a)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			out, err := b.command(ctx, t, a.Task...).CombinedOutput()
			t.Logf("output: %s", out)
			if testing.Verbose() || err != nil {
				b.dump(t)
			}
			if err != nil {
				t.Fatal(err)
			}
			b.check(t, string(out), a.Refused)
		})
	}
}

// check looks for what the task leaves behind, on disk and in the requests. Nothing was refused but the hosts that known names.
func (b *bench) check(t *testing.T, screen string, known []string) {
	t.Helper()
	task := b.server.Task()
	for name, want := range map[string]string{task.File: task.Content, "ran.txt": "ran\n"} {
		got, err := os.ReadFile(filepath.Join(b.repo, name))
		if err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
	if !strings.Contains(screen, task.Final) {
		t.Errorf("the last words %q do not appear", task.Final)
	}
	b.checkRequests(t)
	if got := b.proxy.unexpected(known); len(got) > 0 {
		t.Errorf("it asked the proxy for %q, which its profile should have switched off", got)
	}
}

// checkRequests looks for each turn's one request, with the key in the one slot that the profile names.
func (b *bench) checkRequests(t *testing.T) {
	t.Helper()
	header := string(b.profile.Credentials[0].Header)
	slot, value, _ := strings.Cut(strings.ReplaceAll(header, "{token}", b.key), ": ")
	turns := map[int]int{}
	for _, r := range b.server.Requests() {
		turns[r.Turn]++
		if r.Turn > 0 && r.Header.Get(slot) != value {
			t.Errorf("%s %s carries no %s", r.Method, r.Path, header)
		}
		r.Header.Del(slot)
		if all := fmt.Sprint(r.Path, r.Header, string(r.Body)); strings.Contains(all, b.key) {
			t.Errorf("%s %s carries the key outside of %s", r.Method, r.Path, slot)
		}
	}
	for turn := 1; turn <= 3; turn++ {
		if turns[turn] != 1 {
			t.Errorf("the model was asked %d times for turn %d, want once", turns[turn], turn)
		}
	}
}
