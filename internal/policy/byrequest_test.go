package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// both gives the answer of a set and of its table, which must be one.
func both(t *testing.T, s Set, q Request) Decision {
	t.Helper()
	a, b := s.Decide(q), s.Compile().Decide(q)
	if a.Action != b.Action || a.Reason() != b.Reason() || a.Inspect != b.Inspect {
		t.Errorf("%+v: the set says %s (%s), its table %s (%s)", q, a.Action, a.Reason(), b.Action, b.Reason())
	}
	return b
}

func ruleFor(t *testing.T, action Action, change func(*Rule)) Rule {
	t.Helper()
	r := Rule{Action: action, Host: pattern(t, "good.test"), Ports: []uint16{443}, Inspect: true, Origin: "p:" + string(action)}
	change(&r)
	return r
}

func get(t *testing.T, change func(*Request)) Request {
	t.Helper()
	q := Request{Host: host(t, "good.test"), Port: 443, Scheme: "https", Method: "GET", Path: "/x"}
	change(&q)
	return q
}

func TestRulesByKind(t *testing.T) {
	none := func(*Rule) {}
	https, http := func(r *Rule) { r.Scheme = "https" }, func(r *Rule) { r.Scheme = "http" }
	only, never := func(r *Rule) { r.WebSocket = WebSocketOnly }, func(r *Rule) { r.WebSocket = WebSocketNever }
	splice := func(r *Rule) { r.Inspect = false }
	for name, c := range map[string]struct {
		rules   []Rule
		ask     func(*Request)
		want    Action
		inspect bool
	}{
		"https by an https rule":           {[]Rule{ruleFor(t, Allow, https)}, func(*Request) {}, Allow, true},
		"http by an https rule":            {[]Rule{ruleFor(t, Allow, https)}, func(q *Request) { q.Scheme = "http" }, Deny, false},
		"an unknown scheme":                {[]Rule{ruleFor(t, Allow, https)}, func(q *Request) { q.Scheme = "" }, Deny, false},
		"an unknown scheme, denied":        {[]Rule{ruleFor(t, Allow, none), ruleFor(t, Deny, http)}, func(q *Request) { q.Scheme = "" }, Deny, false},
		"a WebSocket where only they pass": {[]Rule{ruleFor(t, Allow, only)}, func(q *Request) { q.WebSocket = true }, Allow, true},
		"a request where only they pass":   {[]Rule{ruleFor(t, Allow, only)}, func(*Request) {}, Deny, false},
		"a WebSocket where none passes":    {[]Rule{ruleFor(t, Allow, never)}, func(q *Request) { q.WebSocket = true }, Deny, false},
		"a WebSocket that is denied":       {[]Rule{ruleFor(t, Allow, none), ruleFor(t, Deny, only)}, func(q *Request) { q.WebSocket = true }, Deny, false},
		"a tunnel beside denied sockets":   {[]Rule{ruleFor(t, Allow, splice), ruleFor(t, Deny, only)}, func(q *Request) { q.Method, q.Path = "", "" }, Allow, true},
		"a tunnel beside denied https":     {[]Rule{ruleFor(t, Allow, splice), ruleFor(t, Ask, https)}, func(q *Request) { q.Scheme, q.Method, q.Path = "", "", "" }, Allow, true},
		"a spliced tunnel of https":        {[]Rule{ruleFor(t, Allow, func(r *Rule) { r.Scheme, r.Inspect = "https", false })}, func(q *Request) { q.Method, q.Path = "", "" }, Allow, false},
		"a tunnel of http alone":           {[]Rule{ruleFor(t, Allow, func(r *Rule) { r.Scheme, r.Inspect = "http", false })}, func(q *Request) { q.Scheme, q.Method, q.Path = "", "", "" }, Allow, true},
		"a tunnel known to be https":       {[]Rule{ruleFor(t, Allow, none), ruleFor(t, Deny, https)}, func(q *Request) { q.Method, q.Path = "", "" }, Deny, false},
		"a scheme that is none":            {[]Rule{ruleFor(t, Allow, func(r *Rule) { r.Scheme = "ftp" })}, func(*Request) {}, Deny, false},
		"a scheme that is none, denied":    {[]Rule{ruleFor(t, Allow, none), ruleFor(t, Deny, func(r *Rule) { r.Scheme = "ftp" })}, func(*Request) {}, Deny, false},
	} {
		if d := both(t, Set{Default: Deny, Rules: c.rules}, get(t, c.ask)); d.Action != c.want || d.Inspect != c.inspect {
			t.Errorf("%s: %s, Inspect = %v: %s", name, d.Action, d.Inspect, d.Reason())
		}
	}
}

