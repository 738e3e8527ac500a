package main

import (
	"errors"
	"path/filepath"

	"agentbox/internal/kept"
	"agentbox/internal/plan"
	"agentbox/internal/rootfs"
	"agentbox/internal/session"
)

// Where what outlives runs lies. Caches can be made again, and an agent's state can not.
func cachesRoot(p session.Paths) string { return filepath.Join(p.Cache, "caches") }
func stateRoot(p session.Paths) string  { return filepath.Join(p.State, "kept") }

// maxSeeds bounds what is copied in, in bytes: it goes inside in one message.
const maxSeeds = 512 << 10

// keptHere is what a run uses of it, and what it copies in.
type keptHere struct {
	opened []*kept.Opened
	seeds  []rootfs.File
}

// openKept makes the directories that a plan keeps, looks at those that are there, and reads the files that are copied in.
func openKept(paths session.Paths, p plan.Plan) (k keptHere, err error) {
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	for _, state := range []bool{false, true} {
		root, dirs := cachesRoot(paths), []string{}
		if state {
			root = stateRoot(paths)
		}
		for _, one := range p.Binding.Kept {
			if one.State == state {
				dirs = append(dirs, one.Source)
			}
		}
		if len(dirs) == 0 {
			continue
		}
		opened, err := kept.Open(root, p.Binding.Repo, p.Grants.Profile, dirs)
		if err != nil {
			return k, err
		}
		k.opened = append(k.opened, opened)
	}
	total := 0
	for _, file := range p.Binding.Seeds {
		content, err := kept.Seed(p.Binding.User.Home, file)
		if err != nil {
			return k, err
		}
		if total += len(content); total > maxSeeds {
			return k, &kept.Problem{Err: errors.New("the files to copy in are larger than 512 KiB together"), Tip: "take some out of agent.seed"}
		}
		if content != nil {
			k.seeds = append(k.seeds, rootfs.File{Path: file, Content: content})
		}
	}
	return k, nil
}

func (k keptHere) close() {
	var errs []error
	for _, o := range k.opened {
		errs = append(errs, o.Close())
	}
	_ = errors.Join(errs...) // a lock that can't be given up ends with the process
}

// seeded is what is copied in, without values that this run keeps outside.
func (j *job) seeded() (files []rootfs.File) {
	for _, f := range j.keeps.seeds {
		f.Content = []byte(j.clean(string(f.Content)))
		files = append(files, f)
	}
	return files
}
