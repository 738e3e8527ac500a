package secrets

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

	"agentbox/internal/event"
	"agentbox/internal/policy"
)

// issuer is a source that gives a new value each time: "the-value-no-1", "the-value-no-2" …
type issuer struct {
	life   time.Duration // 0: as long as the run
	hold   chan struct{} // nil, or what each Fetch waits for
	asked  atomic.Int32
	mu     sync.Mutex
	fails  error // what Fetch gives
	stuck  int   // revocations that fail before one goes well
	taken  []string
	values []Secret
}

func (s *issuer) Fetch(ctx context.Context) (Lease, error) {
	n := s.asked.Add(1)
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return Lease{}, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return Lease{}, s.fails
	}
	value := fmt.Sprintf("the-value-no-%d", n)
	lease := Lease{Value: New(value), Claim: Claim{claimGitHub, GitHubAPI}, Revoke: func(ctx context.Context) error { return s.revoke(ctx, value) }}
	if s.life != 0 {
		lease.Expires = time.Now().Add(s.life)
	}
	s.values = append(s.values, lease.Value)
	return lease, nil
}

func (s *issuer) revoke(ctx context.Context, value string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.stuck > 0 {
		s.stuck--
		return errors.New("no answer")
	}
	s.taken = append(s.taken, value)
	return nil
}

func (s *issuer) set(err error) { s.mu.Lock(); s.fails = err; s.mu.Unlock() }

// brief is an error that may be over soon.
type brief struct{ error }

func (brief) Temporary() bool { return true }

// pass lets time pass in a bubble of synctest.
func pass(d time.Duration) { <-time.After(d) }

// log keeps events.
type log struct {
	mu     sync.Mutex
	events []event.Event
	full   error
}

func (l *log) Emit(e event.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	return l.full
}

// said is "kind decision" of each event.
func (l *log) said() (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		out = append(out, strings.TrimPrefix(string(e.Kind), "credential.")+" "+string(e.Decision))
	}
	return out
}

func leasing(t *testing.T, s Source, ttl time.Duration) (*Broker, *log) {
	t.Helper()
	b, err := NewBroker(t.Context(), []Credential{{Name: "app", Source: s, Hosts: []policy.Host{host(t, "good.test")}, Header: "Authorization: Bearer {token}", TTL: ttl, Rule: "agentbox.toml:7", From: "github_app"}})
	if err != nil {
		t.Fatal(err)
	}
	l := &log{}
	b.Record(l, nil)
	t.Cleanup(b.Close)
	return b, l
}

// used is the value that a request gets, or the error.
func used(t *testing.T, b *Broker) (string, error) {
	t.Helper()
	req := request(t, "https://good.test/", "Authorization", "Bearer "+b.Placeholder("app"))
	_, err := b.Inject(t.Context(), req, host(t, "good.test"), true)
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "), nil
}

func uses(t *testing.T, b *Broker, want string) {
	t.Helper()
	if got, err := used(t, b); err != nil || got != want {
		t.Errorf("a request gets %q, %v, and not %q", got, err, want)
	}
}

func refuses(t *testing.T, b *Broker, want string) {
	t.Helper()
	var said *Refused
	if got, err := used(t, b); !errors.As(err, &said) || !strings.Contains(said.Reason, want) {
		t.Errorf("a request gets %q, %v, and is not refused with %q", got, err, want)
	}
}

