package policy

import (
	"fmt"
	"strings"
)

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
	Flaw string      // why Repo is "", as in "it breaks off": then it is of no repository, and no rule about git allows it
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

// gitPort is where repositories are: [[git]] names no port.
const gitPort = 443

// ParseRefPattern checks a pattern of refs: a full name beginning with "refs/", in which one "*" stands for any run of
// characters, "/" among them.
func ParseRefPattern(s string) error {
	switch {
	case strings.Count(s, "*") > 1:
		return fmt.Errorf("%q holds more than one \"*\"", s)
	case !strings.HasPrefix(s, "refs/"):
		return fmt.Errorf("%q is not the full name of a ref", s)
	case !ValidRef(strings.Replace(s, "*", "x", 1)):
		return fmt.Errorf("%q is not a name that git takes for a ref", s)
	}
	return nil
}

// MatchRef reports whether a pattern names a ref. What is no pattern names nothing.
func MatchRef(pattern, ref string) bool {
	before, after, wild := strings.Cut(pattern, "*")
	switch {
	case !strings.HasPrefix(pattern, "refs/") || !ValidRef(ref):
		return false
	case !wild:
		return pattern == ref
	}
	return len(ref) >= len(before)+len(after) && strings.HasPrefix(ref, before) && strings.HasSuffix(ref, after)
}

const maxRef = 1024 // bytes

// ValidRef reports whether s is the full name of a ref, by the rules of git check-ref-format.
func ValidRef(s string) bool {
	if len(s) > maxRef || !strings.HasPrefix(s, "refs/") || s[len(s)-1] == '.' || strings.ContainsFunc(s, badInRef) {
		return false
	}
	if strings.Contains(s, "..") || strings.Contains(s, "@{") {
		return false
	}
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return true
}

