// Package learn turns what a run tried, and what rules do not allow, into the least that would allow it.
//
// It owns what is proposed and what never is: what a rule denies or asks about, what the organisation's policy, the
// built-in denials or a placeholder stands against, what is known only in part, and names that look like data on their
// way out. It promises that each request it gives as learned is allowed by the rules it proposes, that no other answer to
// the log's requests changes, and that every pattern that names more than was seen says so. It is pure.
package learn

import (
	"cmp"
	"slices"

	"agentbox/internal/event"
	"agentbox/internal/plan"
	"agentbox/internal/policy"
	"agentbox/internal/profiles"
	"agentbox/internal/replay"
)

// Input is all that a proposal depends on.
type Input struct {
	Rules    policy.Set // as they are now
	Log      *replay.Log
	Sets     []profiles.NamedSet // that may be proposed; those in use are not among them
	Broad    bool                // propose patterns of more than one segment, and patterns for methods that write
	NoWrites string              // why nothing that writes may be allowed; "" when it may
}

// Proposal is the change, and what it leaves out.
type Proposal struct {
	Rules   []Rule
	Sets    []SetUse
	Learned []replay.Group // what is allowed with them
	Allowed uint64         // requests that are allowed as it is
	Left    []Left         // what is not learned, and why
	Names   []Left         // names that were looked up and no more: there is no request to learn from
}

// Left is what is left out, with the reason.
type Left struct {
	replay.Group
	Why string
}

// SetUse is a named set that has some of the requests.
type SetUse struct {
	Set profiles.NamedSet
	For []replay.Group
}

// Empty reports whether there is nothing to change.
func (p Proposal) Empty() bool { return len(p.Rules)+len(p.Sets) == 0 }

// Propose makes the proposal.
func Propose(in Input) Proposal {
	var p Proposal
	wanted := p.sift(in)
	wanted, more := wanted[:min(maxWanted, len(wanted))], wanted[min(maxWanted, len(wanted)):]
	for {
		p.Sets, p.Rules, p.Learned = nil, nil, wanted
		rest := p.sets(in, wanted)
		p.Rules = rulesFor(rest, in.Broad)
		kept, harm := p.prove(in, wanted)
		switch {
		case len(kept) < len(wanted):
			wanted = kept
		case harm && len(in.Sets) > 0:
			in.Sets = nil
		default:
			p.also(in, more)
			return p
		}
	}
}

// maxWanted is how many different requests are learned from. A run that tries more is not read by a person either.
const maxWanted = 2000

// also takes what the proposal allows beside, of the requests that were too many to be looked at.
func (p *Proposal) also(in Input, more []replay.Group) {
	after := p.Apply(in.Rules).Compile()
	for _, g := range more {
		if is, err := replay.Judge(after, g); err == nil && is.Action == policy.Allow {
			p.Learned = append(p.Learned, g)
		} else {
			p.leave(g, "the run tried too many different requests")
		}
	}
}

// sift finds what is to be learned; the rest goes to Left and Names.
func (p *Proposal) sift(in Input) (wanted []replay.Group) {
	rules, data := in.Rules.Compile(), dataNames(in.Log)
	for _, g := range in.Log.Requests() {
		v, err := replay.Judge(rules, g)
		switch {
		case err != nil:
			p.leave(g, err.Error())
		case v.Action == policy.Allow:
			p.Allowed += g.Count
		default:
			if why := never(in, g, v, data); why != "" {
				p.leave(g, why)
			} else {
				wanted = append(wanted, g)
			}
		}
	}
	for _, g := range in.Log.Lookups() {
		v, _ := replay.Judge(rules, g) // of a look-up it can always be told
		switch why := never(in, g, v, data); {
		case v.Action == policy.Allow:
		case why != "":
			p.leave(g, why)
		default:
			p.Names = append(p.Names, Left{g, "only the name was asked for, and no request is known"})
		}
	}
	return wanted
}

func (p *Proposal) leave(g replay.Group, why string) { p.Left = append(p.Left, Left{g, why}) }

// never says why a request is not learned; "" when it may be. Only what the default denies, or asks about, can be
// allowed by one more rule; all else stands on a decision of somebody's.
func never(in Input, g replay.Group, v replay.Verdict, data map[policy.Host]string) string {
	r := g.Request
	switch {
	case v.Rule == "only":
		return "the organisation's policy limits every run to other hosts"
	case v.Rule == "built-in":
		return v.Reason
	case v.Rule != "default" && v.Action == policy.Ask:
		return v.Reason + "; \"agentbox approve --always\" answers it when it is asked"
	case v.Rule != "default":
		return v.Reason + "; that goes before whatever allows"
	case g.Refused:
		return policy.PersonDenied
	case data[r.Host] != "":
		return data[r.Host]
	case g.Lookup:
		return ""
	case r.Scheme == policy.TCP:
		return `it is a raw connection: only a rule of your own with protocol = "tcp" allows it`
	case r.Git != nil && r.Git.Op == policy.GitPush:
		return "it is a git push: a [[git]] rule says which refs of which repository"
	case r.MethodBy != "" || r.PathBy != "":
		return "by " + cmp.Or(r.MethodBy, r.PathBy) + " it asks the server for something else than what is judged"
	case in.NoWrites != "" && !replay.Partial(r) && (Writes(r.Method) || r.WebSocket):
		return in.NoWrites
	}
	return unwritable(r)
}