func TestALeaseIsRenewedBeforeItExpires(t *testing.T) {
	for _, tc := range []struct{ life, before time.Duration }{{time.Hour, 5 * time.Minute}, {10 * time.Minute, 2 * time.Minute}} {
		synctest.Test(t, func(t *testing.T) {
			s := &issuer{life: tc.life}
			b, l := leasing(t, s, 0)
			uses(t, b, "the-value-no-1")
			pass(tc.life - tc.before - time.Second)
			uses(t, b, "the-value-no-1")
			synctest.Wait()
			if n := s.asked.Load(); n != 1 {
				t.Errorf("it was fetched %d times before it was near its end", n)
			}
			pass(time.Second)
			s.hold = make(chan struct{})
			for range 5 {
				uses(t, b, "the-value-no-1") // nobody waits for the next while the old one is good
			}
			synctest.Wait()
			close(s.hold)
			synctest.Wait()
			uses(t, b, "the-value-no-2")
			if n := s.asked.Load(); n != 2 {
				t.Errorf("it was fetched %d times", n)
			}
			if got, want := l.said(), []string{"mint allow", "renew allow"}; !slices.Equal(got, want) {
				t.Errorf("recorded: %q", got)
			}
			if e := l.events[0]; e.Credential != "app" || e.Rule != "agentbox.toml:7" || e.Detail["source"] != "github_app" || e.Detail["expires"] == "" || strings.Contains(fmt.Sprint(l.events), "the-value-no-") {
				t.Errorf("recorded: %+v", l.events)
			}
		})
	}
}

func TestWhatExpiredIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour}
		b, l := leasing(t, s, 0)
		uses(t, b, "the-value-no-1")
		s.set(errors.New("the issuer is away"))
		pass(56 * time.Minute)
		uses(t, b, "the-value-no-1")
		synctest.Wait() // the renewal failed
		uses(t, b, "the-value-no-1")
		if n := s.asked.Load(); n != 2 {
			t.Errorf("it was fetched %d times: not even a moment lies between tries", n)
		}
		pass(5 * time.Minute)
		refuses(t, b, "the issuer is away")
		asked := s.asked.Load()
		for range 20 {
			refuses(t, b, "the issuer is away")
		}
		if s.asked.Load() != asked {
			t.Error("each request asks again")
		}
		s.set(nil)
		pass(retryLongest)
		uses(t, b, fmt.Sprintf("the-value-no-%d", asked+1))
		if got := l.said(); got[len(got)-2] != "renew deny" || got[len(got)-1] != "renew allow" {
			t.Errorf("recorded: %q", got)
		}
	})
}

func TestOnlyWhatMayBeOverIsTriedAgain(t *testing.T) {
	for err, again := range map[error]bool{
		errors.New("it is away"):                                         false,
		brief{errors.New("it is away")}:                                  true,
		&commandError{text: "it is away", err: context.DeadlineExceeded}: false, // a person saw the question, or did not
		&missingError{"it is away", "", &KeyringError{"it is locked", "", context.DeadlineExceeded}}: false,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &issuer{}
			b, _ := leasing(t, s, 0)
			s.set(err)
			refuses(t, b, "it is away")
			refuses(t, b, "it is away")
			if s.asked.Load() != 1 {
				t.Error("it was asked again at once")
			}
			s.set(nil)
			pass(time.Hour)
			if again {
				uses(t, b, "the-value-no-2")
			} else {
				refuses(t, b, "it is away")
			}
		})
	}
}

func TestALeaseThatCameTooLate(t *testing.T) {
	b, _ := leasing(t, &issuer{life: time.Nanosecond}, 0)
	refuses(t, b, "had expired when it came")
}

func TestTheTimeOfACredentialInARunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{}
		b, l := leasing(t, s, time.Hour)
		pass(time.Hour - 1)
		uses(t, b, "the-value-no-1")
		pass(1)
		synctest.Wait()
		if b.Life("app").Err() == nil { // before anybody asks for it: requests on their way end too
			t.Error("what is on its way with it goes on")
		}
		refuses(t, b, "may be used for 1h0m0s of a run")
		synctest.Wait()
		if !slices.Equal(s.taken, []string{"the-value-no-1"}) || !slices.Equal(l.said(), []string{"mint allow", "revoke allow"}) {
			t.Errorf("taken back: %q, recorded: %q", s.taken, l.said())
		}
	})
}

