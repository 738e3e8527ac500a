// Package commits brings the commits that were made inside a run into the host's repository, and offers them to the
// person: listed, fast-forwarded to, or cherry-picked.
//
// A run's .git was the agent's to write: its objects, refs, alternates and configuration may be anything. The host's
// git never opens it. A git-upload-pack inside a sandbox does, and what it says goes through a Relay, which bounds it and
// lets only branches and HEAD by, with names that git takes. The host's git receives it into a shadow: a git directory
// of this package's own, with no configuration but what is written here, which borrows the host's objects. Only what it
// has checked (every object by fsck, every history for being whole) goes on into the host's repository, as one pack and
// as refs below refs/agentbox/RUN/.
//
// The host's work tree is changed through a shadow too: so no hook, filter, driver or monitor that a configuration names
// is run by this package. Those of the person run when the person runs git.
package commits
