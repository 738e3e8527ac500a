package policy

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

func host(t testing.TB, s string) Host {
	t.Helper()
	h, err := ParseHost(s)
	if err != nil {
		t.Fatalf("ParseHost(%q): %v", s, err)
	}
	return h
}

func pattern(t testing.TB, s string) Pattern {
	t.Helper()
	p, err := ParsePattern(s)
	if err != nil {
		t.Fatalf("ParsePattern(%q): %v", s, err)
	}
	return p
}

func TestParseHostGivesOneCanonicalForm(t *testing.T) {
	for in, want := range map[string]string{
		"good.test":                       "good.test",
		"GOOD.Test":                       "good.test",
		"good.test.":                      "good.test",
		"bücher.example":                  "xn--bcher-kva.example",
		"BÜCHER.example.":                 "xn--bcher-kva.example",
		"XN--BCHER-KVA.example":           "xn--bcher-kva.example",
		"ｇｏｏｄ。test":                       "good.test",
		"r3---sn-4g5e6nsz.example.com":    "r3---sn-4g5e6nsz.example.com",
		"a.1e100.net":                     "a.1e100.net",
		"127.0.0.1.nip.io":                "127.0.0.1.nip.io",
		"0x7f.example":                    "0x7f.example",
		strings.Repeat("a.", 126) + "b":   strings.Repeat("a.", 126) + "b",
		strings.Repeat("a", 63) + ".test": strings.Repeat("a", 63) + ".test",
	} {
		if got := host(t, in).String(); got != want {
			t.Errorf("ParseHost(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestParseHostRefusesWhatIsNoName(t *testing.T) {
	for _, in := range []string{
		"", ".", "..", "good..test", ".good.test", "good.test..",
		"evil.test\x00.good.test", "good.test\n", "good .test", "good.test\t", "go\x7fod.test", "good\u0085.test",
		"127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.0.0.0x1", "0X7F.0.0.1",
		"1.2.3.4.", "256.256.256.256", "a.b.1", "a.0x", "１２７.0.0.1", "127。0。0。1", "①.②", "good.test.08",
		"::1", "[::1]", "fe80::1%eth0", "good.test:443", "::ffff:10.0.0.1",
		"localhost", "LOCALHOST.", "foo.localhost", "intranet", "com",
		"-good.test", "good-.test", "go_od.test", "good.test/", "good.test@evil.test", "good.test#", "good.test?x",
		"*.good.test", "good.test\xff", "xn--.test", "xn--a.test", "xn--zzzzzzzz.test", "good\u200d.test",
		strings.Repeat("a.", 127) + "b", strings.Repeat("a", 64) + ".test", strings.Repeat("é", 600) + ".test",
	} {
		if h, err := ParseHost(in); err == nil {
			t.Errorf("ParseHost(%q) = %q, want an error", in, h)
		}
	}
}

func FuzzParseHost(f *testing.F) {
	for _, seed := range []string{"good.test", "GOOD.TEST.", "bücher.example", "127.0.0.1", "0x7f.1", "xn--a.test", "a\x00.b", "ｇｏｏｄ。test"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		h, err := ParseHost(in)
		if err != nil {
			if !h.IsZero() {
				t.Fatalf("ParseHost(%q) gave %q with an error", in, h)
			}
			return
		}
		again, err := ParseHost(h.String())
		if err != nil || again != h {
			t.Fatalf("ParseHost(%q) = %q, which parses to %q, %v", in, h, again, err)
		}
		if strings.Trim(h.String(), "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || len(h.String()) > 253 {
			t.Fatalf("ParseHost(%q) = %q is not canonical", in, h)
		}
		if _, err := netip.ParseAddr(h.String()); err == nil {
			t.Fatalf("ParseHost(%q) = %q is an address", in, h)
		}
	})
}

func TestPatternMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, host string
		want          bool
	}{
		{"good.test", "good.test", true},
		{"GOOD.test.", "good.TEST", true},
		{"good.test", "good.test.evil.test", false},
		{"good.test", "www.good.test", false},
		{"good.test", "evilgood.test", false},
		{"*.good.test", "www.good.test", true},
		{"*.good.test", "a.b.c.good.test", true},
		{"*.good.test", "good.test", false},
		{"*.good.test", "evilgood.test", false},
		{"*.good.test", "good.test.evil.test", false},
		{"*.bücher.example", "www.xn--bcher-kva.example", true},
	} {
		if got := pattern(t, c.pattern).Match(host(t, c.host)); got != c.want {
			t.Errorf("%q matches %q = %v, want %v", c.pattern, c.host, got, c.want)
		}
	}
	if (Pattern{}).Match(Host{}) {
		t.Error("the zero pattern matches the zero host")
	}
}

