package policy

import (
	"net/netip"
	"slices"
)

// least gives one of the limits of a place.
func (s *side) least(limit string) int64 {
	var l least
	for i := range s.Rules {
		l.add(least{s.Rules[i].limit(limit), i})
	}
	return l.bytes
}

// looser reports whether a limit is, where 0 is none.
func looser(from, to int64) bool { return from > 0 && (to <= 0 || to > from) }

// limits sees whether more may be sent to a place.
func (c *comparison) limits(p pair, probes []probe) {
	if from := p.from.least(limitRequest); looser(from, p.to.least(limitRequest)) {
		had := len(c.found)
		for _, pr := range probes {
			if pr.size = from + 1; len(c.found) == had { // one is enough: the limit is for the place
				c.probe(p, pr)
			}
		}
	}
	from, to := p.from.least(limitSent), p.to.least(limitSent)
	if !looser(from, to) {
		return
	}
	r, found, sure := p.witness(probes)
	if !found && sure {
		return
	}
	before, after := p.from.Decide(r), p.to.Decide(r)
	w := c.widening(p, before, after)
	w.Method, w.Path, w.Unsure = r.Method, r.Path, !found
	w.show(r)
	w.Limit, w.LimitFrom, w.LimitTo = limitSent, from, to
	by, _ := p.to.origin(after)
	was, _ := p.from.origin(before)
	c.keep(grounds{by: by, was: was, kind: limits, what: limitSent}, w)
}

// witness gives a request that the second side allows or asks about; rather one that the first allows too. It is sure
// that there is none unless the patterns of paths are too involved.
func (p pair) witness(probes []probe) (witness Request, found, sure bool) {
	best, sure := 0, true
	witness = Request{Host: p.host, Port: p.port, Scheme: "https"}
	consider := func(r Request) {
		r.Host, r.Port = p.host, p.port
		rank := 0
		if p.to.Decide(r).Action != Deny {
			rank = 1
			if p.from.Decide(r).Action != Deny {
				rank = 2
			}
		}
		if rank > best {
			witness, best = r, rank
		}
	}
	for _, pr := range probes {
		if after := p.to.heard(p, pr); bestOf(after.Rules, after.Default) > 0 {
			sure = newWalk(Set{Default: Deny}, after).run(func(path string) bool {
				consider(pr.request(path))
				return true
			}) && sure
		}
	}
	consider(Request{Scheme: TCP})
	return witness, best > 0, sure
}

// private sees whether a host may lead to addresses to which it could not.
func (c *comparison) private(at class, from, to side) {
	if !to.Reachable(at.host) {
		return
	}
	had := from.Private(at.host)
	for i, rule := range to.Rules {
		if rule.Action != Allow {
			continue
		}
		for _, prefix := range rule.Private {
			if !prefix.IsValid() || covered(prefix.Masked(), had) {
				continue
			}
			p := pair{at, append(rule.Ports, gitPort)[0], from, to}
			w := c.widening(p, Decision{Action: Deny, at: none, Rule: originBuiltIn}, Decision{Action: Allow, at: i, Rule: rule.Origin})
			w.Private = prefix.String()
			c.keep(grounds{by: to.at[i], was: none, kind: private, what: w.Private}, w)
		}
	}
}

// covered reports whether every address of a prefix is in one of the others.
func covered(p netip.Prefix, others []netip.Prefix) bool {
	within := slices.DeleteFunc(slices.Clone(others), func(o netip.Prefix) bool { return !o.Overlaps(p) })
	if slices.ContainsFunc(within, func(o netip.Prefix) bool { return o.Bits() <= p.Bits() }) {
		return true
	}
	if len(within) == 0 {
		return false
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	high := netip.PrefixFrom(upper(p), p.Bits()+1)
	return covered(low, within) && covered(high, within)
}

// upper gives the first address of the second half of a prefix.
func upper(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	bytes[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	addr, _ := netip.AddrFromSlice(bytes)
	return addr
}
