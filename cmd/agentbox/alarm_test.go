package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"agentbox/internal/event"
)

// said is what alarms tell of events, once all of them have happened.
func said(t *testing.T, events ...event.Event) (lines []string) {
	t.Helper()
	a := newAlarms()
	for _, e := range events {
		if err := a.Emit(e); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.tell(ctx, func(line string) { lines = append(lines, line) })
	return lines
}

func TestAlarmsAreToldOnce(t *testing.T) {
	at := func(credential, host string, alarm bool) event.Event {
		return event.Event{Kind: event.CredentialRefused, Credential: credential, Host: host, Port: 443, Alarm: alarm, Reason: "it stands in\x1b[2J header X"}
	}
	got := said(t, at("a", "x.test", true), at("a", "x.test", true), at("a", "y.test", true), at("", "x.test", true), at("b", "x.test", false))
	want := []string{
		`ALARM: in a request to x.test:443, it stands in\u001b[2J header X; it was refused`,
		`ALARM: in a request to y.test:443, it stands in\u001b[2J header X; it was refused`,
		`ALARM: in a request to x.test:443, it stands in\u001b[2J header X; it was refused`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("said %q", got)
	}
}

func TestAlarmsAreBounded(t *testing.T) {
	var events []event.Event
	for i := range 10 * maxAlarms {
		events = append(events, event.Event{Alarm: true, Host: fmt.Sprintf("h%d.test", i)})
	}
	if got := said(t, events...); len(got) != maxAlarms+1 || !strings.Contains(got[maxAlarms], "agentbox events") {
		t.Errorf("said %q", got)
	}
}

func TestEventsMarkAlarms(t *testing.T) {
	line := eventLine(event.Event{Kind: event.CredentialRefused, Decision: event.Deny, Alarm: true, Host: "x.test", Port: 443})
	if !strings.Contains(line, "deny  ALARM x.test:443") {
		t.Errorf("it is %q", line)
	}
}
