package policy

import (
	"slices"
	"strconv"
	"strings"
)

// gitToTry gives what can be done to repositories, one for each way in which rules for git can be told apart, and nil
// for requests that are none of git's.
func (p pair) gitToTry() []*GitRequest {
	out := []*GitRequest{nil}
	if len(p.from.Git) == 0 && len(p.to.Git) == 0 {
		return out
	}
	type verdict struct {
		op       GitOp
		from, to int
	}
	seen := map[verdict]bool{}
	for _, git := range p.gitRequests() {
		v := verdict{git.Op, p.from.judgeGit(p, git), p.to.judgeGit(p, git)}
		if !seen[v] {
			seen[v] = true
			out = append(out, git)
		}
	}
	return out
}

// judgeGit gives the rule that allows it.
func (s *side) judgeGit(p pair, git *GitRequest) int {
	f := noGit()
	f.judge(&s.Set, s.gitRulesOf(p.host), Request{Host: p.host, Port: p.port, Scheme: "https", Method: "POST", Path: "/", Git: git})
	return f.allow
}

// gitRequests gives each thing that can be done to each repository that rules name, and to one that none does.
func (p pair) gitRequests() []*GitRequest {
	var rules []GitRule
	if p.port == gitPort {
		of := func(g GitRule) bool { return g.Host == p.host }
		rules = slices.Concat(filter(p.from.Git, of), filter(p.to.Git, of))
	}
	repos := []string{otherRepo(rules)}
	for _, g := range rules {
		if !slices.Contains(repos, g.Repo) {
			repos = append(repos, g.Repo)
		}
	}
	var out []*GitRequest
	for _, repo := range repos {
		out = append(out, &GitRequest{Repo: repo, Op: GitFetch})
		for _, ref := range refsToTry(rules, repo) {
			for _, kind := range []RefKind{RefUpdated, RefForce, RefDelete} {
				out = append(out, &GitRequest{Repo: repo, Op: GitPush, Refs: []RefUpdate{{ref, kind}}})
			}
		}
		out = append(out, &GitRequest{Repo: repo, Op: GitPush})
	}
	return out
}

func otherRepo(rules []GitRule) string {
	named := func(repo string) bool {
		return slices.ContainsFunc(rules, func(g GitRule) bool { return g.Repo == repo })
	}
	repo := "any/other"
	for i := 0; named(repo); i++ {
		repo = "any/other" + strconv.Itoa(i)
	}
	return repo
}

// refsToTry gives a ref for each pattern of a repository's rules that only those name that name all of what it does,
// and a ref that none names, if there is one.
func refsToTry(rules []GitRule, repo string) []string {
	var patterns []string
	for _, g := range rules {
		if g.Repo == repo {
			patterns = append(patterns, g.Push...)
		}
	}
	fresh := otherThan([]byte(strings.Join(patterns, "")))
	out := []string{"refs/heads/" + fresh}
	for _, p := range patterns {
		out = append(out, strings.Replace(p, "*", fresh, 1))
	}
	return out
}
