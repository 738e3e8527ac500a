package apply

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"

	"agentbox/internal/changes"
	"agentbox/internal/sys"

	"golang.org/x/sys/unix"
)

func resume(ctx context.Context, s *changes.Source, at func(string)) (Report, error) {
	a, err := newApplier(ctx, s, at)
	if err != nil {
		return Report{}, err
	}
	defer a.close()
	open, from := unended(a.journal.records)
	switch {
	case open == nil:
		return Report{}, nil
	case open.What == undoes:
		return a.undoRest()
	}
	if err := a.takeUp(open, from); err != nil {
		return a.report(), err
	}
	list, err := s.List(ctx)
	if err != nil {
		return a.report(), err
	}
	before := maps.Clone(a.told)
	wants := a.wantedStill(open.Wants, list)
	err = a.finish(wants)
	for rel, o := range before { // what is there already was done before the crash
		if now, ok := a.told[rel]; !ok || now.Result == Already {
			a.told[rel] = o
		}
	}
	return a.report(), err
}

// wantedStill gives what of an apply's wishes the agent did not change meanwhile.
func (a *applier) wantedStill(wants []want, list []changes.Change) (still []want) {
	for _, c := range list {
		a.list[c.Path] = c
	}
	for _, w := range wants {
		c, differs := a.list[string(w.Path)]
		_, told := a.told[string(w.Path)]
		switch {
		case !differs && !told:
			a.tell(string(w.Path), Already, "")
		case differs && (c.Mark != w.Mark || c.Fate != changes.Applies):
			a.tell(string(w.Path), Stale, errStale.Error())
		case differs && !(told && len(w.Hunks) > 0):
			a.wants[string(w.Path)] = w
			still = append(still, w)
		}
	}
	return still
}

// takeUp settles the steps of which the journal says only that they were to be done.
func (a *applier) takeUp(open *record, from int) error {
	a.nonce = open.Nonce
	records := a.journal.records[from:]
	a.readLoose(sinceWhole(a.journal.records))
	settled := map[int]string{}
	for _, r := range records {
		if r.What == done || r.What == dropped {
			settled[r.N] = r.What
		}
	}
	dirs := map[string]bool{}
	for _, w := range open.Wants {
		dirs[path.Dir(string(w.Path))] = true
	}
	if standing, _ := standing(a.journal.records); open.What == undoes {
		for _, r := range standing {
			dirs[path.Dir(string(r.Path))] = true
		}
	}
	for _, r := range records {
		if r.What != ready {
			continue
		}
		dirs[path.Dir(string(r.Path))] = true
		if settled[r.N] == done && r.Told != nil {
			a.told[r.Told.Path] = *r.Told
		}
		if settled[r.N] == "" {
			if err := a.settle(r); err != nil {
				return err
			}
		}
	}
	for dir := range dirs {
		if err := a.sweep(dir); err != nil {
			return err
		}
	}
	return nil
}

// sinceWhole gives the records behind the last end of an apply or an undo.
func sinceWhole(records []record) []record {
	for i := len(records) - 1; i >= 0; i-- {
		if records[i].What == ends || records[i].What == undone {
			return records[i+1:]
		}
	}
	return records
}

// readLoose finds the directories whose modes are to be put back.
func (a *applier) readLoose(records []record) {
	turned := map[int]string{}
	for _, r := range records {
		switch {
		case r.What == loosens:
			if _, known := a.loose[string(r.Path)]; !known {
				a.loose[string(r.Path)] = r.Before.Mode
				a.finder.Trust(string(r.Path), r.Moved, r.Inode)
			}
		case r.What == ready && (r.shape() == rmdir || r.shape() == setMode && r.After.Kind == changes.Dir):
			turned[r.N] = string(r.Path)
		case r.What == done:
			delete(a.loose, turned[r.N])
		}
	}
}

// settle looks what became of a step, finishes what was half done, and writes down which it is.
func (a *applier) settle(r record) error {
	happened, err := a.happened(r)
	if err != nil {
		return err
	}
	if !happened {
		return a.journal.write(record{What: dropped, N: r.N})
	}
	if r.Next != nil {
		if err := a.know(*r.Next); err != nil {
			return err
		}
	}
	if r.Told != nil {
		a.told[r.Told.Path] = *r.Told
	}
	return a.journal.write(record{What: done, N: r.N})
}

