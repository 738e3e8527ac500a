package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"agentbox/internal/kept"
	"agentbox/internal/run/podman"
)

// item is something of agentbox's own on this machine.
type item struct {
	Kind    string    `json:"kind"` // "run", "changes", "log", "cache", "state", "container", "runtime", "record", "program"
	Path    string    `json:"path"`
	Name    string    `json:"name,omitempty"`
	Run     string    `json:"run,omitempty"`
	Repo    string    `json:"repo,omitempty"`
	Profile string    `json:"profile,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Bytes   int64     `json:"bytes"`
	Files   int64     `json:"files"`
	More    bool      `json:"more,omitempty"` // some of it could not be looked at: it is larger
	Why     string    `json:"why,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// report is what gc tells.
type report struct {
	Removed []item `json:"removed"` // or what would be, with --dry-run
	Remains []item `json:"remains"`
	Failed  []item `json:"failed"` // what should not be there, and is
}

func (i item) measured() item {
	if i.Files == 0 && filepath.IsAbs(i.Path) {
		size := kept.Measure(i.Path)
		i.Bytes, i.Files, i.More = size.Bytes, size.Files, !size.Whole
	}
	return i
}

func (r *report) remove(i item) { r.Removed = append(r.Removed, i.measured()) }
func (r *report) remain(i item) { r.Remains = append(r.Remains, i.measured()) }
func (r *report) fail(i item, err error) {
	i = i.measured()
	i.Error = err.Error()
	r.Failed = append(r.Failed, i)
}

// containers asks Podman for containers of runs. Those of runs that go on are theirs; those of ended ones were removed before.
func (c *collector) containers(ctx context.Context) {
	failed := func(err error) {
		c.report.fail(item{Kind: "container", Path: "podman", Why: "whether a container is left"}, err)
	}
	dir, err := os.MkdirTemp("", "agentbox-")
	if err != nil {
		failed(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }() // a socket's
	e, err := podman.Connect(ctx, podman.Options{Dir: dir})
	if errors.Is(err, podman.ErrNoPodman) {
		return
	}
	if err != nil {
		failed(err)
		return
	}
	defer e.Close()
	found, err := e.Runs(ctx)
	if err != nil {
		failed(err)
		return
	}
	for _, f := range found {
		c.container(ctx, e, f)
	}
}

func (c *collector) container(ctx context.Context, e *podman.Engine, f podman.Found) {
	one := item{Kind: "container", Path: f.Name, Run: f.Run, Why: "the run goes on"}
	i, known := c.runs[f.Run]
	switch {
	case !known: // of another XDG_STATE_HOME, whose run may go on
		one.Why = "it is of a run that is not registered here; podman rm --force " + f.Name + " removes it"
		c.report.remain(one)
	case i.Live:
		c.report.remain(one)
	case f.Name != i.Container:
		one.Why = "it hands out the commits of a run, and ends with the command that asked for them"
		c.report.remain(one)
	default:
		one.Why = "its run has ended"
		c.take(one, func() error { return e.Remove(ctx, f.Name) })
	}
}

// runtime goes through the directory of sockets and scratch files.
func (c *collector) runtime() {
	for _, name := range c.names(c.paths.Runtime) {
		one := item{Kind: "runtime", Path: filepath.Join(c.paths.Runtime, name)}
		switch i, known := c.runs[name]; {
		case known && i.Live:
			one.Run, one.Why = name, "the run goes on"
			c.report.remain(one)
		case known && c.o.dryRun:
			one.Run, one.Why = name, "its run has ended"
			c.report.remove(one)
		case known:
			one.Run = name
			c.report.fail(one, errors.New("its run has ended, and it could not be removed"))
		case c.stillMade(name): // between the start of this command and now
			one.Run, one.Why = name, "the run has just begun"
			c.report.remain(one)
		default:
			c.report.fail(one, unexpected(name))
		}
	}
}

func (c *collector) stillMade(id string) bool {
	_, err := os.Lstat(filepath.Join(c.paths.State, "sessions", id))
	return err == nil
}

// rest is what else lies in the state and the cache: records of the person's decisions, and the program that runs inside.
func (c *collector) rest() {
	for _, name := range c.names(c.paths.State) {
		if path := filepath.Join(c.paths.State, name); name != "sessions" && path != stateRoot(c.paths) {
			why := "what you have accepted and allowed"
			if path == imagesDir(c.paths) {
				why = "which images were built: agentbox image list shows them, agentbox image prune removes them"
			}
			c.report.remain(item{Kind: "record", Path: path, Why: why})
		}
	}
	for _, name := range c.names(filepath.Join(c.paths.State, "sessions")) {
		one := item{Kind: "run", Path: filepath.Join(c.paths.State, "sessions", name)}
		if _, known := c.runs[name]; known {
			continue
		}
		if one.Why = "a run that has just begun"; strings.HasPrefix(name, ".") || c.stillMade(name) {
			c.report.remain(one)
		}
	}
	for _, name := range c.names(c.paths.Cache) {
		if path := filepath.Join(c.paths.Cache, name); path != cachesRoot(c.paths) {
			c.report.remain(item{Kind: "program", Path: path, Why: "the program that is PID 1 inside"})
		}
	}
}

func (c *collector) names(dir string) (out []string) {
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.report.fail(item{Kind: "record", Path: dir}, err)
	}
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

// printCollected is the report for people. Logs, of which there are many, are one line.
func (a *app) printCollected(r report, dryRun bool) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	part := func(title string, list []item) {
		for n, i := range list {
			if n == 0 {
				fmt.Fprintln(w, title)
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s · %s\n", i.Kind, i.sizeText(), i.ageText(), printable(i.said()), printable(i.Path))
		}
	}
	part(map[bool]string{true: "would be removed:", false: "removed:"}[dryRun], r.Removed)
	part("remains:", oneLog(r.Remains))
	part("could not be removed, or should not be there:", r.Failed)
	if err := w.Flush(); err != nil {
		return err
	}
	if len(r.Removed) == 0 && !dryRun {
		a.say("there was nothing to remove")
	}
	return nil
}

// oneLog makes one line of all logs, in the place of the first.
func oneLog(list []item) (out []item) {
	at := -1
	runs := 0
	for _, i := range list {
		if i.Kind != "log" {
			out = append(out, i)
			continue
		}
		if runs++; at < 0 {
			at, i.Path, i.Since = len(out), filepath.Dir(i.Path), time.Time{}
			out = append(out, i)
			continue
		}
		out[at].Bytes, out[at].Files, out[at].More = out[at].Bytes+i.Bytes, out[at].Files+i.Files, out[at].More || i.More
	}
	if at >= 0 {
		out[at].Why = "the plans and the events of " + times(uint64(runs), "run")
	}
	return slices.Clip(out)
}

func (i item) sizeText() string {
	switch {
	case !filepath.IsAbs(i.Path):
		return "-"
	case i.More:
		return "> " + size(i.Bytes)
	}
	return size(i.Bytes)
}

func (i item) ageText() string {
	if i.Since.IsZero() {
		return "-"
	}
	return age(time.Since(i.Since))
}

// said is all there is to say of it.
func (i item) said() string {
	if i.Error != "" {
		return i.Error
	}
	var parts []string
	for _, part := range []string{i.Name, i.Why} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if i.Repo != "" && i.Kind != "log" {
		parts = append(parts, "of "+i.Profile+" in "+i.Repo)
	}
	return strings.Join(parts, " · ")
}
