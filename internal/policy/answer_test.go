package policy

import "testing"

// What the person allowed in one repository answers rules that ask, the organisation's not among them, and no rule that
// denies.
func TestThePersonsOwnAnswerGoesBeforeRulesThatAsk(t *testing.T) {
	good, err := ParsePattern("good.test")
	if err != nil {
		t.Fatal(err)
	}
	rule := func(action Action, by string, path string) Rule {
		r := Rule{Action: action, Host: good, Ports: []uint16{443}, Inspect: true, By: by, Origin: by + string(action)}
		if path != "" {
			p, ok := ExactPath(path)
			if !ok {
				t.Fatal(path)
			}
			r.Paths = []PathPattern{p}
		}
		return r
	}
	for name, c := range map[string]struct {
		rules []Rule
		want  Action
	}{
		"a profile asks, the person answered":   {[]Rule{rule(Ask, "", ""), rule(Allow, ByPerson, "/x")}, Allow},
		"another rule of the profile allows":    {[]Rule{rule(Ask, "", ""), rule(Allow, "", "/x")}, Ask},
		"the person answered something else":    {[]Rule{rule(Ask, "", ""), rule(Allow, ByPerson, "/y")}, Ask},
		"a rule denies":                         {[]Rule{rule(Deny, "", "/x"), rule(Ask, "", ""), rule(Allow, ByPerson, "/x")}, Deny},
		"the organisation asks":                 {[]Rule{rule(Allow, ByPerson, "/x"), rule(Ask, ByOrganisation, "")}, Ask},
		"the organisation asks, and a profile":  {[]Rule{rule(Ask, "", ""), rule(Allow, ByPerson, "/x"), rule(Ask, ByOrganisation, "/x")}, Ask},
		"the organisation asks about elsewhere": {[]Rule{rule(Ask, "", ""), rule(Allow, ByPerson, "/x"), rule(Ask, ByOrganisation, "/y")}, Allow},
	} {
		set := Set{Default: Deny, Rules: c.rules}
		r := Request{Host: Host{"good.test"}, Port: 443, Scheme: "https", Method: "POST", Path: "/x"}
		if d := set.Decide(r); d.Action != c.want || d.Allowed() && !d.Inspect {
			t.Errorf("%s: %s by %s", name, d.Action, d.Rule)
		}
		if d := set.Compile().Decide(r); d.Action != c.want {
			t.Errorf("%s: the table says %s", name, d.Action)
		}
		if d := set.Decide(Request{Host: r.Host, Port: 443}); d.Action == Deny {
			t.Errorf("%s: its tunnel is denied", name)
		}
	}
}

// An answer about raw connections is none about requests, and the other way round.
func TestAnAnswerIsAboutItsOwnProtocol(t *testing.T) {
	good, err := ParsePattern("good.test")
	if err != nil {
		t.Fatal(err)
	}
	rule := func(action Action, by, protocol string) Rule {
		return Rule{Action: action, Host: good, Ports: []uint16{443}, Inspect: true, By: by, Protocol: protocol, Origin: by + protocol}
	}
	web := Request{Host: Host{"good.test"}, Port: 443, Scheme: "https", Method: "POST", Path: "/x"}
	raw := Request{Host: Host{"good.test"}, Port: 443, Scheme: TCP}
	for name, c := range map[string]struct {
		rules   []Rule
		request Request
	}{
		"tcp answers no request":    {[]Rule{rule(Ask, "", ""), rule(Allow, ByPerson, TCP)}, web},
		"requests answer no tcp":    {[]Rule{rule(Ask, "", TCP), rule(Allow, ByPerson, "")}, raw},
		"everything answers no tcp": {[]Rule{rule(Ask, "", ""), rule(Ask, "", TCP), rule(Allow, ByPerson, "")}, raw},
	} {
		set := Set{Default: Deny, Rules: c.rules}
		if d := set.Decide(c.request); d.Action != Ask {
			t.Errorf("%s: %s by %q", name, d.Action, d.Rule)
		}
		if d := set.Compile().Decide(c.request); d.Action != Ask {
			t.Errorf("%s: the table says %s by %q", name, d.Action, d.Rule)
		}
	}
}
