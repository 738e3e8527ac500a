package profiles

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// What is read without reflection is what is read with it, or is left to it.
func TestRulesAreReadLikeEveryTable(t *testing.T) {
	values := map[string][]string{
		"action":  {`"allow"`, `"deny"`, `"ask"`, `"Allow"`, `""`, `1`, `["allow"]`},
		"host":    {`"a.test"`, `"*.a.test"`, `"Ä.example"`, `"A.test."`, `"a.test:443"`, `"*"`, `""`, `true`},
		"ports":   {`[443]`, `[80, 443]`, `[]`, `[0]`, `[70000]`, `["443"]`, `[1.5]`, `443`, `[443, 443]`, `[` + strings.Repeat("1,", maxWithin) + `1]`},
		"methods": {`["GET"]`, `["GET", "HEAD"]`, `["X_1-Y"]`, `[]`, `["get"]`, `["CONNECT"]`, `["..."]`, `[""]`, `[1]`, `"GET"`, `["` + strings.Repeat("A", 33) + `"]`},
		"paths":   {`["/"]`, `["/a/**", "/b"]`, `[]`, `["..."]`, `["a"]`, `["/%"]`, `[["/"]]`, `"/"`},
		"inspect": {`true`, `false`, `"true"`, `1`},
		"other":   {`1`},

		"scheme":      {`"https"`, `"http"`, `"tcp"`, `""`, `1`},
		"websocket":   {`true`, `false`, `"true"`, `1`},
		"protocol":    {`"tcp"`, `"tcp"`, `"udp"`, `""`, `6`},
		"max_request": {`"10MB"`, `"10MiB"`, `"10"`, `10`, `"0MB"`},
		"max_sent":    {`"1GiB"`, `"1GB"`, `"-1GB"`, `1.5`},
		"private":     {`["10.0.0.0/8"]`, `["192.168.1.1", "fd00::/8"]`, `[]`, `["10.0.0.1/8"]`, `["8.8.8.8"]`, `["0.0.0.0/0"]`, `"10.0.0.0/8"`, `[1]`, `["..."]`},
	}
	keys := []string{"action", "host", "ports", "methods", "paths", "inspect", "scheme", "websocket", "protocol", "max_request", "max_sent", "private", "other"}
	r, quick, slow := rand.New(rand.NewPCG(3, 5)), 0, 0
	for range 20_000 {
		var b strings.Builder
		for _, key := range keys {
			choices := values[key]
			if key != "other" && r.IntN(8) > 0 {
				choices = choices[:2] // mostly right
			}
			if key == "action" || key == "host" || r.IntN(3) == 0 && (key != "other" || r.IntN(8) == 0) {
				fmt.Fprintf(&b, "%s = %s\n", key, choices[r.IntN(len(choices))])
			}
		}
		root, f := parse(newSource("x", User, []byte(b.String())))
		if f != nil {
			t.Fatal(f)
		}
		d, want, got := newDocument(), Rule{}, Rule{Ports: []Port{443}, Inspect: true}
		d.steps = []string{"rule", ""}
		d.decode(root, reflect.ValueOf(&want).Elem())
		if x := (ruleReader{}); x.read(root, &got) {
			quick++
			if len(d.problems) > 0 || !reflect.DeepEqual(got, want) {
				t.Fatalf("%s\ngot  %+v\nwant %+v, %v", &b, got, want, d.problems)
			}
		} else if len(d.problems) == 0 {
			t.Fatalf("%s is right, and was not read", &b)
		} else {
			slow++
		}
	}
	if quick < 2000 || slow < 2000 {
		t.Errorf("%d read, %d not", quick, slow)
	}
	if n := len(fieldsOf(reflect.TypeFor[Rule]())); n != len(keys)-1 {
		t.Errorf("a rule has %d keys", n)
	}
}

// Rules in a row that have a list in common share it, and only then.
func TestRulesShareLists(t *testing.T) {
	text := "version = 1\n[agent]\ncommand = [\"x\"]\n"
	lists := []string{`["GET"]`, `["GET"]`, `["GET", "HEAD"]`, `["GET"]`, `[]`, `["HEAD"]`}
	for i, list := range lists {
		text += fmt.Sprintf("[[network.rule]]\naction = \"allow\"\nhost = \"h%d.test\"\nmethods = %s\n", i, strings.ReplaceAll(list, "[]", `["PUT"]`))
	}
	l, err := Parse("x", []byte(text), "x.toml")
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, r := range l.Profile.Network.Rules {
		got += fmt.Sprint(r.Methods, r.Ports)
	}
	if want := "[GET] [443][GET] [443][GET HEAD] [443][GET] [443][PUT] [443][HEAD] [443]"; got != want {
		t.Errorf("got %s", got)
	}
}
