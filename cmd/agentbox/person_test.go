package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentbox/internal/approval"
	"agentbox/internal/event"
	"agentbox/internal/gate"
	"agentbox/internal/policy"
)

type noLog struct{}

func (noLog) Emit(event.Event) error { return nil }

// Who watches a run that is about to start can be asked once it has, and hears of it.
func TestWatchingBeginsBeforeTheGate(t *testing.T) {
	p := &person{}
	changed, stop := p.Watch()
	g := gate.NewAsking(policy.Set{Default: policy.Ask}, noLog{}, p, time.Hour)
	p.meet(g)
	if !p.Present() {
		t.Fatal("nobody is there")
	}
	host, err := policy.ParseHost("a.test")
	if err != nil {
		t.Fatal(err)
	}
	allowed := make(chan bool, 1)
	go func() {
		d, err := g.Check(context.Background(), policy.Request{Host: host, Port: 443, Scheme: "https", Method: "GET", Path: "/"})
		allowed <- err == nil && d.Allowed()
	}()
	<-changed
	if err := p.Answer(p.Pending()[0].ID, approval.Answer{Scope: approval.Once, By: approval.BySocket}); err != nil {
		t.Fatal(err)
	}
	if !<-allowed {
		t.Error("it is denied")
	}
	stop()
	if n := p.watching.Load(); n != 0 || len(p.watchers) != 0 {
		t.Errorf("%d watch", n)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

// A person's no is no reason to say how it would be allowed.
func TestNoHintAfterANo(t *testing.T) {
	refusal := event.Refusal{Kind: event.NetRequest, Count: 4, First: event.Event{Kind: event.NetRequest, Rule: "default", Reason: policy.PersonDenied + ": no"}}
	if hint := wayThrough([]event.Refusal{refusal}, "20260102-150405-x7k2"); hint != "" {
		t.Error(hint)
	}
}

// Watching says that it does also where there is nothing to see yet.
func TestWatchingSaysThatItWaitsForRuns(t *testing.T) {
	home := t.TempDir()
	runtime := filepath.Join(home, "run")
	if err := os.Mkdir(runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"HOME": home, "XDG_RUNTIME_DIR": runtime, "XDG_STATE_HOME": "", "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": ""} {
		t.Setenv(name, value)
	}
	out, err := os.Create(filepath.Join(home, "err"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	a := &app{out: out, err: out, getenv: os.Getenv, uid: os.Getuid()}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.watchApprovals(ctx, nil, false); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if said, err := os.ReadFile(out.Name()); err != nil || !strings.Contains(string(said), "no run is live") {
		t.Errorf("%q, %v", said, err)
	}
}
