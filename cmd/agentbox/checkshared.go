package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"agentbox/internal/findings"
	"agentbox/internal/plan"
	"agentbox/internal/profiles"
)

// shared are the layers with the repository's agentbox.toml laid once more on top of all its other files.
func (c *checker) shared() profiles.Files {
	f := c.now
	f.User = onlyShared{f.Repo}
	return f
}

// onlyShared is a repository of which nothing but agentbox.toml is there.
type onlyShared struct{ repo fs.FS }

// Open opens that one file.
func (o onlyShared) Open(name string) (fs.File, error) {
	if name != repoFile {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return o.repo.Open(name)
}

// looser warns where a profile's own file takes away what agentbox.toml says for every profile.
func (c *checker) looser(p profiles.Profile, actual plan.Grants) {
	own := func(name string) bool { return isThere(c.now.Repo, repoDir+"/"+name+".toml") }
	if !isThere(c.now.Repo, repoFile) || !slices.ContainsFunc(p.Chain, own) {
		return
	}
	_, bound, err := granted(actual.Profile, c.shared(), profiles.Floors{})
	var refusals *plan.Refusals
	if errors.As(err, &refusals) {
		for _, r := range refusals.List {
			c.warnLooser(actual.Profile, "is looser than "+repoFile+" says for every profile: "+r.Text, r.Origin)
		}
		return
	}
	if err != nil {
		return // together they are no profile, and nothing is compared
	}
	for _, change := range plan.Widenings(plan.Diff(bound, actual)) {
		if part, _, _ := strings.Cut(change.Path, "."); part == "agent" || part == "telemetry" {
			continue // another program or another variable is no looser one
		}
		place, says := change.Origin, bound.Origins[change.Path]
		if was, gone := strings.CutPrefix(place, "was "); gone {
			place, says = originOf(actual, change.Path), was
		}
		if file, _ := splitOrigin(says); file != repoFile {
			says = repoFile
		}
		form := "%s, which %s says for every profile"
		if strings.Contains(change.Text, ", which ") {
			form = "%s; %s says otherwise for every profile"
		}
		c.warnLooser(actual.Profile, fmt.Sprintf(form, change.Text, says), place)
	}
}

func (c *checker) warnLooser(name, message, origin string) {
	c.add(c.placed(findings.Finding{Code: codeLooser, Severity: findings.Warning, Profile: name, Message: message,
		Hint: `leave it out of the profile, or begin its list with "..."; or agree on it in ` + repoFile}, origin))
}

// originOf is where a value, or the list that it is, is said now; "" when nobody says it. What is hidden begins with what
// every profile hides.
func originOf(g plan.Grants, path string) string {
	if path == "workspace.hide" {
		for i := range g.Workspace.Hide {
			if at := g.Origins[fmt.Sprintf("%s[%d]", path, i)]; at != "" {
				return at
			}
		}
	}
	return cmp.Or(g.Origins[path], g.Origins[path+"[0]"])
}

func isThere(fsys fs.FS, name string) bool {
	_, err := fs.Stat(fsys, name)
	return err == nil
}