func TestACutCredentialIsRefusedAtOnce(t *testing.T) {
	s := &issuer{}
	b, l := leasing(t, s, 0)
	uses(t, b, "the-value-no-1")
	if found, err := b.Cut(t.Context(), "other", "why"); found || err != nil {
		t.Errorf("a credential of another run: %v, %v", found, err)
	}
	if found, err := b.Cut(t.Context(), "app", "stopped by a person"); !found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
	refuses(t, b, "stopped by a person")
	if !slices.Equal(s.taken, []string{"the-value-no-1"}) || !slices.Equal(l.said(), []string{"mint allow", "revoke allow"}) {
		t.Errorf("taken back: %q, recorded: %q", s.taken, l.said())
	}
}

func TestWhatIsFetchedWhileItIsCutIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{hold: make(chan struct{})}
		b, l := leasing(t, s, 0)
		b.Preload()
		synctest.Wait()
		if found, err := b.Cut(t.Context(), "app", "stopped by a person"); !found || err != nil {
			t.Errorf("%v, %v", found, err)
		}
		close(s.hold)
		synctest.Wait()
		refuses(t, b, "stopped by a person")
		if !slices.Equal(s.taken, []string{"the-value-no-1"}) {
			t.Errorf("taken back: %q, recorded: %q", s.taken, l.said())
		}
	})
}

func TestAllLeasesAreTakenBackAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour}
		b, l := leasing(t, s, 0)
		uses(t, b, "the-value-no-1")
		pass(57 * time.Minute)
		uses(t, b, "the-value-no-1")
		synctest.Wait()
		s.stuck = revokeTries - 1 // the service is slow to come to itself
		if err := b.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if !slices.Equal(s.taken, []string{"the-value-no-1", "the-value-no-2"}) {
			t.Errorf("taken back: %q", s.taken)
		}
		if got := l.said(); got[len(got)-1] != "revoke allow" || l.events[len(got)-1].Count != 2 {
			t.Errorf("recorded: %+v", l.events)
		}
		refuses(t, b, "the run has ended")
		b.Close()
		for _, v := range s.values {
			if !v.IsZero() {
				t.Error("a value is still there after the run")
			}
		}
	})
}

func TestARevocationThatFailsIsToldLoudly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{stuck: revokeTries}
		b, l := leasing(t, s, 0)
		uses(t, b, "the-value-no-1")
		err := b.Release(t.Context())
		var said *Unrevoked
		if !errors.As(err, &said) || said.Credential != "app" || !strings.Contains(err.Error(), "NOT revoked: no answer") || said.Hint() == "" {
			t.Errorf("said: %v", err)
		}
		if got := l.said(); got[len(got)-1] != "revoke deny" || len(s.taken) != 0 {
			t.Errorf("recorded: %q", got)
		}
		if err := b.Release(t.Context()); err != nil || !slices.Equal(s.taken, []string{"the-value-no-1"}) {
			t.Errorf("once more: %v; taken back: %q", err, s.taken)
		}
	})
}

func TestWhatCannotBeRecordedIsNotUsed(t *testing.T) {
	s := &issuer{}
	b, l := leasing(t, s, 0)
	l.full = errors.New("no space left")
	refuses(t, b, "could not be recorded")

	s = &issuer{}
	b, l = leasing(t, s, 0)
	b.Record(l, fullLedger{})
	refuses(t, b, "could not be recorded: no space left")
	if !slices.Equal(s.taken, []string{"the-value-no-1"}) {
		t.Errorf("what nobody could find again was left: taken back: %q", s.taken)
	}
}

type fullLedger struct{}

func (fullLedger) Owe(context.Context, string, Lease) (func(context.Context) error, error) {
	return nil, errors.New("no space left")
}

func TestWhatElseIsLearnedIsKnown(t *testing.T) {
	b, _ := leasing(t, learning{}, 0)
	refuses(t, b, "no value")
	if said := b.Values().Text("it is an app's key"); strings.Contains(said, "app's key") {
		t.Errorf("it shows: %s", said)
	}
}

