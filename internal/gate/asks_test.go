package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"agentbox/internal/approval"
	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// somebody is a person who may go away.
type somebody struct{ away atomic.Bool }

func (s *somebody) Present() bool { return !s.away.Load() }

// asking gives a gate that asks about every POST to good.test and about every host that no rule names.
func asking(t *testing.T, log event.Sink) (*Gate, *somebody) {
	t.Helper()
	set, _, _ := goodOnly(t)
	post := set.Rules[0]
	post.Action, post.Methods, post.Origin = policy.Ask, []string{"POST"}, "p:2"
	never := set.Rules[0]
	never.Action, never.Host, never.Origin = policy.Deny, pattern(t, "never.test"), "p:3"
	set.Rules, set.Default = append(set.Rules, post, never), policy.Ask
	person := &somebody{}
	g := NewAsking(set, log, person, time.Minute)
	t.Cleanup(func() { _ = g.Close() })
	return g, person
}

func pattern(t *testing.T, s string) policy.Pattern {
	t.Helper()
	p, err := policy.ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func post(t *testing.T, host, path string) policy.Request {
	t.Helper()
	h, err := policy.ParseHost(host)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Request{Host: h, Port: 443, Scheme: "https", Method: "POST", Path: path, Via: "proxy"}
}

// check asks the gate in a goroutine of its own.
func check(ctx context.Context, g *Gate, r policy.Request) <-chan policy.Decision {
	out := make(chan policy.Decision, 1)
	go func() {
		d, _ := g.Check(ctx, r)
		out <- d
	}()
	return out
}

// one waits until exactly n questions are open, and gives the first.
func one(t *testing.T, g *Gate, n int) approval.Question {
	t.Helper()
	synctest.Wait()
	open := g.Pending()
	if len(open) != n {
		t.Fatalf("%d questions wait, want %d: %+v", len(open), n, open)
	}
	if n == 0 {
		return approval.Question{}
	}
	return open[0]
}

func kinds(events []event.Event) string {
	var out []string
	for _, e := range events {
		out = append(out, fmt.Sprintf("%s/%s", e.Kind, e.Decision))
	}
	return strings.Join(out, " ")
}

func TestAHeldRequestIsReleasedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		g, _ := asking(t, log)
		if d := g.Decide(policy.Request{Host: post(t, "evil.test", "/").Host, Port: 443}); d.Action != policy.Ask {
			t.Errorf("a tunnel: %+v", d)
		}
		first, second := check(t.Context(), g, post(t, "good.test", "/v1/x")), check(t.Context(), g, post(t, "good.test", "/v1/x"))
		q := one(t, g, 1)
		if q.Waiters != 2 || q.What() != "POST good.test/v1/x" || q.Rule != "p:2" || !q.Until.Equal(q.Asked.Add(time.Minute)) {
			t.Errorf("the question is %+v", q)
		}
		other, err := g.Check(t.Context(), policy.Request{Host: post(t, "good.test", "/").Host, Port: 443, Method: "GET", Path: "/"})
		if err != nil || !other.Allowed() {
			t.Errorf("what is not asked about does not pass meanwhile: %+v, %v", other, err)
		}
		if err := g.Answer(q.ID, approval.Answer{Scope: approval.Once, By: approval.BySocket}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []<-chan policy.Decision{first, second} {
			if d := <-c; !d.Allowed() || !d.Inspect || d.Rule != "p:2" || d.Reason() != "a person allowed it once" {
				t.Errorf("got %+v: %s", d, d.Reason())
			}
		}
		again := check(t.Context(), g, post(t, "good.test", "/v1/x"))
		next := one(t, g, 1)
		if next.ID == q.ID {
			t.Error("allowed once is allowed again")
		}
		var settled *approval.Settled
		if err := g.Answer(q.ID, approval.Answer{Scope: approval.Deny, By: approval.BySocket}); !errors.As(err, &settled) || settled.Scope != approval.Once {
			t.Errorf("a second answer: %v", err)
		}
		if err := g.Answer("nope", approval.Answer{Scope: approval.Once}); !errors.Is(err, approval.ErrUnknown) {
			t.Errorf("no question: %v", err)
		}
		if err := g.Answer(next.ID, approval.Answer{Scope: "forever"}); err == nil || len(g.Pending()) != 1 {
			t.Errorf("no answer: %v", err)
		}
		if err := g.Answer(next.ID, approval.Answer{Scope: approval.Deny, Reason: "use the mirror", By: approval.BySocket}); err != nil {
			t.Fatal(err)
		}
		if d := <-again; d.Action != policy.Deny || d.Reason() != "a person was asked and denied it: use the mirror" {
			t.Errorf("got %+v: %s", d, d.Reason())
		}
		if o, ok := g.Outcome(next.ID); !ok || o.Scope != approval.Deny || o.By != approval.BySocket {
			t.Errorf("its outcome is %+v", o)
		}
		want := "approval.asked/ net.request/allow approval.answered/allow net.request/allow net.request/allow approval.asked/ approval.answered/deny net.request/deny"
		if got := kinds(log.all()); got != want {
			t.Errorf("events\n%s\nwant\n%s", got, want)
		}
	})
}

