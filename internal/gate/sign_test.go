package gate

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agentbox/internal/approval"
	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// sign asks the gate in a goroutine of its own.
func sign(ctx context.Context, g *Gate, digest string) <-chan policy.Decision {
	out := make(chan policy.Decision, 1)
	go func() {
		d, _ := g.Sign(ctx, Signature{What: "commit \"" + digest + "\" with ssh key K", Digest: digest, Rule: "p:9", Reason: "a person is asked"}, policy.Ask)
		out <- d
	}()
	return out
}

func TestASignatureIsAllowedOnceAndForWhatWasShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		g, _ := asking(t, log)
		first, same := sign(t.Context(), g, "one"), sign(t.Context(), g, "one")
		q := one(t, g, 1)
		if q.Waiters != 2 || q.What() != `sign commit "one" with ssh key K` || q.Rule != "p:9" || q.Host != "" {
			t.Errorf("the question is %+v", q)
		}
		for _, scope := range []approval.Scope{approval.Run, approval.Always} {
			if err := g.Answer(q.ID, approval.Answer{Scope: scope, By: approval.BySocket}); !errors.Is(err, approval.ErrOnce) {
				t.Errorf("%s: %v", scope, err)
			}
		}
		other := sign(t.Context(), g, "two")
		one(t, g, 2)
		if err := g.Answer(q.ID, approval.Answer{Scope: approval.Once, By: approval.BySocket}); err != nil {
			t.Fatal(err)
		}
		if a, b := <-first, <-same; !a.Allowed() || !b.Allowed() {
			t.Errorf("%+v, %+v", a, b)
		}
		q = one(t, g, 1) // the other one still waits
		if err := g.Answer(q.ID, approval.Answer{Scope: approval.Deny, Reason: "no", By: approval.ByTerminal}); err != nil {
			t.Fatal(err)
		}
		if d := <-other; d.Allowed() || d.Reason() != "a person was asked and denied it: no" {
			t.Errorf("%+v: %s", d, d.Reason())
		}
		if d := <-sign(t.Context(), g, "two"); d.Allowed() { // the no holds for a while
			t.Errorf("%+v", d)
		}
		again := sign(t.Context(), g, "one")
		one(t, g, 1)
		<-time.After(2 * time.Minute)
		if d := <-again; d.Allowed() || !strings.Contains(d.Reason(), "nobody answered within 1m0s") {
			t.Errorf("%+v: %s", d, d.Reason())
		}
		if got := kinds(log.events); strings.Count(got, "sign.request/allow") != 2 || strings.Count(got, "approval.asked") != 3 {
			t.Errorf("recorded: %s", got)
		}
	})
}

func TestSignaturesWithoutAQuestion(t *testing.T) {
	log := &memory{}
	g, person := asking(t, log)
	s := Signature{What: "commit", Digest: "d", Rule: "p:9", Reason: "so it is"}
	if d, err := g.Sign(t.Context(), s, policy.Allow); err != nil || !d.Allowed() || d.Reason() != "so it is" {
		t.Errorf("%+v, %v", d, err)
	}
	for range 20 {
		if d, err := g.Sign(t.Context(), s, policy.Deny); err != nil || d.Allowed() {
			t.Errorf("%+v, %v", d, err)
		}
	}
	person.away.Store(true)
	if d, err := g.Sign(t.Context(), s, policy.Ask); err != nil || d.Allowed() || !strings.Contains(d.Reason(), "nobody can be asked") {
		t.Errorf("%+v, %v", d, err)
	}
	if got := kinds(log.events); got != "sign.request/allow sign.request/deny sign.request/deny sign.request/deny" { // one stands for nine more
		t.Errorf("recorded: %s", got)
	}
	if e := log.events[0]; e.Kind != event.SignRequest || e.Detail["digest"] != "d" {
		t.Errorf("%+v", e)
	}
}

func TestNoSignatureIsAllowedThatIsNotRecorded(t *testing.T) {
	log := &memory{}
	g, _ := asking(t, log)
	log.fail(errors.New("full"))
	if d, err := g.Sign(t.Context(), Signature{Digest: "d"}, policy.Allow); err == nil || d.Allowed() {
		t.Errorf("%+v, %v", d, err)
	}
	g, _ = asking(t, &memory{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := g.Sign(ctx, Signature{Digest: "d"}, policy.Allow); err == nil || d.Allowed() {
		t.Errorf("%+v, %v", d, err)
	}
}
