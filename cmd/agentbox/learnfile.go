package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"agentbox/internal/learn"
	"agentbox/internal/session"
	"agentbox/internal/starter"
	"agentbox/internal/trust"
)

// lessonFile is a file that a lesson may go to.
type lessonFile interface {
	names() (person, diff string)
	// draft gives the file as it is, nil where there is none, and as it would be. It is errUse where only an editor can
	// change network.use.
	draft(learn.Proposal) (before, after []byte, err error)
	// overlaid is the layers with the file as it would be.
	overlaid(l layers, after []byte) layers
	// write puts it there, if the file is still what it was.
	write(before, after []byte) error
	// next is what to know once it is written.
	next() string
}

var errUse = errors.New("network.use is written in a way that only an editor can change")

// targetOf finds the file that --into names.
func (a *app) targetOf(into, profile string, paths session.Paths, repo string, l layers) lessonFile {
	switch into {
	case "repo":
		return repoTarget{textFile{l.files.Repo, repo, filepath.Join(repoDir, profile+".toml")}, profile}
	case "user":
		f := textFile{l.files.User, paths.Config, filepath.Join("profiles", profile+".toml")}
		return userTarget{f, a.tilde(filepath.Join(f.top, f.rel))}
	}
	g := trust.GrantsOf(paths.Config, repo)
	return &grantsTarget{Grants: g, name: a.tilde(g.Path), at: time.Now().UTC().Truncate(time.Second)}
}

// textFile is a profile's own file, below a directory.
type textFile struct {
	layer    fs.FS // that reads it, with the care that layers want
	top, rel string
}

func (f textFile) read() ([]byte, error) {
	data, err := fs.ReadFile(f.layer, f.rel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

func (f textFile) draft(p learn.Proposal) (before, after []byte, err error) {
	if before, err = f.read(); err != nil {
		return nil, nil, err
	}
	text, ok := learn.Edit(string(before), p)
	if !ok {
		return before, nil, errUse
	}
	return before, []byte(text), nil
}

func (f textFile) write(before, after []byte) error {
	if now, err := f.read(); err != nil || !bytes.Equal(now, before) {
		return errors.Join(fmt.Errorf("%s has changed in the meantime: nothing is written", f.rel), err)
	}
	if err := os.MkdirAll(f.top, 0o700); err != nil {
		return fmt.Errorf("making your configuration's directory: %w", err)
	}
	return starter.Write(f.top, f.rel, after, before != nil)
}

// repoTarget is the team's file of a profile.
type repoTarget struct {
	textFile
	profile string
}

func (t repoTarget) names() (person, diff string) { return t.rel, "b/" + t.rel }

func (t repoTarget) overlaid(l layers, after []byte) layers {
	l.snapshot = maps.Clone(l.snapshot)
	l.snapshot[t.rel] = after
	l.files.Repo = trust.FS(l.snapshot)
	return l
}

func (t repoTarget) next() string {
	return "it is the repository's: everybody who runs it is asked to trust it, you too (agentbox trust " + t.profile + ")"
}

// userTarget is the person's own file of a profile.
type userTarget struct {
	textFile
	name string
}

func (t userTarget) names() (person, diff string) { return t.name, t.name }

func (t userTarget) overlaid(l layers, after []byte) layers {
	l.files.User = overlay{l.files.User, trust.FS(map[string][]byte{t.rel: after}), t.rel}
	return l
}

func (t userTarget) next() string { return "it holds for you, wherever you run this profile" }

// overlay is a file system with one file in the place of what it has there.
type overlay struct {
	below, above fs.FS
	name         string
}

func (o overlay) Open(name string) (fs.File, error) {
	if name == o.name {
		return o.above.Open(name)
	}
	return o.below.Open(name)
}

func (o overlay) Stat(name string) (fs.FileInfo, error) {
	if name == o.name {
		return fs.Stat(o.above, name)
	}
	return fs.Stat(o.below, name)
}

// grantsTarget is what the person allowed in this repository.
type grantsTarget struct {
	trust.Grants
	name  string
	at    time.Time
	rules []trust.Rule
}

func (t *grantsTarget) names() (person, diff string) { return t.name, t.name }

func (t *grantsTarget) draft(p learn.Proposal) (before, after []byte, err error) {
	t.rules = nil
	for _, r := range p.Rules {
		t.rules = append(t.rules, trust.Rule{Host: r.Host.String(), Ports: []uint16{r.Port}, Methods: r.Methods, Paths: r.Texts(), Scheme: r.Scheme, WebSocket: r.WebSocket()})
	}
	return t.Draft(t.rules, t.at)
}

func (t *grantsTarget) overlaid(l layers, after []byte) layers {
	l.files.Grants, l.files.GrantsFile = after, t.name
	return l
}

func (t *grantsTarget) write(before, _ []byte) error { return t.AddRules(before, t.rules, t.at) }

func (t *grantsTarget) next() string {
	var hosts []string
	for _, r := range t.rules {
		if word := quoteWord(r.Host); len(hosts) == 0 || hosts[len(hosts)-1] != word {
			hosts = append(hosts, word)
		}
	}
	return "it holds for you, in this repository alone; \"agentbox grants revoke " + strings.Join(hosts[:1], "") + "\" takes a host back, \"agentbox grants list\" shows them"
}
