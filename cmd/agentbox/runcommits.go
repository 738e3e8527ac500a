package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"agentbox/internal/commits"
	"agentbox/internal/event"
	"agentbox/internal/plan"
	"agentbox/internal/run"
	"agentbox/internal/session"
)

// refsTold bounds how many refs one event names.
const refsTold = 50

// gone looks at what the agent left, when there is no container any more.
func (j *job) gone(ctx context.Context, record func(event.Event)) {
	switch j.plan.Grants.Workspace.Mode {
	case plan.Review:
		j.arrivals(ctx, record)
	case plan.Direct:
		j.compare(ctx, record)
	}
}

// arrivals fetches what the agent committed, when the container is gone. A fetch that fails loses nothing: the run keeps its
// commits, and "agentbox apply RUN --commits" tries again.
func (j *job) arrivals(ctx context.Context, record func(event.Event)) {
	id, work := j.session.Meta.ID, filepath.Join(j.session.Dir, session.WorkDir)
	made, err := run.Committed(work)
	if err == nil && !made {
		return
	}
	var got commits.Fetched
	if err == nil {
		got, err = j.fetchCommits(ctx, id, commits.Repo{Root: j.ground.repo.Root, Git: j.ground.repo.Git}, work)
	}
	e := event.Event{Kind: event.CommitsFetched, Decision: event.Allow, Detail: map[string]string{"refs": strconv.Itoa(len(got.Refs))}}
	if err != nil {
		e.Decision, e.Reason = event.Deny, err.Error()
		j.say("warning: the run's commits were not fetched: %s", printable(err.Error()))
	}
	for _, name := range firstNames(got.Refs, refsTold) {
		e.Detail[name] = got.Refs[name]
	}
	record(e)
	for i, r := range got.Refused {
		if i == refsTold {
			record(event.Event{Kind: event.CommitsFetched, Decision: event.Deny, Reason: fmt.Sprintf("and %d more were kept back", len(got.Refused)-i)})
			break
		}
		record(event.Event{Kind: event.CommitsFetched, Decision: event.Deny, Reason: "kept back: " + r.Why, Detail: map[string]string{"ref": r.Name}})
	}
	j.arrived = len(got.Refs) > 0
}

func firstNames(refs map[string]string, n int) []string {
	var names []string
	for name := range refs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names[:min(n, len(names))]
}

// fetchCommits brings a run's commits into the repository, below refs/agentbox/RUN/.
func (a *app) fetchCommits(ctx context.Context, id string, repo commits.Repo, work string) (commits.Fetched, error) {
	server, err := a.commitServer(id)
	if err != nil {
		return commits.Fetched{}, err
	}
	got, err := commits.Fetch(ctx, repo, id, server, work)
	a.tellRefused(got.Refused)
	return got, err
}

// tellRefused says which branches did not come. All of it an agent may have chosen.
func (a *app) tellRefused(list []commits.Refused) {
	for i, r := range list {
		if i == summaryLines {
			a.say("warning: … and %d more branches of the run are kept back", len(list)-i)
			return
		}
		a.say("warning: the run's %s is kept back: %s", printable(strings.TrimPrefix(r.Name, "heads/")), printable(r.Why))
	}
}

// tellCommits says after a run what it committed.
func (j *job) tellCommits(ctx context.Context) {
	if !j.arrived {
		return
	}
	id, work := j.session.Meta.ID, filepath.Join(j.session.Dir, session.WorkDir)
	list, err := commits.List(ctx, commits.Repo{Root: j.ground.repo.Root, Git: j.ground.repo.Git}, id, work)
	if err != nil {
		j.say("warning: %s", printable(err.Error()))
		return
	}
	for i, b := range list {
		if i == summaryLines {
			fmt.Fprintf(j.err, "  commits     … and on %d more branches\n", len(list)-i)
			break
		}
		fmt.Fprintf(j.err, "  commits     %s on %s: %s\n", commitCount(b), branchName(b), printable(b.Commits[len(b.Commits)-1].Subject))
	}
	if len(list) > 0 {
		fmt.Fprintf(j.err, "  take        agentbox apply %s --commits\n", shortRun(id))
	}
}