func (a *applier) happened(r record) (bool, error) {
	p, now, err := a.target(string(r.Path), false)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errLink) || errors.Is(err, errNotDir) {
		return r.After.Kind == changes.Absent, nil // its directory is gone, and with it whatever lay there
	}
	if err != nil {
		return false, err
	}
	defer p.close()
	switch r.shape() {
	case rmdir:
		if now.kind() == changes.Absent {
			delete(a.loose, string(r.Path))
		}
		return now.kind() == changes.Absent, nil
	case mkdir:
		return a.madeDir(p, now, r)
	case setMode:
		if now.kind() != r.After.Kind || now.perm() != r.After.Mode {
			return false, nil
		}
		if now.kind() == changes.Dir {
			delete(a.loose, string(r.Path))
			return true, a.knowDir(p, string(r.Path), r.After)
		}
		return true, nil
	case unlink:
		return a.tookAway(p, now, r)
	}
	return a.wasPut(p, r)
}

func (a *applier) madeDir(p *place, now pin, r record) (bool, error) {
	if now.kind() != changes.Dir {
		return false, nil
	}
	mode := r.After.Mode
	if _, loose := a.loose[string(r.Path)]; loose {
		mode |= 0o700
	}
	return true, chmodAt(p.fd(), p.name, now, mode)
}

// tookAway finishes a removal, or gives back what was not meant.
func (a *applier) tookAway(p *place, now pin, r record) (bool, error) {
	temp, err := pinAt(p.fd(), r.Temp)
	if err != nil {
		return false, err
	}
	if temp.kind() == changes.Absent {
		return now.kind() == changes.Absent, nil
	}
	old, err := holds(p, r.Temp, r.Before, r.Was)
	if err != nil {
		return false, err
	}
	if old {
		return true, unix.Unlinkat(p.fd(), r.Temp, 0)
	}
	return false, rename2(p.fd(), r.Temp, p.name, sys.RenameNoReplace)
}

// wasPut looks whether a file got its name, and clears away what is left beside it.
func (a *applier) wasPut(p *place, r record) (bool, error) {
	here, err := holds(p, p.name, r.After, r.Will)
	if err != nil {
		return false, err
	}
	temp, err := pinAt(p.fd(), r.Temp)
	if err != nil || temp.kind() == changes.Absent {
		return here, err
	}
	isNew, err := holds(p, r.Temp, r.After, r.Will)
	if err != nil {
		return false, err
	}
	isOld, err := holds(p, r.Temp, r.Before, r.Was)
	switch {
	case err != nil:
		return false, err
	case isNew && !here:
		return false, unix.Unlinkat(p.fd(), r.Temp, 0)
	case isNew, isOld:
		return true, unix.Unlinkat(p.fd(), r.Temp, 0)
	case here: // somebody wrote to the file at the last moment: it gets its name back
		if err := rename2(p.fd(), r.Temp, p.name, sys.RenameExchange); err != nil {
			return false, err
		}
		return false, unix.Unlinkat(p.fd(), r.Temp, 0)
	}
	left := path.Join(path.Dir(string(r.Path)), r.Temp)
	a.tell(left, Kept, "an earlier version of "+string(r.Path)+" that nobody else has")
	return true, nil
}

// holds says whether a name holds what a step left there, or found there.
func holds(p *place, name string, is changes.State, digest string) (bool, error) {
	now, err := pinAt(p.fd(), name)
	if err != nil || now.kind() != is.Kind || now.link != is.Link {
		return false, err
	}
	if is.Kind != changes.File {
		return true, nil
	}
	if now.st.Size != is.Size {
		return false, nil
	}
	f, err := openPinned(&place{root: p.root, dir: p.dir, name: name}, now)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return false, nil
		}
		return false, err
	}
	defer f.Close()
	got, err := changes.Digest(f)
	return got == digest, err
}

// sweep removes the temporary files of steps that were never written down.
func (a *applier) sweep(dir string) error {
	p, err := a.place(path.Join(dir, "x"), false)
	if err != nil {
		return nil //nolint:nilerr // it is not there, or not reached: nor are temporary files in it
	}
	defer p.close()
	names, err := p.dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, kept := a.told[path.Join(dir, name)]; a.isTemp(name) && !kept {
			if err := unix.Unlinkat(p.fd(), name, 0); err != nil {
				return err
			}
		}
	}
	return nil
}
