package event

import (
	"fmt"
	"reflect"
	"testing"
)

func TestTallyCountsByHost(t *testing.T) {
	var tally Tally
	for _, e := range []Event{
		{Kind: RunStart},
		{Kind: NetRequest, Decision: Allow, Host: "b.test", Port: 443},
		{Kind: NetResponse, Host: "b.test", Port: 443, BytesUp: 10, BytesDown: 200},
		{Kind: NetRequest, Decision: Allow, Host: "a.test", Port: 443},
		{Kind: NetRequest, Decision: Deny, Host: "evil.test", Port: 443, Reason: "no rule"},
		{Kind: NetRequest, Decision: Deny, Host: "evil.test", Port: 443, Reason: "later", Count: 5},
		{Kind: NetRequest, Host: "odd.test", Port: 80},
		{Kind: DNSRefused, Decision: Deny, Host: "x.evil.test"},
		{Kind: CredentialUse, Credential: "anthropic"},
		{Kind: CredentialRefused, Credential: "anthropic"},
		{Kind: CredentialSeen, Credential: "anthropic"},
	} {
		if err := tally.Emit(e); err != nil {
			t.Fatal(err)
		}
	}
	a, b := HostPort{"a.test", 443}, HostPort{"b.test", 443}
	evil, odd, name := HostPort{"evil.test", 443}, HostPort{"odd.test", 80}, HostPort{"x.evil.test", 0}
	same(t, tally.Hosts(), []HostCount{
		{HostPort: a, Allowed: 1}, {HostPort: b, Allowed: 1, BytesUp: 10, BytesDown: 200},
		{HostPort: evil, Refused: 6}, {HostPort: odd, Refused: 1}, {HostPort: name, Refused: 1},
	})
	same(t, tally.Refused(), []Refusal{
		{HostPort: evil, Kind: NetRequest, Count: 6, Reason: "no rule", First: Event{Kind: NetRequest, Decision: Deny, Host: "evil.test", Port: 443, Reason: "no rule"}},
		{HostPort: odd, Kind: NetRequest, Count: 1, First: Event{Kind: NetRequest, Host: "odd.test", Port: 80}},
		{HostPort: name, Kind: DNSRefused, Count: 1, First: Event{Kind: DNSRefused, Decision: Deny, Host: "x.evil.test"}},
	})
	same(t, tally.Credentials(), []CredentialCount{{"anthropic", 1, 1, 1}})
	allowed, refused, up, down := tally.Totals()
	same(t, []any{allowed, refused, up, down, tally.Events()}, []any{uint64(2), uint64(8), int64(10), int64(200), uint64(11)})
}

func TestTallyIsBounded(t *testing.T) {
	var tally Tally
	for i := range 5 * maxTallied {
		tally.Add(Event{Kind: DNSRefused, Host: fmt.Sprintf("%d.evil.test", i)})
	}
	if n := len(tally.Refused()); n != maxTallied {
		t.Errorf("%d names kept", n)
	}
	if tally.Omitted() == 0 {
		t.Error("what was left out is not counted")
	}
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// A request that was allowed and got no answer of the host's (its name leads inside, its certificate is wrong) has not
// reached it.
func TestWhatFailedIsNotReached(t *testing.T) {
	var tally Tally
	for _, e := range []Event{
		{Kind: NetRequest, Decision: Allow, Host: "a.test", Port: 443}, {Kind: NetResponse, Host: "a.test", Port: 443, Status: 403, Reason: "a.test is 10.0.0.1, which is private"},
		{Kind: NetRequest, Decision: Allow, Host: "a.test", Port: 443}, {Kind: NetResponse, Host: "a.test", Port: 443, Status: 404},
	} {
		tally.Add(e)
	}
	if got := tally.Hosts()[0]; got.Allowed != 2 || got.Failed != 1 || got.Failure != "a.test is 10.0.0.1, which is private" {
		t.Errorf("got %+v", got)
	}
}