func TestParsePatternRefusesWhatWouldMatchTooMuch(t *testing.T) {
	for _, in := range []string{
		"", "*", "*.", "*.com", "*.co.uk", "*.github.io", "*.COM.", "a.*.com", "a*.good.test", "*good.test", "**.good.test", "*.*.good.test",
		"*.test", "*.localhost", "::1", "::1:443", "[::1]:443", "10.0.0.1", "*.0.0.1", "good.test:443", "localhost", "intranet",
	} {
		if p, err := ParsePattern(in); err == nil {
			t.Errorf("ParsePattern(%q) = %q, want an error", in, p)
		}
	}
}

func TestPatternExact(t *testing.T) {
	if h, ok := pattern(t, "Good.test").Exact(); !ok || h != host(t, "good.test") {
		t.Errorf("Exact of an exact pattern = %q, %v", h, ok)
	}
	if h, ok := pattern(t, "*.good.test").Exact(); ok || !h.IsZero() {
		t.Errorf("Exact of a wildcard = %q, %v", h, ok)
	}
}

func TestTextForms(t *testing.T) {
	in := `{"host":"*.GOOD.test","name":"Good.Test."}`
	var v struct {
		Host Pattern `json:"host"`
		Name Host    `json:"name"`
	}
	if err := json.Unmarshal([]byte(in), &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil || string(out) != `{"host":"*.good.test","name":"good.test"}` {
		t.Errorf("round trip gave %s, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"host":"*.com"}`), &v); err == nil || v.Host.String() != "*.good.test" {
		t.Errorf("a bad pattern gave %v and left %q", err, v.Host)
	}
	if err := json.Unmarshal([]byte(`{"name":"127.1"}`), &v); err == nil || v.Name.String() != "good.test" {
		t.Errorf("a bad host gave %v and left %q", err, v.Name)
	}
}

func testSet(t testing.TB) Set {
	return Set{Default: Deny, Rules: []Rule{
		{Action: Allow, Host: pattern(t, "good.test"), Ports: []uint16{443, 8443}, Inspect: true, Origin: "p:1"},
		{Action: Allow, Host: pattern(t, "*.wild.test"), Ports: []uint16{443}, Inspect: true, Origin: "p:2"},
		{Action: Allow, Host: pattern(t, "pinned.wild.test"), Ports: []uint16{443}, Inspect: false, Origin: "p:3"},
		{Action: Deny, Host: pattern(t, "bad.wild.test"), Ports: []uint16{443}, Origin: "p:4"},
		{Action: Allow, Host: pattern(t, "bad.wild.test"), Ports: []uint16{443}, Inspect: true, Origin: "p:5"},
		{Action: Allow, Host: pattern(t, "metadata.google.internal"), Ports: []uint16{443, 80}, Inspect: true, Origin: "p:6"},
		{Action: Ask, Host: pattern(t, "ask.test"), Ports: []uint16{443}, Inspect: true, Origin: "p:7"},
	}}
}

func TestDecide(t *testing.T) {
	set := testSet(t)
	for _, c := range []struct {
		host    string
		port    uint16
		want    Action
		inspect bool
		rule    string
		reason  string
	}{
		{"GOOD.test.", 443, Allow, true, "p:1", "the rule for good.test at p:1 allows good.test on port 443"},
		{"good.test", 22, Deny, false, "default", "good.test is allowed on port 443, 8443 only, not on port 22"},
		{"good.test.evil.test", 443, Deny, false, "default", "no rule allows good.test.evil.test and the default is to deny"},
		{"a.b.wild.test", 443, Allow, true, "p:2", "the rule for *.wild.test at p:2 allows a.b.wild.test on port 443"},
		{"pinned.wild.test", 443, Allow, false, "p:3", "the rule for pinned.wild.test at p:3 allows pinned.wild.test on port 443"},
		{"wild.test", 443, Deny, false, "default", "no rule allows wild.test and the default is to deny"},
		{"BAD.wild.test.", 443, Deny, false, "p:4", "the rule for bad.wild.test at p:4 denies bad.wild.test on port 443"},
		{"metadata.google.internal", 80, Deny, false, "built-in", "metadata.google.internal serves the credentials of a cloud machine and is never allowed"},
		{"ask.test", 443, Ask, false, "p:7", "the rule for ask.test at p:7 wants a person asked before ask.test on port 443"},
	} {
		got := set.Decide(Request{Host: host(t, c.host), Port: c.port})
		if got.Action != c.want || got.Inspect != c.inspect || got.Rule != c.rule || got.Reason() != c.reason {
			t.Errorf("Decide(%s:%d)\n got %+v: %s\nwant %+v", c.host, c.port, got, got.Reason(), c)
		}
	}
}

func TestDecideFallsClosed(t *testing.T) {
	open := Set{Default: Allow}
	if d := open.Decide(Request{Host: host(t, "any.test"), Port: 443}); !d.Allowed() || !d.Inspect {
		t.Errorf("default allow gave %+v", d)
	}
	for _, r := range []Request{{}, {Host: host(t, "any.test")}, {Port: 443}, {Host: host(t, "x.metadata.google.internal"), Port: 443}} {
		if d := open.Decide(r); d.Allowed() {
			t.Errorf("Decide(%+v) under default allow gave %+v", r, d)
		}
	}
	if d := (Set{}).Decide(Request{Host: host(t, "any.test"), Port: 443}); d.Allowed() {
		t.Errorf("the zero set allows: %+v", d)
	}
}

func TestReachable(t *testing.T) {
	set := testSet(t)
	for name, want := range map[string]bool{
		"good.test": true, "x.wild.test": true, "wild.test": false, "bad.wild.test": false, "evil.test": false, "metadata.google.internal": false, "ask.test": true,
	} {
		if got := set.Reachable(host(t, name)); got != want {
			t.Errorf("Reachable(%s) = %v, want %v", name, got, want)
		}
	}
	if !(Set{Default: Allow}).Reachable(host(t, "evil.test")) {
		t.Error("default allow does not reach a name")
	}
}

func TestClassifyAddr(t *testing.T) {
	for in, want := range map[string]Class{
		"1.1.1.1": Public, "9.255.255.255": Public, "172.15.0.1": Public, "172.32.0.1": Public, "100.63.0.1": Public, "100.128.0.1": Public,
		"2606:4700:4700::1111": Public, "::ffff:1.1.1.1": Public,
		"127.0.0.1": Loopback, "127.255.255.254": Loopback, "::1": Loopback, "::ffff:127.0.0.1": Loopback,
		"10.0.0.1": Private, "172.16.0.1": Private, "172.31.255.255": Private, "192.168.1.1": Private, "fc00::1": Private, "fd12::1": Private,
		"::ffff:10.0.0.1": Private, "64:ff9b::10.0.0.1": Private, "2002:a00:1::1": Private, "::10.0.0.1": Private, "64:ff9b:1::10.0.0.1": Private,
		"2001:0:4136:e378:8000:63bf:f5ff:fffe": Private,
		"169.254.1.1":                          LinkLocal, "fe80::1": LinkLocal, "fe80::1%eth0": LinkLocal,
		"100.64.0.1": CGNAT, "100.127.255.255": CGNAT,
		"224.0.0.1": Multicast, "239.1.1.1": Multicast, "ff02::1": Multicast,
		"0.0.0.0": Unspecified, "0.1.2.3": Unspecified, "::": Unspecified,
		"240.0.0.1": Reserved, "255.255.255.255": Reserved, "192.0.2.1": Reserved, "198.51.100.1": Reserved, "203.0.113.1": Reserved,
		"198.18.0.1": Reserved, "192.0.0.1": Reserved, "192.88.99.1": Reserved, "2001:db8::1": Reserved, "3fff::1": Reserved,
		"64:ff9b::1.1.1.1": Reserved, "2002:101:101::1": Reserved, "64:ff9b:1::1": Unspecified, "2001:0:1::": Reserved, "100::1": Reserved, "4000::1": Reserved, "::1.1.1.1": Reserved,
		"169.254.169.254": Metadata, "fd00:ec2::254": Metadata, "::ffff:169.254.169.254": Metadata, "64:ff9b::169.254.169.254": Metadata,
		"100.100.100.200": Metadata, "2002:a9fe:a9fe::1": Metadata,
	} {
		if got := ClassifyAddr(netip.MustParseAddr(in)); got != want {
			t.Errorf("ClassifyAddr(%s) = %s, want %s", in, got, want)
		}
	}
	if got := ClassifyAddr(netip.Addr{}); got != Reserved {
		t.Errorf("ClassifyAddr of the zero address = %s", got)
	}
}

func pathPattern(t testing.TB, s string) PathPattern {
	t.Helper()
	p, err := ParsePathPattern(s)
	if err != nil {
		t.Fatalf("ParsePathPattern(%q): %v", s, err)
	}
	return p
}