// An answer for the run is for exactly what was asked: no other path, method, host, port, scheme or upgrade.
func TestAnAnswerForTheRunIsForThatQuestionAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, person := asking(t, &memory{})
		held := check(t.Context(), g, post(t, "good.test", "/v1/x"))
		if err := g.Answer(one(t, g, 1).ID, approval.Answer{Scope: approval.Run, By: approval.ByTerminal}); err != nil {
			t.Fatal(err)
		}
		if !(<-held).Allowed() {
			t.Fatal("it was not allowed")
		}
		person.away.Store(true)
		if d := g.Decide(policy.Request{Host: post(t, "good.test", "/").Host, Port: 443}); d.Action == policy.Deny {
			t.Error("its tunnel is not opened any more")
		}
		for range 3 {
			if d, err := g.Check(t.Context(), post(t, "good.test", "/v1/x")); err != nil || !d.Allowed() || d.Reason() != "a person allowed it for this run" {
				t.Errorf("the same again: %+v, %v", d, err)
			}
		}
		for name, change := range map[string]func(*policy.Request){
			"path": func(r *policy.Request) { r.Path = "/v1/y" }, "port": func(r *policy.Request) { r.Port = 8443 },
			"host": func(r *policy.Request) { r.Host = post(t, "evil.test", "/").Host }, "upgrade": func(r *policy.Request) { r.WebSocket = true },
			"scheme": func(r *policy.Request) { r.Scheme = "http" }, "override": func(r *policy.Request) { r.MethodBy = "the header X-HTTP-Method" },
			"push": func(r *policy.Request) { r.Git = &policy.GitRequest{Repo: "a/b", Op: policy.GitPush} },
		} {
			r := post(t, "good.test", "/v1/x")
			change(&r)
			if d, _ := g.Check(t.Context(), r); d.Allowed() {
				t.Errorf("another %s is allowed too", name)
			}
		}
	})
}

func TestTimeoutDenies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		g, _ := asking(t, log)
		began := time.Now()
		d := <-check(t.Context(), g, post(t, "evil.test", "/"))
		if d.Action != policy.Deny || time.Since(began) != time.Minute || !strings.Contains(d.Reason(), "nobody answered within 1m0s") {
			t.Errorf("after %s: %+v, %s", time.Since(began), d, d.Reason())
		}
		// asked again at once it is denied without a question, after a while it is asked about
		if d := <-check(t.Context(), g, post(t, "evil.test", "/")); d.Action != policy.Deny || len(g.Pending()) != 0 {
			t.Errorf("asked again: %+v", d)
		}
		<-time.After(denyTime)
		_ = check(t.Context(), g, post(t, "evil.test", "/"))
		one(t, g, 1)
	})
}

func TestClientsThatGiveUpWithdrawTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		g, _ := asking(t, log)
		ctx, cancel := context.WithCancel(t.Context())
		short, giveUp := context.WithCancel(t.Context())
		a, b := check(ctx, g, post(t, "evil.test", "/")), check(short, g, post(t, "evil.test", "/"))
		q := one(t, g, 1)
		giveUp()
		<-b
		if now := one(t, g, 1); now.Waiters != 1 || now.ID != q.ID {
			t.Errorf("one of two gave up: %+v", now)
		}
		cancel()
		if d := <-a; d.Allowed() {
			t.Errorf("got %+v", d)
		}
		one(t, g, 0)
		var settled *approval.Settled
		if err := g.Answer(q.ID, approval.Answer{Scope: approval.Once}); !errors.As(err, &settled) || settled.By != approval.ByWithdrawn {
			t.Errorf("answering it: %v", err)
		}
		if n := g.asks; len(n.open)+len(n.byID)+len(n.granted)+len(n.denied) != 0 {
			t.Error("something is left of it")
		}
	})
}