func TestTCPIsForItsOwnRules(t *testing.T) {
	tcp := func(r *Rule) { r.Protocol = TCP }
	for name, c := range map[string]struct {
		otherwise Action
		rules     []Rule
		git       []GitRule
		want      Action
	}{
		"a rule":                     {Deny, []Rule{ruleFor(t, Allow, tcp)}, nil, Allow},
		"another rule":               {Deny, []Rule{ruleFor(t, Allow, func(*Rule) {})}, nil, Deny},
		"the default":                {Allow, nil, nil, Deny},
		"the default that asks":      {Ask, nil, nil, Deny},
		"denied":                     {Deny, []Rule{ruleFor(t, Allow, tcp), ruleFor(t, Deny, func(*Rule) {})}, nil, Deny},
		"a rule that asks":           {Deny, []Rule{ruleFor(t, Ask, tcp)}, nil, Ask},
		"everything is asked about":  {Deny, []Rule{ruleFor(t, Allow, tcp), ruleFor(t, Ask, func(*Rule) {})}, nil, Ask},
		"only requests are asked of": {Deny, []Rule{ruleFor(t, Ask, func(*Rule) {})}, nil, Deny},
		"a denied path":              {Deny, []Rule{ruleFor(t, Allow, tcp), ruleFor(t, Deny, func(r *Rule) { r.Paths = []PathPattern{pathPattern(t, "/x")} })}, nil, Deny},
		"an asked method":            {Deny, []Rule{ruleFor(t, Allow, tcp), ruleFor(t, Ask, func(r *Rule) { r.Methods = []string{"POST"} })}, nil, Deny},
		"denied WebSockets":          {Deny, []Rule{ruleFor(t, Allow, tcp), ruleFor(t, Deny, func(r *Rule) { r.WebSocket = WebSocketOnly })}, nil, Deny},
		"denied http":                {Deny, []Rule{ruleFor(t, Allow, tcp), ruleFor(t, Deny, func(r *Rule) { r.Scheme = "http" })}, nil, Deny},
		"a repository":               {Deny, []Rule{ruleFor(t, Allow, tcp)}, []GitRule{{Host: host(t, "good.test"), Repo: "a/b", Fetch: true}}, Deny},
	} {
		q := Request{Host: host(t, "good.test"), Port: 443, Scheme: TCP}
		if d := both(t, Set{Default: c.otherwise, Rules: c.rules, Git: c.git}, q); d.Action != c.want || d.Inspect {
			t.Errorf("%s: %s: %s", name, d.Action, d.Reason())
		}
	}
	set := Set{Default: Deny, Rules: []Rule{ruleFor(t, Allow, tcp)}}
	if d := both(t, set, get(t, func(*Request) {})); d.Allowed() {
		t.Errorf("a request by a rule for tcp: %s", d.Reason())
	}
	if !set.Reachable(host(t, "good.test")) || !set.Compile().Reachable(host(t, "good.test")) {
		t.Error("a host of tcp is not looked up")
	}
}

