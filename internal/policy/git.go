package policy

// GitRule says what may be done with one repository over git's smart HTTP, whatever rules for its host say.
type GitRule struct {
	Host   Host     `json:"host"`
	Repo   string   `json:"repo"` // the path below the host, without ".git" and without slashes at its ends: "acme/billing"
	Fetch  bool     `json:"fetch"`
	Push   []string `json:"push,omitempty"`   // patterns of refs, "refs/heads/agentbox/*"; none: no push
	Force  bool     `json:"force,omitempty"`  // also updates that are no fast-forward, or can't be told from one
	Delete bool     `json:"delete,omitempty"` // also deletions of those refs
	Origin string   `json:"origin,omitempty"`
}

// GitRequest is what a request does to a git repository, as read from the wire.
type GitRequest struct {
	Repo string // like GitRule.Repo
	Op   GitOp
	Refs []RefUpdate // of a push, once its commands are read; nil while they are not, and for everything else
}

// GitOp is what is done to a repository.
type GitOp string

// The operations. Large files (Git LFS) are fetched and pushed like the rest.
const (
	GitFetch GitOp = "fetch"
	GitPush  GitOp = "push"
)

// RefUpdate is one command of a push.
type RefUpdate struct {
	Name string // "refs/heads/main"
	Kind RefKind
}

// RefKind is what happens to a ref.
type RefKind string

// The kinds of updates. An update that is not known to be a fast-forward is RefForce.
const (
	RefCreate  RefKind = "create"
	RefUpdated RefKind = "update"
	RefForce   RefKind = "force"
	RefDelete  RefKind = "delete"
)
