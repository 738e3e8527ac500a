package plan

import (
	"cmp"
	"slices"

	"agentbox/internal/policy"
)

func (d *differ) credentials() {
	was := byName(d.from.Credentials, func(c Credential) string { return c.Name })
	is := byName(d.to.Credentials, func(c Credential) string { return c.Name })
	for _, name := range union(was, is) {
		old, had := was[name]
		now, has := is[name]
		switch {
		case !has:
			d.at(Tighter, "credential."+name, gone(old.Origin, ""), "no longer uses credential %s", clean(name))
		case !had:
			d.at(Wider, "credential."+name, now.Origin, "adds credential %s from %s, usable at %s%s", clean(name), source(now.Source), hosts(now.Hosts), after(" for ", now.only()))
		default:
			d.credential(name, old, now)
		}
	}
	d.stripped()
}

// credential compares one: whatever changes what is sent, or what the agent is handed, is Wider.
func (d *differ) credential(name string, old, now Credential) {
	path, shown := "credential."+name, clean(name)
	a, b := hostNames(old.Hosts), hostNames(now.Hosts)
	for _, h := range minus(b, a) {
		d.at(Wider, path+".hosts", now.Origin, "uses credential %s at %s too", shown, h)
	}
	for _, h := range minus(a, b) {
		d.at(Tighter, path+".hosts", now.Origin, "no longer uses credential %s at %s", shown, h)
	}
	if x, y := source(old.Source), source(now.Source); string(encoded(old.Source)) != string(encoded(now.Source)) {
		d.at(Wider, path+".source", now.Origin, "reads credential %s from %s (it was %s)", shown, y, x)
	}
	d.fewer(path+".ports", now.Origin, shown, "port ", "every port", portTexts(old.Ports), portTexts(now.Ports), same)
	d.fewer(path+".methods", now.Origin, shown, "", "every method", old.Methods, now.Methods, same)
	d.fewer(path+".paths", now.Origin, shown, "", "every path", pathTexts(old.Paths), pathTexts(now.Paths), within)
	d.slots(path, shown, old, now)
	d.slot(path+".env", now.Origin, "the placeholder of credential "+shown, old.Env, now.Env)
	d.slot(path+".shape", now.Origin, "the start of the placeholder of credential "+shown, old.Shape, now.Shape)
	d.slot(path+".claims", now.Origin, "what the placeholder of credential "+shown+" says", old.Claims, now.Claims)
	if old.TTL != now.TTL {
		kind, text := Wider, "to the end of the run"
		if looser(int64(old.TTL), int64(now.TTL)) {
			kind = Tighter
		}
		if now.TTL > 0 {
			text = "for " + short(now.TTL)
		}
		d.at(kind, path+".ttl", now.Origin, "may use credential %s %s", shown, text)
	}
}

func (d *differ) slot(path, origin, what, old, now string) {
	switch {
	case old == now:
	case now == "":
		d.at(Tighter, path, origin, "%s is no longer %s", what, clean(old))
	default:
		d.at(Wider, path, origin, "%s is %s now%s", what, clean(now), d.instead(", not %s", old))
	}
}

// stripped tells of hosts whose requests lose every key but the credential's: once no credential names such a host, the
// agent may use a key of its own there, somebody else's.
func (d *differ) stripped() {
	a, b := guarded(d.from), guarded(d.to)
	for _, h := range minusHosts(a, b) {
		if d.to.Set().Reachable(h) {
			d.at(Wider, "credential", gone(credentialAt(d.from, h), ""), "leaves the agent's own keys in requests to %s, which were taken out", h)
		}
	}
	for _, h := range minusHosts(b, a) {
		if d.from.Set().Reachable(h) {
			d.at(Tighter, "credential", credentialAt(d.to, h), "takes the agent's own keys out of requests to %s", h)
		}
	}
}

// credentialAt is where the first credential for a host stands.
func credentialAt(g Grants, h policy.Host) string {
	i := slices.IndexFunc(g.Credentials, func(c Credential) bool { return slices.Contains(c.Hosts, h) })
	return g.Credentials[i].Origin
}

// guarded lists the hosts with a credential.
func guarded(g Grants) (out []policy.Host) {
	for _, c := range g.Credentials {
		out = append(out, c.Hosts...)
	}
	out = sorted(out, policy.Host.String)
	return slices.Compact(out)
}

func minusHosts(a, b []policy.Host) []policy.Host {
	return slices.DeleteFunc(slices.Clone(a), func(h policy.Host) bool { return slices.Contains(b, h) })
}

func hostNames(hs []policy.Host) []string {
	out := make([]string, len(hs))
	for i, h := range hs {
		out[i] = h.String()
	}
	return out
}

func (d *differ) servers() {
	was := byName(d.from.Servers, func(s Server) string { return s.Name })
	is := byName(d.to.Servers, func(s Server) string { return s.Name })
	for _, name := range union(was, is) {
		old, had := was[name]
		now, has := is[name]
		switch {
		case !has:
			d.at(Tighter, "mcp."+name, gone(old.Origin, ""), "no longer runs the tool server %s", clean(name))
		case !had:
			d.at(Wider, "mcp."+name, now.Origin, "runs the tool server %s on this machine: %s", clean(name), words(now.Command))
		default:
			d.server(name, old, now)
		}
	}
}

func (d *differ) server(name string, old, now Server) {
	path, shown := "mcp."+name, clean(name)
	if !slices.Equal(old.Command, now.Command) {
		d.at(Wider, path+".command", now.Origin, "runs %s as tool server %s in place of %s", words(now.Command), shown, words(old.Command))
	}
	before := len(d.changes)
	d.table(path+".env", old.Env, now.Env, "hands tool server "+shown+" %s=%s", "no longer hands tool server "+shown+" %s")
	for i := range d.changes[before:] {
		d.changes[before+i].Origin = now.Origin
	}
	// What asks was denied, or allowed: it is Wider to ask for a tool, and Wider to ask no longer where one may be allowed.
	unasked := Tighter
	if len(now.Allow) > 0 {
		unasked = Wider
	}
	for _, l := range []struct {
		key            string
		old, now       []string
		added, removed Kind
		verb           string
	}{
		{"allow", old.Allow, now.Allow, Wider, Tighter, "allows"},
		{"ask", old.Ask, now.Ask, Wider, unasked, "asks for"},
		{"deny", old.Deny, now.Deny, Tighter, Wider, "denies"},
	} {
		for _, tool := range minus(l.now, l.old) {
			d.at(l.added, path+"."+l.key, now.Origin, "%s %s of tool server %s", l.verb, clean(tool), shown)
		}
		for _, tool := range minus(l.old, l.now) {
			d.at(l.removed, path+"."+l.key, now.Origin, "no longer %s %s of tool server %s", l.verb, clean(tool), shown)
		}
	}
}

// signing compares what is signed with the person's key; nothing said is deny.
func (d *differ) signing() {
	from, to := cmp.Or(d.from.Signing.Commits, string(policy.Deny)), cmp.Or(d.to.Signing.Commits, string(policy.Deny))
	if from == to {
		return
	}
	kind := Wider
	if rank(pathSigning, to) > rank(pathSigning, from) && rank(pathSigning, from) >= 0 {
		kind = Tighter
	}
	d.add(kind, pathSigning, "%s", signingText(to))
}

func signingText(commits string) string {
	switch commits {
	case string(policy.Deny):
		return "no longer has commits and tags signed with your key"
	case string(policy.Ask):
		return "has commits and tags signed with your key, after asking you about each"
	}
	return "has commits and tags signed with your key without asking you"
}