func TestLimitsHoldForThePlace(t *testing.T) {
	sized := func(request, sent int64) func(*Rule) {
		return func(r *Rule) { r.MaxRequest, r.MaxSent = request, sent }
	}
	set := Set{Default: Deny, Rules: []Rule{ruleFor(t, Allow, func(*Rule) {}), ruleFor(t, Allow, func(r *Rule) { r.Methods, r.MaxRequest, r.MaxSent = []string{"PUT"}, 10, 50 }),
		ruleFor(t, Ask, func(r *Rule) { r.Methods, r.MaxRequest, r.MaxSent = []string{"PATCH"}, 20, 40 })}}
	for size, want := range map[int64]Action{-1: Allow, 0: Allow, 10: Allow, 11: Deny} {
		if d := both(t, set, get(t, func(q *Request) { q.Size = size })); d.Action != want || d.Allowed() && (d.MaxRequest != 10 || d.MaxSent != 40) || d.Action == Deny && !strings.Contains(d.Reason(), "11 bytes") {
			t.Errorf("%d bytes: %s %d %d: %s", size, d.Action, d.MaxRequest, d.MaxSent, d.Reason())
		}
	}
	if d := both(t, set, get(t, func(q *Request) { q.Method, q.Size = "PATCH", 30 })); d.Action != Deny {
		t.Errorf("a large body is asked about: %s", d.Reason())
	}
	spliced := Set{Default: Deny, Rules: []Rule{ruleFor(t, Allow, func(r *Rule) { r.Inspect = false }), ruleFor(t, Allow, sized(5, 0))}}
	if d := both(t, spliced, Request{Host: host(t, "good.test"), Port: 443}); !d.Allowed() || !d.Inspect {
		t.Errorf("a connection whose bodies are limited is spliced: %+v", d)
	}
}

func TestGitRulesJudgePushes(t *testing.T) {
	allowed := Rule{Action: Allow, Host: pattern(t, "good.test"), Ports: []uint16{443}, Inspect: true, Origin: "p:1"}
	git := []GitRule{
		{Host: host(t, "good.test"), Repo: "acme/billing", Fetch: true, Push: []string{"refs/heads/agentbox/*"}, Origin: "g:1"},
		{Host: host(t, "good.test"), Repo: "acme/docs", Push: []string{"refs/heads/main"}, Force: true, Delete: true, Origin: "g:2"},
	}
	push := func(repo string, refs ...RefUpdate) Request {
		return Request{Host: host(t, "good.test"), Port: 443, Scheme: "https", Method: "POST", Path: "/" + repo + ".git/git-receive-pack", Git: &GitRequest{Repo: repo, Op: GitPush, Refs: refs}}
	}
	fetch := func(repo string) Request {
		q := push(repo)
		q.Git = &GitRequest{Repo: repo, Op: GitFetch}
		return q
	}
	mine, main := "refs/heads/agentbox/x", "refs/heads/main"
	with := func(q Request, change func(*Request)) Request { change(&q); return q }
	for name, c := range map[string]struct {
		q      Request
		want   Action // without a network rule that allows the host, and with one
		with   Action
		reason string
	}{
		"a new ref":              {push("acme/billing", RefUpdate{mine, RefCreate}), Allow, Allow, "g:1"},
		"a fast-forward":         {push("acme/billing", RefUpdate{mine, RefUpdated}), Allow, Allow, ""},
		"not known yet":          {push("acme/billing"), Allow, Allow, ""},
		"main":                   {push("acme/billing", RefUpdate{main, RefUpdated}), Deny, Deny, "refs/heads/main is not among refs/heads/agentbox/*"},
		"main beside mine":       {push("acme/billing", RefUpdate{mine, RefUpdated}, RefUpdate{main, RefUpdated}), Deny, Deny, "refs/heads/main is not among"},
		"by force":               {push("acme/billing", RefUpdate{mine, RefForce}), Deny, Deny, "no fast-forward"},
		"a deletion":             {push("acme/billing", RefUpdate{mine, RefDelete}), Deny, Deny, "would be deleted"},
		"of an unknown kind":     {push("acme/billing", RefUpdate{mine, "?"}), Deny, Deny, ""},
		"by force where allowed": {push("acme/docs", RefUpdate{main, RefForce}, RefUpdate{main, RefDelete}), Allow, Allow, ""},
		"another repository":     {push("evil/billing", RefUpdate{mine, RefCreate}), Deny, Deny, "none names this repository"},
		"in another case":        {push("Acme/billing", RefUpdate{mine, RefCreate}), Deny, Deny, ""},
		"around the pattern":     {push("acme/billing", RefUpdate{"refs/heads/agentbox/../main", RefUpdated}), Deny, Deny, ""},
		"with a control":         {push("acme/billing", RefUpdate{"refs/heads/agentbox/\x1b[2J", RefUpdated}), Deny, Deny, `\x1b`},
		"over http":              {with(push("acme/billing", RefUpdate{mine, RefCreate}), func(q *Request) { q.Scheme = "http" }), Deny, Deny, "https"},
		"on another port":        {with(push("acme/billing", RefUpdate{mine, RefCreate}), func(q *Request) { q.Port = 8443 }), Deny, Deny, "port 443"},
		"on another host":        {with(push("acme/billing", RefUpdate{mine, RefCreate}), func(q *Request) { q.Host = host(t, "other.test") }), Deny, Deny, ""},
		"under another path":     {with(push("acme/billing", RefUpdate{mine, RefCreate}), func(q *Request) { q.PathBy = "X-Original-URL" }), Deny, Deny, "another path"},
		"by another method":      {with(fetch("acme/billing"), func(q *Request) { q.MethodBy = "X-HTTP-Method-Override" }), Deny, Deny, "another method"},
		"an unclear path":        {with(push("acme/billing", RefUpdate{mine, RefCreate}), func(q *Request) { q.Path = "/acme/billing/../other/git-receive-pack" }), Deny, Deny, "the path"},
		"a fetch":                {fetch("acme/billing"), Allow, Allow, ""},
		"a fetch of another":     {fetch("evil/billing"), Deny, Allow, ""},
		"a fetch that is not":    {fetch("acme/docs"), Deny, Allow, ""},
		"the connection":         {Request{Host: host(t, "good.test"), Port: 443}, Allow, Allow, ""},
	} {
		without, withRule := Set{Default: Deny, Git: git}, Set{Default: Deny, Git: git, Rules: []Rule{allowed}}
		if d := both(t, without, c.q); d.Action != c.want || !strings.Contains(d.Reason(), c.reason) {
			t.Errorf("%s: %s: %s", name, d.Action, d.Reason())
		}
		if d := both(t, withRule, c.q); d.Action != c.with {
			t.Errorf("%s beside a rule: %s: %s", name, d.Action, d.Reason())
		}
		asking := Set{Default: Ask, Git: git}
		if d := both(t, asking, c.q); c.want == Deny && c.q.Git.Op == GitPush && d.Action == Allow {
			t.Errorf("%s where the default asks: %s", name, d.Reason())
		}
		denied := Set{Default: Deny, Git: git, Rules: []Rule{ruleFor(t, Deny, func(r *Rule) { r.Ports = []uint16{443, 8443} })}}
		if d := both(t, denied, c.q); d.Action != Deny {
			t.Errorf("%s of a denied host: %s", name, d.Reason())
		}
	}
	plain := Set{Default: Deny, Rules: []Rule{allowed}}
	if d := both(t, plain, push("evil/billing", RefUpdate{main, RefForce})); !d.Allowed() {
		t.Errorf("without rules for git a push is a request like others: %s", d.Reason())
	}
	blind := Set{Default: Deny, Git: git, Rules: []Rule{ruleFor(t, Allow, func(r *Rule) { r.Inspect = false })}}
	if d := both(t, blind, Request{Host: host(t, "good.test"), Port: 443, Scheme: "https"}); !d.Allowed() || !d.Inspect {
		t.Errorf("pushes to a host that git rules name are not seen: %+v", d)
	}
}

