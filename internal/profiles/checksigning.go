package profiles

import "agentbox/internal/policy"

// checkSigning sees that nobody but the person gives their signature away.
func (d *document) checkSigning(s Signing) {
	at := []string{"signing", "commits"}
	if s.Commits == "" || s.Commits == Action(policy.Deny) {
		return
	}
	if level := d.levelOf(at...); level == BuiltIn || level == Repo {
		d.value(at, "layer-not-yours", "write [signing] into a file of your own, such as agentbox.toml in your configuration",
			"signing.commits = %q stands in a layer that is not yours (%s): only your own files may have something signed with your key", string(s.Commits), level)
	}
}
