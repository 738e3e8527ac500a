package profiles

import (
	"agentbox/internal/policy"
)

// checkConflicts finds keys of a rule that exclude each other.
func (d *document) checkConflicts(r Rule, at []string) {
	if !r.Inspect {
		for _, key := range []string{"websocket", "max_request"} {
			if d.has(join(at, key)...) {
				d.value(join(at, key), "blind-rule", "leave out inspect = false, or "+key, "%s cannot be held where inspect = false keeps agentbox from looking", key)
			}
		}
		if r.Scheme == "http" {
			d.value(join(at, "scheme"), "blind-rule", "leave out inspect = false", "http is not encrypted: there is nothing that inspect = false could leave alone")
		}
	}
	if r.Action == Action(policy.Deny) {
		for _, key := range []string{"max_request", "max_sent"} {
			if d.has(join(at, key)...) {
				d.value(join(at, key), "rule-conflict", "write it in a rule that allows the host", "a rule that denies lets nothing through that %s could limit", key)
			}
		}
	}
	if r.Protocol != "" {
		d.checkTCP(r, at)
	}
}

// checkTCP is for rules about connections of which nothing is seen.
func (d *document) checkTCP(r Rule, at []string) {
	for _, key := range []string{"methods", "paths", "scheme", "websocket", "inspect", "max_request"} {
		if d.has(join(at, key)...) {
			d.value(join(at, key), "rule-conflict", "leave out "+key+`, or protocol = "tcp"`, `%s is about requests, and of what protocol = "tcp" lets through nothing is seen`, key)
		}
	}
	if !d.has(join(at, "ports")...) {
		d.value(join(at, "protocol"), "rule-conflict", "add ports, such as ports = [5432]", `a rule with protocol = "tcp" names its ports`)
	}
	if _, exact := r.Host.Exact(); !exact && r.Host != (policy.Pattern{}) && r.Action != Action(policy.Deny) {
		d.value(join(at, "host"), "rule-conflict", "name each host by itself", `a rule with protocol = "tcp" names one host, and %s names many`, r.Host)
	}
}

func (d *document) checkPrivate(r Rule, at []string) {
	here := join(at, "private")
	if !d.has(here...) {
		return
	}
	if r.Action != Action(policy.Allow) && r.Action != "" {
		d.value(here, "rule-conflict", `leave it out, or write action = "allow"`, "private says where an allowed host may lead, and the rule says %s", r.Action)
	}
	if !d.filled(here) {
		d.value(here, "empty-list", "leave it out", "the host may lead to no address of your own networks")
	}
}

// checkOwn sees that what opens a way into the person's own network, or one that nobody watches, is said by nobody but
// the person. The organisation's policy can only forbid.
func (d *document) checkOwn(r Rule, at []string) {
	for _, key := range []string{"protocol", "private"} {
		here := join(at, key)
		if !d.has(here...) {
			continue
		}
		switch level := d.levelOf(here...); {
		case at[0] == "rule":
			d.value(here, "layer-not-yours", "write the rule into a file of your own, such as agentbox.toml in your configuration", "%s stands in a named set: only your own files, grants and flags may say it", key)
		case level == BuiltIn || level == Repo:
			d.value(here, "layer-not-yours", "write the rule into a file of your own, or run: agentbox grants add", "%s stands in a layer that is not yours (%s): only your own files, grants and flags may say it", key, level)
		}
	}
}