func TestPermits(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fc00::/7"),
		netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	for text, want := range map[string]bool{
		"8.8.8.8": true, "10.1.2.3": true, "::ffff:10.1.2.3": true, "127.0.0.1": true, "100.64.0.1": true, "fd00::1": true, "fe80::1%eth0": true, "169.254.1.1": true,
		"64:ff9b::808:808": true, "64:ff9b::a01:203": true, "64:ff9b::c0a8:101": false, "2002:a01:203::1": false,
		"192.168.1.1": false, "169.254.169.254": false, "64:ff9b::a9fe:a9fe": false, "fd00:ec2::254": false, "100.100.100.200": false, "224.0.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "::1": false, "::": false, "ff02::1": false,
	} {
		addr := netip.MustParseAddr(text)
		if got := Permits(own, addr); got != want {
			t.Errorf("%s: %v", text, got)
		}
		if public := ClassifyAddr(addr) == Public; Permits(nil, addr) != public {
			t.Errorf("%s without a prefix: %v", text, !public)
		}
	}
	if Permits(own, netip.Addr{}) {
		t.Error("no address is permitted")
	}
	for text, good := range map[string]bool{
		"10.0.0.0/8": true, "10.1.2.3/32": true, "192.168.0.0/16": true, "127.0.0.1/32": true, "100.64.0.0/10": true, "fc00::/7": true, "fe80::/10": true, "64:ff9b::/96": true, "2002::/16": true, "203.0.113.0/24": true,
		"0.0.0.0/0": false, "10.0.0.0/7": false, "8.8.8.8/32": false, "::/0": false, "2000::/3": false, "2600::/32": false, "169.254.169.254/32": false, "224.0.0.0/4": false, "ff00::/8": false, "0.0.0.0/8": false, "::/128": false,
	} {
		if err := CheckPrivate(netip.MustParsePrefix(text)); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestPrivateIsOfTheRulesThatAllowTheHost(t *testing.T) {
	private := func(p string) func(*Rule) {
		return func(r *Rule) { r.Private = []netip.Prefix{netip.MustParsePrefix(p)} }
	}
	set := Set{Default: Allow, Rules: []Rule{ruleFor(t, Allow, private("10.0.0.0/8")), ruleFor(t, Deny, private("192.168.0.0/16")),
		ruleFor(t, Allow, func(r *Rule) { r.Host = pattern(t, "*.good.test"); private("172.16.0.0/12")(r) })}}
	table := set.Compile()
	for name, want := range map[string]string{"good.test": "[10.0.0.0/8]", "x.good.test": "[172.16.0.0/12]", "other.test": "[]"} {
		for _, got := range [][]netip.Prefix{set.Private(host(t, name)), table.Private(host(t, name))} {
			text := []string{}
			for _, p := range got {
				text = append(text, p.String())
			}
			if slices.Sort(text); "["+strings.Join(text, " ")+"]" != want {
				t.Errorf("%s: %v", name, got)
			}
		}
	}
}

func TestRefPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, ref string
		want         bool
	}{
		{"refs/heads/main", "refs/heads/main", true}, {"refs/heads/main", "refs/heads/main2", false}, {"refs/heads/x/*", "refs/heads/x/y/z", true}, {"refs/heads/x/*", "refs/heads/x", false},
		{"refs/heads/x*", "refs/heads/x", true}, {"refs/*/fix", "refs/heads/a/fix", true}, {"refs/heads/aba*aba", "refs/heads/aba", false}, {"refs/*", "HEAD", false}, {"*", "refs/heads/main", false},
		{"refs/heads/*", "refs/heads/a..b", false}, {"refs/heads/*", "refs/heads/a\nb", false}, {"refs/heads/*/*", "refs/heads/a/b", false}, {"", "", false}, {"refs/heads/*", "refs/heads/*", false},
	} {
		if got := MatchRef(c.pattern, c.ref); got != c.want {
			t.Errorf("%q of %q: %v", c.ref, c.pattern, got)
		}
	}
	for pattern, good := range map[string]bool{"refs/heads/*": true, "refs/heads/main": true, "refs/heads/*.lock": false, "refs/heads/.*": false, "main": false, "refs/heads/*/*": false, "refs/*": true} {
		if err := ParseRefPattern(pattern); (err == nil) != good {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

func TestTableOfGitRulesAllocatesNothing(t *testing.T) {
	set := bigSet(t, 1000)
	set.Git = []GitRule{{Host: host(t, "api.example.com"), Repo: "acme/billing", Push: []string{"refs/heads/agentbox/*"}}}
	table := set.Compile()
	q := Request{Host: host(t, "api.example.com"), Port: 443, Scheme: "https", Method: "POST", Path: "/acme/billing.git/git-receive-pack", Size: 10,
		Git: &GitRequest{Repo: "acme/billing", Op: GitPush, Refs: []RefUpdate{{"refs/heads/agentbox/x", RefUpdated}, {"refs/heads/main", RefForce}}}}
	for _, q := range []Request{q, {Host: q.Host, Port: 443}, {Host: q.Host, Port: 443, Scheme: TCP}} {
		if n := testing.AllocsPerRun(100, func() { table.Decide(q) }); n != 0 {
			t.Errorf("%+v: %v allocations", q, n)
		}
	}
}