type learning struct{}

func (learning) Fetch(context.Context) (Lease, error) {
	return Lease{Also: []Secret{New("an app's key")}}, errors.New("no token")
}

// counted is a keyring that counts who asks for what.
type counted struct {
	mu    sync.Mutex
	asked map[string]int
}

func (c *counted) Get(_ context.Context, name string) (Secret, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[name]++
	return New("of the account " + name), nil
}

// TestAKeyringIsAskedOnceForAnAccount: two credentials of one account had it asked twice.
func TestAKeyringIsAskedOnceForAnAccount(t *testing.T) {
	c := &counted{asked: map[string]int{}}
	ring := Once(c)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			name := []string{"a", "b"}[i%2]
			value, err := ring.Get(t.Context(), name)
			if err != nil || value.Reveal() != "of the account "+name {
				t.Errorf("got %q, %v", value.Reveal(), err)
			}
			value.Destroy() // which is the caller's alone
		})
	}
	all.Wait()
	if c.asked["a"] != 1 || c.asked["b"] != 1 {
		t.Errorf("it was asked %v", c.asked)
	}
}

// calledOff is a keyring that answers once its caller has given up, or at once.
type calledOff struct{ give func() }

func (c calledOff) Get(ctx context.Context, _ string) (Secret, error) {
	c.give()
	return New("a value of it"), ctx.Err()
}

// Who gives up waiting for a keyring is no answer for who asks later.
func TestACallThatWasCalledOffIsNoAnswer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ring := Once(calledOff{cancel})
	if _, err := ring.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if value, err := ring.Get(t.Context(), "a"); err != nil || value.Reveal() != "a value of it" {
		t.Errorf("got %q, %v", value.Reveal(), err)
	}
}

// TestTheEndWaitsForWhatIsBeingTakenBack: the end of a run overwrote a token while it was being revoked.
func TestTheEndWaitsForWhatIsBeingTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: time.Hour, stuck: 1}
		b, _ := leasing(t, s, 0)
		uses(t, b, "the-value-no-1")
		go func() { _, _ = b.Cut(t.Context(), "app", "why") }()
		synctest.Wait() // it failed once, and is to be tried again
		if err := b.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if s.mu.Lock(); len(s.taken) != 1 {
			t.Errorf("taken back: %q", s.taken)
		}
		s.mu.Unlock()
	})
}

// TestWhatIsMintedInVainIsTakenBack: a token that failed the checks was left as it was, good for an hour.
func TestWhatIsMintedInVainIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &issuer{life: -time.Minute}
		b, _ := leasing(t, s, 0)
		refuses(t, b, "had expired when it came")
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.taken) != 1 {
			t.Errorf("taken back: %q", s.taken)
		}
	})
}

// endingLedger is a ledger that is written to while the run ends.
type endingLedger struct {
	end  func()
	full bool
}

func (l endingLedger) Owe(ctx context.Context, _ string, _ Lease) (func(context.Context) error, error) {
	l.end()
	if l.full {
		return nil, errors.New("no space left")
	}
	return func(context.Context) error { return nil }, ctx.Err()
}

// TestTheEndOfARunLeavesNoToken: a token that came as the run ended was neither recorded nor taken back.
func TestTheEndOfARunLeavesNoToken(t *testing.T) {
	for _, full := range []bool{false, true} {
		s := &issuer{life: time.Hour}
		b, l := leasing(t, s, 0)
		b.Record(l, endingLedger{b.stop, full})
		b.Preload()
		b.reading.Wait()
		s.mu.Lock()
		if taken := len(s.taken); full != (taken == 1) {
			t.Errorf("with a ledger that is full (%v) %d were taken back before the end", full, taken)
		}
		s.mu.Unlock()
		if err := b.Release(t.Context()); err != nil || len(s.taken) != 1 {
			t.Errorf("with a ledger that is full (%v) %d were taken back at the end, %v", full, len(s.taken), err)
		}
	}
}