func badInRef(r rune) bool {
	return r <= ' ' || r == 0x7f || r == '\uFFFD' || strings.ContainsRune(`~^:?*[\`, r)
}

// gitFindings is what the rules for git have to say about a request, by their places in Set.Git.
type gitFindings struct {
	host  int // the first rule for the request's host, where it is asked on the port of git
	repo  int // the first rule for its repository
	allow int // the first rule that allows what it does; of a push with several updates, the first of them
}

func noGit() gitFindings { return gitFindings{host: none, repo: none, allow: none} }

// gitRulesOf gives the places of the rules for a host.
func (s *Set) gitRulesOf(h Host) []int {
	var out []int
	for i := range s.Git {
		if s.Git[i].Host == h {
			out = append(out, i)
		}
	}
	return out
}

// judge holds a request against the rules for its host. Rules for git are about https alone; of a connection whose
// requests are not known yet, they allow it when they allow anything.
func (f *gitFindings) judge(s *Set, ofHost []int, r Request) {
	if r.Port != gitPort || len(ofHost) == 0 {
		return
	}
	f.host = ofHost[0]
	https := r.Scheme == "https"
	switch {
	case r.Scheme == TCP:
	case r.partial():
		f.allow = firstRule(ofHost, func(i int) bool {
			return r.Scheme != "http" && (s.Git[i].Fetch || len(s.Git[i].Push) > 0)
		})
	case r.Git != nil:
		f.repo = firstRule(ofHost, func(i int) bool { return s.Git[i].Repo == r.Git.Repo })
		if https {
			f.allow = s.allowsGit(ofHost, r.Git)
		}
	}
}

func firstRule(rules []int, says func(int) bool) int {
	for _, i := range rules {
		if says(i) {
			return i
		}
	}
	return none
}

// allowsGit gives the rule that allows what r does.
func (s *Set) allowsGit(ofHost []int, r *GitRequest) int {
	switch {
	case r.Op == GitFetch:
		return firstRule(ofHost, func(i int) bool { return s.Git[i].Repo == r.Repo && s.Git[i].Fetch })
	case r.Op != GitPush:
		return none
	case len(r.Refs) == 0:
		return firstRule(ofHost, func(i int) bool { return s.Git[i].Repo == r.Repo && len(s.Git[i].Push) > 0 })
	}
	rule := none
	for n := range r.Refs {
		by := firstRule(ofHost, func(i int) bool { return s.Git[i].Repo == r.Repo && s.Git[i].flawOf(&r.Refs[n]) == "" })
		if by == none {
			return none
		}
		if n == 0 {
			rule = by
		}
	}
	return rule
}

// What keeps a rule from allowing an update of a ref.
const (
	flawElsewhere = "elsewhere"
	flawDeletes   = "delete"
	flawForces    = "force"
)

// flawOf says what keeps the rule from allowing an update: one of the flaws, or "" for nothing.
func (g *GitRule) flawOf(u *RefUpdate) string {
	matches := false
	for _, p := range g.Push {
		matches = matches || MatchRef(p, u.Name)
	}
	switch {
	case !matches:
		return flawElsewhere
	case u.Kind == RefCreate || u.Kind == RefUpdated || u.Kind == RefForce && g.Force || u.Kind == RefDelete && g.Delete:
		return ""
	case u.Kind == RefDelete:
		return flawDeletes
	}
	return flawForces
}

// speaks reports whether rules for git settle a request: they allow it, or it is a push and there are any.
func (f gitFindings) speaks(r Request, s *Set) bool {
	return f.allow != none || len(s.Git) > 0 && r.Git != nil && r.Git.Op != GitFetch
}

func (d *Decision) concludeGit(f gitFindings) {
	switch {
	case f.allow != none:
		d.Action, d.Inspect = Allow, true
		d.restGit(byGitRule, f.allow)
	case f.repo != none:
		d.restGit(byNoPush, f.repo)
	default:
		d.cause, d.Rule = byNoPush, originDefault
	}
	if f.allow == none && d.set.Default == Ask && d.request.Git.Flaw == "" { // what cannot be read, nobody can be asked about
		d.Action = Ask
	}
}

// restGit rests the decision on a rule for git.
func (d *Decision) restGit(why cause, rule int) {
	d.cause, d.at, d.Rule, d.byGit = why, rule, d.set.Git[rule].Origin, true
}

// remote is the repository as a profile names it.
func (g *GitRule) remote() string { return g.Host.String() + "/" + g.Repo }

// gitPlace is what a request does to a repository.
func (d *Decision) gitPlace() string {
	r := d.request
	if r.Git == nil {
		return fmt.Sprintf("some requests to %s", r.Host)
	}
	return fmt.Sprintf("%s %s/%s", gitVerb(r.Git.Op), r.Host, shown(r.Git.Repo))
}

func gitVerb(op GitOp) string {
	if op == GitFetch {
		return "fetching from"
	}
	return "pushing to"
}

// pushReason says why no rule allows a push: of the rules for its repository, what is wrong with the first update that
// none of them takes.
func (d *Decision) pushReason() string {
	r, why := d.request, ""
	if r.Git.Flaw != "" {
		return fmt.Sprintf("the push to %s is not judged, because it could be read in more than one way: %s", r.Host, r.Git.Flaw)
	}
	ofHost := d.set.gitRulesOf(r.Host)
	if d.byGit {
		why = ": " + d.set.pushFlaw(ofHost, r.Git)
	}
	switch {
	case r.Port != gitPort || r.Scheme != "https" && len(ofHost) > 0:
		why = fmt.Sprintf(": [[git]] rules are about https on port %d", gitPort)
	case !d.byGit:
		why = ": none names this repository"
	}
	reason := fmt.Sprintf("no [[git]] rule allows %s %s/%s%s", gitVerb(GitPush), r.Host, shown(r.Git.Repo), why)
	if d.Action == Ask {
		return reason + ", and the default is to ask a person"
	}
	return reason
}

// pushFlaw says what keeps a push from being allowed by the rules for its repository.
func (s *Set) pushFlaw(ofHost []int, r *GitRequest) string {
	var rules []*GitRule
	var patterns []string
	for _, i := range ofHost {
		if s.Git[i].Repo == r.Repo {
			rules, patterns = append(rules, &s.Git[i]), append(patterns, s.Git[i].Push...)
		}
	}
	if len(patterns) == 0 {
		return "it may be fetched from only"
	}
	for n := range r.Refs {
		flaws := map[string]bool{}
		for _, rule := range rules {
			flaws[rule.flawOf(&r.Refs[n])] = true
		}
		switch name := shown(r.Refs[n].Name); {
		case flaws[""]:
		case flaws[flawDeletes]:
			return name + " would be deleted, and the rule does not say delete = true"
		case flaws[flawForces]:
			return name + " would be overwritten (the update is no fast-forward, or the commits to tell are not in your repository), and the rule does not say force = true"
		default:
			return name + " is not among " + listed(patterns)
		}
	}
	return "it could not be read"
}