// unwritable says why no rule can name a request alone.
func unwritable(r policy.Request) string {
	if replay.Partial(r) {
		return ""
	}
	var m profiles.Method
	if m.UnmarshalText([]byte(r.Method)) != nil {
		return "no rule can name its method"
	}
	if flaw := policy.PathFlaw(cmp.Or(r.Path, "/")); flaw != "" {
		return "its path " + flaw + ", so that no rule with paths can name it"
	}
	if _, ok := policy.ExactPath(cmp.Or(r.Path, "/")); !ok {
		return "its path is longer than a rule can name"
	}
	return ""
}

// Writes reports methods that may change something.
func Writes(method string) bool { return !slices.Contains([]string{"GET", "HEAD", "OPTIONS"}, method) }

// sets takes the named sets that have the most of what is wanted, and gives what none has. Those of models are not for
// learning: they allow writing.
func (p *Proposal) sets(in Input, wanted []replay.Group) (rest []replay.Group) {
	rest = wanted
	candidates := slices.DeleteFunc(slices.Clone(in.Sets), func(s profiles.NamedSet) bool { return s.Model })
	for len(candidates) > 0 {
		best, has := 0, 0
		for i, s := range candidates {
			if n := len(within(s, rest)); n > has {
				best, has = i, n
			}
		}
		if has == 0 {
			break
		}
		s := candidates[best]
		mine := within(s, rest)
		p.Sets = append(p.Sets, SetUse{s, mine})
		rest = without(rest, mine)
		candidates = slices.Delete(candidates, best, best+1)
	}
	return rest
}

func within(s profiles.NamedSet, all []replay.Group) (in []replay.Group) {
	rules := plan.SetRules(s)
	for _, g := range all {
		if rules.Decide(g.Request).Allowed() {
			in = append(in, g)
		}
	}
	return in
}

// without gives the groups that are not in the other list, which has the same order.
func without(all, taken []replay.Group) (rest []replay.Group) {
	for _, g := range all {
		if len(taken) > 0 && taken[0].Order == g.Order {
			taken = taken[1:]
			continue
		}
		rest = append(rest, g)
	}
	return rest
}

// Apply is the rules with the proposal's.
func (p Proposal) Apply(rules policy.Set) policy.Set {
	rules.Rules = slices.Clip(rules.Rules)
	for _, r := range p.Rules {
		rules.Rules = append(rules.Rules, r.Policy())
	}
	for _, s := range p.Sets {
		rules.Rules = append(rules.Rules, plan.SetRules(s.Set).Rules...)
	}
	return rules
}

// prove holds the proposal against the whole log, and gives what of the wanted can stay: what is then allowed, and whose
// host has no other answer that changes. Harm says that there was such an answer.
func (p *Proposal) prove(in Input, wanted []replay.Group) (kept []replay.Group, harm bool) {
	after := p.Apply(in.Rules).Compile()
	harmed := p.harmed(in, wanted, after)
	for _, g := range wanted {
		is, err := replay.Judge(after, g)
		switch why := harmed[g.Request.Host]; {
		case why != "":
			p.leave(g, why)
		case err != nil:
			p.leave(g, err.Error())
		case is.Action != policy.Allow:
			p.leave(g, is.Reason)
		default:
			kept = append(kept, g)
		}
	}
	return kept, len(harmed) > 0
}

// harmed gives the hosts of which something is answered otherwise that was not to be learned.
func (p *Proposal) harmed(in Input, learned []replay.Group, after replay.Rules) map[policy.Host]string {
	before, left, wanted := in.Rules.Compile(), map[int]bool{}, map[int]bool{}
	for _, l := range p.Left {
		left[l.Order] = true
	}
	for _, g := range learned {
		wanted[g.Order] = true
	}
	out := map[policy.Host]string{}
	for _, g := range in.Log.Groups {
		was, err := replay.Judge(before, g)
		is, _ := replay.Judge(after, g)
		switch {
		case g.Lookup || wanted[g.Order]:
		case err == nil && was.Action != policy.Deny && is.Action != was.Action:
			out[g.Request.Host] = "a rule for its host would deny other requests, which are " + map[policy.Action]string{policy.Allow: "allowed now", policy.Ask: "asked about now"}[was.Action]
		case was.Action != policy.Allow && is.Action == policy.Allow && left[g.Order]:
			out[g.Request.Host] = "what allows it would allow more of its host, which is not to be learned"
		}
	}
	return out
}

// refused reports whether a group got a no.
func refused(g replay.Group) bool { return g.Was == event.Deny }
