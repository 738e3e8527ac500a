package main

import (
	"fmt"
	"slices"
	"strings"

	"agentbox/internal/findings"
	"agentbox/internal/plan"
	"agentbox/internal/profiles"
)

// Codes of what check itself finds. Those of the format are profiles.Codes.
const (
	codeFileName      = "file-name"
	codeUnreadable    = "unreadable-file"
	codeUnusable      = "unusable-profile"
	codeFloor         = "looser-than-floor"
	codeLooser        = "looser-than-shared"
	codeNotCarriedOut = "not-carried-out"
	codeWider         = "wider"
	codeDeleted       = "deleted-profile"
	codeStale         = "stale-manifest"
	codeReworded      = "reworded-manifest"
)

// rules explains every code.
func rules() []findings.Rule {
	out := []findings.Rule{
		{Code: codeFileName, Summary: "A file that looks like a layer and is none.",
			Help: "agentbox reads agentbox.toml and .agentbox/NAME.toml, nothing else. Rename the file or move it."},
		{Code: codeUnreadable, Summary: "A layer file that cannot be read safely.",
			Help: "Layer files are regular files (no links), belong to you, can't be written by others and are at most 4 MiB."},
		{Code: codeUnusable, Summary: "A profile that cannot be used.", Help: "The message says why."},
		{Code: codeFloor, Summary: "A value is looser than the floor of its tier.",
			Help: "A tier sets floors that a profile may tighten and not loosen. Write what the hint says, or choose a lower tier."},
		{Code: codeLooser, Summary: "A profile is looser than what agentbox.toml says for every profile.",
			Help: "A profile's own file lies on top of agentbox.toml. Leave out of it what the team's file says, and begin lists with \"...\"."},
		{Code: codeNotCarriedOut, Summary: "The profile asks for something that this version of agentbox cannot do.",
			Help: "agentbox run refuses such a profile rather than run it without. Write what the hint says, or use a newer agentbox."},
		{Code: codeWider, Summary: "A profile allows more than before.",
			Help: "Review the change as you would review code that gets a new permission. agentbox diff-plan shows all differences."},
		{Code: codeDeleted, Summary: "A profile was deleted.", Help: "Who ran it will run another one. Make sure that the other is no wider."},
		{Code: codeStale, Summary: "The committed manifest does not say what the profiles say.", Help: "Run agentbox manifest -o FILE, review the difference and commit it."},
		{Code: codeReworded, Summary: "The committed manifest says the same in other words than this agentbox.", Help: "Run agentbox manifest -o FILE and commit it, so that reviewers read what this agentbox says."},
	}
	for _, code := range profiles.Codes() {
		out = append(out, findings.Rule{Code: code.Code, Summary: code.Summary, Help: code.Summary})
	}
	return out
}

// against compares every profile with what it was.
func (c *checker) against(ref string, then profiles.Files) {
	names := c.names
	if !c.named {
		names = slices.Compact(slices.Sorted(slices.Values(slices.Concat(affected(then), c.names))))
	}
	known := c.now.Names()
	c.names = nil
	for _, name := range names {
		if !slices.Contains(known, name) {
			c.deleted(name, ref, then)
			continue
		}
		c.names = append(c.names, name)
		c.compare(name, ref, then)
	}
}

// compare reports what a profile allows and did not. One that cannot be used has been reported, and allows nothing.
func (c *checker) compare(name, ref string, then profiles.Files) {
	now, ok := c.profile(name)
	if !ok {
		return
	}
	before, what := ancestor(now.profile, then)
	why := "is new since " + ref
	if slices.Contains(then.Names(), name) {
		why = "could not be used at " + ref
	}
	c.widenings(name, ref, before, now.grants, then, func(text string) string {
		switch what {
		case name:
			return text
		case "":
			return fmt.Sprintf("%s (the profile %s)", text, why)
		}
		return fmt.Sprintf("%s (the profile %s, and is compared with %q, which it extends)", text, why, what)
	})
}

// ancestor is what a profile was, or, when it was not there or could not be used, what the nearest one that it extends
// was; "" and nothing when there is none.
func ancestor(p profiles.Profile, then profiles.Files) (plan.Grants, string) {
	for _, name := range slices.Backward(p.Chain) {
		if _, g, err := granted(name, then, profiles.Floors{}); err == nil {
			return g, name
		}
	}
	return plan.Nothing(), ""
}

// deleted compares the profile that took a deleted one's place, the nearest that it extended, with the deleted one.
func (c *checker) deleted(name, ref string, then profiles.Files) {
	loaded, before, err := granted(name, then, profiles.Floors{})
	if err != nil {
		return // it could not be used before either
	}
	c.add(findings.Finding{Code: codeDeleted, Severity: findings.Warning, Profile: name, File: repoDir + "/" + name + ".toml",
		Message: fmt.Sprintf("the profile %q of %s was deleted", name, ref), Hint: "who ran it will run another: make sure that it is no wider"})
	chain := loaded.Profile.Chain
	for _, heir := range slices.Backward(chain[:max(0, len(chain)-1)]) {
		if !slices.Contains(c.now.Names(), heir) {
			continue
		}
		if now, ok := c.profile(heir); ok {
			c.widenings(name, ref, before, now.grants, then, func(text string) string {
				return fmt.Sprintf("%s (%q was deleted since %s: %q, which it extended, is what is left of it)", text, name, ref, heir)
			})
			return
		}
	}
}

func (c *checker) widenings(name, ref string, before, now plan.Grants, then profiles.Files, word func(text string) string) {
	for _, change := range plan.Diff(before, now) {
		if change.Kind != plan.Wider {
			continue
		}
		origin, gone := change.Origin, strings.HasPrefix(change.Origin, "was ")
		if gone {
			origin += " at " + ref
		}
		f := c.placed(findings.Finding{Code: codeWider, Severity: findings.Widening, Profile: name, Message: change.Text}, origin)
		f.Message = word(f.Message)
		if gone {
			f = c.nearest(f, originOf(now, change.Path))
		}
		if f.File == "" {
			f.File = layerFile(then, name)
		}
		c.add(f)
	}
}

// nearest places what is there no more: where the same thing is said now, or at the head of the file that said it.
func (c *checker) nearest(f findings.Finding, now string) findings.Finding {
	if file, line := splitOrigin(now); isLayer(file) && line > 0 {
		f.File, f.Line = file, line
	} else if f.File != "" && isThere(c.now.Repo, f.File) {
		f.Line = 1
	}
	return f
}
