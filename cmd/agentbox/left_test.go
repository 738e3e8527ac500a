package main

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"agentbox/internal/changes"
	"agentbox/internal/session"
)

// leftByRun is the command "left REPO UPPER [live]" of scripts: a run of REPO that left in its layer what lies in UPPER, and
// in which a file .wh.NAME says that NAME was deleted. Its name's last part comes into $RUN. With "live" it goes on until the
// script ends, or "left end".
func leftByRun(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: left REPO UPPER [live]")
	}
	paths, err := session.FindPaths(func(name string) (string, bool) { v := ts.Getenv(name); return v, v != "" }, os.Getuid())
	ts.Check(err)
	repo, err := filepath.EvalSymlinks(ts.MkAbs(args[0]))
	ts.Check(err)
	s, err := session.Create(paths, session.Meta{Profile: "claude", Repo: repo, Started: time.Now().UTC()}, rand.Reader)
	ts.Check(err)
	ts.Check(layWork(filepath.Join(s.Dir, session.WorkDir), repo, s.Meta.ID, ts.MkAbs(args[1])))
	end := func() error { return s.End(session.End{Time: time.Now().UTC(), Reason: "the agent ended"}) }
	if slices.Contains(args, "live") {
		ts.Defer(func() { _ = end() })
	} else {
		ts.Check(end())
	}
	ts.Setenv("RUN", shortID(s.Meta.ID))
}

// layWork makes the work of a run in the review mode.
func layWork(work, repo, id, upper string) error {
	if err := os.MkdirAll(filepath.Join(work, "tree"), 0o700); err != nil {
		return err
	}
	began, err := changes.Moment(repo)
	if err != nil {
		return err
	}
	index, err := os.ReadFile(filepath.Join(repo, ".git", "index"))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.WriteFile(filepath.Join(work, "base.index"), index, 0o600); err != nil {
		return err
	}
	if err := os.Rename(upper, filepath.Join(work, "tree", "upper")); err != nil {
		return err
	}
	return changes.Save(work, changes.Base{Run: id, Root: repo, Git: filepath.Join(repo, ".git"), Backend: changes.FuseOverlay, Began: began,
		Hide: []string{".env*"}})
}