// However many answer at once, one answer counts and everybody gets that one.
func TestTheFirstAnswerWins(t *testing.T) {
	for range 50 {
		log := &memory{}
		g, _ := asking(t, log)
		changed, stop := g.Changed()
		var waiting []<-chan policy.Decision
		for range 8 {
			waiting = append(waiting, check(t.Context(), g, post(t, "evil.test", "/")))
		}
		for len(g.Pending()) == 0 || g.Pending()[0].Waiters < 8 {
			<-changed
		}
		stop()
		id := g.Pending()[0].ID
		var won atomic.Int64
		var winner atomic.Value
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				answer := approval.Answer{Scope: approval.Once, By: approval.BySocket}
				if i%2 == 0 {
					answer.Scope, answer.Reason = approval.Deny, fmt.Sprint(i)
				}
				var settled *approval.Settled
				switch err := g.Answer(id, answer); {
				case err == nil:
					won.Add(1)
					winner.Store(answer)
				case !errors.As(err, &settled):
					t.Errorf("losing gives %v", err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d answers won", won.Load())
		}
		want := winner.Load().(approval.Answer)
		for _, c := range waiting {
			if d := <-c; d.Allowed() != want.Scope.Allows() || want.Reason != "" && !strings.HasSuffix(d.Reason(), ": "+want.Reason) {
				t.Errorf("%+v won, and one got %s", want, d.Reason())
			}
		}
		answered := 0
		for _, e := range log.all() {
			if e.Kind == event.ApprovalAnswered {
				answered++
			}
		}
		if answered != 1 {
			t.Errorf("%d answers are recorded", answered)
		}
	}
}

func TestTooManyQuestionsAreDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := asking(t, &memory{})
		var all []<-chan policy.Decision
		for i := range 500 {
			all = append(all, check(t.Context(), g, post(t, "evil.test", fmt.Sprintf("/%d", i))))
		}
		synctest.Wait()
		denied := 0
		for _, c := range all {
			select {
			case d := <-c:
				if d.Allowed() || !strings.Contains(d.Reason(), "64 questions wait for an answer already") {
					t.Errorf("got %s", d.Reason())
				}
				denied++
			default:
			}
		}
		if open := len(g.Pending()); open != maxOpen || denied != 500-maxOpen {
			t.Errorf("%d questions, %d denied", open, denied)
		}
	})
}

func TestFiveHundredAlikeAreOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		g, _ := asking(t, log)
		var all []<-chan policy.Decision
		for range 500 {
			all = append(all, check(t.Context(), g, post(t, "evil.test", "/")))
		}
		q := one(t, g, 1)
		if q.Waiters != 500 {
			t.Errorf("%d wait", q.Waiters)
		}
		if err := g.Answer(q.ID, approval.Answer{Scope: approval.Deny, By: approval.BySocket}); err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			if (<-c).Allowed() {
				t.Fatal("one was allowed")
			}
		}
		for range 500 { // asked again by a program that does not give up
			if d, _ := g.Check(t.Context(), post(t, "evil.test", "/")); d.Allowed() {
				t.Fatal("one was allowed")
			}
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		var tally event.Tally
		for _, e := range log.all() {
			tally.Add(e)
		}
		if n := len(log.all()); n > 8 || tally.Refused()[0].Count != 1000 {
			t.Errorf("%d events say that %d were refused", n, tally.Refused()[0].Count)
		}
	})
}

// What no person may allow is no question: a rule that denies, metadata, a limit that is reached, what can't be shown.
func TestWhatNeverPrompts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		g, _ := asking(t, log)
		long := post(t, "evil.test", "/"+strings.Repeat("x", maxAsked))
		verb := post(t, "evil.test", "/")
		verb.Method = strings.Repeat("X", maxVerb+1)
		override := post(t, "evil.test", "/")
		override.PathBy = "the header X-Original-URL"
		other := post(t, "evil.test", "/")
		other.MethodBy = "the header X-HTTP-Method-Override"
		push := post(t, "evil.test", "/")
		push.Git = &policy.GitRequest{Repo: "a/b", Op: policy.GitPush, Refs: []policy.RefUpdate{{Name: "refs/heads/" + strings.Repeat("x", maxAsked), Kind: policy.RefCreate}}}
		for _, r := range []policy.Request{post(t, "never.test", "/"), post(t, "metadata.google.internal", "/"), {Port: 443}, long, verb, override, other, push} {
			if d, _ := g.Check(t.Context(), r); d.Action != policy.Deny {
				t.Errorf("%.40v: %+v", r, d)
			}
		}
		if events := kinds(log.all()); strings.Contains(events, string(event.ApprovalAsked)) {
			t.Errorf("a person was asked: %s", events)
		}
		d := policy.Decision{Action: policy.Ask, MaxRequest: 10, MaxSent: 100}
		g.Send(post(t, "evil.test", "/").Host, 100, 100)
		sized := post(t, "good.test", "/")
		sized.Size = 11
		for _, r := range []policy.Request{sized, post(t, "evil.test", "/")} {
			if got := g.asks.ask(t.Context(), r, d); got.Action != policy.Deny || !strings.Contains(got.Reason(), "bytes that may be sent") {
				t.Errorf("over a limit: %+v, %s", got, got.Reason())
			}
		}
	})
}

func TestCloseDeniesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		g, _ := asking(t, log)
		held := check(t.Context(), g, post(t, "evil.test", "/"))
		one(t, g, 1)
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if d := <-held; d.Allowed() || !strings.Contains(d.Reason(), "the run is ending") {
			t.Errorf("got %s", d.Reason())
		}
		if d, _ := g.Check(t.Context(), post(t, "evil.test", "/")); d.Allowed() || len(g.Pending()) != 0 {
			t.Errorf("after Close: %s", d.Reason())
		}
		if d := g.Decide(policy.Request{Host: post(t, "evil.test", "/").Host, Port: 443}); d.Action != policy.Deny {
			t.Errorf("a tunnel after Close: %+v", d)
		}
	})
}

// An answer that can't be recorded lets nothing through, and neither does a question.
func TestAFailingLogDeniesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		g, _ := asking(t, log)
		held, other := check(t.Context(), g, post(t, "evil.test", "/")), check(t.Context(), g, post(t, "evil.test", "/2"))
		q := one(t, g, 2)
		log.fail(errors.New("full"))
		if err := g.Answer(q.ID, approval.Answer{Scope: approval.Run, By: approval.BySocket}); err == nil {
			t.Error("the answer was taken")
		}
		if (<-held).Allowed() || (<-other).Allowed() {
			t.Error("a request was let through unrecorded")
		}
		if d, err := g.Check(t.Context(), post(t, "evil.test", "/3")); err == nil || d.Allowed() || len(g.Pending()) != 0 {
			t.Errorf("a question afterwards: %+v, %v", d, err)
		}
		<-g.Failed()
	})
}

func TestNobodyIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, person := asking(t, &memory{})
		person.away.Store(true)
		d, err := g.Check(t.Context(), post(t, "evil.test", "/"))
		if err != nil || d.Action != policy.Deny || !strings.Contains(d.Reason(), "agentbox approvals --watch") {
			t.Errorf("got %s, %v", d.Reason(), err)
		}
		person.away.Store(false)
		_ = check(t.Context(), g, post(t, "evil.test", "/"))
		one(t, g, 1)
	})
}

// What a person is shown is what their answer is about: a request of git's to a repository that nobody knows is shown as
// the method and path that it is, a push like that is not asked about, and the log has what was shown.
func TestGitThatIsNotUnderstoodIsShownAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memory{}
		g, _ := asking(t, log)
		push := post(t, "good.test", "/x")
		push.Git = &policy.GitRequest{Op: policy.GitPush, Flaw: "it breaks off"}
		if d, err := g.Check(t.Context(), push); err != nil || d.Allowed() || !strings.Contains(d.Reason(), "nobody is asked about it") {
			t.Errorf("a push of which nothing is known: %s, %v", d.Reason(), err)
		}
		fetch := post(t, "good.test", "/acme/secret")
		fetch.Git = &policy.GitRequest{Op: policy.GitFetch, Flaw: "it is a fetch that is not in git's own form"}
		check(t.Context(), g, fetch)
		if q := one(t, g, 1); q.What() != "POST good.test/acme/secret" {
			t.Errorf("shown is %q", q.What())
		} else if err := g.Answer(q.ID, approval.Answer{Scope: approval.Deny, By: approval.BySocket}); err != nil {
			t.Error(err)
		}
		whole := post(t, "good.test", "/acme/billing.git/git-receive-pack")
		whole.Git = &policy.GitRequest{Op: policy.GitPush, Repo: "acme/billing", Refs: []policy.RefUpdate{{Name: "refs/heads/main", Kind: policy.RefForce}}}
		check(t.Context(), g, whole)
		q := one(t, g, 1)
		recorded := func(e event.Event) bool {
			return e.Kind == event.ApprovalAsked && e.Detail["id"] == q.ID && e.Detail["git"] == q.Git
		}
		if q.Git == "" || !slices.ContainsFunc(log.all(), recorded) {
			t.Errorf("%+v is recorded as %+v", q, log.all())
		}
	})
}
