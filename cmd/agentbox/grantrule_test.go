package main

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"agentbox/internal/profiles"
	"agentbox/internal/trust"
)

// What people paste: the summary's line, a browser's address, a wildcard.
func TestWhatIsPastedBecomesARule(t *testing.T) {
	for _, tc := range []struct {
		where string
		want  trust.Rule
	}{
		{"example.com", trust.Rule{Host: "example.com"}},
		{"Example.COM", trust.Rule{Host: "example.com"}},
		{"example.com:443", trust.Rule{Host: "example.com", Ports: []uint16{443}}},
		{"example.com:8443", trust.Rule{Host: "example.com", Ports: []uint16{8443}}},
		{"*.example.com:8443", trust.Rule{Host: "*.example.com", Ports: []uint16{8443}}},
		{"https://example.com", trust.Rule{Host: "example.com"}},
		{"https://example.com/", trust.Rule{Host: "example.com"}},
		{"https://example.com:8443/a/b", trust.Rule{Host: "example.com", Ports: []uint16{8443}, Paths: []string{"/a/b"}}},
		{"http://example.com/a", trust.Rule{Host: "example.com", Ports: []uint16{80}, Paths: []string{"/a"}}},
		{"example.com/a", trust.Rule{Host: "example.com", Paths: []string{"/a"}}},
	} {
		got, err := grantRule(tc.where, grantOptions{})
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%q: %+v, %v; want %+v", tc.where, got, err, tc.want)
		}
	}
}

// What no profile could say is not written: it would refuse every run in the repository.
func TestWhatIsNoRuleIsNotGranted(t *testing.T) {
	for _, tc := range []struct {
		where         string
		ports         []uint
		methods, path []string
		hint          string
	}{
		{where: "", hint: "name one host"},
		{where: "*", hint: "name one host"},
		{where: "*.com", hint: "name one host"},
		{where: "a b", hint: "name one host"},
		{where: "10.0.0.1", hint: "name one host"},
		{where: "example.com:0", hint: "1 to 65535"},
		{where: "example.com:x", hint: "1 to 65535"},
		{where: "example.com:70000", hint: "1 to 65535"},
		{where: "ftp://example.com", hint: "host alone"},
		{where: "https://me:secret@example.com/", hint: "host alone"},
		{where: "https://example.com/a?b=c", hint: "agentbox grants add example.com --path '/a'"},
		{where: "https://example.com/a", path: []string{"/b"}, hint: "--path '/a'"},
		{where: "example.com", methods: []string{"get"}, hint: "write --method GET"},
		{where: "example.com", methods: []string{"GET,HEAD"}, hint: "give --method again"},
		{where: "example.com", methods: []string{"CONNECT"}, hint: "give --method again"},
		{where: "example.com", methods: []string{strings.Repeat("A", 40)}, hint: "give --method again"},
		{where: "example.com", path: []string{"api/**"}, hint: "write --path '/api/**'"},
		{where: "example.com", path: []string{"/a?b"}, hint: "paths begin with"},
		{where: "example.com", ports: []uint{0}, hint: "1 to 65535"},
		{where: "example.com", ports: []uint{65536}, hint: "1 to 65535"},
	} {
		_, err := grantRule(tc.where, grantOptions{ports: tc.ports, methods: tc.methods, paths: tc.path})
		word, ok := errors.AsType[*usageError](err)
		if !ok || !strings.Contains(word.hint, tc.hint) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v, hint %+v", tc, err, word)
		}
	}
}

func TestTheOrganisationGoesBeforeAGrant(t *testing.T) {
	floors, err := profiles.LoadFloors([]byte("version = 1\n[network]\nonly = ['*.example.com']\n[[network.rule]]\naction = 'deny'\nhost = 'old.example.com'\n"), policyFile)
	if err != nil {
		t.Fatal(err)
	}
	g := trust.GrantsOf(t.TempDir(), t.TempDir())
	for where, want := range map[string]string{
		"old.example.com": policyFile + ":4", "other.test": policyFile + ":3", "*.other.test": policyFile + ":3", "good.example.com": "", "*.good.example.com:8443": "",
	} {
		r, err := grantRule(where, grantOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.AddRule(r, time.Now()); err != nil {
			t.Fatal(err)
		}
		granted, err := loads(g, "grants.toml", floors)
		if got := overruled(granted, r); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", where, got, err, want)
		}
	}
}

// The organisation wants everything that changes something asked for: a grant that allows it would refuse every run.
func TestAGrantThatRefusesEveryRunIsTakenBack(t *testing.T) {
	floors, err := profiles.LoadFloors([]byte("version = 1\ntier = 'high'\n"), policyFile)
	if err != nil {
		t.Fatal(err)
	}
	g := trust.GrantsOf(t.TempDir(), t.TempDir())
	if _, err := g.AddRule(trust.Rule{Host: "a.example.com", Methods: []string{"GET"}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := loads(g, "grants.toml", floors); err != nil {
		t.Fatal(err)
	}
	if _, err := g.AddRule(trust.Rule{Host: "a.example.com", Methods: []string{"POST"}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := loads(g, "grants.toml", floors); err == nil || !strings.Contains(err.Error(), "grants.toml") {
		t.Fatalf("it loads: %v", err)
	}
	if err := takeBack(g); err != nil {
		t.Fatal(err)
	}
	if rules, err := g.ListRules(); err != nil || len(rules) != 1 || rules[0].Methods[0] != "GET" {
		t.Errorf("%+v, %v", rules, err)
	}
}

// A grants file that an older version wrote, or an editor: the error names the grant to take back.
func TestABadGrantSaysHowItIsTakenBack(t *testing.T) {
	g := trust.GrantsOf(t.TempDir(), t.TempDir())
	for _, host := range []string{"good.example.com", "*"} {
		if _, err := g.AddRule(trust.Rule{Host: host}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile(g.Path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = loads(g, "~/x.toml", profiles.Floors{})
	if code, hint := classify(err); code != 126 || !strings.Contains(hint, `"agentbox grants revoke 2"`) || !strings.Contains(hint, "~/x.toml") {
		t.Errorf("%d, %q: %v", code, hint, err)
	}
	a := &app{getenv: func(string) string { return "" }}
	if err := a.grant(g, trust.Rule{Host: "more.example.com"}); err == nil {
		t.Error("a rule is added to a file that does not load")
	}
	if after, err := os.ReadFile(g.Path); err != nil || string(after) != string(before) {
		t.Error("the file has changed")
	}
}
